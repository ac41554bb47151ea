"""Beam search, on a tiny vocabulary whose every sentence can be scored."""

import itertools
import math
from types import SimpleNamespace

import pytest
import torch

from course_lib.decoding import beam_search, beam_steps, greedy_decode, length_penalty
from course_lib.models.seq2seq import Seq2Seq, Seq2SeqConfig
from course_lib.models.transformer import Transformer, TransformerConfig

BOS, EOS, VOCAB, LONGEST = 1, 2, 5, 4


class TableModel:
    """Logits from a table with a row for each prefix, so that every word depends on all words before it."""

    training = False

    def __init__(self, seed, sentences=3, spread=1.5):
        generator = torch.Generator().manual_seed(seed)
        self.table = spread * torch.randn(sentences, VOCAB ** (LONGEST + 1), VOCAB, generator=generator)
        self.table[..., :2] = -math.inf  # neither <pad> nor <bos> is ever written

    def encode(self, source, lengths):
        return SimpleNamespace(
            sentence=source[:, 0], initial_state=torch.zeros(len(source), dtype=torch.long)
        )

    def step(self, token, state, memory):
        prefix = state * VOCAB + token
        return self.table[memory.sentence, prefix % self.table.shape[1]], prefix


def all_sentences(model, sentence, alpha):
    """Score every translation of at most LONGEST tokens by hand, the best first."""
    scored = []
    for length in range(1, LONGEST + 1):
        for tokens in itertools.product(range(2, VOCAB), repeat=length):
            if EOS in tokens[:-1] or (tokens[-1] != EOS and length < LONGEST):
                continue
            total, prefix = 0.0, 0
            for before, token in zip((BOS, *tokens), tokens, strict=False):
                prefix = prefix * VOCAB + before
                total += (
                    model.table[sentence, prefix % model.table.shape[1]].log_softmax(dim=-1)[token].item()
                )
            ended = tokens[-1] == EOS
            words = list(tokens[:-1] if ended else tokens)
            scored.append((total / ((5 + length) / 6) ** alpha, words))
    return sorted(scored, reverse=True)


SOURCE, LENGTHS = torch.arange(3)[:, None], torch.ones(3, dtype=torch.long)


def search(model, beam_size, alpha=0.6, rows=slice(None)):
    return beam_search(model, SOURCE[rows], LENGTHS[rows], BOS, EOS, beam_size, alpha, LONGEST)


@pytest.mark.parametrize("alpha", [0.0, 0.6, 1.5])
@pytest.mark.parametrize("seed", range(5))
def test_widest_beam_finds_the_best_of_all(seed, alpha):
    model = TableModel(seed)
    for sentence, hypotheses in enumerate(search(model, 81, alpha)):
        score, tokens = all_sentences(model, sentence, alpha)[0]
        assert hypotheses[0].tokens == tokens
        assert hypotheses[0].score == pytest.approx(score, abs=1e-5)


@pytest.mark.parametrize("alpha", [0.0, 0.6, 1.5])
def test_wider_beam_never_has_a_lower_score_and_often_a_higher_one(alpha):
    better = 0
    for seed in range(40):
        model = TableModel(seed)
        narrow = [hypotheses[0].score for hypotheses in search(model, 1, alpha)]
        for beam_size in range(2, 9):
            wide = [hypotheses[0].score for hypotheses in search(model, beam_size, alpha)]
            assert all(w >= n for w, n in zip(wide, narrow, strict=True)), (seed, beam_size)
            better += sum(w > n for w, n in zip(wide, narrow, strict=True))
            narrow = wide
    assert better > 10


@pytest.mark.parametrize("seed", range(20))
def test_beam_of_one_is_greedy(seed):
    model = TableModel(seed)
    greedy = greedy_decode(model, SOURCE, LENGTHS, BOS, EOS, LONGEST)
    assert [hypotheses[0].tokens for hypotheses in search(model, 1)] == greedy


def test_scores_are_what_they_say():
    model = TableModel(0)
    for sentence, hypotheses in enumerate(search(model, 4)):
        by_hand = {tuple(tokens): score for score, tokens in all_sentences(model, sentence, 0.6)}
        assert len({tuple(one.tokens) for one in hypotheses}) == len(hypotheses)
        for one in hypotheses:
            assert one.score == pytest.approx(by_hand[tuple(one.tokens)], abs=1e-5)
            length = len(one.tokens) + one.ended
            assert one.score == pytest.approx(one.log_probability / length_penalty(length, 0.6))
        assert [one.score for one in hypotheses] == sorted((one.score for one in hypotheses), reverse=True)


def test_company_changes_nothing():
    model = TableModel(0)
    together = search(model, 3)
    for row in range(3):
        assert search(model, 3, rows=slice(row, row + 1)) == together[row : row + 1]


def test_length_penalty_by_hand_and_its_use():
    assert length_penalty(1, 0.6) == 1 and length_penalty(7, 1.0) == 2 and length_penalty(9, 0.0) == 1
    assert length_penalty(0, 1.0) == 5 / 6 and length_penalty(1, 100.0) == 1  # the least and the most
    lengths = []
    for alpha in (0.0, 3.0):
        lengths.append(
            sum(
                len(hypotheses[0].tokens)
                for seed in range(20)
                for hypotheses in search(TableModel(seed), 9, alpha)
            )
        )
    assert lengths[0] < lengths[1]


