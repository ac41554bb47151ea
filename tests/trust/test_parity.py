"""Every layer and model beside the reference that it must equal: torch's own, or transformers'.

    PARITY_TABLE=book/results/parity.json make test ARGS=tests/trust/test_parity.py

writes what was found into the file, from which the book makes its page of proofs. How ours and theirs are
compared, and what counts as equal in each dtype, stands in parity.py. No reference is made of our own code.
Each axis has a prime size of its own; where a width must be even, it is the double of a prime.
"""

import datetime
import json
import math
import os
import platform
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from torch import nn
from torch.nn import functional as F
from transformers.models.bloom.modeling_bloom import build_alibi_tensor
from transformers.models.gptj import modeling_gptj
from transformers.models.llama import modeling_llama
from transformers.models.t5.modeling_t5 import T5Attention
from transformers.models.vit.modeling_vit import ViTMLP
from transformers.models.wav2vec2_bert.modeling_wav2vec2_bert import Wav2Vec2BertSelfAttention
from transformers.models.xlm.modeling_xlm import create_sinusoidal_embeddings

from course_lib import attention, positions
from course_lib.attention import AdditiveAttention, MultiHeadAttention, record_attention
from course_lib.layers import DecoderBlock, EncoderBlock, FeedForward, ResidualConnection
from course_lib.models.gpt import GPT, GPTConfig
from course_lib.models.seq2seq import Seq2Seq, Seq2SeqConfig
from course_lib.models.transformer import Transformer, TransformerConfig
from course_lib.models.vit import ViT, ViTConfig, image_to_patches
from course_lib.positions import RelativeAttention, RelativePositionBias, RotaryAttention
from tests import transformers_twins
from tests.masks import MASKS, mask_of
from tests.torch_twins import copy_attention, copy_block, shake
from tests.trust.parity import DTYPES, Call, Distance, Pair, Parity, faults, grid, mean_errors, measure
from tests.trust.torch_models import (
    TorchSeq2Seq,
    TorchTransformer,
    copy_seq2seq,
    copy_transformer,
    score_pairs,
)

STORED = Path(__file__).parents[2] / "book" / "results" / "parity.json"
PARITIES: list[Parity] = []


def equals(layer, reference, configurations):
    """Enter the function below, which makes a Pair of a configuration, into the table."""

    def enter(make):
        PARITIES.append(Parity(layer, reference, make, configurations))
        return make

    return enter


def normal(*shape):
    return torch.randn(shape, dtype=torch.float64)


# ----------------------------------------------------------------------------------------- attention

# batch axes, queries, keys, d_k, d_v
SHAPES = [((2, 3), 5, 7, 11, 13), ((3, 2), 7, 5, 13, 11), ((2, 3), 1, 5, 7, 11), ((3, 1), 7, 1, 1, 5)]
SHAPES += [((5,), 3, 7, 11, 2)]
OTHERS = [((), 7, 11, 3, 5), ((2, 3, 5), 7, 11, 13, 17)]  # a mask of padding says nothing of such a batch


@equals("dot_score", "torch.linalg.vecdot of each pair", grid(sizes=SHAPES + OTHERS))
def dot_score(sizes):
    batch, num_queries, num_keys, d_k, _ = sizes
    inputs = normal(*batch, num_queries, d_k), normal(*batch, num_keys, d_k)
    pairs = lambda q, k: torch.linalg.vecdot(q.unsqueeze(-2), k.unsqueeze(-3))  # noqa: E731
    return Pair(Call(attention.dot_score), Call(pairs), inputs)


@equals("bilinear_score", "torch.nn.Bilinear", grid(sizes=SHAPES + OTHERS))
def bilinear_score(sizes):
    batch, num_queries, num_keys, d_query, d_key = sizes
    inputs = normal(*batch, num_queries, d_query), normal(*batch, num_keys, d_key), normal(d_query, d_key)

    def pairs(query, key, weight):
        shape = (*batch, num_queries, num_keys, -1)
        query, key = query.unsqueeze(-2).expand(shape), key.unsqueeze(-3).expand(shape)
        return F.bilinear(query.contiguous(), key.contiguous(), weight[None]).squeeze(-1)

    return Pair(Call(attention.bilinear_score), Call(pairs), inputs)


def fitted(kind, batch, num_queries, num_keys):
    """A mask, and the same for torch, which knows no padding mask of scores without heads."""
    mask = mask_of(kind, batch, num_queries, num_keys)
    return mask, mask[:, 0] if kind == "padding" and len(batch) == 1 else mask


