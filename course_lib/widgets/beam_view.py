"""beam_view: a beam search step by step, as a tree, with the hypotheses it found."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from course_lib.widgets.arrays import as_array, as_labels
from course_lib.widgets.output import View
from course_lib.widgets.payload import pack
from course_lib.widgets.picture import clipped, draw, visible

# What a page can show and a reader can follow.
MAX_STEPS, MAX_SLOTS, MAX_ALPHA = 100, 12, 5
# Rounding in single precision may lift a total a little above the one it comes from.
_ROUNDING = 1e-4
_MOST_ROWS = 12
_MOST_WRITTEN = 12  # steps of the still picture that have room for words


def beam_view(
    parents: Any,
    words: Sequence[Sequence[str]],
    log_probabilities: Any,
    *,
    start: str = "<bos>",
    end: str = "<eos>",
    alpha: float = 0.6,
    max_length: int | None = None,
    title: str = "Beam search",
) -> View:
    """Follow a beam search as it grows its tree, and rank what it found by a length penalty.

    score(y) = log p(y) / lp(|y|),    lp(n) = ((5 + n) / 6)^alpha

    >>> beam_view([[0, 0], [0, 1]], [["le", "un"], ["<eos>", "<eos>"]], [[-0.5, -1.5], [-0.7, -1.6]])
    <beam_view: 2 steps of a beam of 2 found 2 hypotheses; the best is 'le', score -0.64>

    Args:
        parents: (step, slot): the slot of the step before that was prolonged, counted from zero, or -1 for
            an empty slot. At the first step, 0 is the start.
        words: (step, slot): what it was prolonged by.
        log_probabilities: (step, slot): of all words so far; what an empty slot has is not read.
        start: how the root of the tree is called.
        end: the word that ends a sentence: who takes it has found a hypothesis.
        alpha: the length penalty of the search, where the slider starts; 0 for none.
        max_length: the most steps the search was allowed. Where it went so far, what is not ended at the
            last step counts as a hypothesis too.

    Raises:
        ValueError: lists that do not fit together, are empty or too large; a slot that prolongs an empty or
            ended one; a log-probability that is positive or higher than the one it comes from.

    Source: Wu et al. 2016, section 7, equation 14 (the penalty).
    """
    slots = as_array(parents, "parents")
    if slots.ndim != 2 or slots.size == 0:
        raise ValueError(
            f"parents has shape {slots.shape}. Give one row for each step, with one entry for each slot."
        )
    if slots.shape[0] > MAX_STEPS or slots.shape[1] > MAX_SLOTS:
        raise ValueError(
            f"parents has {slots.shape[0]} steps of {slots.shape[1]} slots, but at most {MAX_STEPS} steps of "
            f"{MAX_SLOTS} can be followed. Show the first ones, or a narrower beam."
        )
    totals = as_array(log_probabilities, "log_probabilities")
    if totals.shape != slots.shape:
        raise ValueError(
            f"log_probabilities has shape {totals.shape}, but parents has {slots.shape}: every slot of every "
            "step has one of each."
        )
    if isinstance(words, str) or len(words) != len(slots):
        raise ValueError(f"words must have one list for each of the {len(slots)} steps.")
    named = [
        as_labels(row, slots.shape[1], f"words[{step}]", f"the beam has {slots.shape[1]} slots.")
        for step, row in enumerate(words)
    ]
    if not 0 <= alpha <= MAX_ALPHA:
        raise ValueError(f"alpha={alpha} is outside 0 to {MAX_ALPHA}. Give 0 for no length penalty.")
    if max_length is not None and max_length < len(slots):
        raise ValueError(f"max_length={max_length}, but the search has {len(slots)} steps.")
    filled = slots != -1
    ended = filled & np.array([[word == end for word in row] for row in named])
    _check_tree(slots, totals, filled, ended)
    slots, totals = slots.astype(int), np.where(filled, totals, 0.0)
    named = [[word if filled[t, k] else "" for k, word in enumerate(row)] for t, row in enumerate(named)]

    cut = max_length == len(slots)
    found = _hypotheses(slots, named, totals, ended, filled, cut, alpha)
    best = f"the best is {found[0][0]!r}, score {found[0][3]:.2f}" if found else "nothing has ended"
    plural = "hypothesis" if len(found) == 1 else "hypotheses"
    table = [["hypothesis", "log-probability", "length", "score"]]
    table += [[text, f"{total:.2f}", str(length), f"{score:.2f}"] for text, total, length, score in found]
    if len(table) > _MOST_ROWS + 1:
        table[_MOST_ROWS + 1 :] = [[f"… and {len(found) - _MOST_ROWS} more hypotheses", "", "", ""]]

    def paint(ax: Any) -> None:
        leads = ended.copy()  # to a hypothesis, or to what the last step holds
        leads[-1] = filled[-1]
        for step in range(len(slots) - 1, 0, -1):
            leads[step - 1, slots[step][leads[step]]] = True
        ax.text(0, 0, clipped(start), ha="center", va="center", fontsize=8, parse_math=False)
        for step, slot in np.argwhere(filled):
            line = dict(color="#0a6660", lw=2) if leads[step, slot] else dict(color="#7b857f", lw=0.8)
            before = slots[step, slot] if step else 0
            ax.plot([step + 0.3, step + 0.7], [before, slot], **line)
            if len(slots) <= _MOST_WRITTEN:
                ink = dict(color="#b45309", weight="bold") if ended[step, slot] else dict(color="#1c2320")
                name = clipped(named[step][slot])
                ax.text(step + 1, slot, name, ha="center", va="center", fontsize=8, parse_math=False, **ink)
            elif ended[step, slot]:
                ax.plot(step + 0.8, slot, "s", color="#b45309", markersize=3)
        ax.set_xlim(-0.5, len(slots) + 0.5)
        ax.set_ylim(slots.shape[1] - 0.5, -0.5)
        ax.set_yticks(range(slots.shape[1]), range(1, slots.shape[1] + 1), fontsize=8)
        ax.set_xlabel("step", fontsize=8)
        ax.set_ylabel("slot", fontsize=8)
        ax.tick_params(labelsize=8)

    return View(
        kind="beam_view",
        data={
            "title": title,
            "parents": slots.tolist(),
            "words": named,
            "logs": pack(totals[None, None], exact=True),
            "ended": ended.astype(int).tolist(),
            "cut": cut,
            "start": start,
            "alpha": float(alpha),
        },
        alt=f"{len(slots)} steps of a beam of {slots.shape[1]} found {len(found)} {plural}; {best}",
        picture=lambda: draw(paint, height=0.8 + 0.35 * slots.shape[1], width=min(9, 2 + 0.8 * len(slots))),
        table=table,
    )


def _check_tree(slots: np.ndarray, totals: np.ndarray, filled: np.ndarray, ended: np.ndarray) -> None:
    for step in range(len(slots)):
        if not filled[step].any():
            raise ValueError(f"parents[{step}] has no slot that holds anything. Leave out steps of nothing.")
    for step, slot in np.argwhere(filled):
        here, parent, total = f"[{step}][{slot}]", slots[step, slot], totals[step, slot]
        last = 0 if step == 0 else slots.shape[1] - 1
        if parent not in range(last + 1):
            many = "the first step prolongs the start, 0" if step == 0 else f"slots run from 0 to {last}"
            raise ValueError(f"parents{here} is {parent:g}, but {many}, and -1 is an empty slot.")
        parent = int(parent)
        if step and not filled[step - 1, parent]:
            raise ValueError(f"parents{here} is {parent}, but that slot was empty at the step before.")
        if step and ended[step - 1, parent]:
            raise ValueError(
                f"parents{here} is {parent}, but that slot had ended at the step before. What has ended is "
                "not prolonged."
            )
        if not np.isfinite(total) or total > _ROUNDING:
            raise ValueError(
                f"log_probabilities{here} is {total:g}. Give the logarithm of a probability: a finite "
                "number, zero or below. An empty slot has the parent -1."
            )
        if step and total > totals[step - 1, parent] + _ROUNDING:
            raise ValueError(
                f"log_probabilities{here} is {total:g}, higher than the {totals[step - 1, parent]:g} that it "
                "comes from. Give the sum over all words so far, not the last word's alone."
            )


def _hypotheses(
    slots: np.ndarray,
    words: list[list[str]],
    totals: np.ndarray,
    ended: np.ndarray,
    filled: np.ndarray,
    cut: bool,
    alpha: float,
) -> list[tuple[str, float, int, float]]:
    """Return (text, log-probability, length, score) of each hypothesis, the best first."""
    places = [tuple(place) for place in np.argwhere(ended)]
    if cut:
        places += [(len(slots) - 1, slot) for slot in np.flatnonzero(filled[-1] & ~ended[-1])]
    found = []
    for step, slot in places:
        tokens, here = [], slot
        for earlier in range(step, -1, -1):
            tokens.append(visible(words[earlier][here]))
            here = slots[earlier, here]
        text = " ".join(tokens[:0:-1] if ended[step, slot] else tokens[::-1])
        length, total = int(step) + 1, float(totals[step, slot])
        found.append((text or visible(""), total, length, total / ((5 + length) / 6) ** alpha))
    return sorted(found, key=lambda one: -one[3])
