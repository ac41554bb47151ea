"""Our translators once more, of nothing but parts of torch.nn, for tests of parity."""

import math

import torch
from torch import nn
from torch.nn import functional as F
from transformers.models.xlm.modeling_xlm import create_sinusoidal_embeddings

from tests.torch_twins import copy_block


def score_pairs(scorer, query, key):
    """Give each pair [query; key] to one small network: Bahdanau's alignment model, without any shortcut."""
    pairs = query.unsqueeze(-2).expand(*query.shape[:-1], key.shape[-2], -1)
    keys = key.unsqueeze(-3).expand(*query.shape[:-1], *key.shape[-2:])
    return scorer(torch.cat([pairs, keys], dim=-1)).squeeze(-1)


# ------------------------------------------------------------------------------------------- seq2seq


class TorchSeq2Seq(nn.Module):
    """A translator of GRU cells that reads one sentence after another, without padding or a batch."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        size, hidden = config.embedding_size, config.hidden_size
        directions = 2 if config.bidirectional else 1
        self.source_embedding = nn.Embedding(config.source_vocab_size, size)
        self.target_embedding = nn.Embedding(config.target_vocab_size, size)
        self.readers = nn.ModuleList(nn.GRUCell(size, hidden // directions) for _ in range(directions))
        self.initial_state = nn.Sequential(nn.Linear(hidden, hidden), nn.Tanh())
        context = hidden if config.attention else 0
        if config.attention:
            self.scorer = nn.Sequential(
                nn.Linear(2 * hidden, config.attention_size, bias=False),
                nn.Tanh(),
                nn.Linear(config.attention_size, 1, bias=False),
            )
        self.writer = nn.GRUCell(size + context, hidden)
        self.readout = nn.Sequential(
            nn.Linear(hidden + size + context, size), nn.Tanh(), nn.Linear(size, config.target_vocab_size)
        )
        if config.tied_output:
            self.readout[-1].weight = self.target_embedding.weight

    def forward(self, source, target, lengths):
        sentences = zip(source, target, lengths, strict=True)
        return torch.stack([self.translate(x[:length], y) for x, y, length in sentences])

    def translate(self, source, target):
        states, last = self.read(self.source_embedding(source))
        state, logits = self.initial_state(last), []
        for token in self.target_embedding(target):
            context = []
            if self.config.attention:
                scores = score_pairs(self.scorer, state[None], states)
                context = [(scores.softmax(dim=-1) @ states)[0]]
            state = self.writer(torch.cat([token, *context]), state)
            logits.append(self.readout(torch.cat([state, token, *context])))
        return torch.stack(logits)

    def read(self, words):
        """Return the states of all words, and the last one of each direction."""
        directions, last = [], []
        for number, cell in enumerate(self.readers):
            state, states = words.new_zeros(cell.hidden_size), []
            for word in words.flip(0) if number else words:
                state = cell(word, state)
                states.append(state)
            directions.append(torch.stack(states[::-1] if number else states))
            last.append(state)
        return torch.cat(directions, dim=-1), torch.cat(last)


def copy_seq2seq(ours, theirs):
    theirs.source_embedding.load_state_dict(ours.source_embedding.state_dict())
    theirs.target_embedding.load_state_dict(ours.target_embedding.state_dict())
    theirs.initial_state[0].load_state_dict(ours.initial_state.state_dict())
    theirs.readout[0].load_state_dict(ours.readout.state_dict())
    theirs.readout[2].load_state_dict(ours.output.state_dict())
    for cell, ending in zip(theirs.readers, ("", "_reverse"), strict=False):
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            getattr(cell, name).data = getattr(ours.encoder, f"{name}_l0{ending}").data
    inputs = [ours.from_token.weight.data]
    if ours.config.attention:
        inputs.append(ours.from_context.weight.data)
        both = ours.attention.query_projection.weight.data, ours.attention.key_projection.weight.data
        theirs.scorer[0].weight.data = torch.cat(both, dim=1)
        theirs.scorer[2].weight.data = ours.attention.score_projection.weight.data
    theirs.writer.weight_ih.data = torch.cat(inputs, dim=1)
    theirs.writer.bias_ih.data = ours.from_token.bias.data
    theirs.writer.weight_hh.data = ours.from_state.weight.data
    theirs.writer.bias_hh.data = ours.from_state.bias.data


# --------------------------------------------------------------------------------------- transformer


class TorchTransformer(nn.Module):
    """torch.nn.Transformer between embeddings, codes of positions and an output."""

    def __init__(self, config):
        super().__init__()
        d_model, self.norm_first = config.d_model, config.norm_first
        self.source_embedding = nn.Embedding(config.source_vocab_size, d_model)
        self.target_embedding = nn.Embedding(config.target_vocab_size, d_model)
        self.learned = config.positions == "learned"
        if self.learned:
            self.source_positions = nn.Embedding(config.max_length, d_model)
            self.target_positions = nn.Embedding(config.max_length, d_model)
        else:
            code = torch.empty(config.max_length, d_model)
            self.register_buffer("code", create_sinusoidal_embeddings(config.max_length, d_model, code))
        self.blocks = nn.Transformer(
            d_model,
            config.num_heads,
            config.num_blocks,
            config.num_blocks,
            config.d_ff,
            0.0,
            batch_first=True,
            norm_first=config.norm_first,
        )
        if not config.norm_first:
            # The paper's stacks end with a block, whose last norm is enough; PyTorch adds one more.
            self.blocks.encoder.norm = self.blocks.decoder.norm = None
        self.output = nn.Linear(d_model, config.target_vocab_size)
        if config.tied_output:
            self.output.weight = self.target_embedding.weight

    def forward(self, source, target, lengths):
        padding = torch.arange(source.shape[1]) >= torch.tensor(lengths)[:, None]
        states = self.blocks(
            self.embed(source, "source"),
            self.embed(target, "target"),
            tgt_mask=torch.ones(target.shape[1], target.shape[1], dtype=torch.bool).triu(1),
            src_key_padding_mask=padding,
            memory_key_padding_mask=padding,
        )
        return self.output(states)

    def embed(self, tokens, side):
        table = getattr(self, f"{side}_positions").weight if self.learned else self.code
        embedding = F.embedding(tokens, getattr(self, f"{side}_embedding").weight)
        return math.sqrt(embedding.shape[-1]) * embedding + table[: tokens.shape[1]]


def copy_transformer(ours, theirs):
    theirs.source_embedding.load_state_dict(ours.source_embedding.state_dict())
    theirs.target_embedding.load_state_dict(ours.target_embedding.state_dict())
    theirs.output.load_state_dict(ours.output.state_dict())
    if theirs.learned:
        theirs.source_positions.load_state_dict(ours.source_positions.state_dict())
        theirs.target_positions.load_state_dict(ours.target_positions.state_dict())
    for name in ("encoder", "decoder"):
        stack = getattr(theirs.blocks, name)
        for mine, layer in zip(getattr(ours, f"{name}_blocks"), stack.layers, strict=True):
            copy_block(mine, layer)
        if theirs.norm_first:
            stack.norm.load_state_dict(getattr(ours, f"{name}_norm").state_dict())