@equals(
    "masked_softmax",
    "torch.masked.softmax",
    grid(sizes=SHAPES, kind=MASKS[:-1], largest=[1.0, 30.0])
    + grid(sizes=OTHERS, kind=["none", "causal", "random"], largest=[1.0, 30.0]),
)
def masked_softmax(sizes, kind, largest):
    batch, num_queries, num_keys = sizes[:3]
    mask, their_mask = fitted(kind, batch, num_queries, num_keys)
    if kind == "causal":  # rows of nothing are NaN there; torch's fused attention has them, below
        mask = their_mask = mask | (torch.arange(num_keys) == 0)

    def theirs(scores):
        if mask is None:
            return torch.masked.softmax(scores, -1)
        return torch.masked.softmax(scores, -1, mask=their_mask.expand(scores.shape))

    scores = largest * normal(*batch, num_queries, num_keys)
    return Pair(Call(partial(attention.masked_softmax, mask=mask)), Call(theirs), (scores,))


@equals(
    "scaled_dot_product_attention",
    "torch.nn.functional.scaled_dot_product_attention",
    grid(sizes=SHAPES, scale=[None, 0.3], kind=MASKS)
    + grid(sizes=OTHERS, scale=[None, 0.3], kind=["none", "causal", "random", "empty rows"]),
)
def scaled_dot_product_attention(sizes, scale, kind):
    batch, num_queries, num_keys, d_k, d_v = sizes
    mask, their_mask = fitted(kind, batch, num_queries, num_keys)

    def theirs(query, key, value):
        attend = partial(F.scaled_dot_product_attention, attn_mask=their_mask, scale=scale)
        identity = torch.eye(num_keys).to(value).expand(*batch, -1, -1)
        # With the identity for values the output is the weights.
        return attend(query, key, value), attend(query, key, identity)

    inputs = normal(*batch, num_queries, d_k), normal(*batch, num_keys, d_k), normal(*batch, num_keys, d_v)
    ours = partial(attention.scaled_dot_product_attention, mask=mask, scale=scale)
    return Pair(Call(ours), Call(theirs), inputs)


def weighted_by_torch(scores, value, mask):
    """softmax(scores) value by torch's fused kernel: the scores are its additive mask, the queries zero."""
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    nothing = value.new_zeros(*scores.shape[:-1], 1), value.new_zeros(*value.shape[:-1], 1)
    return F.scaled_dot_product_attention(*nothing, value, attn_mask=scores)


@equals(
    "AdditiveAttention",
    "torch.nn.Sequential on each pair [query; key], torch's fused attention",
    grid(
        sizes=[(2, 5, 7, 11, 13, 17, 19), (3, 7, 5, 13, 11, 2, 23), (2, 1, 3, 5, 7, 13, 11)],
        kind=MASKS,
        projected=[False, True],
    ),
)
def additive_attention(sizes, kind, projected):
    batch, num_queries, num_keys, d_query, d_key, d_v, hidden = sizes
    ours = shake(AdditiveAttention(d_query, d_key, hidden))
    linears = nn.Linear(d_query + d_key, hidden, bias=False), nn.Linear(hidden, 1, bias=False)
    mask, their_mask = fitted(kind, (batch,), num_queries, num_keys)

    def call(layer, query, key, value):
        return layer(query, key, value, mask, layer.project_keys(key) if projected else None)[0]

    def theirs(scorer, query, key, value):
        return weighted_by_torch(score_pairs(scorer, query, key), value, their_mask)

    def copy_weights(ours, theirs):
        both = ours.query_projection.weight.data, ours.key_projection.weight.data
        theirs[0].weight.data = torch.cat(both, dim=1)
        theirs[2].weight.data = ours.score_projection.weight.data

    scorer = nn.Sequential(linears[0], nn.Tanh(), linears[1])
    inputs = normal(batch, num_queries, d_query), normal(batch, num_keys, d_key), normal(batch, num_keys, d_v)
    return Pair(Call(call, ours), Call(theirs, scorer), inputs, copy_weights)


