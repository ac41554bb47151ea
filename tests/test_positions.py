"""Positions: formulas by plain loops, hand-computed numbers, and the properties that a wrong one breaks."""

import math

import pytest
import torch
from torch.nn import functional as F

from course_lib.attention import causal_mask, dot_score, masked_softmax, record_attention
from course_lib.positions import (
    LearnedPositions,
    RelativeAttention,
    RelativePositionBias,
    alibi_bias,
    alibi_slopes,
    apply_rotary,
    binary_positions,
    relative_position_bucket,
    relative_positions,
    sinusoidal_positions,
)

EXACT = {"rtol": 1e-12, "atol": 1e-12}
DTYPES = pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)


def randn(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def table(rows):
    return torch.tensor(rows, dtype=torch.float64)


def clip(distance, k):
    return max(-k, min(k, distance))


# --------------------------------------------------------------------------------------------- binary


def test_binary_positions_by_hand():
    assert binary_positions(5, 3).tolist() == [[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0], [0, 0, 1]]
    assert torch.equal(binary_positions(2, 3, offset=3), binary_positions(5, 3)[3:])
    assert binary_positions(torch.tensor([[6], [1]]), 3).tolist() == [[[0, 1, 1]], [[1, 0, 0]]]


def test_binary_positions_are_those_of_python():
    code = binary_positions(torch.tensor([0, 1, 97, 2**40 + 5, 2**63 - 1]), 63)
    for position, bits in zip((0, 1, 97, 2**40 + 5, 2**63 - 1), code.int().tolist(), strict=True):
        assert "".join(str(bit) for bit in reversed(bits)) == f"{position:063b}"


# ----------------------------------------------------------------------------------------- sinusoidal


def sinusoids_by_loops(positions, d_model, base=10000.0, cosine_exponent="2i"):
    code = torch.zeros(len(positions), d_model, dtype=torch.float64)
    for row, position in enumerate(positions):
        for i in range(d_model // 2):
            shared = 2 * i / d_model
            own = shared if cosine_exponent == "2i" else (2 * i + 1) / d_model
            code[row, 2 * i] = math.sin(position / base**shared)
            code[row, 2 * i + 1] = math.cos(position / base**own)
    return code


@pytest.mark.parametrize("base", [10000.0, 37.0])
@pytest.mark.parametrize("num_positions, d_model, offset", [(11, 14, 0), (7, 26, 5), (1, 2, 3)])
def test_sinusoids_are_the_formula(num_positions, d_model, offset, base):
    code = sinusoidal_positions(num_positions, d_model, base, offset, torch.float64)
    wanted = sinusoids_by_loops(range(offset, offset + num_positions), d_model, base)
    torch.testing.assert_close(code, wanted, **EXACT)


def test_sinusoids_by_hand():
    """With d = 4 and base 100 the wavelengths are 2 pi and 20 pi."""
    code = sinusoidal_positions(3, 4, base=100.0, dtype=torch.float64)
    hand = table(
        [
            [0.0, 1.0, 0.0, 1.0],
            [0.8414709848, 0.5403023059, 0.0998334166, 0.9950041653],
            [0.9092974268, -0.4161468365, 0.1986693308, 0.9800665778],
        ]
    )
    torch.testing.assert_close(code, hand, rtol=0, atol=1e-9)


def test_given_positions_get_their_own_codes():
    positions = torch.tensor([[3, 0, 5], [1, -2, 97]], dtype=torch.int32)
    code = sinusoidal_positions(positions, 14, offset=2, dtype=torch.float64)
    assert code.shape == (2, 3, 14)
    for row, wanted in zip(code, ([5, 2, 7], [3, 0, 99]), strict=True):
        torch.testing.assert_close(row, sinusoids_by_loops(wanted, 14), **EXACT)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64], ids=str)
def test_positions_may_be_any_whole_numbers(dtype):
    positions = torch.tensor([3, 0, 97], dtype=dtype)
    assert torch.equal(sinusoidal_positions(positions, 6), sinusoidal_positions(98, 6)[[3, 0, 97]])
    assert torch.equal(relative_position_bucket(positions), relative_position_bucket(positions.long()))


class Coded(torch.nn.Module):
    def forward(self, x):
        return x + sinusoidal_positions(x.shape[1], 6) + alibi_bias(1, x.shape[1], 6)


