"""Attention's two paths, fused and open, against each other; trust/test_parity.py has torch's own."""

import pytest
import torch

from course_lib.attention import (
    MultiHeadAttention,
    causal_mask,
    record_attention,
    scaled_dot_product_attention,
)
from tests.masks import MASKS, mask_of

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
