"""Nothing from outside is executed: seen in the syntax of every file of ours."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def own(pattern):
    """The files of this kind that are not installed, built, or taken over from others."""
    for path in sorted(ROOT.glob(f"**/{pattern}")):
        parts = path.relative_to(ROOT).parts
        if not any(part.startswith(".") or part in {"_build", "build", "katex"} for part in parts):
            yield path


FILES = list(own("*.py"))
# What the tests execute stands in the tests, or in the chapters; so does what they unpickle.
ALLOWED = {
    "tests/bad_calls.py": {"eval"},  # calls from tables, which are shown as they are written
    "tests/test_attention_errors.py": {"eval"},
    "tests/test_positions_errors.py": {"eval"},
    "tests/trust/test_hostile_input.py": {"eval"},
    "tests/exercises/cells.py": {"exec", "eval", "compile"},  # the cells of exercises
    "tests/exercises/test_catalogue.py": {"exec", "compile"},  # solutions with a mistake put in
    "tests/exercises/test_cells.py": {"exec"},
    "tests/exercises/test_check.py": {"exec"},
    "tests/test_commands.py": {"runpy.run_path"},  # course.py, as another system would start it
    "tests/test_attention_recording.py": {"pickle"},  # models are copied in every way there is
    "tests/trust/test_properties.py": {"pickle", "torch.load"},
    "tests/test_pretrained.py": {"pickle"},  # to make the files that must be refused
    "tests/trust/test_files.py": {"pickle"},
}
BUILT_IN = {"eval", "exec", "compile", "__import__"}
MODULES = {"pickle", "cPickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"}
# Functions of modules, by their last two names.
CALLS = {"os.system", "os.popen", "torch.load", "yaml.load", "yaml.unsafe_load", "yaml.full_load"}
CALLS |= {"subprocess.getoutput", "subprocess.getstatusoutput", "runpy.run_path", "runpy.run_module"}
CALLS |= {"asyncio.create_subprocess_shell", *(f"builtins.{name}" for name in BUILT_IN)}
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
    names = {path.relative_to(ROOT).as_posix() for path in FILES}
    some = {"course.py", "notebooks/build.py", "course_lib/attention.py", "course_lib/data/download.py"}
    assert some | {"book/build.py", "book/generate/claims.py", "tests/conftest.py"} <= names
    assert sum(name.startswith("notebooks/0") for name in names) == 8 and len(names) > 150
    assert ALLOWED.keys() <= names
    assert {path.name for path in SCRIPTS} >= {"view.js", "live.js", "book.js"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_nothing_from_outside_is_executed(path):
    allowed = ALLOWED.get(path.relative_to(ROOT).as_posix(), set())
    found = {danger: danger.partition(": ")[2] for danger in dangers(path.read_text(encoding="utf-8"))}
    assert [danger for danger, name in found.items() if name not in allowed] == []
    assert allowed <= set(found.values())  # nothing is allowed for nothing


SCRIPTS = [path for path in own("*.js") if "tests" not in path.parts]
# What turns a text into a program or into elements of the page.
LIVELY = re.compile(
    r"\beval\b|\bFunction\(|(inner|outer)HTML|insertAdjacentHTML|createContextualFragment|srcdoc|DOMParser"
    r"|document\.write|javascript:|set(Timeout|Interval)\(\s*['\"`]"
)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_script_makes_a_program_or_elements_of_a_text(path):
    assert LIVELY.search(path.read_text(encoding="utf-8")) is None


@pytest.mark.parametrize(
    "text", ["eval(x)", "new Function(x)", "box.innerHTML = x", "setTimeout('x', 1)", "document.write(x)"]
)
def test_the_search_in_scripts_finds_what_it_is_for(text):
    assert LIVELY.search(text)


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
        "builtins.eval(text)",
        "asyncio.create_subprocess_shell(text)",
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
