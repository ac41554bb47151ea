"""Continuing a text with a language model: which token comes next, and the loop, with a cache and without.

A model reads no more than its context at once. When the text has outgrown it, only a window of its last
tokens is read. `generate` decides where the window begins by the text's length alone, so that a cache changes
the time and never the text.
"""

import math
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from course_lib.attention import _check_flags
from course_lib.models.seq2seq import _check_tokens


@runtime_checkable
class LanguageModel(Protocol):
    """What generation asks of a model, such as a GPT.

    config has context_length, the most tokens that the model reads at once, and vocab_size. Called with
    tokens it returns the logits after each. step reads the next tokens of each text, with a state of those
    before them, and returns the logits after the last one and the new state; initial_state gives that of no
    token.
    """

    config: Any

    def __call__(self, tokens: Int[Tensor, "batch position"]) -> Float[Tensor, "batch position vocab"]: ...

    def initial_state(self, batch_size: int) -> Any: ...

    def step(
        self, tokens: Int[Tensor, "batch new"], state: Any
    ) -> tuple[Float[Tensor, "batch vocab"], Any]: ...


def next_token_distribution(
    logits: Float[Tensor, "batch vocab"],
    text: Int[Tensor, "batch position"] | None = None,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float = 1.0,
    repetition_penalty: float = 1.0,
) -> Float[Tensor, "batch vocab"]:
    """Turn a model's logits into the probabilities that the next token is drawn with.

    In this order:

        penalty     z_w = z_w / r if z_w > 0, z_w r otherwise, for each token w that the text holds
        p = softmax(z / temperature)
        top-k       keep the k likeliest tokens
        top-p       of these keep the likeliest until their probabilities, which sum to one, reach p (nucleus)

    and the probabilities of what is kept are scaled to sum to one. Of equally likely tokens the one with the
    lower id comes first.

    text: the tokens so far; needed for a repetition_penalty alone.
    temperature: below 1 the likely gets likelier, above 1 all get more alike.
    top_k, top_p: None and 1.0 keep all. repetition_penalty: above 1 makes what was said less likely.
    Raises ValueError for a temperature or a penalty that is not above 0, a top_k below 1, a top_p outside
    (0, 1], a penalty without a text, and logits that are NaN or infinite.
    Sources: Keskar et al. 2019, section 4.1 (penalty); Fan et al. 2018, section 5.4 (top-k); Holtzman et al.
    2020, sections 3.1 to 3.3 (top-p, temperature).
    """
    _check_choice(temperature, top_k, top_p, repetition_penalty)
    logits = _penalise(logits, text, repetition_penalty)
    logits, order = logits.sort(dim=-1, descending=True, stable=True)
    rank = torch.arange(logits.shape[-1], device=logits.device)
    # Without the largest first: however low the temperature, nothing overflows.
    scores = (logits - logits[:, :1]) / temperature
    if top_k is not None:
        scores = scores.masked_fill(rank >= top_k, -math.inf)
    probabilities = scores.softmax(dim=-1)
    if top_p < 1:
        before = probabilities.cumsum(dim=-1) - probabilities
        probabilities = probabilities.masked_fill((before >= top_p) & (rank > 0), 0.0)
        probabilities = probabilities / probabilities.sum(dim=-1, keepdim=True)
    return torch.empty_like(probabilities).scatter_(-1, order, probabilities)


