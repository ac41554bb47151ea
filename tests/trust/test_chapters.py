"""A chapter under unusual conditions. `python tests/trust/notebooks.py` runs all of them."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.trust
def test_the_first_chapter_runs_under_unusual_conditions():
    result = subprocess.run(
        [sys.executable, "tests/trust/notebooks.py", "--only", "01"], cwd=ROOT, capture_output=True, text=True
    )
    print(result.stdout)
    assert result.returncode == 0, result.stdout + result.stderr
    states = [line.split()[0] for line in result.stdout.splitlines()]
    assert states.count("passed") >= 4 and set(states) <= {"passed", "LEFT"}
