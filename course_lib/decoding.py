"""Turning a model's next-token scores into sentences: greedily, or with a beam."""

import math
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from course_lib.models.seq2seq import _check_whole_numbers


@runtime_checkable
class EncoderDecoder(Protocol):
    """What decoding asks of a translation model.

    encode returns a memory with an attribute initial_state. step takes the last token of each sentence and
    the state, and returns the logits of the next token and the new state. What a state is, the model alone
    knows: a recurrent network's hidden vector, or a Transformer's cached keys and values. A beam reorders it
    as state[rows], so its first axis must be that of the sentences.
    """

    def encode(self, source: Int[Tensor, "batch source"], lengths: Int[Tensor, " batch"]) -> Any: ...

    def step(
        self, token: Int[Tensor, " batch"], state: Any, memory: Any
    ) -> tuple[Float[Tensor, "batch vocab"], Any]: ...


@torch.no_grad()
def greedy_decode(
    model: EncoderDecoder,
    source: Int[Tensor, "batch source"],
    lengths: Int[Tensor, " batch"],
    bos_id: int,
    eos_id: int,
    max_length: int = 100,
) -> list[list[int]]:
    """Translate a batch by taking the likeliest token at each step, until every sentence has ended.

        y_i = argmax_w p(w | y_1 .. y_{i-1}, x)

    source, lengths: padded token ids, and the number of real ones in each row.
    max_length: the most tokens a translation may have.
    Returns each sentence's token ids, without <bos> and <eos>.
    Raises ValueError for a max_length below 1, for an eos_id that the model does not score, for logits that
    are NaN, and for a model in training mode, whose dropout would change the translations; TypeError for a
    model that cannot translate and for ids that are not whole numbers.
    """
    _check_decoding(model, bos_id=bos_id, eos_id=eos_id, max_length=max_length)
    memory = model.encode(source, lengths)
    state = memory.initial_state
    token = source.new_full((len(source),), bos_id)
    ended = torch.zeros_like(token, dtype=torch.bool)
    chosen = []
    while len(chosen) < max_length and not ended.all():
        logits, state = model.step(token, state, memory)
        _check_logits(logits, eos_id, len(chosen))
        token = logits.argmax(dim=-1)
        ended |= token == eos_id
        chosen.append(token)
    rows = torch.stack(chosen, dim=1).tolist()
    return [row[: row.index(eos_id)] if eos_id in row else row for row in rows]


@dataclass(frozen=True)
class Hypothesis:
    """One translation that a beam search found.

    tokens: without <bos> and <eos>. log_probability: of the tokens, and of <eos> where it came to that.
    score: log_probability divided by the length penalty. ended: whether <eos> came before max_length.
    """

    tokens: list[int]
    log_probability: float
    score: float
    ended: bool


@dataclass(frozen=True)
class BeamStep:
    """What each slot of a sentence's beam took at one step; the lists have an entry a slot.

    parents: the slot of the step before that was prolonged, or -1 for an empty slot.
    tokens: what it was prolonged by. log_probabilities: of all tokens so far.
    """

    parents: list[int]
    tokens: list[int]
    log_probabilities: list[float]


MAX_ALPHA = 100  # far beyond any use, and far from where numbers overflow


def length_penalty(length: int, alpha: float) -> float:
    """Give what a log-probability is divided by, so that short sentences have no advantage.

        lp(n) = ((5 + n) / 6)^alpha

    length: number of tokens, <eos> among them. alpha: 0 for no penalty.
    Raises ValueError for a length below 0 and for an alpha that is no number from 0 to MAX_ALPHA.
    Source: Wu et al. 2016, section 7, equation 14.
    """
    if not isinstance(length, Integral) or isinstance(length, bool) or length < 0:
        raise ValueError(f"length is {length!r}; give the number of tokens, a whole number of at least 0")
    _check_alpha(alpha)
    return ((5 + length) / 6) ** alpha


