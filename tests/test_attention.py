"""Masks, masked softmax and scoring functions against their definitions, and what a mask must guarantee."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from course_lib.attention import (
    AdditiveAttention,
    MultiHeadAttention,
    additive_attention,
    additive_score,
    bilinear_score,
    causal_mask,
    dot_score,
    masked_softmax,
    padding_mask,
    scaled_dot_product_attention,
    sliding_window_mask,
)

DOUBLE = torch.float64
# How far a row of weights may be from one, and weights from each other, in each dtype.
CLOSE = {torch.float64: 1e-12, torch.float32: 1e-6, torch.bfloat16: 2e-2}


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def normal(*shape, seed=0, dtype=DOUBLE):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE).to(dtype)


# --------------------------------------------------------------------------------------------- masks


@given(queries=st.integers(0, 11), keys=st.none() | st.integers(0, 11))
@settings(deadline=None, max_examples=60)
def test_causal_mask_is_its_definition(queries, keys):
    count = queries if keys is None else keys
    expected = [[j <= i + count - queries for j in range(count)] for i in range(queries)]
    mask = causal_mask(queries, keys)
    assert mask.dtype == torch.bool and mask.shape == (queries, count)
    assert mask.tolist() == expected


def test_causal_mask_of_fewer_and_of_more_keys():
    assert causal_mask(3).tolist() == [[True, False, False], [True, True, False], [True, True, True]]
    assert causal_mask(2, 3).tolist() == [[True, True, False], [True, True, True]]
    assert causal_mask(3, 2).tolist() == [[False, False], [True, False], [True, True]]
    assert causal_mask(1, 5).all()


@given(lengths=st.lists(st.integers(0, 11), min_size=1, max_size=7), extra=st.none() | st.integers(0, 5))
@settings(deadline=None, max_examples=60)
def test_padding_mask_is_its_definition(lengths, extra):
    width = max(lengths) + (extra or 0)
    mask = padding_mask(lengths, None if extra is None else width)
    assert mask.dtype == torch.bool and mask.shape == (len(lengths), 1, 1, width)
    assert mask[:, 0, 0].tolist() == [[j < length for j in range(width)] for length in lengths]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64])
def test_padding_mask_takes_any_whole_numbers(dtype):
    # A comparison in the dtype of the lengths would wrap around beyond 127 or 255.
    mask = padding_mask(torch.tensor([3, 101], dtype=dtype), 307)
    assert mask.sum(-1).flatten().tolist() == [3, 101]
    assert torch.equal(mask, padding_mask((3, 101), 307))


@given(length=st.integers(0, 11), window=st.integers(1, 13))
@settings(deadline=None, max_examples=60)
def test_sliding_window_mask_is_its_definition(length, window):
    expected = [[abs(i - j) < window for j in range(length)] for i in range(length)]
    mask = sliding_window_mask(length, window)
    assert mask.dtype == torch.bool and mask.shape == (length, length)
    assert mask.tolist() == expected


def test_masks_are_made_where_they_are_asked_for():
    """PyTorch's "meta" is a device without numbers: enough to see where a tensor is."""
    for make in (lambda device: causal_mask(5, 7, device), lambda device: sliding_window_mask(5, 3, device)):
        assert make("meta").device.type == "meta"
        assert make("cpu").device == make(None).device == torch.device("cpu")


def test_sliding_window_and_causal_mask_combine():
    mask = causal_mask(7) & sliding_window_mask(7, 3)
    assert mask.sum(-1).tolist() == [1, 2, 3, 3, 3, 3, 3]


@pytest.mark.parametrize("shape", [(), (7,), (5, 7), (1, 7), (3, 1, 7), (2, 1, 1, 7), (2, 3, 5, 7)])
def test_masks_of_every_shape_broadcast(shape):
    scores = normal(2, 3, 5, 7)
    mask = normal(*shape, seed=1) > 0
    full = mask.expand(2, 3, 5, 7)
    assert torch.equal(masked_softmax(scores, mask), masked_softmax(scores, full))
    layer = MultiHeadAttention(3 * 11, 3).double()
    query, key = normal(2, 5, 33), normal(2, 7, 33, seed=1)
    torch.testing.assert_close(layer(query, key, mask=mask), layer(query, key, mask=full))


