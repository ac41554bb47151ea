"""Metrics, against numbers worked out by hand."""

import math

import pytest
import torch

from course_lib.metrics import (
    alignment_error_rate,
    alignment_from_weights,
    attention_mass,
    corpus_bleu,
    perplexity,
    pointing_accuracy,
)
from tests.bad_calls import assert_refused, each_bad_call


def test_bleu_of_a_perfect_translation_is_100_and_of_a_foreign_one_is_0():
    references = ["the cat sat on the mat .", "a dog barks at the moon ."]
    assert corpus_bleu(references, references, tokenized=True).score == pytest.approx(100)
    assert corpus_bleu(["ein ganz anderer satz"] * 2, references, tokenized=True).score == 0


def test_bleu_by_hand():
    # n-grams found: 6 of 7, 4 of 6, 3 of 5, 2 of 4; both have 7 tokens, so there is no brevity penalty.
    score = corpus_bleu(
        ["the cat sat on the red mat"], ["the cat sat on the mat today"], tokenized=True
    ).score
    assert score == pytest.approx(100 * (6 / 7 * 4 / 6 * 3 / 5 * 2 / 4) ** 0.25)


def test_bleu_punishes_translations_that_are_too_short():
    # Every n-gram is found; 5 tokens stand against 8.
    score = corpus_bleu(["the cat sat on the"], ["the cat sat on the mat all day"], tokenized=True).score
    assert score == pytest.approx(100 * math.exp(1 - 8 / 5))


def test_bleu_is_of_the_corpus_not_a_mean_of_sentences():
    hypotheses = ["a b c d e f", "a b c d x y"]
    references = ["a b c d e f", "a b c d e f"]
    # Found in both sentences together: 10 of 12, 8 of 10, 6 of 8, 4 of 6.
    expected = 100 * (10 / 12 * 8 / 10 * 6 / 8 * 4 / 6) ** 0.25
    assert corpus_bleu(hypotheses, references, tokenized=True).score == pytest.approx(expected)


def test_bleu_signature_says_how_it_was_tokenized_and_cased():
    plain = corpus_bleu(["A man walks his dog."], ["A man walks his dog."])
    assert "tok:13a" in plain.signature and "case:mixed" in plain.signature
    tokenized = corpus_bleu(["a man walks ."], ["a man walks ."], tokenized=True, lowercase=True)
    assert "tok:none" in tokenized.signature and "case:lc" in tokenized.signature
    upper = ["A MAN WALKS HIS DOG."]
    assert corpus_bleu(upper, ["a man walks his dog."], lowercase=True).score == pytest.approx(100)
    assert corpus_bleu(upper, ["a man walks his dog."]).score < 50


@pytest.mark.usefixtures("unchecked_shapes")
def test_bleu_errors():
    with pytest.raises(ValueError, match="2 hypotheses for 1 references"):
        corpus_bleu(["a", "b"], ["a"])
    with pytest.raises(ValueError, match="empty"):
        corpus_bleu([], [])
    with pytest.raises(TypeError, match=r"hypotheses must be a list of strings.*join"):
        corpus_bleu([["a", "b"]], ["a b"])
    with pytest.raises(TypeError, match="references must be a list of strings"):
        corpus_bleu(["a b"], "a b")


def test_alignment_from_weights_links_each_query_to_its_largest_key():
    weights = torch.tensor(
        [[0.1, 0.7, 0.2], [0.5, 0.3, 0.2], [0.0, 0.1, 0.9], [0.2, 0.5, 0.3], [0.0, 0.0, 0.0]]
    )
    assert alignment_from_weights(weights) == {(0, 1), (1, 0), (2, 2), (3, 1)}


@pytest.mark.usefixtures("unchecked_shapes")
def test_alignment_from_weights_errors():
    with pytest.raises(ValueError, match=r"weights has shape \(1, 5, 3\)"):
        alignment_from_weights(torch.ones(1, 5, 3))
    with pytest.raises(ValueError, match=r"weights has shape \(5, 0\)"):
        alignment_from_weights(torch.ones(5, 0))


