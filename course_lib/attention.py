"""Masks, scoring functions, scaled dot-product attention, multi-head attention, and how to read the weights.

Axes: `query` counts the positions that ask, `key` the positions that are asked; there is one value for
each key. Weights stand as (..., query, key), and every row, one query's weights, sums to one.

A mask is boolean and True means "may attend". It broadcasts to the scores: (query, key) for scores without
a batch, (batch, head, query, key) for a batch with heads. A query that may attend to nothing gets weights
of zero, never NaN.
"""

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from numbers import Integral, Real

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

# --------------------------------------------------------------------------------------------- masks


def causal_mask(num_queries: int, num_keys: int | None = None, device=None) -> Bool[Tensor, "query key"]:
    """Let each query attend to its own position and to those before it.

    mask[i, j] = (j <= i + num_keys - num_queries)

    With more keys than queries the queries are the last positions, as in cached decoding: the one new
    query sees every key. (PyTorch's `is_causal` counts from the first position instead.) With fewer keys
    than queries the first queries see nothing.

    Raises ValueError if a number is negative or not whole.
    Source: Vaswani et al. 2017, section 3.2.3.
    """
    num_keys = num_queries if num_keys is None else num_keys
    _check_sizes(0, num_queries=num_queries, num_keys=num_keys)
    _check_device(device)
    return torch.ones(num_queries, num_keys, dtype=torch.bool, device=device).tril(num_keys - num_queries)


def padding_mask(
    lengths: Tensor | Sequence[int], max_length: int | None = None
) -> Bool[Tensor, "batch 1 1 key"]:
    """Let every query attend to the real words of its sentence and to no padding after them.

    mask[b, 0, 0, j] = (j < lengths[b])

    `lengths` holds one whole number for each sentence; `max_length` is the padded length (by default that of
    the longest sentence). The axes of size one stand for head and query, so the mask broadcasts to any scores
    of the batch.

    Raises ValueError if `lengths` is not a list of whole numbers between 0 and `max_length`.
    """
    whole = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
    try:
        numbers = torch.as_tensor(lengths)
    except (RuntimeError, TypeError, ValueError):  # None, words, rows of different lengths
        numbers = torch.empty(0)
    dense = numbers.layout == torch.strided
    if not dense or numbers.dim() != 1 or numbers.numel() == 0 or numbers.dtype not in whole:
        raise ValueError(
            "lengths must be one whole number for each sentence, such as torch.tensor([5, 3]); "
            f"got {lengths!r}"
        )
    max_length = int(numbers.max()) if max_length is None else max_length
    _check_sizes(0, max_length=max_length)
    if _numbers_are_known() and (int(numbers.min()) < 0 or int(numbers.max()) > max_length):
        raise ValueError(f"lengths must lie between 0 and max_length={max_length}, got {numbers.tolist()}")
    return (torch.arange(max_length, device=numbers.device) < numbers[:, None])[:, None, None, :]


def sliding_window_mask(length: int, window: int, device=None) -> Bool[Tensor, "query key"]:
    """Let each query attend to the positions less than `window` away from its own, on both sides.

    mask[i, j] = (|i - j| < window)

    With window 1 a position sees itself alone. For a decoder combine it with the causal mask:
    `causal_mask(length) & sliding_window_mask(length, window)` is the window of Mistral, in which a position
    sees itself and the window - 1 positions before it.

    Raises ValueError if `window` is below 1, `length` is negative, or one is not whole.
    Source: Beltagy et al. 2020 (Longformer), section 3.1, who count the whole width 2 * window - 1.
    """
    _check_sizes(0, length=length)
    _check_sizes(1, window=window)
    _check_device(device)
    position = torch.arange(length, device=device)
    return (position[:, None] - position[None, :]).abs() < window


