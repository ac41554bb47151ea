"""GPT: against transformers' GPT-2, cached steps against the whole pass, what must not leak."""

import copy
import dataclasses
import math

import pytest
import torch
import transformers
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from course_lib.attention import MultiHeadAttention, record_attention
from course_lib.models.gpt import GPT, GPTConfig
from course_lib.pretrained import load_gpt2
from tests.bad_calls import assert_refused, each_bad_call
from tests.torch_twins import shake
from tests.transformers_twins import their_gpt2

BATCH, LENGTH, CONTEXT, VOCAB, HEADS, D_FF, BLOCKS = 2, 7, 13, 17, 3, 23, 5
D_K = 22  # even for rotary positions, and the double of a prime
D_MODEL = HEADS * D_K
SIZES = {  # vocab, context, heads, d_k, d_ff, blocks
    "small": (17, 13, 3, 22, 23, 5),
    "one block": (19, 11, 5, 7, 3, 1),
    "one head": (23, 17, 1, 29, 31, 2),
    "heads of 64": (29, 7, 2, 64, 37, 3),
}


def make(positions="learned", **options):
    torch.manual_seed(0)
    sizes = {"d_model": D_MODEL, "num_heads": HEADS, "num_blocks": BLOCKS, "d_ff": D_FF, "dropout": 0.0}
    model = GPT(GPTConfig(VOCAB, CONTEXT, positions=positions, **(sizes | options)))
    return shake(model).double().eval()


def make_tokens(length=LENGTH, vocab=VOCAB, seed=1):
    return torch.randint(vocab, (BATCH, length), generator=torch.Generator().manual_seed(seed))


def make_gpt2(vocab, context, heads, d_k, d_ff, blocks, dtype=torch.float64):
    """transformers' GPT-2 with random weights, biases and norms included."""
    torch.manual_seed(0)
    config = GPTConfig(vocab, context, heads * d_k, heads, blocks, d_ff)
    return shake(their_gpt2(config)).to(dtype).eval()


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
def test_logits_and_gradients_equal_gpt2(sizes):
    vocab, context, heads = sizes[:3]
    theirs = make_gpt2(*sizes)
    ours = load_gpt2(theirs.state_dict(), num_heads=heads)
    tokens = make_tokens(context, vocab)
    mine, reference = ours(tokens), theirs(tokens).logits
    assert_close(mine, reference, atol=1e-10, rtol=1e-10)
    wanted = torch.roll(tokens, 3, dims=0)
    F.cross_entropy(mine.flatten(0, 1), wanted.flatten()).backward()
    F.cross_entropy(reference.flatten(0, 1), wanted.flatten()).backward()
    # Gradients are renamed and transposed just as the weights are.
    found = load_gpt2({name: p.grad for name, p in theirs.named_parameters()}, num_heads=heads)
    assert ours.output.weight is ours.embedding.weight
    for (name, a), b in zip(ours.named_parameters(), found.parameters(), strict=True):
        assert_close(a.grad, b.data, atol=1e-10, rtol=1e-8, msg=lambda text, name=name: f"{name}: {text}")
        # The one that must be zero: a key's bias adds the same to all scores of a query.
        assert a.grad.abs().max() > 1e-8 or name.endswith("key_projection.bias")


def test_logits_equal_gpt2_in_float32():
    theirs = make_gpt2(*SIZES["small"], dtype=torch.float32)
    tokens = make_tokens(CONTEXT)
    with torch.no_grad():
        reference = theirs(tokens).logits
        assert reference.std() > 0.5
        assert_close(load_gpt2(theirs.state_dict(), num_heads=HEADS)(tokens), reference, atol=1e-5, rtol=1e-5)


def test_another_gelu_would_be_noticed():
    theirs = make_gpt2(*SIZES["small"])
    ours = load_gpt2(theirs.state_dict(), num_heads=HEADS)
    tokens = make_tokens()
    for block in ours.blocks:
        block.feed_forward.activation = nn.GELU()
    with torch.no_grad():
        assert (ours(tokens) - theirs(tokens).logits).abs().max() > 1e-5


@pytest.mark.parametrize("positions", ["learned", "rotary"])
@pytest.mark.parametrize("pieces", [[1] * CONTEXT, [5, 1, 7], [2, 11], [CONTEXT]], ids=str)
def test_cached_steps_equal_the_whole_pass(positions, pieces):
    model, tokens = make(positions), make_tokens(CONTEXT)
    with torch.no_grad():
        whole = model(tokens)
        state, end = model.initial_state(BATCH), 0
        for new in pieces:
            start, end = end, end + new
            logits, state = model.step(tokens[:, start:end], state)
            assert_close(logits, whole[:, end - 1], atol=1e-10, rtol=1e-10)
            assert state.shape == (BATCH, BLOCKS, 2, HEADS, end, D_K)


def test_the_states_rows_are_the_texts():
    model, tokens = make(), make_tokens()
    rows = torch.tensor([1, 1, 0])
    with torch.no_grad():
        _, state = model.step(tokens[:, :-1], model.initial_state(BATCH))
        logits, _ = model.step(tokens[rows, -1:], state[rows])
        assert_close(logits, model(tokens)[rows, -1])


