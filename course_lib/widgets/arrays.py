"""What a view accepts: arrays, labels, masks and gold pairs, checked and in one form."""

import operator
from collections.abc import Collection, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

# How far the sum of a row of weights may be from one: what rounding in the array's own precision can do.
_SUM_TOLERANCE = {"float16": 5e-3, "bfloat16": 2e-2}


class Axes(NamedTuple):
    """What a view calls the rows and the columns of its weights, as its errors say it.

    `rows` and `columns` are the arguments that hold their labels, `row` and `column` one place along each.
    """

    rows: str = "queries"
    columns: str = "keys"
    row: str = "query"
    column: str = "key"


_AXES = Axes()


def as_array(values: Any, name: str = "array") -> np.ndarray:
    """Return numbers as a float64 array.

    `values` is an array, nested lists, a tensor (with gradients, in any precision, on any device), or a list
    of those. Raises TypeError when it holds something that is not a number.
    """
    if hasattr(values, "detach"):
        return values.detach().cpu().double().numpy()
    if isinstance(values, list | tuple) and any(hasattr(part, "detach") for part in values):
        values = [as_array(part, name) for part in values]
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise ValueError(
            f"{name} is ragged: its rows have different lengths. Give every row as many numbers."
        ) from error
    if array.dtype.kind not in "buif":
        raise TypeError(
            f"{name} must hold numbers, but holds {array.dtype}. Give an array, a tensor or nested lists."
        )
    return array.astype(np.float64)


def as_labels(labels: Sequence[Any] | None, length: int, name: str, wanted: str) -> list[str]:
    """Return one string for each of `length` places; the places' numbers when `labels` is None.

    `wanted` ends the sentence that refuses another number of labels: "queries has 3 labels, but ...".
    """
    if labels is None:
        return [str(place) for place in range(length)]
    if isinstance(labels, str):
        raise TypeError(f"{name} is one string. Give a list of tokens, such as {name}=text.split().")
    tokens = [str(label.item()) if hasattr(label, "item") else str(label) for label in labels]
    if len(tokens) != length:
        raise ValueError(f"{name} has {len(tokens)} labels, but {wanted}")
    return tokens


def as_weights(
    weights: Any,
    queries: Sequence[str] | None,
    keys: Sequence[str] | None,
    normalized: bool = True,
    axes: Axes = _AXES,
) -> tuple[np.ndarray, list[str], list[str]]:
    """Return attention weights as (layer, head, query, key) with the labels of queries and keys.

    Accepted are (query, key), (head, query, key), (layer, head, query, key), and (layer, 1, head, query, key)
    where the axis of length one is a batch of one sentence, as `list(maps.values())` of recorded maps gives.
    `keys` defaults to `queries` when both axes have one length. `axes` says what errors call them.

    Raises ValueError for an empty array, another number of axes, NaN, infinite or negative weights, labels of
    the wrong length, and, unless `normalized` is False, for a row that does not sum to one. A row of zeros
    is accepted: it belongs to a query that has nothing to attend to.
    """
    tolerance = _sum_tolerance(weights)
    array = as_array(weights, "weights")
    shape = array.shape
    pair = f"({axes.row}, {axes.column})"
    if array.ndim == 5 and shape[1] == 1:
        array = array[:, 0]
    if not 2 <= array.ndim <= 4:
        raise ValueError(
            f"weights have {array.ndim} axes, shape {shape}. Give {pair}, (head, {pair[1:]} or "
            f"(layer, head, {pair[1:]}; of a batch, give one sentence: weights[0]."
        )
    if array.size == 0:
        raise ValueError(
            f"weights are empty, shape {shape}. At least one {axes.row} and one {axes.column} are needed."
        )
    array = array.reshape((1,) * (4 - array.ndim) + array.shape)
    if keys is None and queries is not None and array.shape[2] == array.shape[3]:
        keys = queries
    form = f"Weights are {pair}: one row for each {axes.row}, one column for each {axes.column}."
    query_labels, key_labels = (
        as_labels(labels, length, name, f"the weights have {length} along their {place} axis. {form}")
        for labels, length, name, place in (
            (queries, array.shape[2], axes.rows, axes.row),
            (keys, array.shape[3], axes.columns, axes.column),
        )
    )
    _check_values(array, query_labels, key_labels, axes)
    if normalized:
        _check_sums(array, query_labels, tolerance, axes)
    return array, query_labels, key_labels