def _fit_mask(mask: Tensor, shape: torch.Size, device: torch.device) -> Tensor:
    """Return the mask with as many axes as the scores, after checking that it broadcasts to them."""
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
        got = type(mask).__name__
        if isinstance(mask, Tensor):
            got = f"{mask.dtype} of shape {tuple(mask.shape)}"
        raise TypeError(
            f"a mask must be a boolean tensor, True where a query may attend; got {got} for scores of shape "
            f"{tuple(shape)}. Turn numbers into a mask with `mask != 0`, an additive mask with `mask == 0`"
        )
    if mask.device != device or mask.layout != torch.strided:
        raise ValueError(
            f"a mask must be a dense tensor on the device of the scores, {device}, got {mask.layout} on "
            f"{mask.device}; move it with mask.to({str(device)!r})"
        )
    # padding_mask has a head axis of size one; scores without heads have no place for it.
    fitted = mask.squeeze(1) if mask.dim() == 4 and len(shape) == 3 and mask.shape[1] == 1 else mask
    sizes = zip(reversed(fitted.shape), reversed(shape), strict=False)
    if fitted.dim() > len(shape) or any(size not in (1, wanted) for size, wanted in sizes):
        hint = ""
        if mask.dim() == 3 and len(shape) == 4 and mask.shape[0] == shape[0]:
            hint = ". A mask for each sentence needs a head axis: mask[:, None]"
        elif len(shape) > 2 and mask.shape == (shape[0], shape[-1]):
            hint = ". A mask for each sentence needs the axes of head and query: mask[:, None, None, :]"
        raise ValueError(
            f"a mask of shape {tuple(mask.shape)} does not broadcast to scores of shape {tuple(shape)}, "
            f"whose last two axes are query and key{hint}"
        )
    return fitted[(None,) * (len(shape) - fitted.dim())]


def masked_softmax(
    scores: Float[Tensor, "*batch query key"], mask: Bool[Tensor, "..."] | None = None
) -> Float[Tensor, "*batch query key"]:
    """Turn scores into weights that are non-negative and sum to one over the keys that may be attended to.

    weights[i, j] = mask[i, j] exp(scores[i, j]) / sum_k mask[i, k] exp(scores[i, k])

    A query whose mask is False everywhere gets zeros, and its scores get gradients of zero.

    Raises TypeError if the mask is not boolean or the scores are not floating point, ValueError if the mask
    does not broadcast to the scores.
    Source: Vaswani et al. 2017, section 3.2.3, who mask by setting scores to minus infinity. That gives NaN
    for a query with nothing to attend to, so here the lowest finite number stands in.
    """
    _check_dtypes(scores=scores)
    if mask is None:
        return scores.softmax(dim=-1)
    mask = _fit_mask(mask, scores.shape, scores.device)
    weights = scores.masked_fill(~mask, torch.finfo(scores.dtype).min).softmax(dim=-1)
    return weights.masked_fill(~mask, 0.0)  # for the rows in which everything is masked


# ----------------------------------------------------------------------------------- scoring functions


def dot_score(
    query: Float[Tensor, "*batch query d_k"], key: Float[Tensor, "*batch key d_k"]
) -> Float[Tensor, "*batch query key"]:
    """Score by the dot product: score(q, k) = q . k

    Raises ValueError if queries and keys differ in width.
    Source: Luong et al. 2015, section 3.1 ("dot").
    """
    _check_pair("query", query, "key", key)
    if query.shape[-1] != key.shape[-1] or query.shape[-1] == 0:
        raise ValueError(
            f"queries and keys must share a width of at least 1, got query {tuple(query.shape)} and key "
            f"{tuple(key.shape)}; map one to the other's width with nn.Linear, or use bilinear_score"
        )
    return query @ key.transpose(-2, -1)