def test_forgotten_offset_would_be_noticed(monkeypatch):
    model, tokens = make(), make_tokens()
    usual = model._embed
    monkeypatch.setattr(model, "_embed", lambda tokens, offset=0: usual(tokens))
    with torch.no_grad():
        _, state = model.step(tokens[:, :3], model.initial_state(BATCH))
        logits, _ = model.step(tokens[:, 3:4], state)
        assert not torch.allclose(logits, model(tokens)[:, 3])


@pytest.mark.parametrize("positions", ["learned", "rotary"])
def test_the_future_does_not_leak(positions, monkeypatch):
    model, tokens = make(positions), make_tokens()
    changed = tokens.clone()
    changed[:, 3] = (changed[:, 3] + 1) % VOCAB

    def moved():
        return (model(changed) - model(tokens)).abs().amax(dim=(0, 2))

    with torch.no_grad():
        assert (moved()[:3] == 0).all() and (moved()[3:] > 1e-6).all()
        # With a mask that hides nothing the same measure finds the leak.
        monkeypatch.setattr(
            "course_lib.models.gpt.causal_mask", lambda n, device: torch.ones(n, n, dtype=torch.bool)
        )
        assert (moved() > 1e-6).all()


@pytest.mark.parametrize("positions", ["learned", "rotary"])
def test_a_later_loss_teaches_earlier_tokens(positions):
    """The gradient of the loss at position 4 reaches the embeddings of positions 0 to 4, and no later one."""
    model, tokens = make(positions), make_tokens()
    embedded = []
    model.embedding.register_forward_hook(lambda module, inputs, output: embedded.append(output))
    loss = F.cross_entropy(model(tokens)[:, 4], tokens[:, 5])
    (gradient,) = torch.autograd.grad(loss, embedded)
    reached = gradient.abs().amax(dim=(0, 2))
    assert (reached[:5] > 1e-8).all() and (reached[5:] == 0).all()


@pytest.mark.parametrize("positions", ["learned", "rotary"])
def test_order_counts(positions):
    """The last query alone could not tell the order of what it sees, if no positions were marked."""
    model, tokens = make(positions, num_blocks=1), make_tokens()
    shuffled = tokens[:, [2, 0, 1, 4, 5, 3, 6]]
    with torch.no_grad():
        assert (model(tokens) - model(shuffled))[:, -1].abs().max() > 1e-3
        if positions == "learned":
            nn.init.zeros_(model.positions.weight)
            assert_close(model(tokens)[:, -1], model(shuffled)[:, -1])


def test_a_cache_cannot_just_be_cut():
    """Why generation reads its window anew when the context is full.

    Deeper keys know all tokens before them. Without the first token they would be others, also where
    positions are rotary. Only the first block's keys, made of one token each, stay as they are, and only with
    rotary positions, which may be counted from anywhere.
    """
    tokens = make_tokens()
    for positions in ("learned", "rotary"):
        model = make(positions)
        with torch.no_grad():
            _, state = model.step(tokens, model.initial_state(BATCH))
            _, anew = model.step(tokens[:, 1:], model.initial_state(BATCH))
        apart = (state[..., 1:, :] - anew).abs().amax(dim=(0, 2, 3, 4, 5))  # of each block
        assert (apart[1:] > 1e-3).all()
        assert (apart[0] < 1e-12) == (positions == "rotary")


def test_initialisation_is_gpt2s():
    torch.manual_seed(0)
    sizes = {"vocab_size": 503, "n_positions": 211, "n_embd": 128, "n_head": 2, "n_layer": 7, "n_inner": 307}
    theirs = load_gpt2(transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes)).state_dict())
    ours = GPT(theirs.config)
    for (name, a), b in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        if a.std() == 0:
            assert torch.equal(a, b), name  # biases and norms
            continue
        for parameter in (a, b):
            residual = name.endswith(("output_projection.weight", "contract.weight"))
            wanted = 0.02 / math.sqrt(2 * 7) if residual else 0.02
            # The deviation of n numbers is off by 1 / sqrt(2n) of itself.
            assert abs(parameter.std() / wanted - 1) < 5 / math.sqrt(2 * parameter.numel()), name
            assert abs(parameter.mean()) < 5 * wanted / math.sqrt(parameter.numel()), name


def test_a_fresh_model_is_sure_of_nothing():
    torch.manual_seed(0)
    model, tokens = GPT(GPTConfig(101)).eval(), make_tokens(vocab=101)
    loss = F.cross_entropy(model(tokens).flatten(0, 1), torch.roll(tokens, 1).flatten())
    assert abs(loss - math.log(101)) < 0.3


def test_the_head_is_tied_in_copies_too():
    model, tokens = make(), make_tokens()
    other = shake(make())
    other.load_state_dict(model.state_dict())
    for twin in (model, other, copy.deepcopy(model)):
        assert twin.output.weight is twin.embedding.weight
        assert torch.equal(twin(tokens), model(tokens))
    assert sum(parameter is model.output.weight for parameter in model.parameters()) == 1


