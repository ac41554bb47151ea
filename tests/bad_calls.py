"""Calls that the library must refuse.

A table holds each as a text, so that it reads as what a learner would type, with its error and the words that
this must hold:

    ("causal_mask(-1)", ValueError, ["num_queries", "at least 0", "-1"])
"""

from pathlib import Path

import pytest


def each_bad_call(table):
    """Run a test with the call, error and words of each line of a table."""
    return pytest.mark.parametrize("call, error, words", table, ids=[call for call, _, _ in table])


def assert_refused(call, error, words, names, *modules):
    """Check that a call raises this very error, with all these words in it, from one of these modules.

    Python and PyTorch raise errors of the same types by themselves: the words must be the library's own.

    names: what the call may use, as globals() gives it.
    modules: names of files, such as "attention.py".
    """
    with pytest.raises(error) as raised:
        eval(call, names)
    assert type(raised.value) is error
    raised_in = Path(raised.traceback[-1].path).name
    assert raised_in in modules, f"raised in {raised_in}: {raised.value}"
    for word in words:
        assert word in str(raised.value), f"{word!r} is missing from: {raised.value}"