def test_alignment_error_rate_by_hand():
    sure = [{(0, 0), (1, 2)}]
    possible = [{(2, 1)}]
    # A has 3 links, S has 2; A and S share 1, A and P (which includes S) share 2.
    predicted = [{(0, 0), (2, 1), (1, 1)}]
    assert alignment_error_rate(predicted, sure, possible) == pytest.approx(1 - (1 + 2) / (3 + 2))
    # Without possible links the third one is simply wrong: 1 - 2 * 1 / 5.
    assert alignment_error_rate(predicted, sure) == pytest.approx(1 - 2 / 5)
    assert alignment_error_rate(sure, sure) == 0
    assert alignment_error_rate([{(0, 0), (1, 2), (2, 1)}], sure, possible) == 0
    assert alignment_error_rate([{(5, 5)}], sure) == 1


def test_alignment_error_rate_sums_counts_over_sentences():
    predicted = [{(0, 0)}, {(0, 1), (1, 1), (2, 1)}]
    sure = [{(0, 0)}, {(0, 0), (1, 1), (2, 2)}]
    # 2 of 4 predicted links are right, of 4 gold ones: 1 - 4/8, not the mean of 0 and 2/3.
    assert alignment_error_rate(predicted, sure) == pytest.approx(0.5)


def test_alignment_error_rate_of_swapped_axes_is_not_that_of_right_ones():
    gold = [frozenset({(0, 1), (1, 2), (2, 0)})]
    weights = torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
    assert alignment_error_rate([alignment_from_weights(weights)], gold) == 0
    assert alignment_error_rate([alignment_from_weights(weights.T)], gold) == 1


@pytest.mark.usefixtures("unchecked_shapes")
def test_alignment_error_rate_errors():
    with pytest.raises(ValueError, match="2 predicted for 1 sure"):
        alignment_error_rate([set(), set()], [set()])
    with pytest.raises(ValueError, match="0/0"):
        alignment_error_rate([set()], [set()])
    with pytest.raises(ValueError, match="empty"):
        alignment_error_rate([], [])
    with pytest.raises(TypeError, match=r"predicted\[0\] must be a set of links"):
        alignment_error_rate([(0, 0)], [{(0, 0)}])
    with pytest.raises(TypeError, match="alignment_from_weights"):
        alignment_error_rate([torch.ones(2, 3)], [{(0, 0)}])


def test_perplexity_of_a_uniform_guess_is_the_number_of_choices():
    assert perplexity(7 * math.log(13), tokens=7) == pytest.approx(13)
    assert perplexity(0.0, tokens=7) == 1
    assert perplexity(7 * math.log(13), tokens=14) == pytest.approx(math.sqrt(13))


@pytest.mark.usefixtures("unchecked_shapes")
def test_perplexity_errors():
    with pytest.raises(ValueError, match="tokens is 0"):
        perplexity(1.0, 0)
    with pytest.raises(ValueError, match=r"total_loss is -0\.5"):
        perplexity(-0.5, 3)
    with pytest.raises(ValueError, match="total_loss is nan"):
        perplexity(math.nan, 3)


# An object in an image of 4 by 6 pixels, in patches of 2 by 2: it fills the patch in row 1, column 1, half of
# the one after it, and one pixel of the first.
OBJECT = torch.tensor([[1, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0], [0, 0, 1, 1, 1, 0], [0, 0, 1, 1, 1, 0]]) > 0


def pointing(*rows):
    weights = torch.tensor(rows, dtype=torch.float64)[None]
    return pointing_accuracy(weights, OBJECT[None]), attention_mass(weights, OBJECT[None])


