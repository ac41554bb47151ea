"""Where a token stands: codes to add to it, rotations of queries and keys, biases of scores.

Attention by itself knows no order: shuffle the keys together with their values, and no output changes.
Positions come in at one of three places:

    the input            x + code                         binary, sinusoidal and learned codes
    query and key        apply_rotary(query) and key      rotary; the values stay as they are
    the scores           scores + bias                    Raffel's buckets, ALiBi; Shaw's also the output

A bias is a floating-point tensor that is added to the scaled scores before the softmax. It is no mask:

    scores = dot_score(query / math.sqrt(d_k), key) + alibi_bias(num_heads, num_queries, num_keys)
    weights = masked_softmax(scores, causal_mask(num_queries, num_keys))

Positions count from 0. A step of cached decoding gets the newest tokens only, and `offset` is how many came
before them. For codes and rotations it is 0 unless given: forget it, and every new token stands at position
0. Whatever compares queries with keys sees how many keys there are, so there the queries are the last
positions unless `offset` says otherwise, as in `causal_mask`.
"""

import math
import sys

import torch
from jaxtyping import Float, Int, Integer
from torch import Tensor, nn

from course_lib.attention import (
    MultiHeadAttention,
    _AttentionLayer,
    _check_dtypes,
    _check_flags,
    _check_key_and_value,
    _check_pair,
    _check_sizes,
    _numbers_are_known,
    dot_score,
    masked_softmax,
)

# --------------------------------------------------------------------------------------------- codes


def binary_positions(
    positions: int | Integer[Tensor, "*position"],
    num_bits: int,
    offset: int = 0,
    dtype: torch.dtype = torch.float32,
) -> Float[Tensor, "*position num_bits"]:
    """Write each position in binary, the ones first, so that each column changes half as often as the last.

    code[p, j] = floor(p / 2^j) mod 2

    `positions` is how many positions to count, or a tensor of the positions themselves; `offset` is added.

    Raises ValueError if a position is negative or needs more bits than there are.
    """
    positions = _as_positions(positions, offset)
    _check_sizes(1, num_bits=num_bits)
    _check_floating(dtype)
    if num_bits > 63:
        raise ValueError(
            f"num_bits must be at most 63, the bits of a whole number in PyTorch; got {num_bits}"
        )
    _check_range(positions, 2**num_bits, f"{num_bits} bits count")
    return (positions[..., None] >> torch.arange(num_bits, device=positions.device) & 1).to(dtype)


def sinusoidal_positions(
    positions: int | Integer[Tensor, "*position"],
    d_model: int,
    base: float = 10000.0,
    offset: int = 0,
    dtype: torch.dtype = torch.float32,
) -> Float[Tensor, "*position d_model"]:
    """Describe each position by sines and cosines of wavelengths from 2 pi to almost 2 pi base.

    code[p, 2i] = sin(p / base^(2i / d)),    code[p, 2i + 1] = cos(p / base^(2i / d)),    i = 0 .. d/2 - 1

    `positions` is how many positions to count, or a tensor of the positions themselves; `offset` is added.

    i counts pairs of columns, and both columns of a pair share the exponent. Some code gives the cosine an
    exponent of its own, (2i + 1) / d; then the dot product of two codes no longer depends on their distance
    alone.

    Raises ValueError if `d_model` is odd, a size is wrong, or `base` is not above 1; TypeError for positions
    that are not whole numbers.
    Source: Vaswani et al. 2017, section 3.5.
    """
    positions = _as_positions(positions, offset)
    _check_floating(dtype)
    angles = _angles(positions, d_model, base)  # (..., position, pair)
    code = torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(-2)  # sin, cos, sin, cos, ...
    return code.to(positions.device, dtype)


