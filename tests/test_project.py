"""The files that describe the project agree with one another."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
CONDA_NAMES = {"torch": "pytorch-cpu", "matplotlib": "matplotlib-base"}


def read(name):
    return (ROOT / name).read_text(encoding="utf-8")


def requirements(pyproject):
    """The ranges of pyproject.toml, whatever they are needed for, by name."""
    project = tomllib.loads(pyproject)["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    found = [Requirement(line) for group in groups for line in group]
    return {requirement.name: requirement for requirement in found}


def drift(pyproject, environment):
    """The lines that environment.yml has too many, and those it lacks."""
    python = tomllib.loads(pyproject)["project"]["requires-python"]
    expected = {f"{CONDA_NAMES.get(name, name)}{r.specifier}" for name, r in requirements(pyproject).items()}
    expected |= {"pip", f"python{python}", "--editable ."}
    listed = yaml.safe_load(environment)["dependencies"]
    lines = {line for line in listed if isinstance(line, str)}
    lines |= {line for group in listed if isinstance(group, dict) for line in group["pip"]}
    return lines - expected, expected - lines


def unpinned(pyproject, constraints):
    """The direct dependencies whose tested version is missing, or lies outside the range."""
    pins = dict(line.split("==") for line in constraints.splitlines() if line and not line.startswith("#"))
    pins = {canonicalize_name(name): version for name, version in pins.items()}
    return {
        name
        for name, requirement in requirements(pyproject).items()
        if name not in pins or not requirement.specifier.contains(pins[name])
    }


def make_targets(makefile):
    return set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))


def unknown_targets(text, makefile):
    """The targets that a text tells its reader to make, and that there are not."""
    return set(re.findall(r"(?:`|^ +)make ([a-z-]+)", text, re.MULTILINE)) - make_targets(makefile)


def broken_links(text):
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    return {
        target for target in targets if not target.startswith("https://") and not (ROOT / target).exists()
    }


def test_environment_yml_has_the_ranges_of_pyproject():
    assert drift(read("pyproject.toml"), read("environment.yml")) == (set(), set())


@pytest.mark.parametrize(
    "file, old, new",
    [
        ("environment.yml", "pytorch-cpu>=2.6", "pytorch-cpu>=2.5"),
        ("environment.yml", "  - tqdm>=4.66\n", ""),
        ("environment.yml", "  - tqdm", "  - scipy\n  - tqdm"),
        ("environment.yml", "python>=3.11", "python>=3.10"),
        ("pyproject.toml", '"tqdm>=4.66"', '"tqdm>=4.67"'),
        ("pyproject.toml", '"jupyterlab>=4.3", ', ""),
    ],
)
def test_drift_is_found(file, old, new):
    texts = {name: read(name) for name in ("pyproject.toml", "environment.yml")}
    assert old in texts[file]
    texts[file] = texts[file].replace(old, new)
    assert drift(*texts.values()) != (set(), set())


def test_environment_yml_installs_the_course():
    assert yaml.safe_load(read("environment.yml"))["dependencies"][-1]["pip"][-1] == "--editable ."


def test_constraints_hold_a_tested_version_of_each_dependency():
    assert unpinned(read("pyproject.toml"), read("constraints.txt")) == set()


@pytest.mark.parametrize("new", ["", "tqdm==4.65.0\n"])
def test_dependency_without_a_tested_version_is_found(new):
    constraints = re.sub(r"^tqdm==.*\n", new, read("constraints.txt"), flags=re.MULTILINE)
    assert unpinned(read("pyproject.toml"), constraints) == {"tqdm"}


def test_constraints_name_versions_that_every_index_has():
    """A version such as 2.13.0+cpu is known to one index alone, and so is a file's address."""
    lines = [line for line in read("constraints.txt").splitlines() if not line.startswith("#")]
    assert [line for line in lines if not re.fullmatch(r"[\w.-]+==[\w.]+", line)] == []


def test_readme_names_targets_that_there_are():
    makefile = read("Makefile")
    assert unknown_targets(read("README.md"), makefile) == set()
    assert unknown_targets("`make lab` or\n    make tea", makefile) == {"tea"}
    assert all(f"make {target}" in read("README.md") for target in make_targets(makefile))


def test_make_help_lists_every_target():
    listed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert set(re.findall(r"^  make ([a-z-]+)\t", listed, re.MULTILINE)) == make_targets(read("Makefile"))


def test_readme_links_lead_somewhere():
    assert broken_links(read("README.md")) == set()
    assert broken_links("[a](no/such/file.md)") == {"no/such/file.md"}


def test_readme_lists_each_chapter_that_there_is():
    stored = {f"notebooks/{path.name}" for path in (ROOT / "notebooks").glob("[0-9]*.ipynb")}
    assert set(re.findall(r"\((notebooks/[^)]+)\)", read("README.md"))) == stored


def test_citation_follows_the_format():
    citation = yaml.safe_load(read("CITATION.cff"))
    project = tomllib.loads(read("pyproject.toml"))["project"]
    assert citation["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= set(citation)
    assert citation["authors"] == [{"name": "The Attention You Can Check contributors"}]
    assert citation["version"] == project["version"]
    assert " AND ".join(citation["license"]) == project["license"]


def test_continuous_integration_runs_the_readmes_command():
    assert (ROOT / ".ci/run").stat().st_mode & 0o111
    assert read(".ci/run").rstrip().endswith("\nmake trust\nmake test")
    assert "    make test" in read("README.md")


@pytest.mark.parametrize("command", [["check"], ["format", "--check"]])
def test_ruff_finds_nothing(command):
    result = subprocess.run(
        [sys.executable, "-m", "ruff", *command, "."], cwd=ROOT, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout + result.stderr


BENCHMARKS = sorted((ROOT / "tests" / "benchmarks").glob("*.py"))


@pytest.mark.parametrize("path", BENCHMARKS, ids=lambda path: path.stem)
def test_benchmarks_start_by_the_command_they_name(path):
    """From the project's folder, as their docstrings say, with nothing added to Python's path."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, str(path.relative_to(ROOT)), "--help"]
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert result.returncode == 0 and result.stdout.startswith("usage:"), result.stderr


WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def workflow_commands(path):
    jobs = yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"].values()
    return [step["run"] for job in jobs for step in job["steps"] if "run" in step]


def test_workflows_run_what_there_is():
    commands = {path.stem: "\n".join(workflow_commands(path)) for path in WORKFLOWS}
    assert commands.keys() == {"newest", "publish", "test"}
    assert commands["test"] == ".ci/run"
    assert "make book" in commands["publish"] and "book.generate.colab" in commands["publish"]
    for text in commands.values():
        assert set(re.findall(r"make ([a-z-]+)", text)) <= make_targets(read("Makefile"))
        modules = re.findall(r"-m ((?:book|course_lib)[\w.]*)", text)
        assert all((ROOT / f"{module.replace('.', '/')}.py").is_file() for module in modules)
    newest, audit = commands["newest"].split("pip install pip-audit\n")
    assert ".[lab,test,book]" in newest and "constraint" not in newest
    assert '-m "not trust"' in newest  # they install what constraints.txt names
    assert "--strict" in audit and "--requirement constraints.txt" in audit


def test_the_newest_releases_are_tried_once_a_week():
    # YAML reads the word "on" as True.
    (schedule,) = yaml.safe_load(read(".github/workflows/newest.yml"))[True]["schedule"]
    assert re.fullmatch(r"\d+ \d+ \* \* [0-6]", schedule["cron"])
