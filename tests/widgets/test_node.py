"""The pure parts of static/ under node's own test runner, against numbers from Python."""

import json
import os
import subprocess
import sys
import unicodedata
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
import torch

from course_lib.decoding import beam_steps
from course_lib.widgets.payload import pack
from course_lib.widgets.picture import visible
from tests.test_beam_search import BOS, EOS, SOURCE, TableModel

pytestmark = pytest.mark.browser

TESTS = Path(__file__).parent / "js"


def bench_cases():
    """Attention in float64 as torch computes it, for several shapes, masks and temperatures."""
    cases = []
    for seed, (queries, keys, width, out) in enumerate(
        [(1, 1, 1, 1), (3, 5, 2, 4), (8, 8, 4, 3), (2, 7, 3, 2)]
    ):
        generator = torch.Generator().manual_seed(seed)
        q, k, v = (
            torch.randn(*shape, generator=generator, dtype=torch.float64) * 3
            for shape in ((queries, width), (keys, width), (keys, out))
        )
        mask = torch.rand(queries, keys, generator=generator) > 0.4
        mask[0] = False
        for scaled, masked, temperature in [(True, False, 1.0), (False, True, 0.25), (True, True, 4.0)]:
            scores = q @ k.T
            divided = scores / width**0.5 if scaled else scores
            hidden = divided.masked_fill(~mask, -torch.inf) if masked else divided
            weights = torch.softmax(hidden / temperature, dim=-1).nan_to_num(0.0)
            cases.append(
                {
                    "given": {
                        "query": q.tolist(), "key": k.tolist(), "value": v.tolist(), "mask": mask.tolist(),
                        "scaled": scaled, "masked": masked, "temperature": temperature,
                    },
                    "scores": scores.tolist(), "scaled": divided.tolist(), "weights": weights.tolist(),
                    "output": (weights @ v).tolist(),
                }
            )  # fmt: skip
    return cases


def packed_cases():
    numbers = np.random.default_rng(0)
    weights = numbers.dirichlet(np.full(7, 0.3), size=(2, 3, 5))
    mask = numbers.random((1, 1, 5, 7)) > 0.5
    return [
        {
            "packed": pack(array, exact),
            "values": array.reshape(-1, 35).astype(float).tolist(),
            "within": within,
        }
        for array, exact, within in [(weights, True, 1e-7), (weights, False, 1 / 255), (mask, None, 0)]
    ]