class LearnedPositions(nn.Module):
    """One trained code for each position, from a table.

    code[p] = E[p],    E of shape (max_length, d_model)

    There is no code beyond the table: what is trained on short texts cannot be asked about longer ones. The
    table starts as normal numbers of deviation 0.02, as in BERT.

    Source: Gehring et al. 2017, section 3.1; compared with sinusoids in Vaswani et al. 2017, section 3.5.
    """

    def __init__(self, max_length: int, d_model: int):
        super().__init__()
        _check_sizes(1, max_length=max_length, d_model=d_model)
        self.weight = nn.Parameter(torch.empty(max_length, d_model))
        nn.init.normal_(self.weight, std=0.02)

    def forward(
        self, positions: int | Integer[Tensor, "*position"], offset: int = 0
    ) -> Float[Tensor, "*position d_model"]:
        """Return the codes of that many positions from `offset` on, or of the positions given plus `offset`.

        Raises ValueError if a position is not in the table.
        """
        positions = _as_positions(positions, offset).to(self.weight.device)
        _check_range(positions, len(self.weight), f"a table with max_length={len(self.weight)} has")
        return self.weight[positions]


# -------------------------------------------------------------------------------------------- rotary


def apply_rotary(
    x: Float[Tensor, "*batch position d_k"],
    positions: Integer[Tensor, "..."] | None = None,
    offset: int = 0,
    base: float = 10000.0,
    interleaved: bool = False,
) -> Float[Tensor, "*batch position d_k"]:
    """Rotate each pair of columns by an angle that grows with the position: the rotary embedding.

    a' = a cos(p w) - b sin(p w),    b' = b cos(p w) + a sin(p w),    w = base^(-2i / d_k) for pair i

    Rotate queries and keys, not values. Then the score of a query at m and a key at n depends on m - n alone.

    `positions` broadcasts to x without its last axis; without it they count from 0. `offset` is added.
    Which columns pair up is a convention, and trained weights fit only one. By default column i goes with
    column i + d_k / 2, as in GPT-NeoX and Llama ("rotate half"); `interleaved` pairs column 2i with 2i + 1,
    as in the paper and GPT-J. The one is the other with its columns in another order.

    Raises ValueError if d_k is odd, positions do not fit, or `base` is not above 1; TypeError for wrong
    dtypes.
    Source: Su et al. 2021, sections 3.2 and 3.4.2, equation 34.
    """
    _check_dtypes(x=x)
    _check_flags(interleaved=interleaved)
    if x.dim() < 2:
        raise ValueError(f"x must have the axes (..., position, width), got shape {tuple(x.shape)}")
    if positions is None:
        positions = torch.arange(x.shape[-2])
    _check_whole(positions)
    positions = _as_positions(positions, offset)
    wanted, got = x.shape[:-1], positions.shape
    sizes = zip(reversed(got), reversed(wanted), strict=False)
    if got[-1:] != wanted[-1:] or len(got) > len(wanted) or any(a not in (1, b) for a, b in sizes):
        raise ValueError(
            f"positions of shape {tuple(got)} do not broadcast to {tuple(wanted)}, the axes of x before its "
            "width; positions for each sentence need a head axis: positions[:, None]"
        )
    angles = _angles(positions, x.shape[-1], base)  # (..., position, pair)
    cos, sin = angles.cos().to(x), angles.sin().to(x)
    a, b = (x[..., 0::2], x[..., 1::2]) if interleaved else x.chunk(2, dim=-1)
    rotated = (a * cos - b * sin, b * cos + a * sin)
    return torch.stack(rotated, dim=-1).flatten(-2) if interleaved else torch.cat(rotated, dim=-1)


