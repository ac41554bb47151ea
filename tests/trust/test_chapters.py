"""A chapter under unusual conditions. `python tests/trust/notebooks.py` runs all of them."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.trust import notebooks

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.trust


def test_the_first_chapter_runs_under_unusual_conditions():
    result = subprocess.run(
        [sys.executable, "tests/trust/notebooks.py", "--only", "01"], cwd=ROOT, capture_output=True, text=True
    )
    print(result.stdout)
    assert result.returncode == 0, result.stdout + result.stderr
    states = [line.split()[0] for line in result.stdout.splitlines()]
    assert states.count("passed") >= 4 and set(states) <= {"passed", "LEFT"}


def outcome(cell, place, **way):
    """What is said of a chapter of one cell."""
    course = notebooks.copy_to(place / way.get("folder", "course"))
    (course / "notebooks" / "99_small.py").write_text(f"# %%\n{cell}\n")
    return notebooks.run("99_small", sys.executable, place, **way)[0]


# For each condition a cell that passes everywhere but under it, so that a condition that is none is seen.
CELLS = {
    "twice": "assert 'before' not in globals()\nbefore = True",
    "no-network": "import socket\nsocket.socket(type=socket.SOCK_DGRAM).connect(('192.0.2.1', 9))",
    "new-home": "import os\nassert os.path.samefile(os.path.expanduser('~'), {home!r})",
    "non-root": "import os\nassert os.geteuid() == 0\nopen({precious!r}, 'a').close()",
    "odd-path": "import os\nassert os.getcwd().isascii() and ' ' not in os.getcwd()",
}


@pytest.mark.parametrize("name", CELLS)
def test_each_condition_is_what_it_is_called(name, tmp_path_factory):
    way = notebooks.conditions(sys.executable)[name]
    if isinstance(way, str):
        pytest.skip(way)
    precious = tmp_path_factory.mktemp("precious") / "file"
    cell = CELLS[name].format(home=str(Path.home()), precious=str(precious))
    assert "cell" in outcome(cell, tmp_path_factory.mktemp("unusual"), **way)
    if name != "no-network" or notebooks.succeeds(sys.executable, "-c", CELLS[name]):
        assert outcome(cell, tmp_path_factory.mktemp("usual")) == ""


def test_a_chapter_that_fails_or_takes_too_much_memory_is_told(tmp_path_factory, monkeypatch):
    assert "cell 1: 1 / 0\n" in outcome("1 / 0", tmp_path_factory.mktemp("fails"))
    monkeypatch.setattr(notebooks, "LARGEST", 250_000_000)
    assert outcome("1", tmp_path_factory.mktemp("little")) == ""
    assert "GB of memory" in outcome("len(bytearray(300_000_000))", tmp_path_factory.mktemp("much"))
