"""Greedy decoding, on a model whose scores are written down by hand."""

import dataclasses
import math
from types import SimpleNamespace

import pytest
import torch

from course_lib.decoding import beam_search, beam_steps, greedy_decode
from course_lib.models.seq2seq import Seq2Seq, Seq2SeqConfig
from tests.bad_calls import assert_refused, each_bad_call

BOS, EOS, A, B = 1, 2, 3, 4


class ScriptedModel:
    """Says each sentence's script word by word; its state is a dictionary with the number of steps done."""

    training = False

    def __init__(self, scripts):
        self.scripts, self.fed, self.encoded = scripts, [], 0

    def encode(self, source, lengths):
        self.encoded += 1
        return SimpleNamespace(initial_state={"done": 0})

    def step(self, token, state, memory):
        self.fed.append(token.tolist())
        logits = torch.zeros(len(self.scripts), 5)
        for row, script in enumerate(self.scripts):
            logits[row, script[min(state["done"], len(script) - 1)]] = 2.0
        return logits, {"done": state["done"] + 1}


def decode(model, **options):
    rows = len(model.scripts)
    source, lengths = torch.full((rows, 3), A), torch.full((rows,), 3)
    return greedy_decode(model, source, lengths, BOS, EOS, **options)


def test_takes_the_likeliest_token_and_feeds_it_back():
    model = ScriptedModel([[A, B, EOS], [B, B, EOS]])
    assert decode(model) == [[A, B], [B, B]]
    assert model.fed == [[BOS, BOS], [A, B], [B, B]]
    assert model.encoded == 1


def test_a_sentence_that_has_ended_stays_ended_while_others_go_on():
    model = ScriptedModel([[A, EOS, B], [B, A, B, EOS], [EOS, A]])
    assert decode(model) == [[A], [B, A, B], []]
    assert len(model.fed) == 4  # and nobody is asked again once all have ended


def test_stops_at_max_length_without_an_end():
    model = ScriptedModel([[A], [B, EOS]])
    assert decode(model, max_length=3) == [[A, A, A], [B]]
    assert len(model.fed) == 3


class Endless(torch.nn.Module):
    """Never says that a sentence has ended; its state is one number a sentence."""

    def encode(self, source, lengths):
        return SimpleNamespace(initial_state=torch.zeros(len(source)))

    def step(self, token, state, memory):
        assert not torch.is_grad_enabled()
        logits = torch.tensor([0.0, 0.0, -30.0, 2.0, 1.0])
        return logits.expand(len(token), -1), state


def test_what_holds_unless_said_otherwise():
    """100 tokens at most, a beam of 4, alpha 0.6."""
    model, source, lengths = Endless().eval(), torch.full((3, 7), A), torch.tensor([7, 2, 5])
    assert greedy_decode(model, source, lengths, BOS, EOS) == [[A] * 100] * 3
    for hypotheses in beam_search(model, source, lengths, BOS, EOS):
        best = hypotheses[0]
        assert best.tokens == [A] * 100 and not best.ended and len(hypotheses) == 4
        assert best.score == pytest.approx(best.log_probability / ((5 + 100) / 6) ** 0.6)
    hypotheses, steps = beam_steps(model, source[:1], BOS, EOS)
    assert len(steps) == 100 and [len(step.tokens) for step in steps] == [4] * 100
    assert hypotheses == beam_search(model, source[:1], torch.tensor([7]), BOS, EOS)[0]


def test_what_decoding_gives_cannot_be_changed():
    hypotheses, steps = beam_steps(Endless().eval(), torch.full((1, 7), A), BOS, EOS, max_length=3)
    for given in (hypotheses[0], steps[0]):
        with pytest.raises(dataclasses.FrozenInstanceError):
            given.tokens = []


class Plain:
    """A model that knows of no training mode, and whose <eos> is token 0; it says A or ends."""

    def encode(self, source, lengths):
        return SimpleNamespace(initial_state=torch.zeros(len(source)))

    def step(self, token, state, memory):
        return torch.tensor([[1.0, -math.inf, -math.inf, 2.0]]).expand(len(token), -1), state


def test_a_model_needs_no_training_mode_and_may_end_with_token_zero():
    source, lengths = torch.full((1, 7), A), torch.tensor([7])
    assert greedy_decode(Plain(), source, lengths, BOS, 0, max_length=1) == [[A]]
    (hypotheses,) = beam_search(Plain(), source, lengths, BOS, 0, beam_size=5, max_length=2)
    # Three of the five slots stay empty at first, and an empty slot finds nothing.
    assert sorted(one.tokens for one in hypotheses) == [[], [A], [A, A]]
    assert all(math.isfinite(one.score) for one in hypotheses)


