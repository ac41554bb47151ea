"""The recurrent translator: against torch's own GRU cell, against itself step by step, and in batches."""

import dataclasses

import pytest
import torch
from torch import nn

from course_lib.attention import record_attention
from course_lib.models.seq2seq import Seq2Seq, Seq2SeqConfig, Seq2SeqMemory
from tests.bad_calls import assert_refused, each_bad_call

BATCH, SOURCE, TARGET = 3, 7, 5
SOURCE_VOCAB, TARGET_VOCAB, EMBEDDING, HIDDEN, ATTENTION = 13, 11, 17, 38, 23
LENGTHS = torch.tensor([7, 2, 5])
KINDS = [(attention, both) for attention in (True, False) for both in (True, False)]


def make_model(attention=True, bidirectional=True, **options):
    torch.manual_seed(1)
    config = Seq2SeqConfig(
        SOURCE_VOCAB,
        TARGET_VOCAB,
        embedding_size=EMBEDDING,
        hidden_size=HIDDEN,
        attention_size=ATTENTION,
        attention=attention,
        bidirectional=bidirectional,
        **options,
    )
    return Seq2Seq(config).eval()


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(2)
    source = torch.randint(4, SOURCE_VOCAB, (BATCH, SOURCE), generator=generator)
    for row, length in enumerate(LENGTHS):
        source[row, length:] = 0
    target = torch.randint(4, TARGET_VOCAB, (BATCH, TARGET), generator=generator)
    target[:, 0] = 1
    return source, target


@pytest.mark.parametrize(("attention", "bidirectional"), KINDS)
def test_logits_have_a_score_for_each_word_at_each_position(batch, attention, bidirectional):
    model = make_model(attention, bidirectional)
    assert model(*batch, LENGTHS).shape == (BATCH, TARGET, TARGET_VOCAB)


@pytest.mark.parametrize(("attention", "bidirectional"), KINDS)
def test_cached_steps_equal_the_teacher_forced_pass(batch, attention, bidirectional):
    model = make_model(attention, bidirectional)
    source, target = batch
    expected = model(source, target, LENGTHS)
    memory = model.encode(source, LENGTHS)
    state = memory.initial_state
    for position in range(TARGET):
        logits, state = model.step(target[:, position], state, memory)
        torch.testing.assert_close(logits, expected[:, position], atol=1e-5, rtol=0)
    # Another last token must not give the same scores, or the comparison above would show nothing.
    other, _ = model.step((target[:, -1] + 1) % TARGET_VOCAB, state, memory)
    assert (other - expected[:, -1]).abs().max() > 1e-3


@pytest.mark.parametrize(("attention", "bidirectional"), KINDS)
def test_a_sentence_gives_the_same_alone_and_in_a_padded_batch(batch, attention, bidirectional):
    model = make_model(attention, bidirectional)
    source, target = batch
    together = model(source, target, LENGTHS)
    for row, length in enumerate(LENGTHS):
        alone = model(source[row : row + 1, :length], target[row : row + 1], LENGTHS[row : row + 1])
        torch.testing.assert_close(together[row : row + 1], alone, atol=1e-5, rtol=0)


def test_a_batch_may_be_wider_than_its_longest_sentence(batch):
    model = make_model()
    source, target = batch
    wider = nn.functional.pad(source, (0, 4))
    torch.testing.assert_close(model(wider, target, LENGTHS), model(source, target, LENGTHS))
    assert model.encode(wider, LENGTHS).states.shape == (BATCH, SOURCE + 4, HIDDEN)


def test_tokens_and_lengths_may_be_whole_numbers_of_32_bits(batch):
    model = make_model()
    source, target = batch
    half = model(source.int(), target.int(), LENGTHS.int())
    assert torch.equal(half, model(source, target, LENGTHS))


@pytest.mark.parametrize(("attention", "bidirectional"), KINDS)
def test_padding_is_never_read_and_real_words_are(batch, attention, bidirectional):
    model = make_model(attention, bidirectional)
    source, target = batch
    before = model(source, target, LENGTHS)
    padding_changed, word_changed = source.clone(), source.clone()
    padding_changed[1, 2:] = 9
    word_changed[1, 1] = 4 if source[1, 1] != 4 else 5
    torch.testing.assert_close(model(padding_changed, target, LENGTHS), before, atol=0, rtol=0)
    assert (model(word_changed, target, LENGTHS)[1] - before[1]).abs().max() > 1e-4


def test_a_later_target_token_changes_no_earlier_logits(batch):
    model = make_model()
    source, target = batch
    before = model(source, target, LENGTHS)
    target[:, 3] = 4 + (target[:, 3] - 3) % (TARGET_VOCAB - 4)
    after = model(source, target, LENGTHS)
    torch.testing.assert_close(after[:, :3], before[:, :3], atol=0, rtol=0)
    assert (after[:, 3] - before[:, 3]).abs().amax(-1).min() > 1e-4


