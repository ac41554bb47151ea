"""The blocks: against PyTorch's own with copied weights, their cached steps, and bad calls."""

import math

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from course_lib.attention import (
    MultiHeadAttention,
    causal_mask,
    padding_mask,
    record_attention,
    scaled_dot_product_attention,
)
from course_lib.layers import DecoderBlock, EncoderBlock, FeedForward, ResidualConnection
from course_lib.positions import RotaryAttention, apply_rotary
from tests.torch_twins import copy_block, shake

BATCH, SOURCE, TARGET, HEADS, D_K, D_FF = 2, 7, 5, 3, 11, 13
D_MODEL = HEADS * D_K


@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize("masked", [True, False])
def test_encoder_block_equals_torch(norm_first, masked, activation):
    torch.manual_seed(0)
    ours = shake(EncoderBlock(D_MODEL, HEADS, D_FF, 0.0, norm_first, activation).double())
    theirs = nn.TransformerEncoderLayer(
        D_MODEL, HEADS, D_FF, 0.0, activation, batch_first=True, norm_first=norm_first, dtype=torch.float64
    )
    copy_block(ours, theirs)
    x = torch.randn(BATCH, SOURCE, D_MODEL, dtype=torch.float64, requires_grad=True)
    allowed = padding_mask([7, 3]) if masked else None
    blocked = ~allowed[:, 0, 0] if masked else None
    mine, reference = ours(x, allowed), theirs(x, src_key_padding_mask=blocked)
    assert_close(mine, reference)
    for a, b in zip(
        torch.autograd.grad(mine.square().sum(), (x, ours.feed_forward.expand.weight)),
        torch.autograd.grad(reference.square().sum(), (x, theirs.linear1.weight)),
        strict=True,
    ):
        assert_close(a, b)


@pytest.mark.parametrize("norm_first", [True, False])
def test_decoder_block_equals_torch(norm_first):
    torch.manual_seed(0)
    ours = shake(DecoderBlock(D_MODEL, HEADS, D_FF, norm_first=norm_first).double())
    theirs = nn.TransformerDecoderLayer(
        D_MODEL, HEADS, D_FF, 0.0, batch_first=True, norm_first=norm_first, dtype=torch.float64
    )
    copy_block(ours, theirs)
    x = torch.randn(BATCH, TARGET, D_MODEL, dtype=torch.float64, requires_grad=True)
    memory = torch.randn(BATCH, SOURCE, D_MODEL, dtype=torch.float64, requires_grad=True)
    causal, padding = causal_mask(TARGET), padding_mask([7, 3])
    mine = ours(x, memory, causal, padding)
    reference = theirs(x, memory, tgt_mask=~causal, memory_key_padding_mask=~padding[:, 0, 0])
    assert_close(mine, reference)
    for a, b in zip(
        torch.autograd.grad(mine.square().sum(), (x, memory)),
        torch.autograd.grad(reference.square().sum(), (x, memory)),
        strict=True,
    ):
        assert_close(a, b)
    assert not torch.allclose(ours(x, memory, None, padding), reference)  # the causal mask counts
    assert not torch.allclose(ours(x, memory, causal), reference)  # and so does that of the source


@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize("pieces", [[1, 1, 1, 1, 1], [2, 3], [5]])
def test_steps_equal_the_whole(norm_first, pieces):
    torch.manual_seed(0)
    encoder = shake(EncoderBlock(D_MODEL, HEADS, D_FF, norm_first=norm_first).double())
    decoder = shake(DecoderBlock(D_MODEL, HEADS, D_FF, norm_first=norm_first).double())
    x = torch.randn(BATCH, TARGET, D_MODEL, dtype=torch.float64)
    memory, padding = torch.randn(BATCH, SOURCE, D_MODEL, dtype=torch.float64), padding_mask([7, 3])
    whole = encoder(x, causal_mask(TARGET)), decoder(x, memory, causal_mask(TARGET), padding)
    projected = decoder.cross_attention.project(memory)
    past = [x.new_empty(2, BATCH, HEADS, 0, D_K)] * 2
    outputs, end = ([], []), 0
    for new in pieces:
        start, end = end, end + new
        mask = causal_mask(new, end)
        for number, (block, extra) in enumerate(((encoder, ()), (decoder, (projected,)))):
            options = {"memory_mask": padding} if extra else {}
            output, past[number] = block.step(x[:, start:end], past[number], *extra, mask=mask, **options)
            outputs[number].append(output)
    for mine, reference in zip(outputs, whole, strict=True):
        assert_close(torch.cat(mine, dim=1), reference)
    assert past[0].shape == (2, BATCH, HEADS, TARGET, D_K)


