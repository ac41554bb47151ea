"""A recurrent translator: GRU encoder, GRU decoder, with Bahdanau's attention or with one fixed vector.

From top to bottom: the configuration, what the encoder hands over, the encoder, one step of the decoder, the
loop over steps for training, and the same step for decoding.
"""

from dataclasses import dataclass, fields
from numbers import Real

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from course_lib.attention import AdditiveAttention, _numbers_are_known, padding_mask


@dataclass(frozen=True)
class Seq2SeqConfig:
    """The sizes and choices of a Seq2Seq.

    source_vocab_size, target_vocab_size: number of tokens on either side.
    attention: True for Bahdanau's model, False for one fixed vector.
    bidirectional: whether the encoder reads both ways. Each direction then has half of hidden_size, so that
        the encoder's states are hidden_size wide in both cases.
    tied_output: whether a target token's output weights are its embedding.
    """

    source_vocab_size: int
    target_vocab_size: int
    embedding_size: int = 256
    hidden_size: int = 512
    attention_size: int = 256
    attention: bool = True
    bidirectional: bool = True
    tied_output: bool = True
    dropout: float = 0.0

    def __post_init__(self):
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type is int and (type(value) is not int or value < 1):
                raise ValueError(f"{field.name} must be an int of at least 1, got {value!r}")
            if field.type is bool and not isinstance(value, bool):
                raise ValueError(f"{field.name} must be True or False, got {value!r}")
        if not (isinstance(self.dropout, Real) and 0 <= self.dropout < 1):
            raise ValueError(f"dropout is a share from 0 to below 1, got {self.dropout!r}")
        if self.bidirectional and self.hidden_size % 2:
            raise ValueError(
                f"a bidirectional encoder gives half of hidden_size to each direction, but hidden_size is "
                f"{self.hidden_size}; choose an even number"
            )


@dataclass(frozen=True)
class Seq2SeqMemory:
    """What the encoder hands to the decoder. Without attention it is the initial state alone."""

    initial_state: Float[Tensor, "batch hidden"]
    states: Float[Tensor, "batch source hidden"] | None = None
    projected_states: Float[Tensor, "batch source attention"] | None = None
    mask: Tensor | None = None