def bilinear_score(
    query: Float[Tensor, "*batch query d_query"],
    key: Float[Tensor, "*batch key d_key"],
    weight: Float[Tensor, "d_query d_key"],
) -> Float[Tensor, "*batch query key"]:
    """Score by a learned matrix, so that widths may differ: score(q, k) = q^T W k

    Raises ValueError if the matrix does not fit the widths.
    Source: Luong et al. 2015, section 3.1 ("general").
    """
    _check_pair("query", query, "key", key)
    _check_dtypes(query=query, weight=weight)
    if weight.shape != (query.shape[-1], key.shape[-1]):
        raise ValueError(
            f"weight must be of shape (query width, key width) = ({query.shape[-1]}, {key.shape[-1]}), "
            f"got {tuple(weight.shape)}"
        )
    return query @ weight @ key.transpose(-2, -1)


def additive_score(
    projected_query: Float[Tensor, "*batch query hidden"],
    projected_key: Float[Tensor, "*batch key hidden"],
    score_weight: Float[Tensor, " hidden"],
) -> Float[Tensor, "*batch query key"]:
    """Score by a small network with one hidden layer: score(q, k) = v . tanh(W q + U k)

    `projected_query` holds W q, `projected_key` holds U k, `score_weight` is v.

    Raises ValueError if the hidden widths differ.
    Source: Bahdanau et al. 2015, section 3.1 and appendix A.1.2, who write v_a, W_a, U_a.
    """
    _check_pair("projected query", projected_query, "projected key", projected_key)
    _check_dtypes(projected_query=projected_query, score_weight=score_weight)
    if not projected_query.shape[-1:] == projected_key.shape[-1:] == score_weight.shape:
        raise ValueError(
            "projected queries, projected keys and score_weight must share the hidden width, got shapes "
            f"{tuple(projected_query.shape)}, {tuple(projected_key.shape)} and {tuple(score_weight.shape)}"
        )
    hidden = torch.tanh(
        projected_query.unsqueeze(-2) + projected_key.unsqueeze(-3)
    )  # (..., query, key, hidden)
    return hidden @ score_weight


# ------------------------------------------------------------------------------------------- attention


def scaled_dot_product_attention(
    query: Float[Tensor, "*batch query d_k"],
    key: Float[Tensor, "*batch key d_k"],
    value: Float[Tensor, "*batch key d_v"],
    mask: Bool[Tensor, "..."] | None = None,
    scale: float | None = None,
) -> tuple[Float[Tensor, "*batch query d_v"], Float[Tensor, "*batch query key"]]:
    """Attend by scaled dot products and return the output and the weights.

    weights = softmax(Q K^T / sqrt(d_k)),    output = weights V

    Queries and keys share the width d_k; there are as many keys as values; the output has a row for each
    query and the width d_v of the values. `scale` stands in for 1 / sqrt(d_k).

    Raises ValueError if shapes do not fit, TypeError for a mask that is not boolean or dtypes that differ.
    Source: Vaswani et al. 2017, section 3.2.1, equation 1.
    """
    _check_pair("query", query, "key", key)
    _check_key_and_value(key, value)
    _check_scale(scale)
    if scale is None:
        scale = 1 / math.sqrt(max(query.shape[-1], 1))  # dot_score refuses a width of 0
    weights = masked_softmax(dot_score(query * scale, key), mask)
    return weights @ value, weights


def additive_attention(
    query: Float[Tensor, "*batch query d_query"],
    key: Float[Tensor, "*batch key d_key"],
    value: Float[Tensor, "*batch key d_v"],
    query_weight: Float[Tensor, "hidden d_query"],
    key_weight: Float[Tensor, "hidden d_key"],
    score_weight: Float[Tensor, " hidden"],
    mask: Bool[Tensor, "..."] | None = None,
) -> tuple[Float[Tensor, "*batch query d_v"], Float[Tensor, "*batch query key"]]:
    """Attend by the additive score and return the output and the weights.

    weights = softmax(v . tanh(W q + U k)),    output = weights V

    `query_weight` is W, `key_weight` is U, `score_weight` is v.

    Raises ValueError if shapes do not fit, TypeError for a mask that is not boolean or dtypes that differ.
    Source: Bahdanau et al. 2015, section 3.1.
    """
    _check_projection("query", query, query_weight)
    _check_projection("key", key, key_weight)
    _check_key_and_value(key, value)
    scores = additive_score(F.linear(query, query_weight), F.linear(key, key_weight), score_weight)
    weights = masked_softmax(scores, mask)
    return weights @ value, weights