def test_steps_tell_how_the_hypotheses_came_about():
    model = TableModel(0)
    hypotheses, steps = beam_steps(model, SOURCE[:1], BOS, EOS, beam_size=3, max_length=LONGEST)
    assert hypotheses == search(model, 3)[0]
    assert steps[0].parents[0] == 0
    rebuilt = []
    for last, step in enumerate(steps):
        for slot, token in enumerate(step.tokens):
            if token == EOS and step.parents[slot] >= 0:
                words, here = [], slot
                for earlier in reversed(steps[: last + 1]):
                    words.append(earlier.tokens[here])
                    here = earlier.parents[here]
                rebuilt.append(words[:0:-1])
    assert sorted(rebuilt) == sorted(one.tokens for one in hypotheses if one.ended)


@pytest.mark.parametrize("seed", range(10))
def test_a_wider_beam_does_all_that_a_narrower_one_does(seed):
    """Slot i chooses among what slots 1 to i held, whoever comes after it."""
    model = TableModel(seed)
    followed = [beam_steps(model, SOURCE[:1], BOS, EOS, size, 0.6, LONGEST)[1] for size in range(1, 7)]
    for size, (narrow, wide) in enumerate(itertools.pairwise(followed), start=1):
        for one, other in zip(narrow, wide, strict=False):  # the wider one may be done before
            for name in ("parents", "tokens", "log_probabilities"):
                assert getattr(other, name)[:size] == getattr(one, name)


def test_an_empty_slot_has_no_parent():
    _, steps = beam_steps(TableModel(0), SOURCE[:1], BOS, EOS, 5, max_length=LONGEST)
    for step in steps:
        empty = [total == -math.inf for total in step.log_probabilities]
        assert [parent == -1 for parent in step.parents] == empty
    assert steps[0].parents == [0, 0, 0, -1, -1]  # three tokens can follow <bos>


class Sure(TableModel):
    """As good as sure to end at once, or at the second step."""

    def step(self, token, state, memory):
        logits, prefix = super().step(token, state, memory)
        logits = logits.clone()
        logits[:, EOS] = 20 if state[0] > 0 or self.at_once else -20
        return logits, prefix


@pytest.mark.parametrize("at_once, count", [(True, 1), (False, 2)])
@pytest.mark.parametrize("alpha", [0.0, 0.6])
def test_the_search_stops_when_nothing_can_get_better(at_once, count, alpha):
    model = Sure(0)
    model.at_once = at_once
    _, steps = beam_steps(model, SOURCE[:1], BOS, EOS, 4, alpha, max_length=50)
    assert len(steps) == count


def test_logits_in_half_precision_are_summed_in_single():
    exact, rounded = TableModel(0), TableModel(0)
    rounded.table = rounded.table.bfloat16()
    exact.table = rounded.table.float()
    assert search(rounded, 4) == search(exact, 4)


@pytest.mark.parametrize("make", ["seq2seq", "transformer"])
def test_models_search_with_their_cache(make):
    """A beam's best translation, fed whole, has the score that the search came to by steps."""
    torch.manual_seed(0)
    if make == "seq2seq":
        model = Seq2Seq(Seq2SeqConfig(17, 19, 13, 22, 11)).eval()
    else:
        model = Transformer(TransformerConfig(17, 19, 22, 2, 3, 23)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)
    source, lengths = torch.randint(3, 17, (3, 7)), torch.tensor([7, 3, 5])
    source[torch.arange(7) >= lengths[:, None]] = 0
    for row, hypotheses in enumerate(beam_search(model, source, lengths, BOS, EOS, 5, max_length=11)):
        for one in hypotheses:
            target = torch.tensor([[BOS, *one.tokens, *([EOS] if one.ended else [])]])
            with torch.no_grad():
                logits = model(source[row : row + 1, : lengths[row]], target[:, :-1], lengths[row : row + 1])
            found = logits.log_softmax(dim=-1).gather(2, target[:, 1:, None]).sum().item()
            assert one.log_probability == pytest.approx(found, abs=1e-3)
    followed, _ = beam_steps(model, source[:1], BOS, EOS, 5, max_length=11)
    alone = beam_search(model, source[:1], lengths[:1], BOS, EOS, 5, max_length=11)[0]
    assert followed == alone


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"beam_size": 0}, ValueError, "at least one slot"),
        ({"beam_size": 2.5}, TypeError, "beam_size must be a whole number"),
        ({"alpha": -1.0}, ValueError, "alpha is -1.0"),
        ({"max_length": 0}, ValueError, "at least one token"),
        ({"eos_id": 99}, ValueError, "scores the ids 0 to 4"),
    ],
)
def test_bad_calls_speak_to_a_learner(unchecked_shapes, options, error, words):
    usual = {"bos_id": BOS, "eos_id": EOS, "max_length": LONGEST}
    with pytest.raises(error, match=words):
        beam_search(TableModel(0), SOURCE, LENGTHS, **(usual | options))
    with pytest.raises(ValueError, match=r"one sentence, got shape \(3, 1\)"):
        beam_steps(TableModel(0), SOURCE, BOS, EOS)


@pytest.mark.usefixtures("unchecked_shapes")
@pytest.mark.parametrize("wrong", ["source", "lengths"])
def test_what_holds_no_whole_numbers_is_called_by_its_name(wrong):
    given = {"source": SOURCE, "lengths": LENGTHS}
    with pytest.raises(TypeError, match=f"^{wrong} must be a tensor of whole numbers"):
        beam_search(TableModel(0), **given | {wrong: given[wrong].double()}, bos_id=BOS, eos_id=EOS)
