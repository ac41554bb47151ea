"""Bring a result into the form of the right one, and say in what their numbers differ."""

from collections.abc import Set
from numbers import Number
from typing import Any, NamedTuple

import numpy as np
import torch

from course_lib.exercises.exercise import Unusable
from course_lib.widgets.compare import compare
from course_lib.widgets.output import View


class Difference(NamedTuple):
    """Words, and a view where there are numbers to look at."""

    words: str
    view: View | None = None


def conform(mine: Any, expected: Any) -> Any:
    """Return a result in the form of the expected one, without what is harmlessly different.

    Numbers may come as another dtype, as a NumPy array or as a list, and further results may follow those
    that are expected. Raises Unusable, with words for the learner, for another kind or shape.
    """
    if isinstance(expected, tuple):
        if not isinstance(mine, tuple | list) or len(mine) < len(expected):
            raise Unusable(f"It returned {_kind(mine)}; expected are {len(expected)} results.")
        return tuple(conform(part, wanted) for part, wanted in zip(mine, expected, strict=False))
    if isinstance(expected, Set):
        if not isinstance(mine, Set | list | tuple):
            raise Unusable(f"It returned {_kind(mine)}; expected is a set.")
        try:
            return frozenset(mine)
        except TypeError as error:
            raise Unusable(f"What it returned cannot be the members of a set: {error}.") from error
    if isinstance(mine, tuple) and mine and isinstance(mine[0], torch.Tensor | np.ndarray):
        mine = mine[0]  # output and weights, say, where the output is asked for
    tensor = _as_tensor(mine)
    if tensor is None or tensor.is_complex():
        raise Unusable(f"It returned {_kind(mine)}; expected is {_kind(expected)}.")
    if not isinstance(expected, torch.Tensor):  # a number, or True or False
        if tensor.numel() != 1:
            raise Unusable(f"It returned {_kind(mine)}; expected is {_kind(expected)}.")
        return tensor.detach().item()
    if expected.dtype == torch.bool and tensor.dtype != torch.bool:
        words = (
            f"It returned numbers ({tensor.dtype}); a mask holds True and False. A comparison such as a <= b "
            f"gives those"
        )
        # Not of a mask to be added: there 0 is what may be seen, and .bool() would turn it round.
        fits = tensor.shape == expected.shape and torch.equal(tensor.bool(), expected)
        raise Unusable(f"{words}{', and .bool() makes them of numbers' if fits else ': return it as it is'}.")
    if tensor.shape != expected.shape:
        try:
            compare(tensor, expected)
        except ValueError as error:  # its words also guess why
            words = str(error).replace("mine has shape", "Your result has the shape")
            if tensor.ndim > expected.ndim:
                words = words.replace(
                    "is an axis missing, or in another place?", "there is an axis too many."
                )
            raise Unusable(words) from error
    return tensor


def equal(mine: Any, expected: Any, tolerance: float) -> bool:
    """Whether two results of one form agree: numbers up to the tolerance, NaN with NaN, the rest exactly."""
    if isinstance(expected, tuple):
        return all(equal(*pair, tolerance) for pair in zip(mine, expected, strict=True))
    if isinstance(expected, torch.Tensor):
        mine, expected = _doubles(mine, expected)
        close = (mine - expected).abs() <= _bound(expected, tolerance)
        return bool((close | (mine == expected) | (mine.isnan() & expected.isnan())).all())
    if isinstance(expected, Set | bool):
        return mine == expected
    close = abs(mine - expected) <= tolerance * max(1.0, abs(expected))
    return close or mine == expected or (mine != mine and expected != expected)


def coarseness(value: Any) -> float:
    """By how much two neighbouring numbers near 1 differ in a result of half precision; 0 in another."""
    if isinstance(value, tuple | list):
        return max(map(coarseness, value), default=0.0)
    half = isinstance(value, torch.Tensor) and value.dtype in (torch.float16, torch.bfloat16)
    return torch.finfo(value.dtype).eps if half else 0.0


def difference(mine: Any, expected: Any, tolerance: float, title: str) -> Difference:
    """Say how two results of one form, which are not equal, differ."""
    if isinstance(expected, tuple) and any(isinstance(part, torch.Tensor) for part in expected):
        parts = zip(mine, expected, strict=True)
        return next(difference(*pair, tolerance, title) for pair in parts if not equal(*pair, tolerance))
    if isinstance(expected, torch.Tensor):
        mine, expected = _doubles(mine, expected)
        view = compare(mine, expected, atol=_bound(expected, tolerance), title=title)
        return Difference(f"{view.alt[0].upper()}{view.alt[1:]}.", view)
    if isinstance(expected, Set):
        mine, expected = (sorted(members, key=repr) for members in (mine, expected))
    return Difference(f"It returned {_plain(mine)}; expected is {_plain(expected)}.")


def _plain(value: Any) -> str:
    """A value as text, without the digits in which numbers that were computed differ anyway."""
    if isinstance(value, tuple):
        return f"({', '.join(map(_plain, value))})"
    return f"{value:.10g}" if isinstance(value, float) else str(value)


def _doubles(*tensors: torch.Tensor) -> list[torch.Tensor]:
    return [tensor.detach().cpu().double() for tensor in tensors]


def _bound(expected: torch.Tensor, tolerance: float) -> float:
    finite = expected[expected.isfinite()].abs()
    bound = tolerance * max(1.0, finite.max().item() if len(finite) else 0.0)
    return float(f"{bound:.0e}")  # a learner is told this number


def _as_tensor(value: Any) -> torch.Tensor | None:
    """Numbers as a tensor, whatever they came in; None for what holds no numbers."""
    if isinstance(value, list | tuple) and value and all(isinstance(v, torch.Tensor) for v in value):
        return torch.stack(tuple(value)) if len({v.shape for v in value}) == 1 else None
    try:
        # As exact as Python's own numbers: large counts may come as floats.
        return torch.as_tensor(value, dtype=torch.float64 if isinstance(value, float) else None)
    except (TypeError, ValueError, RuntimeError):
        return None


def _kind(value: Any) -> str:
    if isinstance(value, torch.Tensor | np.ndarray):
        return f"numbers of shape {tuple(value.shape)}"
    if isinstance(value, bool):
        return "True or False"
    if isinstance(value, Number):
        return "one number"
    if isinstance(value, tuple):
        return f"{len(value)} results"
    return "None (is a return missing?)" if value is None else f"a {type(value).__name__}"