class _AttentionLayer(nn.Module):
    """A layer whose weights record_attention can read."""

    # One function for each record_attention that is open on this layer. Outside there is none.
    _recorders: tuple[Callable[[Tensor], None], ...] = ()

    def _record(self, weights: Float[Tensor, "batch head query key"]) -> None:
        for recorder in self._recorders:
            recorder(weights.detach())

    def __getstate__(self) -> dict:
        # A copy made while record_attention is open is not recorded, and is never left open.
        return {name: value for name, value in self.__dict__.items() if name != "_recorders"}


class AdditiveAttention(_AttentionLayer):
    """Additive attention with its own trained weights.

    weights = softmax(v . tanh(W q + U k)),    output = weights V

    Shapes: query (batch, query, query_size), key (batch, key, key_size), value (batch, key, any width).
    A decoder that asks once for each word should project its keys once: `project_keys`.

    Source: Bahdanau et al. 2015, section 3.1 and appendix A.1.2.
    """

    def __init__(self, query_size: int, key_size: int, hidden_size: int):
        super().__init__()
        _check_sizes(1, query_size=query_size, key_size=key_size, hidden_size=hidden_size)
        self.query_projection = nn.Linear(query_size, hidden_size, bias=False)  # W
        self.key_projection = nn.Linear(key_size, hidden_size, bias=False)  # U
        self.score_projection = nn.Linear(hidden_size, 1, bias=False)  # v

    def project_keys(self, key: Float[Tensor, "batch key d_key"]) -> Float[Tensor, "batch key hidden"]:
        """Compute U k, the part of the score that does not depend on the query."""
        _check_projection("key", key, self.key_projection.weight)
        return self.key_projection(key)

    def forward(
        self,
        query: Float[Tensor, "batch query d_query"],
        key: Float[Tensor, "batch key d_key"],
        value: Float[Tensor, "batch key d_v"],
        mask: Bool[Tensor, "..."] | None = None,
        projected_key: Float[Tensor, "batch key hidden"] | None = None,
    ) -> tuple[Float[Tensor, "batch query d_v"], Float[Tensor, "batch query key"]]:
        """Return output and weights; `projected_key`, from `project_keys(key)`, saves doing that again."""
        _check_axes(query=query, key=key, value=value)
        _check_projection("query", query, self.query_projection.weight)
        _check_key_and_value(key, value)
        if projected_key is None:
            projected_key = self.project_keys(key)
        _check_key_and_value(projected_key, value)
        scores = additive_score(self.query_projection(query), projected_key, self.score_projection.weight[0])
        weights = masked_softmax(scores, mask)
        self._record(weights.unsqueeze(1))
        return weights @ value, weights


