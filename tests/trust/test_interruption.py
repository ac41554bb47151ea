"""`make lab` killed at 20 random moments of its set-up: the next try works.

The course is a tiny one that installs from its own folder; course.py is the real one, and so is every step.
"""

import os
import random
import signal
import subprocess
import time

import pytest

from tests.test_commands import ENVIRONMENT, bare, called, is_marked_installed, make  # noqa: F401

pytestmark = [
    pytest.mark.trust,
    pytest.mark.skipif(os.name == "nt", reason="make and signals are tried on Unix"),
]


def test_a_set_up_killed_at_any_moment_is_repaired_by_the_next(bare):  # noqa: F811
    def timed_set_up():
        start = time.monotonic()
        assert called(make(bare, "lab"))
        return time.monotonic() - start

    def something_to_do(turn, anew):
        """A changed fingerprint, and now and then no environment at all."""
        with (bare / "constraints.txt").open("a") as file:
            file.write(f"# {turn}\n")
        if anew:
            (bare / ".venv" / "pyvenv.cfg").unlink(missing_ok=True)

    duration = {True: timed_set_up()}
    something_to_do("first", anew=False)
    duration[False] = timed_set_up()
    draw, killed, turn = random.Random(0), 0, 0
    while killed < 20:
        assert turn < 60, f"of {turn} set-ups only {killed} were still running when they were to be killed"
        anew = turn % 4 == 0
        something_to_do(turn, anew)
        process = subprocess.Popen(
            ["make", "lab"],
            cwd=bare,
            env=ENVIRONMENT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        time.sleep(draw.uniform(0.0, 0.9 * duration[anew]))
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        killed += process.wait() != 0
        turn += 1
        assert called(make(bare, "lab")) and is_marked_installed(bare)
        assert not (bare / ".venv" / "unfinished").exists()