@equals(
    "MultiHeadAttention",
    "torch.nn.MultiheadAttention",
    grid(
        sizes=[(2, 5, 7, 3, 11), (3, 7, 5, 2, 13), (2, 1, 5, 7, 3)],  # batch, queries, keys, heads, d_k
        inputs=["self", "cross", "three"],
        bias=[True, False],
        kind=MASKS,
    ),
)
def multi_head_attention(sizes, inputs, bias, kind):
    batch, num_queries, num_keys, heads, d_k = sizes
    num_keys = num_queries if inputs == "self" else num_keys
    d_model = heads * d_k
    ours = shake(MultiHeadAttention(d_model, heads, bias=bias))
    theirs = nn.MultiheadAttention(d_model, heads, bias=bias, batch_first=True)
    mask = mask_of(kind, (batch, heads), num_queries, num_keys)
    # PyTorch's layer wants True where a query may NOT attend, and batch and head in one axis.
    forbidden = None
    if mask is not None:
        forbidden = ~mask.expand(batch, heads, num_queries, num_keys).flatten(0, 1)

    def call(layer, *tensors):
        with record_attention(layer) as maps:
            layer(*tensors, mask=mask)
        return layer(*tensors, mask=mask), maps[""]

    def call_theirs(layer, query, key=None, value=None):
        key = query if key is None else key
        tensors = query, key, key if value is None else value
        output, _ = layer(*tensors, attn_mask=forbidden, need_weights=False)
        _, weights = layer(*tensors, attn_mask=forbidden, average_attn_weights=False)
        return output, weights.detach().nan_to_num(0.0)  # NaN where a query may attend to nothing

    tensors = [normal(batch, count, d_model) for count in (num_queries, num_keys, num_keys)]
    count = {"self": 1, "cross": 2, "three": 3}[inputs]
    return Pair(Call(call, ours), Call(call_theirs, theirs), tuple(tensors[:count]), copy_attention)


@equals(
    "RotaryAttention",
    "transformers' LlamaAttention, its angles in float64",
    grid(sizes=[(2, 7, 3, 22), (3, 5, 2, 26), (2, 1, 7, 2)], kind=MASKS[:-1], bias=[True, False]),
)
def rotary_attention(sizes, kind, bias):
    batch, length, heads, d_k = sizes
    ours = shake(RotaryAttention(heads * d_k, heads, bias=bias))
    config = transformers.LlamaConfig(
        hidden_size=heads * d_k, num_attention_heads=heads, attention_bias=bias, attn_implementation="sdpa"
    )
    mask = mask_of(kind, (batch, heads), length, length)
    allowed = torch.ones(1, 1, length, length, dtype=torch.bool) if mask is None else mask
    codes = transformers_twins.RotaryCodes(d_k)

    def theirs(layer, x):
        shaped = allowed.expand(batch, -1, length, -1) if allowed.dim() == 4 else allowed
        return layer(x, codes(x, torch.arange(length)[None]), shaped)[0]

    return Pair(
        Call(lambda layer, x: layer(x, mask=mask), ours),
        Call(theirs, modeling_llama.LlamaAttention(config, layer_idx=0)),
        (normal(batch, length, heads * d_k),),
        transformers_twins.copy_attention,
    )


@equals(
    "RelativeAttention",
    "torch's fused attention, keys and values of each query with their torch.nn.Embedding added",
    grid(
        sizes=[(2, 3, 11, 11, 5, 7, 2), (2, 3, 5, 7, 11, 13, 3), (3, 2, 1, 7, 5, 2, 3)],
        kind=[kind for kind in MASKS if kind != "padding"],
    ),
)
def relative_attention(sizes, kind):
    batch, heads, num_queries, num_keys, d_k, d_v, furthest = sizes
    ours = shake(RelativeAttention(d_k, furthest, d_v))
    tables = nn.ModuleList(nn.Embedding(2 * furthest + 1, width) for width in (d_k, d_v))
    mask = mask_of(kind, (batch, heads), num_queries, num_keys)
    rows = [
        [max(-furthest, min(furthest, j - i - (num_keys - num_queries))) + furthest for j in range(num_keys)]
        for i in range(num_queries)
    ]

    def theirs(tables, query, key, value):
        key, value = (
            x[:, :, None] + table(torch.tensor(rows)) for x, table in zip((key, value), tables, strict=True)
        )
        fitted = None if mask is None else mask.expand(batch, heads, -1, -1).unsqueeze(-2)
        return F.scaled_dot_product_attention(query.unsqueeze(-2), key, value, fitted).squeeze(-2)

    def copy_weights(ours, theirs):
        theirs[0].weight.data, theirs[1].weight.data = ours.key_embeddings.data, ours.value_embeddings.data

    inputs = normal(batch, heads, num_queries, d_k), normal(batch, heads, num_keys, d_k)
    inputs += (normal(batch, heads, num_keys, d_v),)
    call = lambda layer, *tensors: layer(*tensors, mask)[0]  # noqa: E731
    return Pair(Call(call, ours), Call(theirs, tables), inputs, copy_weights)


