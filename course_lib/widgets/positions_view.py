"""positions_view: a positional code and how alike positions are."""

from typing import Any

import numpy as np

from course_lib.widgets.arrays import as_array
from course_lib.widgets.output import View
from course_lib.widgets.payload import pack
from course_lib.widgets.picture import draw, heat

MAX_LENGTH, MAX_WIDTH = 512, 512


def positions_view(
    code: Any = None, *, length: int = 64, width: int = 32, base: float = 10000.0, title: str = "Positions"
) -> View:
    """Show a positional code as a picture, beside the similarity of positions by their distance.

    Without `code` the page computes sinusoids, and base and width are sliders:
    sin(pos / base^(2i/d)) in even dimensions, cos of the same in odd ones.

    >>> positions_view(length=8, width=4)
    <positions_view: 8 positions in 4 dimensions; neighbours have similarity 0.77>

    Args:
        code: (position, dimension), a code to show as it is, such as learned positions.
        length: how many positions to compute, when there is no `code`.
        width: how many dimensions at first; even.
        base: the base of the wavelengths at first, from 4 to a million.

    Raises:
        ValueError: a code that is not two-dimensional, is empty, too large or not finite; an odd width.

    Source: Vaswani et al. 2017, section 3.5.
    """
    if code is None:
        if not (1 <= length <= MAX_LENGTH and 2 <= width <= MAX_WIDTH):
            raise ValueError(
                f"length={length}, width={width}: choose 1 to {MAX_LENGTH} positions of 2 to {MAX_WIDTH} "
                "numbers."
            )
        if width % 2:
            raise ValueError(
                f"width={width} is odd. Sinusoids come in pairs of sine and cosine: choose an even one."
            )
        if not 4 <= base <= 1e6:
            raise ValueError(f"base={base} is outside 4 to 1,000,000.")
        shown = _sinusoidal(length, width, base)
    else:
        shown = as_array(code, "code")
        if shown.ndim != 2 or shown.size == 0 or max(shown.shape) > MAX_LENGTH:
            raise ValueError(
                f"code has shape {shown.shape}. Give (position, dimension), each from 1 to {MAX_LENGTH}."
            )
        if not np.isfinite(shown).all():
            raise ValueError("code holds NaN or infinite numbers.")
    alike = _similarity(shown)
    table = [["distance", "similarity"]] + [[str(d), f"{alike[d]:.3f}"] for d in range(min(10, len(alike)))]
    neighbours = f"; neighbours have similarity {alike[1]:.2f}" if len(alike) > 1 else ""
    peak = float(np.abs(shown).max()) or 1.0

    def paint(left: Any, right: Any) -> None:
        heat(left, shown, title="positions down, dimensions across", signed=True, vmin=-peak, vmax=peak)
        right.plot(alike, color="#0a6660")
        right.set_title("similarity by distance", fontsize=9)
        right.tick_params(labelsize=8)

    return View(
        kind="positions_view",
        data={
            "title": title,
            "code": None if code is None else pack(shown, exact=True),
            "length": shown.shape[0],
            "width": shown.shape[1],
            "base": base,
        },
        alt=f"{shown.shape[0]} positions in {shown.shape[1]} dimensions{neighbours}",
        picture=lambda: draw(paint, panels=2),
        table=table,
    )


def _sinusoidal(length: int, width: int, base: float) -> np.ndarray:
    angles = np.arange(length)[:, None] / base ** (np.arange(0, width, 2) / width)
    return np.stack([np.sin(angles), np.cos(angles)], axis=-1).reshape(length, width)


def _similarity(code: np.ndarray) -> np.ndarray:
    sizes = np.linalg.norm(code, axis=1, keepdims=True)
    unit = np.divide(code, sizes, out=np.zeros_like(code), where=sizes > 0)
    cosines = unit @ unit.T
    return np.array([np.diagonal(cosines, distance).mean() for distance in range(len(code))])
