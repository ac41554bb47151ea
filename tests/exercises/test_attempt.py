"""Calling a learner's function: on copies, for a limited time, with the learner's lines when it fails."""

import _thread
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import torch

from course_lib.exercises.attempt import TookTooLong, attempt, where

X = torch.arange(6.0).reshape(2, 3)


def forever():
    while True:
        pass


def forever_and_swallows_exceptions():
    while True:
        try:
            time.sleep(0.001)
        except Exception:
            continue


def forever_and_swallows_everything():
    while True:
        try:
            sum(range(10))
        except:  # noqa: E722
            continue


def forever_with_tensors():
    x = torch.zeros(3)
    while x.sum() < 1:
        x = x * 2


@pytest.mark.parametrize(
    "function",
    [
        forever,
        forever_and_swallows_exceptions,
        forever_and_swallows_everything,
        forever_with_tensors,
    ],
)
def test_endless_loop_is_ended_at_its_line(function):
    start = time.perf_counter()
    outcome = attempt(function, (), [], seconds=0.3)
    assert isinstance(outcome.error, TookTooLong)
    assert 0.3 <= time.perf_counter() - start < 60
    assert function.__name__ in where(outcome.error, function)


def test_endless_loop_is_ended_in_another_thread_too():
    """Where an alarm signal could not be set."""
    outcomes = []
    thread = threading.Thread(target=lambda: outcomes.append(attempt(forever, (), [], seconds=0.3)))
    thread.start()
    thread.join(timeout=60)
    assert isinstance(outcomes[0].error, TookTooLong)


def test_nothing_is_raised_once_a_call_is_over():
    """Many calls that end just when their time is over: the exception belongs to the call or to nobody."""
    for _ in range(200):
        attempt(time.sleep, (0.002,), [], seconds=0.002)
        for _ in range(100):
            pass
    time.sleep(0.6)


PROFILED = """
import cProfile
from course_lib.exercises.attempt import attempt
answer = lambda x: sum(number for number in range(1000))
print(cProfile.Profile().runcall(attempt, answer, (1,), ["x"], 60).value)
"""


def test_a_call_can_be_profiled():
    """In a process of its own, since an interpreter that hangs here cannot be stopped from within."""
    given = [sys.executable, "-c", PROFILED]
    assert subprocess.run(given, capture_output=True, text=True, timeout=120).stdout == "499500\n"


def test_a_quick_call_leaves_no_thread_behind():
    before = _thread._count()
    for _ in range(20):
        attempt(lambda: 1, (), [], seconds=60)
    time.sleep(0.2)
    assert _thread._count() <= before


def test_what_a_call_returns_is_kept():
    outcome = attempt(lambda x: x + 1, (X,), ["x"], seconds=5)
    assert torch.equal(outcome.value, X + 1) and outcome.error is None and outcome.changed == ()


def add_in_place(x, y):
    x += 1
    return x + y


def test_arguments_changed_in_place_are_named_and_the_callers_stay():
    before = X.clone()
    outcome = attempt(add_in_place, (X, X), ["x", "y"], seconds=5)
    assert outcome.changed == ("x", "y")  # one tensor under two names stays one
    assert torch.equal(X, before)
    assert attempt(add_in_place, (X, X.clone()), ["x", "y"], seconds=5).changed == ("x",)
    assert attempt(lambda x: x.t_(), (X.clone(),), ["x"], seconds=5).changed == ("x",)


def test_nan_that_stays_is_no_change():
    x = torch.tensor([1.0, float("nan")])
    assert attempt(lambda x: x * 2, (x,), ["x"], seconds=5).changed == ()


def fails_inside(x):
    rows = x.tolist()
    return helper(rows)


def helper(rows):
    return rows[7]


def test_error_is_shown_at_the_learners_lines_alone():
    outcome = attempt(fails_inside, (X,), ["x"], seconds=5)
    assert isinstance(outcome.error, IndexError)
    lines = where(outcome.error, fails_inside).splitlines()
    assert [line.split(",")[0] for line in lines] == ["in fails_inside", "in helper"]
    assert "rows[7]" in lines[1] and "attempt" not in "".join(lines)


def test_error_within_a_library_is_shown_at_the_line_that_called_it():
    def sums(x):
        return np.sum(x.numpy(), axis=9)

    outcome = attempt(sums, (X,), ["x"], seconds=5)
    lines = where(outcome.error, sums).splitlines()
    assert len(lines) == 1 and "np.sum" in lines[0]


def test_wrong_number_of_arguments_has_no_line_of_the_learners():
    def two(a, b):
        return a

    outcome = attempt(two, (X,), ["x"], seconds=5)
    assert isinstance(outcome.error, TypeError) and where(outcome.error, two) == ""


def test_endless_recursion_is_an_error():
    def again(x):
        return again(x)

    outcome = attempt(again, (X,), ["x"], seconds=20)
    assert isinstance(outcome.error, RecursionError)


def test_interrupt_by_the_learner_goes_through():
    def interrupted():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        attempt(interrupted, (), [], seconds=5)
