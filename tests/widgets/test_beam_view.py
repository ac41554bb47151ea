"""The view of a beam search reports what the search itself reports."""

import pytest

from course_lib.decoding import beam_steps, length_penalty
from course_lib.widgets import beam_view
from tests.test_beam_search import BOS, EOS, LONGEST, SOURCE, TableModel

WORDS = ["<pad>", "<bos>", "<eos>", "oui", "non"]


def of_search(seed, alpha, longest, told=True):
    hypotheses, steps = beam_steps(TableModel(seed), SOURCE[:1], BOS, EOS, 3, alpha, longest)
    view = beam_view(
        [step.parents for step in steps],
        [[WORDS[token] for token in step.tokens] for step in steps],
        [step.log_probabilities for step in steps],
        alpha=alpha,
        max_length=longest if told else None,
    )
    rows = [
        [
            " ".join(WORDS[token] for token in one.tokens) or "∅",
            f"{one.log_probability:.2f}",
            str(len(one.tokens) + one.ended),
            f"{one.score:.2f}",
        ]
        for one in hypotheses
    ]
    return view, rows


@pytest.mark.parametrize("alpha", [0.0, 0.6, 3.0])
@pytest.mark.parametrize("longest", [1, 2, LONGEST])
@pytest.mark.parametrize("seed", range(5))
def test_the_table_holds_the_hypotheses_of_the_search_in_their_order(seed, longest, alpha):
    view, rows = of_search(seed, alpha, longest)
    assert view.table[1:] == rows


def test_without_max_length_what_is_open_is_no_hypothesis():
    view, rows = of_search(0, 0.6, 2, told=False)
    assert 0 < len(view.table) - 1 < len(rows)


def test_the_score_is_the_course_s():
    view = beam_view([[0], [0]], [["oui"], ["<eos>"]], [[-1.0], [-30.0]], alpha=1.7)
    assert view.table[1:] == [["oui", "-30.00", "2", f"{-30 / length_penalty(2, 1.7):.2f}"]]


def test_an_empty_slot_says_nothing():
    """What beam_steps leaves in an empty slot, a word and -inf, is neither shown nor checked."""
    view = beam_view([[0, -1]], [["oui", "<eos>"]], [[-1.0, float("-inf")]])
    assert view.data["words"] == [["oui", ""]]
    assert view.data["ended"] == [[0, 0]]
    assert view.alt == "1 steps of a beam of 2 found 0 hypotheses; nothing has ended"


def test_a_long_table_is_cut():
    step = [["<eos>"] * 11 + ["oui"]] * 3
    view = beam_view([[0] * 12, [11] * 12, [11] * 12], step, [[-1] * 12, [-2] * 12, [-3] * 12])
    assert len(view.table) == 14
    assert view.table[-1][0] == "… and 21 more hypotheses"
