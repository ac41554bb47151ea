"""Pieces of Markdown, made from text that is not Markdown."""

import re
from collections.abc import Iterable, Sequence


def escape(text: str) -> str:
    """Return text that Markdown and HTML show as it is, also inside a table."""
    return re.sub(r"([\\`*_{}\[\]<>&#|$~^:@!()])", r"\\\1", re.sub(r"\s+", " ", text))


def code(text: str) -> str:
    """Return text as code within a line."""
    line = " ".join(text.split())
    fence, space = backticks(line), " " if "`" in line else ""
    return f"{fence}{space}{line}{space}{fence}"


def fenced(text: str, kind: str = "text") -> str:
    """Return text as a block of its own, to be shown as it is."""
    fence = backticks(text, 3)
    return f"{fence}{kind}\n{text}\n{fence}\n"


def backticks(text: str, least: int = 1) -> str:
    """More backticks than the text has in a row, so that nothing in it ends what they enclose."""
    return "`" * max(least, *(len(run) + 1 for run in ["", *re.findall("`+", text)]))


def table(head: Sequence[str], rows: Iterable[Sequence[str]], right: int | None = None) -> str:
    """Return a table of finished cells; columns from number `right` on are set to the right."""
    right = len(head) if right is None else right
    rule = ["---" if column < right else "--:" for column in range(len(head))]
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, rule, *rows]) + "\n"


def join(words: Sequence[str], last: str = " and ") -> str:
    """Return "a", "a and b", or "a, b and c"."""
    return last.join(filter(None, [", ".join(words[:-1]), words[-1]]))


def provenance(machine: dict, date: str, command: str) -> str:
    """Say on which machine, when, and by which command a result was found."""
    return f"{escape(on_machine(machine))}:\n\n{fenced(f'{date[:10]}  {command}')}"


def on_machine(machine: dict) -> str:
    """Name a machine and what ran on it, as plain text."""
    threads = "1 thread" if machine["threads"] == 1 else f"{machine['threads']} threads"
    return (
        f"{machine['processor']}, {threads} on {machine['cores']} cores, "
        f"Python {machine['python']}, PyTorch {machine['torch']}"
    )
