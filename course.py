"""Does what the Makefile's targets say; where there is no make, call it directly:

    python3 course.py lab [options of JupyterLab]     open the course in the browser
    python3 course.py test [options of pytest]        run the tests
    python3 course.py trust [options of pytest]       run those that take minutes
    python3 course.py notebooks [03]                  execute the chapters anew, or that one
    python3 course.py book [--serve | --pdf]          build the book; show it, or print it
    python3 course.py bench [options]                 train the translators of the benchmark

Each command first makes the virtual environment .venv and installs the course in it, unless that is
done already. It may be cut off at any moment: the next run repairs what it finds.

A Python that is too old must get as far as saying so. Hence nothing but the standard library here, and
no syntax newer than Python 2.7: no f-strings, no annotations.
"""

import contextlib
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys

ROOT = os.path.dirname(os.path.abspath(__file__))
VENV = os.path.join(ROOT, ".venv")
PYTHON = (
    os.path.join(VENV, "Scripts", "python.exe") if os.name == "nt" else os.path.join(VENV, "bin", "python")
)
LOG = os.path.join(VENV, "set-up.log")
# Present while something is being installed: found at the start, it tells that the last try was cut off.
UNFINISHED = os.path.join(VENV, "unfinished")
CPU_TORCH = "https://download.pytorch.org/whl/cpu"