def test_a_number_of_positions_may_be_left_open_for_export(unchecked_shapes):
    """Exported with 5 positions as an example, and run with 11."""
    sizes = ({1: torch.export.Dim("position", max=97)},)
    program = torch.export.export(Coded(), (randn(2, 5, 6),), dynamic_shapes=sizes)
    x = randn(2, 11, 6)
    torch.testing.assert_close(program.module()(x), Coded()(x), **EXACT)


def test_float32_codes_are_rounded_once_even_far_out():
    far = torch.tensor([99_991, 1_000_003])
    exact = sinusoidal_positions(far, 14, dtype=torch.float64)
    error = (sinusoidal_positions(far, 14).double() - exact).abs().max()
    assert error < 1e-7
    # Angles in float32 would not do.
    naive = (far[:, None].float() / 10000.0 ** (torch.arange(0, 14, 2) / 14)).sin()
    assert (naive.double() - exact[:, 0::2]).abs().max() > 1e-3


@DTYPES
def test_codes_and_biases_have_the_dtype_asked_for(dtype):
    for code in (
        binary_positions(3, 2, dtype=dtype),
        sinusoidal_positions(3, 2, dtype=dtype),
        alibi_slopes(3, dtype),
        alibi_bias(3, 5, dtype=dtype),
        apply_rotary(torch.ones(3, 2, dtype=dtype)),
        LearnedPositions(3, 2).to(dtype)(3),
        RelativePositionBias(3).to(dtype)(3),
    ):
        assert code.dtype == dtype and code.isfinite().all()


# The other exponent in circulation, (2i + 1) / d for the cosine, lacks all of these properties.


@pytest.mark.parametrize("d_model", [2, 14, 62])
def test_codes_are_equally_long_and_their_products_depend_on_distance_alone(d_model):
    def spread(code):
        products = code @ code.T
        return max(torch.diagonal(products, distance).std().item() for distance in range(7))

    code = sinusoidal_positions(101, d_model, dtype=torch.float64)
    assert spread(code) < 1e-12
    assert spread(sinusoids_by_loops(range(101), d_model, cosine_exponent="2i+1")) > 0.1
    torch.testing.assert_close(code.norm(dim=-1), table([math.sqrt(d_model / 2)] * 101), **EXACT)


def test_a_shift_is_one_rotation_for_all_positions():
    """Fitted over many more positions than columns, or any code could be fitted."""
    shared = sinusoidal_positions(211, 6, dtype=torch.float64)
    own = sinusoids_by_loops(range(211), 6, cosine_exponent="2i+1")
    residuals = []
    for code in (shared, own):
        matrix = torch.linalg.lstsq(code[:-5], code[5:]).solution
        residuals.append((code[:-5] @ matrix - code[5:]).abs().max().item())
    assert residuals[0] < 1e-10 and residuals[1] > 0.1

    matrix = torch.linalg.lstsq(shared[:-5], shared[5:]).solution
    blocks = torch.zeros(6, 6, dtype=torch.float64)
    for i in range(3):
        sin, cos = math.sin(5 / 10000 ** (2 * i / 6)), math.cos(5 / 10000 ** (2 * i / 6))
        blocks[2 * i : 2 * i + 2, 2 * i : 2 * i + 2] = table([[cos, -sin], [sin, cos]])
    torch.testing.assert_close(matrix, blocks, rtol=0, atol=1e-8)


# ---------------------------------------------------------------------------------------------- learned


def test_learned_positions_are_rows_of_the_table_and_train():
    layer = LearnedPositions(7, 5)
    assert torch.equal(layer(3, offset=4), layer.weight[4:7])
    for row, wanted in zip(layer(torch.tensor([[6, 0], [2, 2]])), ([6, 0], [2, 2]), strict=True):
        assert torch.equal(row, layer.weight[wanted])
    layer(torch.tensor([2, 2, 6])).sum().backward()
    assert layer.weight.grad[:, 0].tolist() == [0, 0, 2, 0, 0, 0, 1]


def test_learned_positions_start_small_and_different():
    layer = LearnedPositions(503, 101)
    assert layer.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert abs(layer.weight.mean().item()) < 0.001
    assert layer.weight.unique().numel() > 10_000