def test_pointing_and_mass_by_hand():
    assert pointing([0, 0, 0], [0, 1, 0]) == (1, 1)
    assert pointing([0, 0, 0], [0, 0, 1]) == (0.5, 0.5)
    assert pointing([1, 0, 0], [0, 0, 0]) == (0.25, 0.25)
    assert pointing([0, 0, 1], [0, 0, 0]) == (0, 0)
    # The largest weight decides where it points; the mass counts all: 0.1 / 4 + 0.3 + 0.2 / 2.
    assert pointing([0.1, 0, 0.4], [0, 0.3, 0.2]) == pytest.approx((0, 0.425))
    # What is left to the class token does not count.
    assert pointing([0.01, 0, 0.04], [0, 0.03, 0.02]) == pytest.approx((0, 0.425))


def test_equal_weights_point_as_well_as_chance():
    share = 7 / 24  # pixels of the object
    assert pointing([1 / 6] * 3, [1 / 6] * 3) == pytest.approx((share, share))
    assert pointing([0, 0.5, 0], [0, 0.5, 0]) == pytest.approx((0.5, 0.5))  # two share the lead


def test_pointing_at_pixels():
    weights = torch.zeros(1, 4, 6)
    weights[0, 3, 4] = 1
    assert pointing_accuracy(weights, OBJECT[None]) == attention_mass(weights, OBJECT[None]) == 1
    weights[0, 3, 5] = 2
    assert pointing_accuracy(weights, OBJECT[None]) == 0
    assert attention_mass(weights, OBJECT[None]) == pytest.approx(1 / 3)
    # Patches as large pixels are pointed at alike.
    coarse = torch.rand(5, 2, 3, generator=torch.Generator().manual_seed(0))
    fine = coarse.repeat_interleave(2, dim=1).repeat_interleave(2, dim=2)
    masks = torch.stack([OBJECT.roll(shift, dims=1) for shift in range(5)])
    for metric in (pointing_accuracy, attention_mass):
        assert metric(coarse, masks) == pytest.approx(metric(fine, masks))


def test_pointing_is_a_mean_over_images_each_with_its_own_mask():
    weights = torch.zeros(3, 2, 3)
    weights[:, 1, 1] = torch.tensor([0.2, 0.9, 5.0])
    masks = torch.stack([OBJECT, OBJECT.flip(0), OBJECT])  # flipped, there is nothing in that patch
    assert pointing_accuracy(weights, masks) == pytest.approx(2 / 3)
    assert attention_mass(weights, masks) == pytest.approx(2 / 3)
    assert pointing_accuracy(weights[[1, 0, 2]], masks[[1, 0, 2]]) == pytest.approx(2 / 3)
    assert pointing_accuracy(weights.flip(1), masks) == pytest.approx(1 / 3)


MASKS = OBJECT[None]