def test_without_attention_the_initial_state_is_all_the_decoder_gets(batch):
    source, _ = batch
    memory = make_model(attention=False).encode(source, LENGTHS)
    assert memory.states is None and memory.projected_states is None and memory.mask is None
    assert memory.initial_state.shape == (BATCH, HIDDEN)
    assert make_model(attention=True).encode(source, LENGTHS).states.shape == (BATCH, SOURCE, HIDDEN)


@pytest.mark.parametrize("attention", [True, False])
def test_decoder_step_equals_torch_gru_cell_with_the_same_weights(batch, attention):
    model = make_model(attention)
    source, target = batch
    cell = nn.GRUCell(EMBEDDING + HIDDEN * attention, HIDDEN)
    memory = model.encode(source, LENGTHS)
    embedded = model.target_embedding(target[:, 0])
    with torch.no_grad():
        from_context = [model.from_context.weight] if attention else []
        cell.weight_ih.copy_(torch.cat([model.from_token.weight, *from_context], dim=1))
        cell.bias_ih.copy_(model.from_token.bias)
        cell.weight_hh.copy_(model.from_state.weight)
        cell.bias_hh.copy_(model.from_state.bias)
    state, context = model.decoder_step(model.from_token(embedded), memory.initial_state, memory)
    inputs = torch.cat([embedded, context], dim=1) if attention else embedded
    torch.testing.assert_close(state, cell(inputs, memory.initial_state), atol=1e-6, rtol=0)


