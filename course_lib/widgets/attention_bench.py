"""attention_bench: scaled dot-product attention as a calculator."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from course_lib.widgets.arrays import as_array, as_labels, as_mask
from course_lib.widgets.output import View
from course_lib.widgets.picture import draw, heat, map_height, strongest

MAX_TOKENS, MAX_WIDTH = 8, 4


def attention_bench(
    query: Any,
    key: Any,
    value: Any,
    queries: Sequence[str] | None = None,
    keys: Sequence[str] | None = None,
    *,
    mask: Any = None,
    title: str = "Attention, step by step",
) -> View:
    """Compute softmax(Q Kᵀ / √d) V in front of the reader, who can change every number.

    >>> attention_bench([[1, 0]], [[1, 0], [0, 1]], [[1, 2], [3, 4]], ["it"], ["cat", "mat"])
    <attention_bench: 1 query, 2 keys, d = 2; 'it' attends most to 'cat' (0.67)>

    Args:
        query: (query, d), up to 8 rows of up to 4 numbers.
        key: (key, d).
        value: (key, d_v).
        queries: a name for each query.
        keys: a name for each key; `queries` again when left out and of the same length.
        mask: boolean (query, key), True means may attend. Without one the causal mask is at hand, switched
            off; as in causal_mask, the queries are the last of the positions.

    Raises:
        ValueError: tables that do not fit together, are too large, or hold NaN or infinite numbers.
    """
    tables = {
        "query": as_array(query, "query"),
        "key": as_array(key, "key"),
        "value": as_array(value, "value"),
    }
    for name, table in tables.items():
        if table.ndim != 2 or table.size == 0:
            raise ValueError(f"{name} has shape {table.shape}. Give (tokens, width), such as (3, 2).")
        if table.shape[0] > MAX_TOKENS or table.shape[1] > MAX_WIDTH:
            raise ValueError(
                f"{name} has shape {table.shape}. The bench shows every number: at most {MAX_TOKENS} tokens "
                f"of width {MAX_WIDTH}. For larger ones use attention_map."
            )
        if not np.isfinite(table).all():
            raise ValueError(f"{name} holds NaN or infinite numbers. The bench needs finite ones.")
    q, k, v = tables.values()
    if q.shape[1] != k.shape[1]:
        raise ValueError(
            f"query has width {q.shape[1]}, key has width {k.shape[1]}. A dot product needs one width."
        )
    if len(k) != len(v):
        raise ValueError(f"there are {len(k)} keys and {len(v)} values. Each key needs one value.")
    query_labels = as_labels(queries, len(q), "queries", f"query has {len(q)} rows.")
    if keys is None and queries is not None and len(q) == len(k):
        keys = queries
    key_labels = as_labels(keys, len(k), "keys", f"key has {len(k)} rows.")
    allowed = as_mask(mask, (len(q), len(k)))
    if allowed is None:
        # The queries are the last positions, as in course_lib.attention.causal_mask.
        allowed = np.tril(np.ones((len(q), len(k)), bool), len(k) - len(q))
    weights = _weights(q, k, allowed if mask is not None else np.ones_like(allowed))
    table = strongest(weights, query_labels, key_labels)
    return View(
        kind="attention_bench",
        data={
            "title": title,
            **{name: array.tolist() for name, array in tables.items()},
            "mask": allowed.tolist(),
            "masked": mask is not None,
            "queries": query_labels,
            "keys": key_labels,
        },
        alt=f"{len(q)} {'query' if len(q) == 1 else 'queries'}, {len(k)} {'key' if len(k) == 1 else 'keys'}, "
        f"d = {q.shape[1]}; {table[1][0]!r} attends most to {table[1][1]!r} ({table[1][2]})",
        picture=lambda: draw(
            lambda ax: heat(ax, weights, query_labels, key_labels, "softmax(QKᵀ / √d)", vmin=0, vmax=1),
            height=map_height(len(q)),
        ),
        table=table,
    )


def _weights(query: np.ndarray, key: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    scores = np.where(allowed, query @ key.T / math.sqrt(query.shape[1]), -np.inf)
    top = scores.max(axis=-1, keepdims=True)
    powers = np.exp(scores - np.where(np.isfinite(top), top, 0))
    sums = powers.sum(axis=-1, keepdims=True)
    return np.divide(powers, sums, out=np.zeros_like(powers), where=sums > 0)
