"""What a view accepts, and the words with which it refuses."""

import re

import numpy as np
import pytest
import torch

from course_lib.attention import causal_mask
from course_lib.widgets import (
    alignment_view,
    attention_bench,
    attention_map,
    beam_view,
    compare,
    generation_view,
    head_view,
    kernel_regression_view,
    model_view,
    patch_view,
    positions_view,
    predict_then_reveal,
)
from course_lib.widgets.arrays import as_array, as_mask, as_pairs, as_weights


def test_every_form_of_weights_becomes_layer_head_query_key(make_weights):
    weights = make_weights(2, 3, 5, 7)
    for given, shape in [
        (weights[0, 0], (1, 1, 5, 7)),
        (weights[0], (1, 3, 5, 7)),
        (weights, (2, 3, 5, 7)),
        (weights[:, None], (2, 3, 5, 7)),
        (list(torch.tensor(weights[:, None])), (2, 3, 5, 7)),
        (weights.tolist(), (2, 3, 5, 7)),
    ]:
        array, queries, keys = as_weights(given, None, None)
        assert array.shape == shape
        assert queries == ["0", "1", "2", "3", "4"]
        assert len(keys) == 7
        np.testing.assert_allclose(array[0, 0], weights[0, 0])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_tensors_with_gradients_and_of_every_precision_are_accepted(dtype, make_weights):
    tensor = torch.tensor(make_weights(5, 7), dtype=dtype, requires_grad=True)
    array, _, _ = as_weights(tensor, None, None)
    assert array.dtype == np.float64
    np.testing.assert_array_equal(array[0, 0], tensor.detach().double().numpy())


class OnAnotherDevice:
    """Behaves as a tensor that must first be brought to the CPU."""

    def __init__(self, tensor, here=False):
        self.tensor, self.here = tensor, here

    def detach(self):
        return self

    def cpu(self):
        return OnAnotherDevice(self.tensor, here=True)

    def double(self):
        assert self.here, "read before it was brought to the CPU"
        return self.tensor.double()


def test_a_tensor_on_another_device_is_brought_to_the_cpu():
    np.testing.assert_array_equal(as_array(OnAnotherDevice(torch.eye(3))), np.eye(3))


