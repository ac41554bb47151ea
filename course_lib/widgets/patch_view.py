"""patch_view: an image in patches, with attention, rollout and the gold mask side by side."""

import base64
import io
from typing import Any

import numpy as np
from PIL import Image

from course_lib.widgets.arrays import as_array, as_weights
from course_lib.widgets.output import View
from course_lib.widgets.payload import pack
from course_lib.widgets.picture import draw, heat


def patch_view(
    image: Any,
    weights: Any,
    *,
    patch_size: int,
    gold: Any = None,
    rollout: Any = None,
    normalized: bool = True,
    title: str = "Attention over patches",
) -> View:
    """Show what the class token or a patch of an image attends to.

    >>> patch_view([[0, 1], [1, 0]], [[0.25] * 4] * 4, patch_size=1)
    <patch_view: an image of 2 by 2 patches, 1 layers, 1 heads; patch 0, 0 attends most to patch 0, 0 (0.25)>

    Args:
        image: (height, width), (height, width, 3) or (3, height, width); 0 to 1, or 0 to 255 for integers.
        weights: (token, token), (head, token, token) or (layer, head, token, token). Tokens are the patches
            row by row; one token more than patches is the class token, which stands first.
        patch_size: the side of a patch in pixels.
        gold: (height, width) boolean, True on the object.
        rollout: (token, token). When left out it is the product over layers of
            (mean over heads + identity) / 2.
        normalized: False allows rows that do not sum to one.

    Raises:
        ValueError: an image, mask or weights that do not fit the patches.

    Source: rollout, Abnar and Zuidema 2020, section 3.
    """
    pixels = _as_pixels(image)
    height, width = pixels.shape[:2]
    if patch_size < 1 or height % patch_size or width % patch_size:
        raise ValueError(
            f"an image of {height} by {width} pixels cannot be cut into patches of {patch_size}."
        )
    rows, columns = height // patch_size, width // patch_size
    array, _, _ = as_weights(weights, None, None, normalized)
    tokens = array.shape[-1]
    if array.shape[-2] != tokens or tokens - rows * columns not in (0, 1):
        raise ValueError(
            f"the weights are {array.shape[-2]} by {tokens} tokens, but {rows} by {columns} patches need "
            f"{rows * columns}, or {rows * columns + 1} with a class token."
        )
    class_token = tokens > rows * columns
    rolled = _rollout(array) if rollout is None else as_array(rollout, "rollout")
    if rolled.shape != (tokens, tokens):
        raise ValueError(f"rollout has shape {rolled.shape}, not {(tokens, tokens)}.")
    if not (np.isfinite(rolled).all() and (rolled >= 0).all()):
        raise ValueError("rollout must be finite and not negative.")
    mask = None if gold is None else _as_gold(gold, (height, width))

    first = int(class_token)
    seen = [matrix[0, first:].reshape(rows, columns) for matrix in (array[-1, 0], rolled)]
    asker = "the class token" if class_token else "patch 0, 0"
    table = [["attends most to", "weight", "rollout"]]
    for flat in np.argsort(-seen[0], axis=None, kind="stable")[:5]:
        place = np.unravel_index(int(flat), (rows, columns))
        table.append([f"patch {place[0]}, {place[1]}", f"{seen[0][place]:.3f}", f"{seen[1][place]:.3f}"])

    def paint(*axes: Any) -> None:
        axes[0].imshow(pixels)
        heat(axes[1], seen[0], title=f"attention of {asker}", vmin=0)
        heat(axes[2], seen[1], title="rollout", vmin=0)
        if mask is not None:
            axes[3].imshow(mask, cmap="gray")
        for ax in axes:
            ax.set_aspect("auto")
            ax.set_axis_off()

    layers, heads = array.shape[:2]
    return View(
        kind="patch_view",
        data={
            "title": title,
            "image": _png(pixels),
            "size": [height, width],
            "grid": [rows, columns],
            "classToken": class_token,
            "weights": pack(array),
            "rollout": pack(rolled[None]),
            "gold": None if mask is None else _png(mask.astype(np.uint8) * 255),
        },
        alt=f"an image of {rows} by {columns} patches, {layers} layers, {heads} heads; "
        f"{asker} attends most to {table[1][0]} ({seen[0].max():.2f})",
        picture=lambda: draw(paint, panels=3 + (mask is not None), height=2.2),
        table=table,
    )


def _as_pixels(image: Any) -> np.ndarray:
    array = as_array(image, "image")
    if array.ndim == 3 and array.shape[0] in (1, 3) and array.shape[2] not in (1, 3):
        array = array.transpose(1, 2, 0)
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[2] not in (1, 3) or array.size == 0:
        raise ValueError(
            f"image has shape {array.shape}. Give (height, width), (height, width, 3) or (3, height, width)."
        )
    if not np.isfinite(array).all() or array.min() < 0 or array.max() > 255:
        raise ValueError("image values must lie between 0 and 1, or 0 and 255: undo the normalisation first.")
    if array.max() <= 1:
        array = array * 255
    return np.repeat(array, 3 // array.shape[2], axis=2).round().astype(np.uint8)


def _as_gold(gold: Any, shape: tuple[int, int]) -> np.ndarray:
    mask = as_array(gold, "gold")
    if mask.shape != shape or not np.isin(mask, (0, 1)).all():
        raise ValueError(
            f"gold must be boolean of shape {shape}, as the image; this one has shape {mask.shape}."
        )
    return mask.astype(bool)


def _rollout(weights: np.ndarray) -> np.ndarray:
    rolled = np.eye(weights.shape[-1])
    for layer in weights.mean(axis=1):
        rolled = (layer + np.eye(len(layer))) / 2 @ rolled
    return rolled


def _png(pixels: np.ndarray) -> str:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode()