class MultiHeadAttention(_AttentionLayer):
    """Several attentions side by side, each in its own slice of the width.

    head_h = Attention(x_q W^Q_h, x_k W^K_h, x_v W^V_h),    output = Concat(head_1, ..., head_H) W^O

    Each head has the width d_k = d_v = d_model / num_heads. In training, `dropout` sets that share of the
    weights to zero and scales the others up. The fused kernel of PyTorch does the work; read the weights
    with record_attention.

    Raises ValueError if num_heads does not divide d_model.
    Source: Vaswani et al. 2017, section 3.2.2.
    """

    def __init__(self, d_model: int, num_heads: int, dropout: float = 0.0, bias: bool = True):
        super().__init__()
        _check_sizes(1, d_model=d_model, num_heads=num_heads)
        if d_model % num_heads:
            raise ValueError(
                f"num_heads must divide d_model, since each head gets d_model / num_heads of the width; got "
                f"d_model={d_model} and num_heads={num_heads}"
            )
        _check_dropout(dropout)
        _check_flags(bias=bias)
        self.d_model, self.num_heads, self.d_k = d_model, num_heads, d_model // num_heads
        self.dropout = dropout
        self.query_projection = nn.Linear(d_model, d_model, bias=bias)
        self.key_projection = nn.Linear(d_model, d_model, bias=bias)
        self.value_projection = nn.Linear(d_model, d_model, bias=bias)
        self.output_projection = nn.Linear(d_model, d_model, bias=bias)
        for projection in self.children():
            nn.init.xavier_uniform_(projection.weight)
            if bias:
                nn.init.zeros_(projection.bias)

    def forward(
        self,
        query: Float[Tensor, "batch query d_model"],
        key: Float[Tensor, "batch key d_model"] | None = None,
        value: Float[Tensor, "batch key d_model"] | None = None,
        mask: Bool[Tensor, "..."] | None = None,
        projected: tuple[Tensor, Tensor] | None = None,
    ) -> Float[Tensor, "batch query d_model"]:
        """Attend from query to query, or with a key from query to key; the value is the key unless given.

        `projected`, from `project`, stands in for key and value and saves projecting them again, as in
        decoding, where each step adds one position to those that are already projected.

        Raises ValueError if shapes do not fit, TypeError for a mask that is not boolean or mixed dtypes.
        """
        if projected is not None:
            if key is not None or value is not None:
                raise ValueError("projected stands in for key and value: give either, not both")
        elif key is None and value is not None:
            raise ValueError(
                "a value without a key: give both for cross-attention, neither for self-attention"
            )
        _check_axes(query=query)
        _check_projection("query", query, self.query_projection.weight)
        if projected is None:
            key = query if key is None else key
            _check_pair("query", query, "key", key)
            projected = self.project(key, value)
        query = self._split_heads(self.query_projection(query))
        if not isinstance(projected, tuple) or len(projected) != 2:
            raise TypeError(
                f"projected must be the pair (keys, values) that project gives, got {projected!r:.80}"
            )
        key, value = projected
        _check_pair("query of each head", query, "projected key", key)
        _check_key_and_value(key, value)
        if not query.shape[-1] == key.shape[-1] == value.shape[-1]:
            raise ValueError(
                f"each head is d_k={self.d_k} wide, got projected keys {tuple(key.shape)} and values "
                f"{tuple(value.shape)}; make them with this layer's own project"
            )
        query, key = self._mark_positions(query, key)

        if mask is not None:
            mask = _fit_mask(mask, torch.Size((*query.shape[:-1], key.shape[-2])), query.device)
        dropout = self.dropout if self.training else 0.0
        if self._recorders:
            _, weights = scaled_dot_product_attention(query, key, value, mask)
            self._record(weights)
            heads = F.dropout(weights, dropout) @ value
        else:
            heads = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout)
        return self.output_projection(heads.transpose(1, 2).flatten(2))

    def project(
        self, key: Float[Tensor, "batch key d_model"], value: Float[Tensor, "batch key d_model"] | None = None
    ) -> tuple[Float[Tensor, "batch head key d_k"], Float[Tensor, "batch head key d_k"]]:
        """Give each head's keys and values, x_k W^K_h and x_v W^V_h; the value is the key unless given.

        Raises ValueError if shapes do not fit.
        """
        value = key if value is None else value
        _check_axes(key=key, value=value)
        _check_projection("key", key, self.key_projection.weight)
        _check_projection("value", value, self.value_projection.weight)
        _check_key_and_value(key, value)
        return self._split_heads(self.key_projection(key)), self._split_heads(self.value_projection(value))

    def _mark_positions(
        self, query: Float[Tensor, "batch head query d_k"], key: Float[Tensor, "batch head key d_k"]
    ) -> tuple[Float[Tensor, "batch head query d_k"], Float[Tensor, "batch head key d_k"]]:
        """What a kind of attention with positions of its own does before it compares; here nothing."""
        return query, key

    def _split_heads(
        self, projected: Float[Tensor, "batch position d_model"]
    ) -> Float[Tensor, "batch head position d_k"]:
        return projected.unflatten(-1, (self.num_heads, self.d_k)).transpose(1, 2)

    def extra_repr(self) -> str:
        return f"d_model={self.d_model}, num_heads={self.num_heads}, dropout={self.dropout}"


