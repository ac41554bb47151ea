"""What a check says, as text and as HTML."""

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from course_lib.exercises.exercise import Goal, Mistake, in_words
from course_lib.widgets.output import View

_COLOURS = {"right": "#2e8540", "wrong": "#b35900"}
_MOST_NUMBERS = 24


@dataclass(frozen=True)
class Verdict:
    """The answer to an answer: shown by a notebook when it is the last value of a cell.

    state: "right", "unwritten", "as given", "wrong", "changed", "error" or "endless".
    headline, lines: what to say; block: code or numbers as they are; view: the difference, to look at.
    mistake: the known one that behaves just so. goals: what an open-ended exercise measured.
    """

    number: str
    state: str
    headline: str
    lines: Sequence[str] = ()
    block: str = ""
    view: View | None = None
    mistake: Mistake | None = None
    goals: Sequence[Goal] = ()

    @property
    def right(self) -> bool:
        return self.state == "right"

    def __repr__(self) -> str:
        parts = [f"{'✓ ' if self.right else ''}{self.number} · {self.headline}", *self.lines]
        parts += [f"    {line}" for line in self.block.splitlines()]
        parts += [" · ".join(row) for row in self._rows()]
        if self.view is not None:
            parts += [" · ".join(cell for cell in row if cell) for row in self.view.table]
        return "\n".join(parts)

    def _repr_html_(self) -> str | None:
        if self.state in ("unwritten", "as given"):
            return None  # one line of text is enough
        colour = _COLOURS["right" if self.right else "wrong"]
        mark = "✓ " if self.right else ""
        parts = [f"<p><strong>{mark}{self.number}</strong> · {_escaped(self.headline)}</p>"]
        parts += [f"<p>{_escaped(line)}</p>" for line in self.lines]
        if self.block:
            style = "overflow-x: auto; font-family: monospace"
            parts.append(f'<pre style="{style}">{html.escape(self.block)}</pre>')
        if self.goals:
            rows = "".join(
                "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>"
                for row in self._rows()
            )
            parts.append(f'<table class="dataframe"><tbody>{rows}</tbody></table>')
        if self.view is not None:
            parts.append(self.view._repr_html_())
        style = f"border-left: 4px solid {colour}; padding: 0.1em 1em; margin: 0.3em 0"
        return f'<div style="{style}">{"".join(parts)}</div>'

    def _rows(self) -> list[tuple[str, str, str]]:
        return [
            (
                goal.what,
                f"{in_words(goal.found)} ({goal.bounds})",
                "reached" if goal.reached else "not reached",
            )
            for goal in self.goals
        ]


def shown(names: Sequence[str], arguments: Sequence[Any]) -> str:
    """The arguments of a call, a line each; large ones by their shape."""
    lines = []
    for name, value in zip(names, arguments, strict=False):
        below = "\n" + " " * len(f"{name} = ")  # a tensor's rows stand one below another
        lines.append(f"{name} = {_value(value)}".replace("\n", below))
    return "\n".join(lines)


def _value(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        if value.numel() > _MOST_NUMBERS:
            return f"a tensor of shape {tuple(value.shape)}"
        with np.printoptions(precision=3, suppress=True, threshold=_MOST_NUMBERS):
            lines = repr(value.detach().cpu().numpy()).removeprefix("array(").rpartition(")")[0]
        return "tensor(" + lines.partition(", dtype=")[0].replace("\n", "\n ") + ")"
    if isinstance(value, list) and value and isinstance(value[0], torch.Tensor):
        return (
            f"[{_value(value[0])}]" if len(value) == 1 else f"a list of {len(value)}, each {_value(value[0])}"
        )
    if callable(value):
        name = getattr(value, "__name__", type(value).__name__)
        return f"the {'layer' if isinstance(value, torch.nn.Module) else 'function'} {name}"
    return repr(value)


def _escaped(text: str) -> str:
    """Text as HTML, with `code` and *emphasis* set as such."""
    pieces = html.escape(text).split("`")
    if len(pieces) % 2 == 0:  # a backtick without its partner
        return html.escape(text)
    return "".join(
        f"<code>{piece}</code>" if place % 2 else re.sub(r"\*(\w[^*]*\w)\*", r"<em>\1</em>", piece)
        for place, piece in enumerate(pieces)
    )
