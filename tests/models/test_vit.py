"""The Vision Transformer: patches, transformers' ViT, the order of patches, rollout, bad calls."""

import copy
import dataclasses
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close
from transformers import ViTConfig as TheirConfig
from transformers import ViTForImageClassification, ViTModel

from course_lib.attention import MultiHeadAttention, record_attention
from course_lib.models.vit import ViT, ViTConfig, attention_rollout, image_to_patches
from course_lib.widgets import patch_view
from tests.bad_calls import assert_refused, each_bad_call
from tests.torch_twins import shake
from tests.transformers_twins import copy_vit, their_vit_config

# 5 rows of 7 patches, of 3 by 3 pixels: no two axes of what is tested here have the same size by accident.
BATCH, CHANNELS, PATCH, ROWS, COLUMNS, CLASSES = 2, 11, 3, 5, 7, 13
HEIGHT, WIDTH, POSITIONS = ROWS * PATCH, COLUMNS * PATCH, 1 + ROWS * COLUMNS
HEADS, D_K, D_FF, BLOCKS = 2, 17, 23, 3
D_MODEL = HEADS * D_K


def make(**options):
    sizes = {"image_size": (HEIGHT, WIDTH), "patch_size": PATCH, "num_channels": CHANNELS}
    sizes |= {"d_model": D_MODEL, "num_heads": HEADS, "num_blocks": BLOCKS, "d_ff": D_FF}
    torch.manual_seed(0)
    return shake(ViT(ViTConfig(num_classes=CLASSES, **(sizes | options)))).double().eval()