class Seq2Seq(nn.Module):
    """Translate with a GRU encoder and a GRU decoder.

    With x the source, y the target, h_j the encoder's states and s_i the decoder's:

        s_0 = tanh(W_0 [last state of each direction])
        e_ij = v^T tanh(W s_{i-1} + U h_j),    a_ij = softmax_j(e_ij),    c_i = sum_j a_ij h_j
        s_i = GRU(s_{i-1}, [y_{i-1}; c_i])
        logits_i = E tanh(R [s_i; y_{i-1}; c_i])

    With attention=False there is no c_i: whatever the decoder knows of the source has passed through s_0.

    Sources: Sutskever, Vinyals and Le 2014, section 2 (one vector); Bahdanau, Cho and Bengio 2015, section 3
    and appendix A (attention). A tanh layer stands in for their maxout readout.
    """

    def __init__(self, config: Seq2SeqConfig):
        super().__init__()
        if not isinstance(config, Seq2SeqConfig):
            raise TypeError(f"config must be a Seq2SeqConfig(...), got {type(config).__name__}")
        self.config = config
        embedding_size, hidden_size = config.embedding_size, config.hidden_size

        self.source_embedding = nn.Embedding(config.source_vocab_size, embedding_size)
        directions = 2 if config.bidirectional else 1
        self.encoder = nn.GRU(
            embedding_size, hidden_size // directions, batch_first=True, bidirectional=config.bidirectional
        )
        self.initial_state = nn.Linear(hidden_size, hidden_size)

        # A GRU hears from the last token, the context and its own last state: one matrix for each.
        self.target_embedding = nn.Embedding(config.target_vocab_size, embedding_size)
        self.from_token = nn.Linear(embedding_size, 3 * hidden_size)
        self.from_state = nn.Linear(hidden_size, 3 * hidden_size)
        if config.attention:
            self.attention = AdditiveAttention(hidden_size, hidden_size, config.attention_size)
            self.from_context = nn.Linear(hidden_size, 3 * hidden_size, bias=False)

        readout_inputs = hidden_size + embedding_size + (hidden_size if config.attention else 0)
        self.readout = nn.Linear(readout_inputs, embedding_size)
        self.output = nn.Linear(embedding_size, config.target_vocab_size)
        if config.tied_output:
            self.output.weight = self.target_embedding.weight
        self.dropout = nn.Dropout(config.dropout)

        # Tied weights are inputs and outputs at once; this scale keeps the first logits near one.
        for embedding in (self.source_embedding, self.target_embedding):
            nn.init.normal_(embedding.weight, std=embedding_size**-0.5)

    def encode(self, source: Int[Tensor, "batch source"], lengths: Int[Tensor, " batch"]) -> Seq2SeqMemory:
        """Read padded source sentences; also compute the key projections U h_j, once for all steps.

        lengths: number of real tokens of each sentence, at least 1.
        Raises ValueError for lengths that do not fit the batch and for ids outside the vocabulary, TypeError
        for anything but tensors of whole numbers.
        """
        _check_tokens(source, self.config.source_vocab_size, "source")
        _check_lengths(lengths, source)
        # Packing leaves the padding out, so that the backward direction starts at a sentence's own last word.
        embedded = self.dropout(self.source_embedding(source))
        packed = pack_padded_sequence(embedded, lengths.cpu(), batch_first=True, enforce_sorted=False)
        packed_states, last = self.encoder(packed)  # last: direction batch hidden
        initial_state = torch.tanh(self.initial_state(last.transpose(0, 1).flatten(1)))
        if not self.config.attention:
            return Seq2SeqMemory(initial_state)
        states, _ = pad_packed_sequence(packed_states, batch_first=True, total_length=source.shape[1])
        states = self.dropout(states)
        mask = padding_mask(lengths, source.shape[1])
        return Seq2SeqMemory(initial_state, states, self.attention.project_keys(states), mask)

    def decoder_step(
        self,
        token_part: Float[Tensor, "batch gates"],
        state: Float[Tensor, "batch hidden"],
        memory: Seq2SeqMemory,
    ) -> tuple[Float[Tensor, "batch hidden"], Float[Tensor, "batch hidden"] | None]:
        """Look at the source from the last state, then move the GRU one step; return (new state, context).

        token_part: from_token(embedding of y_{i-1}), since it can be had for all steps at once.
        """
        context = None
        inputs = token_part
        if self.config.attention:
            context, _ = self.attention(
                state.unsqueeze(1), memory.states, memory.states, memory.mask, memory.projected_states
            )
            context = context.squeeze(1)
            inputs = inputs + self.from_context(context)

        reset_input, update_input, new_input = inputs.chunk(3, dim=-1)
        reset_state, update_state, new_state = self.from_state(state).chunk(3, dim=-1)
        reset = torch.sigmoid(reset_input + reset_state)
        update = torch.sigmoid(update_input + update_state)
        new = torch.tanh(new_input + reset * new_state)
        return (1 - update) * new + update * state, context

    def logits(self, states: Tensor, embedded: Tensor, contexts: Tensor | None) -> Tensor:
        """Score every word of the target vocabulary from s_i, y_{i-1} and c_i, at any number of positions."""
        features = [states, embedded] if contexts is None else [states, embedded, contexts]
        return self.output(self.dropout(torch.tanh(self.readout(torch.cat(features, dim=-1)))))

    def forward(
        self,
        source: Int[Tensor, "batch source"],
        target: Int[Tensor, "batch target"],
        source_lengths: Int[Tensor, " batch"],
    ) -> Float[Tensor, "batch target vocab"]:
        """Give the logits of each next token, with the true tokens before it known (teacher forcing).

        target: the decoder's input, which begins with <bos>; logits[:, i] score the token after target[:, i].
        Raises ValueError as encode does, and when source and target differ in their number of sentences.
        """
        memory = self.encode(source, source_lengths)
        _check_tokens(target, self.config.target_vocab_size, "target")
        if len(source) != len(target):
            raise ValueError(
                f"source holds {len(source)} sentences and target {len(target)}; each needs its partner"
            )
        embedded = self.dropout(self.target_embedding(target))
        state, states, contexts = memory.initial_state, [], []
        for token_part in self.from_token(embedded).unbind(dim=1):
            state, context = self.decoder_step(token_part, state, memory)
            states.append(state)
            contexts.append(context)
        stacked_contexts = torch.stack(contexts, dim=1) if self.config.attention else None
        return self.logits(torch.stack(states, dim=1), embedded, stacked_contexts)

    def step(
        self, token: Int[Tensor, " batch"], state: Float[Tensor, "batch hidden"], memory: Seq2SeqMemory
    ) -> tuple[Float[Tensor, "batch vocab"], Float[Tensor, "batch hidden"]]:
        """Feed one token and return (logits of the next one, new state); begin with memory.initial_state.

        Raises ValueError and TypeError as encode does, and where token, state and memory do not fit.
        """
        if not isinstance(memory, Seq2SeqMemory) or not isinstance(state, Tensor):
            raise TypeError(
                f"step takes token, state and memory, and memory comes from encode; got "
                f"{type(token).__name__}, {type(state).__name__} and {type(memory).__name__}"
            )
        if self.config.attention and memory.states is None:
            raise ValueError("the memory has no states to attend to; encode the source with this same model")
        _check_tokens(token, self.config.target_vocab_size, "token", axes=("batch",))
        expected = memory.initial_state.shape
        if state.shape != expected or len(token) != expected[0]:
            raise ValueError(
                f"memory holds {expected[0]} sentences, so token must be of shape ({expected[0]},) and state "
                f"of {tuple(expected)}, got {tuple(token.shape)} and {tuple(state.shape)}"
            )
        embedded = self.dropout(self.target_embedding(token))
        state, context = self.decoder_step(self.from_token(embedded), state, memory)
        return self.logits(state, embedded, context), state


