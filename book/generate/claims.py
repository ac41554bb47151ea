"""The page of claims: each claim, the numbers that its cell printed, and the way to the cell."""

from collections.abc import Sequence
from pathlib import Path

import yaml

from book.generate.chapters import Chapter, cell_label
from book.generate.markdown import escape, fenced

HEAD = """\
# The claims, checked

Much is said about attention. Here is what this course took up, and what it found. Each claim belongs to a
cell that measures it and fails if the claim does not hold. The numbers below are what the cells printed when
the chapters were last executed. Follow the link to see the code, and change it.
"""
LONGEST = 14  # lines of output that stand in sight; more are folded


def read_claims(path: Path) -> dict[str, dict]:
    """Read the ledger: for each claim its chapter, its words, and perhaps a note on what was found.

    Raises ValueError for an entry of another form.
    """
    claims = yaml.safe_load(path.read_text(encoding="utf-8"))
    for name, entry in claims.items():
        if not {"chapter", "claim"} <= set(entry) <= {"chapter", "claim", "note"}:
            raise ValueError(
                f"{path.name}: {name} must have a chapter, a claim, and nothing else but a note."
            )
    return claims


def page(claims: dict[str, dict], chapters: Sequence[Chapter]) -> str:
    """Return the page as Markdown.

    Raises ValueError for a cell that shows a claim which is not in the ledger, and for a chapter that is
    there and does not show a claim of its own.
    """
    cells = {chapter.number: chapter.claims() for chapter in chapters}
    for chapter in chapters:
        if unknown := sorted(chapter.claims().keys() - claims.keys()):
            raise ValueError(
                f"{chapter.slug} shows {', '.join(unknown)}, which book/claims.yml does not have."
            )
    parts, number = [], None
    for name, entry in sorted(claims.items(), key=lambda item: (item[1]["chapter"], item[0])):
        if entry["chapter"] != number:
            number = entry["chapter"]
            parts.append(chapter_heading(number, chapters))
        if number in cells and name not in cells[number]:
            raise ValueError(f"chapter {number} is there and has no cell tagged claim-{name}.")
        parts.append(entry_text(name, entry, cells.get(number, {}).get(name, [])))
    shown = sum(entry["chapter"] in cells for entry in claims.values())
    count = f"So far {shown} of {len(claims)} claims are measured." if shown < len(claims) else ""
    return "\n".join([HEAD, count, "", *parts])


def chapter_heading(number: int, chapters: Sequence[Chapter]) -> str:
    for chapter in chapters:
        if chapter.number == number:
            return f"## {chapter.title}\n"
    return f"## Chapter {number}, to come\n"


def entry_text(name: str, entry: dict, cells: Sequence) -> str:
    parts = [f"({name.lower()})=\n### {name}\n", f"{escape(entry['claim'])}.\n"]
    if not cells:
        return "\n".join([*parts, "*To come.*\n"])
    for number, cell in enumerate(cells, start=1):
        words = "Found, in the cell that shows it" if number == 1 else "And in another"
        parts.append(f"[{words}](#{cell_label(name, number)}):\n")
        parts.append(found(name, printed(cell)))
    if note := entry.get("note"):
        parts.append(f"{escape(note)}\n")
    return "\n".join(parts)


def printed(cell) -> str:
    """What a cell printed."""
    return "".join(output.text for output in cell.outputs if output.output_type == "stream").strip("\n")


def found(name: str, text: str) -> str:
    """Show what a cell printed, folded where it is long.

    Raises ValueError when it printed nothing.
    """
    if not text.strip():
        raise ValueError(f"the cell that shows {name} prints nothing: a claim needs a number.")
    listing = fenced(text)
    if len(text.splitlines()) <= LONGEST:
        return listing
    return fenced(listing, f"{{dropdown}} {escape(text.strip().splitlines()[0])} …")
