"""check: is this answer right, and if not, which mistake is it?"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch

from course_lib.exercises.attempt import Outcome, TookTooLong, attempt, is_stub, one_thread, where
from course_lib.exercises.difference import Difference, coarseness, conform, difference, equal
from course_lib.exercises.exercise import Exercise, Mistake, Target, Unusable, find
from course_lib.exercises.progress import note_solved
from course_lib.exercises.verdict import Verdict, shown

SECONDS = 5.0  # for one call of a learner's function; the inputs are so small that milliseconds are usual
TARGET_SECONDS = 900.0  # for an open-ended exercise, whose model is trained in a minute or two
_ROUNDINGS = 4  # of half precision: what a few operations lose, and less than any known mistake
_LONGEST_ERROR = 500
_NO_RETURN = "it returns None: is a `return` missing? (print shows a result and returns nothing)"


def check(number: str, answer: Callable, **options: Any) -> Verdict:
    """Try an answer on inputs drawn anew, and say what is wrong with it, or that it is right.

    Only behaviour counts: loops, einsum, another dtype, further results after the expected ones, all may be.
    A wrong answer is compared with the known mistakes, too. What is solved is noted for `progress()`.

    Args:
        number: of the exercise, in quotes: "3.2".
        answer: the function itself, without parentheses.
        options: what an open-ended exercise measures with; the exercise's cell has them.

    Raises:
        TypeError: an answer that is no function, options that do not belong there.
        ValueError: a number that no exercise has.
    """
    task = find(number)
    if not callable(answer):
        raise TypeError(
            f'check needs the function itself, check("{number}", my_function), but got '
            f"{'None' if answer is None else 'a ' + type(answer).__name__}: was it called, my_function(...)?"
        )
    generator = torch.Generator()
    generator.seed()
    if isinstance(task, Target):
        if isinstance(answer, torch.nn.Module):
            raise TypeError("check needs the function itself, not the model: the function's name without ().")
        wanted = list(inspect.signature(task.measure).parameters)[2:]
        if set(options) != set(wanted):
            raise TypeError(
                f"exercise {number} is measured with {', '.join(wanted) or 'nothing else'}, got "
                f"{', '.join(options) or 'nothing'}; its cell in the chapter has the whole call"
            )
        verdict = measure(task, answer, generator, options)
    elif options:
        raise TypeError(f"exercise {number} is checked without options, got {', '.join(options)}")
    else:
        verdict = examine(task, answer, draw(task, generator))
    if verdict.right and (trouble := note_solved(number)):
        verdict = replace(verdict, lines=(*verdict.lines, trouble))
    return verdict


@dataclass(frozen=True)
class Case:
    """One input of an exercise: the property that it tests, and what is right for it.

    known: what the known mistakes make of it, as far as that was asked for.
    """

    exercise: Exercise
    what: str
    arguments: tuple
    expected: Outcome
    known: dict[Callable, tuple[Outcome, Any]] = field(default_factory=dict)

    def read(self, outcome: Outcome) -> Any:
        """What is compared, of an outcome in the form of the expected one; raises Unusable for another."""
        return self.exercise.reading(conform(outcome.value, self.expected.value), *outcome.arguments)

    def tolerance(self, outcome: Outcome) -> float:
        """How far an outcome's numbers may be off; a few roundings to half precision are no mistake."""
        return max(self.exercise.tolerance, _ROUNDINGS * coarseness(outcome.value))

    @cached_property
    def wanted(self) -> Any:
        return self.read(self.expected)

    def made_by(self, mistake: Mistake) -> tuple[Outcome, Any]:
        """What a known mistake makes of it, and what of that is compared, or why nothing can be."""
        if mistake.make not in self.known:
            theirs = _run(mistake.make, self.arguments)
            try:
                reading = None if theirs.error else self.read(theirs)
            except Unusable as error:
                reading = error
            self.known[mistake.make] = theirs, reading
        return self.known[mistake.make]


@one_thread()
def draw(exercise: Exercise, generator: torch.Generator) -> list[Case]:
    """Draw the inputs of one check from the generator."""
    drawn = exercise.inputs(generator)
    return [
        Case(exercise, what, given, Outcome(exercise.reference(*given), arguments=given))
        for what, given in drawn
    ]


