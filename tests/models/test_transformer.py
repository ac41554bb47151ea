"""The Transformer: against torch.nn.Transformer, cached steps against the teacher-forced pass, bad calls."""

import copy
import dataclasses

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from course_lib.attention import MultiHeadAttention, causal_mask, record_attention
from course_lib.models.transformer import Transformer, TransformerConfig
from tests.torch_twins import copy_block, shake

BATCH, SOURCE, TARGET, HEADS, D_K, D_FF, BLOCKS = 3, 7, 13, 2, 11, 23, 5
SOURCE_VOCAB, TARGET_VOCAB, D_MODEL = 17, 19, HEADS * D_K
LENGTHS = torch.tensor([7, 3, 5])


def make(**options):
    torch.manual_seed(0)
    sizes = {"d_model": D_MODEL, "num_heads": HEADS, "num_blocks": BLOCKS, "d_ff": D_FF, "dropout": 0.0}
    model = Transformer(TransformerConfig(SOURCE_VOCAB, TARGET_VOCAB, **(sizes | options)))
    return shake(model).double().eval()


def make_batch(seed=1):
    generator = torch.Generator().manual_seed(seed)
    source = torch.randint(3, SOURCE_VOCAB, (BATCH, SOURCE), generator=generator)
    source[torch.arange(SOURCE) >= LENGTHS[:, None]] = 0
    return source, torch.randint(3, TARGET_VOCAB, (BATCH, TARGET), generator=generator)


def torch_twin(model):
    """PyTorch's Transformer with the parameters of ours: blocks and last norms, without embeddings."""
    norm_first = model.config.norm_first
    twin = nn.Transformer(
        D_MODEL,
        HEADS,
        BLOCKS,
        BLOCKS,
        D_FF,
        0.0,
        batch_first=True,
        norm_first=norm_first,
        dtype=torch.float64,
    )
    for ours, theirs in zip(model.encoder_blocks, twin.encoder.layers, strict=True):
        copy_block(ours, theirs)
    for ours, theirs in zip(model.decoder_blocks, twin.decoder.layers, strict=True):
        copy_block(ours, theirs)
    if norm_first:
        twin.encoder.norm.load_state_dict(model.encoder_norm.state_dict())
        twin.decoder.norm.load_state_dict(model.decoder_norm.state_dict())
    else:  # the paper's stacks end with a block, whose last norm is enough; PyTorch adds one more
        twin.encoder.norm = twin.decoder.norm = None
    return twin.eval()


@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize("positions", ["sinusoidal", "learned"])
def test_equals_torch_forward_and_backward(norm_first, positions):
    model = make(norm_first=norm_first, positions=positions)
    twin = torch_twin(model)
    source, target = make_batch()
    blocked = torch.arange(SOURCE) >= LENGTHS[:, None]

    def reference():
        scale = D_MODEL**0.5
        if positions == "learned":
            codes = model.source_positions.weight[:SOURCE], model.target_positions.weight[:TARGET]
        else:
            codes = model.position_code[:SOURCE], model.position_code[:TARGET]
        states = twin(
            scale * model.source_embedding(source) + codes[0],
            scale * model.target_embedding(target) + codes[1],
            tgt_mask=~causal_mask(TARGET),
            src_key_padding_mask=blocked,
            memory_key_padding_mask=blocked,
        )
        return model.output(states)

    mine, theirs = model(source, target, LENGTHS), reference()
    assert_close(mine, theirs, atol=1e-10, rtol=1e-10)
    shared = [model.source_embedding.weight, model.target_embedding.weight, model.output.bias]
    for a, b in zip(
        torch.autograd.grad(
            mine.square().sum(), [*shared, model.encoder_blocks[0].feed_forward.expand.weight]
        ),
        torch.autograd.grad(theirs.square().sum(), [*shared, twin.encoder.layers[0].linear1.weight]),
        strict=True,
    ):
        assert_close(a, b, atol=1e-8, rtol=1e-8)
    assert not torch.allclose(model(source, target, LENGTHS.clamp(max=5)), theirs)  # lengths count


@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize("positions", ["sinusoidal", "learned"])
def test_cached_steps_equal_the_teacher_forced_pass(norm_first, positions):
    model = make(norm_first=norm_first, positions=positions)
    source, target = make_batch()
    with torch.no_grad():
        whole = model(source, target, LENGTHS)
        memory = model.encode(source, LENGTHS)
        state = memory.initial_state
        for position in range(TARGET):
            logits, state = model.step(target[:, position], state, memory)
            assert_close(logits, whole[:, position], atol=1e-10, rtol=1e-10)
            assert state.shape == (BATCH, BLOCKS, 2, HEADS, position + 1, D_K)


