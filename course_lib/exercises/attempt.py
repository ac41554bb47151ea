"""Call a learner's function: for a limited time, on copies, and note what it returned, raised or changed."""

import _thread
import copy
import ctypes
import inspect
import linecache
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

_MOST_FRAMES = 3


@contextmanager
def one_thread() -> Iterator[None]:
    """Have PyTorch compute on one thread meanwhile.

    The inputs of a check are so small that a second thread only waits for the first one. Where other
    programs run as well, that waiting took ten to twenty times as long as the work.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class TookTooLong(BaseException):
    """Ends a call. No Exception, so that `except Exception` in a learner's loop lets it through."""


def _raise_in(thread: int, error: type[BaseException]) -> None:
    """Have an exception raised in a thread before its next step."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(error))


class Watch:
    """Raise TookTooLong in the thread that made it unless it is closed in time.

    A second thread waits, and then asks the interpreter to raise in the first one. That works the same on
    Linux, macOS and Windows and in any thread. (An alarm signal is unknown to Windows and reserved for the
    main thread; a trace function slows every line and gets in the way of debuggers; a process of its own
    cannot be given what lives in a notebook.) A call into compiled code is waited for. A bare `except:` may
    swallow the exception, so it is raised again until the call is over.
    """

    def __init__(self, seconds: float):
        self.thread, self.seconds, self.over = threading.get_ident(), seconds, False
        # Plain locks: those of threading's other classes, written in Python, an exception could leave held.
        self.raising, self.running = threading.Lock(), threading.Lock()
        self.running.acquire()

    def start(self) -> None:
        # A Thread's start would wait for the other's first step, which takes longer than most answers do.
        _thread.start_new_thread(self._wait, ())

    def _wait(self) -> None:
        wait = self.seconds
        while not self.running.acquire(timeout=wait):
            with self.raising:
                if not self.over:
                    _raise_in(self.thread, TookTooLong)
            wait = 0.1

    def close(self) -> None:
        """Once `over` is set: wait until nothing more can be asked for, and for what was, to be raised.

        The interpreter could be asked to take it back. But then Python 3.11 would ask itself at each step
        whether there is something to raise, and under a profiler or a debugger never get beyond that.
        """
        with self.raising:
            if self.running.locked():
                self.running.release()
        for _ in range(2):  # a step in which it is raised, if it has not been yet
            pass


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
    try:
        value, error = _watched(function, copies, seconds)
    except TookTooLong as late:  # raised when the call was over, and its watch just being closed
        value, error = None, late
    changed = tuple(
        name
        for name, before, after in zip(names, arguments, copies, strict=False)
        if isinstance(before, torch.Tensor) and not _identical(before, after)
    )
    return Outcome(value, error, copies, changed)


def _watched(function: Callable, arguments: tuple, seconds: float) -> tuple[Any, BaseException | None]:
    watch = Watch(seconds)
    try:
        try:
            watch.start()
            return function(*arguments), None
        finally:
            watch.over = True  # an assignment cannot be interrupted, as a call could be
            watch.close()
    except (Exception, SystemExit, TookTooLong) as error:  # exit() must not end the notebook
        watch.close()  # once more: the first one may have been interrupted
        return None, error


def _stub(): ...


def _documented_stub():
    """A docstring, and nothing else."""


_STUBS = {stub.__code__.co_code for stub in (_stub, _documented_stub)}


def is_stub(function: Callable) -> bool:
    """Whether a function that returns None has a body of `...`, `pass` or a docstring alone."""
    function = function.forward if isinstance(function, torch.nn.Module) else inspect.unwrap(function)
    code = getattr(function, "__code__", None)
    return code is not None and code.co_code in _STUBS


def _identical(before: torch.Tensor, after: torch.Tensor) -> bool:
    same_form = before.shape == after.shape and before.dtype == after.dtype
    return same_form and bool(((before == after) | ((before != before) & (after != after))).all())


def where(error: BaseException | None, function: Callable) -> str:
    """The learner's lines of a traceback, without ours and without those of libraries."""
    # All cells of a notebook share one namespace, and so do the functions of a module.
    home = getattr(inspect.unwrap(function), "__globals__", None)
    lines = []
    while error is not None and not lines:
        frames = [pair for pair in traceback.walk_tb(error.__traceback__) if pair[0].f_globals is home]
        for frame, line in frames[-_MOST_FRAMES:]:
            text = linecache.getline(frame.f_code.co_filename, line, frame.f_globals).strip()
            lines.append(f"in {frame.f_code.co_name}, line {line}" + (f":    {text}" if text else ""))
        error = error.__context__  # TookTooLong may come twice, the second time after the learner's lines
    return "\n".join(lines)
