"""Run the chapters under unusual conditions, and report which pass and how much memory each takes.

    python tests/trust/notebooks.py                      every condition, every chapter
    python tests/trust/notebooks.py --only 01 --conditions twice no-network

Each chapter runs in a kernel of its own, from its source in a copy of the repository; nothing is stored. A
condition that this machine cannot make is reported as left out, never as passed.
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
NEEDED = ("course_lib", "notebooks", "tests/no_network.py", "pyproject.toml")

# Runs in the Python of the condition: the source, how many times, in which folder. A child of ours, so that
# its kernel's peak of memory can be asked for.
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


def can_unshare():
    return (
        shutil.which("unshare")
        and subprocess.call(["unshare", "-rn", "true"], stderr=subprocess.DEVNULL) == 0
    )


def copy_to(folder):
    for name in NEEDED:
        source, target = ROOT / name, folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    return folder


def run(folder, chapter, python, times=1, before=(), environment=None):
    """Return what went wrong, or "", with the seconds it took and the peak of memory in bytes."""
    start = time.perf_counter()
    done = subprocess.run(
        [*before, python, "-c", RUNNER, f"notebooks/{chapter}.py", str(times)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder), **(environment or {})},
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


def conditions(folder, chapters, seed, pythons):
    """Give each condition's name and a list of (chapter, options of run), or why it is left out."""
    plain = [(chapter, {}) for chapter in chapters]
    shuffled = random.Random(seed).sample(plain, len(plain))
    yield "random-order", shuffled
    yield "twice", [(chapter, {"times": 2}) for chapter, _ in plain]
    if can_unshare():
        up = 'ip link set lo up 2>/dev/null; exec "$@"'  # the kernel speaks to us over the loopback
        cut = {"before": ("unshare", "-rn", "sh", "-c", up, "sh")}
        yield "no-network", [(chapter, cut) for chapter, _ in plain]
    else:
        guard = folder / "ipython" / "profile_default" / "startup"
        yield (
            "no-network",
            f"no network namespaces here; the tests refuse connections in {guard.name} instead",
        )
    home = folder / "new home"
    home.mkdir(exist_ok=True)
    fresh = {name: str(home) for name in ("HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME")}
    fresh |= {"IPYTHONDIR": str(home / "ipython"), "JUPYTER_CONFIG_DIR": str(home / "jupyter")}
    yield "fresh-home", [(chapter, {"environment": fresh}) for chapter, _ in plain]
    if os.name == "posix" and os.geteuid() == 0 and shutil.which("setpriv"):
        nobody = {"before": ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")}
        # A chapter's kernel is one more process of the same Python, so the trial starts one too.
        again = "import subprocess, sys; sys.exit(subprocess.call([sys.executable, '-c', 'import torch']))"
        trial = [*nobody["before"], sys.executable, "-c", again]
        reachable = subprocess.call(trial, stderr=subprocess.DEVNULL, env={**os.environ, **fresh}) == 0
        for path in [folder, *folder.rglob("*")]:
            shutil.chown(path, 65534, 65534)
        if reachable:
            yield "non-root", [(chapter, nobody | {"environment": fresh}) for chapter, _ in plain]
        else:
            yield "non-root", f"{sys.executable} cannot be started by another user"
    else:
        yield "non-root", "this is no root, so every other condition runs as a non-root user"
    odd = folder / "a path with späces and 字"
    yield "odd-path", [(chapter, {"folder": odd}) for chapter, _ in plain]
    for python in pythons:
        missing = subprocess.run(
            [python, "-c", "import torch, nbclient, jupytext"], capture_output=True, text=True
        )
        if missing.returncode:
            yield f"python {python}", "it lacks torch, nbclient or jupytext"
        else:
            yield f"python {python}", [(chapter, {"python": python}) for chapter, _ in plain]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="*", default=[""], help="numbers of chapters, such as 01 03")
    parser.add_argument("--conditions", nargs="*", help="names of conditions")
    parser.add_argument("--seed", type=int, default=0, help="of the random order")
    parser.add_argument(
        "--python", nargs="*", default=[], help="further Pythons that have what a chapter needs"
    )
    arguments = parser.parse_args()
    chapters = sorted(path.stem for path in (ROOT / "notebooks").glob("[0-9][0-9]_*.py"))
    chapters = [name for name in chapters if name.startswith(tuple(arguments.only))]
    failed = not chapters
    with tempfile.TemporaryDirectory() as temporary:
        os.chmod(temporary, 0o755)
        folder = copy_to(Path(temporary) / "course")
        for name, runs in conditions(folder, chapters, arguments.seed, arguments.python):
            if arguments.conditions and name.split()[0] not in arguments.conditions:
                continue
            if isinstance(runs, str):
                print(f"LEFT OUT  {name}: {runs}", flush=True)
                continue
            for chapter, options in runs:
                options = {"folder": folder, "python": sys.executable} | options
                if not options["folder"].exists():
                    copy_to(options["folder"])
                wrong, seconds, peak = run(chapter=chapter, **options)
                failed |= bool(wrong)
                state = (
                    f"FAILED    {name} {chapter}: {wrong[-1500:]}" if wrong else f"passed    {name} {chapter}"
                )
                print(f"{state}  {seconds:.0f} s  {peak / 1e6:.0f} MB", flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()
