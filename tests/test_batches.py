"""Padded batches of sentence pairs, and the loss on one."""

import numpy as np
import pytest
import torch
from torch import nn

from course_lib.batches import PairBatches, WindowBatches, next_token_loss, translation_loss
from tests.bad_calls import assert_refused, each_bad_call


def make_pairs(count, seed=0):
    """Pairs of random length whose first source token is the pair's own number."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(2, 30, (count, 2), generator=generator).tolist()
    return [[i] + [7] * (m - 1) for i, (m, _) in enumerate(lengths)], [[1] + [9] * n for _, n in lengths]


def numbers(batch):
    return batch.source[:, 0].tolist()


def test_every_pair_comes_once_an_epoch_with_its_partner_and_true_lengths():
    sources, targets = make_pairs(211)
    batches = PairBatches(sources, targets, batch_size=13, seed=0, pad_id=5)
    epoch = list(batches)
    assert len(epoch) == len(batches) == 17
    assert sorted(n for batch in epoch for n in numbers(batch)) == list(range(211))
    for batch in epoch:
        for row, n in enumerate(numbers(batch)):
            source, target = batch.source[row].tolist(), batch.target[row].tolist()
            assert source == sources[n] + [5] * (len(source) - len(sources[n]))
            assert target == targets[n] + [5] * (len(target) - len(targets[n]))
            assert batch.source_lengths[row] == len(sources[n])
            assert batch.target_lengths[row] == len(targets[n])


def test_batches_of_like_length_waste_less_on_padding_than_random_ones():
    sources, targets = make_pairs(997)

    def padding(batches):
        return sum((batch.target == 0).sum().item() for batch in batches)

    bucketed = padding(PairBatches(sources, targets, batch_size=16, seed=0))
    order = torch.randperm(997, generator=torch.Generator().manual_seed(0)).tolist()
    random = sum(
        sum(max(len(targets[i]) for i in group) - len(targets[i]) for i in group)
        for group in (order[first : first + 16] for first in range(0, 997, 16))
    )
    assert bucketed < random / 5


def test_same_seed_same_epochs_and_each_epoch_differs():
    pairs = make_pairs(101)

    def epochs(seed):
        batches = PairBatches(*pairs, batch_size=7, seed=seed)
        return [[numbers(batch) for batch in batches] for _ in range(2)]

    first, second = epochs(3)
    assert epochs(3) == [first, second]
    assert first != second
    assert epochs(4)[0] != first


def test_without_a_seed_the_order_is_by_length_and_always_the_same():
    batches = PairBatches(*make_pairs(101), batch_size=7)
    widths = [batch.target.shape[1] for batch in batches]
    assert widths == sorted(widths)
    assert [numbers(batch) for batch in batches] == [numbers(batch) for batch in batches]


def test_shuffling_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    list(PairBatches(*make_pairs(31), batch_size=7, seed=0))
    assert torch.equal(torch.get_rng_state(), before)


# ----------------------------------------------------------------------------------------------- the loss


class ConstantModel(nn.Module):
    """Scores every position by the same trainable logits."""

    def __init__(self, logits):
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(logits))

    def forward(self, source, target, source_lengths):
        return self.logits.expand(*target.shape, -1)


def test_translation_loss_counts_each_real_next_token_once():
    logits = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    [batch] = PairBatches([[4], [4, 5]], [[1, 6, 2], [1, 5, 4, 6, 2]])
    loss, tokens = translation_loss(ConstantModel(logits), batch)
    log_probabilities = torch.tensor(logits).log_softmax(-1)
    wanted = [6, 2, 5, 4, 6, 2]  # all but <bos>, without padding
    assert tokens == 6
    torch.testing.assert_close(loss, -log_probabilities[wanted].mean())


def test_label_smoothing_acts_in_training_mode_only():
    [batch] = PairBatches([[4]], [[1, 6, 2]])
    model = ConstantModel([0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    plain = translation_loss(model, batch)[0]
    smoothed = translation_loss(model, batch, label_smoothing=0.1)[0]
    spread = -model.logits.log_softmax(-1).mean()
    torch.testing.assert_close(smoothed, 0.9 * plain + 0.1 * spread)
    torch.testing.assert_close(translation_loss(model.eval(), batch, label_smoothing=0.1)[0], plain)


# --------------------------------------------------------------------------------------------- bad calls

V, T = ValueError, TypeError


def loss(batch=None, **options):
    if batch is None:
        [batch] = PairBatches([[4], [4, 5]], [[1, 6, 2], [1, 5, 4, 2]])
    return translation_loss(ConstantModel([0.0] * 7), batch, **options)


def one(**changes):
    [batch] = PairBatches([[4, 5]], [[1, 6, 2]])
    return batch._replace(**changes)


def of_target(ids, **options):
    [batch] = PairBatches([[4]], [ids], **options)
    return batch


# The call as text, its error, and what that must say.
BAD_CALLS = [
    ("PairBatches([[1], [2]], [[1]])", V, ["2 sources for 1 targets"]),
    ("PairBatches([], [])", V, ["0 sources for 0 targets"]),
    ("PairBatches([[1], []], [[1], [2]])", V, ["source 1 has no tokens"]),
    ("PairBatches([[1]], [torch.tensor([], dtype=torch.int64)])", V, ["target 0 has no tokens"]),
    ("PairBatches([['the', 'cat']], [[1]])", T, ["source 0", "['the', 'cat']", "Vocabulary.encode"]),
    ("PairBatches(['the cat'], [[1]])", T, ["source 0", "'the cat'", "Vocabulary.encode"]),
    ("PairBatches('the cat', 'le chat')", T, ["sources must be a list of sentences", "'the cat'"]),
    ("PairBatches(None, [[1]])", T, ["sources must be a list of sentences", "None"]),
    ("PairBatches([1, 2], [[1], [2]])", T, ["source 0", "list of token ids", "got 1"]),
    ("PairBatches([[1.5]], [[1]])", T, ["source 0", "whole numbers", "[1.5]"]),
    ("PairBatches([[1]], [[True]])", T, ["target 0", "whole numbers", "[True]"]),
    ("PairBatches([[[1]]], [[1]])", T, ["source 0", "list of token ids", "[[1]]"]),
    ("PairBatches([torch.ones(3)], [[1]])", T, ["source 0", "whole numbers", "tensor("]),
    ("PairBatches([np.ones((2, 3), dtype=int)], [[1]])", T, ["source 0", "list of token ids", "array("]),
    ("PairBatches([[1]], [[1]], batch_size=0)", V, ["batch_size is 0"]),
    ("PairBatches([[1]], [[1]], batch_size=2.5)", T, ["batch_size must be a whole number", "2.5"]),
    ("PairBatches([[1]], [[1]], batch_size=None)", T, ["batch_size must be a whole number", "None"]),
    ("PairBatches([[1]], [[1]], seed=0.5)", T, ["seed must be a whole number", "0.5"]),
    ("PairBatches([[1]], [[1]], seed='a')", T, ["seed must be a whole number", "'a'"]),
    ("PairBatches([[1]], [[1]], pad_id=None)", T, ["pad_id must be a whole number", "None"]),
    # the loss
    ("loss(([[4]], [[1, 6, 2]]))", T, ["must be a PairBatch", "got tuple"]),
    ("loss(torch.ones(2, 3))", T, ["must be a PairBatch", "got Tensor"]),
    ("loss(label_smoothing=1.5)", V, ["label_smoothing", "from 0 to 1", "1.5"]),
    ("loss(label_smoothing=NAN)", V, ["label_smoothing", "from 0 to 1", "nan"]),
    ("loss(pad_id=5)", V, ["pad_id=5", "the same pad_id"]),
    ("loss(one(target_lengths=torch.tensor([2])))", V, ["1 tokens are to be predicted", "by pad_id=0 2"]),
    ("loss(of_target([1]))", V, ["0 tokens are to be predicted", "at least one", "bos=True"]),
    ("loss(of_target([1, 0, 2]))", V, ["2 tokens are to be predicted", "by pad_id=0 1"]),
    ("loss(of_target([1, 7, 2]))", V, ["token id 7", "ids 0 to 6", "vocabulary"]),
    ("loss(of_target([1, -3, 2]))", V, ["token id -3", "ids 0 to 6", "vocabulary"]),
]
NAN = float("nan")


@pytest.mark.usefixtures("unchecked_shapes")
@each_bad_call(BAD_CALLS)
def test_bad_calls_say_what_was_wrong(call, error, words):
    assert_refused(call, error, words, globals(), "batches.py")


@pytest.mark.usefixtures("unchecked_shapes")
@pytest.mark.parametrize("kind", [torch.tensor, np.array, tuple])
def test_sentences_may_be_tensors_arrays_and_tuples(kind):
    [expected] = PairBatches([[4], [5, 6]], [[1, 2], [1, 5, 2]], seed=3)
    sentences = [[kind(ids) for ids in side] for side in ([[4], [5, 6]], [[1, 2], [1, 5, 2]])]
    [batch] = PairBatches(*sentences, batch_size=np.int64(64), seed=np.int64(3))
    torch.testing.assert_close(tuple(batch), tuple(expected))


# ------------------------------------------------------------------------------- windows of a text

TEXT = list(range(1009))  # a token is its own place


def test_windows_in_order_predict_every_token_but_the_first_once():
    windows = WindowBatches(TEXT, context_length=13, batch_size=7)
    batches = list(windows)
    assert len(batches) == len(windows) == 11
    rows = torch.cat(batches)
    assert rows.shape == (1008 // 13, 14)
    assert rows[:, 1:].flatten().tolist() == TEXT[1 : 1 + 13 * len(rows)]
    assert torch.equal(rows[1:, 0], rows[:-1, -1]), "what one window predicts last the next one reads first"


def test_shuffled_windows_are_pieces_of_the_text_and_predict_no_token_twice():
    windows = WindowBatches(TEXT, context_length=13, batch_size=7, seed=3)
    starts = []
    for _ in range(200):
        batches = list(windows)
        assert len(batches) == len(windows)
        rows = torch.cat(batches)
        assert torch.equal(rows, rows[:, :1] + torch.arange(14))
        predicted = rows[:, 1:].flatten().tolist()
        assert len(set(predicted)) == len(predicted) > 1008 - 2 * 13
        assert rows[:, 0].tolist() != sorted(rows[:, 0].tolist())
        starts.append(rows.min().item())
    assert set(starts) == set(range(13)), "each place in a window comes to be the first"


def test_same_seed_same_windows():
    def epochs(seed):
        windows = WindowBatches(torch.tensor(TEXT), context_length=13, seed=seed)
        return [torch.cat(list(windows)).tolist() for _ in range(2)]

    assert epochs(1) == epochs(1)
    assert epochs(1) != epochs(2)
    assert epochs(1)[0] != epochs(1)[1]


@pytest.mark.parametrize("seed", [None, 0])
@pytest.mark.parametrize("length", [14, 15, 26, 27, 28])
def test_a_short_text_still_gives_windows(seed, length):
    rows = torch.cat(list(WindowBatches(TEXT[:length], context_length=13, seed=seed)))
    assert torch.equal(rows, rows[:, :1] + torch.arange(14))
    assert len(rows) == (length - 1) // 13 if seed is None else len(rows) >= 1


class Parrot(nn.Module):
    """Says with certainty that the next token is the one it reads, plus one."""

    def forward(self, tokens):
        return 50.0 * nn.functional.one_hot((tokens + 1) % 17, 17)


def test_next_token_loss_scores_the_token_after_each():
    up, same = torch.tensor([[3, 4, 5, 6, 7]]), torch.tensor([[3, 3, 3, 3, 3]])
    assert next_token_loss(Parrot(), up) == (pytest.approx(0.0), 4)
    assert next_token_loss(Parrot(), same)[0].item() == pytest.approx(50.0)  # the control
    both = next_token_loss(Parrot(), torch.cat([up, same]))
    assert both[0].item() == pytest.approx(25.0) and both[1] == 8


BAD_WINDOWS = [
    ("WindowBatches(TEXT[:13], 13)", V, ["13 tokens, but a window needs 14"]),
    ("WindowBatches(TEXT, 0)", V, ["context_length is 0"]),
    ("WindowBatches(TEXT, 13, batch_size=True)", V, ["batch_size is True"]),
    ("WindowBatches(TEXT, 13, seed='a')", T, ["seed must be a whole number"]),
    ("WindowBatches('a text', 3)", T, ["number its tokens"]),
    ("WindowBatches([], 3)", V, ["no tokens"]),
    ("next_token_loss(Parrot(), [[1, 2]])", T, ["as WindowBatches gives them"]),
    ("next_token_loss(Parrot(), torch.ones(2, 3))", T, ["torch.float32 of shape"]),
    ("next_token_loss(Parrot(), torch.tensor([1, 2]))", T, ["of shape (2,)"]),
    ("next_token_loss(Parrot(), torch.tensor([[1]]))", V, ["one to predict"]),
]


@pytest.mark.usefixtures("unchecked_shapes")
@each_bad_call(BAD_WINDOWS)
def test_bad_windows_say_what_is_wrong(call, error, words):
    assert_refused(call, error, words, globals(), "batches.py")