def _penalise(logits: Tensor, text: Tensor | None, penalty: float) -> Tensor:
    """Make the tokens of the text less likely; also check the logits, and give them at least 32 bits."""
    if not isinstance(logits, Tensor) or not logits.is_floating_point():
        got = logits.dtype if isinstance(logits, Tensor) else type(logits).__name__
        raise TypeError(f"logits must be a floating-point tensor (batch, vocab), got {got}")
    if logits.ndim != 2 or logits.numel() == 0:
        raise ValueError(f"logits has shape {tuple(logits.shape)}; expected (batch, vocab), none of them 0")
    if not logits.isfinite().all():
        raise ValueError("the model's logits hold NaN or infinity; are its weights finite?")
    logits = logits if logits.dtype == torch.float64 else logits.float()
    if penalty == 1.0:
        return logits
    if text is None:
        raise ValueError("a repetition_penalty needs the text whose tokens it is for; give text=...")
    _check_tokens(text, logits.shape[-1], "text")
    if len(text) != len(logits):
        raise ValueError(
            f"text has {len(text)} rows and logits {len(logits)}; each text needs its own logits"
        )
    said = torch.zeros_like(logits, dtype=torch.bool).scatter_(-1, text.long(), True)
    logits = torch.where(said, torch.where(logits > 0, logits / penalty, logits * penalty), logits)
    if not logits.isfinite().all():
        raise ValueError(f"with repetition_penalty={penalty} the logits overflow; give one nearer to 1")
    return logits


@torch.no_grad()
def generate(
    model: LanguageModel,
    prompt: Int[Tensor, "batch position"],
    max_new_tokens: int,
    *,
    greedy: bool = False,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float = 1.0,
    repetition_penalty: float = 1.0,
    stop_tokens: Sequence[int] = (),
    generator: torch.Generator | None = None,
    use_cache: bool = True,
    slide: int = 1,
) -> list[list[int]]:
    """Continue a batch of texts, token by token.

        y_i ~ next_token_distribution(model(y_1 .. y_{i-1}))        greedy: its likeliest token

    prompt: the beginnings, of equal length, from 1 to context_length tokens.
    max_new_tokens: the most tokens to add to each.
    greedy: take the likeliest token. Otherwise it is drawn, with temperature, top_k and top_p as in
        next_token_distribution. repetition_penalty acts on both, for tokens of the prompt too.
    stop_tokens: a text ends before the first of these ids.
    generator: where the drawing gets its randomness; torch's global one if left out. One seed, one text.
    use_cache: keep keys and values, and feed the model its newest token only. The text is the same.
    slide: how many of the oldest tokens leave the window at once when the context is full.

    A full context. The model reads a window, the text from token `begin` on:

        begin = 0 up to context_length tokens, then slide * ceil((length - context_length) / slide)

    With slide=1 that is always the last context_length tokens. With learned positions every token in the
    window gets another code when it slides. With rotary positions distances stay as they are, but the keys
    and values of deeper blocks still know the tokens that left. So for both the cache is made anew, by one
    pass over the window, whenever this slides, and cached equals uncached. With slide=1 that is every step,
    and the cache saves nothing more. slide=context_length // 2 needs such a pass only every so many steps,
    and reads no less than half of the context.

    Returns the new token ids of each text, without prompt and stop token.
    Raises ValueError as next_token_distribution does, for an empty prompt or one longer than the context,
    ids that the model does not know, max_new_tokens below 1, a slide outside 1 to context_length, greedy
    together with what only drawing uses, and a model in training mode; TypeError for what cannot generate.
    """
    _check_generation(model, prompt, max_new_tokens, stop_tokens, slide)
    _check_choice(temperature, top_k, top_p, repetition_penalty)
    _check_flags(greedy=greedy, use_cache=use_cache)
    if generator is not None and not isinstance(generator, torch.Generator):
        raise TypeError(
            f"generator must be a torch.Generator, got {generator!r:.80}; make one with "
            f"torch.Generator().manual_seed(...)"
        )
    if greedy and (temperature != 1.0 or top_k is not None or top_p != 1.0 or generator is not None):
        raise ValueError(
            "greedy takes the likeliest token, whatever temperature, top_k, top_p and generator are; leave "
            "these out, or leave out greedy"
        )
    stops = torch.tensor(list(stop_tokens), dtype=torch.long, device=prompt.device)
    ended = torch.zeros(len(prompt), dtype=torch.bool, device=prompt.device)
    text, state, begun = prompt, None, 0
    for _ in range(max_new_tokens):
        begin = _window_begin(text.shape[1], model.config.context_length, slide)
        if not use_cache:
            logits = model(text[:, begin:])[:, -1]
        elif state is None or begin > begun:
            logits, state = model.step(text[:, begin:], model.initial_state(len(text)))
        else:
            logits, state = model.step(text[:, -1:], state)
        begun = begin
        if greedy:
            token = _penalise(logits, text, repetition_penalty).argmax(dim=-1, keepdim=True)
        else:
            probabilities = next_token_distribution(
                logits,
                text,
                temperature=temperature,
                top_k=top_k,
                top_p=top_p,
                repetition_penalty=repetition_penalty,
            )
            token = torch.multinomial(probabilities, 1, generator=generator)
        text = torch.cat([text, token], dim=1)
        ended |= torch.isin(token[:, 0], stops)
        if ended.all():
            break
    return [_until(row, set(stop_tokens)) for row in text[:, prompt.shape[1] :].tolist()]


