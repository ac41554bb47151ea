"""Turning a model's next-token scores into sentences."""

from numbers import Integral
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor


@runtime_checkable
class EncoderDecoder(Protocol):
    """What decoding asks of a translation model.

    encode returns a memory with an attribute initial_state. step takes the last token of each sentence and
    the state, and returns the logits of the next token and the new state. What a state is, the model alone
    knows: a recurrent network's hidden vector, or a Transformer's cached keys and values with their number.
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
    if not isinstance(model, EncoderDecoder) or isinstance(model, type):
        got = model.__name__ if isinstance(model, type) else type(model).__name__
        raise TypeError(
            f"model must be a translation model with encode and step, such as a Seq2Seq, got {got}"
        )
    for name, number in (("bos_id", bos_id), ("eos_id", eos_id), ("max_length", max_length)):
        if not isinstance(number, Integral) or isinstance(number, bool):
            raise TypeError(f"{name} must be a whole number, got {number!r}")
    if max_length < 1:
        raise ValueError(f"max_length is {max_length}, but a translation needs room for at least one token")
    if getattr(model, "training", False):
        raise ValueError("the model is in training mode, so dropout is on; call model.eval() before decoding")
    memory = model.encode(source, lengths)
    state = memory.initial_state
    token = source.new_full((len(source),), bos_id)
    ended = torch.zeros_like(token, dtype=torch.bool)
    chosen = []
    while len(chosen) < max_length and not ended.all():
        logits, state = model.step(token, state, memory)
        if not 0 <= eos_id < logits.shape[-1]:
            raise ValueError(
                f"eos_id is {eos_id}, but the model scores the ids 0 to {logits.shape[-1] - 1}, so no "
                f"sentence would end; take eos_id from the vocabulary of the target"
            )
        token = logits.argmax(dim=-1)
        if logits.gather(-1, token[:, None]).isnan().any():  # argmax takes a NaN for the largest
            raise ValueError(f"the model's logits hold NaN at step {len(chosen)}; are its weights finite?")
        ended |= token == eos_id
        chosen.append(token)
    rows = torch.stack(chosen, dim=1).tolist()
    return [row[: row.index(eos_id)] if eos_id in row else row for row in rows]