def main(command="help", *arguments):
    if sys.version_info < (3, 11):
        stop(
            "Python 3.11 or newer is needed, and this is {0}.{1}.{2}: install a newer one from "
            "https://www.python.org/downloads/, or name one that you have, for example: "
            "make {cmd} PYTHON=python3.12 (without make: python3.12 course.py {cmd}).".format(
                *sys.version_info[:3], cmd=command
            )
        )
    os.chdir(ROOT)
    if command == "lab":
        set_up("lab")
        os.chdir("notebooks")
        # Root is who one is in a container, and JupyterLab wants to be told that this is meant.
        root = ["--allow-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
        # The learner's options come last, so that they win.
        become(["-m", "jupyterlab", "--ip=127.0.0.1", "--ServerApp.root_dir=" + os.getcwd()], root, arguments)
    elif command == "test":
        set_up("lab", "test", "book")
        # Files are shared out among processes. Four are enough: each may hold PyTorch and a browser.
        spread = ["--numprocesses=auto", "--maxprocesses=4", "--dist=loadfile"]
        become(["-m", "pytest"], spread, ["-m", "not trust"], arguments)
    elif command == "trust":
        set_up("lab", "test", "book")
        become(["-m", "pytest", "-m", "trust", "-s"], arguments)
    elif command == "notebooks":
        set_up("lab", "test")
        become([os.path.join("notebooks", "build.py")], arguments)
    elif command == "book":
        # Printing needs a browser, and Playwright, which steers it, is one of the packages of the tests.
        set_up(*(("test", "book") if "--pdf" in arguments else ("book",)))
        become(["-m", "book.build"], arguments)
    elif command == "bench":
        set_up("lab")
        become([os.path.join("tests", "benchmarks", "translation.py")], arguments)
    else:
        stop(__doc__)


def set_up(*extras):
    """Make .venv and install the course with these extras, unless that is done."""
    if is_set_up(extras):
        return
    with only_one():
        if is_set_up(extras):
            return  # done by the one that we waited for
        if not usable():
            say("Making a virtual environment in .venv.")
            make_venv()
        say("Installing the course in .venv. The first time this takes some minutes and about 1.5 GB.")
        open(UNFINISHED, "w").close()
        install(extras)
        for extra in extras:
            write_atomically(stamp(extra), fingerprint())
        os.remove(UNFINISHED)


def fingerprint():
    """Changes with whatever the environment was made from: what to install, for which Python, where."""
    digest = hashlib.sha256(repr((ROOT, sys.version_info[:2])).encode())
    for name in ("pyproject.toml", "constraints.txt"):
        with open(os.path.join(ROOT, name), "rb") as file:
            digest.update(file.read())
    return digest.hexdigest()


def stamp(extra):
    return os.path.join(VENV, "installed-" + extra)


def is_set_up(extras):
    if os.path.exists(UNFINISHED) or not os.path.exists(PYTHON):
        return False
    return all(read(stamp(extra)) == fingerprint() for extra in extras)


def usable():
    """Whether .venv can be installed into: made for this Python, with pip, and by no try that was cut off."""
    version = re.search(r"^version *= *(\d+)\.(\d+)", read(os.path.join(VENV, "pyvenv.cfg")), re.MULTILINE)
    if os.path.exists(UNFINISHED) or not os.path.exists(PYTHON) or not version:
        return False
    if (int(version.group(1)), int(version.group(2))) != sys.version_info[:2]:
        return False
    return subprocess.call([PYTHON, "-m", "pip", "--version"], stdout=subprocess.DEVNULL) == 0


def make_venv():
    try:
        import ensurepip  # noqa: F401
    except ImportError:
        stop(
            "This Python cannot make virtual environments: install its venv module (on Debian and Ubuntu: "
            "sudo apt install python{0}.{1}-venv) and run the command again.".format(*sys.version_info[:2])
        )
    if os.path.lexists(VENV):
        shutil.rmtree(VENV)
    os.mkdir(VENV)
    open(UNFINISHED, "w").close()
    # The Python underneath, should this script have been started with the one that was just removed.
    base = getattr(sys, "_base_executable", None) or sys.executable
    if subprocess.call([base, "-m", "venv", VENV], stdout=sys.stderr):
        stop("The virtual environment {0} could not be made, for the reason above.".format(VENV))


def install(extras):
    pip = [PYTHON, "-m", "pip", "install", "--disable-pip-version-check", "--log", LOG]
    pip += ["--constraint", "constraints.txt", "--editable", ".[" + ",".join(extras) + "]"]
    if os.path.exists(LOG):
        os.remove(LOG)  # pip would append
    # Two new tries tell a hiccup from a missing network, where pip's five keep the learner waiting.
    environment = dict(os.environ, PIP_RETRIES=os.environ.get("PIP_RETRIES", "2"))
    # pip reports its progress, and its errors are in the log: one sentence about them is enough.
    if subprocess.call(pip + cpu_torch(), env=environment, stdout=sys.stderr, stderr=subprocess.DEVNULL) == 0:
        return
    log = read(LOG)
    # pip fetches everything before it touches what is installed. (Indented, the line is about a build.)
    if not re.search(r"^\S+ Installing collected packages", log, re.MULTILINE):
        os.remove(UNFINISHED)
    if "No space left on device" in log:
        stop("The disk is full: make about 2 GB free and run the command again (details: {0}).".format(LOG))
    if re.search(
        "connection error:|connection broken|Max retries exceeded|Read timed out", log, re.IGNORECASE
    ):
        index = re.search(r"(?:Could not fetch URL|Looking in indexes:) (https?://[^/\s]+)", log)
        stop(
            "The package index {0} could not be reached: connect to the network and run the command again "
            "(details: {1}).".format(index.group(1) if index else "https://pypi.org", LOG)
        )
    errors = re.findall(r"ERROR: (.+)", log) or ["no reason given"]
    stop("pip could not install the course: {0} (details: {1})".format(errors[-1], LOG))


def cpu_torch():
    """Where PyPI's torch has gigabytes of GPU libraries and there is no GPU: the index of the one without."""
    own_index = "PIP_INDEX_URL" in os.environ or "PIP_NO_INDEX" in os.environ
    if own_index or not sys.platform.startswith("linux") or shutil.which("nvidia-smi"):
        return []
    import urllib.request

    try:
        urllib.request.urlopen(CPU_TORCH + "/torch/", timeout=5).close()
    except OSError:
        say("{0} is out of reach: taking torch from the usual index.".format(CPU_TORCH))
        return []
    return ["--extra-index-url", CPU_TORCH]


@contextlib.contextmanager
def only_one():
    """Let a second set-up of this folder wait for the first. The lock ends with its process."""
    try:
        import fcntl
    except ImportError:  # Windows: there two at once are not held apart
        yield
        return
    # Opened for writing, as network file systems ask, and never written.
    with open(os.path.join(ROOT, "constraints.txt"), "a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("Another set-up is running in this folder: waiting for it.")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def become(*parts):
    """Turn this process into that one, so that Ctrl-C and kill reach it directly."""
    command = [PYTHON] + [word for part in parts for word in part]
    sys.stderr.flush()
    if os.name == "posix":
        os.execv(PYTHON, command)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # on Windows: Ctrl-C is for the child, and we wait for it
    sys.exit(subprocess.call(command))


def read(path):
    """The text of a file, and nothing where there is none."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except FileNotFoundError:
        return ""


def write_atomically(path, text):
    with open(path + ".new", "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(path + ".new", path)


def say(sentence):
    sys.stderr.write(sentence + "\n")
    sys.stderr.flush()


def stop(sentence):
    sys.exit(sentence)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except KeyboardInterrupt:
        stop("\nStopped. Run the same command again to go on.")
    except EnvironmentError as error:  # OSError, by the name that Python 2.7 knows too
        stop("{0}: {1}.".format(error.filename or "The set-up failed", error.strerror))