class RotaryAttention(MultiHeadAttention):
    """Multi-head attention of positions to one another, with queries and keys rotated by where they stand.

    score(m, n) = R(m) q_m . R(n) k_n,    which depends on the positions by m - n alone

    Keys count from 0, and the queries are the last of their positions, as in `causal_mask`. So a cache of
    keys says by its length where a new query stands, and no offset can be forgotten. For that `project`, and
    with it the cache, gives keys as they are before the rotation; each call rotates them.

    Raises ValueError if d_k is odd.
    Source: Su et al. 2021, section 3.2.2, equation 16.
    """

    def __init__(self, d_model: int, num_heads: int, dropout: float = 0.0, bias: bool = True):
        super().__init__(d_model, num_heads, dropout, bias)
        if self.d_k % 2:
            raise ValueError(
                f"rotary positions turn pairs of columns, so the width of a head must be even; "
                f"d_model={d_model} and num_heads={num_heads} give {self.d_k}"
            )

    def _mark_positions(self, query, key):
        return apply_rotary(query, offset=key.shape[-2] - query.shape[-2]), apply_rotary(key)


# ------------------------------------------------------------------------------- relative positions


def relative_positions(
    num_queries: int, num_keys: int | None = None, offset: int | None = None
) -> Int[Tensor, "query key"]:
    """Count how far each key stands after each query; before it, the number is negative.

    relative[i, j] = j - (i + offset)

    `offset` is the first query's position, counted from the first key. By default it is
    num_keys - num_queries: the queries are the last positions, as in `causal_mask`.

    Raises ValueError if a number is negative or not whole.
    """
    num_keys = num_queries if num_keys is None else num_keys
    _check_sizes(0, num_queries=num_queries, num_keys=num_keys)
    if offset is None:
        offset = num_keys - num_queries
    else:
        _check_sizes(0, offset=offset)
    return torch.arange(num_keys) - (torch.arange(num_queries) + offset)[:, None]


class RelativeAttention(_AttentionLayer):
    """Scaled dot-product attention in which keys and values know their clipped distance from the query.

    weights = softmax_j(q_i . (k_j + a^K_ij) / sqrt(d_k)),    output_i = sum_j weights[i, j] (v_j + a^V_ij)

    a_ij is row clip(j - i, -k, k) + k of a table of 2k + 1 embeddings, k being `max_distance`: beyond it, far
    is far. There is one table for keys and one for values; both are trained, and shared by all heads.

    Source: Shaw et al. 2018, sections 3.1 to 3.3, equations 3 to 5.
    """

    def __init__(self, d_k: int, max_distance: int, d_v: int | None = None):
        super().__init__()
        d_v = d_k if d_v is None else d_v
        _check_sizes(1, d_k=d_k, max_distance=max_distance, d_v=d_v)
        self.key_embeddings = nn.Parameter(torch.empty(2 * max_distance + 1, d_k))
        self.value_embeddings = nn.Parameter(torch.empty(2 * max_distance + 1, d_v))
        nn.init.xavier_uniform_(self.key_embeddings)
        nn.init.xavier_uniform_(self.value_embeddings)

    def forward(
        self,
        query: Float[Tensor, "batch head query d_k"],
        key: Float[Tensor, "batch head key d_k"],
        value: Float[Tensor, "batch head key d_v"],
        mask: Tensor | None = None,
        offset: int | None = None,
    ) -> tuple[Float[Tensor, "batch head query d_v"], Float[Tensor, "batch head query key"]]:
        """Return output and weights; `offset` as in `relative_positions`.

        Raises ValueError if shapes do not fit, TypeError for a mask that is not boolean or mixed dtypes.
        """
        _check_pair("query", query, "key", key)
        _check_key_and_value(key, value)
        _check_dtypes(query=query, key_embeddings=self.key_embeddings)
        if query.dim() != 4:
            raise ValueError(
                f"query, key and value must have the axes (batch, head, position, width), got query "
                f"{tuple(query.shape)}; for one head add the axis with tensor[:, None]"
            )
        widths = self.key_embeddings.shape[-1], self.value_embeddings.shape[-1]
        if (query.shape[-1], value.shape[-1]) != widths:
            raise ValueError(
                f"this layer has d_k={widths[0]} and d_v={widths[1]}; got queries of width "
                f"{query.shape[-1]} and values of width {value.shape[-1]}"
            )
        k = len(self.key_embeddings) // 2
        relative = relative_positions(query.shape[-2], key.shape[-2], offset).to(query.device)
        rows = relative.clamp(-k, k) + k  # (query, key)
        query = query / math.sqrt(query.shape[-1])
        by_distance = torch.einsum("bhqd,qkd->bhqk", query, self.key_embeddings[rows])
        weights = masked_softmax(dot_score(query, key) + by_distance, mask)
        self._record(weights)
        passed_on = torch.einsum("bhqk,qkd->bhqd", weights, self.value_embeddings[rows])
        return weights @ value + passed_on, weights