W = np.array([[0.5, 0.5, 0.0], [0.2, 0.3, 0.5]])
NAN = np.array([[0.5, 0.5, 0.0], [0.2, np.nan, 0.5]])
Q, K = ["it", "was"], ["a", "b", "c"]
IMAGE, E = np.linspace(0, 1, 54).reshape(6, 9), np.eye(6)
STEP = {"tokens": ["the"], "vocabulary": ["cat", "dog"], "logits": [2.0, 1.0], "chosen": "cat"}


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: attention_map(W * 0.8, Q, K), ValueError, r"row 0 .*'it'.* sums to 0.8.*normalized=False"),
        (lambda: attention_map(np.stack([W, W * 2]), Q, K), ValueError, r"head 1, query 'it'\) sums to 2"),
        (lambda: attention_map(W.T, K, Q), ValueError, r"columns do sum to one.*over the queries"),
        (lambda: attention_map(NAN, Q, K), ValueError, r"NaN at query 1 \('was'\), key 1 \('b'\)"),
        (lambda: attention_map(-W, Q, K), ValueError, r"negative at query 0 .*scores"),
        (lambda: attention_map(W / 0.0, Q, K), ValueError, "NaN|infinite"),
        (lambda: attention_map(W, K, Q), ValueError, r"queries has 3 labels.* 2 along their query axis"),
        (lambda: attention_map(W, Q, Q), ValueError, r"keys has 2 labels.* 3 along their key axis"),
        (lambda: attention_map(W, "it", K), TypeError, r"one string.*split"),
        (lambda: attention_map(np.zeros((0, 3))), ValueError, r"empty, shape \(0, 3\)"),
        (lambda: attention_map(np.ones(3)), ValueError, r"1 axes, shape \(3,\)"),
        (lambda: attention_map(np.ones((2, 2, 2, 2, 2))), ValueError, r"5 axes.*weights\[0\]"),
        (lambda: attention_map([[1.0], [0.5, 0.5]]), ValueError, "different lengths"),
        (lambda: attention_map([["a"]]), TypeError, "must hold numbers"),
        (lambda: attention_map(W, Q, K, head=1), ValueError, "head=1.*0 to 0"),
        (lambda: attention_map(W, Q, K, gold={(2, 0)}), ValueError, r"gold pair \(2, 0\) lies outside"),
        (lambda: attention_map(W, Q, K, gold=np.ones((3, 2))), ValueError, r"gold must be.*\(2, 3\)"),
        (lambda: attention_map(W, Q, K, mask=np.ones((3, 2))), ValueError, "does not broadcast"),
        (lambda: attention_map(W, Q, K, mask=W), ValueError, "mask must be boolean"),
        (lambda: alignment_view(np.stack([W, W]), K, Q), ValueError, "1 layers of 2 heads"),
        (lambda: alignment_view(W, Q, K), ValueError, r"target has 3 labels.* 2 along .* \(target, source\)"),
        (lambda: alignment_view(W, Q, Q), ValueError, r"source has 2 labels.* 3 along their source axis"),
        (lambda: alignment_view(W, K, "it"), TypeError, r"target is one string.*target=text.split"),
        (lambda: alignment_view(W * 0.8, K, Q), ValueError, r"row 0 .*target 'it'.* sums to 0.8"),
        (lambda: alignment_view(W.T, Q, K), ValueError, r"columns do sum to one.*over the target"),
        (lambda: alignment_view(NAN, K, Q), ValueError, r"NaN at target 1 \('was'\), source 1 \('b'\)"),
        (
            lambda: alignment_view(W, K, Q, gold={(2, 0)}),
            ValueError,
            r"pair \(2, 0\) .*\(target index, source",
        ),
        (lambda: alignment_view(W, K, Q, gold=W.T > 0), ValueError, r"set of \(target, source\) .*\(2, 3\)"),
        (
            lambda: compare(W, W, K, K),
            ValueError,
            r"rows has 3 labels, but mine and the reference have 2 rows",
        ),
        (lambda: compare(W, W, Q, Q), ValueError, r"columns has 2 labels.* have 3 columns"),
        (lambda: compare(W, W, "it"), TypeError, r"rows is one string"),
        (lambda: compare([["a"]], W), TypeError, "mine must hold numbers"),
        (lambda: compare(W, [["a"]]), TypeError, "reference must hold numbers"),
        (lambda: compare(W, W.T), ValueError, r"\(2, 3\).*\(3, 2\).*Transposed"),
        (lambda: compare(W, W[None, :, :, None]), ValueError, "number of values agrees"),
        (lambda: compare(W, NAN), ValueError, "reference must be finite"),
        (lambda: compare([], []), ValueError, "nothing to compare"),
        (lambda: attention_bench(np.ones((9, 2)), W, W), ValueError, "at most 8 tokens of width 4"),
        (lambda: attention_bench(W, W[:, :2], W), ValueError, "query has width 3, key has width 2"),
        (lambda: attention_bench(W, W, W[:1]), ValueError, "2 keys and 1 values"),
        (lambda: attention_bench(W[0], W, W), ValueError, r"query has shape \(3,\)"),
        (lambda: attention_bench(NAN, W, W), ValueError, "query holds NaN"),
        (lambda: attention_bench(W, W, W, K), ValueError, "queries has 3 labels, but query has 2 rows"),
        (lambda: attention_bench(W, W, W, Q, K), ValueError, "keys has 3 labels, but key has 2 rows"),
        (lambda: head_view(W, Q, K, layer=1), ValueError, "layer=1.*0 to 0"),
        (lambda: head_view(W, Q, K, heads=[2]), ValueError, "heads has 2.*0 to 0"),
        (lambda: model_view(W, K, K), ValueError, "queries has 3 labels"),
        (lambda: predict_then_reveal(W, Q, K, asked=2), ValueError, "asked has 2.*0 to 1"),
        (lambda: predict_then_reveal(W, Q, K, asked=[]), ValueError, "asked is empty"),
        (lambda: predict_then_reveal(np.stack([W, W])), ValueError, "1 layers of 2 heads"),
        (lambda: kernel_regression_view(W, Q, K), TypeError, "must hold numbers"),
        (lambda: kernel_regression_view(W, W, W), ValueError, r"x_train has shape \(2, 3\).*one row"),
        (lambda: kernel_regression_view([0, 1], [1], [0]), ValueError, "y_train has 1 .* x_train has 2"),
        (lambda: kernel_regression_view([0], [1], [0, 1], truth=[1]), ValueError, "truth has 1 .*x_query"),
        (lambda: kernel_regression_view([0], [np.nan], [0]), ValueError, "y_train holds NaN"),
        (lambda: kernel_regression_view([0], [1], [0], kernel="tricube"), ValueError, "'tricube'.*triang"),
        (lambda: kernel_regression_view([0], [1], [0], width=0), ValueError, "width=0: give a positive"),
        (lambda: positions_view(width=7), ValueError, "width=7 is odd"),
        (lambda: positions_view(length=0), ValueError, "length=0"),
        (lambda: positions_view(base=1), ValueError, "base=1"),
        (lambda: positions_view(np.ones(3)), ValueError, r"code has shape \(3,\)"),
        (lambda: positions_view(NAN), ValueError, "code holds NaN"),
        (
            lambda: patch_view(IMAGE, E, patch_size=5),
            ValueError,
            "6 by 9 pixels cannot be cut into patches of 5",
        ),
        (
            lambda: patch_view(IMAGE, np.eye(5), patch_size=3),
            ValueError,
            "5 by 5 tokens, but 2 by 3.*6, or 7",
        ),
        (
            lambda: patch_view(IMAGE, E, patch_size=3, gold=E > 0),
            ValueError,
            r"gold must be boolean of shape \(6, 9\)",
        ),
        (lambda: patch_view(IMAGE, E, patch_size=3, rollout=W), ValueError, r"rollout has shape \(2, 3\)"),
        (lambda: patch_view(-1 - IMAGE, E, patch_size=3), ValueError, "undo the normalisation"),
        (lambda: patch_view(IMAGE[0], E, patch_size=3), ValueError, "image has shape|cannot be cut"),
        (lambda: generation_view([]), ValueError, "steps is empty"),
        (lambda: generation_view([{}]), ValueError, "step 0 lacks 'tokens'"),
        (lambda: generation_view([STEP | {"logits": [1.0]}]), ValueError, "the vocabulary has 2 tokens"),
        (lambda: generation_view([STEP, STEP | {"chosen": "x"}]), ValueError, "step 1: chosen 'x' is not in"),
        (lambda: generation_view([STEP | {"attention": [1.0, 0.0]}]), ValueError, "for each of the 1 tokens"),
        (lambda: generation_view([STEP | {"tokens": []}]), ValueError, "tokens is empty"),
        (lambda: generation_view([STEP], top_p=0), ValueError, "top_p=0"),
        (lambda: generation_view([STEP], top_k=0), ValueError, "at least one token"),
        (lambda: generation_view([STEP], temperature=9), ValueError, "temperature=9"),
        (lambda: generation_view([STEP], cache=(1, 2)), ValueError, "layers, heads, d_k"),
        (lambda: beam_view([0, 0], ["a", "b"], [-1, -1]), ValueError, r"shape \(2,\).*one row for each step"),
        (lambda: beam_view([], [], []), ValueError, r"parents has shape \(0,\)"),
        (lambda: beam_view([["a"]], [["a"]], [[-1]]), TypeError, "parents must hold numbers"),
        (lambda: beam_view([[0], [0, 1]], [["a"]] * 2, [[-1]] * 2), ValueError, "parents is ragged"),
        (
            lambda: beam_view([[0] * 13], [["a"] * 13], [[-1] * 13]),
            ValueError,
            "1 steps of 13 .*100 steps of 12",
        ),
        (lambda: beam_view([[0]] * 101, [["a"]] * 101, [[-1]] * 101), ValueError, "101 steps of 1 slots"),
        (
            lambda: beam_view([[0]], [["a"]], [[-1, -2]]),
            ValueError,
            r"shape \(1, 2\), but parents has \(1, 1\)",
        ),
        (lambda: beam_view([[0]], "a", [[-1]]), ValueError, "one list for each of the 1 steps"),
        (lambda: beam_view([[0]], [["a"], ["b"]], [[-1]]), ValueError, "one list for each of the 1 steps"),
        (lambda: beam_view([[0]], ["a"], [[-1]]), TypeError, r"words\[0\] is one string"),
        (lambda: beam_view([[0]], [["a", "b"]], [[-1]]), ValueError, r"words\[0\] has 2 labels.*has 1 slots"),
        (lambda: beam_view([[0]], [["a"]], [[-1]], alpha=-1), ValueError, "alpha=-1 is outside 0 to 5"),
        (lambda: beam_view([[0]], [["a"]], [[-1]], alpha=np.nan), ValueError, "alpha=nan is outside"),
        (lambda: beam_view([[0]] * 2, [["a"]] * 2, [[-1]] * 2, max_length=1), ValueError, "has 2 steps"),
        (lambda: beam_view([[0], [-1]], [["a"]] * 2, [[-1]] * 2), ValueError, r"parents\[1\] has no slot"),
        (
            lambda: beam_view([[1, 0]], [["a"] * 2], [[-1] * 2]),
            ValueError,
            r"parents\[0\]\[0\] is 1, .*start",
        ),
        (lambda: beam_view([[0], [1]], [["a"]] * 2, [[-1]] * 2), ValueError, r"\[1\]\[0\] is 1, but.*0 to 0"),
        (lambda: beam_view([[0.5]], [["a"]], [[-1]]), ValueError, r"parents\[0\]\[0\] is 0.5"),
        (
            lambda: beam_view([[0, -1], [0, 1]], [["a"] * 2] * 2, [[-1] * 2] * 2),
            ValueError,
            r"parents\[1\]\[1\] is 1, but that slot was empty",
        ),
        (
            lambda: beam_view([[0], [0]], [["<eos>"], ["a"]], [[-1], [-2]]),
            ValueError,
            r"parents\[1\]\[0\] is 0, but that slot had ended.*not prolonged",
        ),
        (
            lambda: beam_view([[0]], [["a"]], [[0.5]]),
            ValueError,
            r"probabilities\[0\]\[0\] is 0.5.*zero or below",
        ),
        (lambda: beam_view([[0]], [["a"]], [[-np.inf]]), ValueError, "is -inf.*has the parent -1"),
        (lambda: beam_view([[0]], [["a"]], [[np.nan]]), ValueError, "is nan.*logarithm"),
        (
            lambda: beam_view([[0], [0]], [["a"], ["b"]], [[-2], [-1]]),
            ValueError,
            r"\[1\]\[0\] is -1, higher than the -2 .*not the last word's alone",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero", "ignore:invalid value")
def test_a_wrong_call_is_refused_in_words_that_help(call, error, words):
    with pytest.raises(error) as raised:
        call()
    assert re.search(words, str(raised.value), re.DOTALL), str(raised.value)


def test_rows_that_do_not_sum_to_one_are_allowed_on_request_and_rows_of_zeros_always():
    assert attention_map(W * 0.8, Q, K, normalized=False).data["top"] == pytest.approx(0.4)
    attention_map(np.array([[0.0, 0.0, 0.0], [0.2, 0.3, 0.5]]), Q, K)


def test_keys_default_to_queries_only_where_they_fit():
    assert attention_map(np.eye(2), Q).data["keys"] == Q
    assert attention_map(W, Q).data["keys"] == ["0", "1", "2"]


def test_gold_as_pairs_and_as_a_matrix_mean_the_same():
    matrix = np.zeros((2, 3), bool)
    matrix[0, 1] = matrix[1, 2] = True
    assert as_pairs(matrix, 2, 3) == as_pairs(frozenset({(1, 2), (0, 1)}), 2, 3) == [(0, 1), (1, 2)]
    assert as_pairs([(1, 2), (0, 1)], 2, 3) == [(0, 1), (1, 2)]
    assert as_pairs([[False, True, False], [False, False, True]], 2, 3) == [(0, 1), (1, 2)]
    assert as_pairs(((0, 1), (1, 0)), 2, 2) == [(0, 1), (1, 0)]


def test_a_mask_broadcasts_as_the_weights_do():
    assert as_mask(np.ones((1, 7), bool), (2, 3, 5, 7)).shape == (1, 1, 5, 7)
    assert as_mask(torch.ones(2, 1, 5, 7, dtype=torch.bool), (2, 3, 5, 7)).shape == (2, 1, 5, 7)


@pytest.mark.parametrize(("queries", "keys"), [(5, 5), (2, 7), (7, 2), (1, 5)])
def test_the_bench_has_the_course_s_causal_mask_at_hand(queries, keys):
    view = attention_bench(np.ones((queries, 3)), np.ones((keys, 3)), np.ones((keys, 2)))
    assert view.data["mask"] == causal_mask(queries, keys).tolist()
    assert not view.data["masked"]
