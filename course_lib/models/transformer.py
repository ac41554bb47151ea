"""The Transformer: an encoder that reads the source, a decoder that writes the target, attention in both.

From top to bottom: the configuration, what the encoder hands over, the model, and its step for decoding.
"""

import math
from dataclasses import dataclass, fields

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from course_lib.attention import (
    _check_dropout,
    _check_flags,
    _check_sizes,
    _numbers_are_known,
    causal_mask,
    padding_mask,
)
from course_lib.layers import DecoderBlock, EncoderBlock
from course_lib.models.seq2seq import _check_lengths, _check_tokens
from course_lib.positions import LearnedPositions, sinusoidal_positions


@dataclass(frozen=True)
class TransformerConfig:
    """The sizes and choices of a Transformer.

    source_vocab_size, target_vocab_size: number of tokens on either side.
    num_blocks: how many blocks the encoder has, and how many the decoder.
    max_length: the most positions of a source, and of a target.
    norm_first: LayerNorm before each sublayer (pre-norm) or after each sum (post-norm, as first published).
    positions: "sinusoidal", which have no parameters, or "learned".
    tied_output: whether a target token's output weights are its embedding.
    shared_embedding: whether both sides have one vocabulary, and one embedding.
    pad_id: the token that fills up the rows of a batch.
    """

    source_vocab_size: int
    target_vocab_size: int
    d_model: int = 256
    num_heads: int = 4
    num_blocks: int = 3
    d_ff: int = 1024
    dropout: float = 0.1
    max_length: int = 256
    norm_first: bool = True
    positions: str = "sinusoidal"
    tied_output: bool = True
    shared_embedding: bool = False
    pad_id: int = 0

    def __post_init__(self):
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        kinds = {field.name: field.type for field in fields(self)}
        _check_sizes(0, pad_id=self.pad_id)
        _check_sizes(1, **{name: values[name] for name in kinds if kinds[name] is int and name != "pad_id"})
        _check_flags(**{name: values[name] for name in kinds if kinds[name] is bool})
        _check_dropout(self.dropout)
        if self.positions not in ("sinusoidal", "learned"):
            raise ValueError(f"positions is {self.positions!r}; choose 'sinusoidal' or 'learned'")
        if self.shared_embedding and self.source_vocab_size != self.target_vocab_size:
            raise ValueError(
                f"a shared embedding needs one vocabulary for both sides, but they have "
                f"{self.source_vocab_size} and {self.target_vocab_size} tokens"
            )


@dataclass(frozen=True)
class TransformerMemory:
    """What the encoder hands to the decoder.

    states: the encoder's output. mask: which of its positions are no padding.
    projected: for each decoder block the keys and values of the states, made once a sentence.
    initial_state: the state from which step begins, in which no position has been seen.
    """

    states: Float[Tensor, "batch source d_model"]
    mask: Bool[Tensor, "batch 1 1 source"]
    projected: list[tuple[Tensor, Tensor]]
    initial_state: Float[Tensor, "batch block 2 head 0 d_k"]


