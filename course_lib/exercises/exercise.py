"""What an exercise is made of, and where all of them are kept.

A chapter's exercises stand in `chapter_NN.py`. An exercise is a reference with inputs and known mistakes:

    @exercise("3.1", inputs, solved="...")
    def weights_from_scores(scores): ...

    @weights_from_scores.mistake("softmax over the queries", "Your weights sum to one down the columns: ...")
    def over_queries(scores): ...

A target is open-ended: any answer will do whose measured numbers reach the goals.
"""

import importlib
import pkgutil
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch

Inputs = Callable[[torch.Generator], Iterator[tuple[str, tuple]]]


@dataclass(frozen=True)
class Mistake:
    """A known wrong answer: a function that makes it, its name, and why it is wrong.

    as_given: whether this is the faulty function that the learner is given to mend.
    """

    make: Callable
    name: str
    why: str
    as_given: bool = False


@dataclass(frozen=True)
class Exercise:
    """An exercise whose right answer is known.

    reference: the right answer; the names of its arguments are those that a learner is shown.
    inputs: draws pairs of a property in words and the arguments that test it, anew for each check.
    solved: one sentence on what a right answer makes possible.
    tolerance: how far numbers may be off, as a share of the largest (of 1, if all are smaller).
    reading: what is compared, from a result and its arguments, where many right results differ.
    remark: what to say first of a reading with several parts, from which of them are right and the reading.
    """

    number: str
    reference: Callable
    inputs: Inputs
    solved: str
    tolerance: float = 1e-4
    reading: Callable[..., Any] = lambda result, *arguments: result
    remark: Callable[[list[bool], Any], str] = lambda right, reading: ""
    mistakes: list[Mistake] = field(default_factory=list)

    def mistake(self, name: str, why: str, as_given: bool = False) -> Callable[[Callable], Callable]:
        """Add the decorated function to the known mistakes; one mistake may be made in several ways."""

        def add(make: Callable) -> Callable:
            self.mistakes.append(Mistake(make, name, why, as_given))
            return make

        return add


@dataclass(frozen=True)
class Goal:
    """One number that a target measures, and the bound that it must keep."""

    what: str
    found: float
    at_least: float | None = None
    at_most: float | None = None

    @property
    def reached(self) -> bool:
        above = self.at_least is None or self.found >= self.at_least
        return above and (self.at_most is None or self.found <= self.at_most)

    @property
    def bounds(self) -> str:
        words = ("at least", self.at_least), ("at most", self.at_most)
        return " and ".join(f"{word} {in_words(bound)}" for word, bound in words if bound is not None)


def in_words(number: float) -> str:
    return f"{number:,}" if isinstance(number, int) else f"{number:.3g}"


@dataclass(frozen=True)
class Target:
    """An open-ended exercise: `measure(answer, generator, **options)` returns the goals."""

    number: str
    measure: Callable[..., list[Goal]]
    solved: str


class Unusable(Exception):
    """Raised by a reading or a measurement, with words for the learner, for a result that it cannot use."""


_REGISTRY: dict[str, Exercise | Target] = {}


def exercise(number: str, inputs: Inputs, **about: Any) -> Callable[[Callable], Exercise]:
    """Make the decorated function the reference of an exercise; `about` are the exercise's other fields."""
    return lambda reference: _register(Exercise(number, reference, inputs, **about))


def target(number: str, solved: str) -> Callable[[Callable], Target]:
    """Make the decorated function the measurement of an open-ended exercise."""
    return lambda measure: _register(Target(number, measure, solved))


def _register(task: Exercise | Target) -> Any:
    if task.number in _REGISTRY:
        raise ValueError(f"exercise {task.number} stands there twice")
    _REGISTRY[task.number] = task
    return task


def chapters() -> list[int]:
    """The numbers of all chapters that have exercises."""
    package = importlib.import_module(__package__)
    names = (module.name for module in pkgutil.iter_modules(package.__path__))
    return sorted(int(name.removeprefix("chapter_")) for name in names if name.startswith("chapter_"))


def title(chapter: int) -> str:
    """The title of a chapter."""
    return _load(chapter).TITLE


def of_chapter(chapter: int) -> list[Exercise | Target]:
    """The exercises of a chapter that can be checked, in order."""
    _load(chapter)
    found = [task for number, task in _REGISTRY.items() if int(number.split(".")[0]) == chapter]
    return sorted(found, key=lambda task: int(task.number.split(".")[1]))


def find(number: str) -> Exercise | Target:
    """The exercise of that number, such as "3.2".

    Raises TypeError for a number that is no string (3.10 would be 3.1), ValueError for an unknown one.
    """
    if not isinstance(number, str):
        raise TypeError(f'write the number of the exercise in quotes: check("3.2", ...), not {number!r}')
    chapter = int(number.split(".")[0]) if re.fullmatch(r"[0-9]{1,3}\.[0-9]{1,3}", number) else None
    if chapter not in chapters():
        known = ", ".join(map(str, chapters()))
        raise ValueError(f"there is no exercise {number!r}; the chapters are {known}")
    tasks = {task.number: task for task in of_chapter(chapter)}
    if number not in tasks:
        raise ValueError(f"there is no exercise {number} to check; chapter {chapter} has {', '.join(tasks)}")
    return tasks[number]


def _load(chapter: int) -> Any:
    # Only when asked for: a chapter's exercises need the library's layers, which take a moment to import.
    return importlib.import_module(f"{__package__}.chapter_{chapter:02}")
