"""attention_map: attention weights as a heat map."""

from collections.abc import Sequence
from typing import Any

from course_lib.widgets.arrays import as_mask, as_pairs, as_weights
from course_lib.widgets.output import View
from course_lib.widgets.payload import pack, size
from course_lib.widgets.picture import draw, heat, map_height, strongest


def attention_map(
    weights: Any,
    queries: Sequence[str] | None = None,
    keys: Sequence[str] | None = None,
    *,
    mask: Any = None,
    gold: Any = None,
    normalized: bool = True,
    exact: bool | None = None,
    layer: int = 0,
    head: int = 0,
    title: str = "Attention map",
) -> View:
    """Show attention weights as a heat map: one row a query, one column a key.

    >>> attention_map([[0.9, 0.1], [0.4, 0.6]], ["the", "cat"])
    <attention_map: 2 queries by 2 keys; 'the' attends most to 'the' (0.90)>

    Args:
        weights: (query, key), (head, query, key) or (layer, head, query, key); an array, a tensor or lists.
            A list with one recorded map (1, head, query, key) for each layer is accepted too.
        queries: the tokens that ask, one for each row.
        keys: the tokens that are looked at, one for each column; `queries` again when left out.
        mask: boolean, broadcast to the weights; True means may attend. Other cells are struck out.
        gold: the cells that are right: a set of (query, key) index pairs, or a boolean matrix.
        normalized: False allows rows that do not sum to one.
        exact: True keeps seven digits of every weight, which large arrays otherwise lose to stay small.
        layer: the layer shown first.
        head: the head shown first.

    Raises:
        ValueError: weights or labels that do not fit together, NaN, negative weights, rows that do not sum
            to one; more than fit an output.
    """
    array, query_labels, key_labels = as_weights(weights, queries, keys, normalized)
    for name, place, count in (("layer", layer, array.shape[0]), ("head", head, array.shape[1])):
        if not 0 <= place < count:
            raise ValueError(f"{name}={place}, but the weights have {count}: choose from 0 to {count - 1}.")
    allowed = as_mask(mask, array.shape)
    pairs = as_pairs(gold, len(query_labels), len(key_labels))
    first = array[layer, head]
    packed_mask = None if allowed is None else pack(allowed)
    table = strongest(first, query_labels, key_labels)
    layers, heads = array.shape[:2]
    many = f"{layers} layers, {heads} heads, " if layers * heads > 1 else ""
    return View(
        kind="attention_map",
        data={
            "title": title,
            "queries": query_labels,
            "keys": key_labels,
            "weights": pack(array, exact, beside=size(packed_mask)),
            "mask": packed_mask,
            "gold": pairs,
            "top": float(array.max()) or 1.0,
            "layer": layer,
            "head": head,
        },
        alt=f"{many}{len(query_labels)} queries by {len(key_labels)} keys; "
        f"{table[1][0]!r} attends most to {table[1][1]!r} ({table[1][2]})",
        picture=lambda: draw(
            lambda ax: heat(ax, first, query_labels, key_labels, title, pairs, vmin=0),
            height=map_height(len(query_labels)),
        ),
        table=table,
    )
