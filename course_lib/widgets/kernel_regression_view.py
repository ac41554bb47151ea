"""kernel_regression_view: a curve through points, and the weights that each query gives them."""

from typing import Any

import numpy as np

from course_lib.widgets.arrays import as_array
from course_lib.widgets.output import View
from course_lib.widgets.picture import draw, heat, visible

MAX_POINTS = 200
_MOST_ROWS = 9

# The logarithm of each kernel at u = (query - key) / width, up to a constant, which cancels.
_SCORES = {
    "gaussian": lambda u: -(u**2) / 2,
    "boxcar": lambda u: np.where(np.abs(u) <= 1, 0.0, -np.inf),
    "triangular": lambda u: np.log(np.maximum(0, 1 - np.abs(u))),
    "epanechnikov": lambda u: np.log(np.maximum(0, 1 - u**2)),
}


def kernel_regression_view(
    x_train: Any,
    y_train: Any,
    x_query: Any,
    *,
    truth: Any = None,
    kernel: str = "gaussian",
    width: float = 1.0,
    xlabel: str = "x",
    ylabel: str = "y",
    title: str = "Kernel regression",
) -> View:
    """Show Nadaraya-Watson regression, and what a query attends to. Kernel and width can be changed.

    estimate(q) = sum_j w_j y_j,    w_j = K((q - x_j) / width) / sum_k K((q - x_k) / width)

    >>> kernel_regression_view([0, 1], [10, 20], [0.5], kernel="boxcar")
    <kernel_regression_view: 2 points, 1 query, boxcar kernel of width 1; estimates from 15 to 15>

    Args:
        x_train: (key,), where the training points lie.
        y_train: (key,), their values.
        x_query: (query,), where the curve is computed; the query in hand is one of them.
        truth: (query,), the true curve, drawn for comparison.
        kernel: "gaussian", "boxcar", "triangular" or "epanechnikov".
        width: the width at first, in the units of x.
        xlabel: what x is.
        ylabel: what y is.

    Raises:
        ValueError: numbers that do not fit together, are too many, NaN or infinite; an unknown kernel; a
            width that is not positive.

    Source: Nadaraya 1964; Watson 1964.
    """
    given = {"x_train": as_array(x_train, "x_train"), "y_train": as_array(y_train, "y_train")}
    given["x_query"] = as_array(x_query, "x_query")
    if truth is not None:
        given["truth"] = as_array(truth, "truth")
    for name, array in given.items():
        if array.ndim != 1 or not 1 <= array.size <= MAX_POINTS:
            raise ValueError(f"{name} has shape {array.shape}. Give one row of 1 to {MAX_POINTS} numbers.")
        if not np.isfinite(array).all():
            raise ValueError(f"{name} holds NaN or infinite numbers.")
    for name, other in (("y_train", "x_train"), ("truth", "x_query")):
        if name in given and given[name].size != given[other].size:
            raise ValueError(
                f"{name} has {given[name].size} numbers and {other} has {given[other].size}: "
                "one belongs to each."
            )
    if kernel not in _SCORES:
        raise ValueError(f"kernel={kernel!r} is unknown. Choose one of {', '.join(_SCORES)}.")
    if not 0 < width < np.inf:
        raise ValueError(f"width={width}: give a positive number, in the units of x_train.")

    name = kernel.capitalize() if kernel in ("gaussian", "epanechnikov") else kernel  # named after people
    key_order, query_order = np.argsort(given["x_train"]), np.argsort(given["x_query"])
    keys, values = given["x_train"][key_order], given["y_train"][key_order]
    queries = given["x_query"][query_order]
    right = given["truth"][query_order] if truth is not None else None
    weights = _weights(queries, keys, kernel, width)
    estimates = weights @ values
    answered = weights.sum(axis=-1) > 0
    shown = estimates[answered] if answered.any() else estimates

    def paint(left: Any, other: Any) -> None:
        if right is not None:
            left.plot(queries, right, "--", color="#545e59")
        left.plot(queries, np.where(answered, estimates, np.nan), color="#0a6660")
        left.plot(keys, values, "o", color="#7b857f", markersize=3)
        left.set_title(f"{name} kernel, width {width:g}", fontsize=9)
        left.set_xlabel(xlabel and visible(xlabel), fontsize=8, parse_math=False)
        left.set_ylabel(ylabel and visible(ylabel), fontsize=8, parse_math=False)
        left.tick_params(labelsize=8)
        heat(other, weights, title="weights: queries down, keys across", vmin=0)

    rows = np.unique(np.linspace(0, len(queries) - 1, _MOST_ROWS).astype(int))
    table = [["query", "estimate", "attends most to", "weight"]]
    for q in rows:
        best = weights[q].argmax()
        found = [f"{estimates[q]:.4g}", f"{keys[best]:.4g}", f"{weights[q, best]:.2f}"]
        table.append([f"{queries[q]:.4g}", *(found if answered[q] else ["no point in the window", "", ""])])
    return View(
        kind="kernel_regression_view",
        data={
            "title": title,
            "keys": keys.tolist(),
            "values": values.tolist(),
            "queries": queries.tolist(),
            "truth": None if right is None else right.tolist(),
            "kernel": kernel,
            "width": float(width),
            "xlabel": xlabel,
            "ylabel": ylabel,
        },
        alt=f"{len(keys)} points, {len(queries)} {'query' if len(queries) == 1 else 'queries'}, "
        f"{name} kernel of width {width:g}; estimates from {shown.min():.3g} to {shown.max():.3g}",
        picture=lambda: draw(paint, panels=2),
        table=table,
    )


def _weights(queries: np.ndarray, keys: np.ndarray, kernel: str, width: float) -> np.ndarray:
    with np.errstate(divide="ignore"):
        scores = _SCORES[kernel]((queries[:, None] - keys[None, :]) / width)
    top = scores.max(axis=-1, keepdims=True)
    powers = np.exp(scores - np.where(np.isfinite(top), top, 0))
    sums = powers.sum(axis=-1, keepdims=True)
    return np.divide(powers, sums, out=np.zeros_like(powers), where=sums > 0)
