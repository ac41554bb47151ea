"""generation_view: generation step by step, with the distribution behind each token."""

from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import Any

import numpy as np

from course_lib.widgets.arrays import as_array, as_labels
from course_lib.widgets.output import View
from course_lib.widgets.payload import pack
from course_lib.widgets.picture import clipped, draw, visible

# Of a large vocabulary the page keeps the likeliest tokens; the rest is told, not shown.
MAX_CANDIDATES = 512


def generation_view(
    steps: Sequence[Mapping[str, Any]],
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float = 1.0,
    cache: tuple[int, int, int] | None = None,
    title: str = "Generation",
) -> View:
    """Scrub through generation: the sequence so far, what could come next, and what was looked at.

    >>> step = {"tokens": ["the"], "vocabulary": ["cat", "dog"], "logits": [2.0, 1.0], "chosen": "cat"}
    >>> generation_view([step])
    <generation_view: 1 steps; after 'the' came 'cat'>

    Args:
        steps: one mapping for each token generated, with
            tokens: the sequence before it, a list of strings;
            vocabulary: all tokens that could come next, a list of strings;
            logits: one number for each of them;
            chosen: the token that came;
            attention: optional, one weight for each of `tokens`.
        temperature: where the slider starts; 0 is greedy.
        top_k: where the slider starts; None keeps all.
        top_p: where the slider starts.
        cache: (layers, heads, d_k) of the model, to show its cache of keys and values grow.

    Raises:
        ValueError: a step with something missing or of the wrong length; settings out of range.
    """
    if not steps:
        raise ValueError("steps is empty. Give one mapping for each token generated.")
    if not 0 <= temperature <= 3:
        raise ValueError(f"temperature={temperature} is outside 0 to 3.")
    if not 0.05 <= top_p <= 1:
        raise ValueError(f"top_p={top_p} is outside 0.05 to 1.")
    if top_k is not None and (not isinstance(top_k, Integral) or isinstance(top_k, bool) or top_k < 1):
        raise ValueError(f"top_k={top_k!r}: keep at least one token, or None for all.")
    if cache is not None and (len(cache) != 3 or min(cache) < 1):
        raise ValueError(f"cache={cache}: give (layers, heads, d_k), each at least 1.")
    checked = [_step(step, number) for number, step in enumerate(steps)]
    left = max(len(step["vocabulary"]) for step in steps) - MAX_CANDIDATES
    note = "Logits are exact to 7 digits."
    if left > 0:
        rest = max(part["rest"] for part in checked)
        note = (
            f"The {MAX_CANDIDATES} likeliest tokens are kept; the other {left} together have at most "
            f"{rest:.2g} of the probability at temperature 1 and are left out."
        )
    table = [["after", "came", "likeliest next tokens"]]
    for part in checked[:12]:
        best = ", ".join(
            f"{visible(token)} {probability:.2f}"
            for token, probability in zip(part["candidates"][:3], part["probabilities"][:3], strict=True)
        )
        table.append([visible(part["tokens"][-1]), visible(part["chosen"]), best])
    if len(checked) > 12:
        table.append([f"… and {len(checked) - 12} more steps", "", ""])
    last = checked[-1]

    def paint(ax: Any) -> None:
        names = [clipped(token) for token in last["candidates"][:10]][::-1]
        ax.barh(range(len(names)), last["probabilities"][:10][::-1], color="#0a6660")
        ax.set_yticks(range(len(names)), names, fontsize=8)
        for label in ax.get_yticklabels():
            label.set_parse_math(False)
        ax.set_title("the last step: probability of the next token", fontsize=9)
        ax.tick_params(labelsize=8)

    sent = ("tokens", "candidates", "logits", "chosen", "attention")
    return View(
        kind="generation_view",
        data={
            "title": title,
            "note": note,
            "steps": [{name: part[name] for name in sent} for part in checked],
            "temperature": temperature,
            "topK": top_k or 0,
            "topP": top_p,
            "cache": None if cache is None else list(cache),
        },
        alt=f"{len(checked)} steps; after {visible(last['tokens'][-1])!r} came {visible(last['chosen'])!r}",
        picture=lambda: draw(paint),
        table=table,
    )


def _step(step: Mapping[str, Any], number: int) -> dict[str, Any]:
    here = f"step {number}"
    if absent := [name for name in ("tokens", "vocabulary", "logits", "chosen") if name not in step]:
        raise ValueError(f"{here} lacks {absent[0]!r}. A step has tokens, vocabulary, logits and chosen.")
    tokens = as_labels(step["tokens"], len(step["tokens"]), f"{here}: tokens", "")
    logits = as_array(step["logits"], f"{here}: logits")
    if not tokens:
        raise ValueError(f"{here}: tokens is empty. Generation starts from at least one token.")
    if logits.ndim != 1 or len(logits) != len(step["vocabulary"]) or len(logits) == 0:
        raise ValueError(
            f"{here}: logits have shape {logits.shape}, but the vocabulary has {len(step['vocabulary'])} "
            "tokens. Give one logit for each token."
        )
    if np.isnan(logits).any() or (logits == np.inf).any() or not np.isfinite(logits).any():
        raise ValueError(f"{here}: logits hold NaN or +inf, or are all -inf.")
    vocabulary = [str(token) for token in step["vocabulary"]]
    chosen = str(step["chosen"])
    if chosen not in vocabulary:
        raise ValueError(f"{here}: chosen {chosen!r} is not in the vocabulary.")
    order = np.argsort(-logits, kind="stable")
    powers = np.exp(logits - logits.max())
    probabilities = (powers / powers.sum())[order]
    kept = order[:MAX_CANDIDATES]
    attention = step.get("attention")
    if attention is not None:
        attention = as_array(attention, f"{here}: attention")
        if attention.shape != (len(tokens),) or not np.isfinite(attention).all() or (attention < 0).any():
            raise ValueError(
                f"{here}: attention has shape {attention.shape}. Give one weight, not negative, for each of "
                f"the {len(tokens)} tokens."
            )
        attention = pack(attention[None, None], exact=True)
    return {
        "tokens": tokens,
        "candidates": [vocabulary[i] for i in kept],
        "logits": pack(logits[kept][None, None], exact=True),
        "chosen": chosen,
        "attention": attention,
        "probabilities": probabilities,
        "rest": float(probabilities[MAX_CANDIDATES:].sum()),
    }
