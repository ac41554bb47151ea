"""Turning a model's next-token scores into sentences."""

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
    Raises ValueError for a max_length below 1 and for a model in training mode, whose dropout would change
    the translations.
    """
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
        token = logits.argmax(dim=-1)
        ended |= token == eos_id
        chosen.append(token)
    rows = torch.stack(chosen, dim=1).tolist()
    return [row[: row.index(eos_id)] if eos_id in row else row for row in rows]