def test_padding_mask_fits_scores_without_heads():
    scores, mask = normal(2, 5, 7), padding_mask([7, 3])
    assert torch.equal(masked_softmax(scores, mask), masked_softmax(scores, mask[:, 0]))
    assert torch.equal(masked_softmax(scores[1, :, :3]), masked_softmax(scores, mask)[1, :, :3])
    each = normal(2, 1, 5, 7, seed=1) > 0  # so does a mask with an axis for queries
    assert torch.equal(masked_softmax(scores, each), masked_softmax(scores, each[:, 0]))


# ------------------------------------------------------------------------------------ masked softmax


@st.composite
def scores_and_masks(draw, dtypes=tuple(CLOSE)):
    shape = draw(st.sampled_from([(1, 1), (5, 3), (2, 3, 5), (2, 3, 5, 7)]))
    size = draw(st.sampled_from([1.0, 100.0, 1e4]))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**20)))
    scores = (torch.rand(shape, generator=generator, dtype=DOUBLE) * 2 - 1) * size
    mask = torch.rand(shape, generator=generator) < draw(st.sampled_from([0.1, 0.5, 0.9]))
    return scores.to(draw(st.sampled_from(dtypes))), mask


@given(drawn=scores_and_masks())
@settings(deadline=None, max_examples=150)
def test_weights_are_a_distribution_over_the_keys_allowed(drawn):
    scores, mask = drawn
    weights = masked_softmax(scores, mask)
    assert weights.dtype == scores.dtype and weights.shape == scores.shape
    assert (weights >= 0).all()
    assert (weights[~mask] == 0).all()
    sums = weights.double().sum(-1)
    torch.testing.assert_close(sums, mask.any(-1).double(), rtol=0, atol=CLOSE[scores.dtype])


@given(drawn=scores_and_masks(dtypes=(DOUBLE,)))
@settings(deadline=None, max_examples=100)
def test_masked_softmax_is_its_formula(drawn):
    scores, mask = drawn
    weights = masked_softmax(scores, mask).flatten(0, -2).tolist()
    for row, allowed, got in zip(
        scores.flatten(0, -2).tolist(), mask.flatten(0, -2).tolist(), weights, strict=True
    ):
        highest = max((score for score, may in zip(row, allowed, strict=True) if may), default=0.0)
        parts = [math.exp(score - highest) if may else 0.0 for score, may in zip(row, allowed, strict=True)]
        expected = [part / (sum(parts) or 1.0) for part in parts]
        assert got == pytest.approx(expected, abs=1e-12)


@given(drawn=scores_and_masks(dtypes=(DOUBLE,)), shift=st.floats(-1e3, 1e3), seed=st.integers(0, 2**20))
@settings(deadline=None, max_examples=100)
def test_masked_softmax_ignores_a_shift_and_follows_the_order_of_keys(drawn, shift, seed):
    scores, mask = drawn
    weights = masked_softmax(scores, mask)
    torch.testing.assert_close(masked_softmax(scores + shift, mask), weights, rtol=1e-9, atol=1e-9)
    order = torch.randperm(scores.shape[-1], generator=torch.Generator().manual_seed(seed))
    moved = masked_softmax(scores[..., order], mask[..., order])
    torch.testing.assert_close(moved, weights[..., order], rtol=1e-12, atol=1e-12)


@given(drawn=scores_and_masks(), bad=st.sampled_from([math.nan, math.inf, -math.inf]))
@settings(deadline=None, max_examples=100)
def test_masked_scores_do_not_leak(drawn, bad):
    scores, mask = drawn
    broken = scores.masked_fill(~mask, bad).requires_grad_()
    weights = masked_softmax(broken, mask)
    assert torch.equal(weights, masked_softmax(scores, mask))
    (weights * normal(*weights.shape).to(weights)).sum().backward()
    assert broken.grad.isfinite().all()
    assert (broken.grad[~mask] == 0).all()