def test_feed_forward_works_on_each_position_by_itself():
    torch.manual_seed(0)
    layer = shake(FeedForward(D_MODEL, D_FF))
    x = torch.randn(BATCH, SOURCE, D_MODEL)
    changed = x.clone()
    changed[:, 3] += 1.0
    moved = (layer(changed) - layer(x)).abs().amax(dim=(0, 2))
    assert moved[3] > 0.01 and moved[[0, 1, 2, 4, 5, 6]].max() == 0


def test_residual_connection_by_hand():
    x = torch.tensor([[[1.0, 3.0]]])  # LayerNorm makes (-1, 1) of it, but for eps
    before, after = ResidualConnection(2, norm_first=True), ResidualConnection(2, norm_first=False)
    assert_close(before(x, lambda x: 10 * x), torch.tensor([[[-9.0, 13.0]]]), atol=1e-4, rtol=0)
    assert_close(after(x, lambda x: 10 * x), torch.tensor([[[-1.0, 1.0]]]), atol=1e-4, rtol=0)


def test_dropout_acts_in_training_only():
    torch.manual_seed(0)
    block = EncoderBlock(D_MODEL, HEADS, D_FF, dropout=0.5)
    x = torch.randn(BATCH, SOURCE, D_MODEL)
    assert not torch.equal(block(x), block(x))
    block.eval()
    assert torch.equal(block(x), block(x))


@pytest.mark.parametrize("block, places", [(EncoderBlock, 4), (DecoderBlock, 6)])
def test_dropout_reaches_every_place_where_it_acts(block, places):
    for given, wanted in (((0.3,), 0.3), ((), 0.0)):
        modules = list(block(D_MODEL, HEADS, D_FF, *given).modules())
        shares = [module.p for module in modules if isinstance(module, nn.Dropout)]
        shares += [module.dropout for module in modules if isinstance(module, MultiHeadAttention)]
        assert shares == [wanted] * places


@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize("block, places", [(EncoderBlock, 3), (DecoderBlock, 4)])
def test_every_dropout_is_called_once_in_a_pass(block, places, norm_first):
    layer, called = block(D_MODEL, HEADS, D_FF, 0.3, norm_first), []
    for name, module in layer.named_modules():
        if isinstance(module, nn.Dropout):
            module.register_forward_hook(lambda *_, name=name: called.append(name))
    x = torch.randn(BATCH, TARGET, D_MODEL)
    layer(*((x,) if block is EncoderBlock else (x, torch.randn(BATCH, SOURCE, D_MODEL))))
    assert len(called) == len(set(called)) == places


@pytest.mark.parametrize("block", [EncoderBlock, DecoderBlock])
def test_blocks_take_each_activation(block):
    for name, kind in (("relu", nn.ReLU), ("gelu", nn.GELU), ("gelu_tanh", nn.GELU)):
        layer = block(D_MODEL, HEADS, D_FF, activation=name)
        assert isinstance(layer.feed_forward.activation, kind)


@pytest.mark.parametrize("block", [EncoderBlock, DecoderBlock])
def test_blocks_are_pre_norm_with_relu_unless_told_otherwise(block):
    torch.manual_seed(0)
    usual, told = block(D_MODEL, HEADS, D_FF), block(D_MODEL, HEADS, D_FF, 0.0, True, "relu")
    told.load_state_dict(usual.state_dict())
    x = torch.randn(BATCH, TARGET, D_MODEL)
    given = (x,) if block is EncoderBlock else (x, torch.randn(BATCH, SOURCE, D_MODEL))
    assert torch.equal(usual(*given), told(*given))
    assert torch.equal(FeedForward(D_MODEL, D_FF).activation(x), x.clamp(min=0))
    residual = ResidualConnection(D_MODEL)
    assert torch.equal(residual(x, lambda x: x), x + residual.norm(x))


