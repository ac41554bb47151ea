"""head_view and model_view: the heads of a layer, and of a whole model, side by side."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from course_lib.widgets.arrays import as_mask, as_pairs, as_weights
from course_lib.widgets.output import View
from course_lib.widgets.payload import pack, size
from course_lib.widgets.picture import draw, heat, map_height, shrunk, strongest

_THUMBNAIL = 32


def head_view(
    weights: Any,
    queries: Sequence[str] | None = None,
    keys: Sequence[str] | None = None,
    *,
    layer: int = 0,
    heads: Sequence[int] | None = None,
    normalized: bool = True,
    title: str = "Heads",
) -> View:
    """Show attention as lines from queries to keys, with one colour for each head.

    >>> head_view([[[0.9, 0.1], [0.4, 0.6]]], ["the", "cat"])
    <head_view: 1 head, 2 queries joined to 2 keys; 'the' attends most to 'the' (0.90)>

    Args:
        weights: (query, key), (head, query, key) or (layer, head, query, key). Self- and cross-attention
            alike: queries and keys may differ in number and in tokens.
        queries: the tokens on the left.
        keys: the tokens on the right; `queries` again when left out.
        layer: the layer shown first.
        heads: the heads switched on at first; all of them when left out.
        normalized: False allows rows that do not sum to one.

    Raises:
        ValueError: as attention_map does.
    """
    array, query_labels, key_labels = as_weights(weights, queries, keys, normalized)
    layers, count = array.shape[:2]
    if not 0 <= layer < layers:
        raise ValueError(f"layer={layer}, but the weights have {layers}: choose from 0 to {layers - 1}.")
    shown = range(count) if heads is None else heads
    if unknown := [head for head in shown if not 0 <= head < count]:
        raise ValueError(
            f"heads has {unknown[0]}, but the weights have {count}: choose from 0 to {count - 1}."
        )
    mean = array[layer].mean(axis=0)
    table = strongest(mean, query_labels, key_labels)
    return View(
        kind="head_view",
        data={
            "title": title,
            "queries": query_labels,
            "keys": key_labels,
            "weights": pack(array),
            "layer": layer,
            "heads": [head in shown for head in range(count)],
        },
        alt=f"{count} {'head' if count == 1 else 'heads'}, {len(query_labels)} queries joined to "
        f"{len(key_labels)} keys; {table[1][0]!r} attends most to {table[1][1]!r} ({table[1][2]})",
        picture=lambda: draw(
            lambda ax: heat(ax, mean, query_labels, key_labels, f"{title}: mean of the heads", vmin=0),
            height=map_height(len(query_labels)),
        ),
        table=table,
    )


def model_view(
    weights: Any,
    queries: Sequence[str] | None = None,
    keys: Sequence[str] | None = None,
    *,
    mask: Any = None,
    gold: Any = None,
    normalized: bool = True,
    title: str = "All layers and heads",
) -> View:
    """Show every layer and head as a small picture; a click opens one as a map.

    >>> model_view([[[[0.9, 0.1], [0.4, 0.6]]]], ["the", "cat"])
    <model_view: 1 layers by 1 heads, 2 queries by 2 keys; most focused: layer 0, head 0>

    Args:
        weights: (layer, head, query, key), or a list with one recorded map (1, head, query, key) a layer.
        queries: the tokens that ask.
        keys: the tokens that are looked at; `queries` again when left out.
        mask: boolean, broadcast to the weights; True means may attend. Shown in the opened map.
        gold: the cells that are right, as in attention_map. Shown in the opened map.
        normalized: False allows rows that do not sum to one.

    Raises:
        ValueError: as attention_map does.
    """
    array, query_labels, key_labels = as_weights(weights, queries, keys, normalized)
    allowed = as_mask(mask, array.shape)
    layers, heads = array.shape[:2]
    small = shrunk(array, _THUMBNAIL)
    focus = array.max(axis=-1).mean(axis=-1)
    best = np.unravel_index(int(focus.argmax()), focus.shape)
    table = [["layer", "head", "mean of each query's largest weight"]]
    for flat in np.argsort(-focus, axis=None, kind="stable")[:8]:
        layer, head = np.unravel_index(int(flat), focus.shape)
        table.append([str(layer), str(head), f"{focus[layer, head]:.2f}"])
    sheet = np.pad(small, ((0, 0), (0, 0), (0, 1), (0, 1)), constant_values=float(array.max()) / 4)
    sheet = sheet.transpose(0, 2, 1, 3).reshape(layers * sheet.shape[2], heads * sheet.shape[3])
    packed_mask = None if allowed is None else pack(allowed)
    thumbnails = pack(small.reshape(1, layers * heads, -1), exact=False)
    return View(
        kind="model_view",
        data={
            "title": title,
            "queries": query_labels,
            "keys": key_labels,
            "weights": pack(array, beside=size(packed_mask) + size(thumbnails)),
            "thumbnails": {**thumbnails, "shape": list(small.shape)},
            "mask": packed_mask,
            "gold": as_pairs(gold, len(query_labels), len(key_labels)),
            "top": float(array.max()) or 1.0,
            "focus": focus.round(4).tolist(),
        },
        alt=f"{layers} layers by {heads} heads, {len(query_labels)} queries by {len(key_labels)} keys; "
        f"most focused: layer {best[0]}, head {best[1]}",
        picture=lambda: draw(
            lambda ax: (
                heat(ax, sheet, title=f"{title}: layers down, heads across", vmin=0),
                ax.set_axis_off(),
            ),
            height=3.6,
        ),
        table=table,
    )
