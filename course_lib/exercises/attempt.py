"""Call a learner's function: for a limited time, on copies, and note what it returned, raised or changed."""

import copy
import ctypes
import inspect
import linecache
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

_OUR_FOLDER = str(Path(__file__).parent)
_MOST_FRAMES = 3


class TookTooLong(BaseException):
    """Ends a call. No Exception, so that `except Exception` in a learner's loop lets it through."""


@dataclass(frozen=True)
class Outcome:
    """What came of one call: a value or an error, and what became of the arguments.

    arguments: the copies that the function was given. changed: the names of those that it changed.
    """

    value: Any = None
    error: BaseException | None = None
    arguments: tuple = ()
    changed: tuple[str, ...] = ()


def attempt(function: Callable, arguments: tuple, names: list[str], seconds: float) -> Outcome:
    """Call a function on copies of the arguments, whose names are given, and end it after a while."""
    copies = copy.deepcopy(arguments)
    value, error = None, None
    try:
        with time_limit(seconds):
            value = function(*copies)
    except (Exception, TookTooLong) as raised:
        error = raised
    changed = tuple(
        name
        for name, before, after in zip(names, arguments, copies, strict=False)
        if isinstance(before, torch.Tensor) and not _identical(before, after)
    )
    return Outcome(value, error, copies, changed)


def _identical(before: torch.Tensor, after: torch.Tensor) -> bool:
    same_form = before.shape == after.shape and before.dtype == after.dtype
    return same_form and bool(((before == after) | ((before != before) & (after != after))).all())


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise TookTooLong in this thread if the block runs longer.

    A second thread waits, and then asks the interpreter to raise in the first one, before its next step. That
    works the same on Linux, macOS and Windows and in any thread. (An alarm signal is unknown to Windows and
    reserved for the main thread; a trace function slows every line and gets in the way of debuggers; a
    process of its own cannot be given what lives in a notebook.) A call into compiled code is waited for.
    """
    thread = ctypes.c_ulong(threading.get_ident())
    raise_in = ctypes.pythonapi.PyThreadState_SetAsyncExc
    over, lock = threading.Event(), threading.Lock()

    def watch() -> None:
        wait = seconds
        while not over.wait(wait):
            with lock:  # so that nothing is raised once the block is over
                if not over.is_set():
                    raise_in(thread, ctypes.py_object(TookTooLong))
            wait = 0.1  # a bare `except:` may have swallowed it: again

    def close() -> None:
        with lock:
            over.set()
        raise_in(thread, None)  # forget what was asked for and has not been raised yet

    threading.Thread(target=watch, daemon=True).start()
    try:
        try:
            yield
        finally:
            close()
    except TookTooLong:
        close()  # it may have been raised within the first close()
        raise


def where(error: BaseException, function: Callable) -> str:
    """The learner's lines of a traceback, without ours and without those of libraries."""
    frames = [(frame, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    frames = [pair for pair in frames if not pair[0].f_code.co_filename.startswith(_OUR_FOLDER)]
    # All cells of a notebook share one namespace, and so do the functions of a module.
    home = getattr(inspect.unwrap(function), "__globals__", None)
    own = [(frame, line) for frame, line in frames if frame.f_globals is home]
    lines = []
    for frame, line in own[-_MOST_FRAMES:]:
        text = linecache.getline(frame.f_code.co_filename, line, frame.f_globals).strip()
        lines.append(f"in {frame.f_code.co_name}, line {line}" + (f":    {text}" if text else ""))
    return "\n".join(lines)