@dataclass(frozen=True)
class _Trial:
    """One call of an answer: what came of it, and what of that is compared.

    unusable: why there is nothing to compare, if so: an error, or another form than the expected one.
    """

    case: Case
    mine: Outcome
    reading: Any = None
    unusable: str = ""
    fails: bool = True

    @property
    def tolerance(self) -> float:
        return self.case.tolerance(self.mine)

    def difference(self) -> Difference:
        if self.unusable:
            return Difference(self.unusable)
        exercise = self.case.exercise
        title = f"Exercise {exercise.number}: mine and what is expected"
        found = difference(self.reading, self.case.wanted, self.tolerance, title)
        if not isinstance(self.reading, tuple):
            return found
        pairs = zip(self.reading, self.case.wanted, strict=True)
        remark = exercise.remark([equal(*pair, self.tolerance) for pair in pairs], self.reading)
        return found._replace(words=f"{remark} {found.words}".strip())


@one_thread()
def examine(exercise: Exercise, answer: Callable, cases: list[Case], seconds: float = SECONDS) -> Verdict:
    """Judge an answer to an exercise by the inputs that were drawn for it."""
    number = exercise.number
    names = list(inspect.signature(exercise.reference).parameters)
    trials = []
    for case in cases:
        mine = attempt(answer, case.arguments, names, seconds)
        if isinstance(mine.error, TookTooLong):
            headline = f"ended after {seconds:g} seconds: it was still running. Does a loop never end?"
            call = f"{where(mine.error, answer)}\n\n{shown(names, case.arguments)}".strip()
            return Verdict(number, "endless", headline, [f"Tried: {case.what}."], call)
        trials.append(_compare(case, mine))
    if all(trial.mine.value is None and trial.mine.error is None for trial in trials):
        return _nothing(number, answer)

    failed = next((trial for trial in trials if trial.fails), None)
    changed = {name for trial in trials for name in trial.mine.changed}
    leaf = failed is not None and "leaf Variable" in str(failed.mine.error)
    if leaf:
        # PyTorch refuses this for an input that a gradient is wanted of; without one it shows which it is.
        detached = [
            part.detach() if isinstance(part, torch.Tensor) else part for part in failed.case.arguments
        ]
        changed.update(attempt(answer, tuple(detached), names, seconds).changed)
    in_place = (
        f"It changes {' and '.join(f'`{name}`' for name in sorted(changed))} in place: the caller's own "
        f"numbers are other ones afterwards. Make new tensors (`x = x + 1`, not `x += 1`), or work on a "
        f"`.clone()`."
    )
    if failed is None:
        if changed:
            return Verdict(number, "changed", "right results, but an input is not left alone.", [in_place])
        return Verdict(number, "right", exercise.solved)

    mistake = next((known for known in exercise.mistakes if _behaves_like(known, trials)), None)
    if mistake is not None and mistake.as_given:
        headline = f"not mended yet: it does what it did. Tried: {failed.case.what}."
        return Verdict(number, "as given", headline, mistake=mistake)
    lines = [f"{mistake.name[0].upper()}{mistake.name[1:]}. {mistake.why}"] if mistake else []
    lines += [in_place] if changed else []
    call = shown(names, failed.case.arguments)
    if error := failed.mine.error:
        line = where(error, answer) or f"check calls it with ({', '.join(names)})"
        lines += [f"Tried: {failed.case.what}."]
        said = "an input is not left alone." if leaf and changed else f"it raised {_words(error)}"
        return Verdict(number, "error", said, lines, f"{line}\n\n{call}", mistake=mistake)
    found = failed.difference()
    if place := _right_place(trials):
        lines += [f"The {place} of your results is the right one: return the output first."]
    lines += [f"Tried: {failed.case.what}.", found.words]
    if mistake is None and coarseness(failed.mine.value):
        lines += ["Your result is in half precision. Does it come out right in float32?"]
    return Verdict(number, "wrong", "not right yet.", lines, call, found.view, mistake)


