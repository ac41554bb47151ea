"""record_attention: what it records, under which name, and that it leaves nothing behind."""

import copy
import io
import pickle

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from course_lib.attention import (
    AdditiveAttention,
    MultiHeadAttention,
    causal_mask,
    padding_mask,
    record_attention,
    scaled_dot_product_attention,
)


@pytest.fixture(autouse=True)
def _seeded():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


@pytest.fixture
def fused_calls(monkeypatch):
    """A list that grows with each call of PyTorch's fused attention."""
    calls, fused = [], F.scaled_dot_product_attention

    def counted(*args, **kwargs):
        calls.append(args)
        return fused(*args, **kwargs)

    monkeypatch.setattr(F, "scaled_dot_product_attention", counted)
    return calls


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = MultiHeadAttention(15, 3, dropout=0.2)

    def forward(self, x, mask=None):
        return x + self.attention(x, mask=mask)


class Model(nn.Module):
    """Layers within layers: two multi-head attentions, one additive, and one that forward never calls."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([Block(), Block()])
        self.extra = nn.ModuleDict(
            {"pointer": AdditiveAttention(15, 15, 7), "idle": AdditiveAttention(2, 3, 5)}
        )

    def forward(self, x, mask=None):
        for layer in self.layers:
            x = layer(x, mask)
        return self.extra["pointer"](x, x, x, mask)[0]


def split(projected, num_heads):
    """Cut (batch, position, width) into (batch, head, position, d_k), one head after another."""
    width = projected.shape[-1] // num_heads
    return torch.stack([projected[..., h * width : (h + 1) * width] for h in range(num_heads)], dim=1)


def weights_of(layer, query, key, mask=None):
    query, key = split(layer.query_projection(query), 3), split(layer.key_projection(key), 3)
    return scaled_dot_product_attention(query, key, key, mask)[1]


def test_recorded_weights_are_those_of_the_function():
    layer, query, key = MultiHeadAttention(15, 3), torch.randn(2, 5, 15), torch.randn(2, 7, 15)
    mask = padding_mask([7, 5])
    with record_attention(layer) as maps:
        layer(query, key, mask=mask)
    assert list(maps) == [""] and maps[""].shape == (2, 3, 5, 7)
    torch.testing.assert_close(maps[""], weights_of(layer, query, key, mask).detach())
    # Heads, queries and keys differ, so an exchange of any of them would have shown.
    assert (maps[""][:, 0] - maps[""][:, 1]).abs().max() > 1e-2


def test_additive_weights_have_an_axis_for_their_one_head():
    layer = AdditiveAttention(3, 5, 7)
    inputs = torch.randn(2, 11, 3), torch.randn(2, 13, 5), torch.randn(2, 13, 17), padding_mask([13, 5])
    with record_attention(layer) as maps:
        _, weights = layer(*inputs)
    assert maps[""].shape == (2, 1, 11, 13)
    assert torch.equal(maps[""][:, 0], weights) and weights.requires_grad and not maps[""].requires_grad


def test_names_are_those_of_named_modules():
    model, x = Model().eval(), torch.randn(2, 5, 15)
    with record_attention(model) as maps:
        model(x)
    assert list(maps) == ["layers.0.attention", "layers.1.attention", "extra.pointer"]  # idle was not called
    assert set(maps) < {name for name, _ in model.named_modules()}
    first, second = (layer.attention for layer in model.layers)
    torch.testing.assert_close(maps["layers.0.attention"], weights_of(first, x, x).detach())
    x = model.layers[0](x)
    torch.testing.assert_close(maps["layers.1.attention"], weights_of(second, x, x).detach())
    assert maps["extra.pointer"].shape == (2, 1, 5, 5)


def test_fused_unless_a_block_is_open(fused_calls):
    model, x = Model().eval(), torch.randn(2, 5, 15)
    before = model(x, causal_mask(5))
    assert len(fused_calls) == 2
    with record_attention(model):
        during = model(x, causal_mask(5))
    assert len(fused_calls) == 2
    after = model(x, causal_mask(5))
    assert len(fused_calls) == 4
    torch.testing.assert_close(during, before)
    assert torch.equal(after, before)


def test_only_the_module_given_leaves_the_fused_path(fused_calls):
    model = Model().eval()
    with record_attention(model.layers[1]) as maps:
        model(torch.randn(2, 5, 15))
    assert list(maps) == ["attention"] and len(fused_calls) == 1


def test_fused_again_after_an_exception(fused_calls):
    layer, x = MultiHeadAttention(15, 3), torch.randn(2, 5, 15)
    with pytest.raises(KeyError, match="from the block"), record_attention(layer) as maps:
        layer(x)
        raise KeyError("from the block")
    assert maps[""].shape == (2, 3, 5, 5) and not fused_calls
    layer(x)
    assert len(fused_calls) == 1 and isinstance(maps[""], torch.Tensor)


def test_an_exception_in_a_layer_leaves_the_calls_before_it(fused_calls, unchecked_shapes):
    model, x = Model().eval(), torch.randn(2, 5, 15)
    with pytest.raises(ValueError, match="does not broadcast"), record_attention(model) as maps:
        model(x)
        model(x, causal_mask(7))
    assert all(isinstance(weights, torch.Tensor) for weights in maps.values()) and len(maps) == 3
    model(x)
    assert len(fused_calls) == 2


def test_several_calls_are_a_list_in_their_order():
    layer, inputs = MultiHeadAttention(15, 3), [torch.randn(2, length, 15) for length in (5, 7, 5)]
    with record_attention(layer) as maps:
        layer(inputs[0])
        assert isinstance(maps[""], torch.Tensor)
        layer(inputs[1])
        layer(inputs[2])
    assert [tuple(weights.shape) for weights in maps[""]] == [(2, 3, 5, 5), (2, 3, 7, 7), (2, 3, 5, 5)]
    for weights, x in zip(maps[""], inputs, strict=True):
        torch.testing.assert_close(weights, weights_of(layer, x, x).detach())


def test_cached_decoding_gives_the_rows_of_the_whole_pass():
    layer, x = MultiHeadAttention(15, 3).double(), torch.randn(2, 7, 15, dtype=torch.float64)
    with record_attention(layer) as maps:
        whole = layer(x, mask=causal_mask(7))
    with record_attention(layer) as steps:
        outputs = [layer(x[:, n - 1 : n], x[:, :n], mask=causal_mask(1, n)) for n in range(1, 8)]
    torch.testing.assert_close(torch.cat(outputs, dim=1), whole, rtol=0, atol=1e-12)
    assert [tuple(step.shape) for step in steps[""]] == [(2, 3, 1, n) for n in range(1, 8)]
    for row, step in enumerate(steps[""]):
        torch.testing.assert_close(step[:, :, 0], maps[""][:, :, row, : row + 1], rtol=0, atol=1e-12)


def test_blocks_can_be_nested(fused_calls):
    model, x = Model().eval(), torch.randn(2, 5, 15)
    with record_attention(model) as outer:
        model(x)
        with record_attention(model.layers[0]) as inner, record_attention(model.layers[0]) as twin:
            model(x)
        model(x)
    assert list(inner) == list(twin) == ["attention"] and torch.equal(inner["attention"], twin["attention"])
    assert [len(calls) for calls in outer.values()] == [3, 3, 3]
    assert torch.equal(inner["attention"], outer["layers.0.attention"][1]) and not fused_calls
    model(x)
    assert len(fused_calls) == 2


def test_blocks_may_close_in_another_order(fused_calls):
    layer, x = MultiHeadAttention(15, 3), torch.randn(2, 5, 15)
    first, second = record_attention(layer), record_attention(layer)
    early, late = first.__enter__(), second.__enter__()
    layer(x)
    first.__exit__(None, None, None)
    layer(x)
    second.__exit__(None, None, None)
    layer(x)
    assert isinstance(early[""], torch.Tensor) and len(late[""]) == 2 and len(fused_calls) == 1


def test_a_layer_shared_by_two_names_is_recorded_once_a_call():
    layer, x = MultiHeadAttention(15, 3), torch.randn(2, 5, 15)
    with record_attention(nn.Sequential(layer, layer)) as maps:
        layer(layer(x))
    assert list(maps) == ["0"] and len(maps["0"]) == 2


def test_recording_does_not_change_gradients():
    model, x = Model().double().eval(), torch.randn(2, 5, 15, dtype=torch.float64)
    expected = torch.autograd.grad(model(x).square().sum(), list(model.layers.parameters()))
    with record_attention(model) as maps:
        loss = model(x).square().sum()
    gradients = torch.autograd.grad(loss, list(model.layers.parameters()))
    torch.testing.assert_close(gradients, expected, rtol=1e-9, atol=1e-12)
    assert not any(weights.requires_grad for weights in maps.values())


def test_dropout_is_on_while_recording_in_training_and_not_in_the_weights():
    model, x = Model(), torch.randn(2, 5, 15)
    with record_attention(model.train()) as maps:
        one, other = model(x), model(x)
    assert (one - other).abs().max() > 1e-3
    # The first layer sees the same input each time; its weights are whole and the same.
    weights, again = maps["layers.0.attention"]
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 3, 5))
    assert torch.equal(weights, again) and (weights > 0).all()


def test_nothing_is_left_behind(fused_calls):
    model, x = Model().eval(), torch.randn(2, 5, 15)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    expected, size = model(x), len(pickle.dumps(model))
    with record_attention(model) as maps:
        model(x)
    after = model.state_dict()
    assert list(after) == list(before) and all(torch.equal(after[name], before[name]) for name in before)
    assert len(pickle.dumps(model)) == size
    buffer = io.BytesIO()
    torch.save(model.state_dict(), buffer)
    fused_calls.clear()
    for other in (model, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(other(x), expected)
    assert len(fused_calls) == 6 and all(isinstance(weights, torch.Tensor) for weights in maps.values())


def test_a_copy_made_inside_is_not_recorded(fused_calls):
    model, x = Model().eval(), torch.randn(2, 5, 15)
    with record_attention(model) as maps:
        copies = [copy.deepcopy(model), pickle.loads(pickle.dumps(model))]
        for other in copies:
            other(x)
        assert not maps and len(fused_calls) == 4
        model(x)
    assert len(maps) == 3 and len(fused_calls) == 4


def test_only_attention_of_this_course_can_be_read():
    for module, name in ((nn.Linear(3, 5), "Linear"), (nn.MultiheadAttention(6, 3), "MultiheadAttention")):
        with pytest.raises(ValueError, match=f"no attention layer in {name}.*MultiHeadAttention"):
            record_attention(module).__enter__()
