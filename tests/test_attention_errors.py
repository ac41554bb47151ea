"""Bad calls of the attention library: each must name what was wrong, with its shapes, and what to do."""

import numpy as np
import pytest
import torch

from course_lib import attention
from course_lib.attention import AdditiveAttention, MultiHeadAttention
from tests.bad_calls import assert_refused, each_bad_call

pytestmark = pytest.mark.usefixtures("unchecked_shapes")

NAN = float("nan")


def t(*shape, dtype=torch.float32):
    return torch.ones(shape, dtype=dtype)


def array(*values, dtype=np.int64):
    """A NumPy array, or for a single value a number of NumPy."""
    return dtype(values[0]) if len(values) == 1 else np.array(values, dtype=dtype)


def allow(*shape):
    return torch.ones(shape, dtype=torch.bool)


def attend(query, key, value, mask=None):
    return attention.scaled_dot_product_attention(query, key, value, mask)


def scale(number):
    return attention.scaled_dot_product_attention(t(5, 7), t(3, 7), t(3, 11), scale=number)


def add(query=(2, 3, 7), key=(2, 5, 11), value=(2, 5, 17), w=(13, 7), u=(13, 11), v=(13,), mask=None):
    """additive_attention on tensors, or ones of the shapes given."""
    tensors = [t(*x) if isinstance(x, tuple) else x for x in (query, key, value, w, u, v)]
    return attention.additive_attention(*tensors, mask)


def layer(query=(2, 3, 7), key=(2, 5, 11), value=(2, 5, 17), mask=None, projected_key=None):
    tensors = [t(*x) if isinstance(x, tuple) else x for x in (query, key, value)]
    return AdditiveAttention(7, 11, 13)(*tensors, mask, projected_key)


def heads(*tensors, **kwargs):
    """A layer of width 6 with 3 heads, on tensors or ones of the shapes given."""
    tensors = [t(*x) if isinstance(x, tuple) else x for x in tensors]
    return MultiHeadAttention(6, 3)(*tensors, **kwargs)


def of_heads(num_keys, num_values):
    """Keys and values as the layer above would project them."""
    return t(2, 3, num_keys, 2), t(2, 3, num_values, 2)


def record(module):
    with attention.record_attention(module):
        pass


def names():
    """What the texts below may use: the names of the library and of this file."""
    return {**vars(attention), **globals()}


V, T = ValueError, TypeError
WHOLE, DTYPE, AXES, MASK = (
    "must be an int",
    "one floating-point dtype",
    "axes (..., position, width)",
    "boolean tensor",
)