@equals(
    "RelativeAttention, values without embeddings",
    "transformers' Wav2Vec2BertSelfAttention, relative_key",
    grid(sizes=[(2, 11, 3, 5), (3, 7, 2, 13), (2, 1, 5, 7)], furthest=[2, 3, 17]),
)
def relative_keys(sizes, furthest):
    batch, length, heads, d_k = sizes
    ours = shake(RelativeAttention(d_k, furthest))
    nn.init.zeros_(ours.value_embeddings)
    config = transformers.Wav2Vec2BertConfig(
        hidden_size=heads * d_k,
        num_attention_heads=heads,
        position_embeddings_type="relative_key",
        left_max_position_embeddings=furthest,
        right_max_position_embeddings=furthest,
    )
    theirs = Wav2Vec2BertSelfAttention(config)
    for linear in (theirs.linear_q, theirs.linear_k, theirs.linear_v, theirs.linear_out):
        nn.init.eye_(linear.weight.requires_grad_(False))
        nn.init.zeros_(linear.bias.requires_grad_(False))

    def call(layer, x):
        x = x.unflatten(-1, (heads, d_k)).transpose(1, 2)
        return layer(x, x, x)[0].transpose(1, 2).flatten(2)

    def copy_weights(ours, theirs):
        theirs.distance_embedding.weight.data = ours.key_embeddings.data

    their_call = Call(lambda layer, x: layer(x)[0], theirs)
    return Pair(Call(call, ours), their_call, (normal(batch, length, heads * d_k),), copy_weights)


# ----------------------------------------------------------------------------------------- positions


@equals("binary_positions", "numpy.unpackbits", grid(count=[1, 7, 251], bits=[8, 11], offset=[0, 5]))
def binary_positions(count, bits, offset):
    numbers = np.arange(offset, offset + count, dtype="<u2").view(np.uint8).reshape(count, 2)
    code = torch.from_numpy(np.unpackbits(numbers, axis=1, bitorder="little")[:, :bits])
    ours = lambda like: positions.binary_positions(count, bits, offset, like.dtype)  # noqa: E731
    return Pair(Call(ours), Call(code.to), (normal(1),))


@equals(
    "sinusoidal_positions",
    "transformers' create_sinusoidal_embeddings (XLM), which rounds to float32",
    grid(count=[1, 7, 101], d_model=[2, 14, 62], offset=[0, 29]),
)
def sinusoidal_positions(count, d_model, offset):
    theirs = create_sinusoidal_embeddings(offset + count, d_model, torch.empty(offset + count, d_model))

    def ours(like):
        return positions.sinusoidal_positions(count, d_model, offset=offset).to(like)

    return Pair(Call(ours), Call(theirs[offset:].to), (normal(1),))


@equals("LearnedPositions", "torch.nn.Embedding", grid(count=[1, 7, 13], d_model=[2, 11], offset=[0, 5]))
def learned_positions(count, d_model, offset):
    def copy_weights(ours, theirs):
        theirs.weight.data = ours.weight.data

    return Pair(
        Call(lambda layer: layer(count, offset), shake(positions.LearnedPositions(19, d_model))),
        Call(lambda layer: layer(torch.arange(offset, offset + count)), nn.Embedding(19, d_model)),
        (),
        copy_weights,
    )


ROTATIONS = grid(sizes=[(2, 3, 7, 22), (3, 2, 5, 14), (5, 1, 1, 2)], offset=[0, 29, 9_973], base=[1e4, 5e5])


@equals("apply_rotary", "transformers' apply_rotary_pos_emb (Llama), its angles in float64", ROTATIONS)
def rotary_half(sizes, offset, base):
    def theirs(x):
        angles = their_angles(sizes, offset, base).repeat(1, 2)[None]
        return modeling_llama.apply_rotary_pos_emb(x, x, angles.cos().to(x), angles.sin().to(x))[0]

    ours = partial(positions.apply_rotary, offset=offset, base=base)
    return Pair(Call(ours), Call(theirs), (normal(*sizes),))


@equals(
    "apply_rotary, interleaved",
    "transformers' apply_rotary_pos_emb (GPT-J), its angles in float64",
    ROTATIONS,
)
def rotary_interleaved(sizes, offset, base):
    def theirs(x):
        angles = their_angles(sizes, offset, base)[None]
        sin, cos = angles.sin().to(x), angles.cos().to(x)
        # GPT-J has heads after positions.
        return modeling_gptj.apply_rotary_pos_emb(x.transpose(1, 2), sin, cos).transpose(1, 2)

    ours = partial(positions.apply_rotary, offset=offset, base=base, interleaved=True)
    return Pair(Call(ours), Call(theirs), (normal(*sizes),))


