"""Attention against PyTorch's own, with the same weights: values, weights and gradients."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from course_lib.attention import (
    MultiHeadAttention,
    causal_mask,
    padding_mask,
    record_attention,
    scaled_dot_product_attention,
)

# The largest error, as a share of the largest number expected. Both sides round in their own order, so
# bfloat16, which keeps 8 bits, can agree to a few times 2^-8 only; float64 is where a wrong formula shows.
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 4e-2}
DTYPES = pytest.mark.parametrize("dtype", TOLERANCE, ids=str)


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def leaf(*shape, dtype):
    return torch.randn(shape, dtype=torch.float64).to(dtype).requires_grad_()


def assert_near(got, expected, what):
    assert got.dtype == expected.dtype and got.shape == expected.shape, what
    error = (got - expected).abs().max() / expected.abs().max().clamp(min=1e-3)
    assert error <= TOLERANCE[got.dtype], f"{what} differ by {error:.2e} of the largest"


def mask_of(kind, batch, num_queries, num_keys):
    """A mask that broadcasts to (*batch, query, key); `batch` is (sentences, heads) or shorter."""
    if kind == "none":
        return None
    if kind == "causal":
        return causal_mask(num_queries, num_keys)
    if kind == "padding":
        lengths = [1 + (5 * sentence + 3) % num_keys for sentence in range(batch[0])]
        return padding_mask(lengths, num_keys)
    mask = torch.rand(*batch, num_queries, num_keys) < 0.6
    mask[..., torch.arange(num_queries), torch.arange(num_queries) % num_keys] = True
    if kind == "empty rows":
        mask[..., : (num_queries + 1) // 2, :] = False
    return mask


MASKS = ["none", "causal", "padding", "random", "empty rows"]


# ------------------------------------------------------------------- F.scaled_dot_product_attention


@pytest.mark.parametrize("kind", MASKS)
@pytest.mark.parametrize("scale", [None, 0.3])
@pytest.mark.parametrize(
    "batch, num_queries, num_keys, d_k, d_v",
    [
        ((2, 3), 5, 7, 11, 13),
        ((3, 2), 7, 5, 13, 11),
        ((2, 3), 1, 5, 7, 11),
        ((3, 1), 7, 1, 1, 5),
        ((5,), 3, 7, 11, 2),
    ],
    ids=str,
)
@DTYPES
def test_function_agrees_with_torch(batch, num_queries, num_keys, d_k, d_v, scale, kind, dtype):
    query, key = leaf(*batch, num_queries, d_k, dtype=dtype), leaf(*batch, num_keys, d_k, dtype=dtype)
    value = leaf(*batch, num_keys, d_v, dtype=dtype)
    mask = mask_of(kind, batch, num_queries, num_keys)
    torch_mask = mask[:, 0] if kind == "padding" and len(batch) == 1 else mask

    output, weights = scaled_dot_product_attention(query, key, value, mask, scale)
    expected = F.scaled_dot_product_attention(query, key, value, torch_mask, scale=scale)
    assert_near(output, expected, "outputs")
    # With the identity for values the output is the weights.
    identity = torch.eye(num_keys, dtype=dtype).expand(*batch, -1, -1)
    assert_near(
        weights, F.scaled_dot_product_attention(query, key, identity, torch_mask, scale=scale), "weights"
    )

    direction = torch.randn_like(output)
    leaves = (query, key, value)
    gradients = torch.autograd.grad((output * direction).sum(), leaves)
    expected_gradients = torch.autograd.grad((expected * direction).sum(), leaves)
    for name, got, wanted in zip(("query", "key", "value"), gradients, expected_gradients, strict=True):
        assert_near(got, wanted, f"gradients of the {name}")


def test_the_function_has_any_number_of_batch_axes():
    query, key, value = (
        torch.randn(2, 3, 5, 7, 11),
        torch.randn(2, 3, 5, 13, 11),
        torch.randn(2, 3, 5, 13, 17),
    )
    output, weights = scaled_dot_product_attention(query, key, value)
    assert output.shape == (2, 3, 5, 7, 17) and weights.shape == (2, 3, 5, 7, 13)
    alone, _ = scaled_dot_product_attention(query[1, 2, 3], key[1, 2, 3], value[1, 2, 3])
    torch.testing.assert_close(output[1, 2, 3], alone)


# --------------------------------------------------------------------------- nn.MultiheadAttention


def pair(d_model, num_heads, bias, dtype):
    """Our layer and PyTorch's with the same weights, the biases not zero."""
    ours = MultiHeadAttention(d_model, num_heads, bias=bias).to(dtype)
    theirs = nn.MultiheadAttention(d_model, num_heads, bias=bias, batch_first=True).to(dtype)
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.copy_(torch.randn_like(parameter) / d_model**0.5)
        inputs = (ours.query_projection, ours.key_projection, ours.value_projection)
        theirs.in_proj_weight.copy_(torch.cat([projection.weight for projection in inputs]))
        theirs.out_proj.weight.copy_(ours.output_projection.weight)
        if bias:
            theirs.in_proj_bias.copy_(torch.cat([projection.bias for projection in inputs]))
            theirs.out_proj.bias.copy_(ours.output_projection.bias)
    return ours, theirs