# The call as text, so that the table reads as what a learner would type: its error, and what that must say.
BAD_CALLS = [
    # masks
    ("causal_mask(-1)", V, ["num_queries", "at least 0", "-1"]),
    ("causal_mask(3, -2)", V, ["num_keys", "at least 0", "-2"]),
    ("causal_mask(3.0)", V, ["num_queries", WHOLE, "3.0"]),
    ("causal_mask(3, 2.5)", V, ["num_keys", WHOLE, "2.5"]),
    ("causal_mask(NAN)", V, [WHOLE, "nan"]),
    ("causal_mask(True)", V, [WHOLE, "True"]),
    ("causal_mask(None)", V, [WHOLE, "None"]),
    ("causal_mask('3')", V, [WHOLE, "'3'"]),
    ("causal_mask(array(3, dtype=np.float64))", V, [WHOLE, "3.0"]),
    ("causal_mask(array(1, dtype=np.bool_))", V, [WHOLE, "True"]),
    ("causal_mask(array(-3))", V, ["at least 0", "-3"]),
    ("causal_mask(t(3, 5))", V, [WHOLE, "tensor"]),
    ("sliding_window_mask(5, 0)", V, ["window", "at least 1", "got 0"]),
    ("sliding_window_mask(-5, 2)", V, ["length", "at least 0", "-5"]),
    ("sliding_window_mask(5, 2**31)", V, ["window is 2147483648", "at most 2147483647"]),
    ("sliding_window_mask(5, NAN)", V, ["window", WHOLE, "nan"]),
    ("sliding_window_mask(3.5, 1)", V, ["length", WHOLE, "3.5"]),
    ("sliding_window_mask(5, None)", V, ["window", WHOLE, "None"]),
    ("padding_mask([])", V, ["one whole number for each sentence", "[]"]),
    ("padding_mask(torch.zeros(0, dtype=torch.int64))", V, ["one whole number for each sentence"]),
    ("padding_mask(5)", V, ["one whole number for each sentence", "got 5"]),
    ("padding_mask(None)", V, ["one whole number for each sentence", "None"]),
    ("padding_mask([None])", V, ["one whole number for each sentence", "[None]"]),
    ("padding_mask(['three'])", V, ["one whole number for each sentence", "['three']"]),
    ("padding_mask('35')", V, ["one whole number for each sentence", "'35'"]),
    ("padding_mask([[3, 5]])", V, ["one whole number for each sentence", "[[3, 5]]"]),
    ("padding_mask([[3], [5, 7]])", V, ["one whole number for each sentence", "[[3], [5, 7]]"]),
    ("padding_mask([3.0, 5.0])", V, ["one whole number for each sentence", "[3.0, 5.0]"]),
    ("padding_mask(torch.tensor([3.0, NAN]))", V, ["one whole number for each sentence", "nan"]),
    ("padding_mask([True, False])", V, ["one whole number for each sentence", "[True, False]"]),
    ("padding_mask({3: 5})", V, ["one whole number for each sentence", "{3: 5}"]),
    (
        "padding_mask(torch.ones(2, 5, dtype=torch.int64))",
        V,
        ["one whole number for each sentence", "[1, 1,"],
    ),
    ("padding_mask(torch.tensor([3, 5]).to_sparse())", V, ["one whole number for each sentence"]),
    ("padding_mask([3, -1])", V, ["between 0 and max_length=3", "[3, -1]"]),
    ("padding_mask([3, 7], 5)", V, ["between 0 and max_length=5", "[3, 7]"]),
    ("padding_mask([3, 4], 4.5)", V, ["max_length", WHOLE, "4.5"]),
    ("padding_mask([3, 4], -1)", V, ["max_length", "at least 0", "-1"]),
    ("causal_mask(3, device='moon')", V, ["device", "this machine has", "'moon'"]),
    ("causal_mask(3, 5, 77)", V, ["device", "this machine has", "77"]),
    ("causal_mask(3, device=0.5)", V, ["device", "this machine has", "0.5"]),
    ("causal_mask(3, device='cuda:77')", V, ["device", "this machine has", "'cuda:77'"]),
    ("sliding_window_mask(5, 2, 'moon')", V, ["device", "this machine has", "'moon'"]),
    # masked_softmax and its mask
    ("masked_softmax(None)", T, ["scores", "NoneType"]),
    ("masked_softmax([0.5, 0.5])", T, ["scores", "list"]),
    ("masked_softmax(t(3, 5).long())", T, ["scores", DTYPE, "torch.int64", "(3, 5)"]),
    ("masked_softmax(t(3, 5, dtype=torch.complex64))", T, ["scores", DTYPE, "complex64"]),
    ("masked_softmax(t(3, 5), t(3, 5))", T, [MASK, "torch.float32 of shape (3, 5)", "mask == 0", "(3, 5)"]),
    ("masked_softmax(t(3, 5), t(3, 5).long())", T, [MASK, "torch.int64 of shape (3, 5)", "mask != 0"]),
    ("masked_softmax(t(3, 5), t(3, 5).byte())", T, [MASK, "torch.uint8", "mask != 0"]),
    ("masked_softmax(t(3, 5), [[True] * 5] * 3)", T, [MASK, "got list", "(3, 5)"]),
    ("masked_softmax(t(3, 5), True)", T, [MASK, "got bool"]),
    ("masked_softmax(t(3, 5), 'causal')", T, [MASK, "got str"]),
    ("masked_softmax(t(3, 5), allow(3, 5).numpy())", T, [MASK, "got ndarray"]),
    ("masked_softmax(t(3, 5), allow(5, 3))", V, ["(5, 3)", "(3, 5)", "query and key"]),
    ("masked_softmax(t(3, 5), allow(2, 3, 5))", V, ["(2, 3, 5)", "(3, 5)"]),
    ("masked_softmax(t(1, 5), allow(3, 5))", V, ["(3, 5)", "(1, 5)"]),
    ("masked_softmax(torch.tensor(1.0), allow(3, 5))", V, ["(3, 5)", "()"]),
    ("masked_softmax(t(2, 3, 5), allow(2, 5))", V, ["(2, 5)", "(2, 3, 5)", "mask[:, None, None, :]"]),
    ("masked_softmax(t(2, 3, 5, 7), allow(2, 7))", V, ["(2, 7)", "(2, 3, 5, 7)", "mask[:, None, None, :]"]),
    ("masked_softmax(t(2, 3, 5, 7), allow(2, 5, 7))", V, ["(2, 5, 7)", "(2, 3, 5, 7)", "mask[:, None]"]),
    ("masked_softmax(t(2, 3, 5, 7), allow(2, 11, 5, 7))", V, ["(2, 11, 5, 7)", "(2, 3, 5, 7)"]),
    ("masked_softmax(t(3, 5), allow(3, 5).to('meta'))", V, ["device of the scores, cpu", "on meta"]),
    ("masked_softmax(t(3, 5), allow(3, 5).to_sparse())", V, ["dense tensor", "torch.sparse_coo"]),
    # scores
    ("dot_score(t(5, 7), t(3, 11))", V, ["width", "(5, 7)", "(3, 11)", "nn.Linear"]),
    ("dot_score(t(5, 0), t(3, 0))", V, ["width of at least 1", "(5, 0)", "(3, 0)"]),
    ("dot_score(t(2, 5, 0), t(2, 3, 0))", V, ["width of at least 1", "(2, 5, 0)", "(2, 3, 0)"]),
    ("dot_score(t(2, 5, 7), t(3, 5, 7))", V, [AXES, "(2, 5, 7)", "(3, 5, 7)"]),
    ("dot_score(t(2, 5, 7), t(1, 5, 7))", V, [AXES, "(2, 5, 7)", "(1, 5, 7)"]),
    ("dot_score(t(5, 7), t(7))", V, [AXES, "(5, 7)", "(7,)"]),
    ("dot_score(t(7), t(7))", V, [AXES, "(7,)"]),
    (
        "dot_score(t(5, 7), t(3, 7).double())",
        T,
        [DTYPE, "torch.float32 (5, 7)", "torch.float64 (3, 7)", ".to("],
    ),
    ("dot_score(t(5, 7).long(), t(3, 7).long())", T, [DTYPE, "torch.int64 (5, 7)"]),
    ("dot_score(t(5, 7).to_sparse(), t(3, 7))", T, ["query torch.sparse_coo, key torch.strided"]),
    ("dot_score([[1.0]], t(3, 1))", T, ["query", "got list"]),
    ("dot_score(t(5, 7), None)", T, ["key", "got NoneType"]),
    ("bilinear_score(t(5, 7), t(3, 11), t(11, 7))", V, ["(query width, key width) = (7, 11)", "(11, 7)"]),
    ("bilinear_score(t(2, 5, 7), t(2, 3, 11), t(2, 7, 11))", V, ["(7, 11)", "(2, 7, 11)"]),
    ("bilinear_score(t(5, 7), t(3, 11), t(7))", V, ["(7, 11)", "(7,)"]),
    ("bilinear_score(t(5, 7), t(3, 11), t(7, 11).double())", T, ["weight torch.float64 (7, 11)"]),
    ("bilinear_score(t(5, 7), t(3, 11), None)", T, ["weight", "NoneType"]),
    ("bilinear_score(t(2, 5, 7), t(3, 3, 11), t(7, 11))", V, [AXES, "(2, 5, 7)", "(3, 3, 11)"]),
    ("additive_score(t(5, 7), t(3, 11), t(7))", V, ["hidden width", "(5, 7)", "(3, 11)", "(7,)"]),
    ("additive_score(t(5, 7), t(3, 7), t(11))", V, ["hidden width", "(5, 7)", "(11,)"]),
    ("additive_score(t(5, 7), t(3, 7), t(1, 7))", V, ["hidden width", "(1, 7)"]),
    ("additive_score(t(5, 7), t(3, 7), torch.tensor(1.0))", V, ["hidden width", "()"]),
    ("additive_score(t(5, 7), t(3, 7), t(7).double())", T, [DTYPE, "score_weight torch.float64 (7,)"]),
    ("additive_score(t(5, 7), t(3, 7), [1.0] * 7)", T, ["score_weight", "list"]),
    # scaled dot-product attention
    ("attend(t(5, 7), t(3, 7), t(5, 11))", V, ["one value for each key", "(3, 7)", "(5, 11)", "3 keys"]),
    ("attend(t(5, 0), t(3, 0), t(3, 13))", V, ["width of at least 1", "(5, 0)", "(3, 0)"]),
    ("attend(t(5, 7), t(3, 11), t(3, 13))", V, ["width", "(5, 7)", "(3, 11)"]),
    ("attend(t(2, 5, 7), t(3, 5, 7), t(3, 5, 7))", V, [AXES, "(2, 5, 7)", "(3, 5, 7)"]),
    ("attend(t(2, 5, 7), t(2, 3, 7), t(3, 11))", V, [AXES, "(2, 3, 7)", "(3, 11)"]),
    ("attend(t(7), t(3, 7), t(3, 7))", V, [AXES, "(7,)", "(3, 7)"]),
    ("attend(torch.tensor(1.0), t(3, 7), t(3, 7))", V, [AXES, "()"]),
    ("attend(t(5, 7).long(), t(3, 7), t(3, 11))", T, [DTYPE, "query torch.int64 (5, 7)"]),
    ("attend(t(5, 7), t(3, 7), t(3, 11).double())", T, [DTYPE, "value torch.float64 (3, 11)"]),
    ("attend(None, t(3, 7), t(3, 11))", T, ["query", "NoneType"]),
    ("attend(t(5, 7), t(3, 7), t(3, 11), t(5, 3))", T, [MASK, "(5, 3)"]),
    ("attend(t(5, 7), t(3, 7), t(3, 11), allow(3, 5))", V, ["(3, 5)", "(5, 3)"]),
    ("attend(t(2, 5, 7), t(2, 3, 7), t(2, 3, 11), padding_mask([4, 2]))", V, ["(2, 1, 1, 4)", "(2, 5, 3)"]),
    ("scale(NAN)", V, ["scale", "one finite number", "nan"]),
    ("scale(float('inf'))", V, ["scale", "one finite number", "inf"]),
    ("scale(-float('inf'))", V, ["scale", "one finite number", "-inf"]),
    ("scale('2')", V, ["scale", "one finite number", "'2'"]),
    ("scale(True)", V, ["scale", "one finite number", "True"]),
    ("scale(t(7))", V, ["scale", "one finite number", "tensor"]),
    ("scale(t(5, 7))", V, ["scale", "one finite number", "tensor"]),
    ("scale(allow(5, 3))", V, ["scale", "one finite number", "tensor"]),
    # additive attention
    ("add(w=(13, 5))", V, ["query has shape (2, 3, 7)", "(13, 5)", "one width for both"]),
    ("add(u=(13, 7))", V, ["key has shape (2, 5, 11)", "(13, 7)"]),
    ("add(w=(7,))", V, ["(2, 3, 7)", "(7,)"]),
    ("add(w=(2, 13, 7))", V, ["(2, 3, 7)", "(2, 13, 7)"]),
    ("add(u=(17, 11))", V, ["hidden width", "(2, 3, 13)", "(2, 5, 17)", "(13,)"]),
    ("add(v=(1, 13))", V, ["hidden width", "(1, 13)"]),
    ("add(value=(2, 7, 17))", V, ["one value for each key", "(2, 5, 11)", "(2, 7, 17)"]),
    ("add(key=(3, 5, 11), value=(3, 5, 17))", V, [AXES, "(2, 3, 13)", "(3, 5, 13)"]),
    ("add(query=t(2, 3, 7).double())", T, [DTYPE, "query torch.float64 (2, 3, 7)", "torch.float32 (13, 7)"]),
    ("add(query=torch.tensor(1.0))", V, ["query has shape ()"]),
    ("add(query=(7,))", V, ["query has shape (7,)"]),
    ("add(mask=allow(5, 3))", V, ["(5, 3)", "(2, 3, 5)"]),
    ("AdditiveAttention(0, 5, 7)", V, ["query_size", "at least 1", "got 0"]),
    ("AdditiveAttention(5, 7.5, 7)", V, ["key_size", WHOLE, "7.5"]),
    ("AdditiveAttention(5, 7, None)", V, ["hidden_size", WHOLE, "None"]),
    ("layer(query=(3, 7))", V, ["query", "(batch, position, width)", "(3, 7)", "tensor[None]"]),
    ("layer(value=(5, 17))", V, ["value", "(batch, position, width)", "(5, 17)"]),
    ("layer(query=(2, 3, 11))", V, ["query has shape (2, 3, 11)", "(13, 7)"]),
    ("layer(key=(2, 5, 7))", V, ["key has shape (2, 5, 7)", "(13, 11)"]),
    ("layer(value=(2, 7, 17))", V, ["5 keys and 7 values"]),
    ("layer(query=t(2, 3, 7).double())", T, [DTYPE, "torch.float64 (2, 3, 7)"]),
    (
        "layer(*(t(2, n, w).double() for n, w in [(3, 7), (5, 11), (5, 17)]))",
        T,
        ["query weight torch.float32"],
    ),
    ("layer(value=None)", T, ["value", "NoneType"]),
    ("layer(mask=t(3, 5))", T, [MASK, "torch.float32 of shape (3, 5)"]),
    ("layer(projected_key=t(2, 3, 13))", V, ["(2, 3, 13)", "3 keys and 5 values"]),
    ("layer(value=(2, 7, 17), projected_key=t(2, 7, 13))", V, ["5 keys and 7 values"]),
    ("layer(projected_key=t(2, 5, 11))", V, ["hidden width", "(2, 5, 11)"]),
    ("layer(projected_key=t(3, 5, 13))", V, [AXES, "(3, 5, 13)"]),
    ("AdditiveAttention(7, 11, 13).project_keys(t(2, 5, 7))", V, ["(2, 5, 7)", "(13, 11)"]),
    # multi-head attention
    ("MultiHeadAttention(6, 4)", V, ["divide", "d_model=6", "num_heads=4"]),
    ("MultiHeadAttention(6, 0)", V, ["num_heads", "at least 1", "got 0"]),
    ("MultiHeadAttention(6, -3)", V, ["num_heads", "-3"]),
    ("MultiHeadAttention(0, 1)", V, ["d_model", "at least 1"]),
    ("MultiHeadAttention(6, 1.5)", V, ["num_heads", WHOLE, "1.5"]),
    ("MultiHeadAttention(6, True)", V, ["num_heads", WHOLE, "True"]),
    ("MultiHeadAttention(6.0, 3)", V, ["d_model", WHOLE, "6.0"]),
    ("MultiHeadAttention(6, 3, dropout=1.0)", V, ["dropout", "from 0 to below 1", "1.0"]),
    ("MultiHeadAttention(6, 3, dropout=-0.1)", V, ["dropout", "-0.1"]),
    ("MultiHeadAttention(6, 3, dropout=NAN)", V, ["dropout", "nan"]),
    ("MultiHeadAttention(6, 3, dropout=None)", V, ["dropout", "from 0 to below 1", "None"]),
    ("MultiHeadAttention(6, 3, dropout='0.1')", V, ["dropout", "from 0 to below 1", "'0.1'"]),
    ("MultiHeadAttention(6, 3, bias='no')", T, ["bias", "True or False", "'no'"]),
    ("heads((5, 6))", V, ["query", "(batch, position, width)", "(5, 6)", "tensor[None]"]),
    ("heads((2, 5, 7))", V, ["query has shape (2, 5, 7)", "(6, 6)"]),
    ("heads((2, 5, 6), (2, 3, 7))", V, ["key has shape (2, 3, 7)", "(6, 6)"]),
    ("heads((2, 5, 6), (2, 3, 6), (2, 3, 7))", V, ["value has shape (2, 3, 7)", "(6, 6)"]),
    ("heads((2, 5, 6), (3, 5, 6))", V, ["(2, 5, 6)", "(3, 5, 6)"]),
    ("heads((2, 5, 6), (1, 5, 6))", V, ["(2, 5, 6)", "(1, 5, 6)"]),
    ("heads((2, 5, 6), (2, 3, 6), (2, 7, 6))", V, ["3 keys and 7 values"]),
    ("heads((2, 5, 6), None, (2, 5, 6))", V, ["value without a key"]),
    ("heads((2, 5, 6), (2, 7, 6), projected=of_heads(7, 7))", V, ["give either, not both"]),
    ("heads((2, 5, 6), None, (2, 7, 6), projected=of_heads(7, 7))", V, ["give either, not both"]),
    ("heads((2, 5, 6), projected=[*of_heads(7, 7)])", T, ["the pair (keys, values)", "project"]),
    ("heads((2, 5, 6), projected=of_heads(7, 7)[:1])", T, ["the pair (keys, values)", "project"]),
    ("heads((2, 5, 6), projected=(t(2, 3, 7, 5), t(2, 3, 7, 5)))", V, ["d_k=2", "(2, 3, 7, 5)", "project"]),
    ("heads((2, 5, 6), projected=of_heads(7, 3))", V, ["7 keys and 3 values"]),
    ("heads((5, 5, 6), projected=of_heads(7, 7))", V, ["query of each head (5, 3, 5, 2)", "(2, 3, 7, 2)"]),
    ("MultiHeadAttention(6, 3).project(t(2, 5, 6), t(2, 7, 6))", V, ["5 keys and 7 values"]),
    ("MultiHeadAttention(6, 3).project(t(5, 6))", V, ["key", "(batch, position, width)", "(5, 6)"]),
    ("MultiHeadAttention(6, 3).project(t(2, 5, 6), t(2, 5, 7))", V, ["value has shape (2, 5, 7)"]),
    ("heads((2, 5, 6), allow(5, 5))", T, ["key torch.bool (5, 5)", "mask=..."]),
    ("heads(t(2, 5, 6).double())", T, [DTYPE, "query torch.float64 (2, 5, 6)", "torch.float32 (6, 6)"]),
    ("heads((2, 5, 6), t(2, 3, 6).double())", T, [DTYPE, "key torch.float64 (2, 3, 6)"]),
    ("heads(t(2, 5, 6).long())", T, [DTYPE, "torch.int64 (2, 5, 6)"]),
    ("heads([[1.0]])", T, ["query", "list"]),
    ("heads(None)", T, ["query", "NoneType"]),
    ("heads((2, 5, 6), mask=t(5, 5))", T, [MASK, "torch.float32 of shape (5, 5)", "(2, 3, 5, 5)"]),
    ("heads((2, 5, 6), mask=[[True]])", T, [MASK, "list"]),
    ("heads((2, 5, 6), mask=allow(7, 7))", V, ["(7, 7)", "(2, 3, 5, 5)"]),
    ("heads((2, 5, 6), (2, 7, 6), mask=allow(7, 5))", V, ["(7, 5)", "(2, 3, 5, 7)"]),
    ("heads((2, 5, 6), mask=allow(2, 5, 5))", V, ["(2, 5, 5)", "(2, 3, 5, 5)", "mask[:, None]"]),
    ("heads((2, 5, 6), mask=allow(2, 5))", V, ["(2, 5)", "(2, 3, 5, 5)", "mask[:, None, None, :]"]),
    ("heads((2, 5, 6), mask=allow(1, 2, 3, 5, 5))", V, ["(1, 2, 3, 5, 5)", "(2, 3, 5, 5)"]),
    ("heads((2, 5, 6), mask=padding_mask([4, 3]))", V, ["(2, 1, 1, 4)", "(2, 3, 5, 5)"]),
    # record_attention
    ("record(nn.Linear(3, 5))", V, ["no attention layer in Linear"]),
    ("record(None)", T, ["nn.Module", "NoneType"]),
    ("record([nn.Linear(3, 5)])", T, ["nn.Module", "list"]),
    ("record(MultiHeadAttention)", T, ["nn.Module", "type"]),
]