# ------------------------------------------------------------------------------------ reading the weights


@contextmanager
def record_attention(module: nn.Module) -> Iterator[dict[str, Tensor | list[Tensor]]]:
    """Collect the attention weights of every attention layer in `module` while the block is open.

        with record_attention(model) as maps:
            model(x)
        maps["layers.0.attention"]   # (batch, head, query, key)

    `maps` goes from a layer's dotted name, as in `module.named_modules()`, to its weights; the name of
    `module` itself is "". A layer that is called several times, as in a decoding loop, has a list in the
    order of the calls; one that is not called has no entry. Weights are recorded as softmax gives them,
    before dropout, and without their graph. While the block is open MultiHeadAttention computes its weights
    openly, since PyTorch's fused kernel never shows them; afterwards, also after an exception, it is fused
    again.

    Raises ValueError if there is no attention layer in `module`, TypeError if it is no nn.Module.
    """
    if not isinstance(module, nn.Module):
        raise TypeError(f"record_attention needs an nn.Module, got {type(module).__name__}")
    layers = {name: layer for name, layer in module.named_modules() if isinstance(layer, _AttentionLayer)}
    if not layers:
        raise ValueError(
            f"found no attention layer in {type(module).__name__}: record_attention reads MultiHeadAttention "
            "and AdditiveAttention of course_lib"
        )
    maps: dict[str, Tensor | list[Tensor]] = {}

    def recorder_for(name: str) -> Callable[[Tensor], None]:
        def record(weights: Tensor) -> None:
            if name not in maps:
                maps[name] = weights
            elif isinstance(maps[name], list):
                maps[name].append(weights)
            else:
                maps[name] = [maps[name], weights]

        return record

    recorders = {name: recorder_for(name) for name in layers}
    for name, layer in layers.items():
        layer._recorders = (*layer._recorders, recorders[name])
    try:
        yield maps
    finally:
        for name, layer in layers.items():
            layer._recorders = tuple(other for other in layer._recorders if other is not recorders[name])


# ---------------------------------------------------------------------------------------------- checks


_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)  # smaller ones can only be stored
_LARGEST_SIZE = 2**31 - 1


def _numbers_are_known() -> bool:
    """While torch.compile or torch.export traces a model, tensors have shapes and dtypes, and no numbers yet.

    Checks of shapes are made even then. Those of numbers are not; so a compiled or exported model has none.
    """
    return not torch.compiler.is_compiling()


def _check_sizes(least: int, **sizes: int) -> None:
    for name, size in sizes.items():
        # Integral: NumPy's whole numbers too. SymInt: a size that torch.export does not know yet.
        if not isinstance(size, Integral | torch.SymInt) or isinstance(size, bool) or size < least:
            raise ValueError(f"{name} must be an int of at least {least}, got {size!r}")
        if isinstance(size, Integral) and size > _LARGEST_SIZE:
            raise ValueError(
                f"{name} is {size}, but no tensor is so long: it must be at most {_LARGEST_SIZE}"
            )


def _check_dropout(dropout: float) -> None:
    if not (isinstance(dropout, Real) and 0.0 <= dropout < 1.0):
        raise ValueError(f"dropout is the share of numbers set to zero, from 0 to below 1; got {dropout!r}")


def _check_flags(**flags: bool) -> None:
    """A word such as "no" would count as True."""
    for name, flag in flags.items():
        if not isinstance(flag, bool):
            raise TypeError(f"{name} must be True or False, got {flag!r:.80}")