def test_forgotten_offset_would_be_noticed(monkeypatch):
    model = make()
    source, target = make_batch()
    usual = model._embed
    monkeypatch.setattr(model, "_embed", lambda tokens, name, offset=0: usual(tokens, name))
    with torch.no_grad():
        memory = model.encode(source, LENGTHS)
        _, state = model.step(target[:, 0], memory.initial_state, memory)
        logits, _ = model.step(target[:, 1], state, memory)
        assert not torch.allclose(logits, model(source, target, LENGTHS)[:, 1])


def test_future_does_not_leak_and_reaches_itself():
    model = make()
    source, target = make_batch()
    changed = target.clone()
    changed[:, 3] = (changed[:, 3] - 2) % (TARGET_VOCAB - 3) + 3
    moved = (model(source, changed, LENGTHS) - model(source, target, LENGTHS)).abs().amax(dim=(0, 2))
    assert (moved[:3] == 0).all() and (moved[3:] > 1e-6).all()


def test_padding_and_company_change_nothing():
    model = make()
    source, target = make_batch()
    together = model(source, target, LENGTHS)
    for row, length in enumerate(LENGTHS.tolist()):
        alone = model(source[row : row + 1, :length], target[row : row + 1])
        assert_close(together[row : row + 1], alone)
    assert_close(model(nn.functional.pad(source, (0, 4)), target, LENGTHS), together)
    assert not torch.allclose(model(source, target, LENGTHS.clamp(max=2))[0], together[0])


def test_tying():
    model = make(tied_output=False)
    assert model.output.weight is not model.target_embedding.weight
    model = make()
    assert model.output.weight is model.target_embedding.weight
    assert model.source_embedding is not model.target_embedding
    shared = Transformer(TransformerConfig(17, 17, d_model=8, d_ff=8, shared_embedding=True))
    assert shared.source_embedding is shared.target_embedding
    assert sum(parameter is shared.output.weight for parameter in shared.parameters()) == 1


def test_record_names_each_map_and_matches_the_steps():
    model = make()
    source, target = make_batch()
    with torch.no_grad(), record_attention(model) as maps:
        model(source, target, LENGTHS)
    assert maps["encoder_blocks.1.attention"].shape == (BATCH, HEADS, SOURCE, SOURCE)
    assert maps["decoder_blocks.0.self_attention"].shape == (BATCH, HEADS, TARGET, TARGET)
    cross = maps["decoder_blocks.1.cross_attention"]
    assert cross.shape == (BATCH, HEADS, TARGET, SOURCE)
    assert (cross[1, :, :, 3:] == 0).all()
    with torch.no_grad(), record_attention(model) as stepped:
        memory = model.encode(source, LENGTHS)
        state = memory.initial_state
        for position in range(TARGET):
            _, state = model.step(target[:, position], state, memory)
    assert_close(torch.cat(stepped["decoder_blocks.1.cross_attention"], dim=2), cross)


def test_the_target_may_fill_the_positions_and_no_more():
    model = make(max_length=TARGET)
    source, target = make_batch()
    memory = model.encode(source, LENGTHS)
    whole, state = model.decode(target, memory), memory.initial_state
    for position in range(TARGET):
        logits, state = model.step(target[:, position], state, memory)
    assert_close(logits, whole[:, -1])
    too_long = "^target has 14 positions, but the model has codes for 13"
    with pytest.raises(ValueError, match=too_long):
        model.step(target[:, 0], state, memory)
    with pytest.raises(ValueError, match=too_long):
        model.decode(torch.cat([target, target[:, :1]], dim=1), memory)


def test_every_size_may_be_one():
    least = {"d_model": 1, "num_heads": 1, "num_blocks": 1, "d_ff": 1, "max_length": 1}
    model = Transformer(TransformerConfig(1, 1, positions="learned", pad_id=1, **least)).eval()
    only = torch.zeros(1, 1, dtype=torch.int64)
    assert model.decode(only, model.encode(only)).shape == (1, 1, 1)