@pytest.mark.parametrize(
    "dtype, low",
    [(torch.float16, -6e4), (torch.bfloat16, -1e30), (torch.float32, -1e30), (torch.float64, -1e300)],
    ids=str,
)
def test_no_allowed_score_is_so_low_that_a_masked_one_wins(dtype, low):
    scores = torch.tensor([[low, 5.0, low, -low]], dtype=dtype)
    weights = masked_softmax(scores, torch.tensor([[True, False, True, False]]))
    assert weights.tolist() == [[0.5, 0.0, 0.5, 0.0]]


def test_an_allowed_nan_is_not_hidden():
    scores = torch.tensor([[math.nan, 1.0], [2.0, 1.0]])
    weights = masked_softmax(scores, torch.tensor([[True, True], [True, True]]))
    assert weights[0].isnan().all() and weights[1].isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_a_query_with_nothing_to_attend_to_gets_zeros_and_finite_gradients(dtype):
    mask = torch.tensor([[True, False, True], [False, False, False]])
    query, key = (
        normal(2, 5, dtype=dtype).requires_grad_(),
        normal(3, 5, seed=1, dtype=dtype).requires_grad_(),
    )
    value = normal(3, 7, seed=2, dtype=dtype).requires_grad_()
    output, weights = scaled_dot_product_attention(query, key, value, mask)
    assert (weights[1] == 0).all() and (output[1] == 0).all() and (output[0] != 0).all()
    with torch.autograd.set_detect_anomaly(True):  # not even on the way is there a NaN
        output.square().sum().backward()
    assert all(tensor.grad.isfinite().all() for tensor in (query, key, value))
    assert (query.grad[1] == 0).all() and (query.grad[0] != 0).any()


def test_no_mask_is_the_mask_that_allows_all():
    scores = normal(2, 3, 5)
    assert torch.equal(masked_softmax(scores), masked_softmax(scores, torch.ones(3, 5, dtype=torch.bool)))
    assert torch.equal(masked_softmax(scores), scores.softmax(-1))


def test_gradients_are_those_of_finite_differences():
    mask = torch.tensor([[True, False, True], [False, False, False]])
    leaf = lambda *shape, seed: normal(*shape, seed=seed).requires_grad_()  # noqa: E731
    query, key, value = leaf(2, 5, seed=0), leaf(3, 5, seed=1), leaf(3, 7, seed=2)
    matrices = leaf(11, 5, seed=3), leaf(11, 5, seed=4), leaf(11, seed=5)
    assert torch.autograd.gradcheck(lambda scores: masked_softmax(scores, mask), leaf(2, 3, seed=6))
    assert torch.autograd.gradcheck(lambda *x: scaled_dot_product_attention(*x, mask), (query, key, value))
    assert torch.autograd.gradcheck(lambda *x: additive_attention(*x, mask), (query, key, value, *matrices))


# ----------------------------------------------------------------------------------- scoring functions

QUERY = torch.tensor([[1.0, 2.0], [0.0, -1.0]])
KEY = torch.tensor([[3.0, 1.0], [-2.0, 4.0], [5.0, 0.0]])


def test_dot_score_by_hand():
    assert dot_score(QUERY, KEY).tolist() == [[5.0, 6.0, 5.0], [-1.0, -4.0, 0.0]]


def test_bilinear_score_by_hand():
    # q^T W = [1 + 2 * 2, 0 + 2 * 1, 0 + 2 * -1] for the first query, [-2, -1, 1] for the second.
    weight = torch.tensor([[1.0, 0.0, 0.0], [2.0, 1.0, -1.0]])
    key = torch.tensor([[1.0, 1.0, 1.0], [0.0, 3.0, 2.0]])
    assert bilinear_score(QUERY, key, weight).tolist() == [[5.0, 2.0], [-2.0, -1.0]]


def test_bilinear_score_with_the_identity_is_the_dot_score():
    query, key = normal(2, 3, 5, 7), normal(2, 3, 11, 7, seed=1)
    assert torch.equal(bilinear_score(query, key, torch.eye(7, dtype=DOUBLE)), dot_score(query, key))


