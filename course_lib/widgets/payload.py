"""Pack arrays for the page: few bytes, one matrix readable without the others.

The counterpart is static/payload.js. Each matrix (the last two axes) is deflated by itself and written as
base64, so that a view of 144 maps decodes the one that is looked at.
"""

import base64
import zlib
from typing import Any

import numpy as np

# Up to this many values an array keeps every digit of single precision; above, one byte a value.
EXACT_VALUES = 4096
# What one array may take of an output, in characters of base64: in all, and for each of its values.
LARGEST = 9_400_000
LARGEST_PER_VALUE = 1.25
SMALLEST_LIMIT = 20_000
# So many numbers fit with every digit: four bytes each, and four characters for three bytes.
LARGEST_EXACT = LARGEST * 3 // 16


def deflated(raw: bytes, level: int = 9) -> str:
    """Return bytes as base64 of raw deflate, which browsers undo by themselves."""
    packer = zlib.compressobj(level, zlib.DEFLATED, -zlib.MAX_WBITS)
    return base64.b64encode(packer.compress(raw) + packer.flush()).decode()


def size(packed: dict[str, Any] | None) -> int:
    """Return how many characters a packed array takes of an output."""
    return 0 if packed is None else len(packed["data"]) + size(packed.get("peaks"))


def pack(array: np.ndarray, exact: bool | None = None, beside: int = 0) -> dict[str, Any]:
    """Pack an array of at least two axes.

    Booleans become bytes. Numbers are kept as float32 where `exact` is True, or None and the array is small.
    Otherwise they must not be negative and become the nearest of up to 256 steps of their square root:
    value = top (step / levels)^2; the largest of each row is kept exactly beside them, and
    reading lets no other value of its row pass it. Arrays that would still be too large get fewer steps,
    until they fit together with the `beside` characters that the output holds of other arrays.

    Raises ValueError for an array that is too large to keep exactly, or even in two steps.
    """
    matrices = array.reshape(-1, *array.shape[-2:])
    if array.dtype == bool:
        return _packed("byte", array.shape, [matrix.astype(np.uint8) for matrix in matrices])
    if exact or (exact is None and array.size <= EXACT_VALUES):
        if array.size > LARGEST_EXACT:
            raise ValueError(
                f"{array.size:,} numbers do not fit an output with all their digits: at most "
                f"{LARGEST_EXACT:,} do. Show a part of them, such as one layer."
            )
        return _packed("float32", array.shape, list(matrices.astype("<f4")))
    top = float(array.max()) or 1.0
    columns = array.argmax(axis=-1)[..., None]
    values = np.take_along_axis(array, columns, axis=-1)
    peaks = pack(np.concatenate([columns, values], axis=-1), exact=True)
    limit = min(LARGEST, max(SMALLEST_LIMIT, LARGEST_PER_VALUE * array.size))
    room = limit - size(peaks) - beside
    roots = np.sqrt(matrices / top, dtype=np.float32)
    levels = _levels(roots, room)
    while True:
        packed = _packed("root", array.shape, [np.rint(root * levels).astype(np.uint8) for root in roots])
        if len(packed["data"]) <= room:
            return {**packed, "top": top, "levels": levels, "peaks": peaks}
        if levels == 1:
            raise ValueError(
                f"weights of shape {array.shape} do not fit an output of {limit / 1e6:.2g} MB, however "
                "coarse. Show a part of them, such as weights[:1]."
            )
        # The sample promised too much: what was left out of it is harder to pack.
        levels = max(1, min(levels - 1, int(levels * room / len(packed["data"]))))


def _levels(roots: np.ndarray, room: float) -> int:
    """Return how many steps fit into `room`: judged by a few matrices spread over all of them."""
    sample = roots[:: max(1, len(roots) // 5)]
    levels = 255
    while levels > 1:
        tried = sum(len(deflated(np.rint(root * levels).astype(np.uint8).tobytes(), 5)) for root in sample)
        if tried * len(roots) / len(sample) <= room * 0.97:
            break
        levels = levels * 6 // 7
    return levels


def _packed(kind: str, shape: tuple[int, ...], matrices: list[np.ndarray]) -> dict[str, Any]:
    level = 9 if sum(matrix.nbytes for matrix in matrices) < 4_000_000 else 5
    texts = [deflated(np.ascontiguousarray(matrix).tobytes(), level) for matrix in matrices]
    ends = np.cumsum([len(text) for text in texts]).tolist()
    return {"kind": kind, "shape": list(shape), "ends": ends, "data": "".join(texts)}