def position_cases():
    """Sinusoids by the paper's formula, written out place by place, and their mean cosines."""
    cases = []
    for length, width, base in [(1, 2, 10000.0), (13, 6, 10000.0), (29, 10, 37.0)]:
        code = torch.zeros(length, width, dtype=torch.float64)
        for place in range(width // 2):
            angle = torch.arange(length, dtype=torch.float64) / base ** (2 * place / width)
            code[:, 2 * place], code[:, 2 * place + 1] = angle.sin(), angle.cos()
        unit = torch.nn.functional.normalize(code, dim=-1)
        alike = [torch.diagonal(unit @ unit.T, distance).mean().item() for distance in range(length)]
        cases.append({"given": [length, width, base], "code": code.tolist(), "alike": alike})
    return cases


def kernel_cases():
    """Nadaraya-Watson by its formula, each kernel written out; zeros where no key is near enough."""
    kernels = {
        "gaussian": lambda u: torch.exp(-(u**2) / 2),
        "boxcar": lambda u: (u.abs() <= 1).double(),
        "triangular": lambda u: (1 - u.abs()).clamp(min=0),
        "epanechnikov": lambda u: 0.75 * (1 - u**2).clamp(min=0),
    }
    generator = torch.Generator().manual_seed(0)
    keys, values, queries = (
        torch.rand(size, generator=generator, dtype=torch.float64) for size in (7, 7, 13)
    )
    cases = []
    for name, kernel in kernels.items():
        for width in (0.05, 0.2, 1.5):
            closeness = kernel((queries[:, None] - keys) / width)
            weights = (closeness / closeness.sum(dim=-1, keepdim=True)).nan_to_num(0.0)
            given = {"keys": keys.tolist(), "values": values.tolist(), "queries": queries.tolist()}
            cases.append(
                {
                    "given": given, "kernel": name, "width": width,
                    "weights": weights.tolist(), "estimates": (weights @ values).tolist(),
                }
            )  # fmt: skip
    return cases


def sampling_cases():
    """Next-token distributions by torch: temperature, then top-k, then the least set that reaches top-p."""
    cases = []
    for seed, (temperature, top_k, top_p) in enumerate(
        [(1.0, 0, 1.0), (0.5, 3, 1.0), (2.0, 0, 0.6), (1.5, 5, 0.8)]
    ):
        logits = torch.randn(11, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 2
        scores = logits / temperature
        if top_k:
            scores = scores.masked_fill(scores < scores.topk(top_k).values[-1], -torch.inf)
        ordered, places = scores.softmax(-1).sort(descending=True)
        ordered[ordered.cumsum(-1) - ordered >= top_p] = 0
        expected = torch.zeros_like(logits).scatter(0, places, ordered / ordered.sum())
        how = {"temperature": temperature, "topK": top_k, "topP": top_p}
        cases.append({"logits": logits.tolist(), "how": how, "probabilities": expected.tolist()})
    return cases


def beam_cases():
    """Searches as course_lib makes them, some cut off at their longest, with the hypotheses it reports."""
    cases = []
    for seed in range(6):
        for alpha, longest in [(0.0, 2), (0.6, 4), (3.0, 3)]:
            hypotheses, steps = beam_steps(TableModel(seed), SOURCE[:1], BOS, EOS, 3, alpha, longest)
            parents = [step.parents for step in steps]
            ended = [
                [int(parent >= 0 and token == EOS) for parent, token in zip(s.parents, s.tokens, strict=True)]
                for s in steps
            ]
            totals = [[max(total, -99) for total in step.log_probabilities] for step in steps]
            cases.append(
                {
                    "tree": {
                        "parents": parents, "ended": ended, "logs": totals, "cut": len(steps) == longest,
                    },
                    "tokens": [step.tokens for step in steps], "alpha": alpha,
                    "hypotheses": [
                        [one.tokens + [EOS] * one.ended, one.log_probability, one.score, one.ended]
                        for one in hypotheses
                    ],
                }
            )  # fmt: skip
    return cases


def letter_cases():
    """How `visible` shows every character: what it changes, alone and inside a word."""
    alone, inside, unassigned = [], [], []
    for point in range(sys.maxunicode + 1):
        letter = chr(point)
        # A later Unicode may have filled this place: then the page's may know what Python's does not.
        if unicodedata.category(letter) == "Cn" and not is_noncharacter(point):
            unassigned.append(point)
            continue
        if visible(letter) != letter:
            alone.append([point, visible(letter)])
        if visible(f"a{letter}b") != f"a{letter}b":
            inside.append([point, visible(f"a{letter}b")])
    runs = [[p for _, p in run] for _, run in groupby(enumerate(unassigned), lambda pair: pair[1] - pair[0])]
    return {"alone": alone, "inside": inside, "unassigned": [[run[0], run[-1]] for run in runs]}


def is_noncharacter(point):
    return point & 0xFFFE == 0xFFFE or 0xFDD0 <= point <= 0xFDEF


TOKENS = {
    "": "∅",
    "  ": "␣␣",
    " the": "␣the",
    "the ": "the␣",
    "a b": "a b",
    " \n x\t": "␣↵ x⇥",
    "\r\n": "␍↵",
    "\u00a0x\u3000": "⍽x⬚",
    "\u2003x": "␣x",
    "a\u200bb": "a⟨U+200B⟩b",
    "a\u200db": "a⟨U+200D⟩b",
    "\u202eevil": "⟨U+202E⟩evil",
    "soft\u00adhyphen": "soft⟨U+00AD⟩hyphen",
    "\x00\x85\u2028\ud800\uffff": "⟨U+0000⟩⟨U+0085⟩⟨U+2028⟩⟨U+D800⟩⟨U+FFFF⟩",
    "\U000e0041": "⟨U+E0041⟩",
    # A joiner that belongs to the spelling stays: inside an emoji, between Persian or Hindi letters.
    "👩\u200d🚀": "👩\u200d🚀",
    "👩🏽\u200d🚀": "👩🏽\u200d🚀",
    "❤\ufe0f\u200d🔥": "❤\ufe0f\u200d🔥",
    "👩\u200d": "👩⟨U+200D⟩",
    "می\u200cخواهم": "می\u200cخواهم",
    "क्\u200dष": "क्\u200dष",
    "\u200cخ": "⟨U+200C⟩خ",
}


@pytest.mark.parametrize(("token", "shown"), TOKENS.items())
def test_a_token_is_shown_with_nothing_hidden(token, shown):
    assert visible(token) == shown


def test_node_agrees_with_python(node, tmp_path):
    numbers = tmp_path / "numbers.json"
    cases = {
        "bench": bench_cases(),
        "packed": packed_cases(),
        "kernels": kernel_cases(),
        "positions": position_cases(),
        "sampling": sampling_cases(),
        "beams": beam_cases(),
        "letters": letter_cases(),
        "tokens": list(TOKENS.items()),
    }
    numbers.write_text(json.dumps(cases), encoding="utf-8")
    done = subprocess.run(
        [node, "--test", "--test-reporter=tap", *map(str, sorted(TESTS.glob("*.test.mjs")))],
        env={**os.environ, "NUMBERS": str(numbers)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert "# fail 0" in done.stdout and "# pass 0" not in done.stdout