def gradients_of(ours, theirs, attribute):
    """The gradients of (ours, theirs) by projection, `attribute` being weight or bias."""
    split = getattr(theirs, f"in_proj_{attribute}").grad.chunk(3)
    for name, wanted in zip(("query", "key", "value"), split, strict=True):
        yield name, getattr(getattr(ours, f"{name}_projection"), attribute).grad, wanted
    yield "output", getattr(ours.output_projection, attribute).grad, getattr(theirs.out_proj, attribute).grad


@pytest.mark.parametrize("kind", MASKS)
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("inputs", ["self", "cross", "three"])
@pytest.mark.parametrize(
    "batch, num_queries, num_keys, num_heads, d_k",
    [(2, 5, 7, 3, 11), (3, 7, 5, 2, 13), (2, 1, 5, 7, 3)],
    ids=str,
)
@DTYPES
def test_layer_agrees_with_torch(batch, num_queries, num_keys, num_heads, d_k, inputs, bias, kind, dtype):
    d_model = num_heads * d_k
    ours, theirs = pair(d_model, num_heads, bias, dtype)
    query = leaf(batch, num_queries, d_model, dtype=dtype)
    if inputs == "self":
        num_keys, leaves, arguments, torch_arguments = num_queries, (query,), (query,), (query, query, query)
    elif inputs == "cross":
        key = leaf(batch, num_keys, d_model, dtype=dtype)
        leaves, arguments, torch_arguments = (query, key), (query, key), (query, key, key)
    else:
        key, value = (leaf(batch, num_keys, d_model, dtype=dtype) for _ in range(2))
        leaves = arguments = torch_arguments = (query, key, value)
    mask = mask_of(kind, (batch, num_heads), num_queries, num_keys)
    # PyTorch's layer wants True where a query may NOT attend, and batch and head in one axis.
    full = (batch, num_heads, num_queries, num_keys)
    forbidden = None if mask is None else ~mask.expand(full).flatten(0, 1)

    output = ours(*arguments, mask=mask)
    expected, _ = theirs(*torch_arguments, attn_mask=forbidden, need_weights=False)
    assert_near(output, expected, "outputs")
    direction = torch.randn_like(output)
    gradients = torch.autograd.grad((output * direction).sum(), leaves, retain_graph=True)
    expected_gradients = torch.autograd.grad((expected * direction).sum(), leaves, retain_graph=True)
    for got, wanted in zip(gradients, expected_gradients, strict=True):
        assert_near(got, wanted, "gradients of an input")
    (output * direction).sum().backward()
    (expected * direction).sum().backward()
    for attribute in ("weight", "bias") if bias else ("weight",):
        for name, got, wanted in gradients_of(ours, theirs, attribute):
            # A bias on the keys shifts all scores of a query alike: its gradient is zero but for rounding.
            if (name, attribute) == ("key", "bias"):
                largest = ours.key_projection.weight.grad.abs().max()
                assert got.abs().max() <= TOLERANCE[dtype] * largest.clamp(min=1e-3)
            else:
                assert_near(got, wanted, f"gradients of the {name} {attribute}")

    with record_attention(ours) as maps:
        ours(*arguments, mask=mask)
    _, weights = theirs(*torch_arguments, attn_mask=forbidden, average_attn_weights=False)
    if mask is not None:  # PyTorch's weights are NaN where a query may attend to nothing
        weights = weights.masked_fill(~mask.any(-1, keepdim=True), 0.0)
    assert_near(maps[""], weights.detach(), "weights")