def test_record_names_each_map():
    model, tokens = make("rotary"), make_tokens()
    with torch.no_grad(), record_attention(model) as maps:
        openly = model(tokens)
    assert sorted(maps) == [f"blocks.{number}.attention" for number in range(BLOCKS)]
    weights = maps["blocks.3.attention"]
    assert weights.shape == (BATCH, HEADS, LENGTH, LENGTH) and weights.triu(1).abs().max() == 0
    assert_close(openly, model(tokens))


def test_dropout_acts_in_training_only():
    model, tokens = make(dropout=0.3), make_tokens()
    assert torch.equal(model(tokens), model(tokens))
    model.train()
    assert not torch.equal(model(tokens), model(tokens))


def test_defaults_and_that_a_configuration_stays():
    """Weights that were stored for the defaults must still fit."""
    config = GPTConfig(17)
    assert config == GPTConfig(17, 256, 256, 4, 4, 1024, 0.1, "learned", "gelu_tanh")
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.num_blocks = 7


def test_dropout_reaches_every_place_where_it_acts():
    modules = list(make(dropout=0.3).modules())
    shares = [module.p for module in modules if isinstance(module, nn.Dropout)]
    shares += [module.dropout for module in modules if isinstance(module, MultiHeadAttention)]
    assert shares == [0.3] * (1 + 4 * BLOCKS)
    model, called = make(dropout=0.3), []
    model.dropout.register_forward_hook(lambda module, given, made: called.append(tuple(made.shape)))
    model(make_tokens())
    assert called == [(BATCH, LENGTH, D_MODEL)]


@pytest.mark.parametrize("positions, d_model", [("learned", 1), ("rotary", 2)])
def test_the_smallest_model_works(positions, d_model):
    model = GPT(GPTConfig(1, 1, d_model, 1, 1, 1, 0.0, positions)).eval()
    tokens = torch.zeros(1, 1, dtype=torch.long)
    assert model(tokens).shape == (1, 1, 1)
    logits, state = model.step(tokens, model.initial_state(1))
    assert_close(logits, model(tokens)[:, 0])
    assert state.shape == (1, 1, 2, 1, 1, d_model)
    assert model.initial_state(0).shape == (0, 1, 2, 1, 0, d_model)


V, T = ValueError, TypeError
BAD_CALLS = [
    ("make()(make_tokens(14))", V, ["the text has 14 tokens", "reads 13 at once"]),
    ("make('rotary')(make_tokens(14))", V, ["the text has 14 tokens", "reads 13 at once"]),
    ("make()(make_tokens(0))", V, ["tokens has shape (2, 0)", "at least one token"]),
    ("make()(make_tokens()[0])", V, ["tokens has shape (7,)", "(batch, position)"]),
    ("make()(make_tokens() + 17)", V, ["token id", "ids 0 to 16"]),
    ("make()(make_tokens() - 17)", V, ["token id -", "ids 0 to 16"]),
    ("make()(make_tokens().double())", T, ["tensor of whole numbers", "float64"]),
    ("make()([[1, 2]])", T, ["tensor of whole numbers", "list"]),
    (
        "make().step(make_tokens(), make().initial_state(3))",
        V,
        ["(3, 5, 2, 3, 0, 22)", "(2, 5, 2, 3, 0, 22)"],
    ),
    ("make().step(make_tokens(), torch.zeros(2, 5))", V, ["state has shape (2, 5)", "initial_state(2)"]),
    ("make().step(make_tokens(1), torch.zeros(2, 5, 2, 3, 13, 22).double())", V, ["the text has 14 tokens"]),
    ("make().step(make_tokens()[:, 0], make().initial_state(2))", V, ["tokens has shape (2,)"]),
    ("GPT({'vocab_size': 17})", T, ["GPTConfig(...)", "dict"]),
    ("GPTConfig(0)", V, ["vocab_size must be an int of at least 1, got 0"]),
    ("GPTConfig(17, num_blocks=2.0)", V, ["num_blocks must be an int of at least 1, got 2.0"]),
    ("GPTConfig(17, dropout=1)", V, ["dropout is a share", "got 1"]),
    ("GPTConfig(17, dropout=-0.1)", V, ["dropout is a share", "got -0.1"]),
    ("GPTConfig(17, dropout=math.nan)", V, ["dropout is a share", "got nan"]),
    ("GPTConfig(17, dropout='0.1')", V, ["dropout is a share", "got '0.1'"]),
    ("GPTConfig(17, positions='sinusoidal')", V, ["choose 'learned' or 'rotary'"]),
    ("make(activation='tanh')", V, ["choose 'relu', 'gelu' or 'gelu_tanh'"]),
    ("make(num_heads=5)", V, ["num_heads must divide d_model"]),
    ("make('rotary', num_heads=2)", V, ["must be even"]),
]


@pytest.mark.usefixtures("unchecked_shapes")
@each_bad_call(BAD_CALLS)
def test_bad_calls_say_what_was_wrong(call, error, words):
    parts = "gpt.py", "seq2seq.py", "layers.py", "attention.py", "positions.py"
    assert_refused(call, error, words, globals(), *parts)