def their_angles(sizes, offset, base):
    return transformers_twins.rotary_angles(torch.arange(offset, offset + sizes[-2]), sizes[-1], base)


@equals(
    "RelativePositionBias",
    "transformers' T5Attention.compute_bias",
    grid(
        sizes=[(7, 7, 0), (1, 11, 10), (5, 13, 2), (151, 331, 7)],
        buckets=[(32, 128), (14, 50), (8, 20)],
        bidirectional=[True, False],
    ),
)
def relative_position_bias(sizes, buckets, bidirectional):
    num_queries, num_keys, offset = sizes
    config = transformers.T5Config(
        num_heads=3,
        d_model=15,
        d_kv=5,
        is_decoder=not bidirectional,
        relative_attention_num_buckets=buckets[0],
        relative_attention_max_distance=buckets[1],
    )
    theirs = T5Attention(config, has_relative_attention_bias=True, layer_idx=0)
    for name, parameter in theirs.named_parameters():
        parameter.requires_grad_("bias" in name)

    def copy_weights(ours, theirs):
        theirs.relative_attention_bias.weight.data = ours.weight.data

    return Pair(
        Call(lambda layer: layer(*sizes), shake(RelativePositionBias(3, *buckets, bidirectional))),
        Call(lambda layer: layer.compute_bias(num_queries, num_keys, past_seen_tokens=offset)[0], theirs),
        (),
        copy_weights,
    )


@equals(
    "alibi_bias, in masked_softmax",
    "transformers' build_alibi_tensor (BLOOM), in torch.softmax",
    grid(heads=[1, 2, 3, 5, 7], length=[1, 11, 13]),  # heads whose slopes are exact in float32, as there
)
def alibi_bias(heads, length):
    mask = attention.causal_mask(length)

    def ours(scores):
        return attention.masked_softmax(
            scores + positions.alibi_bias(heads, length, dtype=scores.dtype), mask
        )

    def theirs(scores):
        # Theirs grows with the key's position: another number for each query, which softmax does not see.
        bias = build_alibi_tensor(torch.ones(1, length, dtype=torch.long), heads, scores.dtype)
        return (scores + bias).masked_fill(~mask, -torch.inf).softmax(dim=-1)

    return Pair(Call(ours), Call(theirs), (normal(2, heads, length, length),))


# -------------------------------------------------------------------------------------------- layers

# batch, source, target, heads, d_k, d_ff
BLOCKS = [(2, 7, 5, 3, 11, 13), (3, 5, 7, 2, 13, 17), (2, 1, 1, 5, 3, 7)]
ACTIVATIONS = {"relu": "relu", "gelu": "gelu", "gelu_tanh": partial(F.gelu, approximate="tanh")}


@equals(
    "FeedForward",
    "transformers' ViTMLP",
    grid(activation=list(ACTIVATIONS), sizes=[(7, 11, 13), (2, 17, 5), (3, 1, 7)]),
)
def feed_forward(activation, sizes):
    count, d_model, d_ff = sizes
    config = transformers.ViTConfig(
        hidden_size=d_model,
        intermediate_size=d_ff,
        hidden_act={"gelu_tanh": "gelu_new"}.get(activation, activation),
    )

    def copy_weights(ours, theirs):
        theirs.fc1.load_state_dict(ours.expand.state_dict())
        theirs.fc2.load_state_dict(ours.contract.state_dict())

    ours = shake(FeedForward(d_model, d_ff, activation=activation))
    return Pair(
        Call(lambda layer, x: layer(x), ours),
        Call(lambda layer, x: layer(x), ViTMLP(config)),
        (normal(5, count, d_model),),
        copy_weights,
    )


@equals(
    "ResidualConnection",
    "torch.nn.GroupNorm of one group",
    grid(norm_first=[True, False], sizes=[(2, 7, 11), (3, 5, 7), (1, 1, 13)]),
)
def residual_connection(norm_first, sizes):
    sublayer = normal(sizes[-1], sizes[-1])

    def theirs(norm, x):
        normed = lambda x: norm(x.flatten(0, 1)).view_as(x)  # noqa: E731
        change = lambda x: torch.tanh(x @ sublayer.to(x))  # noqa: E731
        return x + change(normed(x)) if norm_first else normed(x + change(x))

    def copy_weights(ours, theirs):
        theirs.load_state_dict(ours.norm.state_dict())

    return Pair(
        Call(
            lambda layer, x: layer(x, lambda x: torch.tanh(x @ sublayer.to(x))),
            shake(ResidualConnection(sizes[-1], norm_first=norm_first)),
        ),
        Call(theirs, nn.GroupNorm(1, sizes[-1])),
        (normal(*sizes),),
        copy_weights,
    )