def test_parity_would_show_a_mask_the_wrong_way_round():
    ours, theirs = pair(33, 3, True, torch.float64)
    query, mask = leaf(2, 5, 33, dtype=torch.float64), causal_mask(5)
    with pytest.raises(AssertionError, match="outputs differ"):
        assert_near(
            ours(query, mask=mask),
            theirs(query, query, query, attn_mask=mask, need_weights=False)[0],
            "outputs",
        )


# ----------------------------------------------------------------------------- fused and open path


@pytest.mark.parametrize("kind", MASKS)
@DTYPES
def test_fused_and_open_path_agree(kind, dtype):
    layer = MultiHeadAttention(33, 3).to(dtype)
    query, key, value = (leaf(2, length, 33, dtype=dtype) for length in (5, 7, 7))
    mask, direction = mask_of(kind, (2, 3), 5, 7), torch.randn(2, 5, 33).to(dtype)
    wanted = (query, key, value, *layer.parameters())
    fused = layer(query, key, value, mask)
    with record_attention(layer):
        openly = layer(query, key, value, mask)
    assert_near(openly, fused, "outputs")
    gradients = torch.autograd.grad((openly * direction).sum(), wanted)
    expected = torch.autograd.grad((fused * direction).sum(), wanted)
    key_bias = [parameter is layer.key_projection.bias for parameter in wanted]
    for got, want, zero in zip(gradients, expected, key_bias, strict=True):
        if not zero:
            assert_near(got, want, "gradients")
        assert got.isfinite().all() and want.isfinite().all()


def test_dropout_keeps_the_expectation_on_both_paths():
    layer = MultiHeadAttention(15, 3, dropout=0.3)
    x = torch.randn(1, 5, 15)
    expected = layer.eval()(x)
    layer.train()
    many, count = x.expand(20_000, -1, -1), 20_000
    with record_attention(layer) as maps:
        openly = layer(many)
    for outputs in (layer(many), openly):
        error = (outputs.mean(0) - expected[0]).abs() / (outputs.std(0) / count**0.5)
        assert error.max() < 5  # standard errors
        assert (outputs[0] - outputs[1]).abs().max() > 1e-2
    # Weights are recorded before dropout: whole rows, as without it.
    torch.testing.assert_close(maps[""].sum(-1), torch.ones(count, 3, 5))
    with record_attention(layer.eval()) as quiet:
        layer(x)
    torch.testing.assert_close(maps[""][:1], quiet[""])


def test_dropout_is_of_weights_and_on_in_training_only():
    """With identity matrices and one key, the output is the value times 0 or 1 / (1 - dropout)."""
    layer = MultiHeadAttention(15, 3, dropout=0.25)
    with torch.no_grad():
        for projection in layer.children():
            projection.weight.copy_(torch.eye(15))
    x = torch.ones(2003, 1, 15)
    for recording in (False, True):
        if recording:
            with record_attention(layer.train()):
                output = layer(x)
        else:
            output = layer.train()(x)
        heads = output.detach().view(2003, 3, 5)
        assert torch.equal(heads, heads[..., :1].expand_as(heads))  # a head is dropped as a whole
        dropped = (heads == 0).float().mean().item()
        assert 0.21 < dropped < 0.29
        torch.testing.assert_close(heads[heads != 0], torch.tensor(1 / 0.75).expand_as(heads[heads != 0]))
        assert torch.equal(layer.eval()(x), x)


def test_mixed_precision_runs_on_both_paths():
    layer, x = MultiHeadAttention(33, 3), torch.randn(2, 5, 33)
    exact = layer(x, mask=causal_mask(5))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        fused = layer(x.bfloat16(), x, mask=causal_mask(5))
        with record_attention(layer):
            openly = layer(x.bfloat16(), x, mask=causal_mask(5))
    for output in (fused, openly):
        assert_near(output, exact.bfloat16(), "outputs")