def as_mask(mask: Any, shape: tuple[int, ...]) -> np.ndarray | None:
    """Return a boolean mask (layer or 1, head or 1, query, key); True means may attend."""
    if mask is None:
        return None
    array = as_array(mask, "mask")
    if array.ndim == 5 and array.shape[1] == 1:
        array = array[:, 0]
    if not np.isin(array, (0, 1)).all():
        raise ValueError("mask must be boolean: True where a query may attend, False where it may not.")
    target = shape[len(shape) - array.ndim :] if array.ndim <= len(shape) else ()
    if array.ndim > len(shape) or any(m not in (1, s) for m, s in zip(array.shape, target, strict=True)):
        raise ValueError(f"mask has shape {array.shape}, which does not broadcast to the weights' {shape}.")
    array = array.reshape((1,) * (len(shape) - array.ndim) + array.shape).astype(bool)
    return np.broadcast_to(array, (*array.shape[:-2], *shape[-2:]))


def as_pairs(gold: Any, num_queries: int, num_keys: int, axes: Axes = _AXES) -> list[tuple[int, int]]:
    """Return the gold cells as sorted (query, key) index pairs.

    `gold` is a collection of pairs, such as the frozenset that load_translation gives, or a boolean matrix
    (query, key).
    """
    if gold is None:
        return []
    if isinstance(gold, set | frozenset) or _is_pair_list(gold, num_queries, num_keys):
        try:
            pairs = sorted((operator.index(query), operator.index(key)) for query, key in gold)
        except (TypeError, ValueError):
            raise TypeError(
                f"gold must hold pairs of whole numbers, ({axes.row}, {axes.column}), got {gold!r:.80}"
            ) from None
    else:
        matrix = as_array(gold, "gold")
        if matrix.shape != (num_queries, num_keys) or not np.isin(matrix, (0, 1)).all():
            raise ValueError(
                f"gold must be a set of ({axes.row}, {axes.column}) index pairs, or a boolean matrix of "
                f"shape {(num_queries, num_keys)}; this one has shape {matrix.shape}."
            )
        pairs = [(int(query), int(key)) for query, key in np.argwhere(matrix)]
    for query, key in pairs:
        if not (0 <= query < num_queries and 0 <= key < num_keys):
            raise ValueError(
                f"gold pair ({query}, {key}) lies outside the shape ({num_queries}, {num_keys}) of the "
                f"weights. Pairs are ({axes.row} index, {axes.column} index), counted from zero."
            )
    return pairs


def _is_pair_list(gold: Any, num_queries: int, num_keys: int) -> bool:
    if not isinstance(gold, Collection) or hasattr(gold, "shape"):
        return False
    pairs = all(isinstance(pair, tuple) and len(pair) == 2 for pair in gold)
    return pairs and not (len(gold) == num_queries and num_keys == 2)


def _sum_tolerance(weights: Any) -> float:
    parts: Iterable[Any] = weights if isinstance(weights, list | tuple) else [weights]
    names = {str(getattr(part, "dtype", "")).removeprefix("torch.") for part in parts}
    return max([_SUM_TOLERANCE.get(name, 1e-3) for name in names], default=1e-3)


def _place(index: Sequence[int], array: np.ndarray) -> str:
    layer, head = index[:2]
    parts = [f"layer {layer}"] * (array.shape[0] > 1) + [f"head {head}"] * (array.shape[1] > 1)
    return f"{', '.join(parts)}, " if parts else ""


def _check_values(array: np.ndarray, queries: list[str], keys: list[str], axes: Axes) -> None:
    for wrong, words, cure in (
        (np.isnan(array), "NaN", "A softmax over a row that is all -inf gives NaN: mask it to zeros."),
        (np.isinf(array), "infinite", "Give the weights after the softmax, not the masked scores."),
        (array < 0, "negative", "Give the weights after the softmax, not the scores."),
    ):
        if wrong.any():
            index = np.argwhere(wrong)[0]
            row, column = index[2:]
            raise ValueError(
                f"weights are {words} at {_place(index, array)}{axes.row} {row} ({queries[row]!r}), "
                f"{axes.column} {column} ({keys[column]!r}). {cure}"
            )


def _check_sums(array: np.ndarray, queries: list[str], tolerance: float, axes: Axes) -> None:
    sums = array.sum(axis=-1)
    wrong = (np.abs(sums - 1) > tolerance) & (sums != 0)
    if not wrong.any():
        return
    index = np.argwhere(wrong)[0]
    row = index[2]
    columns = array[tuple(index[:2])].sum(axis=0)
    hint = (
        f"Its columns do sum to one: was the softmax taken over the {axes.rows}?"
        if np.abs(columns - 1).max() <= tolerance
        else f"Softmax runs over the {axes.columns}, the last axis."
    )
    raise ValueError(
        f"row {row} of the weights ({_place(index, array)}{axes.row} {queries[row]!r}) sums to "
        f"{sums[tuple(index)]:.4g}, not to one. {hint} To look at it as it is, pass normalized=False."
    )