# -------------------------------------------------------------------------------- biases of the scores


def relative_position_bucket(
    relative: Integer[Tensor, "*shape"],
    bidirectional: bool = True,
    num_buckets: int = 32,
    max_distance: int = 128,
) -> Int[Tensor, "*shape"]:
    """Sort relative positions into buckets: one for each small distance, ever wider ones for the larger.

    bucket = distance                                                         if distance < n / 2
    bucket = n/2 + floor(n/2 log(2 distance / n) / log(2 max_distance / n))   up to n - 1, otherwise

    `relative` is key position minus query position. With `bidirectional` the keys before the query get the
    first n = num_buckets / 2 buckets, and those after it n more. Without, n = num_buckets, and every key
    after the query shares bucket 0 with the query's own position; a causal mask hides those keys anyway.
    With an odd n, n/2 stands for its whole part first and for the rest of n after the plus.

    Raises ValueError if there are too few buckets or `max_distance` leaves no room for the wider ones;
    TypeError for relative positions that are not whole numbers.
    Source: Raffel et al. 2020, section 2.1; the formula is that of their code.
    """
    _check_whole(relative)
    _check_flags(bidirectional=bidirectional)
    relative = relative.long()
    _check_sizes(4 if bidirectional else 2, num_buckets=num_buckets)
    side = num_buckets // 2 if bidirectional else num_buckets  # n above
    num_exact = side // 2
    _check_sizes(num_exact + 1, max_distance=max_distance)
    distance = relative.abs() if bidirectional else (-relative).clamp(min=0)
    # In float32, as T5 itself rounds: its trained tables fit these buckets.
    growth = (distance.clamp(min=num_exact).float() / num_exact).log() / math.log(max_distance / num_exact)
    wide = (num_exact + (growth * (side - num_exact)).long()).clamp(max=side - 1)
    bucket = torch.where(distance < num_exact, distance, wide)
    return bucket + side * (relative > 0) if bidirectional else bucket


class RelativePositionBias(nn.Module):
    """A trained number for each head and bucket of distance, to be added to the scaled scores: T5's bias.

    bias[h, i, j] = B[bucket(j - i), h],    scores + bias goes into the softmax

    T5 shares one table between all its layers. (It also leaves out 1 / sqrt(d_k), which is a separate
    choice.) The table starts at zero: no preference for any distance.

    Source: Raffel et al. 2020, section 2.1.
    """

    def __init__(
        self, num_heads: int, num_buckets: int = 32, max_distance: int = 128, bidirectional: bool = True
    ):
        super().__init__()
        _check_sizes(1, num_heads=num_heads)
        relative_position_bucket(torch.zeros(0, dtype=torch.long), bidirectional, num_buckets, max_distance)
        self.num_buckets, self.max_distance, self.bidirectional = num_buckets, max_distance, bidirectional
        self.weight = nn.Parameter(torch.zeros(num_buckets, num_heads))

    def forward(
        self, num_queries: int, num_keys: int | None = None, offset: int | None = None
    ) -> Float[Tensor, "head query key"]:
        """Return the bias; `offset` as in `relative_positions`."""
        relative = relative_positions(num_queries, num_keys, offset).to(self.weight.device)
        bucket = relative_position_bucket(relative, self.bidirectional, self.num_buckets, self.max_distance)
        return self.weight[bucket].permute(2, 0, 1)  # (query, key, head) -> (head, query, key)


