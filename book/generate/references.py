"""The bibliography: every paper that the course builds on, and the chapters that cite it."""

import re
from collections.abc import Sequence
from pathlib import Path

from pybtex.database import Entry, parse_file

from book.generate.chapters import Chapter
from book.generate.markdown import escape, join

HEAD = """\
# Bibliography

Every source that the course cites or builds on, by its first author and year, with the chapters that link to
it. The same list for a reference manager: {download}`references.bib <references.bib>`.
"""
CITED = re.compile(r"\]\((https?://[^)\s]+)\)")


def page(path: Path, chapters: Sequence[Chapter]) -> str:
    """Return the page as Markdown.

    Raises ValueError for an entry that lacks an author, a title, a year or a link.
    """
    entries = parse_file(str(path)).entries
    lines = [f"- {line(key, entry, chapters)}" for key, entry in sorted(entries.items(), key=order)]
    return HEAD + "\n" + "\n".join(lines) + "\n"


def missing(path: Path, chapters: Sequence[Chapter]) -> set[str]:
    """The links of the chapters that the bibliography does not have."""
    known = {entry.fields.get("url") for entry in parse_file(str(path)).entries.values()}
    return {link for chapter in chapters for link in CITED.findall(chapter.text)} - known


def order(item: tuple[str, Entry]) -> tuple:
    key, entry = item
    authors = [" ".join(person.last_names) for person in entry.persons.get("author", [])]
    return [without_braces(name).lower() for name in authors[:1]], entry.fields.get("year", ""), key


def line(key: str, entry: Entry, chapters: Sequence[Chapter]) -> str:
    for needed in ("title", "year", "url"):
        if needed not in entry.fields:
            raise ValueError(f"references.bib: {key} has no {needed}.")
    if not re.fullmatch(r"https?://[^\s()<>]+", entry.fields["url"]):
        raise ValueError(f"references.bib: the url of {key} is not one that a link can hold.")
    if not entry.persons.get("author"):
        raise ValueError(f"references.bib: {key} has no author.")
    names = [
        " ".join([*person.first_names, *person.middle_names, *person.prelast_names, *person.last_names])
        for person in entry.persons["author"]
    ]
    shown = join(names) if len(names) <= 4 else f"{names[0]} and others"
    place = entry.fields.get("booktitle") or entry.fields.get("journal") or entry.fields.get("note", "")
    who, year, title, where = (
        escape(without_braces(part)) for part in (shown, entry.fields["year"], entry.fields["title"], place)
    )
    text = f"{who} ({year}). [{title}]({entry.fields['url']})."
    if where:
        text += f" *{where}*."
    citing = [
        f"[{chapter.number}](#chapter-{chapter.number})"
        for chapter in chapters
        if entry.fields["url"] in CITED.findall(chapter.text)
    ]
    if citing:
        text += f" Cited in {'chapter' if len(citing) == 1 else 'chapters'} {join(citing)}."
    return text


def without_braces(text: str) -> str:
    """Text without BibTeX's braces, which say what is one name, or keep its capitals."""
    return text.replace("{", "").replace("}", "")