@equals(
    "EncoderBlock",
    "torch.nn.TransformerEncoderLayer",
    grid(norm_first=[True, False], activation=list(ACTIVATIONS), kind=MASKS[:-1], sizes=BLOCKS),
)
def encoder_block(norm_first, activation, kind, sizes):
    batch, length, _, heads, d_k, d_ff = sizes
    d_model = heads * d_k
    mask = mask_of(kind, (batch, heads), length, length)
    forbidden = None if mask is None else ~mask.expand(batch, heads, length, length).flatten(0, 1)
    theirs = nn.TransformerEncoderLayer(
        d_model, heads, d_ff, 0.0, ACTIVATIONS[activation], batch_first=True, norm_first=norm_first
    )
    return Pair(
        Call(
            lambda block, x: block(x, mask),
            shake(EncoderBlock(d_model, heads, d_ff, 0.0, norm_first, activation)),
        ),
        Call(lambda block, x: block(x, src_mask=forbidden), theirs),
        (normal(batch, length, d_model),),
        copy_block,
    )


@equals(
    "DecoderBlock",
    "torch.nn.TransformerDecoderLayer",
    grid(
        norm_first=[True, False],
        activation=list(ACTIVATIONS),
        kinds=[("causal", "padding"), ("none", "none"), ("random", "random")],
        sizes=BLOCKS,
    ),
)
def decoder_block(norm_first, activation, kinds, sizes):
    batch, source, target, heads, d_k, d_ff = sizes
    d_model = heads * d_k
    masks = [
        mask_of(kinds[0], (batch, heads), target, target),
        mask_of(kinds[1], (batch, heads), target, source),
    ]
    forbidden = [
        None if mask is None else ~mask.expand(batch, heads, target, keys).flatten(0, 1)
        for mask, keys in zip(masks, (target, source), strict=True)
    ]
    theirs = nn.TransformerDecoderLayer(
        d_model, heads, d_ff, 0.0, ACTIVATIONS[activation], batch_first=True, norm_first=norm_first
    )
    return Pair(
        Call(
            lambda block, x, memory: block(x, memory, *masks),
            shake(DecoderBlock(d_model, heads, d_ff, 0.0, norm_first, activation)),
        ),
        Call(lambda block, x, memory: block(x, memory, *forbidden), theirs),
        (normal(batch, target, d_model), normal(batch, source, d_model)),
        copy_block,
    )


# -------------------------------------------------------------------------------------------- models


@equals(
    "Seq2Seq",
    "torch.nn.GRUCell, sentence by sentence and token by token",
    grid(
        attention=[True, False],
        bidirectional=[True, False],
        tied_output=[True, False],
        sizes=[(7, 5, (7, 2, 5), 13, 11, 17, 38, 23), (3, 7, (1, 3), 11, 13, 5, 14, 7)],
    ),
)
def seq2seq(attention, bidirectional, tied_output, sizes):
    source, target, lengths, source_vocab, target_vocab, embedding, hidden, size = sizes
    config = Seq2SeqConfig(
        source_vocab, target_vocab, embedding, hidden, size, attention, bidirectional, tied_output
    )
    tokens = (
        torch.randint(source_vocab, (len(lengths), source)),
        torch.randint(target_vocab, (len(lengths), target)),
    )
    return Pair(
        Call(lambda model, *tokens: model(*tokens, torch.tensor(lengths)), shake(Seq2Seq(config))),
        Call(lambda model, *tokens: model(*tokens, lengths), TorchSeq2Seq(config)),
        tokens,
        copy_seq2seq,
    )


@equals(
    "Transformer",
    "torch.nn.Transformer",
    grid(
        norm_first=[True, False],
        positions=["sinusoidal", "learned"],
        tied_output=[True, False],
        # source, target, lengths, vocabularies, heads, d_k, d_ff, blocks
        sizes=[(7, 13, (7, 3, 5), 17, 19, 2, 11, 23, 3), (5, 3, (5, 1), 13, 11, 3, 2, 7, 1)],
    ),
)
def transformer(norm_first, positions, tied_output, sizes):
    source, target, lengths, source_vocab, target_vocab, heads, d_k, d_ff, blocks = sizes
    config = TransformerConfig(
        source_vocab,
        target_vocab,
        d_model=heads * d_k,
        num_heads=heads,
        num_blocks=blocks,
        d_ff=d_ff,
        dropout=0.0,
        max_length=29,
        norm_first=norm_first,
        positions=positions,
        tied_output=tied_output,
    )
    tokens = (
        torch.randint(source_vocab, (len(lengths), source)),
        torch.randint(target_vocab, (len(lengths), target)),
    )
    return Pair(
        Call(lambda model, *tokens: model(*tokens, torch.tensor(lengths)), shake(Transformer(config))),
        Call(lambda model, *tokens: model(*tokens, lengths), TorchTransformer(config)),
        tokens,
        copy_transformer,
    )


