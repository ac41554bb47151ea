"""The attentions and the models of the course, each with what the tests of properties must know of it."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from course_lib.attention import (
    AdditiveAttention,
    MultiHeadAttention,
    _AttentionLayer,
    additive_attention,
    causal_mask,
    dot_score,
    masked_softmax,
    scaled_dot_product_attention,
)
from course_lib.layers import DecoderBlock, EncoderBlock
from course_lib.models.gpt import GPT, GPTConfig
from course_lib.models.seq2seq import Seq2Seq, Seq2SeqConfig
from course_lib.models.transformer import Transformer, TransformerConfig
from course_lib.models.vit import ViT, ViTConfig
from course_lib.positions import RelativeAttention, RelativePositionBias, RotaryAttention, alibi_bias
from tests.torch_twins import shake

BATCH, LENGTH, SOURCE, HEADS, D_K, D_FF = 2, 7, 11, 3, 10, 13
WIDTH = HEADS * D_K


# ------------------------------------------------------------------------------------- attentions


class OfFunction(_AttentionLayer):
    """A function (query, key, value, mask) -> (output, weights) as a layer whose weights can be recorded."""

    def __init__(self, attend: Callable):
        super().__init__()
        self.attend = attend

    def forward(self, query, key, value, mask=None):
        output, weights = self.attend(query, key, value, mask)
        self._record(weights.unsqueeze(1))
        return output, weights


class AdditiveFunction(OfFunction):
    """additive_attention with three matrices to train."""

    def __init__(self):
        super().__init__(lambda *inputs: additive_attention(*inputs[:3], *self.matrices, inputs[3]))
        sizes = (17, WIDTH), (17, WIDTH), (17,)
        self.matrices = nn.ParameterList(nn.Parameter(torch.empty(size)) for size in sizes)


def attend_with_alibi(query, key, value, mask):
    bias = alibi_bias(1, query.shape[-2], key.shape[-2], dtype=query.dtype)
    weights = masked_softmax(dot_score(query / math.sqrt(query.shape[-1]), key) + bias, mask)
    return weights @ value, weights


class WithBuckets(_AttentionLayer):
    def __init__(self):
        super().__init__()
        self.bias = RelativePositionBias(1, num_buckets=8, max_distance=20)

    def forward(self, query, key, value, mask=None):
        bias = self.bias(query.shape[-2], key.shape[-2])
        weights = masked_softmax(dot_score(query / math.sqrt(query.shape[-1]), key) + bias, mask)
        self._record(weights.unsqueeze(1))
        return weights @ value, weights


def with_heads(layer, query, key, mask):
    return layer(query[:, None], key[:, None], key[:, None], mask)[0][:, 0]


def with_value(layer, query, key, mask):
    return layer(query, key, key, mask)[0]


def multi_head_last(layer, x, count):
    """What a decoding loop asks: the last queries, and keys and values that are already projected."""
    return layer(x[:, -count:], projected=layer.project(x), mask=causal_mask(count, x.shape[1]))


def additive_last(layer, x, count):
    mask = causal_mask(count, x.shape[1])
    return layer(x[:, -count:], x, x, mask, layer.project_keys(x))[0]


def block_last(block, x, count, *memory):
    past = x.new_empty(2, len(x), HEADS, 0, D_K)
    before, masks = x.shape[1] - count, (causal_mask(x.shape[1] - count), causal_mask(count, x.shape[1]))
    if before:
        _, past = block.step(x[:, :before], past, *memory, mask=masks[0])
    return block.step(x[:, before:], past, *memory, mask=masks[1])[0]


def memory_of(x):
    """A source for the decoder's block to look at, the same for each sentence."""
    return torch.arange(SOURCE * WIDTH).reshape(1, SOURCE, WIDTH).to(x).cos().expand(len(x), -1, -1)


@dataclass
class Attention:
    """An attention of a sequence (batch, position, width) to itself.

    make(dropout): the layer. whole(layer, x, mask): all positions at once.
    last(layer, x, count): the last positions under the causal mask, by the shortest way there is.
    ordered: whether it knows where positions stand.
    """

    name: str
    make: Callable[[float], nn.Module]
    whole: Callable[[nn.Module, Tensor, Tensor | None], Tensor]
    last: Callable[[nn.Module, Tensor, int], Tensor]
    ordered: bool = False

    def __str__(self):
        return self.name

    def made(self, dropout=0.0, seed=0, dtype=torch.float64):
        return made(lambda: self.make(dropout), seed, dtype)


def made(make, seed, dtype):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return shake(make()).to(dtype).eval()


def asking(attend):
    """whole and last of a layer that is given queries and keys."""
    return {
        "whole": lambda layer, x, mask: attend(layer, x, x, mask),
        "last": lambda layer, x, count: attend(layer, x[:, -count:], x, causal_mask(count, x.shape[1])),
    }


def multi_head(kind):
    return {
        "make": lambda dropout: kind(WIDTH, HEADS, dropout),
        "whole": lambda layer, x, mask: layer(x, mask=mask),
        "last": multi_head_last,
    }


def encoder_block(**options):
    return {
        "make": lambda dropout: EncoderBlock(WIDTH, HEADS, D_FF, dropout, **options),
        "whole": lambda block, x, mask: block(x, mask),
        "last": block_last,
    }