def test_memory_and_state_of_a_model_with_other_blocks_are_refused():
    model, other = make(), make(num_blocks=BLOCKS - 1)
    source, target = make_batch()
    mine, foreign = model.encode(source, LENGTHS), other.encode(source, LENGTHS)
    for call, words in (
        (lambda: model.decode(target, foreign), f"memory was made for {BLOCKS - 1} decoder blocks"),
        (lambda: model.step(target[:, 0], mine.initial_state, foreign), f"this model has {BLOCKS}"),
        (lambda: model.step(target[:, 0], foreign.initial_state, mine), "state of"),
    ):
        with pytest.raises(ValueError, match=words):
            call()


def test_embeddings_begin_with_a_variance_of_one_in_d_model():
    torch.manual_seed(0)
    model = Transformer(TransformerConfig(503, 701, d_model=100, tied_output=False))
    for embedding in (model.source_embedding, model.target_embedding):
        assert abs(embedding.weight.std() * 10 - 1) < 0.02


def test_first_logits_are_modest():
    """The scale of the embedding and its tying do not make a fresh model sure of anything."""
    torch.manual_seed(0)
    model = Transformer(TransformerConfig(SOURCE_VOCAB, 1009)).eval()
    source, target = make_batch()
    assert 0.3 < model(source, target, LENGTHS).std() < 3


def test_defaults_and_that_a_configuration_stays():
    """Weights that were stored for the defaults must still fit."""
    config = TransformerConfig(17, 19)
    assert config == TransformerConfig(
        17, 19, 256, 4, 3, 1024, 0.1, 256, True, "sinusoidal", True, False, pad_id=0
    )
    memory = make().encode(make_batch()[0], LENGTHS)
    for given, name in ((config, "num_blocks"), (memory, "states")):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(given, name, 7)


def test_dropout_reaches_every_place_where_it_acts():
    modules = list(make(dropout=0.3).modules())
    shares = [module.p for module in modules if isinstance(module, nn.Dropout)]
    shares += [module.dropout for module in modules if isinstance(module, MultiHeadAttention)]
    assert shares == [0.3] * (1 + 4 * BLOCKS + 6 * BLOCKS)
    model, (source, target) = make(dropout=0.3), make_batch()
    assert torch.equal(model(source, target, LENGTHS), model(source, target, LENGTHS))
    model.train()
    nn.init.zeros_(model.position_code)
    embedded = model._embed(source, "source")
    kept = embedded != 0
    assert 0.6 < kept.double().mean() < 0.8
    assert_close(embedded[kept], (model.source_embedding(source) * D_MODEL**0.5 / 0.7)[kept])


def test_copies_and_state_dict_round_trip():
    model = make()
    source, target = make_batch()
    other = make()
    shake(other)
    other.load_state_dict(model.state_dict())
    for twin in (other, copy.deepcopy(model)):
        assert torch.equal(twin(source, target, LENGTHS), model(source, target, LENGTHS))
    assert "position_code" not in model.state_dict()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda m, s, t: m(s.new_full((1, 300), 4), t[:1]), "source has 300 positions.*codes for 256"),
        (lambda m, s, t: m(s[:1], t.new_full((1, 300), 4)), "target has 300 positions.*codes for 256"),
        (lambda m, s, t: m(s, t), "padded.*lengths is missing"),
        (lambda m, s, t: m(s, t, torch.tensor([7, 0, 5])), "sentence 1 is empty"),
        (lambda m, s, t: m(s, t, torch.tensor([7, 8, 5])), "sentence 1 has length 8"),
        (lambda m, s, t: m(s, t, torch.tensor([7, 3])), r"expected \(3,\)"),
        (lambda m, s, t: m(s + 17, t, LENGTHS), "source holds the token id"),
        (lambda m, s, t: m(s, t - 9, LENGTHS), "target holds the token id -"),
        (lambda m, s, t: m(s, t[:2], LENGTHS), "source holds 3 sentences and target 2"),
        (lambda m, s, t: m(s[:, :0], t, LENGTHS), "at least one token"),
        (lambda m, s, t: TransformerConfig(5, 7, shared_embedding=True), "they have 5 and 7 tokens"),
        (lambda m, s, t: TransformerConfig(5, 7, positions="rotary"), "'sinusoidal' or 'learned'"),
        (lambda m, s, t: Transformer(TransformerConfig(5, 7, 32, 3)), "divide d_model"),
    ],
)
def test_bad_calls_speak_to_a_learner(unchecked_shapes, call, words):
    with pytest.raises(ValueError, match=words):
        call(make(), *make_batch())