def beam_search(
    model: EncoderDecoder,
    source: Int[Tensor, "batch source"],
    lengths: Int[Tensor, " batch"],
    bos_id: int,
    eos_id: int,
    beam_size: int = 4,
    alpha: float = 0.6,
    max_length: int = 100,
) -> list[list[Hypothesis]]:
    """Translate a batch, following up to beam_size beginnings of each sentence at once.

        score(y) = log p(y | x) / lp(|y|)

    Returns for each sentence the hypotheses found, the best score first.

    The slots of the beam choose one after another. Slot i takes the likeliest continuation, not yet taken, of
    what slots 1 to i held before. So slot 1 decodes greedily, and a beam of k does all that a beam of k - 1
    does, and more: **the best score never falls when the beam gets wider**. The usual beam, which keeps the k
    likeliest continuations of all, has no such guarantee. A slot that takes <eos> has found a hypothesis. It
    is empty afterwards, until a lower slot has a continuation to spare. What is not ended at max_length
    counts as a hypothesis as it is.

    Raises ValueError for a beam_size below 1 and a negative alpha, and whatever greedy_decode raises.
    Sources: Sutskever et al. 2014, section 3.2; Wu et al. 2016, section 7 (the penalty); Lemons et al. 2022
    (monotonic beams).
    """
    hypotheses, _ = _search(model, source, lengths, bos_id, eos_id, beam_size, alpha, max_length)
    return hypotheses


def beam_steps(
    model: EncoderDecoder,
    source: Int[Tensor, "1 source"],
    bos_id: int,
    eos_id: int,
    beam_size: int = 4,
    alpha: float = 0.6,
    max_length: int = 100,
) -> tuple[list[Hypothesis], list[BeamStep]]:
    """Search for one sentence as beam_search does, and return every step with the hypotheses."""
    _check_whole_numbers(source, "source")
    if source.ndim != 2 or len(source) != 1:
        raise ValueError(
            f"beam_steps follows one sentence, got shape {tuple(source.shape)}; give source[i : i + 1]"
        )
    lengths = torch.tensor([source.shape[1]])
    hypotheses, steps = _search(model, source, lengths, bos_id, eos_id, beam_size, alpha, max_length)
    return hypotheses[0], [BeamStep(*(values[0].tolist() for values in step)) for step in steps]


@torch.no_grad()
def _search(model, source, lengths, bos_id, eos_id, beam_size, alpha, max_length):
    """Return the hypotheses of each sentence, and of each step the tensors (parents, tokens, totals)."""
    _check_decoding(model, bos_id=bos_id, eos_id=eos_id, max_length=max_length, beam_size=beam_size)
    _check_alpha(alpha)
    for name, given in (("source", source), ("lengths", lengths)):
        _check_whole_numbers(given, name)
    batch = len(source)
    memory = model.encode(
        source.repeat_interleave(beam_size, dim=0), lengths.repeat_interleave(beam_size, dim=0)
    )
    state = memory.initial_state
    first_row = torch.arange(batch)[:, None] * beam_size  # (batch, 1): where a sentence's slots begin

    # What each slot holds: the log-probability of its tokens, -inf where it is empty.
    totals = torch.full((batch, beam_size), -math.inf)
    totals[:, 0] = 0.0
    token = torch.full((batch, beam_size), bos_id)
    steps, found, best = [], [[] for _ in range(batch)], torch.full((batch,), -math.inf)

    while len(steps) < max_length:
        # A sentence whose slots cannot better what it has found is done, whatever company it is in.
        totals = totals.masked_fill(~_may_improve(totals, best, alpha, max_length), -math.inf)
        if not totals.isfinite().any():
            break
        logits, state = model.step(token.flatten().to(source.device), state, memory)
        _check_logits(logits, eos_id, len(steps))
        log_probabilities = logits.float().log_softmax(dim=-1).cpu().unflatten(0, (batch, beam_size))
        parents, token, totals = _fill_slots(totals[..., None] + log_probabilities)
        state = state[(first_row + parents.clamp(min=0)).flatten().to(source.device)]
        steps.append((parents, token, totals))
        ended = (token == eos_id) & totals.isfinite()
        for row, slot in ended.nonzero().tolist():
            hypothesis = _trace(steps, row, slot, alpha, ended=True)
            found[row].append(hypothesis)
            best[row] = max(best[row].item(), hypothesis.score)
        totals = totals.masked_fill(ended, -math.inf)

    for row, slot in totals.isfinite().nonzero().tolist():
        found[row].append(_trace(steps, row, slot, alpha, ended=False))
    return [sorted(group, key=lambda one: -one.score) for group in found], steps