def test_scaled_dot_product_attention_by_hand():
    # Scores 0 and 4 / sqrt(4) = 2 log(e): weights 1 / (1 + e^2) and e^2 / (1 + e^2).
    query, key = (
        torch.tensor([[2.0, 0.0, 0.0, 0.0]]),
        torch.tensor([[0.0, 1.0, 0.0, 0.0], [2.0, 0.0, 0.0, 0.0]]),
    )
    output, weights = scaled_dot_product_attention(query, key, torch.tensor([[0.0], [10.0]]))
    share = math.exp(2) / (1 + math.exp(2))
    torch.testing.assert_close(weights, torch.tensor([[1 - share, share]]))
    torch.testing.assert_close(output, torch.tensor([[10 * share]]))
    # A scale of our own stands in for 1 / sqrt(4), and is not multiplied with it.
    _, weights = scaled_dot_product_attention(query, key, torch.tensor([[0.0], [10.0]]), scale=0.25)
    torch.testing.assert_close(weights[0, 1], torch.tensor(1.0).sigmoid())


@pytest.fixture
def additive():
    """Queries, keys, values and the layer whose weights the formula below is given."""
    return (
        normal(2, 3, 5),
        normal(2, 7, 11, seed=1),
        normal(2, 7, 13, seed=2),
        AdditiveAttention(5, 11, 17).double(),
    )


def matrices_of(layer):
    return layer.query_projection.weight, layer.key_projection.weight, layer.score_projection.weight[0]


def test_additive_attention_is_a_loop_over_queries_and_keys(additive):
    query, key, value, layer = additive
    query_weight, key_weight, score_weight = matrices_of(layer)
    mask = padding_mask([7, 5])[:, 0] & (normal(2, 3, 7, seed=3) > -0.5)
    mask[0, 1] = False
    expected_weights, expected_output = (
        torch.zeros(2, 3, 7, dtype=DOUBLE),
        torch.zeros(2, 3, 13, dtype=DOUBLE),
    )
    for b in range(2):
        for i in range(3):
            scores = {}
            for j in range(7):
                hidden = torch.tanh(query_weight @ query[b, i] + key_weight @ key[b, j])
                if mask[b, i, j]:
                    scores[j] = math.exp((score_weight * hidden).sum().item())
            for j, score in scores.items():
                expected_weights[b, i, j] = score / sum(scores.values())
                expected_output[b, i] += expected_weights[b, i, j] * value[b, j]
    output, weights = additive_attention(query, key, value, query_weight, key_weight, score_weight, mask)
    torch.testing.assert_close(weights, expected_weights, rtol=0, atol=1e-12)
    torch.testing.assert_close(output, expected_output, rtol=0, atol=1e-12)
    assert (weights[0, 1] == 0).all()


def test_queries_of_width_one_are_not_scaled():
    query, key = normal(5, 1), normal(7, 1, seed=1)
    _, weights = scaled_dot_product_attention(query, key, key)
    torch.testing.assert_close(weights, (query @ key.T).softmax(dim=-1))


def test_layers_have_the_parameters_of_their_equations():
    def shapes(layer):
        return {name: tuple(parameter.shape) for name, parameter in layer.named_parameters()}

    additive = shapes(AdditiveAttention(7, 11, 13))
    assert sorted(additive.values()) == [(1, 13), (13, 7), (13, 11)]  # v, W and U
    with_bias, without = (shapes(MultiHeadAttention(6, 3, bias=bias)) for bias in (True, False))
    assert without == {name: shape for name, shape in with_bias.items() if name.endswith("weight")}
    assert list(without.values()) == [(6, 6)] * 4 and list(with_bias.values()).count((6,)) == 4


def test_additive_score_takes_each_query_with_each_key():
    # tanh is odd and tanh(0) = 0: scores of (q, -q) are 0, those of (q, q) are v tanh(2 q).
    score = additive_score(
        torch.tensor([[0.5], [-1.0]]), torch.tensor([[-0.5], [0.5], [1.0]]), torch.tensor([3.0])
    )
    expected = [
        [0.0, 3 * math.tanh(1.0), 3 * math.tanh(1.5)],
        [3 * math.tanh(-1.5), 3 * math.tanh(-0.5), 0.0],
    ]
    torch.testing.assert_close(score, torch.tensor(expected))


