"""Which exercises have been solved: kept in a file on this machine, and sent nowhere."""

import datetime
import html
import json
import os
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from course_lib.exercises.exercise import chapters, of_chapter, title

FILE_VARIABLE = "ATTENTION_COURSE_PROGRESS"
_LARGEST = 1_000_000  # bytes; a line for each exercise takes far less


def progress_file() -> Path:
    """The file: the one that the environment variable ATTENTION_COURSE_PROGRESS names, or the user's own."""
    if path := os.environ.get(FILE_VARIABLE):
        return Path(path)
    return Path(platformdirs.user_data_dir("attention-you-can-check")) / "progress.json"


@dataclass(frozen=True)
class Progress:
    """The exercises of each chapter, solved and to come; shown by a notebook.

    chapters: for each its number, its title, and its exercises with the day they were solved, or "".
    """

    chapters: list[tuple[int, str, dict[str, str]]]
    note: str = ""

    @property
    def legend(self) -> str:
        return (
            f"✓ is solved, ○ is still to come. Exercises without a check are not listed. "
            f"The record is kept in {progress_file()}."
        )

    def __repr__(self) -> str:
        lines = [
            f"{number}  {title}: {_count(days)}   {_marks(days)}" for number, title, days in self.chapters
        ]
        return "\n".join([*lines, self.legend, *([self.note] if self.note else [])])

    def _repr_html_(self) -> str:
        head = "".join(
            f'<th scope="col" style="text-align: left">{name}</th>'
            for name in ("chapter", "solved", "exercises")
        )
        rows = "".join(
            f'<tr><th scope="row" style="text-align: left">{number} · {html.escape(title)}</th>'
            f'<td>{_count(days)}</td><td style="text-align: left">{_marks(days)}</td></tr>'
            for number, title, days in self.chapters
        )
        note = "".join(f"<p>{html.escape(text)}</p>" for text in (self.legend, self.note) if text)
        return f'<table class="dataframe"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>{note}'


def progress() -> Progress:
    """Show for each chapter which of its exercises were solved; ✓ marks those."""
    try:
        solved, note = _read(progress_file())
    except OSError as error:
        solved, note = {}, f"Your file of progress cannot be read ({error}); it is left as it is."
    table = [
        (chapter, title(chapter), {task.number: solved.get(task.number, "") for task in of_chapter(chapter)})
        for chapter in chapters()
    ]
    return Progress(table, note)


def note_solved(number: str) -> str:
    """Note that an exercise is solved. Returns what the learner should know of the file, mostly nothing."""
    path = progress_file()
    try:
        solved, note = _read(path)
        if number not in solved:
            _write(path, {**solved, number: datetime.date.today().isoformat()})
    except OSError as error:
        return f"Your progress could not be kept: {error}."
    return note


def _read(path: Path) -> tuple[dict[str, str], str]:
    """What was solved, and when; and a note if the file was damaged and had to be put aside."""
    try:
        if path.stat().st_size > _LARGEST:
            raise ValueError("too large")
        solved = json.loads(path.read_text(encoding="utf-8"))["solved"]
        for day in solved.values():
            datetime.date.fromisoformat(day)
        return solved, ""
    except FileNotFoundError:
        return {}, ""
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        aside = _put_aside(path)
        return {}, f"Your file of progress was damaged. It is kept as {aside}, and a new one is begun."


def _put_aside(path: Path) -> Path:
    number = 1
    while (aside := path.with_name(f"{path.stem}.damaged-{number}{path.suffix}")).exists():
        number += 1
    return path.rename(aside)


def _write(path: Path, solved: dict[str, str]) -> None:
    """Write the whole file or nothing of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump({"solved": dict(sorted(solved.items()))}, file, indent=1)
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise


def _count(days: dict[str, str]) -> str:
    return f"{sum(map(bool, days.values()))} of {len(days)}"


def _marks(days: dict[str, str]) -> str:
    # Spaces that HTML leaves as they are, and that do not part a mark from its number.
    return "\u2003".join(f"{'✓' if day else '○'}\u00a0{number}" for number, day in days.items())