class Transformer(nn.Module):
    """Translate with attention alone.

        x = sqrt(d_model) * embedding(token) + position code
        memory = encoder blocks(x of the source)
        logits = E decoder blocks(x of the target, memory)

    E is the matrix of the output, with tied_output the target embedding itself. With norm_first each stack
    ends with one more LayerNorm, since nothing else would normalise its sum.

    Source: Vaswani et al. 2017, section 3; pre-norm as in Xiong et al. 2020; tied embeddings as in Press and
    Wolf 2017.
    """

    def __init__(self, config: TransformerConfig):
        super().__init__()
        if not isinstance(config, TransformerConfig):
            raise TypeError(f"config must be a TransformerConfig(...), got {type(config).__name__}")
        self.config = config
        d_model = config.d_model
        self.source_embedding = nn.Embedding(config.source_vocab_size, d_model)
        self.target_embedding = (
            self.source_embedding
            if config.shared_embedding
            else nn.Embedding(config.target_vocab_size, d_model)
        )
        if config.positions == "learned":
            self.source_positions = LearnedPositions(config.max_length, d_model)
            self.target_positions = LearnedPositions(config.max_length, d_model)
        else:
            code = sinusoidal_positions(config.max_length, d_model)
            self.register_buffer("position_code", code, persistent=False)

        sizes = (d_model, config.num_heads, config.d_ff, config.dropout, config.norm_first)
        self.encoder_blocks = nn.ModuleList(EncoderBlock(*sizes) for _ in range(config.num_blocks))
        self.encoder_norm = nn.LayerNorm(d_model) if config.norm_first else nn.Identity()
        self.decoder_blocks = nn.ModuleList(DecoderBlock(*sizes) for _ in range(config.num_blocks))
        self.decoder_norm = nn.LayerNorm(d_model) if config.norm_first else nn.Identity()
        self.output = nn.Linear(d_model, config.target_vocab_size)
        self.dropout = nn.Dropout(config.dropout)

        # With this scale an embedding times sqrt(d_model) has entries of variance 1, and a tied output
        # begins with logits near one.
        for embedding in (self.source_embedding, self.target_embedding):
            nn.init.normal_(embedding.weight, std=d_model**-0.5)
        if config.tied_output:
            self.output.weight = self.target_embedding.weight

    def encode(
        self, source: Int[Tensor, "batch source"], lengths: Int[Tensor, " batch"] | None = None
    ) -> TransformerMemory:
        """Read source sentences; also project their keys and values for each decoder block.

        lengths: number of real tokens of each sentence; may be left out where no row is padded.
        Raises ValueError for lengths that do not fit or are missing, a sentence without a token or longer
        than the model's positions, and ids outside the vocabulary.
        """
        lengths = self._check_source(source, lengths)
        mask = padding_mask(lengths, source.shape[1]).to(source.device)
        x = self._embed(source, "source")
        for block in self.encoder_blocks:
            x = block(x, mask)
        states = self.encoder_norm(x)
        return self._memory(states, mask)

    def decode(
        self, target: Int[Tensor, "batch target"], memory: TransformerMemory
    ) -> Float[Tensor, "batch target vocab"]:
        """Give the logits of each next token, with the true tokens before it known (teacher forcing).

        target: begins with <bos>; logits[:, i] score the token after target[:, i], and see none after it.
        Raises ValueError for ids outside the vocabulary, a target longer than the model's positions, another
        number of sentences than the memory holds, and the memory of a model with other blocks.
        """
        self._check_target(target, memory)
        # Padding stands at the end of a target: no real position can look at it through a causal mask.
        mask = causal_mask(target.shape[1]).to(target.device)
        x = self._embed(target, "target")
        for block, projected in zip(self.decoder_blocks, memory.projected, strict=True):
            x = block(x, projected, mask, memory.mask)
        return self.output(self.decoder_norm(x))

    def forward(
        self,
        source: Int[Tensor, "batch source"],
        target: Int[Tensor, "batch target"],
        source_lengths: Int[Tensor, " batch"] | None = None,
    ) -> Float[Tensor, "batch target vocab"]:
        """encode, then decode."""
        return self.decode(target, self.encode(source, source_lengths))

    def step(
        self,
        token: Int[Tensor, " batch"],
        state: Float[Tensor, "batch block 2 head position d_k"],
        memory: TransformerMemory,
    ) -> tuple[Float[Tensor, "batch vocab"], Float[Tensor, "batch block 2 head position+1 d_k"]]:
        """Feed one token and return (logits of the next one, new state); begin with memory.initial_state.

        The state holds the keys and values of all positions so far, of each decoder block.
        Raises ValueError and TypeError as encode does, and where token, state and memory do not fit.
        """
        self._check_step(token, state, memory)
        x = self._embed(token[:, None], "target", offset=state.shape[-2])
        pasts = []
        for block, past, projected in zip(
            self.decoder_blocks, state.unbind(dim=1), memory.projected, strict=True
        ):
            x, past = block.step(x, past.transpose(0, 1), projected, memory_mask=memory.mask)
            pasts.append(past.transpose(0, 1))
        return self.output(self.decoder_norm(x))[:, 0], torch.stack(pasts, dim=1)

    def _memory(self, states: Tensor, mask: Tensor) -> TransformerMemory:
        config = self.config
        projected = [block.cross_attention.project(states) for block in self.decoder_blocks]
        size = (len(states), config.num_blocks, 2, config.num_heads, 0, config.d_model // config.num_heads)
        return TransformerMemory(states, mask, projected, states.new_empty(size))

    def _embed(self, tokens: Tensor, name: str, offset: int = 0) -> Tensor:
        """Scale the embeddings, add the code of positions offset, offset + 1, ..., and apply dropout."""
        end = offset + tokens.shape[1]
        if end > self.config.max_length:
            raise ValueError(
                f"{name} has {end} positions, but the model has codes for {self.config.max_length}; shorten "
                f"the sentence, or make the model with a larger max_length"
            )
        embedding = self.source_embedding if name == "source" else self.target_embedding
        if self.config.positions == "sinusoidal":
            code = self.position_code[offset:end]
        else:
            positions = self.source_positions if name == "source" else self.target_positions
            code = positions(tokens.shape[1], offset)
        return self.dropout(math.sqrt(self.config.d_model) * embedding(tokens) + code)

    def _check_source(self, source: Tensor, lengths: Tensor | None) -> Tensor:
        """Return the lengths, after checking that they and the tokens can be read."""
        _check_tokens(source, self.config.source_vocab_size, "source")
        if lengths is None:
            if _numbers_are_known() and (source == self.config.pad_id).any():
                raise ValueError(
                    f"source is padded (it holds the token {self.config.pad_id}), but lengths is missing, so "
                    f"attention could not tell words from padding; give the number of real tokens of each row"
                )
            lengths = source.new_full((len(source),), source.shape[1])
        _check_lengths(lengths, source)
        return lengths

    def _check_memory(self, memory: TransformerMemory) -> None:
        if not isinstance(memory, TransformerMemory):
            raise TypeError(f"memory must be what encode returned, got {type(memory).__name__}")
        if len(memory.projected) != len(self.decoder_blocks):
            raise ValueError(
                f"memory was made for {len(memory.projected)} decoder blocks, and this model has "
                f"{len(self.decoder_blocks)}; take the memory that this model's encode returns"
            )

    def _check_step(self, token: Tensor, state: Tensor, memory: TransformerMemory) -> None:
        self._check_memory(memory)
        if not isinstance(state, Tensor):
            raise TypeError(
                f"state must be memory.initial_state or what step returned, got {type(state).__name__}"
            )
        _check_tokens(token, self.config.target_vocab_size, "token", axes=("batch",))
        expected = memory.initial_state.shape
        fits = state.dim() == 6 and state[..., :0, :].shape == expected
        if not fits or len(token) != expected[0]:
            raise ValueError(
                f"memory holds {expected[0]} sentences, so token must be of shape ({expected[0]},) and state "
                f"of {tuple(expected)}, with the number of positions seen in the place of 0; got "
                f"{tuple(token.shape)} and {tuple(state.shape)}"
            )

    def _check_target(self, target: Tensor, memory: TransformerMemory) -> None:
        self._check_memory(memory)
        _check_tokens(target, self.config.target_vocab_size, "target")
        if len(memory.states) != len(target):
            raise ValueError(
                f"source holds {len(memory.states)} sentences and target {len(target)}; each needs its "
                f"partner"
            )
