"""Bad calls of the positions: each must name what was wrong, and what was expected."""

import numpy as np
import pytest
import torch

from course_lib import attention, positions
from course_lib.positions import RelativeAttention
from tests.bad_calls import assert_refused, each_bad_call

pytestmark = pytest.mark.usefixtures("unchecked_shapes")

INF, NAN = float("inf"), float("nan")


def t(*shape, dtype=torch.float32):
    return torch.ones(shape, dtype=dtype)


def whole(*numbers):
    return torch.tensor(numbers)


def shaw(query=(2, 3, 7, 5), key=(2, 3, 11, 5), value=(2, 3, 11, 13), mask=None, offset=None):
    tensors = [t(*x) if isinstance(x, tuple) else x for x in (query, key, value)]
    return RelativeAttention(5, 2, 13)(*tensors, mask, offset)


def heads_as_numpy_counts(number):
    return np.int64(number)


def names():
    """What the texts below may use: the names of the library and of this file."""
    return {**vars(attention), **vars(positions), **globals()}


V, T = ValueError, TypeError
WHOLE, NUMBERS, FLOATING, BASE = (
    "must be an int",
    "must be a tensor of whole numbers",
    "floating-point dtype",
    "base must be a finite number above 1",
)

BAD_CALLS = [
    # codes
    ("binary_positions(5, 2)", V, ["2 bits count positions 0 to 3", "from 0 to 4"]),
    ("binary_positions(3, 2, offset=2)", V, ["positions 0 to 3", "from 2 to 4"]),
    ("binary_positions(whole(-1, 1), 2)", V, ["positions 0 to 3", "from -1 to 1"]),
    ("binary_positions(5, 0)", V, ["num_bits", "at least 1", "got 0"]),
    ("binary_positions(5, 64)", V, ["num_bits", "at most 63", "got 64"]),
    ("binary_positions(-5, 3)", V, ["positions", "at least 0", "-5"]),
    ("binary_positions(5.0, 3)", T, [NUMBERS, "float"]),
    ("binary_positions(5, 3, dtype=torch.int64)", T, [FLOATING, "torch.int64"]),
    ("sinusoidal_positions(5, 7)", V, ["width must be even", "got 7"]),
    ("sinusoidal_positions(5, 0)", V, ["width", "at least 2", "got 0"]),
    ("sinusoidal_positions(5, 6.0)", V, ["width", WHOLE, "6.0"]),
    ("sinusoidal_positions(-1, 6)", V, ["positions", "at least 0", "-1"]),
    ("sinusoidal_positions(True, 6)", V, ["positions", WHOLE, "True"]),
    ("sinusoidal_positions([0, 1], 6)", T, [NUMBERS, "list"]),
    ("sinusoidal_positions(None, 6)", T, [NUMBERS, "NoneType"]),
    ("sinusoidal_positions(t(5), 6)", T, [NUMBERS, "torch.float32 of shape (5,)"]),
    ("sinusoidal_positions(t(5) > 0, 6)", T, [NUMBERS, "torch.bool"]),
    ("sinusoidal_positions(5, 6, offset=-1)", V, ["offset", "at least 0", "-1"]),
    ("sinusoidal_positions(5, 6, offset=None)", V, ["offset", WHOLE, "None"]),
    ("sinusoidal_positions(5, 6, offset=whole(1, 2))", V, ["offset", WHOLE, "tensor"]),
    ("sinusoidal_positions(5, 6, base=1.0)", V, [BASE, "1.0"]),
    ("sinusoidal_positions(5, 6, base=-10)", V, [BASE, "-10"]),
    ("sinusoidal_positions(5, 6, base=INF)", V, [BASE, "inf"]),
    ("sinusoidal_positions(5, 6, base=NAN)", V, [BASE, "nan"]),
    ("sinusoidal_positions(5, 6, base='10')", V, [BASE, "'10'"]),
    ("sinusoidal_positions(5, 6, dtype=torch.int64)", T, [FLOATING, "torch.int64"]),
    ("sinusoidal_positions(5, 6, dtype='float32')", T, [FLOATING, "'float32'"]),
    ("LearnedPositions(0, 5)", V, ["max_length", "at least 1"]),
    ("LearnedPositions(7, 5.0)", V, ["d_model", WHOLE, "5.0"]),
    ("LearnedPositions(7, 5)(8)", V, ["max_length=7", "positions 0 to 6", "from 0 to 7"]),
    ("LearnedPositions(7, 5)(1, offset=7)", V, ["max_length=7", "positions 0 to 6", "from 7 to 7"]),
    ("LearnedPositions(7, 5)(whole(3, -1))", V, ["positions 0 to 6", "from -1 to 3"]),
    ("LearnedPositions(7, 5)(t(3))", T, [NUMBERS, "torch.float32"]),
    ("LearnedPositions(7, 5)(3, offset=-1)", V, ["offset", "at least 0"]),
    # rotary
    ("apply_rotary(t(5, 7))", V, ["width must be even", "7"]),
    ("apply_rotary(t(5, 0))", V, ["width", "at least 2", "0"]),
    ("apply_rotary(t(6))", V, ["axes (..., position, width)", "(6,)"]),
    ("apply_rotary(t(5, 6).long())", T, [FLOATING, "torch.int64"]),
    ("apply_rotary([[1.0, 2.0]])", T, ["x must be", "list"]),
    ("apply_rotary(t(5, 6), 3)", T, [NUMBERS, "int"]),
    ("apply_rotary(t(5, 6), t(5))", T, [NUMBERS, "torch.float32"]),
    ("apply_rotary(t(5, 6), torch.arange(3))", V, ["(3,)", "(5,)"]),
    ("apply_rotary(t(5, 6), torch.tensor(3))", V, ["()", "(5,)"]),
    ("apply_rotary(t(5, 6), whole(3))", V, ["(1,)", "(5,)"]),
    ("apply_rotary(t(5, 6), whole(*range(5))[None])", V, ["(1, 5)", "(5,)"]),
    (
        "apply_rotary(t(2, 3, 5, 6), whole([0] * 5, [1] * 5))",
        V,
        ["(2, 5)", "(2, 3, 5)", "positions[:, None]"],
    ),
    ("apply_rotary(t(5, 6), offset=-1)", V, ["offset", "at least 0"]),
    ("apply_rotary(t(5, 6), offset=1.0)", V, ["offset", WHOLE, "1.0"]),
    ("apply_rotary(t(5, 6), base=1)", V, [BASE, "1"]),
    # relative positions
    ("relative_positions(-1)", V, ["num_queries", "at least 0"]),
    ("relative_positions(3, 2.5)", V, ["num_keys", WHOLE, "2.5"]),
    ("relative_positions(3, offset=-2)", V, ["offset", "at least 0", "-2"]),
    ("relative_positions(3, offset='2')", V, ["offset", WHOLE, "'2'"]),
    ("RelativeAttention(0, 2)", V, ["d_k", "at least 1"]),
    ("RelativeAttention(5, 0)", V, ["max_distance", "at least 1"]),
    ("RelativeAttention(5, 2, 1.5)", V, ["d_v", WHOLE, "1.5"]),
    ("shaw(query=(2, 3, 7, 11), key=(2, 3, 11, 11))", V, ["d_k=5", "queries of width 11"]),
    ("shaw(key=(2, 3, 11, 7))", V, ["width", "(2, 3, 7, 5)", "(2, 3, 11, 7)"]),
    ("shaw(key=(3, 3, 11, 5))", V, ["(2, 3, 7, 5)", "(3, 3, 11, 5)"]),
    ("shaw(value=(2, 3, 7, 13))", V, ["one value for each key", "11 keys and 7 values"]),
    ("shaw(value=(2, 3, 11, 5))", V, ["d_v=13", "values of width 5"]),
    ("shaw(query=t(2, 3, 7, 5).double())", T, [FLOATING, "torch.float64 (2, 3, 7, 5)"]),
    ("shaw(mask=t(7, 11))", T, ["boolean tensor"]),
    ("shaw(mask=causal_mask(7))", V, ["(7, 7)", "(2, 3, 7, 11)"]),
    ("shaw(offset=-1)", V, ["offset", "at least 0"]),
    # biases
    ("relative_position_bucket(t(3))", T, [NUMBERS, "torch.float32 of shape (3,)"]),
    ("relative_position_bucket(3)", T, [NUMBERS, "int"]),
    ("relative_position_bucket(whole(3), num_buckets=3)", V, ["num_buckets", "at least 4", "3"]),
    ("relative_position_bucket(whole(3), False, 1)", V, ["num_buckets", "at least 2", "1"]),
    ("relative_position_bucket(whole(3), max_distance=8)", V, ["max_distance", "at least 9", "8"]),
    ("relative_position_bucket(whole(3), False, max_distance=16)", V, ["max_distance", "at least 17"]),
    ("relative_position_bucket(whole(3), max_distance=128.0)", V, ["max_distance", WHOLE, "128.0"]),
    ("RelativePositionBias(0)", V, ["num_heads", "at least 1"]),
    ("RelativePositionBias(3, 2)", V, ["num_buckets", "at least 4"]),
    ("RelativePositionBias(3, max_distance=2)", V, ["max_distance", "at least 9"]),
    ("RelativePositionBias(3)(-1)", V, ["num_queries", "at least 0"]),
    ("RelativePositionBias(3)(5, offset=-1)", V, ["offset", "at least 0"]),
    ("alibi_slopes(0)", V, ["num_heads", "at least 1"]),
    ("alibi_slopes(8.0)", V, ["num_heads", WHOLE, "8.0"]),
    ("alibi_slopes(8, torch.int64)", T, [FLOATING, "torch.int64"]),
    ("alibi_bias(0, 3)", V, ["num_heads", "at least 1"]),
    ("alibi_bias(3, -1)", V, ["num_queries", "at least 0"]),
    ("alibi_bias(3, 5, offset=-1)", V, ["offset", "at least 0"]),
    ("alibi_bias(3, 5, dtype=torch.bool)", T, [FLOATING, "torch.bool"]),
]


