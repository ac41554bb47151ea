"""The pure parts of static/ under node's own test runner, against numbers from Python."""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from course_lib.widgets.payload import pack

pytestmark = pytest.mark.browser

TESTS = Path(__file__).parent / "js"


def bench_cases():
    """Attention in float64 as torch computes it, for several shapes, masks and temperatures."""
    cases = []
    for seed, (queries, keys, width, out) in enumerate([(1, 1, 1, 1), (3, 5, 2, 4), (8, 8, 4, 3), (2, 7, 3, 2)]):
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
        {"packed": pack(array, exact), "values": array.reshape(-1, 35).astype(float).tolist(), "within": within}
        for array, exact, within in [(weights, True, 1e-7), (weights, False, 1 / 255), (mask, None, 0)]
    ]


def test_node_agrees_with_python(node, tmp_path):
    numbers = tmp_path / "numbers.json"
    numbers.write_text(json.dumps({"bench": bench_cases(), "packed": packed_cases()}), encoding="utf-8")
    done = subprocess.run(
        [node, "--test", *map(str, sorted(TESTS.glob("*.test.mjs")))],
        env={**os.environ, "NUMBERS": str(numbers)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert "# fail 0" in done.stdout and "# pass 0" not in done.stdout