# ----------------------------------------------------------------------------------------------- rotary


def rotary_by_loops(x, positions, base, interleaved):
    result = x.clone()
    num_positions, d_k = x.shape[-2:]
    for p in range(num_positions):
        for i in range(d_k // 2):
            first, second = (2 * i, 2 * i + 1) if interleaved else (i, i + d_k // 2)
            angle = positions[p] / base ** (2 * i / d_k)
            a, b = x[..., p, first], x[..., p, second]
            result[..., p, first] = a * math.cos(angle) - b * math.sin(angle)
            result[..., p, second] = a * math.sin(angle) + b * math.cos(angle)
    return result


@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("base", [10000.0, 37.0])
@pytest.mark.parametrize("shape, offset", [((2, 3, 5, 14), 0), ((11, 26), 7), ((3, 1, 2), 5)], ids=str)
def test_rotary_is_the_formula(shape, offset, base, interleaved):
    x = randn(*shape)
    got = apply_rotary(x, offset=offset, base=base, interleaved=interleaved)
    wanted = rotary_by_loops(x, range(offset, offset + shape[-2]), base, interleaved)
    torch.testing.assert_close(got, wanted, **EXACT)


def test_rotary_by_hand():
    """At position 1 with d_k = 4 and base 100 the pairs turn by 1 and by 0.1 radians."""
    x = table([[0, 0, 0, 0], [1, 0, 0, 1]])
    half = [0.5403023059, -0.0998334166, 0.8414709848, 0.9950041653]  # pairs (0, 2) and (1, 3)
    interleaved = [0.5403023059, 0.8414709848, -0.0998334166, 0.9950041653]  # pairs (0, 1) and (2, 3)
    for option, hand in ((False, half), (True, interleaved)):
        got = apply_rotary(x, base=100.0, interleaved=option)
        torch.testing.assert_close(got, table([[0] * 4, hand]), rtol=0, atol=1e-9)


@pytest.mark.parametrize("interleaved", [False, True])
def test_rotary_scores_depend_on_the_distance_alone(interleaved):
    """One query and one key at every pair of positions: each diagonal of their scores is constant."""
    query, key = randn(1, 14).expand(23, -1), randn(1, 14, seed=1).expand(23, -1)

    def spread(query, key):
        scores = dot_score(query, key)
        return max(torch.diagonal(scores, d).std().item() for d in range(-19, 20)), scores.std().item()

    rotated = [apply_rotary(x, interleaved=interleaved) for x in (query, key)]
    along, overall = spread(*rotated)
    assert along < 1e-12 and overall > 0.1
    shifted = [apply_rotary(x, offset=31, interleaved=interleaved) for x in (query, key)]
    torch.testing.assert_close(dot_score(*shifted), dot_score(*rotated), **EXACT)
    # Not so if the query alone is told where it stands, nor if the two pair their columns differently.
    assert (dot_score(shifted[0], rotated[1]) - dot_score(*rotated)).abs().max() > 0.1
    assert spread(rotated[0], apply_rotary(key, interleaved=not interleaved))[0] > 0.1


def test_rotary_keeps_lengths_and_the_first_position():
    x = randn(2, 3, 7, 10)
    rotated = apply_rotary(x)
    torch.testing.assert_close(rotated.norm(dim=-1), x.norm(dim=-1), **EXACT)
    torch.testing.assert_close(rotated[..., 0, :], x[..., 0, :], **EXACT)
    assert (rotated[..., 1:, :] - x[..., 1:, :]).abs().amax(dim=-1).min() > 1e-3


def test_the_two_pairings_are_one_up_to_the_order_of_columns():
    x = randn(3, 7, 10)
    order = torch.tensor([0, 2, 4, 6, 8, 1, 3, 5, 7, 9])
    together = apply_rotary(x, interleaved=True)
    torch.testing.assert_close(apply_rotary(x[..., order]), together[..., order], **EXACT)
    assert (apply_rotary(x) - together).abs().max() > 0.1


def test_rotary_takes_positions_for_each_sentence():
    x, positions = randn(2, 3, 5, 14), torch.tensor([[0, 1, 2, 3, 4], [0, 0, 0, 1, 2]])
    got = apply_rotary(x, positions[:, None], offset=1)
    for sentence in range(2):
        wanted = rotary_by_loops(x[sentence], (positions[sentence] + 1).tolist(), 10000.0, False)
        torch.testing.assert_close(got[sentence], wanted, **EXACT)


def test_rotary_turns_gradients_back():
    x = randn(3, 7, 10).requires_grad_()
    direction = randn(3, 7, 10, seed=1)
    (gradient,) = torch.autograd.grad((apply_rotary(x, offset=2) * direction).sum(), x)
    wanted = rotary_by_loops(direction, [-p for p in range(2, 9)], 10000.0, False)
    torch.testing.assert_close(gradient, wanted, **EXACT)


# --------------------------------------------------------------------------------------- Shaw's relative


def test_relative_positions_by_hand():
    assert relative_positions(3).tolist() == [[0, 1, 2], [-1, 0, 1], [-2, -1, 0]]
    assert relative_positions(1, 4).tolist() == [[-3, -2, -1, 0]]  # the last query of four
    assert relative_positions(2, 4, offset=1).tolist() == [[-1, 0, 1, 2], [-2, -1, 0, 1]]
    assert relative_positions(3, 2).tolist() == [[1, 2], [0, 1], [-1, 0]]


@pytest.mark.parametrize("num_queries, num_keys", [(5, 5), (1, 11), (3, 7), (7, 3)])
def test_queries_stand_where_the_causal_mask_has_them(num_queries, num_keys):
    relative = relative_positions(num_queries, num_keys)
    assert torch.equal(relative <= 0, causal_mask(num_queries, num_keys))


def shaw(k=2, d_k=5, d_v=7):
    layer = RelativeAttention(d_k, k, d_v).double()
    with torch.no_grad():
        layer.key_embeddings.copy_(randn(2 * k + 1, d_k, seed=8))
        layer.value_embeddings.copy_(randn(2 * k + 1, d_v, seed=9))
    return layer


@pytest.mark.parametrize(
    "num_queries, num_keys, offset", [(11, 11, None), (7, 11, None), (7, 11, 0), (3, 7, 2)]
)
def test_relative_attention_is_equations_3_and_4(num_queries, num_keys, offset):
    layer, k = shaw(), 2
    query = randn(2, 3, num_queries, 5)
    key, value = randn(2, 3, num_keys, 5, seed=1), randn(2, 3, num_keys, 7, seed=2)
    output, weights = layer(query, key, value, offset=offset)
    first = num_keys - num_queries if offset is None else offset
    scores = torch.zeros(2, 3, num_queries, num_keys, dtype=torch.float64)
    wanted = torch.zeros(2, 3, num_queries, 7, dtype=torch.float64)
    for i in range(num_queries):
        for j in range(num_keys):
            near = layer.key_embeddings[clip(j - i - first, k) + k].detach()
            scores[..., i, j] = (query[..., i, :] * (key[..., j, :] + near)).sum(-1) / math.sqrt(5)
    for i in range(num_queries):
        for j in range(num_keys):
            near = layer.value_embeddings[clip(j - i - first, k) + k].detach()
            wanted[..., i, :] += scores[..., i, :].softmax(-1)[..., j, None] * (value[..., j, :] + near)
    torch.testing.assert_close(weights, scores.softmax(-1), **EXACT)
    torch.testing.assert_close(output, wanted, **EXACT)


def test_relative_attention_by_hand():
    """Embeddings 10, 20, 30 for a value before, at and after the query, and even weights."""
    layer = RelativeAttention(1, max_distance=1)
    with torch.no_grad():
        layer.key_embeddings.zero_()
        layer.value_embeddings.copy_(torch.tensor([[10.0], [20.0], [30.0]]))
    output, _ = layer(torch.ones(1, 1, 2, 1), torch.ones(1, 1, 2, 1), torch.zeros(1, 1, 2, 1))
    assert output.flatten().tolist() == [25, 15]
    output, _ = layer(torch.ones(1, 1, 1, 1), torch.ones(1, 1, 4, 1), torch.zeros(1, 1, 4, 1))
    assert output.flatten().tolist() == [12.5]  # the last query of four


def test_relative_attention_tells_order_and_without_embeddings_does_not():
    layer, order = shaw(), torch.tensor([2, 0, 1, 4, 3])
    x = randn(1, 1, 5, 5)
    values = randn(1, 1, 5, 7, seed=1)

    def difference():
        plain, _ = layer(x, x, values)
        shuffled, _ = layer(x[:, :, order], x[:, :, order], values[:, :, order])
        return (shuffled - plain[:, :, order]).abs().max().item()

    assert difference() > 0.1
    with torch.no_grad():
        for embeddings in layer.parameters():
            embeddings.zero_()
    assert difference() < 1e-12


def test_relative_attention_respects_the_mask_is_recorded_and_trains():
    layer = shaw()
    query, value = randn(2, 3, 7, 5), randn(2, 3, 7, 7, seed=1)
    with record_attention(layer) as maps:
        output, weights = layer(query, query, value, causal_mask(7))
    assert torch.equal(maps[""], weights)
    assert (weights.masked_select(~causal_mask(7)) == 0).all()
    output.pow(2).sum().backward()
    # With the causal mask no key stands after its query: those rows, and they alone, learn nothing.
    for embeddings in layer.parameters():
        assert (embeddings.grad.abs().amax(dim=-1) > 0).tolist() == [True, True, True, False, False]


def test_embeddings_start_different_from_each_other():
    for embeddings in RelativeAttention(11, 5, 13).parameters():
        assert embeddings.std() > 0.1 and embeddings.unique().numel() == embeddings.numel()


# --------------------------------------------------------------------------------------------- T5 buckets


def test_buckets_by_hand():
    """Eight buckets up to 16: four exact ones, then floor(4 + 4 log_4(distance / 4))."""
    hand = [0, 1, 2, 3, 4, 4, 5, 5, 6, 6, 6, 6, 7, 7, 7, 7, 7, 7]
    past = -torch.arange(18)
    assert relative_position_bucket(past, False, 8, 16).tolist() == hand
    assert relative_position_bucket(-past, False, 8, 16).tolist() == [0] * 18
    # In both directions each side has half of sixteen; bucket 8, "no distance, after", stays empty.
    assert relative_position_bucket(past, True, 16, 16).tolist() == hand
    after = relative_position_bucket(-past[1:], True, 16, 16)
    assert after.tolist() == [8 + bucket for bucket in hand[1:]]


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("num_buckets, max_distance", [(32, 128), (8, 20), (14, 50), (4, 3)])
def test_buckets_are_the_formula_in_whole_numbers(num_buckets, max_distance, bidirectional):
    """b <= wide log(d / exact) / log(max / exact) is d^wide exact^b >= max^b exact^wide, free of rounding."""
    for relative in range(-3 * max_distance, 3 * max_distance):
        side = num_buckets // 2 if bidirectional else num_buckets
        distance = abs(relative) if bidirectional else max(-relative, 0)
        exact, wide = side // 2, side - side // 2
        bucket = distance
        if distance >= exact:
            steps = [
                b for b in range(wide) if distance**wide * exact**b >= max_distance**b * exact**wide
            ]  # b = 0 always
            bucket = exact + max(steps)
        if bidirectional and relative > 0:
            bucket += side
        got = relative_position_bucket(torch.tensor(relative), bidirectional, num_buckets, max_distance)
        assert got.item() == bucket, relative


def test_there_are_32_buckets_both_ways_up_to_128_unless_said_otherwise():
    relative = torch.arange(-211, 212)
    assert torch.equal(relative_position_bucket(relative), relative_position_bucket(relative, True, 32, 128))
    one_way = relative_position_bucket(relative, bidirectional=False)
    assert torch.equal(one_way, relative_position_bucket(relative, False, 32, 128))
    layer, told = RelativePositionBias(3), RelativePositionBias(3, 32, 128, True)
    with torch.no_grad():
        layer.weight.copy_(randn(32, 3))
    told.load_state_dict(layer.state_dict())
    assert torch.equal(layer(211), told(211))
    near = RelativePositionBias(3, num_buckets=32, max_distance=20)
    near.load_state_dict(layer.state_dict())
    bucket = relative_position_bucket(relative_positions(211), True, 32, 20)
    assert torch.equal(near(211), near.weight[bucket].permute(2, 0, 1))
    assert not torch.equal(near(211), layer(211))


def test_the_bias_is_looked_up_by_bucket_and_head():
    layer = RelativePositionBias(3, num_buckets=8, max_distance=20).double()
    assert layer.weight.abs().max() == 0
    with torch.no_grad():
        layer.weight.copy_(randn(8, 3))
    bias = layer(5, 7, offset=1)
    assert bias.shape == (3, 5, 7)
    for head in range(3):
        for i in range(5):
            for j in range(7):
                bucket = relative_position_bucket(torch.tensor(j - i - 1), True, 8, 20)
                assert bias[head, i, j] == layer.weight[bucket, head]


def test_the_bias_trains_what_it_used():
    layer = RelativePositionBias(3, num_buckets=8, max_distance=20, bidirectional=False)
    layer(3)[:, [0, 1, 2], [0, 0, 0]].sum().backward()  # the distances 0, 1 and 2
    assert layer.weight.grad.tolist() == [[1, 1, 1]] * 3 + [[0, 0, 0]] * 5


# -------------------------------------------------------------------------------------------------- ALiBi


def test_slopes_by_hand():
    assert alibi_slopes(8).tolist() == [1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32, 1 / 64, 1 / 128, 1 / 256]
    assert alibi_slopes(4).tolist() == [1 / 4, 1 / 16, 1 / 64, 1 / 256]
    assert alibi_slopes(1).tolist() == [1 / 256]
    # No powers of two: the slopes of 2 and every second one of 4, the slopes of 4 and two of 8.
    assert alibi_slopes(3).tolist() == [1 / 16, 1 / 256, 1 / 4]
    assert alibi_slopes(6).tolist() == [1 / 4, 1 / 16, 1 / 64, 1 / 256, 1 / 2, 1 / 8]
    twelve = [2.0**-h for h in range(1, 9)] + [2**-0.5, 2**-1.5, 2**-2.5, 2**-3.5]
    torch.testing.assert_close(alibi_slopes(12, torch.float64), table(twelve), **EXACT)


def test_alibi_by_hand():
    bias = alibi_bias(2, 3, dtype=torch.float64)  # slopes 1/16 and 1/256
    assert (bias[0] * 16).tolist() == [[0, -1, -2], [-1, 0, -1], [-2, -1, 0]]
    assert (bias[1] * 256).tolist() == [[0, -1, -2], [-1, 0, -1], [-2, -1, 0]]
    assert (alibi_bias(2, 1, 4)[0] * 16).tolist() == [[-3, -2, -1, 0]]
    assert (alibi_bias(2, 2, 4, offset=1)[0] * 16).tolist() == [[-1, 0, -1, -2], [-2, -1, 0, -1]]


@pytest.mark.parametrize("num_heads, num_queries, num_keys, offset", [(7, 5, 11, None), (13, 3, 2, 17)])
def test_alibi_is_the_formula(num_heads, num_queries, num_keys, offset):
    bias = alibi_bias(num_heads, num_queries, num_keys, offset, torch.float64)
    slopes = alibi_slopes(num_heads, torch.float64)
    first = num_keys - num_queries if offset is None else offset
    for h in range(num_heads):
        for i in range(num_queries):
            for j in range(num_keys):
                assert bias[h, i, j].item() == pytest.approx(
                    -slopes[h].item() * abs(i + first - j), rel=1e-12
                )


# ------------------------------------------------------------------------------------ biases in attention


@pytest.mark.parametrize("kind", ["alibi", "buckets"])
def test_a_bias_added_before_masked_softmax_is_torchs_additive_mask(kind):
    bias = alibi_bias(3, 5, 7, dtype=torch.float64)
    if kind == "buckets":
        layer = RelativePositionBias(3).double()
        with torch.no_grad():
            layer.weight.copy_(randn(32, 3))
        bias = layer(5, 7).detach()
    query, key = randn(2, 3, 5, 11), randn(2, 3, 7, 11, seed=1)
    value, mask = randn(2, 3, 7, 13, seed=2), causal_mask(5, 7)
    weights = masked_softmax(dot_score(query / math.sqrt(11), key) + bias, mask)
    fused = F.scaled_dot_product_attention(query, key, value, bias.masked_fill(~mask, -math.inf))
    torch.testing.assert_close(weights @ value, fused, **EXACT)
    unbiased = F.scaled_dot_product_attention(query, key, value, mask)
    assert (weights @ value - unbiased).abs().max() > 1e-2


# ---------------------------------------------------------------------------------------- cached decoding

LENGTH, HEADS, D_K = 11, 3, 10
D_MODEL = HEADS * D_K


class CachedAttention:
    """Causal multi-head attention with one kind of positions, on one sentence, with a cache."""

    def __init__(self, kind):
        self.kind = kind
        self.weights = [randn(D_MODEL, D_MODEL, seed=seed, dtype=torch.float32) / 6 for seed in (1, 2, 3)]
        self.learned = LearnedPositions(LENGTH, D_MODEL)
        self.shaw = RelativeAttention(D_K, max_distance=2)
        self.buckets = RelativePositionBias(HEADS, 8, 7, bidirectional=kind == "buckets both ways")
        with torch.no_grad():
            for seed, parameter in enumerate(
                (self.learned.weight, *self.shaw.parameters(), self.buckets.weight), start=4
            ):
                parameter.copy_(randn(*parameter.shape, seed=seed))

    def __call__(self, x, cache, seen, offset):
        """Return outputs and the longer cache; the new tokens x come after `seen`, but are told `offset`."""
        count, total = len(x), seen + len(x)
        if self.kind == "binary":
            x = x + binary_positions(count, 4, offset).repeat(1, D_MODEL // 4 + 1)[:, :D_MODEL]
        elif self.kind == "sinusoidal":
            x = x + sinusoidal_positions(count, D_MODEL, offset=offset)
        elif self.kind == "learned":
            x = x + self.learned(count, offset)
        query, key, value = (
            (x @ weight).unflatten(-1, (HEADS, D_K)).transpose(0, 1)[None] for weight in self.weights
        )
        if self.kind.startswith("rotary"):
            query, key = (
                apply_rotary(part, offset=offset, interleaved="interleaved" in self.kind)
                for part in (query, key)
            )
        if cache is not None:
            key, value = (torch.cat(pair, dim=-2) for pair in zip(cache, (key, value), strict=True))
        mask = causal_mask(count, total)
        if self.kind == "shaw":
            return self.shaw(query, key, value, mask, offset)[0], (key, value)
        scores = dot_score(query / math.sqrt(D_K), key)
        if self.kind.startswith("buckets"):
            scores = scores + self.buckets(count, total, offset)
        elif self.kind == "alibi":
            scores = scores + alibi_bias(HEADS, count, total, offset)
        return masked_softmax(scores, mask) @ value, (key, value)

    def in_steps(self, x, sizes, told):
        outputs, cache, seen = [], None, 0
        for size in sizes:
            output, cache = self(x[seen : seen + size], cache, seen, told(seen))
            outputs.append(output)
            seen += size
        return torch.cat(outputs, dim=-2)


KINDS = "binary, sinusoidal, learned, rotary, rotary interleaved, shaw, buckets, buckets both ways, alibi"
COMPARING = ("shaw", "buckets", "buckets both ways", "alibi")  # queries with keys


@pytest.mark.parametrize("sizes", [[1] * LENGTH, [3, 1, 2, 5]], ids=["one by one", "in blocks"])
@pytest.mark.parametrize("kind", KINDS.split(", "))
@torch.no_grad()
def test_a_cached_step_is_the_same_column_of_the_full_pass(kind, sizes):
    layer, x = CachedAttention(kind), randn(LENGTH, D_MODEL, dtype=torch.float32)
    full = layer.in_steps(x, [LENGTH], told=lambda seen: 0)
    steps = layer.in_steps(x, sizes, told=lambda seen: seen)
    assert (steps - full).abs().max() <= 1e-5
    # Whoever forgets the offset gets every step but the first wrong.
    forgotten = layer.in_steps(x, sizes, told=lambda seen: 0)
    wrong = (forgotten - full).abs().amax(dim=(0, 1, 3))
    assert wrong[: sizes[0]].max() <= 1e-5
    assert wrong[sizes[0] :].max() > 1e-2
    # What compares queries with keys finds the offset by itself.
    if kind in COMPARING:
        assert torch.equal(layer.in_steps(x, sizes, told=lambda seen: None), steps)
