"""Mutation testing itself: what is changed and what is not, the reasons given, and the figure reached."""

import ast
import json
import os
import subprocess
import sys

import pytest

from tests.trust.mutants import mutants_of
from tests.trust.mutation import RESULT, ROOT, TESTS, file_of, reasons

SOURCE = '''
def f(a: int = 2, b: "Tensor" = None) -> 7:
    """Say 3."""
    if not a < b:
        raise ValueError(f"{a + 1} is not below {b}")
    _check("name", a, number=1)
    return a + b, g(b, a, dim=-1)
'''


def changes(source):
    return [mutant.name.split("⟦")[1].split("⟧")[0] for mutant in mutants_of(source, "toy")]


def test_changes_of_a_function_by_hand():
    assert sorted(changes(SOURCE)) == sorted(
        [
            "2 → 3",
            "2 → 1",
            "not a < b → True",
            "not a < b → a < b",
            "a < b → a <= b",
            "a < b → a >= b",
            'raise ValueError(f"{a + 1} is not below {b}") → pass',
            "ValueError → TypeError",
            '_check("name", a, number=1) → pass',
            "1 → 2",
            "1 → 0",
            "a + b, g(b, a, dim=-1) → g(b, a, dim=-1), a + b",
            "a + b → (a) - (b)",
            "a + b → a",
            "a + b → b",
            "g(b, a, dim=-1) → g(a, b, dim=-1)",
            "g(b, a, dim=-1) → g(b, dim=-1)",
            "g(b, a, dim=-1) → g(b, a)",
            "-1 → 1",
            "1 → 2",
            "1 → 0",
        ]
    )


@pytest.mark.parametrize(
    "source, wanted",
    [
        ("x = y[1:, ::2]", {"1 → 0", "2 → 3"}),
        ("x = y[a:b]", {"y[a:b] → (y)[:b]", "y[a:b] → (y)[a:]"}),
        ("x = y.mean(dim=1).exp()", {"y.mean(dim=1).exp() → y.mean(dim=1)", "y.mean(dim=1) → y"}),
        ("x = torch.tanh(y)", {"torch.tanh(y) → y"}),
        ("x = torch.stack(y).mean(2)", {"torch.stack(y).mean(2) → torch.stack(y)"}),
        ("x = self.norm(self.f(y))", {"self.norm(self.f(y)) → self.f(y)", "self.f(y) → y"}),
        ("x = a if b else c", {"a if b else c → a", "a if b else c → c"}),
        ("x = a and b or c", {"a and b or c → (a and b) and (c)", "a and b → a", "a and b or c → c"}),
        ("x = name not in ('one', 'two')", {"('one', 'two') → 'two',", "'one' → 'no_one'"}),
        ("x = einsum('bqd,qkd->bqk', y, z)", {"'bqd,qkd->bqk' → 'bqd,qkd->bkq'"}),
        ("for x in y:\n    z += x", {"y → ()", "z += x → pass", "z += x → z = x", "z += x → z -= x"}),
        ("@torch.no_grad()\ndef f():\n    g()", {"@torch.no_grad() →", "g() → pass"}),
        ("try:\n    f()\nexcept (A, B):\n    h = 0", {"(A, B) → B,", "(A, B) → A,", "0 → 1"}),
        (
            "if x is None:\n    y = 1\n",
            {"x is None → True", "x is None → False", "x is None → x is not None"},
        ),
        ("while x:\n    break", {"x → not (x)", "break → pass"}),
        ("x = [a for a in y if a]", {"a → True", "a → not (a)"}),
        ("x = 0.5 * y", {"0.5 → 1.5", "0.5 → 0.25", "0.5 * y → (0.5) / (y)", "0.5 * y → y"}),
    ],
)
def test_kinds_of_changes(source, wanted):
    found = {change.strip() for change in changes(source)}
    assert wanted <= found, found


def test_what_is_no_mistake_is_let_alone():
    quiet = '''
"""2"""
import math
class A:
    """3"""
    x: Float[Tensor, "5 7"]
    def __repr__(self):
        return 1 + 2
'''
    assert changes(quiet) == []


@pytest.mark.parametrize("module", TESTS)
def test_mutants_of_the_library_are_python_with_names_of_their_own(module):
    source = file_of(module).read_text(encoding="utf-8")
    mutants = mutants_of(source, module)
    assert len({mutant.name for mutant in mutants}) == len(mutants) > 100
    whole = ast.dump(ast.parse(source))
    assert not [one.name for one in mutants[::7] if ast.dump(ast.parse(one.source)) == whole]


def test_each_reason_is_of_a_mutant_that_is_still_made():
    made = {
        mutant.name
        for module in TESTS
        for mutant in mutants_of(file_of(module).read_text(encoding="utf-8"), module)
    }
    why = reasons()
    assert not set(why["equivalent"]) & set(why["let_live"])
    stale = [name for table in why.values() for name in table if name not in made]
    assert not stale, "take these off mutants.toml: what they change has changed\n" + "\n".join(stale)


def test_at_least_nine_of_ten_are_killed_and_each_survivor_has_a_reason():
    result = json.loads(RESULT.read_text(encoding="utf-8"))
    assert list(result["modules"]) == list(TESTS)
    assert result["share"] == round(result["killed"] / result["counted"], 4) >= 0.9
    for module, found in result["modules"].items():
        assert found["killed"] / (found["tried"] - found["equivalent"]) >= 0.9, module
        assert found["killed"] + len(found["survived"]) == found["tried"] - found["equivalent"]
        assert "no reason given" not in found["survived"].values(), module
        assert not found["listed_but_killed"], module


# The original, and wrong versions of a line of it: what becomes of each, and how.
LINE = "return x + self.dropout(result)"
VERSIONS = {
    LINE: "survived",
    LINE.replace("x + ", "0 + x + "): "survived",
    LINE.replace("x + ", "x - "): "a failing test",
    "return missing": "a failing test",
    "return (": "import",
    "while True: pass": "time",
    "return torch.zeros(10**12)": "a failing test",  # more memory than a child may have
}


def test_a_child_runs_the_tests_on_the_changed_source(tmp_path):
    script = f"""
from pathlib import Path
from tests.trust.mutation import Watch, file_of, fork, prepare, wait
prepare()
source = file_of("layers").read_text(encoding="utf-8")
assert source.count({LINE!r}) == 1
for line in {list(VERSIONS)!r}:
    watch = Watch(["tests/test_layers.py::test_residual_connection_by_hand"])
    changed = source.replace({LINE!r}, line)
    child = fork("layers", changed, ["tests/test_layers.py"], watch, 5, Path({str(tmp_path)!r}))
    print(wait(child)[0], flush=True)
"""
    settings = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env=settings, capture_output=True, text=True
    )
    assert done.stdout.splitlines() == list(VERSIONS.values()), done.stderr
