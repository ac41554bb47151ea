"""Arrays packed for the page: read back by Python as static/payload.js reads them."""

import base64
import zlib

import numpy as np
import pytest

from course_lib.widgets import attention_map, compare, model_view, payload, predict_then_reveal
from course_lib.widgets.payload import pack


def read(packed, index):
    start = packed["ends"][index - 1] if index else 0
    raw = zlib.decompress(base64.b64decode(packed["data"][start : packed["ends"][index]]), -zlib.MAX_WBITS)
    if packed["kind"] == "float32":
        values = np.frombuffer(raw, "<f4")
    elif packed["kind"] == "byte":
        values = np.frombuffer(raw, np.uint8)
    else:
        values = packed["top"] * (np.frombuffer(raw, np.uint8) / packed["levels"]) ** 2
    values = values.reshape(packed["shape"][-2:])
    if "peaks" in packed:
        columns, peaks = read(packed["peaks"], index).T
        values = np.minimum(values, peaks[:, None])
        values[np.arange(len(values)), columns.astype(int)] = peaks
    return values


def test_small_arrays_keep_single_precision(make_weights):
    weights = make_weights(2, 3, 5, 7)
    packed = pack(weights)
    np.testing.assert_array_equal(read(packed, 4), weights[1, 1].astype(np.float32))


def test_large_arrays_keep_what_can_be_seen(make_weights):
    weights = make_weights(3, 61, 67)
    packed = pack(weights)
    assert (packed["kind"], packed["levels"]) == ("root", 255)
    error = np.abs(read(packed, 2) - weights[2])
    assert error.max() <= packed["top"] / 255
    # Small weights are kept more finely than large ones.
    assert error[weights[2] < 0.01].max() < 0.001
    # The largest of each row is exact.
    np.testing.assert_array_equal(read(packed, 2).max(axis=1), weights[2].max(axis=1).astype(np.float32))
    assert pack(weights, exact=True)["kind"] == "float32"


def test_booleans_come_back():
    mask = np.tril(np.ones((5, 7), bool))
    np.testing.assert_array_equal(read(pack(mask), 0), mask)


def test_an_array_that_would_be_too_large_gets_fewer_steps(make_weights, monkeypatch):
    weights = make_weights(5, 67, 71)
    full = len(pack(weights)["data"])
    monkeypatch.setattr(payload, "LARGEST", full // 2)
    monkeypatch.setattr(payload, "SMALLEST_LIMIT", 0)
    packed = pack(weights)
    assert len(packed["data"]) + len(packed["peaks"]["data"]) <= full // 2
    assert 3 <= packed["levels"] < 255
    assert np.abs(read(packed, 0) - weights[0]).max() <= packed["top"] / packed["levels"]


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (2, 3, 5, 7)])
def test_an_array_of_zeros_is_packed(shape):
    assert read(pack(np.zeros(shape), exact=False), 0).max() == 0


def test_the_promise_holds_where_a_few_matrices_say_nothing_about_the_rest(make_weights, monkeypatch):
    """Every fifth matrix is a plain one that packs into nothing; the others are noise."""
    weights = make_weights(35, 31, 37)
    weights[::7] = 0
    weights[::7, :, 0] = 1
    limit = 20_000
    monkeypatch.setattr(payload, "LARGEST", limit)
    monkeypatch.setattr(payload, "SMALLEST_LIMIT", 0)
    packed = pack(weights, exact=False)
    assert len(packed["data"]) + len(packed["peaks"]["data"]) <= limit
    # What stands beside it in the output is counted.
    less = pack(weights, exact=False, beside=3_000)
    assert len(less["data"]) + len(less["peaks"]["data"]) <= limit - 3_000
    assert less["levels"] < packed["levels"]


def test_what_cannot_be_made_small_enough_is_refused(make_weights, monkeypatch):
    monkeypatch.setattr(payload, "LARGEST", 2_000)
    monkeypatch.setattr(payload, "SMALLEST_LIMIT", 0)
    with pytest.raises(ValueError, match=r"\(35, 31, 37\) do not fit .* such as weights\[:1\]"):
        pack(make_weights(35, 31, 37), exact=False)


@pytest.mark.parametrize("view", [attention_map, model_view])
def test_twelve_layers_of_twelve_heads_stay_small_at_their_worst(view):
    """Noise in every weight and in every mask: nothing that packing could use."""
    numbers = np.random.default_rng(0)
    weights = numbers.random((12, 12, 128, 128))
    weights /= weights.sum(axis=-1, keepdims=True)
    mask = numbers.random(weights.shape) > 0.5
    tokens = ["שלום" * 8] * 128
    output = view(weights, tokens, mask=mask)._repr_html_()
    assert len(output.encode()) <= 3_200_000


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda big: attention_map(big, exact=True), "1,960,000 numbers .* at most 1,762,500 .* a part"),
        (lambda big: predict_then_reveal(big), "1,960,000 numbers"),
        (lambda big: compare(big[:800, :800], big[:800, :800]), "640,000 numbers .* at most 587,500 .* mine"),
    ],
)
def test_more_numbers_than_fit_with_all_their_digits_are_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call(np.full((1400, 1400), 1 / 1400))