def test_batched_cached_decoding_equals_one_sentence_at_a_time_with_the_full_pass():
    torch.manual_seed(0)
    model = Seq2Seq(Seq2SeqConfig(13, 11, embedding_size=17, hidden_size=38, attention_size=23)).eval()
    for parameter in model.parameters():
        parameter.data.mul_(4)  # larger weights, so that the sentences differ
    generator = torch.Generator().manual_seed(3)
    lengths = torch.tensor([7, 2, 5])
    source = torch.randint(4, 13, (3, 7), generator=generator)
    batched = greedy_decode(model, source, lengths, BOS, EOS, max_length=19)
    for row, length in enumerate(lengths):
        tokens = [BOS]
        while len(tokens) <= 19:
            logits = model(source[row : row + 1, :length], torch.tensor([tokens]), lengths[row : row + 1])
            best = int(logits[0, -1].argmax())
            if best == EOS:
                break
            tokens.append(best)
        assert batched[row] == tokens[1:]
    assert len({tuple(sentence) for sentence in batched}) == 3


class Untrained(ScriptedModel):
    """What a model says whose weights are not numbers."""

    def step(self, token, state, memory):
        logits, state = super().step(token, state, memory)
        logits[-1, 3] = float("nan")
        return logits, state


def greedy(model=None, source=None, lengths=None, bos_id=BOS, eos_id=EOS, **options):
    """greedy_decode on a small translator, with what is given in the place of what is right."""
    source = torch.full((3, 5), A) if source is None else source
    lengths = torch.tensor([5, 2, 4]) if lengths is None else lengths
    return greedy_decode(small() if model is None else model, source, lengths, bos_id, eos_id, **options)


def small():
    return Seq2Seq(Seq2SeqConfig(13, 11, embedding_size=7, hidden_size=6, attention_size=5)).eval()


V, T = ValueError, TypeError

# The call as text, its error, and what that must say.
BAD_CALLS = [
    ("decode(ScriptedModel([[A, EOS]]), max_length=0)", V, ["max_length is 0"]),
    ("greedy(max_length=2.5)", T, ["max_length must be a whole number", "2.5"]),
    ("greedy(max_length=None)", T, ["max_length must be a whole number", "None"]),
    ("greedy(max_length=True)", T, ["max_length must be a whole number", "True"]),
    ("greedy(small().train())", V, ["call model.eval()"]),
    ("greedy(torch.nn.Linear(3, 5).eval())", T, ["encode and step", "got Linear"]),
    ("greedy(Seq2Seq)", T, ["encode and step", "got Seq2Seq"]),
    ("greedy(torch.ones(3, 5), small())", T, ["encode and step", "got Tensor"]),
    ("greedy(bos_id='<bos>')", T, ["bos_id must be a whole number", "'<bos>'"]),
    ("greedy(bos_id=1.0)", T, ["bos_id must be a whole number", "1.0"]),
    ("greedy(eos_id=None)", T, ["eos_id must be a whole number", "None"]),
    ("greedy(eos_id=99)", V, ["eos_id is 99", "ids 0 to 10", "vocabulary"]),
    ("greedy(eos_id=11)", V, ["eos_id is 11", "ids 0 to 10"]),
    ("greedy(eos_id=-1)", V, ["eos_id is -1", "ids 0 to 10"]),
    ("greedy(bos_id=99)", V, ["token id 99", "ids 0 to 10"]),
    ("greedy(bos_id=-1)", V, ["token id -1", "ids 0 to 10"]),
    ("greedy(source=[[A] * 5] * 3)", T, ["source must be a tensor", "got list"]),
    ("greedy(source=torch.full((3, 5), 4.0))", T, ["source must be a tensor of whole", "torch.float32"]),
    ("greedy(source=torch.full((0, 5), A), lengths=torch.tensor([], dtype=int))", V, ["(0, 5)"]),
    ("greedy(lengths=[5, 2, 4])", T, ["lengths must be a tensor", "got list", "torch.tensor"]),
    ("decode(Untrained([[A, EOS], [A, EOS]]))", V, ["logits hold NaN at step 0"]),
]


@pytest.mark.usefixtures("unchecked_shapes")
@each_bad_call(BAD_CALLS)
def test_bad_calls_say_what_was_wrong(call, error, words):
    assert_refused(call, error, words, globals(), "decoding.py", "seq2seq.py")