@each_bad_call(BAD_CALLS)
def test_bad_calls_say_what_was_wrong(call, error, words):
    assert_refused(call, error, words, names(), "positions.py", "attention.py")


# What is at the edge and works: a refusal here would be a mistake as well.
GOOD_CALLS = {
    "binary_positions(0, 3)": (0, 3),
    "binary_positions(4, 2)": (4, 2),
    "sinusoidal_positions(0, 2)": (0, 2),
    "sinusoidal_positions(torch.tensor(3), 2)": (2,),
    "sinusoidal_positions(torch.tensor([200], dtype=torch.uint8), 2, offset=100)": (1, 2),
    "sinusoidal_positions(whole(-3), 2, base=2)": (1, 2),
    "LearnedPositions(7, 5)(0, offset=7)": (0, 5),
    "LearnedPositions(7, 5)(7)": (7, 5),
    "apply_rotary(t(0, 6))": (0, 6),
    "apply_rotary(t(2, 3, 5, 6), torch.arange(5))": (2, 3, 5, 6),
    "apply_rotary(t(2, 3, 5, 6), whole([0] * 5, [1] * 5)[:, None])": (2, 3, 5, 6),
    "relative_positions(0)": (0, 0),
    "alibi_slopes(heads_as_numpy_counts(3))": (3,),
    "relative_positions(0, 3)": (0, 3),
    "shaw(mask=causal_mask(7, 11))[0]": (2, 3, 7, 13),
    "relative_position_bucket(torch.arange(0), False)": (0,),
    "relative_position_bucket(whole(-2, 2), True, 4, 2)": (2,),
    "RelativePositionBias(3, 2, 2, bidirectional=False)(5, 7)": (3, 5, 7),
    "alibi_bias(3, 0)": (3, 0, 0),
}


@pytest.mark.parametrize("call", GOOD_CALLS)
def test_edge_cases_work(call):
    result = eval(call, names())
    assert result.shape == GOOD_CALLS[call] and result.isfinite().all()


def test_small_whole_numbers_do_not_overflow():
    far = torch.tensor([200], dtype=torch.uint8)
    assert torch.equal(
        positions.sinusoidal_positions(far, 6, offset=100), positions.sinusoidal_positions(301, 6)[300:]
    )
    near = torch.tensor([-128], dtype=torch.int8)  # whose abs() is -128
    assert positions.relative_position_bucket(near).item() == 15
