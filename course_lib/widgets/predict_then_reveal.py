"""predict_then_reveal: guess where a query looks, then see."""

from collections.abc import Sequence
from typing import Any

from course_lib.widgets.arrays import as_weights
from course_lib.widgets.output import View
from course_lib.widgets.payload import pack
from course_lib.widgets.picture import draw, heat, map_height, strongest


def predict_then_reveal(
    weights: Any,
    queries: Sequence[str] | None = None,
    keys: Sequence[str] | None = None,
    *,
    asked: int | Sequence[int] | None = None,
    normalized: bool = True,
    title: str = "Predict, then see",
) -> View:
    """Ask the reader where a query looks; show the weights, and a score, after the guess.

    >>> predict_then_reveal([[0.9, 0.1], [0.4, 0.6]], ["the", "cat"], asked=1)
    <predict_then_reveal: 1 of 2 queries to guess among 2 keys>

    Args:
        weights: (query, key).
        queries: the tokens that ask.
        keys: the tokens to choose from; `queries` again when left out.
        asked: the index of the query to ask about, or several; every query when left out.
        normalized: False allows rows that do not sum to one.

    Raises:
        ValueError: as attention_map does; also for several maps, or an `asked` that is not there.
    """
    array, query_labels, key_labels = as_weights(weights, queries, keys, normalized)
    if array.shape[:2] != (1, 1):
        raise ValueError(
            f"predict_then_reveal asks about one matrix (query, key), but the weights have {array.shape[0]} "
            f"layers of {array.shape[1]} heads. Choose one."
        )
    count = len(query_labels)
    rounds = list(range(count)) if asked is None else [asked] if isinstance(asked, int) else list(asked)
    if not rounds:
        raise ValueError("asked is empty. Name at least one query.")
    if unknown := [query for query in rounds if not 0 <= query < count]:
        raise ValueError(
            f"asked has {unknown[0]}, but there are {count} queries: choose from 0 to {count - 1}."
        )
    matrix = array[0, 0]
    return View(
        kind="predict_then_reveal",
        data={
            "title": title,
            "queries": query_labels,
            "keys": key_labels,
            "weights": pack(array, exact=True),
            "asked": [int(query) for query in rounds],
        },
        alt=f"{len(rounds)} of {count} queries to guess among {len(key_labels)} keys",
        picture=lambda: draw(
            lambda ax: heat(ax, matrix, query_labels, key_labels, "the answer", vmin=0),
            height=map_height(count),
        ),
        table=strongest(matrix, query_labels, key_labels),
    )