def make_images(config=None, seed=1):
    size = (CHANNELS, HEIGHT, WIDTH)
    if config is not None:
        rows, columns = config.grid
        size = (config.num_channels, rows * config.patch_size, columns * config.patch_size)
    return torch.rand(BATCH, *size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# -------------------------------------------------------------------------------------------- patches


def test_patches_by_hand():
    image = torch.arange(2 * 2 * 4).reshape(1, 2, 2, 4)  # two channels, of 2 by 4 pixels
    assert image_to_patches(image, 2).tolist() == [[[0, 1, 4, 5, 8, 9, 12, 13], [2, 3, 6, 7, 10, 11, 14, 15]]]
    assert torch.equal(image_to_patches(image, 1)[0, :, 0], image[0, 0].flatten())


def test_patches_are_those_of_unfold_and_of_slices():
    images = make_images()
    patches = image_to_patches(images, PATCH)
    assert patches.shape == (BATCH, ROWS * COLUMNS, CHANNELS * PATCH**2)
    assert torch.equal(patches, F.unfold(images, PATCH, stride=PATCH).transpose(1, 2))
    i, j = 3, 5
    corner = images[1, :, i * PATCH : (i + 1) * PATCH, j * PATCH : (j + 1) * PATCH]
    assert torch.equal(patches[1, i * COLUMNS + j], corner.flatten())


def test_one_matrix_on_patches_is_a_strided_convolution():
    images = make_images().requires_grad_()
    convolution = nn.Conv2d(CHANNELS, D_MODEL, PATCH, stride=PATCH, dtype=torch.float64)
    ours = F.linear(image_to_patches(images, PATCH), convolution.weight.flatten(1), convolution.bias)
    theirs = convolution(images).flatten(2).transpose(1, 2)
    assert_close(ours, theirs, atol=1e-12, rtol=1e-12)
    leaves = [images, *convolution.parameters()]
    for a, b in zip(
        torch.autograd.grad(ours.square().sum(), leaves),
        torch.autograd.grad(theirs.square().sum(), leaves),
        strict=True,
    ):
        assert_close(a, b, atol=1e-10, rtol=1e-10)
    # The matrix belongs to one order within the patch: channels last would be another map.
    last = F.linear(image_to_patches(images, PATCH), convolution.weight.permute(0, 2, 3, 1).flatten(1))
    assert not torch.allclose(last + convolution.bias, theirs)


def test_a_mask_is_cut_as_its_image():
    mask = torch.zeros(1, 1, 4, 6, dtype=torch.bool)
    mask[0, 0, 2:, 2:4] = True
    assert image_to_patches(mask, 2).all(dim=2).tolist() == [[False, False, False, False, True, False]]


# ------------------------------------------------------------------------------- transformers' ViT


CONFIGURATIONS = {
    "oblong": {},
    "grey": {"image_size": 14, "patch_size": 2, "num_channels": 1},
    "one patch": {"image_size": 5, "patch_size": 5, "num_channels": 3},
    "deep": {"num_blocks": 7, "num_heads": 1, "d_ff": 5},
}


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_states_equal_those_of_transformers_forward_and_backward(name):
    ours = make(**CONFIGURATIONS[name])
    theirs = ViTModel(their_vit_config(ours.config), add_pooling_layer=False).double().eval()
    copy_vit(ours, theirs)
    images = make_images(ours.config).requires_grad_()
    mine, reference = ours.encode(images), theirs(pixel_values=images).last_hidden_state
    assert_close(mine, reference, atol=1e-10, rtol=1e-10)
    embeddings, first, first_layer = theirs.embeddings, ours.blocks[0], theirs.layers[0]
    pairs = [
        (images, images),
        (ours.patch_embedding.bias, embeddings.patch_embeddings.projection.bias),
        (ours.class_vector, embeddings.cls_token),
        (ours.positions.weight, embeddings.position_embeddings),
        (first.attention.query_projection.weight, first_layer.attention.q_proj.weight),
        (first.feed_forward.expand.weight, first_layer.mlp.fc1.weight),
        (ours.norm.weight, theirs.layernorm.weight),
    ]
    direction = torch.randn(mine.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    for a, b in zip(
        torch.autograd.grad(mine, [pair[0] for pair in pairs], direction),
        torch.autograd.grad(reference, [pair[1] for pair in pairs], direction),
        strict=True,
    ):
        assert_close(a, b.reshape(a.shape), atol=1e-8, rtol=1e-8)


@pytest.mark.parametrize("name", CONFIGURATIONS)
@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_logits_of_the_linear_readout_equal_those_of_transformers(name, dtype, tolerance):
    ours = make(**CONFIGURATIONS[name], readout="linear")
    theirs = ViTForImageClassification(their_vit_config(ours.config, num_labels=CLASSES)).double().eval()
    copy_vit(ours, theirs.vit)
    theirs.classifier.load_state_dict(ours.readout[0].state_dict())
    images = make_images(ours.config).to(dtype)
    mine, reference = ours.to(dtype)(images), theirs.to(dtype)(pixel_values=images).logits
    assert (mine - reference).abs().max() <= tolerance * reference.abs().max()


def test_another_activation_or_norm_would_be_noticed():
    ours = make()
    images = make_images()
    for change in ({"hidden_act": "relu"}, {"hidden_act": "gelu_new"}):
        options = their_vit_config(ours.config)
        theirs = ViTModel(TheirConfig(**(options.to_dict() | change)), add_pooling_layer=False)
        copy_vit(ours, theirs.double().eval())
        assert not torch.allclose(ours.encode(images), theirs(images).last_hidden_state, atol=1e-5)


def test_readout_by_hand():
    model = make(readout="mlp")
    images = make_images()
    x = model.encode(images)[:, 0]
    linears = [layer for layer in model.readout if isinstance(layer, nn.Linear)]
    assert [tuple(linear.weight.shape) for linear in linears] == [
        (D_MODEL, D_MODEL),
        (D_MODEL, D_MODEL),
        (CLASSES, D_MODEL),
    ]
    for linear in linears[:-1]:
        x = F.gelu(x @ linear.weight.T + linear.bias)
    assert_close(model(images), x @ linears[-1].weight.T + linears[-1].bias)
    assert len(make(readout="linear").readout) == 1


# ------------------------------------------------------------------------------------ properties


def shuffled_patches(images, order):
    """The images with patch order[i] where patch i was."""
    patches = image_to_patches(images, PATCH)[:, order]
    return F.fold(patches.transpose(1, 2), (HEIGHT, WIDTH), PATCH, stride=PATCH)


def test_order_of_patches_counts_through_their_positions_alone():
    model = make()
    images = make_images()
    order = torch.randperm(ROWS * COLUMNS, generator=torch.Generator().manual_seed(3))
    rows = torch.cat([torch.tensor([0]), 1 + order])  # the class vector stays first
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.positions.weight.copy_(model.positions.weight[rows])
    mixed = shuffled_patches(images, order)
    assert_close(other.encode(mixed), model.encode(images)[:, rows], atol=1e-10, rtol=1e-10)
    assert_close(other(mixed), model(images), atol=1e-10, rtol=1e-10)
    # Positions left where they were: another picture.
    assert not torch.allclose(model.encode(mixed), model.encode(images)[:, rows], atol=1e-3)
    assert not torch.allclose(model(mixed), model(images), atol=1e-3)


def test_company_changes_nothing_and_each_pixel_reaches_the_logits():
    model = make()
    images = make_images().requires_grad_()
    assert_close(model(images)[1:], model(images[1:]))
    (gradient,) = torch.autograd.grad(model(images)[1].square().sum(), images)
    assert (gradient[0] == 0).all() and (gradient[1] != 0).all()


def test_the_class_vector_gets_what_it_knows_by_attention():
    """Cut the class vector's attention off, and every image gets the same logits."""
    model = make()
    images = make_images()
    assert not torch.allclose(model(images)[0], model(images)[1], atol=1e-3)
    own = torch.eye(POSITIONS, dtype=torch.bool)[:1]
    alone = torch.cat([own, torch.ones(POSITIONS - 1, POSITIONS, dtype=torch.bool)])
    for block in model.blocks:
        attention = block.attention
        attention.forward = lambda x, mask=None, of=attention: MultiHeadAttention.forward(of, x, mask=alone)
    assert_close(model(images)[0], model(images)[1])


def test_dropout_acts_in_training_alone():
    model = make(dropout=0.5)
    images = make_images()
    assert torch.equal(model(images), model(images))
    model.train()
    assert not torch.allclose(model(images), model(images))


def test_defaults_and_that_a_configuration_stays():
    """Weights that were stored for the defaults must still fit."""
    config = ViTConfig(15, 3, 5)
    assert config == ViTConfig(15, 3, 5, 3, 64, 4, 4, 128, 0.0, "mlp")
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.num_blocks = 7


def test_dropout_reaches_every_place_where_it_acts():
    modules = list(make(dropout=0.3).modules())
    shares = [module.p for module in modules if isinstance(module, nn.Dropout)]
    shares += [module.dropout for module in modules if isinstance(module, MultiHeadAttention)]
    assert shares == [0.3] * (1 + 4 * BLOCKS)
    model, called = make(dropout=0.3), []
    model.dropout.register_forward_hook(lambda module, given, made: called.append(tuple(made.shape)))
    model(make_images())
    assert called == [(BATCH, POSITIONS, D_MODEL)]


def test_the_smallest_model_works():
    model = ViT(ViTConfig(1, 1, 1, 1, 1, 1, 1, 1)).eval()
    assert model(torch.rand(1, 1, 1, 1)).shape == (1, 1)
    assert image_to_patches(torch.rand(1, 1, 1, 1), 1).shape == (1, 1, 1)


def test_class_vector_and_positions_begin_small():
    torch.manual_seed(0)
    model = ViT(ViTConfig(15, 3, CLASSES, d_model=5000))
    assert abs(model.class_vector.std() / 0.02 - 1) < 0.05 and abs(model.class_vector.mean()) < 0.002


def test_state_dict_round_trip():
    model, other = make(), shake(make())
    assert not torch.allclose(other(make_images()), model(make_images()))
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(make_images()), model(make_images()))


@pytest.mark.parametrize("readout", ["mlp", "linear"])
def test_a_fresh_model_is_unsure(readout):
    torch.manual_seed(0)
    model = ViT(ViTConfig(15, 3, CLASSES, readout=readout)).eval()
    images = torch.rand(BATCH, 3, 15, 15)
    assert model(images).softmax(dim=1).max() < 3 / CLASSES
    with torch.no_grad():
        model.readout[-1].weight *= 100
    assert model(images).softmax(dim=1).max() > 3 / CLASSES


# --------------------------------------------------------------------------------------- rollout


def test_rollout_by_hand():
    # Two blocks, one image, two heads, two positions.
    first = torch.tensor([[[[1.0, 0.0], [0.5, 0.5]], [[0.0, 1.0], [0.5, 0.5]]]])  # mean: all 1/2
    second = torch.tensor([[[[0.0, 1.0], [1.0, 0.0]], [[0.0, 1.0], [0.0, 1.0]]]])  # mean: 0 1, 1/2 1/2
    maps = {"blocks.0.attention": first, "blocks.1.attention": second}
    # (second + I) / 2 = [1/2 1/2, 1/4 3/4], times (first + I) / 2 = [3/4 1/4, 1/4 3/4].
    assert attention_rollout(maps).tolist() == [[[0.5, 0.5], [0.375, 0.625]]]
    assert attention_rollout(maps, identity=False).tolist() == [[[0.5, 0.5], [0.5, 0.5]]]
    other_way = dict(reversed(maps.items()))
    assert attention_rollout(other_way, identity=False).tolist() == [[[0.25, 0.75], [0.25, 0.75]]]


@pytest.mark.parametrize("identity", [True, False])
def test_rollout_is_the_product_of_matrices(identity):
    model = make(num_blocks=3)
    with torch.no_grad(), record_attention(model) as maps:
        model(make_images())
    assert list(maps) == [f"blocks.{number}.attention" for number in range(3)]
    got = attention_rollout(maps, identity=identity)
    assert got.shape == (BATCH, POSITIONS, POSITIONS)
    for image in range(BATCH):
        means = [sum(weights[image]) / HEADS for weights in maps.values()]
        if identity:
            means = [(mean + torch.eye(POSITIONS, dtype=mean.dtype)) / 2 for mean in means]
        assert_close(got[image], torch.linalg.multi_dot(means[::-1]))
        assert not torch.allclose(got[image], torch.linalg.multi_dot(means))
    assert_close(got.sum(dim=2), torch.ones(BATCH, POSITIONS, dtype=got.dtype))


def test_rollout_without_attention_stays_where_it_is():
    own = torch.eye(7).expand(2, 3, 7, 7)
    for identity in (True, False):
        assert_close(attention_rollout({"a": own, "b": own}, identity), torch.eye(7).expand(2, 7, 7))


def test_recording_opens_the_fused_path(monkeypatch):
    model, images, calls = make(), make_images(), []
    fused = F.scaled_dot_product_attention
    monkeypatch.setattr(F, "scaled_dot_product_attention", lambda *a, **k: calls.append(1) or fused(*a, **k))
    logits = model(images)
    assert len(calls) == BLOCKS
    with record_attention(model) as maps:
        opened = model(images)
    assert len(calls) == BLOCKS  # none while it was open
    assert_close(opened, logits, atol=1e-10, rtol=1e-10)
    assert {weights.shape for weights in maps.values()} == {(BATCH, HEADS, POSITIONS, POSITIONS)}
    assert attention_rollout(maps).isfinite().all()
    model(images)
    assert len(calls) == 2 * BLOCKS


def test_the_view_shows_the_same_rollout():
    """patch_view rolls out by itself what it is given as arrays."""
    model = make(num_channels=3)
    images = make_images(model.config)
    with torch.no_grad(), record_attention(model) as maps:
        model(images)
    stacked = torch.stack([weights[1] for weights in maps.values()])  # (layer, head, token, token)
    image = images[1].numpy()
    rollout = attention_rollout(maps)[1].numpy()
    shown = patch_view(image, stacked.numpy(), patch_size=PATCH)
    assert shown.table == patch_view(image, stacked.numpy(), patch_size=PATCH, rollout=rollout).table
    plain = attention_rollout(maps, identity=False)[1].numpy()
    assert shown.table != patch_view(image, stacked.numpy(), patch_size=PATCH, rollout=plain).table


# ------------------------------------------------------------------------------------- bad calls


def image(*shape, dtype=torch.float64):
    return torch.ones(shape, dtype=dtype)


def config(**options):
    return ViTConfig(**({"image_size": 15, "patch_size": 3, "num_classes": 5} | options))


def grey(images):
    return make(image_size=15, num_channels=1)(images)


def see(images):
    return make(num_channels=3)(images)


def roll(maps):
    return attention_rollout(maps)


V, T = ValueError, TypeError

# The call as text: its error, and what that must say.
BAD_CALLS = [
    ("image_to_patches(image(2, 3, 15, 20), 3)", V, ["15 by 20 pixels", "patches of 3 by 3", "crop or pad"]),
    ("image_to_patches(image(2, 3, 16, 21), 3)", V, ["16 by 21 pixels"]),
    ("image_to_patches(image(2, 3, 0, 21), 3)", V, ["0 by 21 pixels"]),
    ("image_to_patches(image(2, 14, 21, 3), 7)", V, ["21 by 3 pixels", "images.permute(0, 3, 1, 2)"]),
    ("image_to_patches(image(2, 14, 21, 1), 7)", V, ["21 by 1 pixels", "images.permute(0, 3, 1, 2)"]),
    ("image_to_patches(image(2, 14, 21, 4), 7)", V, ["21 by 4 pixels", "images.permute(0, 3, 1, 2)"]),
    ("image_to_patches(image(2, 3, 21, 0), 3)", V, ["21 by 0 pixels"]),
    ("image_to_patches(image(3, 15, 21), 3)", V, ["(batch, channel, height, width)", "(3, 15, 21)"]),
    ("image_to_patches(image(2, 3, 15, 21).numpy(), 3)", V, ["got ndarray"]),
    ("image_to_patches(image(2, 3, 15, 21), 0)", V, ["patch_size must be an int of at least 1", "got 0"]),
    ("image_to_patches(image(2, 3, 15, 21), 1.5)", V, ["patch_size must be an int", "1.5"]),
    ("config(image_size=28, patch_size=5)", V, ["28 by 28 pixels", "patches of 5 by 5", "divides both"]),
    ("config(image_size=(15, 16))", V, ["15 by 16 pixels"]),
    ("config(image_size=(15, 15, 3))", V, ["image_size is (15, 15, 3)", "(height, width)"]),
    ("config(image_size='15')", V, ["height must be an int", "'15'"]),
    ("config(patch_size=0)", V, ["patch_size must be an int of at least 1"]),
    ("config(num_classes=0)", V, ["num_classes must be an int of at least 1"]),
    ("config(num_channels=0)", V, ["num_channels must be an int of at least 1"]),
    ("config(num_blocks=0)", V, ["num_blocks must be an int of at least 1"]),
    ("config(readout='pool')", V, ["'pool'", "'mlp' or 'linear'"]),
    ("ViT(config(d_model=10, num_heads=3))", V, ["num_heads must divide d_model"]),
    ("see(image(2, 3, 15, 21, dtype=torch.uint8))", T, ["torch.uint8", "images.float() / 255"]),
    ("see(image(2, 3, 15, 21, dtype=torch.float32))", T, ["images torch.float32", "tensor.to(dtype)"]),
    ("see(image(2, 3, 15, 21).numpy())", T, ["images must be a floating-point tensor", "ndarray"]),
    ("see(image(2, 3, 15, 21) * 255)", V, ["images hold 255", "0 to 1", "divide bytes"]),
    ("see(image(2, 3, 15, 21) * math.nan)", V, ["NaN or infinity", "standard deviation of zero"]),
    ("see(image(2, 3, 15, 21) / 0)", V, ["NaN or infinity"]),
    ("see(image(2, 3, 15, 21) * -255)", V, ["images hold 255", "0 to 1", "divide bytes"]),
    ("see(image(2, 3, 15, 21) * 32.5)", V, ["images hold 32.5"]),
    ("see(image(2, 15, 21, 3))", V, ["(2, 15, 21, 3)", "channels stand last", "images.permute(0, 3, 1, 2)"]),
    ("see(image(15, 21, 3))", V, ["images.permute(2, 0, 1)[None]"]),
    ("see(image(3, 15, 21))", V, ["One image needs the axis of the batch", "images[None]"]),
    ("see(image(2, 1, 15, 21))", V, ["images of 3 channels", "num_channels=1"]),
    ("see(image(2, 3, 18, 21))", V, ["positions for 15 by 21 pixels", "image_size=(18, 21)"]),
    ("see(image(2, 3, 21, 15))", V, ["positions for 15 by 21 pixels", "image_size=(21, 15)"]),
    ("see(image(2, 945))", V, ["(3, 15, 21) after the batch", "(2, 945)"]),
    ("see(image(0, 3, 15, 21))", V, ["(0, 3, 15, 21)", "no image in it"]),
    ("grey(image(2, 15, 15))", V, ["axis of their one channel", "images[:, None]"]),
    ("roll({})", V, ["maps is empty", "with record_attention(model) as maps:"]),
    ("roll([image(2, 3, 5, 5)])", T, ["what record_attention gives", "list"]),
    ("roll({'a': [image(2, 3, 5, 5)] * 2})", V, ["'a' was called 2 times", "anew for each pass"]),
    ("roll({'a': image(2, 3, 5, 7)})", V, ["'a'", "(2, 3, 5, 7)", "an encoder's maps"]),
    ("roll({'a': image(2, 3, 5, 5), 'b': image(2, 3, 7, 7)})", V, ["'b'", "(2, 3, 7, 7)", "(2, 3, 5, 5)"]),
    ("roll({'a': image(2, 3, 5, 5), 'b': image(7, 3, 5, 5)})", V, ["'b'", "(7, 3, 5, 5)", "(2, 3, 5, 5)"]),
    ("roll({'a': image(3, 5, 5)})", V, ["(3, 5, 5)", "(batch, head, position, position)"]),
    ("roll({'a': image(2, 3, 5, 5).numpy()})", T, ["floating-point tensor", "ndarray"]),
]


@pytest.mark.usefixtures("unchecked_shapes")
@each_bad_call(BAD_CALLS)
def test_bad_calls_speak_to_a_learner(call, error, words):
    assert_refused(call, error, words, globals(), "vit.py", "attention.py")


@pytest.mark.parametrize("shape", [(2, 14, 21, 5), (2, 14, 20, 5), (2, 13, 21, 3), (2, 14, 20, 3)])
def test_channels_are_suspected_to_stand_last_only_where_that_would_do(shape):
    with pytest.raises(ValueError, match="cannot be cut") as raised:
        image_to_patches(image(*shape), 7)
    assert "permute" not in str(raised.value)


@pytest.mark.usefixtures("unchecked_shapes")
def test_grey_images_of_another_size_get_no_hint_that_would_not_help():
    with pytest.raises(ValueError, match="images must be of shape") as raised:
        grey(image(2, 14, 13))
    assert "images[:, None]" not in str(raised.value)


def test_one_bad_pixel_is_enough_and_standardised_pixels_are_welcome():
    model, images = make(), make_images()
    assert model(3 * (images - 2)).isfinite().all()
    images[1, 5, 7, 11] = math.nan
    with pytest.raises(ValueError, match="NaN or infinity"):
        model(images)


@pytest.mark.usefixtures("unchecked_shapes")
@pytest.mark.parametrize("shape", [(2, 15, 21), (2, 3), (7,), (2, 11, 18, 21), (1, 2, 3, 15, 21)], ids=str)
def test_no_hint_is_given_where_none_fits(shape):
    with pytest.raises(ValueError, match="after the batch") as raised:
        see(image(*shape))
    assert str(raised.value).endswith(f"got {shape}")


def test_pixels_of_32_are_let_through():
    assert see(image(2, 3, 15, 21) * 32).isfinite().all()


def test_rollout_stays_where_the_maps_are():
    """PyTorch's "meta" is a device without numbers: enough to see where a tensor is."""
    assert attention_rollout({"a": torch.empty(2, 3, 5, 5, device="meta")}).device.type == "meta"


def test_maps_of_several_numbers_of_heads_roll_out():
    weights = torch.rand(2, 3, 5, 5).softmax(dim=-1)
    assert_close(
        attention_rollout({"a": weights, "b": weights.mean(dim=1, keepdim=True)}),
        attention_rollout({"a": weights, "b": weights}),
    )