@pytest.mark.parametrize("bidirectional", [True, False])
def test_initial_state_is_made_of_the_last_state_of_each_direction(batch, bidirectional):
    model = make_model(bidirectional=bidirectional)
    memory = model.encode(batch[0], LENGTHS)
    for row, length in enumerate(LENGTHS):
        states, _ = model.encoder(model.source_embedding(batch[0][row, :length]))
        last = states[-1]  # forwards it ends at the last word, backwards at the first
        if bidirectional:
            last = torch.cat([states[-1, : HIDDEN // 2], states[0, HIDDEN // 2 :]])
        expected = torch.tanh(model.initial_state.weight @ last + model.initial_state.bias)
        torch.testing.assert_close(memory.initial_state[row], expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("attention", [True, False])
def test_logits_are_the_formula(batch, attention):
    model = make_model(attention)
    memory = model.encode(batch[0], LENGTHS)
    embedded = model.target_embedding(batch[1][:, 0])
    state, context = model.decoder_step(model.from_token(embedded), memory.initial_state, memory)
    features = torch.cat([state, embedded] + ([context] if attention else []), dim=1)
    hidden = torch.tanh(features @ model.readout.weight.T + model.readout.bias)
    expected = hidden @ model.target_embedding.weight.T + model.output.bias
    torch.testing.assert_close(model(*batch, LENGTHS)[:, 0], expected, atol=1e-5, rtol=0)


def test_context_is_the_weighted_mean_of_the_encoder_states(batch):
    model = make_model()
    memory = model.encode(batch[0], LENGTHS)
    query = memory.initial_state
    token_part = model.from_token(model.target_embedding(batch[1][:, 0]))
    _, context = model.decoder_step(token_part, query, memory)
    attention = model.attention
    for row, length in enumerate(LENGTHS):
        states = memory.states[row, :length]
        hidden = torch.tanh(attention.query_projection(query[row]) + attention.key_projection(states))
        weights = attention.score_projection(hidden).squeeze(-1).softmax(dim=0)
        torch.testing.assert_close(context[row], weights @ states, atol=1e-6, rtol=0)


def test_key_projections_are_computed_once_a_sentence(batch):
    model = make_model()
    calls = []
    model.attention.key_projection.register_forward_hook(lambda *_: calls.append("key"))
    model.attention.query_projection.register_forward_hook(lambda *_: calls.append("query"))
    model(*batch, LENGTHS)
    assert calls == ["key"] + ["query"] * TARGET


def test_attention_weights_are_recorded_for_each_step_and_spare_the_padding(batch):
    model = make_model()
    with record_attention(model) as maps:
        model(*batch, LENGTHS)
    weights = torch.cat(maps["attention"], dim=-2)
    assert weights.shape == (BATCH, 1, TARGET, SOURCE)
    assert (weights[1, :, :, 2:] == 0).all() and (weights[1, :, :, :2] > 0).all()


def test_tied_output_shares_its_weight_with_the_embedding():
    tied, untied = make_model(tied_output=True), make_model(tied_output=False)
    assert tied.output.weight is tied.target_embedding.weight
    assert untied.output.weight is not untied.target_embedding.weight
    count = [sum(p.numel() for p in model.parameters()) for model in (tied, untied)]
    assert count[1] - count[0] == TARGET_VOCAB * EMBEDDING


def test_dropout_acts_in_training_only(batch):
    model = make_model(dropout=0.5)
    evaluated = model(*batch, LENGTHS)
    torch.testing.assert_close(evaluated, model(*batch, LENGTHS), atol=0, rtol=0)
    model.train()
    assert (model(*batch, LENGTHS) - evaluated).abs().max() > 1e-3


@pytest.mark.parametrize("attention", [True, False])
def test_every_parameter_gets_a_gradient(batch, attention):
    model = make_model(attention)
    model(*batch, LENGTHS).logsumexp(-1).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


def test_defaults_and_that_a_configuration_stays():
    """Weights that were stored for the defaults must still fit."""
    defaults = Seq2SeqConfig(13, 11)
    assert defaults == Seq2SeqConfig(13, 11, 256, 512, 256, True, True, True, 0.0)
    memory = make_model().encode(torch.full((3, 7), 4), LENGTHS)
    for given, name in ((defaults, "hidden_size"), (memory, "initial_state")):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(given, name, 6)


def test_the_smallest_model_works():
    model = Seq2Seq(Seq2SeqConfig(1, 1, 1, 1, 1, bidirectional=False)).eval()
    tokens = torch.zeros(1, 1, dtype=torch.long)
    assert model(tokens, tokens, torch.tensor([1])).shape == (1, 1, 1)


def test_embeddings_begin_so_that_the_first_logits_are_modest():
    torch.manual_seed(0)
    model = Seq2Seq(Seq2SeqConfig(503, 701, 101, 38, 23))
    for embedding in (model.source_embedding, model.target_embedding):
        assert abs(embedding.weight.std() * 101**0.5 - 1) < 0.02


def test_dropout_acts_on_embeddings_states_and_the_readout(batch):
    """With seven of eight numbers dropped, each place that is passed by is seen."""
    model, seen = make_model(dropout=0.875).train(), []
    model.dropout.register_forward_hook(lambda module, given, made: seen.append(tuple(given[0].shape)))
    source, target = batch
    model(source, target, LENGTHS)
    assert seen == [
        (BATCH, SOURCE, EMBEDDING),
        (BATCH, SOURCE, HIDDEN),
        (BATCH, TARGET, EMBEDDING),
        (BATCH, TARGET, EMBEDDING),  # before the output, which is as wide as an embedding
    ]
    assert model.dropout.p == 0.875
    seen.clear()
    memory = model.encode(source, LENGTHS)
    model.step(target[:, 0], memory.initial_state, memory)
    assert seen[2:] == [(BATCH, EMBEDDING)] * 2


@pytest.mark.usefixtures("unchecked_shapes")
def test_errors_name_what_is_wrong(batch):
    model = make_model()
    source, target = batch
    with pytest.raises(ValueError, match=r"sentence 1 is empty \(length 0\)"):
        model(source, target, torch.tensor([7, 0, 5]))
    with pytest.raises(ValueError, match="sentence 2 has length 8, but the batch is padded to 7"):
        model(source, target, torch.tensor([7, 2, 8]))
    with pytest.raises(ValueError, match=r"lengths has shape \(2,\); expected \(3,\)"):
        model(source, target, torch.tensor([7, 2]))
    with pytest.raises(ValueError, match=r"source holds the token id 13, .* 0 to 12"):
        model(source.clamp(min=SOURCE_VOCAB), target, LENGTHS)
    with pytest.raises(ValueError, match=r"target holds the token id -1, .* 0 to 10"):
        model(source, target.clamp(max=-1), LENGTHS)
    with pytest.raises(ValueError, match="source holds 3 sentences and target 2"):
        model(source, target[:2], LENGTHS)
    with pytest.raises(ValueError, match=r"source has shape \(7,\)"):
        model(source[0], target, LENGTHS)


def config(**changes):
    return Seq2SeqConfig(**{"source_vocab_size": 13, "target_vocab_size": 11, "hidden_size": 6} | changes)


def call(source=None, target=None, lengths=LENGTHS):
    """A pass of a small model, with what is given in the place of what is right."""
    source = torch.full((3, 7), 4) if source is None else source
    return make_model()(source, torch.full((3, 5), 4) if target is None else target, lengths)


def step(token=None, state=None, memory=None, attention=True):
    model = make_model(attention)
    right = model.encode(torch.full((3, 7), 4), LENGTHS)
    token = torch.tensor([1, 1, 1]) if token is None else token
    state = right.initial_state if state is None else state
    return model.step(token, state, right if memory is None else memory)


def of_another_model():
    """What a model without attention hands over."""
    return Seq2SeqMemory(torch.ones(3, 38))


NAN = float("nan")
V, T = ValueError, TypeError

# The call as text, its error, and what that must say.
BAD_CALLS = [
    ("config(hidden_size=7)", V, ["hidden_size is 7", "even number"]),
    ("config(source_vocab_size=0)", V, ["source_vocab_size must be an int of at least 1", "got 0"]),
    ("config(target_vocab_size=-3)", V, ["target_vocab_size must be an int of at least 1", "got -3"]),
    ("config(target_vocab_size=['le', 'chat'])", V, ["target_vocab_size must be an int", "['le', 'chat']"]),
    ("config(embedding_size=0)", V, ["embedding_size must be an int of at least 1", "got 0"]),
    ("config(hidden_size=6.0)", V, ["hidden_size must be an int", "6.0"]),
    ("config(hidden_size='6')", V, ["hidden_size must be an int", "'6'"]),
    ("config(attention_size=None)", V, ["attention_size must be an int", "None"]),
    ("config(attention='no')", V, ["attention must be True or False", "'no'"]),
    ("config(bidirectional=2)", V, ["bidirectional must be True or False", "2"]),
    ("config(dropout=1.0)", V, ["dropout", "from 0 to below 1", "1.0"]),
    ("config(dropout=NAN)", V, ["dropout", "from 0 to below 1", "nan"]),
    ("config(dropout='0.1')", V, ["dropout", "from 0 to below 1", "'0.1'"]),
    ("Seq2Seq(13)", T, ["Seq2SeqConfig", "got int"]),
    ("Seq2Seq({'source_vocab_size': 13})", T, ["Seq2SeqConfig", "got dict"]),
    ("call(source=torch.ones(3, 7))", T, ["source must be a tensor of whole numbers", "torch.float32"]),
    ("call(source=torch.ones(3, 7).numpy())", T, ["source must be a tensor", "got ndarray"]),
    ("call(source=[[4, 5]])", T, ["source must be a tensor", "got list"]),
    ("call(source=torch.ones(3, 7) > 0)", T, ["source must be a tensor of whole numbers", "torch.bool"]),
    ("call(source=torch.ones(3, 0, dtype=int))", V, ["source has shape (3, 0)", "at least one token"]),
    ("call(source=LENGTHS)", V, ["source has shape (3,)", "(batch, position)"]),
    ("call(target=torch.tensor([[0, 11]] * 3))", V, ["target holds the token id 11", "0 to 10"]),
    ("call(target=torch.tensor([[-1, 4]] * 3))", V, ["target holds the token id -1", "0 to 10"]),
    ("call(target=torch.ones(3, 5))", T, ["target must be a tensor of whole numbers", "torch.float32"]),
    ("call(target=torch.ones(3, 0, dtype=int))", V, ["target has shape (3, 0)", "at least one token"]),
    ("call(target=LENGTHS, lengths=torch.full((3, 5), 4))", V, ["lengths has shape (3, 5)"]),
    ("call(lengths=[7, 2, 5])", T, ["lengths must be a tensor", "got list", "torch.tensor"]),
    ("call(lengths=LENGTHS.numpy())", T, ["lengths must be a tensor", "got ndarray"]),
    ("call(lengths=None)", T, ["lengths must be a tensor", "got NoneType"]),
    ("call(lengths=LENGTHS + 0.5)", T, ["lengths must be a tensor of whole numbers", "torch.float32"]),
    ("call(lengths=LENGTHS > 2)", T, ["lengths must be a tensor of whole numbers", "torch.bool"]),
    ("step(token=5)", T, ["token must be a tensor", "got int"]),
    ("step(token=torch.ones(3))", T, ["token must be a tensor of whole numbers", "torch.float32"]),
    ("step(token=torch.ones(3, 2, dtype=int))", V, ["token has shape (3, 2)", "(batch)"]),
    ("step(token=torch.tensor([1, 1, 99]))", V, ["token holds the token id 99", "0 to 10"]),
    ("step(token=torch.tensor([1]))", V, ["memory holds 3 sentences", "got (1,)"]),
    ("step(state=torch.ones(2, 38))", V, ["memory holds 3 sentences", "(3, 38)", "(2, 38)"]),
    ("step(state=torch.ones(1, 38), attention=False)", V, ["memory holds 3 sentences", "(1, 38)"]),
    ("step(state=torch.ones(3, 19))", V, ["(3, 38)", "(3, 19)"]),
    ("step(memory=torch.ones(3, 38))", T, ["memory comes from encode", "Tensor and Tensor"]),
    ("step(state=[0.0] * 38)", T, ["memory comes from encode", "got Tensor, list and Seq2SeqMemory"]),
    ("step(memory=of_another_model())", V, ["no states to attend to", "same model"]),
]


@pytest.mark.usefixtures("unchecked_shapes")
@each_bad_call(BAD_CALLS)
def test_bad_calls_say_what_was_wrong(call, error, words):
    assert_refused(call, error, words, globals(), "seq2seq.py")