# vocab, context, heads, d_k, d_ff, blocks
GPTS = [(17, 13, 3, 22, 23, 3), (19, 11, 5, 14, 3, 1), (23, 17, 1, 58, 31, 2), (29, 7, 2, 62, 37, 2)]


def gpt(sizes, length, their_model, copy_weights, **options):
    vocab, context, heads, d_k, d_ff, blocks = sizes
    config = GPTConfig(vocab, context, heads * d_k, heads, blocks, d_ff, 0.0, **options)
    theirs = Call(lambda model, tokens: model(tokens).logits, their_model(config))
    tokens = torch.randint(vocab, (3, length or context))
    return Pair(
        Call(lambda model, tokens: model(tokens), shake(GPT(config))), theirs, (tokens,), copy_weights
    )


@equals(
    "GPT",
    "transformers' GPT2LMHeadModel",
    grid(sizes=GPTS, length=[None, 5, 1], activation=list(ACTIVATIONS)),
)
def gpt_learned(sizes, length, activation):
    twin, copy_weights = transformers_twins.their_gpt2, transformers_twins.copy_gpt2
    return gpt(sizes, length, twin, copy_weights, activation=activation)


@equals(
    "GPT, rotary positions",
    "transformers' GPTNeoXForCausalLM, its angles in float64",
    grid(sizes=GPTS, length=[None, 5, 1]),
)
def gpt_rotary(sizes, length):
    twin, copy_weights = transformers_twins.their_gpt_neox, transformers_twins.copy_gpt_neox
    return gpt(sizes, length, twin, copy_weights, positions="rotary")


@equals(
    "ViT",
    "transformers' ViTForImageClassification",
    grid(
        # height, width, patch, channels, heads, d_k, d_ff, blocks
        sizes=[(15, 21, 3, 11, 2, 17, 23, 3), (14, 14, 2, 1, 3, 5, 7, 2), (5, 5, 5, 3, 1, 13, 5, 1)],
        readout=["linear", "mlp"],
    ),
)
def vit(sizes, readout):
    height, width, patch, channels, heads, d_k, d_ff, blocks = sizes
    config = ViTConfig(
        (height, width), patch, 13, channels, heads * d_k, heads, blocks, d_ff, readout=readout
    )
    theirs = transformers.ViTForImageClassification(
        transformers_twins.their_vit_config(config, num_labels=13)
    )
    if readout == "mlp":
        linears = [nn.Linear(heads * d_k, out) for out in (heads * d_k, heads * d_k, 13)]
        theirs.classifier = nn.Sequential(linears[0], nn.GELU(), linears[1], nn.GELU(), linears[2])
    else:
        theirs.classifier = nn.Sequential(theirs.classifier)

    def copy_weights(ours, theirs):
        transformers_twins.copy_vit(ours, theirs.vit)
        theirs.classifier.load_state_dict(ours.readout.state_dict())

    def call_theirs(model, images):
        return model(pixel_values=images).logits, model.vit(pixel_values=images).last_hidden_state

    images = torch.rand(2, channels, height, width, dtype=torch.float64)
    return Pair(
        Call(lambda model, images: (model(images), model.encode(images)), shake(ViT(config))),
        Call(call_theirs, theirs),
        (images,),
        copy_weights,
    )


@equals(
    "image_to_patches",
    "torch.nn.functional.unfold",
    grid(sizes=[(2, 11, 15, 21, 3), (3, 1, 14, 2, 2), (5, 3, 7, 7, 7), (1, 2, 3, 5, 1)]),
)
def patches(sizes):
    *shape, patch = sizes
    unfold = lambda x: F.unfold(x, patch, stride=patch).transpose(1, 2)  # noqa: E731
    return Pair(Call(partial(image_to_patches, patch_size=patch)), Call(unfold), (normal(*shape),))


# ----------------------------------------------------------------------------------------- the tests


@pytest.fixture(scope="module")
def found():
    """What the tests below find; written into a file at the end, if one is named and nothing is missing."""
    rows = {}
    yield rows
    path = os.environ.get("PARITY_TABLE")
    if path and len(rows) == len(PARITIES) * len(DTYPES):
        write_table(list(rows.values()), Path(path))


