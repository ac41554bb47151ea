"""Nothing from outside is executed: seen in the syntax of every file that runs on a reader's machine."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted(
    path
    for pattern in (
        "course.py",
        "course_lib/**/*.py",
        "book/*.py",
        "book/generate/**/*.py",
        "notebooks/build.py",
    )
    for path in ROOT.glob(pattern)
)
BUILT_IN = {"eval", "exec", "compile", "__import__"}
MODULES = {"pickle", "cPickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"}
# Functions of modules, by their last two names.
CALLS = {"os.system", "os.popen", "torch.load", "yaml.load", "yaml.unsafe_load", "yaml.full_load"}
CALLS |= {"subprocess.getoutput", "subprocess.getstatusoutput", "runpy.run_path", "runpy.run_module"}
SWITCHES = {"shell": True, "allow_pickle": True, "weights_only": False}


def dangers(text):
    """What in a source text can execute what it is given, with its lines."""
    found = []
    for node in ast.walk(ast.parse(text)):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name.split(".")[0] for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [(node.module or "").split(".")[0]]
            names += [name for name in (alias.name for alias in node.names) if name in BUILT_IN]
            found += [
                f"{node.lineno}: {node.module}.{alias.name}"
                for alias in node.names
                if f"{node.module}.{alias.name}" in CALLS
            ]
        found += [f"{node.lineno}: {name}" for name in names if name in MODULES | BUILT_IN]
        # Not only called: handed on, it is as dangerous.
        if isinstance(node, ast.Name) and node.id in BUILT_IN:
            found.append(f"{node.lineno}: {node.id}")
        if isinstance(node, ast.Attribute) and ".".join(ast.unparse(node).split(".")[-2:]) in CALLS:
            found.append(f"{node.lineno}: {ast.unparse(node)}")
        if isinstance(node, ast.keyword) and node.arg in SWITCHES:
            safe = isinstance(node.value, ast.Constant) and node.value.value is not SWITCHES[node.arg]
            found += [] if safe else [f"{node.lineno}: {ast.unparse(node)}"]
    return found


def test_the_files_are_there():
    names = {path.name for path in FILES}
    assert {"course.py", "build.py", "attention.py", "download.py", "claims.py"} <= names and len(FILES) > 60


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_nothing_from_outside_is_executed(path):
    assert dangers(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "text",
    [
        "eval('1')",
        "exec(text)",
        "run = eval",
        "import pickle",
        "from pickle import loads as safe",
        "import torch\ntorch.load(path)",
        "from torch import load\nfrom yaml import unsafe_load",
        "import numpy as np\nnp.load(path, allow_pickle=True)",
        "subprocess.run(words, shell=True)",
        "subprocess.run(words, shell=choice)",
        "yaml.load(text, Loader)",
        "os.system('ls')",
        "__import__('os')",
    ],
)
def test_the_search_finds_what_it_is_for(text):
    assert dangers(text)


@pytest.mark.parametrize(
    "text",
    [
        "'eval(text) and pickle'  # exec",
        "model.eval()",
        "re.compile('a')",
        "subprocess.run(words, shell=False)",
        "yaml.safe_load(text)",
    ],
)
def test_the_search_leaves_the_harmless_alone(text):
    assert dangers(text) == []