def _may_improve(totals: Tensor, best: Tensor, alpha: float, max_length: int) -> Tensor:
    """Which sentences can still come to a better score: no token makes one likelier, only longer."""
    highest = totals.amax(dim=1) / length_penalty(max_length, alpha)
    return (highest > best)[:, None]  # (batch, 1)


def _fill_slots(
    candidates: Float[Tensor, "batch slot vocab"],
) -> tuple[Int[Tensor, "batch slot"], Int[Tensor, "batch slot"], Float[Tensor, "batch slot"]]:
    """Let slot after slot take the likeliest continuation of slots 1 to i; return parents, tokens, totals."""
    batch, beam_size, vocab = candidates.shape
    candidates = candidates.flatten(1).clone()
    totals, places = [], []
    for slot in range(beam_size):
        total, place = candidates[:, : (slot + 1) * vocab].max(dim=1)
        candidates[torch.arange(batch), place] = -math.inf
        totals.append(total)
        places.append(place)
    totals, places = torch.stack(totals, dim=1), torch.stack(places, dim=1)
    return torch.where(totals.isfinite(), places // vocab, -1), places % vocab, totals


def _trace(steps: list, row: int, slot: int, alpha: float, ended: bool) -> Hypothesis:
    """Walk back from a slot of the last step to the sentence's beginning."""
    total, tokens = steps[-1][2][row, slot].item(), []
    for parents, step_tokens, _ in reversed(steps):
        tokens.append(step_tokens[row, slot].item())
        slot = parents[row, slot].item()
    score = total / length_penalty(len(steps), alpha)
    return Hypothesis(tokens[:0:-1] if ended else tokens[::-1], total, score, ended)


def _check_decoding(model: EncoderDecoder, **numbers: int) -> None:
    if not isinstance(model, EncoderDecoder) or isinstance(model, type):
        got = model.__name__ if isinstance(model, type) else type(model).__name__
        raise TypeError(
            f"model must be a translation model with encode and step, such as a Seq2Seq, got {got}"
        )
    for name, number in numbers.items():
        if not isinstance(number, Integral) or isinstance(number, bool):
            raise TypeError(f"{name} must be a whole number, got {number!r}")
    if numbers["max_length"] < 1:
        raise ValueError(
            f"max_length is {numbers['max_length']}, but a translation needs room for at least one token"
        )
    if numbers.get("beam_size", 1) < 1:
        raise ValueError(f"beam_size is {numbers['beam_size']}, but a beam needs at least one slot")
    if getattr(model, "training", False):
        raise ValueError("the model is in training mode, so dropout is on; call model.eval() before decoding")


def _check_alpha(alpha: float) -> None:
    if not isinstance(alpha, Real) or isinstance(alpha, bool) or not 0 <= alpha <= MAX_ALPHA:
        raise ValueError(
            f"alpha is {alpha!r}; give 0 for no length penalty, or a number above it, up to {MAX_ALPHA}"
        )


def _check_logits(logits: Tensor, eos_id: int, step: int) -> None:
    if not 0 <= eos_id < logits.shape[-1]:
        raise ValueError(
            f"eos_id is {eos_id}, but the model scores the ids 0 to {logits.shape[-1] - 1}, so no "
            f"sentence would end; take eos_id from the vocabulary of the target"
        )
    if logits.isnan().any():
        raise ValueError(f"the model's logits hold NaN at step {step}; are its weights finite?")
