"""Images with their classes: handwritten digits, Fashion-MNIST, and drawn shapes with gold object masks."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from course_lib.attention import _check_sizes
from course_lib.data.download import DataUnavailable, fetch


@dataclass(frozen=True)
class LabeledImages:
    """Images from 0 to 1, the number of each one's class, and where known which pixels are the object."""

    images: Float[Tensor, "image channel height width"]
    labels: Int[Tensor, " image"]
    masks: Bool[Tensor, "image height width"] | None = None

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, rows: slice | Tensor) -> "LabeledImages":
        """Some of the images, with what belongs to them."""
        if not isinstance(rows, slice | list | Tensor | np.ndarray):
            raise TypeError(
                f"LabeledImages has no single item {rows}; slice it, [{rows}:{rows + 1}], or take "
                f"images[{rows}] and labels[{rows}]"
            )
        return LabeledImages(
            self.images[rows], self.labels[rows], None if self.masks is None else self.masks[rows]
        )


@dataclass(frozen=True)
class ImageData:
    """The three splits of a collection of images, and what its classes are called."""

    train: LabeledImages
    validation: LabeledImages
    test: LabeledImages
    class_names: tuple[str, ...]
    name: str


def load_images(name: str) -> ImageData:
    """Load images with their training, validation and test splits.

    Args:
        name: "digits" for 1,200 + 300 + 297 handwritten digits of 8 by 8 grey pixels, which scikit-learn
            brings along (Alpaydin and Kaynak 1998, the test set of UCI's "Optical Recognition of Handwritten
            Digits"); "shapes" for 6,000 + 1,000 + 1,000 drawn pictures with gold masks (see `draw_shapes`);
            "fashion-mnist" for 55,000 + 5,000 + 10,000 pictures of clothes, 28 by 28 grey pixels (Xiao et al.
            2017, https://arxiv.org/abs/1708.07747; validation is the last of their 60,000 for training).

    Raises:
        ValueError: no such collection.
        DataUnavailable: a file of Fashion-MNIST cannot be had.
    """
    if not isinstance(name, str) or name not in _LOADERS:
        raise ValueError(f"no collection is called {name!r}; choose from {', '.join(sorted(_LOADERS))}")
    return _LOADERS[name]()


def _split(data: LabeledImages, train: int, validation: int) -> tuple[LabeledImages, ...]:
    """Cut in the order of the collection, which in all of them mixes the classes."""
    return data[:train], data[train : train + validation], data[train + validation :]


# ------------------------------------------------------------------------------------------- digits


@lru_cache(maxsize=1)
def _load_digits() -> ImageData:
    from sklearn.datasets import load_digits  # here, since it takes seconds to import

    digits = load_digits()
    images = torch.from_numpy(digits.images).float().unsqueeze(1) / 16  # they count the ink from 0 to 16
    data = LabeledImages(images, torch.from_numpy(digits.target).long())
    return ImageData(*_split(data, 1_200, 300), class_names=tuple("0123456789"), name="digits")


# ------------------------------------------------------------------------------------ Fashion-MNIST

_CLOTHES = (
    "T-shirt/top",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)


