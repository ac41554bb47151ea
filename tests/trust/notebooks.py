"""Run the chapters under unusual conditions, and report which pass and how much memory each takes.

    python tests/trust/notebooks.py                      every condition, every chapter
    python tests/trust/notebooks.py --only 01 --conditions twice no-network
    python tests/trust/notebooks.py --together --python python3.12 --python /opt/py313/bin/python

Each chapter runs in a kernel of its own, from its source in a copy of the repository; nothing is stored. A
condition that this machine cannot make is reported as left out, never as passed. With --together all of them
are made at once, which is harder than each and takes one pass; a failure is then traced by --conditions.
"""

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LARGEST = 2 * 1024**3  # bytes of memory that a chapter may take
# Of the repository a chapter needs these.
NEEDED = ("course_lib", "notebooks", "book/results", "pyproject.toml")
NOBODY = 65534
NAMES = ("random-order", "twice", "no-network", "new-home", "non-root", "odd-path")

# Runs in the Python of the condition: the source, how many times. A child of ours, so that its kernel's peak
# of memory can be asked for.
RUNNER = """
import os, resource, sys
from pathlib import Path
sys.path.insert(0, os.getcwd())
sys.path.insert(0, "notebooks")
import build
source, times = Path(sys.argv[1]), int(sys.argv[2])
notebook = build.convert(source)
notebook.cells = [cell for _ in range(times) for cell in build.convert(source).cells]
for number, cell in enumerate(notebook.cells):
    cell.id = f"cell-{number}"
try:
    build.execute(notebook, source.parent)
except build.ChapterFailed as error:
    sys.exit(str(error))
print("PEAK", resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""

# A kernel speaks to us over the loopback, which begins switched off.
UP = 'ip link set lo up; exec "$@"'
# No packet is sent: that there is no way out shows when the socket looks for one.
IS_CUT_OFF = """
import socket
here = socket.create_server(("127.0.0.1", 0))
socket.create_connection(here.getsockname())
try:
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect(("192.0.2.1", 9))
except OSError:
    raise SystemExit(0)