@each_bad_call(BAD_CALLS)
def test_bad_calls_say_what_was_wrong(call, error, words):
    assert_refused(call, error, words, names(), "attention.py")


@pytest.mark.parametrize(
    "scores, mask",
    [
        ((2, 3, 5, 7), (11, 5, 7)),  # three axes, but of no sentence's
        ((2, 5, 7), (2, 7, 7)),  # a mask for each sentence, and scores without heads
        ((2, 3, 5, 7), (2, 5)),  # of sentences, but not of keys
        ((2, 3, 5, 7), (11, 7)),  # of keys, but not of sentences
        ((2, 3, 5, 7), (2, 1, 7, 7)),
        ((3, 5), (5, 3)),
    ],
    ids=str,
)
def test_no_hint_is_given_where_none_fits(scores, mask):
    with pytest.raises(ValueError, match="does not broadcast") as raised:
        attention.masked_softmax(t(*scores), allow(*mask))
    assert str(raised.value).endswith("whose last two axes are query and key")


# What is at the edge and works: a refusal here would be a mistake as well.
GOOD_CALLS = {
    "causal_mask(0)": (0, 0),
    "causal_mask(3, 0)": (3, 0),
    "causal_mask(array(3), array(5))": (3, 5),
    "padding_mask([1, 2], array(7))": (2, 1, 1, 7),
    "padding_mask(array(1, 2))": (2, 1, 1, 2),
    "sliding_window_mask(array(5), array(2))": (5, 5),
    "MultiHeadAttention(array(6), array(3))(t(2, 5, 6))": (2, 5, 6),
    "AdditiveAttention(array(7), array(7), array(5))(t(2, 3, 7), t(2, 5, 7), t(2, 5, 7))[0]": (
        2,
        3,
        7,
    ),
    "add((3, 7), (5, 11), (5, 17))[0]": (3, 17),
    "padding_mask([0, 0])": (2, 1, 1, 0),
    "padding_mask(range(1, 6), 7)": (5, 1, 1, 7),
    "sliding_window_mask(0, 1)": (0, 0),
    "sliding_window_mask(5, 2**31 - 1)": (5, 5),
    "masked_softmax(t(3, 0), allow(3, 0))": (3, 0),
    "masked_softmax(t(0, 3, 5), allow(3, 5))": (0, 3, 5),
    "masked_softmax(t(5), allow(5))": (5,),
    "attend(t(0, 7), t(3, 7), t(3, 11))[0]": (0, 11),
    "attend(t(2, 0, 7), t(2, 3, 7), t(2, 3, 11))[0]": (2, 0, 11),
    "attend(t(5, 7), t(0, 7), t(0, 11))[0]": (5, 11),
    "attend(t(5, 7), t(3, 7), t(3, 0))[0]": (5, 0),
    "scale(0)[0]": (5, 11),
    "scale(torch.tensor(0.5))[0]": (5, 11),
    "heads((2, 0, 6))": (2, 0, 6),
    "heads((0, 5, 6), mask=allow(5, 5))": (0, 5, 6),
    "heads((2, 5, 6), (2, 0, 6))": (2, 5, 6),
    "heads((2, 5, 6), projected=of_heads(7, 7))": (2, 5, 6),
    "heads((2, 5, 6), mask=allow(3, 5, 5))": (2, 5, 6),  # three heads
    "MultiHeadAttention(1, 1)(t(1, 1, 1))": (1, 1, 1),
}


@pytest.mark.parametrize("call", GOOD_CALLS)
def test_edge_cases_work(call):
    result = eval(call, names())
    assert result.shape == GOOD_CALLS[call] and (result.dtype == torch.bool or result.isfinite().all())
