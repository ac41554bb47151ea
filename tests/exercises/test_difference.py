"""What counts as the same result: form first, without what is harmless, then numbers up to a tolerance."""

import numpy as np
import pytest
import torch

from course_lib.exercises.difference import conform, difference, equal
from course_lib.exercises.exercise import Unusable

X = torch.arange(6.0).reshape(2, 3) / 7
MASK = X > 0.3


@pytest.mark.parametrize(
    "mine",
    [
        X,
        X.double(),
        X.numpy(),
        X.tolist(),
        list(X),
        (X, torch.ones(2)),
        (X.numpy(), "more"),
        X.clone().requires_grad_(),
        X + 1e-6,
    ],
)
def test_harmless_forms_are_accepted(mine):
    assert equal(conform(mine, X), X, 1e-4)


def test_numbers_beyond_the_tolerance_differ():
    assert not equal(X + 1e-3, X, 1e-4)
    assert equal(1000 * X + 0.05, 1000 * X, 1e-4)  # of the largest, not of each
    found = difference(X + torch.tensor([0.0, 0.0, 0.5]), X, 1e-4, "title")
    assert found.words.startswith("2 of 6 numbers differ") and found.view.kind == "compare"


def test_nan_equals_nan_alone():
    nan = X.clone()
    nan[0, 0] = float("nan")
    assert equal(nan, nan.clone(), 1e-4) and not equal(nan, X, 1e-4) and not equal(X, nan, 1e-4)
    assert "not finite" in difference(nan, X, 1e-4, "title").words


@pytest.mark.parametrize(
    "mine, expected, words",
    [
        (X.T, X, "Transposed, it would fit"),
        (X[:, :2], X, r"\(2, 2\).*\(2, 3\)"),
        (None, X, "None"),
        ("text", X, "a str"),
        (X + 0j, X, "shape"),
        (MASK.int(), MASK, "True and False"),
        (X[None], X, "there is an axis too many"),
        (X.flatten(), X, "is an axis missing"),
        (X, (X, X), "expected are 2 results"),
        ((X,), (X, X), "1 results"),
        ((X, X.T), (X, X), "Transposed"),
        (X, 1.0, "one number"),
        ("yes", True, "True or False"),
        (7, frozenset(), "a set"),
        ([[1, 2]], frozenset(), "members of a set"),
        ([[1.0], [1.0, 2.0]], X, "a list"),
    ],
)
def test_another_form_is_said_in_words(mine, expected, words):
    with pytest.raises(Unusable, match=words):
        conform(mine, expected)


def test_numbers_become_a_mask_by_bool_only_where_that_would_be_right():
    added = torch.zeros(2, 3).masked_fill(~MASK, float("-inf"))
    for numbers, advised in ((added, False), (MASK.float(), True), ((~MASK).float(), False)):
        with pytest.raises(Unusable) as error:
            conform(numbers, MASK)
        assert (".bool()" in str(error.value)) == advised


@pytest.mark.parametrize(
    "mine, expected",
    [(2, 2.0), (torch.tensor(2.0), 2), (np.float64(2), 2.0), (torch.tensor([2.0]), 2.0), (np.True_, True)],
)
def test_numbers_come_in_many_kinds(mine, expected):
    assert equal(conform(mine, expected), expected, 1e-4)


def test_numbers_and_sets_that_differ():
    assert not equal(conform(3, 2), 2, 1e-4) and not equal(conform(False, True), True, 1e-4)
    links = frozenset({(0, 1), (1, 0)})
    assert equal(conform([(1, 0), (0, 1)], links), links, 1e-4)
    assert not equal(conform({(0, 1)}, links), links, 1e-4)
    assert difference(conform({(0, 1)}, links), links, 1e-4, "").words == (
        "It returned [(0, 1)]; expected is [(0, 1), (1, 0)]."
    )


def test_of_several_results_the_one_that_differs_is_shown():
    found = difference((X, X + 1), (X, X), 1e-4, "title")
    assert "6 of 6" in found.words


def test_large_counts_as_floats_stay_exact():
    assert conform(2.0**24 + 1, 0) == 2**24 + 1