def _window_begin(length: int, context_length: int, slide: int) -> int:
    return slide * math.ceil(max(0, length - context_length) / slide)


def _until(tokens: list[int], stops: set[int]) -> list[int]:
    return next((tokens[:i] for i, token in enumerate(tokens) if token in stops), tokens)


# ---------------------------------------------------------------------------------------------- checks


_SMALLEST = torch.finfo(torch.float32).tiny  # what is smaller is zero to the logits


def _check_choice(temperature: float, top_k: int | None, top_p: float, repetition_penalty: float) -> None:
    for name, number in (("temperature", temperature), ("repetition_penalty", repetition_penalty)):
        if not _is_number(number) or not _SMALLEST <= number < math.inf:
            hint = "; for the likeliest token give greedy=True to generate" if name == "temperature" else ""
            raise ValueError(f"{name} is {number!r}; give a number above 0, 1.0 for no change{hint}")
    if top_k is not None and (not _is_whole(top_k) or top_k < 1):
        raise ValueError(
            f"top_k is {top_k!r}; give the number of tokens to keep, at least 1, or None to keep all"
        )
    if not _is_number(top_p) or not 0 < top_p <= 1:
        raise ValueError(
            f"top_p is {top_p!r}; give the share of probability to keep, above 0 and at most 1 (all)"
        )


def _check_generation(
    model: LanguageModel, prompt: Tensor, max_new_tokens: int, stop_tokens: Sequence[int], slide: int
) -> None:
    sizes = [getattr(getattr(model, "config", None), name, None) for name in ("context_length", "vocab_size")]
    if not isinstance(model, LanguageModel) or isinstance(model, type) or None in sizes:
        got = model.__name__ if isinstance(model, type) else type(model).__name__
        raise TypeError(
            f"model must be a language model with step and initial_state, such as a GPT, got {got}"
        )
    if getattr(model, "training", False):
        raise ValueError(
            "the model is in training mode, so dropout is on; call model.eval() before generating"
        )
    context_length, vocab_size = sizes
    _check_tokens(prompt, vocab_size, "prompt")
    if prompt.shape[1] > context_length:
        raise ValueError(
            f"the prompt has {prompt.shape[1]} tokens, but the model reads {context_length} at once; give it "
            f"the last ones: prompt[:, -{context_length}:]"
        )
    if not _is_whole(max_new_tokens) or max_new_tokens < 1:
        raise ValueError(f"max_new_tokens is {max_new_tokens!r}; give a whole number of at least 1")
    if not _is_whole(slide) or not 1 <= slide <= context_length:
        raise ValueError(
            f"slide is {slide!r}; give the number of tokens that leave a full context at once, from 1 to "
            f"{context_length}"
        )
    if isinstance(stop_tokens, str) or not isinstance(stop_tokens, Sequence):
        raise ValueError(f"stop_tokens must be a list of token ids, got {stop_tokens!r}")
    for stop in stop_tokens:
        if not _is_whole(stop) or not 0 <= stop < vocab_size:
            raise ValueError(f"stop_tokens holds {stop!r}, but the model's ids are 0 to {vocab_size - 1}")


def _is_number(number: object) -> bool:
    return isinstance(number, Real) and not isinstance(number, bool)


def _is_whole(number: object) -> bool:
    return isinstance(number, Integral) and not isinstance(number, bool)