def _load_fashion_mnist() -> ImageData:
    first, test = (
        LabeledImages(
            _read_idx(f"fashion-mnist/{part}-images-idx3-ubyte.gz", 3).unsqueeze(1).float() / 255,
            _read_idx(f"fashion-mnist/{part}-labels-idx1-ubyte.gz", 1).long(),
        )
        for part in ("train", "t10k")
    )
    train, validation, _ = _split(first, len(first) - len(first) // 12, len(first) // 12)
    return ImageData(train, validation, test, class_names=_CLOTHES, name="fashion-mnist")


def _read_idx(file: str, num_axes: int) -> Tensor:
    """Read an array of bytes: zero, zero, the type (8 for bytes), the number of axes, their sizes, the array.

    The format is that of MNIST, http://yann.lecun.com/exdb/mnist/.
    """
    content = fetch(file)
    start = 4 + 4 * num_axes
    shape = np.frombuffer(content[4:start], dtype=">u4").tolist()
    if content[:4] != bytes([0, 0, 8, num_axes]) or len(content) != start + np.prod(shape):
        raise DataUnavailable(
            f"{file} does not hold an array of bytes with {num_axes} axes in the idx format"
        )
    return torch.frombuffer(bytearray(content[start:]), dtype=torch.uint8).reshape(shape)


# ------------------------------------------------------------------------------------------- shapes

SHAPES_SIZE = 32
_RADII = (5, 7)  # of a figure, in pixels from its middle
_OTHERS = ("triangle", "cross")
_COLOURS = {
    "red": (214, 51, 51),
    "orange": (230, 140, 30),
    "yellow": (225, 215, 60),
    "green": (60, 170, 70),
    "blue": (50, 90, 215),
    "purple": (150, 60, 190),
}


def draw_shapes(count: int, seed: int, num_others: int = 3) -> LabeledImages:
    """Draw colour pictures of 32 by 32 pixels in which it is known what counts, and where it is.

    Each has one disc, and its colour is the class: red, orange, yellow, green, blue or purple. The mask is
    True on the disc's pixels. The rest misleads: `num_others` triangles and crosses in colours other than
    the disc's, and a ground of dull patches and noise. The disc may stand anywhere, and nothing covers it.
    To name its colour one must find it, by its form: neither colour nor place tells where it is.

    Raises ValueError if a number is negative or not whole, or there is nothing to draw.
    """
    _check_sizes(1, count=count)
    _check_sizes(0, seed=seed, num_others=num_others)
    generator = torch.Generator().manual_seed(seed)

    # Whole numbers throughout: no machine rounds them differently.
    def whole(low: int, high: int, *shape: int) -> Tensor:
        """Numbers from low to high, both included."""
        return torch.randint(low, high + 1, (count, *shape), generator=generator, dtype=torch.int16)

    # The dull patches are 5 wide, so that no model's own patches tell where they end.
    cells = whole(70, 150, 3, 8, 8)
    pictures = cells.repeat_interleave(5, dim=2).repeat_interleave(5, dim=3)
    pictures = pictures[:, :, 3 : 3 + SHAPES_SIZE, 2 : 2 + SHAPES_SIZE]

    palette = torch.tensor(list(_COLOURS.values()), dtype=torch.int16)
    labels = whole(0, len(palette) - 1).long()
    for _ in range(num_others):
        covered = torch.zeros(count, SHAPES_SIZE, SHAPES_SIZE, dtype=torch.bool)
        dy, dx, radius = _somewhere(whole)
        choice = whole(0, len(_OTHERS) - 1, 1, 1)
        for number, figure in enumerate(_OTHERS):
            covered |= (choice == number) & _covers(figure, dy, dx, radius)
        colour = (labels + whole(1, len(palette) - 1)) % len(palette)
        pictures = torch.where(covered[:, None], palette[colour][:, :, None, None], pictures)
    masks = _covers("disc", *_somewhere(whole))
    pictures = torch.where(masks[:, None], palette[labels][:, :, None, None], pictures)
    noise = whole(-20, 20, 3, SHAPES_SIZE, SHAPES_SIZE)
    return LabeledImages((pictures + noise).clamp(0, 255).float() / 255, labels, masks)


def _somewhere(whole) -> tuple[Tensor, Tensor, Tensor]:
    """A place and size for a figure in each picture: every pixel's distances from its middle, its radius."""
    radius = whole(*_RADII, 1, 1)
    room = SHAPES_SIZE - 2 * radius  # of places for the middle
    place = torch.arange(SHAPES_SIZE, dtype=torch.int16)
    down, right = (radius + whole(0, 9_999, 1, 1) % room for _ in range(2))
    return place[:, None] - down, place - right, radius


def _covers(figure: str, dy: Tensor, dx: Tensor, radius: Tensor) -> Bool[Tensor, "image height width"]:
    """Which pixels a figure covers."""
    if figure == "disc":
        return dx * dx + dy * dy <= radius * (radius + 1)
    if figure == "cross":
        return (torch.minimum(dx.abs(), dy.abs()) <= 1) & (torch.maximum(dx.abs(), dy.abs()) <= radius)
    return (2 * dx.abs() <= dy + radius) & (dy <= radius)  # a triangle that points upwards


@lru_cache(maxsize=1)
def _load_shapes() -> ImageData:
    splits = _split(draw_shapes(8_000, seed=0), 6_000, 1_000)
    return ImageData(*splits, class_names=tuple(_COLOURS), name="shapes")


_LOADERS = {"digits": _load_digits, "shapes": _load_shapes, "fashion-mnist": _load_fashion_mnist}