def decoder_block(**options):
    return {
        "make": lambda dropout: DecoderBlock(WIDTH, HEADS, D_FF, dropout, **options),
        "whole": lambda block, x, mask: block(x, memory_of(x), mask),
        "last": lambda block, x, count: block_last(block, x, count, memory_of(x)),
    }


ATTENTIONS = [
    Attention(
        "scaled_dot_product_attention",
        lambda dropout: OfFunction(scaled_dot_product_attention),
        **asking(with_value),
    ),
    Attention("additive_attention", lambda dropout: AdditiveFunction(), **asking(with_value)),
    Attention(
        "AdditiveAttention",
        lambda dropout: AdditiveAttention(WIDTH, WIDTH, 17),
        asking(with_value)["whole"],
        additive_last,
    ),
    Attention("MultiHeadAttention", **multi_head(MultiHeadAttention)),
    Attention("RotaryAttention", **multi_head(RotaryAttention), ordered=True),
    Attention(
        "RelativeAttention", lambda dropout: RelativeAttention(WIDTH, 2), **asking(with_heads), ordered=True
    ),
    Attention(
        "alibi_bias", lambda dropout: OfFunction(attend_with_alibi), **asking(with_value), ordered=True
    ),
    Attention("RelativePositionBias", lambda dropout: WithBuckets(), **asking(with_value), ordered=True),
    Attention("EncoderBlock, pre-norm", **encoder_block(norm_first=True)),
    Attention("EncoderBlock, post-norm", **encoder_block(norm_first=False)),
    Attention("EncoderBlock, rotary", **encoder_block(rotary=True), ordered=True),
    Attention("DecoderBlock, pre-norm", **decoder_block(norm_first=True)),
    Attention("DecoderBlock, post-norm", **decoder_block(norm_first=False)),
]


# ----------------------------------------------------------------------------------------- models

LENGTHS = torch.tensor([SOURCE, 5])
SOURCE_VOCAB, TARGET_VOCAB, PIXELS, PATCH = 17, 19, (6, 10), 2


@dataclass
class Model:
    """A whole model with inputs for it.

    inputs(): its inputs, the batch first in each. cached(model, *inputs): the logits position by position,
    from a state. written: which input is written from left to right.
    """

    name: str
    make: Callable[..., nn.Module]
    inputs: Callable[[], tuple[Tensor, ...]]
    cached: Callable | None = None
    written: int | None = None

    def __str__(self):
        return self.name

    def made(self, dropout=0.0, seed=0, dtype=torch.float64, **options):
        return made(lambda: self.make(dropout=dropout, **options), seed, dtype)


def tokens(vocab, *shape, seed):
    return torch.randint(1, vocab, shape, generator=torch.Generator().manual_seed(seed))


def sentences():
    source = tokens(SOURCE_VOCAB, BATCH, SOURCE, seed=1)
    source[torch.arange(SOURCE) >= LENGTHS[:, None]] = 0
    return source, tokens(TARGET_VOCAB, BATCH, LENGTH, seed=2), LENGTHS


def text():
    return (tokens(TARGET_VOCAB, BATCH, LENGTH, seed=3),)


def images():
    return (torch.rand(BATCH, 5, *PIXELS, generator=torch.Generator().manual_seed(4), dtype=torch.float64),)


def translate_in_steps(model, source, target, lengths):
    memory = model.encode(source, lengths)
    state, logits = memory.initial_state, []
    for token in target.unbind(1):
        step, state = model.step(token, state, memory)
        logits.append(step)
    return torch.stack(logits, dim=1)


def write_in_steps(model, tokens):
    state, logits = model.initial_state(len(tokens)), []
    for token in tokens.split(1, dim=1):
        step, state = model.step(token, state)
        logits.append(step)
    return torch.stack(logits, dim=1)


SIZES = {"d_model": WIDTH, "num_heads": HEADS, "num_blocks": 2, "d_ff": D_FF}


def translator(kind, config, **options):
    def make(**more):
        return kind(config(SOURCE_VOCAB, TARGET_VOCAB, **(options | more)))

    return {"make": make, "inputs": sentences, "cached": translate_in_steps, "written": 1}


def recurrent(attention):
    sizes = {"embedding_size": 5, "hidden_size": 14, "attention_size": 3}
    return translator(Seq2Seq, Seq2SeqConfig, attention=attention, **sizes)


def gpt(positions):
    def make(**more):
        return GPT(GPTConfig(TARGET_VOCAB, 13, positions=positions, **(SIZES | more)))

    return {"make": make, "inputs": text, "cached": write_in_steps, "written": 0}


def vit(**more):
    sizes = {"image_size": PIXELS, "patch_size": PATCH, "num_classes": 23, "num_channels": 5}
    return ViT(ViTConfig(**(sizes | SIZES | more)))


MODELS = [
    Model("Seq2Seq, one vector", **recurrent(False)),
    Model("Seq2Seq, attention", **recurrent(True)),
    Model("Transformer, pre-norm", **translator(Transformer, TransformerConfig, max_length=23, **SIZES)),
    Model(
        "Transformer, post-norm, learned positions",
        **translator(
            Transformer, TransformerConfig, max_length=23, norm_first=False, positions="learned", **SIZES
        ),
    ),
    Model("GPT", **gpt("learned")),
    Model("GPT, rotary", **gpt("rotary")),
    Model("ViT", vit, images),
]