def alibi_slopes(num_heads: int, dtype: torch.dtype = torch.float32) -> Float[Tensor, " head"]:
    """Return how steeply each head of ALiBi prefers what is near.

    slope_h = 2^(-8h / n),    h = 1 .. n, for n heads, n a power of two

    For another number of heads, n is the greatest power of two below it; the heads that are left take every
    second slope of 2n heads, 2^(-4(2h - 1) / n) for h = 1, 2, ..

    Raises ValueError if `num_heads` is not a whole number of at least 1.
    Source: Press et al. 2022, section 3; numbers that are no power of two follow their code.
    """
    _check_sizes(1, num_heads=num_heads)
    _check_floating(dtype)
    n = 1 << (int(num_heads).bit_length() - 1)
    slopes = [2 ** (-8 * h / n) for h in range(1, n + 1)]
    slopes += [2 ** (-4 * (2 * h - 1) / n) for h in range(1, num_heads - n + 1)]
    return torch.tensor(slopes, dtype=dtype)


def alibi_bias(
    num_heads: int,
    num_queries: int,
    num_keys: int | None = None,
    offset: int | None = None,
    dtype: torch.dtype = torch.float32,
) -> Float[Tensor, "head query key"]:
    """Penalise distance, each head by its own slope; add the result to the scaled scores.

    bias[h, i, j] = -slope_h |i - j|

    `offset` as in `relative_positions`. The paper's model is causal, so it needs j <= i alone; for encoders
    the distance is taken without its sign.

    Raises ValueError if a size is wrong.
    Source: Press et al. 2022, section 3.
    """
    slopes = alibi_slopes(num_heads, dtype)
    distance = relative_positions(num_queries, num_keys, offset).abs()
    return -slopes[:, None, None] * distance


# ---------------------------------------------------------------------------------------------- checks


_LARGEST_BASE = sys.float_info.max


def _angles(positions: Tensor, width: int, base: float) -> Float[Tensor, "*position pair"]:
    """position * base^(-2i / width), i counting the pairs of columns.

    In float64, since float32 is off by a thousandth at position 10,000, and on the CPU, since not every
    accelerator has float64.
    """
    _check_sizes(2, width=width)
    if width % 2:
        raise ValueError(f"the width must be even, since columns come in pairs; got {width}")
    if isinstance(base, bool) or not isinstance(base, int | float) or not 1 < base <= _LARGEST_BASE:
        raise ValueError(f"base must be a finite number above 1, such as 10000.0; got {base!r}")
    frequencies = base ** -(torch.arange(0, width, 2, dtype=torch.float64) / width)
    return positions.to("cpu", torch.float64)[..., None] * frequencies


def _as_positions(positions: int | Tensor, offset: int) -> Int[Tensor, "..."]:
    """Count that many positions from `offset` on, or add `offset` to the positions given."""
    _check_sizes(0, offset=offset)
    if isinstance(positions, int | torch.SymInt):
        _check_sizes(0, positions=positions)
        return torch.arange(positions) + offset
    _check_whole(positions)
    return positions.long() + offset


def _check_whole(positions: Tensor) -> None:
    kind = type(positions).__name__
    if isinstance(positions, Tensor):
        kind = f"{positions.dtype} of shape {tuple(positions.shape)}"
        if positions.dtype in (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64):
            return
    raise TypeError(f"positions must be a tensor of whole numbers, such as torch.tensor([0, 1]); got {kind}")


def _check_range(positions: Tensor, end: int, what: str) -> None:
    if positions.numel() == 0 or not _numbers_are_known():
        return
    first, last = int(positions.min()), int(positions.max())
    if first < 0 or last >= end:
        raise ValueError(f"{what} positions 0 to {end - 1}, got positions from {first} to {last}")


def _check_floating(dtype: torch.dtype) -> None:
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise TypeError(f"dtype must be a floating-point dtype such as torch.float32, got {dtype!r}")