# The call as text, its error, and what that must say.
BAD_CALLS = [
    ("corpus_bleu(None, ['a'])", TypeError, ["hypotheses must be a list of strings"]),
    ("corpus_bleu(['a'], None)", TypeError, ["references must be a list of strings"]),
    ("corpus_bleu((s for s in ['a b']), ['a b'])", TypeError, ["hypotheses must be a list of strings"]),
    ("corpus_bleu({'a': 1}, ['a'])", TypeError, ["hypotheses must be a list of strings"]),
    ("corpus_bleu(['a'], ['a'], '13a')", TypeError, ["tokenized", "True or False", "'13a'"]),
    ("corpus_bleu(['a'], ['a'], lowercase='yes')", TypeError, ["lowercase", "True or False", "'yes'"]),
    ("alignment_from_weights([[0.1, 0.9]])", TypeError, ["weights", "floating-point tensor", "got list"]),
    ("alignment_from_weights(torch.ones(2, 3).numpy())", TypeError, ["floating-point tensor", "got ndarray"]),
    ("alignment_from_weights(None)", TypeError, ["floating-point tensor", "got NoneType"]),
    ("alignment_from_weights(torch.ones(2, 3) > 0)", TypeError, ["floating-point tensor", "torch.bool"]),
    ("alignment_from_weights(torch.ones(2, 3).long())", TypeError, ["floating-point tensor", "torch.int64"]),
    ("alignment_from_weights(torch.tensor([[0.1, math.nan]]))", ValueError, ["weights holds NaN"]),
    ("alignment_error_rate(None, [{(0, 0)}])", TypeError, ["predicted must be a list", "got NoneType"]),
    ("alignment_error_rate([{(0, 0)}], {(0, 0)})", TypeError, ["sure must be a list", "got set"]),
    ("alignment_error_rate(iter([set()]), [{(0, 0)}])", TypeError, ["predicted must be a list", "iterator"]),
    ("alignment_error_rate([5], [{(0, 0)}])", TypeError, ["predicted[0] must be a set of links"]),
    ("alignment_error_rate([{(0, 0)}], [None])", TypeError, ["sure[0] must be a set of links"]),
    ("alignment_error_rate([{(0, 0)}], [{('a', 'b')}])", TypeError, ["sure[0] must be a set of links"]),
    ("alignment_error_rate([{(0.5, 0)}], [{(0, 0)}])", TypeError, ["predicted[0] must be a set of links"]),
    (
        "alignment_error_rate([{(0, 0)}], [{(0, 0)}], [{0}])",
        TypeError,
        ["possible[0] must be a set of links"],
    ),
    ("pointing_accuracy(None, MASKS)", TypeError, ["floating-point tensor", "got NoneType"]),
    ("pointing_accuracy(torch.ones(1, 2, 3).long(), MASKS)", TypeError, ["floating-point", "torch.int64"]),
    ("pointing_accuracy(torch.ones(1, 2, 3), MASKS.float())", TypeError, ["boolean tensor", "torch.float32"]),
    ("pointing_accuracy(torch.ones(1, 2, 3), None)", TypeError, ["boolean tensor", "got NoneType"]),
    ("pointing_accuracy(torch.ones(1, 6), MASKS)", ValueError, ["(1, 6)", "unflatten(-1, (rows, columns))"]),
    ("pointing_accuracy(torch.ones(2, 3), OBJECT)", ValueError, ["(2, 3)", "(4, 6)", "(image, row, column)"]),
    ("pointing_accuracy(torch.ones(2, 2, 3), MASKS)", ValueError, ["(2, 2, 3)", "(1, 4, 6)", "same images"]),
    ("pointing_accuracy(torch.ones(0, 2, 3), MASKS[:0])", ValueError, ["(0, 2, 3)", "least one"]),
    ("attention_mass(torch.ones(1, 3, 2), MASKS)", ValueError, ["4 by 6 pixels", "3 by 2 places"]),
    ("attention_mass(torch.ones(1, 2, 3) * math.nan, MASKS)", ValueError, ["finite and not negative"]),
    ("attention_mass(-torch.ones(1, 2, 3), MASKS)", ValueError, ["finite and not negative"]),
    ("attention_mass(torch.zeros(1, 2, 3), MASKS)", ValueError, ["some above zero"]),
    ("attention_mass(torch.ones(1, 2, 3), MASKS & False)", ValueError, ["image 0 has no object"]),
    ("perplexity(None, 3)", TypeError, ["total_loss must be a single number", "None"]),
    ("perplexity('3', 3)", TypeError, ["total_loss must be a single number", "'3'"]),
    ("perplexity(torch.ones(3), 3)", TypeError, ["total_loss must be a single number", "tensor"]),
    ("perplexity(3.0, None)", TypeError, ["tokens must be a single number", "None"]),
    ("perplexity(3.0, [1, 2])", TypeError, ["tokens must be a single number", "[1, 2]"]),
    ("perplexity(3.0, True)", TypeError, ["tokens must be a single number", "True"]),
    ("perplexity(3.0, math.nan)", ValueError, ["tokens is nan"]),
]


@pytest.mark.usefixtures("unchecked_shapes")
@each_bad_call(BAD_CALLS)
def test_bad_calls_say_what_was_wrong(call, error, words):
    assert_refused(call, error, words, globals(), "metrics.py")


@pytest.mark.usefixtures("unchecked_shapes")
def test_perplexity_of_tensors_and_of_a_hopeless_model():
    assert perplexity(torch.tensor(7 * math.log(13)), torch.tensor(7)) == pytest.approx(13)
    assert perplexity(1e9, 1) == math.inf
