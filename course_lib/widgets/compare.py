"""compare: my result, the reference, and the difference."""

import math
from collections.abc import Sequence
from itertools import product
from numbers import Real
from typing import Any

import numpy as np

from course_lib.widgets.arrays import as_array, as_labels
from course_lib.widgets.output import View
from course_lib.widgets.payload import LARGEST_EXACT, pack
from course_lib.widgets.picture import draw, heat, map_height

_MOST_ROWS = 8


def compare(
    mine: Any,
    reference: Any,
    rows: Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
    *,
    atol: float = 1e-5,
    title: str = "Mine and the reference",
) -> View:
    """Show two arrays of one shape and where they differ; the largest difference is shown first.

    >>> compare([[1.0, 2.0]], [[1.0, 2.5]])
    <compare: 1 of 2 numbers differs by more than 1e-05; the largest difference is 0.5, at [0, 1]>

    Args:
        mine: numbers of any shape; the last two axes are shown as rows and columns. NaN and infinities are
            shown as what they are.
        reference: the right numbers, of the same shape, all finite.
        rows: labels of the second last axis.
        columns: labels of the last axis.
        atol: two numbers closer than this count as equal.

    Raises:
        ValueError: shapes that differ, an empty array, more numbers than fit, NaN in the reference.
    """
    if not isinstance(atol, Real) or not 0 <= atol < math.inf:
        raise ValueError(f"atol={atol!r}: give a number of at least 0.")
    left, right = as_array(mine, "mine"), as_array(reference, "reference")
    if left.shape != right.shape:
        hint = ""
        if left.ndim >= 2 and np.swapaxes(left, -1, -2).shape == right.shape:
            hint = " Transposed, it would fit: are two axes swapped?"
        elif left.size == right.size:
            hint = " The number of values agrees: is an axis missing, or in another place?"
        raise ValueError(f"mine has shape {left.shape}, the reference {right.shape}.{hint}")
    if left.size == 0:
        raise ValueError(f"there is nothing to compare: both arrays are empty, shape {left.shape}.")
    if left.size > LARGEST_EXACT // 3:
        raise ValueError(
            f"compare keeps every digit, and {left.size:,} numbers do not fit: at most "
            f"{LARGEST_EXACT // 3:,} do. Compare a part, such as mine[0] and reference[0]."
        )
    if not np.isfinite(right).all():
        raise ValueError("the reference must be finite, but holds NaN or infinite numbers.")
    # Beyond single precision nothing is drawn, and -inf would be lost in a difference: NaN marks both.
    with np.errstate(invalid="ignore"):
        signed = left - right
    difference = np.abs(signed)
    different = ~(difference <= atol)
    place = np.unravel_index(int(np.argmax(np.nan_to_num(difference, nan=math.inf))), left.shape)
    verdict = _verdict(difference, different, place, atol)

    lead = left.shape[:-2]
    shape = (1,) * max(0, 2 - left.ndim) + left.shape
    flat = (math.prod(lead), *shape[-2:])
    mine_3, reference_3 = left.reshape(flat), right.reshape(flat)
    row_labels = as_labels(rows, flat[1], "rows", f"mine and the reference have {flat[1]} rows.")
    column_labels = as_labels(columns, flat[2], "columns", f"mine and the reference have {flat[2]} columns.")
    slices = [f"[{', '.join(map(str, index))}]" for index in product(*map(range, lead))]
    first = int(np.ravel_multi_index(place[: len(lead)], lead)) if lead else 0

    def paint(*axes: Any) -> None:
        shown = [mine_3[first], reference_3[first]]
        peak = float(np.abs(np.nan_to_num(shown, posinf=0, neginf=0)).max()) or 1.0
        for ax, matrix, name in zip(
            axes, (*shown, shown[0] - shown[1]), ("mine", "reference", "mine − reference"), strict=True
        ):
            limit = max(atol, float(np.nan_to_num(difference, posinf=0).max())) if "−" in name else peak
            heat(ax, matrix, row_labels, column_labels, name, signed=True, vmin=-limit, vmax=limit)

    return View(
        kind="compare",
        data={
            "title": title,
            "mine": pack(mine_3, exact=True),
            "reference": pack(reference_3, exact=True),
            "difference": pack(signed.reshape(flat), exact=True),
            "rows": row_labels,
            "columns": column_labels,
            "slices": slices,
            "slice": first,
            "atol": atol,
            "verdict": verdict[0].upper() + verdict[1:] + ".",
        },
        alt=verdict,
        picture=lambda: draw(paint, panels=3, height=map_height(flat[1])),
        table=_table(left, right, different),
    )


def _verdict(difference: np.ndarray, different: np.ndarray, place: tuple, atol: float) -> str:
    count = int(different.sum())
    if count == 0:
        return f"all {difference.size} numbers are equal to within {atol:g}"
    where = f"[{', '.join(str(int(i)) for i in place)}]"
    verb = "differs" if count == 1 else "differ"
    largest = difference[place]
    amount = f"the largest difference is {largest:.3g}" if np.isfinite(largest) else "one is not finite"
    return f"{count} of {difference.size} numbers {verb} by more than {atol:g}; {amount}, at {where}"


def _table(left: np.ndarray, right: np.ndarray, different: np.ndarray) -> list[list[str]]:
    places = np.argwhere(different) if different.any() else np.argwhere(np.ones_like(different))
    rows = [["place", "mine", "reference", "difference"]]
    for place in places[:_MOST_ROWS]:
        index = tuple(int(i) for i in place)
        values = left[index], right[index], left[index] - right[index]
        rows.append([str(list(index)), *(f"{value:.6g}" for value in values)])
    if len(places) > _MOST_ROWS:
        rows.append([f"… and {len(places) - _MOST_ROWS} more", "", "", ""])
    return rows
