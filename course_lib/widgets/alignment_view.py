"""alignment_view: a translation word by word, with the source words it looked at."""

from collections.abc import Sequence
from typing import Any

from course_lib.widgets.arrays import Axes, as_pairs, as_weights
from course_lib.widgets.output import View
from course_lib.widgets.payload import pack
from course_lib.widgets.picture import draw, heat, map_height, strongest

_AXES = Axes("target", "source", "target", "source")


def alignment_view(
    weights: Any,
    source: Sequence[str],
    target: Sequence[str],
    *,
    gold: Any = None,
    normalized: bool = True,
    title: str = "Alignment",
) -> View:
    """Step through a translation: at each word of the target, the source shaded by attention.

    >>> alignment_view([[0.9, 0.1], [0.2, 0.8]], ["the", "cat"], ["le", "chat"])
    <alignment_view: 2 target words attending to 2 source words; 'le' attends most to 'the' (0.90)>

    Args:
        weights: (target, source): one row for each word written, one column for each word read.
        source: the words read.
        target: the words written.
        gold: the true alignment, a set of (target index, source index) pairs or a boolean matrix
            (target, source).
        normalized: False allows rows that do not sum to one.

    Raises:
        ValueError: as attention_map does; also when there is more than one matrix.
    """
    array, rows, columns = as_weights(weights, target, source, normalized, _AXES)
    if array.shape[:2] != (1, 1):
        raise ValueError(
            f"alignment_view shows one matrix (target, source), but the weights have {array.shape[0]} layers "
            f"of {array.shape[1]} heads. Choose one, or take their mean."
        )
    pairs = as_pairs(gold, len(rows), len(columns), _AXES)
    matrix = array[0, 0]
    table = strongest(matrix, rows, columns)
    return View(
        kind="alignment_view",
        data={
            "title": title,
            "source": columns,
            "target": rows,
            "weights": pack(array),
            "gold": pairs,
            "top": float(array.max()) or 1.0,
        },
        alt=f"{len(rows)} target words attending to {len(columns)} source words; "
        f"{table[1][0]!r} attends most to {table[1][1]!r} ({table[1][2]})",
        picture=lambda: draw(
            lambda ax: heat(ax, matrix, rows, columns, title, pairs, vmin=0), height=map_height(len(rows))
        ),
        table=table,
    )