def write_table(rows, path):
    name = platform.processor()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), name)
    table = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": "PARITY_TABLE=book/results/parity.json make test ARGS=tests/trust/test_parity.py",
        "machine": {
            "processor": name or platform.machine(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "python": platform.python_version(),
        },
        "rows": rows,
    }
    temporary = path.with_name(path.name + ".part")
    temporary.write_text(json.dumps(table, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(temporary, path)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("parity", PARITIES, ids=lambda parity: parity.layer)
def test_layer_equals_its_reference(parity, dtype, found):
    values, gradients, wrong = [], [], []
    for configuration in parity.configurations:
        for kind, found_here in zip((values, gradients), measure(parity, configuration, dtype), strict=True):
            kind += found_here
    wrong = [*faults(values, dtype), *(faults(gradients, dtype) if gradients else [])]
    assert not wrong, f"{len(wrong)} too far from {parity.reference}, among them {wrong[:7]}"
    found[parity.layer, dtype] = {
        "layer": parity.layer,
        "reference": parity.reference,
        "dtype": str(dtype).removeprefix("torch."),
        "configurations": len(parity.configurations),
        "values": max(distance.apart for distance in values),
        "gradients": max((distance.apart for distance in gradients), default=None),
        # The root mean square of our errors of values and gradients, and of the reference's.
        "errors": mean_errors(values + gradients),
    }


def test_the_stored_table_is_of_these_configurations():
    table = json.loads(STORED.read_text(encoding="utf-8"))
    stored = [(row["layer"], row["reference"], row["dtype"], row["configurations"]) for row in table["rows"]]
    expected = [
        (parity.layer, parity.reference, str(dtype).removeprefix("torch."), len(parity.configurations))
        for parity in PARITIES
        for dtype in DTYPES
    ]
    assert sorted(stored) == sorted(expected), f"run {table['command']}"
    assert sum(len(parity.configurations) for parity in PARITIES) >= 300


def test_what_is_too_far():
    """The comparison itself: what it lets pass, and what not."""

    def distance(apart, ours, theirs):
        return Distance("x", apart, ours, theirs)

    same, nan = distance(0.0, 0.0, 0.0), distance(math.nan, math.nan, 0.0)
    for dtype in DTYPES:
        assert faults([same] * 3, dtype) == []
        assert faults([same, nan], dtype)
    assert faults([same, distance(1e-10, 0.0, 0.0)], torch.float64)
    # In few bits an error is right if the reference has it too, and one of many may be a matter of luck.
    assert faults([distance(0.1, 0.1, 0.1)] * 3, torch.bfloat16) == []
    assert faults([distance(0.1, 0.1, 0.01)] * 3, torch.bfloat16)
    assert faults([distance(0.1, 0.1, 0.01)] + [distance(0.1, 0.01, 0.01)] * 99, torch.bfloat16) == []
    assert faults([distance(1.0, 1.0, 0.01)] + [same] * 9999, torch.bfloat16)


def test_a_layer_that_is_not_quite_its_reference_is_seen():
    """One mistake each, of those that are made: the comparison must find it in every dtype."""
    by_layer = {parity.layer: parity for parity in PARITIES}

    def found(layer, breaks, dtype):
        parity = by_layer[layer]

        def make(**configuration):
            pair = parity.make(**configuration)
            breaks(pair.ours.module)
            return pair

        broken = Parity(layer, parity.reference, make, parity.configurations[:3])
        measured = [measure(broken, configuration, dtype) for configuration in broken.configurations]
        return [fault for kind in zip(*measured, strict=True) for fault in faults([*chain(*kind)], dtype)]

    def larger_eps(block):
        block.attention_residual.norm.eps = 0.1

    def another_bend(model):
        for block in model.blocks:
            block.feed_forward.activation = nn.GELU()

    def no_scale(layer):
        layer._mark_positions = lambda query, key: (query * layer.d_k**0.5, key)

    def blind(block):
        block.forward = lambda x, memory, mask, memory_mask: DecoderBlock.forward(block, x, memory)

    def other_norm(block):
        block.feed_forward_residual.norm_first = not block.feed_forward_residual.norm_first

    for dtype in DTYPES:
        for layer, breaks in (
            ("EncoderBlock", larger_eps),
            ("GPT", another_bend),
            ("MultiHeadAttention", no_scale),
            ("DecoderBlock", blind),
            ("DecoderBlock", other_norm),
        ):
            assert found(layer, breaks, dtype), f"{breaks.__name__} in {dtype}"
