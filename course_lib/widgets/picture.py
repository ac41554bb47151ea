"""The still picture and the short table of a view, for places that strip scripts."""

import base64
import io
import unicodedata
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

# The same colours as static/theme.js: more ink is more weight; orange below zero, blue above.
SCALE = LinearSegmentedColormap.from_list(
    "weights", ["#f8f9f5", "#d9ecd3", "#a5d8b9", "#5cb8ae", "#3a86a1", "#3e4f8a", "#35175d"]
)
SIGNED = LinearSegmentedColormap.from_list(
    "signed", ["#7f2a10", "#d07a45", "#f2d3b8", "#f8f8f6", "#c3d7ec", "#5b8cc4", "#1b3f7d"]
)
_LONGEST_LABEL = 14
_MOST_LABELS = 40
_MOST_ROWS = 12
_SYMBOLS = {" ": "␣", "\n": "↵", "\t": "⇥", "\r": "␍", "\u00a0": "⍽", "\u3000": "⬚"}


def draw(
    paint: Callable[..., None], panels: int = 1, height: float = 3.0, width: float | None = None
) -> bytes:
    """Return a PNG of `panels` plots side by side, its size in inches; `paint` is given their axes."""
    width = width or min(3.6 * panels + 0.6, 9)
    figure = Figure(figsize=(width, height), dpi=72, layout="constrained")
    FigureCanvasAgg(figure)
    axes = [figure.add_subplot(1, panels, place + 1) for place in range(panels)]
    paint(*axes)
    with warnings.catch_warnings():
        # A token in a script that the plotting font lacks is shown as boxes here; the live view has it.
        warnings.filterwarnings("ignore", message=".*missing from.*font", category=UserWarning)
        figure.canvas.draw()
    image = Image.fromarray(np.asarray(figure.canvas.buffer_rgba())).convert("RGB")
    file = io.BytesIO()
    # 64 colours are enough for a map, and make the file a third as large.
    image.quantize(64, dither=Image.Dither.NONE).save(file, "PNG", optimize=True)
    return file.getvalue()


def map_height(rows: int) -> float:
    """Return a height, in inches, for a map of so many rows."""
    return min(4.2, 1.2 + 0.22 * rows)


def heat(
    ax: Axes,
    matrix: np.ndarray,
    rows: Sequence[str] = (),
    columns: Sequence[str] = (),
    title: str = "",
    gold: Sequence[tuple[int, int]] = (),
    signed: bool = False,
    **limits: Any,
) -> None:
    """Draw one matrix as a heat map with token labels."""
    # More cells than points in the picture cannot be seen: the largest of each block stands for it.
    small = shrunk(matrix, 160) if not signed else matrix
    extent = (-0.5, matrix.shape[1] - 0.5, matrix.shape[0] - 0.5, -0.5)
    ax.imshow(small, cmap=SIGNED if signed else SCALE, aspect="auto", extent=extent, **limits)
    for row, column in gold:
        box = Rectangle((column - 0.45, row - 0.45), 0.9, 0.9, fill=False, edgecolor="#b45309", linewidth=1.4)
        ax.add_patch(box)
    ax.set_title(title and visible(title), fontsize=9).set_parse_math(False)
    for labels, axis in ((rows, ax.yaxis), (columns, ax.xaxis)):
        if 0 < len(labels) <= _MOST_LABELS:
            axis.set_ticks(range(len(labels)), [clipped(label) for label in labels], fontsize=8)
            for label in axis.get_ticklabels():
                label.set_parse_math(False)
        else:
            axis.set_tick_params(labelsize=8)
    ax.xaxis.set_tick_params(rotation=90 if max(map(len, columns), default=0) > 3 else 0)


def shrunk(matrix: np.ndarray, most: int) -> np.ndarray:
    """Return a matrix (last two axes) of at most `most` rows and columns: the largest value of each block."""
    for axis in (-2, -1):
        length = matrix.shape[axis]
        if length > most:
            starts = np.arange(0, length, -(-length // most))
            matrix = np.maximum.reduceat(matrix, starts, axis=axis)
    return matrix


def strongest(matrix: np.ndarray, queries: Sequence[str], keys: Sequence[str]) -> list[list[str]]:
    """Return the table of what each query attends to most."""
    rows = [["query", "attends most to", "weight", "then to", "weight"]]
    for query, row in list(zip(queries, matrix, strict=True))[:_MOST_ROWS]:
        line = [visible(query)]
        for key in np.argsort(-row, kind="stable")[:2]:
            line += [visible(keys[key]), f"{row[key]:.2f}"]
        rows.append(line + [""] * (5 - len(line)))
    if len(queries) > _MOST_ROWS:
        rows.append([f"… and {len(queries) - _MOST_ROWS} more queries", "", "", "", ""])
    return rows


def visible(token: str) -> str:
    """Return a token with nothing hidden.

    The empty one is ∅, line ends and blanks at its ends are symbols, an invisible character is its number.
    static/labels.js has the same rule, character for character.
    """
    if token == "":
        return "∅"
    shown = "".join(_shown(token, place) for place in range(len(token)))
    start, end = 0, len(shown)
    while start < end and unicodedata.category(shown[start]) == "Zs":
        start += 1
    while end > start and unicodedata.category(shown[end - 1]) == "Zs":
        end -= 1
    blanks = [_SYMBOLS.get(blank, "␣") for blank in shown[:start] + shown[end:]]
    return "".join(blanks[:start]) + shown[start:end] + "".join(blanks[start:])


def _shown(token: str, place: int) -> str:
    letter = token[place]
    if letter in "\n\t\r":
        return _SYMBOLS[letter]
    noncharacter = ord(letter) & 0xFFFE == 0xFFFE or 0xFDD0 <= ord(letter) <= 0xFDEF
    # Controls, format characters, lone surrogates, line separators: invisible, or able to reorder the rest.
    hidden = noncharacter or unicodedata.category(letter) in ("Cc", "Cf", "Cs", "Zl", "Zp")
    return f"⟨U+{ord(letter):04X}⟩" if hidden and not _is_spelling(token, place) else letter


def _is_spelling(token: str, place: int) -> bool:
    """Whether a joiner belongs to the spelling: inside an emoji, or between Arabic or Indic letters."""
    if token[place] not in "\u200c\u200d" or not 0 < place < len(token) - 1:
        return False
    before, after = token[place - 1], token[place + 1]
    if "\u0600" <= before <= "\u0dff" and "\u0600" <= after <= "\u0dff":
        return True
    drawn = before == "\ufe0f" or unicodedata.category(before) in ("So", "Sk")
    joined = after == "\u2194" or unicodedata.category(after) == "So"
    return token[place] == "\u200d" and drawn and joined


def clipped(token: str) -> str:
    """Return a token short enough for an axis."""
    token = visible(token)
    return token if len(token) <= _LONGEST_LABEL else token[: _LONGEST_LABEL - 1] + "…"


def data_url(png: bytes) -> str:
    """Return a PNG as an address that needs no network."""
    return "data:image/png;base64," + base64.b64encode(png).decode()
