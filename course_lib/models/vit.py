"""The Vision Transformer: a picture as a sequence of patches, read by the blocks that read sentences.

From top to bottom: cutting into patches, the configuration, the model, and attention rolled out over its
blocks.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from course_lib.attention import (
    _check_dropout,
    _check_dtypes,
    _check_flags,
    _check_sizes,
    _numbers_are_known,
)
from course_lib.layers import EncoderBlock
from course_lib.positions import LearnedPositions


def image_to_patches(
    images: Shaped[Tensor, "batch channel height width"], patch_size: int
) -> Shaped[Tensor, "batch patch pixel"]:
    """Cut each image into square patches, and write each patch as one row of numbers.

        patches[b, i * columns + j] = images[b, :, i * P : (i + 1) * P, j * P : (j + 1) * P].flatten()

    Patches follow each other row by row, as words are read. P is `patch_size`, columns = width / P; there are
    M = height * width / P^2 patches of channels * P^2 numbers: first all of the first channel, row by row. So
    one matrix on these rows is the same as a convolution of size P and stride P.

    Raises ValueError if P does not divide height and width, or there are not four axes.
    Source: Dosovitskiy et al. 2021, section 3.1.
    """
    _check_sizes(1, patch_size=patch_size)
    if not isinstance(images, Tensor) or images.dim() != 4:
        got = f"shape {tuple(images.shape)}" if isinstance(images, Tensor) else type(images).__name__
        raise ValueError(f"images must be a tensor of (batch, channel, height, width), got {got}")
    _, second, height, width = images.shape
    last_may_be_channels = width in (1, 3, 4) and second % patch_size == height % patch_size == 0
    hint = ". If the channels stand last: images.permute(0, 3, 1, 2)" if last_may_be_channels else ""
    _check_divisible(height, width, patch_size, hint)
    cut = images.unflatten(3, (width // patch_size, patch_size))
    cut = cut.unflatten(2, (height // patch_size, patch_size))  # (batch, channel, row, P, column, P)
    return cut.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)


@dataclass(frozen=True)
class ViTConfig:
    """The sizes and choices of a Vision Transformer.

    image_size: the side of a square image in pixels, or (height, width).
    patch_size: the side of a patch in pixels; must divide height and width.
    num_classes: how many classes the images have.
    num_channels: 3 for colour, 1 for grey.
    readout: what makes logits of the class state: "mlp", with two hidden layers of width d_model, or
        "linear".
    """

    image_size: int | tuple[int, int]
    patch_size: int
    num_classes: int
    num_channels: int = 3
    d_model: int = 64
    num_heads: int = 4
    num_blocks: int = 4
    d_ff: int = 128
    dropout: float = 0.0
    readout: str = "mlp"

    def __post_init__(self):
        size = self.image_size if isinstance(self.image_size, tuple) else (self.image_size,) * 2
        if len(size) != 2:
            raise ValueError(f"image_size is {size}; give the side of a square image, or (height, width)")
        _check_sizes(1, height=size[0], width=size[1], patch_size=self.patch_size)
        _check_sizes(1, num_classes=self.num_classes, num_channels=self.num_channels)
        _check_sizes(1, num_blocks=self.num_blocks, d_model=self.d_model, d_ff=self.d_ff)
        _check_sizes(1, num_heads=self.num_heads)
        _check_dropout(self.dropout)
        _check_divisible(*size, self.patch_size)
        if self.readout not in ("mlp", "linear"):
            raise ValueError(f"readout is {self.readout!r}; choose 'mlp' or 'linear'")

    @property
    def grid(self) -> tuple[int, int]:
        """How many rows and columns of patches an image has."""
        height, width = self.image_size if isinstance(self.image_size, tuple) else (self.image_size,) * 2
        return height // self.patch_size, width // self.patch_size


class ViT(nn.Module):
    """Classify images with attention alone.

        x = [class vector, E patch_0, ..., E patch_(M - 1)] + positions        (M + 1) by D
        states = LayerNorm(blocks(x))
        logits = readout(states[0])

    E is one matrix for all patches, with a bias. The class vector is trained and belongs to no patch: what it
    knows of the image when it is read out, it got by attention. The blocks are pre-norm with GELU, as in the
    paper; so are the positions, one trained code for each place.

    Source: Dosovitskiy et al. 2021, section 3.1, equations 1 to 4, whose readout has one hidden layer in
    pre-training and none in fine-tuning; here it has two, or none.
    """

    def __init__(self, config: ViTConfig):
        super().__init__()
        if not isinstance(config, ViTConfig):
            raise TypeError(f"config must be a ViTConfig(...), got {type(config).__name__}")
        self.config = config
        d_model = config.d_model
        rows, columns = config.grid
        self.patch_embedding = nn.Linear(config.num_channels * config.patch_size**2, d_model)
        self.class_vector = nn.Parameter(torch.empty(d_model))
        self.positions = LearnedPositions(1 + rows * columns, d_model)
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(
            EncoderBlock(d_model, config.num_heads, config.d_ff, config.dropout, True, "gelu")
            for _ in range(config.num_blocks)
        )
        self.norm = nn.LayerNorm(d_model)
        hidden = [nn.Linear(d_model, d_model), nn.GELU(), nn.Linear(d_model, d_model), nn.GELU()]
        self.readout = nn.Sequential(
            *(hidden if config.readout == "mlp" else []), nn.Linear(d_model, config.num_classes)
        )
        nn.init.normal_(self.class_vector, std=0.02)  # as the positions begin

    def encode(
        self, images: Float[Tensor, "batch channel height width"]
    ) -> Float[Tensor, "batch position d_model"]:
        """Give the final states: first that of the class vector, then one for each patch.

        images: numbers around 0 to 1, or standardised.
        Raises ValueError for another shape than the model was made for, no images, pixels that are not
        finite, or the pixel range of bytes; TypeError for another dtype than the model's.
        """
        self._check_images(images)
        patches = self.patch_embedding(image_to_patches(images, self.config.patch_size))
        first = self.class_vector.expand(len(images), 1, -1)
        x = torch.cat([first, patches], dim=1)  # (batch, M + 1, d_model)
        x = self.dropout(x + self.positions(x.shape[1]))
        for block in self.blocks:
            x = block(x)
        return self.norm(x)

    def forward(
        self, images: Float[Tensor, "batch channel height width"]
    ) -> Float[Tensor, "batch num_classes"]:
        """encode, then read out the class state."""
        return self.readout(self.encode(images)[:, 0])

    def _check_images(self, images: Tensor) -> None:
        weight = self.patch_embedding.weight
        if isinstance(images, Tensor) and not images.is_floating_point():
            raise TypeError(
                f"images are {images.dtype}, but the model computes in {weight.dtype}; turn bytes from 0 to "
                f"255 into numbers from 0 to 1 with images.float() / 255"
            )
        _check_dtypes(images=images, weight=weight)
        height, width = (count * self.config.patch_size for count in self.config.grid)
        wanted, got = (self.config.num_channels, height, width), tuple(images.shape)
        if images.dim() != 4 or got[1:] != wanted:
            raise ValueError(
                f"images must be of shape (batch, channel, height, width) with {wanted} after the batch, got "
                f"{got}{_shape_hint(got, wanted)}"
            )
        if len(images) == 0:
            raise ValueError(f"images is of shape {got}: there is no image in it; give at least one")
        if not _numbers_are_known():
            return
        largest = float(images.detach().abs().amax())  # NaN, if there is one
        if not math.isfinite(largest):
            raise ValueError(
                "images hold NaN or infinity, which would spread to the logits; find where it comes from, "
                "such as a division by a standard deviation of zero"
            )
        if largest > 32:  # standardised pixels do not go that far, and few pictures in bytes stay below
            raise ValueError(
                f"images hold {largest:g}, but pixels are expected around 0 to 1; divide bytes from 0 to 255 "
                f"by 255"
            )


def _check_divisible(height: int, width: int, patch_size: int, hint: str = "") -> None:
    if height == 0 or width == 0 or height % patch_size or width % patch_size:
        raise ValueError(
            f"an image of {height} by {width} pixels cannot be cut into patches of {patch_size} by "
            f"{patch_size}; choose a patch_size that divides both, or crop or pad the image{hint}"
        )


def _shape_hint(got: tuple[int, ...], wanted: tuple[int, int, int]) -> str:
    """What to do about images of the wrong shape, where one can tell."""
    channels, height, width = wanted
    if got[1:] == (height, width, channels):
        return ". The channels stand last: images.permute(0, 3, 1, 2)"
    if got == wanted:
        return ". One image needs the axis of the batch: images[None]"
    if got == (height, width, channels):
        return ". One image with the channels last: images.permute(2, 0, 1)[None]"
    if len(got) == 3 and got[1:] == (height, width) and channels == 1:
        return ". Grey images need the axis of their one channel: images[:, None]"
    if len(got) == 4 and got[2:] == (height, width):
        return f". Give images of {channels} channels, or make the model with num_channels={got[1]}"
    if len(got) == 4 and got[1] == channels:
        return (
            f". The model has positions for {height} by {width} pixels: resize the images, or make the model "
            f"with image_size={got[2:]}"
        )
    return ""


def attention_rollout(
    maps: Mapping[str, Float[Tensor, "batch head position position"]], identity: bool = True
) -> Float[Tensor, "batch position position"]:
    """Follow attention through all blocks: how much of each input has reached each final state.

        rollout = A_L ... A_2 A_1,    A_l = (mean over heads of weights_l + I) / 2

    The identity I stands for the residual connection, by which each state keeps what it had; without it,
    `identity=False`, A_l is the mean over heads alone. Row 0, without its first entry, is what the class
    vector has of each patch. Rows sum to one. Rollout sees weights alone: neither the values, nor the
    feed-forward networks, nor which side of a residual is the larger.

    maps: what record_attention collected in one pass of an encoder, first block first. Any encoder's will do.
    Raises ValueError where it is not that, TypeError if it is no mapping to tensors.
    Source: Abnar and Zuidema 2020, section 3.
    """
    if not isinstance(maps, Mapping):
        raise TypeError(f"maps must be what record_attention gives, got {type(maps).__name__}")
    if not maps:
        raise ValueError("maps is empty: call the model inside `with record_attention(model) as maps:`")
    _check_flags(identity=identity)
    first = next(iter(maps.values()))
    for name, weights in maps.items():
        if isinstance(weights, list):
            raise ValueError(
                f"{name!r} was called {len(weights)} times while its attention was recorded; open "
                f"record_attention anew for each pass"
            )
        _check_dtypes(**{"first map": first, name: weights})
        same = weights.shape[:1] + weights.shape[2:] == first.shape[:1] + first.shape[2:]
        if weights.dim() != 4 or weights.shape[2] != weights.shape[3] or not same:
            raise ValueError(
                f"{name!r} has weights of shape {tuple(weights.shape)}, the first map has "
                f"{tuple(first.shape)}; rollout multiplies self-attention of blocks that follow each other, "
                f"(batch, head, position, position): pick an encoder's maps"
            )
        if weights.numel() == 0 or not (weights.is_meta or weights.isfinite().all()):
            raise ValueError(f"{name!r} has no weights, or NaN or infinite ones; find where they come from")
    own = torch.eye(first.shape[-1], dtype=first.dtype, device=first.device)
    rollout = own.expand(first.shape[0], -1, -1)
    for weights in maps.values():
        step = weights.mean(dim=1)
        rollout = ((step + own) / 2 if identity else step) @ rollout
    return rollout