raise SystemExit("the network can be reached")
"""
# A chapter's kernel is one more process of the same Python, so the trial starts one too.
IS_NOT_ROOT = """
import os, subprocess, sys
sys.exit(os.geteuid() == 0 or subprocess.call([sys.executable, "-c", "import nbclient"]))
"""


def succeeds(*command):
    try:
        return subprocess.run(command, capture_output=True).returncode == 0
    except OSError:
        return False


def without_network(python):
    for namespace in (["unshare", "-n"], ["unshare", "-rn"]):
        cut = (*namespace, "sh", "-c", UP, "sh")
        if succeeds(*cut, python, "-c", IS_CUT_OFF):
            return {"cut": cut}
    return "no network namespace can be made here"


def as_another_user(python):
    if os.name != "posix" or os.geteuid():
        return "this is no root, so that every other condition is this one"
    user = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
    # Where the Python lies in a home that others cannot enter: one who may read everything and write no more.
    reader = (*user, "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")
    for become in (user, reader):
        if succeeds(*become, python, "-c", IS_NOT_ROOT):
            return {"user": become, "new_home": True}
    return f"{python} cannot be started by another user"


def conditions(python):
    """Give for each condition the options of run that make it, or a sentence on why it is left out."""
    made = (
        {},  # the order is main's
        {"times": 2},
        without_network(python),
        {"new_home": True},
        as_another_user(python),
        {"folder": "a path with späces and 字"},
    )
    return dict(zip(NAMES, made, strict=True))


def copy_to(folder):
    for name in NEEDED:
        source, target = ROOT / name, folder / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    return folder


def home_in(folder):
    """A home where nothing has been run yet, and the environment that leads there."""
    home = Path(tempfile.mkdtemp(prefix="home ", dir=folder))
    names = ("HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME")
    return {name: str(home) for name in names} | {
        "IPYTHONDIR": str(home / "ipython"),
        "JUPYTER_CONFIG_DIR": str(home / "jupyter"),
    }


def run(chapter, python, place, folder="course", times=1, cut=(), user=(), new_home=False):
    """Return what went wrong, or "", with the seconds it took and the peak of memory in bytes.

    The course is copied to place/folder, unless an earlier chapter did so.
    """
    course = place / folder
    if not course.exists():
        copy_to(course)
    environment = {"PYTHONPATH": str(course)} | (home_in(place) if new_home else {})
    if user:
        for path in [place, *place.rglob("*")]:
            shutil.chown(path, NOBODY, NOBODY)
    start = time.perf_counter()
    done = subprocess.run(
        [*cut, *user, python, "-c", RUNNER, f"notebooks/{chapter}.py", str(times)],
        cwd=course,
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )
    seconds = time.perf_counter() - start
    peaks = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("PEAK ")]
    peak = int(peaks[0]) * (1 if sys.platform == "darwin" else 1024) if peaks else 0
    wrong = "" if done.returncode == 0 else (done.stderr.strip() or f"exit status {done.returncode}")
    if not wrong and peak > LARGEST:
        wrong = f"it took {peak / 1e9:.2f} GB of memory, more than {LARGEST / 1e9:.2f}"
    return wrong, seconds, peak


def version(python):
    """The version of a Python, or "" if it lacks what a chapter needs or is none."""
    question = "import platform, torch, nbclient, jupytext; print(platform.python_version())"
    try:
        return subprocess.run([python, "-c", question], capture_output=True, text=True).stdout.strip()
    except OSError:
        return ""


def all_at_once(ways):
    """The conditions that can be made as one, and the others as they are."""
    made = {name: way for name, way in ways.items() if isinstance(way, dict)}
    together = {option: value for way in made.values() for option, value in way.items()}
    return {name: way for name, way in ways.items() if name not in made} | {"+".join(made): together}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="*", default=[""], help="numbers of chapters, such as 01 03")
    parser.add_argument("--conditions", nargs="*", choices=NAMES, default=NAMES, help="all, unless named")
    parser.add_argument("--together", action="store_true", help="all these conditions at once, in one pass")
    parser.add_argument("--seed", type=int, default=0, help="of the random order")
    parser.add_argument(
        "--python",
        action="append",
        help="a Python that has what a chapter needs, and may be given again for others; else this one",
    )
    arguments = parser.parse_args()
    chapters = sorted(path.stem for path in (ROOT / "notebooks").glob("[0-9][0-9]_*.py"))
    chapters = [name for name in chapters if name.startswith(tuple(arguments.only))]
    failed = not chapters
    for python in arguments.python or [sys.executable]:
        python = os.path.abspath(shutil.which(python) or python)  # it is started in another folder
        if not (number := version(python)):
            print(f"LEFT OUT  {python}: it lacks torch, nbclient or jupytext, or is no Python", flush=True)
            continue
        ways = {name: way for name, way in conditions(python).items() if name in arguments.conditions}
        for name, way in (all_at_once(ways) if arguments.together else ways).items():
            if isinstance(way, str):
                print(f"LEFT OUT  {number} {name}: {way}", flush=True)
                continue
            ordered = list(chapters)
            if "random-order" in name:
                random.Random(arguments.seed).shuffle(ordered)
            with tempfile.TemporaryDirectory() as temporary:
                for chapter in ordered:
                    wrong, seconds, peak = run(chapter, python, Path(temporary), **way)
                    failed |= bool(wrong)
                    state = "FAILED  " if wrong else "passed  "
                    print(
                        f"{state}  {number} {name} {chapter}  {seconds:.0f} s  {peak / 1e6:.0f} MB"
                        + (f"\n{wrong[-1500:]}" if wrong else ""),
                        flush=True,
                    )
    sys.exit(failed)


if __name__ == "__main__":
    main()