def _check_tokens(
    tokens: Tensor, vocab_size: int, name: str, axes: tuple[str, ...] = ("batch", "position")
) -> None:
    """Raise unless tokens is a tensor with these axes, of ids below vocab_size."""
    _check_whole_numbers(tokens, name)
    if tokens.ndim != len(axes) or tokens.numel() == 0:
        raise ValueError(
            f"{name} has shape {tuple(tokens.shape)}; expected ({', '.join(axes)}) with at least one "
            f"token each"
        )
    if not _numbers_are_known():
        return
    lowest, highest = int(tokens.min()), int(tokens.max())
    if lowest < 0 or highest >= vocab_size:
        wrong = lowest if lowest < 0 else highest
        raise ValueError(
            f"{name} holds the token id {wrong}, but its vocabulary has the ids 0 to {vocab_size - 1}; "
            f"encode the sentence with the vocabulary that the model was made for"
        )


def _check_lengths(lengths: Tensor, tokens: Tensor) -> None:
    """Raise ValueError unless lengths holds, for each row of tokens, a number from 1 to the row's width."""
    _check_whole_numbers(lengths, "lengths")
    batch, width = tokens.shape
    if lengths.shape != (batch,):
        raise ValueError(
            f"lengths has shape {tuple(lengths.shape)}; expected ({batch},), one length for each sentence"
        )
    if not _numbers_are_known():
        return
    if int(lengths.min()) < 1:
        row = int(lengths.argmin())
        raise ValueError(f"sentence {row} is empty (length {int(lengths[row])}); leave out empty sentences")
    if int(lengths.max()) > width:
        row = int(lengths.argmax())
        raise ValueError(
            f"sentence {row} has length {int(lengths[row])}, but the batch is padded to {width} tokens"
        )


def _check_whole_numbers(numbers: Tensor, name: str) -> None:
    if not isinstance(numbers, Tensor) or numbers.dtype not in (torch.int32, torch.int64):
        got = numbers.dtype if isinstance(numbers, Tensor) else type(numbers).__name__
        raise TypeError(
            f"{name} must be a tensor of whole numbers (torch.int64), got {got}; make one "
            f"with torch.tensor(...)"
        )
