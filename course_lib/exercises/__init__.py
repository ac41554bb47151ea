"""Exercises that know which mistake you made: `check` an answer, see your `progress`."""

from course_lib.exercises.check import check
from course_lib.exercises.progress import progress

__all__ = ["check", "progress"]
