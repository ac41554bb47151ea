"""GPT: a stack of the encoder's blocks that may look back only, trained to say what comes next.

From top to bottom: the configuration, the model, and its step for generation.
"""

from dataclasses import dataclass, fields
from numbers import Real

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from course_lib.attention import _check_sizes, causal_mask
from course_lib.layers import EncoderBlock
from course_lib.models.seq2seq import _check_tokens
from course_lib.positions import LearnedPositions


@dataclass(frozen=True)
class GPTConfig:
    """The sizes and choices of a GPT.

    vocab_size: number of tokens.
    context_length: the most tokens it reads at once.
    num_blocks: how many blocks are stacked.
    positions: "learned", a trained code for each position as in GPT-2, or "rotary".
    activation: as in FeedForward; "gelu_tanh" is GPT-2's.
    """

    vocab_size: int
    context_length: int = 256
    d_model: int = 256
    num_heads: int = 4
    num_blocks: int = 4
    d_ff: int = 1024
    dropout: float = 0.1
    positions: str = "learned"
    activation: str = "gelu_tanh"

    def __post_init__(self):
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type is int and (type(value) is not int or value < 1):
                raise ValueError(f"{field.name} must be an int of at least 1, got {value!r}")
        if not (isinstance(self.dropout, Real) and 0 <= self.dropout < 1):
            raise ValueError(f"dropout is a share from 0 to below 1, got {self.dropout!r}")
        if self.positions not in ("learned", "rotary"):
            raise ValueError(f"positions is {self.positions!r}; choose 'learned' or 'rotary'")


class GPT(nn.Module):
    """Score what comes next, after each token of a text, from that token and those before it.

        x = embedding(token) + position code            without the code where positions are rotary
        x = block(x, causal mask)                       num_blocks times, pre-norm
        logits = E LayerNorm(x)

    E is the embedding itself (a tied head), and has no bias.

    Weights begin as GPT-2's: normal of deviation 0.02, and 0.02 / sqrt(2 num_blocks) in the two matrices of a
    block whose results are added to x, so that the sum does not grow with the number of blocks; biases at 0.

    Sources: Radford et al. 2019, section 2.3; Radford et al. 2018, section 3.1. In training, FeedForward also
    drops out what is between its two maps, which theirs does not.
    """

    def __init__(self, config: GPTConfig):
        super().__init__()
        if not isinstance(config, GPTConfig):
            raise TypeError(f"config must be a GPTConfig(...), got {type(config).__name__}")
        self.config = config
        d_model, rotary = config.d_model, config.positions == "rotary"
        self.embedding = nn.Embedding(config.vocab_size, d_model)
        self.positions = None if rotary else LearnedPositions(config.context_length, d_model)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(
            EncoderBlock(
                d_model,
                config.num_heads,
                config.d_ff,
                config.dropout,
                norm_first=True,
                activation=config.activation,
                rotary=rotary,
            )
            for _ in range(config.num_blocks)
        )
        self.norm = nn.LayerNorm(d_model)
        self.output = nn.Linear(d_model, config.vocab_size, bias=False)
        self.output.weight = self.embedding.weight
        self._initialise()

    def _initialise(self) -> None:
        nn.init.normal_(self.embedding.weight, std=0.02)
        for block in self.blocks:
            for linear in (module for module in block.modules() if isinstance(module, nn.Linear)):
                nn.init.normal_(linear.weight, std=0.02)
                nn.init.zeros_(linear.bias)
            for linear in (block.attention.output_projection, block.feed_forward.contract):
                nn.init.normal_(linear.weight, std=0.02 * (2 * self.config.num_blocks) ** -0.5)

    def forward(self, tokens: Int[Tensor, "batch position"]) -> Float[Tensor, "batch position vocab"]:
        """Return logits: those at position i score the token that comes after tokens[:, i], and see none of
        the later ones.

        Raises ValueError for ids outside the vocabulary, no token, and more tokens than context_length;
        TypeError for tokens that are not whole numbers.
        """
        _check_tokens(tokens, self.config.vocab_size, "tokens")
        x = self._embed(tokens)
        mask = causal_mask(tokens.shape[1], device=tokens.device)
        for block in self.blocks:
            x = block(x, mask)
        return self.output(self.norm(x))

    def initial_state(self, batch_size: int) -> Float[Tensor, "batch block 2 head 0 d_k"]:
        """The state from which step begins, in which no token has been seen."""
        _check_sizes(0, batch_size=batch_size)
        config = self.config
        d_k = config.d_model // config.num_heads
        return self.norm.weight.new_empty(batch_size, config.num_blocks, 2, config.num_heads, 0, d_k)

    def step(
        self,
        tokens: Int[Tensor, "batch new"],
        state: Float[Tensor, "batch block 2 head seen d_k"],
    ) -> tuple[Float[Tensor, "batch vocab"], Float[Tensor, "batch block 2 head seen+new d_k"]]:
        """Read the next tokens of each text; return the logits of the one after them, and the new state.

        The state holds the keys and values of all tokens so far, of each block: the KV cache. Begin with
        initial_state and the whole prompt, then give one token at a time. The logits equal those of forward
        at the last token.
        Raises what forward raises, and ValueError for a state that does not fit.
        """
        _check_tokens(tokens, self.config.vocab_size, "tokens")
        self._check_state(state, len(tokens))
        seen, new = state.shape[-2], tokens.shape[1]
        x = self._embed(tokens, offset=seen)
        mask = causal_mask(new, seen + new, device=tokens.device) if new > 1 else None
        pasts = []
        for block, past in zip(self.blocks, state.unbind(dim=1), strict=True):
            x, past = block.step(x, past.transpose(0, 1), mask)
            pasts.append(past.transpose(0, 1))
        return self.output(self.norm(x[:, -1])), torch.stack(pasts, dim=1)

    def _embed(self, tokens: Tensor, offset: int = 0) -> Tensor:
        """Look the tokens up, add the codes of positions offset, offset + 1, ..., and apply dropout."""
        end = offset + tokens.shape[1]
        if end > self.config.context_length:
            raise ValueError(
                f"the text has {end} tokens, but the model reads {self.config.context_length} at once "
                f"(context_length); give it the last {self.config.context_length} at most, in a new state"
            )
        x = self.embedding(tokens)
        if self.positions is not None:
            x = x + self.positions(tokens.shape[1], offset)
        return self.dropout(x)

    def _check_state(self, state: Tensor, batch_size: int) -> None:
        if not isinstance(state, Tensor):
            raise TypeError(
                f"state must be a tensor, as initial_state and step give it, got {type(state).__name__}"
            )
        expected = tuple(self.initial_state(batch_size).shape)
        if state.ndim != 6 or state[..., :0, :].shape != expected:
            raise ValueError(
                f"state has shape {tuple(state.shape)}; expected {expected}, with the number of tokens seen "
                f"in the place of 0; begin with model.initial_state({batch_size})"
            )