def test_weights_begin_as_glorots_and_biases_at_zero():
    torch.manual_seed(0)
    layers = nn.ModuleList([FeedForward(101, 211), MultiHeadAttention(201, 3)])
    linears = [module for module in layers.modules() if isinstance(module, nn.Linear)]
    assert len(linears) == 6
    for linear in linears:
        bound = math.sqrt(6 / sum(linear.weight.shape))
        assert 0.99 * bound < linear.weight.abs().max() < 1.0001 * bound
        assert abs(linear.weight.std() / bound * math.sqrt(3) - 1) < 0.02
        assert (linear.bias == 0).all()


def decode(x):
    return DecoderBlock(33, 3, 13)(x, torch.randn(2, 7, 33))


def decoder_step(x):
    return DecoderBlock(33, 3, 13).step(x, torch.empty(2, 2, 3, 0, 11), torch.randn(2, 7, 33))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: EncoderBlock(32, 3, 13), "num_heads must divide d_model"),
        (lambda: FeedForward(0, 13), "d_model must be an int of at least 1"),
        (lambda: FeedForward(33, 13, activation="tanh"), "choose 'relu', 'gelu' or 'gelu_tanh'"),
        (
            lambda: EncoderBlock(33, 3, 13)(torch.randn(7, 33)),
            r"x must have the axes \(batch, position, width\)",
        ),
        (lambda: EncoderBlock(33, 3, 13)(torch.randn(2, 7, 31)), "31"),
        (lambda: decode(torch.randn(5, 33)), r"x must have the axes.*got shape \(5, 33\)"),
        (lambda: decode(torch.randn(2, 5, 31)), r"x has shape \(2, 5, 31\)"),
        (lambda: decoder_step(torch.randn(5, 33)), r"x must have the axes.*got shape \(5, 33\)"),
        (lambda: decoder_step(torch.randn(2, 5, 31)), r"x has shape \(2, 5, 31\)"),
        (lambda: DecoderBlock(33, 3, 13)(torch.randn(2, 5, 33), torch.randn(2, 7, 31)), "31"),
        (lambda: DecoderBlock(33, 3, 13)(torch.randn(2, 5, 33), torch.randn(3, 7, 33)), r"\(3, 3, 7, 11\)"),
    ],
)
def test_bad_calls_speak_to_a_learner(unchecked_shapes, call, words):
    with pytest.raises(ValueError, match=words) as raised:
        call()
    assert raised.traceback[-1].path.name in ("attention.py", "layers.py")  # the words are our own


def test_gelu_tanh_is_the_formula_and_not_the_exact_gelu():
    x = torch.linspace(-5, 5, 101, dtype=torch.float64)
    formula = 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    assert_close(FeedForward(7, 11, activation="gelu_tanh").activation(x), formula)
    apart = (FeedForward(7, 11, activation="gelu").activation(x) - formula).abs().max()
    assert 1e-4 < apart < 1e-3


def test_rotary_attention_is_attention_of_rotated_heads():
    torch.manual_seed(0)
    d_model = HEADS * 14
    layer = shake(RotaryAttention(d_model, HEADS).double())
    x = torch.randn(BATCH, SOURCE, d_model, dtype=torch.float64)
    plain = MultiHeadAttention(d_model, HEADS).double()
    plain.load_state_dict(layer.state_dict())
    query = layer.query_projection(x).unflatten(-1, (HEADS, 14)).transpose(1, 2)
    key, value = plain.project(x)
    heads, weights = scaled_dot_product_attention(
        apply_rotary(query), apply_rotary(key), value, causal_mask(SOURCE)
    )
    wanted = layer.output_projection(heads.transpose(1, 2).flatten(2))
    assert_close(layer(x, mask=causal_mask(SOURCE)), wanted)
    assert not torch.allclose(plain(x, mask=causal_mask(SOURCE)), wanted)
    with record_attention(layer) as maps:
        layer(x, mask=causal_mask(SOURCE))
    assert_close(maps[""], weights)


def test_rotary_attention_places_queries_last():
    torch.manual_seed(0)
    layer = shake(RotaryAttention(HEADS * 14, HEADS).double())
    x = torch.randn(BATCH, SOURCE, HEADS * 14, dtype=torch.float64)
    assert_close(layer(x[:, 4:], projected=layer.project(x)), layer(x)[:, 4:])
    with pytest.raises(ValueError, match=r"must be even.*give 11"):
        RotaryAttention(D_MODEL, HEADS)