@pytest.mark.parametrize("mask", [None, padding_mask([7, 5])], ids=["no mask", "padding"])
def test_additive_module_is_the_function_with_or_without_projected_keys(additive, mask):
    query, key, value, layer = additive
    expected = additive_attention(query, key, value, *matrices_of(layer), mask)
    for got in (layer(query, key, value, mask), layer(query, key, value, mask, layer.project_keys(key))):
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-12)
    # One step after another, as a decoder asks, gives the rows of asking all at once.
    projected = layer.project_keys(key)
    steps = [layer(query[:, i : i + 1], key, value, mask, projected)[0] for i in range(3)]
    torch.testing.assert_close(torch.cat(steps, dim=1), expected[0], rtol=0, atol=1e-12)


def test_projected_key_is_used(additive):
    query, key, value, layer = additive
    other = layer(query, key, value, None, layer.project_keys(key.flip(1)))[1]
    torch.testing.assert_close(other, layer(query, key.flip(1), value)[1])
    assert (other - layer(query, key, value)[1]).abs().max() > 1e-3


def test_additive_attention_trains_all_its_weights(additive):
    query, key, value, layer = additive
    layer(query, key, value)[0].square().sum().backward()
    assert {name for name, parameter in layer.named_parameters() if parameter.grad.abs().max() > 0} == {
        "query_projection.weight",
        "key_projection.weight",
        "score_projection.weight",
    }


# ------------------------------------------------------------------------------ what a mask guarantees


def self_attentions():
    """Ways to attend from (2, 11, 15) to itself under a mask, by name."""
    multi_head, additive = MultiHeadAttention(15, 3).double(), AdditiveAttention(15, 15, 7).double()
    return {
        "function": lambda x, mask: scaled_dot_product_attention(x, x, x, mask)[0],
        "additive": lambda x, mask: additive(x, x, x, mask)[0],
        "multi-head": lambda x, mask: multi_head(x, mask=mask),
    }


ATTENTIONS = ["function", "additive", "multi-head"]


@pytest.mark.parametrize("name", ATTENTIONS)
@pytest.mark.parametrize("first", [1, 5, 10])
def test_the_future_changes_itself_and_not_the_past(name, first):
    attend, x = self_attentions()[name], normal(2, 11, 15)
    changed = x.clone()
    changed[:, first:] = normal(2, 11 - first, 15, seed=1)
    moved = (attend(changed, causal_mask(11)) - attend(x, causal_mask(11))).abs().amax((0, 2))
    assert (moved[:first] < 1e-12).all()
    assert (moved[first:] > 1e-3).all()
    # Without the mask the past would have seen it.
    moved = (attend(changed, None) - attend(x, None)).abs().amax((0, 2))
    assert (moved > 1e-6).all()


@pytest.mark.parametrize("name", ATTENTIONS)
def test_padding_changes_nothing(name):
    attend, x, lengths = self_attentions()[name], normal(2, 11, 15), [11, 7]
    other = x.clone()
    other[1, 7:] = 100 * normal(4, 15, seed=1)
    mask = padding_mask(lengths)
    before, after = attend(x, mask), attend(other, mask)
    torch.testing.assert_close(after[1, :7], before[1, :7], rtol=0, atol=1e-12)
    # Padding is as good as no positions at all.
    torch.testing.assert_close(attend(x[1:, :7], None), before[1:, :7], rtol=0, atol=1e-12)
    assert (attend(other, None)[1, :7] - attend(x, None)[1, :7]).abs().amax(-1).min() > 1e-3


@pytest.mark.parametrize("name", ATTENTIONS)
def test_a_window_is_all_that_a_position_sees(name):
    attend, x = self_attentions()[name], normal(2, 11, 15)
    changed = x.clone()
    changed[:, 5] = normal(2, 15, seed=1)
    mask = sliding_window_mask(11, 3)
    moved = (attend(changed, mask) - attend(x, mask)).abs().amax((0, 2)) > 1e-6
    assert moved.tolist() == [abs(i - 5) < 3 for i in range(11)]
