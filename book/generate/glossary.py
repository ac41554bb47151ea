"""The glossary, and which words of the chapters lead to it."""

import re
from pathlib import Path

import yaml

from book.generate.markdown import escape

HEAD = """\
# Glossary

The words of this field as the course uses them. In each chapter the first use of a word leads here.
"""


def read_glossary(path: Path) -> dict[str, dict]:
    """Read the entries: for each term its meaning, perhaps other forms that lead to it, and perhaps the
    numbers of chapters in which the word is used for something else and leads nowhere.

    Raises ValueError for an entry of another form, and for a word that leads to two entries.
    """
    entries = yaml.safe_load(path.read_text(encoding="utf-8"))
    for term, entry in entries.items():
        if not {"means"} <= set(entry) <= {"means", "forms", "but_not_in"}:
            raise ValueError(
                f"{path.name}: {term!r} must say what it means, and perhaps its forms and but_not_in."
            )
        if not re.fullmatch(r"\w[\w -]*", term):
            raise ValueError(f"{path.name}: {term!r} must be words, since links to it are made of them.")
    terms(entries)
    return entries


def terms(entries: dict[str, dict]) -> dict[str, str]:
    """How each word, in small letters, is listed."""
    found: dict[str, str] = {}
    for term, entry in entries.items():
        for form in [term, *entry.get("forms", [])]:
            if found.setdefault(form.lower(), term) != term:
                raise ValueError(f"the glossary has {form!r} under {found[form.lower()]!r} and {term!r}.")
    return found


def terms_in(chapter: int, entries: dict[str, dict]) -> dict[str, str]:
    """The same, without the words that this chapter uses for something else."""
    return terms(
        {term: entry for term, entry in entries.items() if chapter not in entry.get("but_not_in", [])}
    )


def page(entries: dict[str, dict]) -> str:
    lines = []
    for term in sorted(entries, key=str.lower):
        lines.append(f"{term}\n  {escape(entries[term]['means'].strip())}\n")
    return HEAD + "\n````{glossary}\n" + "\n".join(lines) + "````\n"
