"""The commands set themselves up, say what is missing, and repair what was cut off.

All of it is tried on a tiny course that installs within seconds and without the network, in a folder whose
name has spaces and letters beyond ASCII.
"""

import ast
import json
import os
import re
import runpy
import shutil
import signal
import subprocess
import sys
import time
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.skipif(os.name == "nt", reason="make and signals are tried on Unix")

PYPROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
[project]
name = "tiny"
version = "1"
dependencies = []
"""

# What setuptools would do, without having to be downloaded: a wheel that puts this folder on Python's path.
BACKEND = """
import os, time, zipfile

def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    if os.path.exists("be slow"):
        open("building", "w").close()
        time.sleep(600)
    needs = "".join("Requires-Dist: " + line for line in open("needs"))
    metadata = "Metadata-Version: 2.1\\nName: tiny\\nVersion: 1\\n"
    metadata += "Provides-Extra: lab\\nProvides-Extra: test\\nProvides-Extra: book\\n"
    files = {
        "tiny.pth": os.getcwd() + "\\n",
        "tiny-1.dist-info/METADATA": metadata + needs,
        "tiny-1.dist-info/WHEEL": "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
    }
    files["tiny-1.dist-info/RECORD"] = "".join(name + ",,\\n" for name in [*files, "tiny-1.dist-info/RECORD"])
    with zipfile.ZipFile(os.path.join(wheel_directory, "tiny-1-py3-none-any.whl"), "w") as wheel:
        for name, text in files.items():
            wheel.writestr(name, text)
    return "tiny-1-py3-none-any.whl"
