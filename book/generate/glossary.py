"""The glossary, and which words of the chapters lead to it."""

from pathlib import Path

import yaml

HEAD = """\
# Glossary

The words of this field as the course uses them. In each chapter the first use of a word leads here.
"""


def read_glossary(path: Path) -> dict[str, dict]:
    """Read the entries: for each term its meaning, and perhaps other forms that lead to it.

    Raises ValueError for an entry of another form, and for a word that leads to two entries.
    """
    entries = yaml.safe_load(path.read_text(encoding="utf-8"))
    for term, entry in entries.items():
        if not {"means"} <= set(entry) <= {"means", "forms"}:
            raise ValueError(f"{path.name}: {term!r} must say what it means, and perhaps its forms.")
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


def page(entries: dict[str, dict]) -> str:
    lines = []
    for term in sorted(entries, key=str.lower):
        meaning = entries[term]["means"].strip().replace("\n", "\n  ")
        lines.append(f"{term}\n  {meaning}\n")
    return HEAD + "\n````{glossary}\n" + "\n".join(lines) + "````\n"