def measure(target: Target, answer: Callable, generator: torch.Generator, options: dict) -> Verdict:
    """Judge an answer to an open-ended exercise by what is measured."""
    number, unwritten = target.number, False

    def written(*arguments: Any) -> Any:
        nonlocal unwritten
        result = answer(*arguments)
        if result is None:
            unwritten = True
            raise Unusable
        return result

    outcome = attempt(
        lambda: target.measure(written, generator, **options), (), names=[], seconds=TARGET_SECONDS
    )
    if unwritten:
        return _nothing(number, answer)
    if isinstance(outcome.error, TookTooLong):
        headline = (
            f"ended after {TARGET_SECONDS / 60:g} minutes, the time limit: it was still running. Does a loop "
            f"never end, or does it take far more steps than it needs?"
        )
        return Verdict(number, "endless", headline, block=where(outcome.error, answer))
    if isinstance(outcome.error, Unusable):
        return Verdict(number, "wrong", str(outcome.error))
    if outcome.error is not None:
        block, notes = where(outcome.error, answer), getattr(outcome.error, "__notes__", ())
        return Verdict(number, "error", f"it raised {_words(outcome.error)}", notes, block)
    if all(goal.reached for goal in outcome.value):
        return Verdict(number, "right", target.solved, goals=outcome.value)
    return Verdict(number, "wrong", "it runs, and has not reached its goal yet.", goals=outcome.value)


def _right_place(trials: list[_Trial]) -> str:
    """Which later part of the returned tuples is right for every input, in words; "" if none is."""
    for place, word in enumerate(("second", "third", "fourth"), start=1):
        parts = [
            _compare(trial.case, replace(trial.mine, value=trial.mine.value[place]))
            for trial in trials
            if isinstance(trial.mine.value, tuple) and len(trial.mine.value) > place
        ]
        if len(parts) == len(trials) and not any(part.fails for part in parts):
            return word
    return ""


def _nothing(number: str, answer: Callable) -> Verdict:
    """The verdict on an answer that returns None, whatever it is given."""
    if is_stub(answer):
        return Verdict(number, "unwritten", "not written yet: it returns None.")
    return Verdict(number, "wrong", _NO_RETURN)


def _compare(case: Case, mine: Outcome) -> _Trial:
    if mine.error is not None:
        return _Trial(case, mine, unusable=_words(mine.error))
    try:
        reading = case.read(mine)
        return _Trial(case, mine, reading, fails=not equal(reading, case.wanted, case.tolerance(mine)))
    except Unusable as error:
        return _Trial(case, mine, unusable=str(error))
    except (Exception, SystemExit) as error:  # a result may run the learner's code, backward for one
        return _Trial(case, mine, unusable=f"What it returned cannot be compared: {_words(error)}.")


def _run(function: Callable, arguments: tuple) -> Outcome:
    """Call one of our own functions, which leave their arguments as they are; a mistake may raise."""
    try:
        return Outcome(function(*arguments), arguments=arguments)
    except Exception as error:
        return Outcome(error=error, arguments=arguments)


def _behaves_like(mistake: Mistake, trials: list[_Trial]) -> bool:
    """Whether an answer did on every input what the mistake does."""
    return all(_alike(mistake, trial) for trial in trials)


def _alike(mistake: Mistake, trial: _Trial) -> bool:
    theirs, reading = trial.case.made_by(mistake)
    if trial.mine.error is not None or theirs.error is not None:  # its words hold the shapes
        return repr(trial.mine.error) == repr(theirs.error)
    if isinstance(reading, Unusable):  # a mistake of form: then the bare results must agree
        try:
            bare = conform(trial.mine.value, theirs.value)
            return equal(bare, theirs.value, trial.tolerance)
        except (Exception, SystemExit):  # what cannot be compared is not alike; _compare says why
            return False
    return not trial.unusable and equal(trial.reading, reading, trial.tolerance)


def _words(error: BaseException) -> str:
    text = f"{type(error).__name__}: {error}"
    return text if len(text) <= _LONGEST_ERROR else text[:_LONGEST_ERROR] + " …"