"""

# In place of JupyterLab, pytest and the scripts: say how it was called.
ECHO = "import json, os, sys; print(json.dumps([sys.prefix, os.getcwd(), sys.argv[1:]]))"

ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "MAKE"))}
ENVIRONMENT |= {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "PYTHON": sys.executable}
ENVIRONMENT |= {"no_proxy": "127.0.0.1", "NO_PROXY": "127.0.0.1"}  # nobody stands between us and our own port


def make(folder, *words, **environment):
    return subprocess.run(
        ["make", *words],
        cwd=folder,
        env=ENVIRONMENT | environment,
        capture_output=True,
        text=True,
        encoding="utf-8",
    )


def called(result):
    """What the stand-in was called with, if the command came that far."""
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


def is_marked_installed(folder):
    return any(path.name.startswith("installed-") for path in (folder / ".venv").glob("*"))


@pytest.fixture(scope="module")
def virtual_environment(tmp_path_factory):
    """Made once, since it takes seconds. Nothing is installed in it."""
    folder = tmp_path_factory.mktemp("environment") / ".venv"
    venv.create(folder, with_pip=True, symlinks=True)
    return folder


@pytest.fixture
def bare(tmp_path):
    """A tiny course that was never set up."""
    folder = tmp_path / "x y ü"
    files = {"pyproject.toml": PYPROJECT, "backend.py": BACKEND, "constraints.txt": "", "needs": ""}
    echoes = ["jupyterlab.py", "pytest.py", "notebooks/build.py", "book/build.py"]
    echoes += ["tests/benchmarks/translation.py"]
    for name, text in (files | dict.fromkeys(echoes, ECHO)).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    for name in ("course.py", "Makefile"):
        shutil.copy(ROOT / name, folder)
    return folder


@pytest.fixture
def new(bare, virtual_environment):
    """A tiny course with an environment that nothing is installed in yet."""
    shutil.copytree(virtual_environment, bare / ".venv", symlinks=True)
    return bare


def test_commands_set_themselves_up_once_and_pass_on_their_options(new):
    prefix, folder, options = called(make(new, "lab", "ARGS=--no-browser --port 8899"))
    assert (prefix, folder) == (str(new / ".venv"), str(new / "notebooks"))
    assert options[0] == "--ip=127.0.0.1" and options[-3:] == ["--no-browser", "--port", "8899"]
    assert options[1] == f"--ServerApp.root_dir={folder}"
    assert ("--allow-root" in options) == (os.geteuid() == 0)

    log = new / ".venv" / "set-up.log"
    log.unlink()
    again = make(new, "lab")
    assert called(again) and again.stderr == "" and not log.exists()  # nothing was installed

    result = make(new, "test", "ARGS=-k 'this or that'")
    spread = ["--numprocesses=auto", "--maxprocesses=4", "--dist=loadfile", "-m", "not trust"]
    assert called(result) == [prefix, str(new), [*spread, "-k", "this or that"]]
    assert "Installing" in result.stderr  # what testing needs beyond the lab
    commands = {
        "notebooks": [],
        "trust": ["-m", "trust", "-s"],
        "bench": [],
        "book": [],
        "book-serve": ["--serve"],
        "book-pdf": ["--pdf"],
    }
    for command, options in commands.items():
        result = make(new, command)
        assert called(result) == [prefix, str(new), options] and result.stderr == ""
    assert called(make(new, "notebooks", "ONLY=03"))[2] == ["03"]

    with (new / "constraints.txt").open("a") as file:
        file.write("# changed\n")
    assert "Installing" in make(new, "lab").stderr


def test_broken_environment_is_made_anew(new):
    usable = runpy.run_path(str(new / "course.py"))["usable"]
    assert usable()
    shutil.rmtree(next((new / ".venv").glob("lib/*/site-packages/pip")))
    assert not usable()
    shutil.rmtree(new / ".venv" / "bin")
    assert not usable()
    result = make(new, "lab")
    assert called(result) and "Making" in result.stderr
    assert usable()


def test_environment_of_another_python_is_not_used(new):
    usable = runpy.run_path(str(new / "course.py"))["usable"]
    configuration = new / ".venv" / "pyvenv.cfg"
    configuration.write_text(re.sub(r"(?m)^version = .*", "version = 3.10.1", configuration.read_text()))
    assert not usable()


def test_killed_set_up_is_repaired(new):
    (new / "be slow").touch()
    process = subprocess.Popen(
        ["make", "lab"], cwd=new, env=ENVIRONMENT, stderr=subprocess.DEVNULL, start_new_session=True
    )
    while not (new / "building").exists():
        assert process.poll() is None
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    (new / "be slow").unlink()
    assert (new / ".venv" / "unfinished").exists() and not is_marked_installed(new)
    result = make(new, "lab")
    assert called(result) and "Making" in result.stderr
    assert not (new / ".venv" / "unfinished").exists()


def test_two_at_once_install_once(new):
    both = [
        subprocess.Popen(
            ["make", "lab"], cwd=new, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for _ in range(2)
    ]
    messages = [process.communicate()[1].decode() for process in both]
    assert [process.returncode for process in both] == [0, 0], messages
    assert sorted("Installing" in message for message in messages) == [False, True]


def test_missing_network_is_one_sentence_and_leaves_nothing_half_made(new):
    (new / "needs").write_text("something-to-download\n")
    index = "http://127.0.0.1:9/simple"  # the port of the discard service, where nobody listens
    away = {"PIP_INDEX_URL": index, "PIP_NO_INDEX": "0", "PIP_RETRIES": "0"}
    result = make(new, "lab", **away)
    assert result.returncode != 0
    sentence = re.search(
        r"^The package index (\S+) could not be reached: .*\(details: (.+)\)\.$", result.stderr, re.M
    )
    assert sentence and sentence[1] == "http://127.0.0.1:9"
    assert "something-to-download" in Path(sentence[2]).read_text(encoding="utf-8")
    assert "Traceback" not in result.stderr and "ERROR" not in result.stderr
    assert not is_marked_installed(new)
    (new / "needs").write_text("")
    result = make(new, "lab")
    assert called(result) and "Making" not in result.stderr  # the empty environment was whole


def test_what_cannot_be_installed_is_named(new):
    (new / "needs").write_text("something-to-download\n")
    result = make(new, "lab")
    assert result.returncode != 0
    assert "pip could not install the course: No matching distribution found for something" in result.stderr
    assert not is_marked_installed(new)


def test_old_python_is_told_so(bare):
    code = "import runpy, sys; sys.version_info = (3, 9, 1); runpy.run_path('course.py', run_name='__main__')"
    result = subprocess.run([sys.executable, "-c", code, "lab"], cwd=bare, capture_output=True, text=True)
    assert result.returncode == 1
    assert result.stderr.startswith("Python 3.11 or newer is needed, and this is 3.9.1: install a newer one")
    assert len(result.stderr.splitlines()) == 1
    assert not (bare / ".venv").exists()


def test_old_python_can_read_course_py():
    """No syntax beyond Python 2.7, or the reader gets a SyntaxError instead of the sentence."""
    text = (ROOT / "course.py").read_bytes().decode("ascii")
    young = (ast.JoinedStr, ast.AnnAssign, ast.NamedExpr, ast.AsyncFunctionDef, ast.Match, ast.Nonlocal)
    for node in ast.walk(ast.parse(text)):
        assert not isinstance(node, young), ast.unparse(node)
        if isinstance(node, ast.FunctionDef):
            assert node.returns is None and not node.args.kwonlyargs and not node.args.posonlyargs
            assert all(argument.annotation is None for argument in node.args.args)
        if isinstance(node, ast.Raise):
            assert node.cause is None


def test_python_without_its_venv_module_is_told_so(bare, monkeypatch):
    """Debian and Ubuntu put it into a package of its own."""
    course = runpy.run_path(str(bare / "course.py"))
    monkeypatch.setitem(sys.modules, "ensurepip", None)
    with pytest.raises(SystemExit, match=r"sudo apt install python3\.\d+-venv"):
        course["make_venv"]()
    assert not (bare / ".venv").exists()


def test_make_alone_explains_itself(bare):
    result = make(bare)
    assert result.returncode == 0 and "make lab" in result.stdout
    assert not (bare / ".venv").exists()
