"""Positions against transformers: rotary, T5's buckets and bias, ALiBi's slopes; values and gradients."""

import pytest
import torch
from transformers import GPTNeoXConfig, LlamaConfig, T5Config
from transformers.models.bloom import modeling_bloom
from transformers.models.gpt_neox import modeling_gpt_neox
from transformers.models.gptj import modeling_gptj
from transformers.models.llama import modeling_llama
from transformers.models.t5.modeling_t5 import T5Attention

from course_lib.positions import (
    RelativePositionBias,
    alibi_slopes,
    apply_rotary,
    relative_position_bucket,
)

# Theirs computes angles in float32, so that cosines of a few dozen radians are off by some 1e-6.
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5}


def leaf(*shape, seed, dtype):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()


def assert_near(got, wanted, tolerance):
    assert got.dtype == wanted.dtype and got.shape == wanted.shape
    error = (got - wanted).abs().max() / wanted.abs().max()
    assert error <= tolerance, f"differ by {error:.2e} of the largest"


def assert_values_and_gradients_agree(ours, theirs, leaves, tolerance):
    """`ours` and `theirs` are tensors made of the same leaves."""
    for number, (got, wanted) in enumerate(zip(ours, theirs, strict=True)):
        assert_near(got, wanted, tolerance)
        direction = leaf(*wanted.shape, seed=90 + number, dtype=wanted.dtype).detach()
        for result in zip(
            torch.autograd.grad(got, leaves[number], direction),
            torch.autograd.grad(wanted, leaves[number], direction),
            strict=True,
        ):
            assert_near(*result, tolerance)


def rope(base):
    return {"rope_type": "default", "rope_theta": base, "partial_rotary_factor": 1.0}


LLAMA = (modeling_llama, modeling_llama.LlamaRotaryEmbedding, LlamaConfig)
NEOX = (modeling_gpt_neox, modeling_gpt_neox.GPTNeoXRotaryEmbedding, GPTNeoXConfig)


@pytest.mark.parametrize("base", [10000.0, 500000.0])
@pytest.mark.parametrize("offset", [0, 29])
@pytest.mark.parametrize("module, embedding, config", [LLAMA, NEOX], ids=["Llama", "GPT-NeoX"])
def test_rotary_agrees_with_rotate_half(module, embedding, config, offset, base):
    settings = config(hidden_size=3 * 22, num_attention_heads=3, rope_parameters=rope(base))
    query, key = (leaf(2, 3, 7, 22, seed=seed, dtype=torch.float32) for seed in (0, 1))
    positions = torch.arange(offset, offset + 7)[None]
    cos, sin = embedding(settings)(query, positions)
    theirs = module.apply_rotary_pos_emb(query, key, cos, sin)
    ours = [apply_rotary(x, offset=offset, base=base) for x in (query, key)]
    assert_values_and_gradients_agree(ours, theirs, (query, key), TOLERANCE[torch.float32])
    # The other pairing is another function, and so is another offset.
    for wrong in ({"offset": offset, "interleaved": True}, {"offset": offset + 1}):
        assert (apply_rotary(query, base=base, **wrong) - theirs[0]).abs().max() > 0.1


def angles_in_float64(positions, d_k, base):
    exponents = torch.arange(0, d_k, 2, dtype=torch.float64) / d_k
    return positions.double()[..., None] / base**exponents


def test_rotary_agrees_with_rotate_half_in_float64_far_out():
    """Their rotation with angles in float64, which theirs alone does not offer."""
    query, key = (leaf(2, 3, 7, 22, seed=seed, dtype=torch.float64) for seed in (0, 1))
    positions = torch.tensor([[0, 1, 2, 3, 4, 5, 6], [40_000, 0, 0, 1, 99_991, 3, 17]])
    angles = angles_in_float64(positions, 22, 10000.0).repeat(1, 1, 2)
    theirs = modeling_llama.apply_rotary_pos_emb(query, key, angles.cos(), angles.sin())
    ours = [apply_rotary(x, positions[:, None]) for x in (query, key)]
    # Sines of angles near 1e5 are good to 1e-11, whoever computes them.
    assert_values_and_gradients_agree(ours, theirs, (query, key), 1e-10)


@pytest.mark.parametrize("offset", [0, 29])
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_interleaved_rotary_agrees_with_gptj(dtype, offset):
    x = leaf(2, 3, 7, 22, seed=0, dtype=dtype)
    if dtype == torch.float32:
        sin, cos = modeling_gptj.create_sinusoidal_positions(offset + 7, 22)[offset:].chunk(2, dim=-1)
    else:
        angles = angles_in_float64(torch.arange(offset, offset + 7), 22, 10000.0)
        sin, cos = angles.sin(), angles.cos()
    # GPT-J has heads after positions.
    theirs = modeling_gptj.apply_rotary_pos_emb(x.transpose(1, 2), sin[None], cos[None]).transpose(1, 2)
    ours = apply_rotary(x, offset=offset, interleaved=True)
    assert_values_and_gradients_agree([ours], [theirs], [x], TOLERANCE[dtype])
    assert (apply_rotary(x, offset=offset) - theirs).abs().max() > 0.1


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("num_buckets, max_distance", [(32, 128), (64, 256), (8, 20), (14, 50), (32, 1000)])
def test_buckets_agree_with_t5(num_buckets, max_distance, bidirectional):
    relative = torch.arange(-2000, 2002).view(3, -1)
    ours = relative_position_bucket(relative, bidirectional, num_buckets, max_distance)
    theirs = T5Attention._relative_position_bucket(relative, bidirectional, num_buckets, max_distance)
    assert torch.equal(ours, theirs)
    other = relative_position_bucket(relative, not bidirectional, num_buckets, max_distance)
    assert not torch.equal(other, theirs)


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("num_queries, num_keys, offset", [(7, 7, 0), (1, 11, 10), (5, 13, 2), (150, 331, 7)])
def test_the_bias_agrees_with_t5(num_queries, num_keys, offset, bidirectional):
    config = T5Config(num_heads=3, d_model=15, d_kv=5, is_decoder=not bidirectional)
    theirs = T5Attention(config, has_relative_attention_bias=True, layer_idx=0)
    ours = RelativePositionBias(3, bidirectional=bidirectional)
    with torch.no_grad():
        ours.weight.copy_(leaf(32, 3, seed=0, dtype=torch.float32))
        theirs.relative_attention_bias.weight.copy_(ours.weight)
    wanted = theirs.compute_bias(num_queries, num_keys, past_seen_tokens=offset)[0]
    got = ours(num_queries, num_keys, offset)
    assert torch.equal(got, wanted)
    if offset == num_keys - num_queries:
        assert torch.equal(ours(num_queries, num_keys), wanted)
    direction = leaf(*wanted.shape, seed=1, dtype=torch.float32).detach()
    got.backward(direction)
    wanted.backward(direction)
    assert_near(ours.weight.grad, theirs.relative_attention_bias.weight.grad, TOLERANCE[torch.float32])


@pytest.mark.parametrize("num_heads", [1, 2, 3, 5, 7, 8, 12, 16, 23, 32, 71])
def test_slopes_agree_with_bloom(num_heads):
    theirs = modeling_bloom._get_alibi_slopes(num_heads, torch.device("cpu"))
    assert_near(alibi_slopes(num_heads), theirs, TOLERANCE[torch.float32])