def _check_device(device: torch.device | str | int | None) -> None:
    try:
        torch.empty(0, device=device)
    except (
        AssertionError,
        RuntimeError,
        TypeError,
    ) as error:  # what torch says differs from device to device
        raise ValueError(
            f"device must be one that this machine has, such as 'cpu', got {device!r}: {error}"
        ) from error


def _check_scale(scale: float | None) -> None:
    if isinstance(scale, Tensor):
        number = scale.dim() == 0 and scale.dtype != torch.bool and not scale.is_complex()
    else:
        number = isinstance(scale, Real) and not isinstance(scale, bool)
    # Not math.isfinite, which cannot be asked about a whole number beyond the largest float.
    if scale is not None and not (number and abs(scale) <= sys.float_info.max):
        raise ValueError(f"scale must be one finite number, such as 1 / math.sqrt(d_k), got {scale!r}")


def _check_dtypes(**tensors: Tensor) -> None:
    """Check that all are floating-point tensors, of one dtype unless autocast converts them."""
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor):
            raise TypeError(f"{name} must be a floating-point tensor, got {type(tensor).__name__}")
    dtypes = {tensor.dtype for tensor in tensors.values()}
    mixed = len(dtypes) > 1 and not torch.is_autocast_enabled(tensor.device.type)
    if mixed or not all(dtype in _DTYPES for dtype in dtypes):
        got = ", ".join(f"{name} {tensor.dtype} {tuple(tensor.shape)}" for name, tensor in tensors.items())
        hint = "give the mask by name, mask=..." if torch.bool in dtypes else "convert with tensor.to(dtype)"
        raise TypeError(f"expected one floating-point dtype, got {got}; {hint}")
    if len({tensor.device for tensor in tensors.values()}) > 1:
        got = ", ".join(f"{name} on {tensor.device}" for name, tensor in tensors.items())
        raise ValueError(f"expected all tensors on one device, got {got}; move them with tensor.to(device)")
    if any(tensor.layout != torch.strided for tensor in tensors.values()):
        got = ", ".join(f"{name} {tensor.layout}" for name, tensor in tensors.items())
        raise TypeError(f"expected dense tensors, got {got}; make one with tensor.to_dense()")


def _check_axes(**tensors: Tensor) -> None:
    _check_dtypes(**tensors)
    for name, tensor in tensors.items():
        if tensor.dim() != 3:
            raise ValueError(
                f"{name} must have the axes (batch, position, width), got shape {tuple(tensor.shape)}; "
                "for one sentence without a batch add the axis with tensor[None]"
            )


def _check_projection(name: str, tensor: Tensor, weight: Tensor) -> None:
    """Check that the matrix can project the tensor."""
    _check_dtypes(**{name: tensor, f"{name} weight": weight})
    if tensor.dim() < 2 or weight.dim() != 2 or tensor.shape[-1] != weight.shape[-1]:
        raise ValueError(
            f"{name} has shape {tuple(tensor.shape)} and its weight {tuple(weight.shape)}: the axes must be "
            "(..., position, width) and (any, width), with one width for both"
        )


def _check_pair(name: str, tensor: Tensor, other_name: str, other: Tensor) -> None:
    """Check that two tensors fit but for their numbers of positions and their widths."""
    _check_dtypes(**{name: tensor, other_name: other})
    if min(tensor.dim(), other.dim()) < 2 or tensor.shape[:-2] != other.shape[:-2]:
        raise ValueError(
            f"{name} and {other_name} must have the axes (..., position, width) and agree in all axes before "
            f"the last two, got {name} {tuple(tensor.shape)} and {other_name} {tuple(other.shape)}"
        )


def _check_key_and_value(key: Tensor, value: Tensor) -> None:
    _check_pair("key", key, "value", value)
    if key.shape[-2] != value.shape[-2]:
        raise ValueError(
            f"there must be one value for each key, got key {tuple(key.shape)} and value "
            f"{tuple(value.shape)}: {key.shape[-2]} keys and {value.shape[-2]} values"
        )
