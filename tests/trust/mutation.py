"""Do the tests notice when the library is wrong? Mutation testing: change it in one place, and see.

    python -m tests.trust.mutation                      every mutant of every module below
    python -m tests.trust.mutation attention layers     of these modules
    python -m tests.trust.mutation --sample 300         a sample, the same for the same --seed
    python -m tests.trust.mutation --only "dim="        those whose name holds this
    python -m tests.trust.mutation --again              those that are not known to be killed
    python -m tests.trust.mutation --again --sample 0   those that survived without a reason given

Each mutant runs in a process of its own, forked from one that has imported PyTorch, but nothing of the
course: the child puts the changed source in the place of the file, and runs the tests that reach the changed
statement, until one fails. A mutant is killed by a failing test, by not being importable, and by a test that
takes many times as long or as much memory as it should. What survives is listed in mutation.json, beside the
counts; mutants.toml says why, of mutants that do what the original does (they are not counted) and of others
that are let live.

Hypothesis draws the same examples each time here, so that two runs agree.
"""

import argparse
import datetime
import gc
import hashlib
import importlib
import json
import os
import platform
import random
import resource
import signal
import sys
import tempfile
import time
import tomllib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.machinery import SourceFileLoader
from pathlib import Path

import hypothesis
import pytest
import torch

from tests.trust.mutants import Mutant, mutants_of

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
RESULT = HERE / "mutation.json"
FATES = ROOT / ".pytest_cache" / "mutation.json"  # the fate of each mutant, for --again
REASONS = HERE / "mutants.toml"

# Each module, and the test files that must notice what happens to it, those for it first.
ATTENTION = ("test_attention", "test_attention_errors", "test_attention_recording", "test_attention_parity")
POSITIONS = ("test_positions", "test_positions_errors", "test_positions_parity")
REFUSALS = "trust/test_hostile_input"
TESTS = {
    "attention": (*ATTENTION, "test_layers", REFUSALS),
    "positions": (*POSITIONS, "test_layers", REFUSALS),
    "layers": ("test_layers", "models/test_transformer", "models/test_gpt", REFUSALS),
    "decoding": ("test_decoding", "test_beam_search", REFUSALS),
    "models.seq2seq": ("models/test_seq2seq", "test_decoding", REFUSALS),
    "models.transformer": ("models/test_transformer", REFUSALS),
    "models.gpt": ("models/test_gpt", REFUSALS),
    "models.vit": ("models/test_vit", REFUSALS),
}
# What the tests need and is slow to import; none of it imports the course.
SLOW_IMPORTS = (
    "jaxtyping",
    "beartype",
    "matplotlib.pyplot",
    "sklearn.datasets",
    "torch._dynamo",
    "transformers",
    "transformers.models.bloom.modeling_bloom",
    "transformers.models.gpt2.modeling_gpt2",
    "transformers.models.gpt_neox.modeling_gpt_neox",
    "transformers.models.gptj.modeling_gptj",
    "transformers.models.llama.modeling_llama",
    "transformers.models.t5.modeling_t5",
    "transformers.models.vit.modeling_vit",
)
GIGABYTES = 6  # for a child, beyond what the parent has; the tests' tensors are tiny


def file_of(module: str) -> Path:
    return ROOT / "course_lib" / (module.replace(".", "/") + ".py")


# ------------------------------------------------------------------------------------------- in a child


class Replaced(SourceFileLoader):
    """What every import of a Python file asks: here one file has another text, and no compiled copy."""

    path_of_mutant, mutated = "", b""
    usual = SourceFileLoader.get_data

    def get_data(self, path):
        if self.path != Replaced.path_of_mutant:
            return Replaced.usual(self, path)
        if path != self.path:
            raise OSError("a compiled copy would be of the original")
        return Replaced.mutated


class Watch:
    """A pytest plugin: run the chosen tests in their order, and note times, failures and lines reached."""

    def __init__(self, chosen: list[str] | None, traced: str | None = None):
        self.chosen, self.traced = chosen, traced
        self.seconds, self.lines, self.failed, self.running = {}, {}, [], None

    def pytest_collection_modifyitems(self, items):
        if self.chosen is not None:
            by_name = {item.nodeid: item for item in items}
            items[:] = [by_name[name] for name in self.chosen if name in by_name]

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_protocol(self, item):
        self.running = self.lines.setdefault(item.nodeid, set())
        torch.manual_seed(0)  # or what a test draws would depend on which tests ran before it
        start = time.perf_counter()
        sys.settrace(self._call if self.traced else None)
        yield
        sys.settrace(None)
        self.seconds[item.nodeid] = time.perf_counter() - start

    def pytest_runtest_logreport(self, report):
        if report.failed:
            self.failed.append(report.nodeid)

    def pytest_collectreport(self, report):
        if report.failed:
            self.failed.append(f"import of {report.nodeid}")

    def _call(self, frame, event, argument):
        return self._line if frame.f_code.co_filename == self.traced else None

    def _line(self, frame, event, argument):
        self.running.add(frame.f_lineno)
        return self._line


def run_tests(files: list[str], watch: Watch, first_only: bool) -> int:
    hypothesis.settings.register_profile(
        "mutation",
        derandomize=True,
        database=None,
        phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],  # a failure need not be made small
    )
    hypothesis.settings.load_profile("mutation")
    options = ["-q", "--no-header", "--tb=no", "--assert=plain", "--import-mode=importlib", "-o", "addopts="]
    options += ["-p", "no:cacheprovider", "-p", "no:unraisableexception"]
    return pytest.main([*options, *(["-x"] if first_only else []), *files], plugins=[watch])


# ------------------------------------------------------------------------------------------- the parent


def prepare() -> None:
    """Import what all the tests need, once; a fork then takes milliseconds."""
    os.chdir(ROOT)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    torch.set_num_threads(1)  # a fork keeps none of its parent's threads
    for name in SLOW_IMPORTS:
        importlib.import_module(name)
    if any(name.startswith("course_lib") for name in sys.modules):
        raise RuntimeError("the course is imported already: a child would not see its mutant")
    gc.freeze()  # or each child would look through all that its parent has imported


@dataclass
class Child:
    """A forked process that runs tests, and the file in which it says what came of it."""

    pid: int
    answer: Path
    until: float

    def ended(self) -> tuple[str, dict] | None:
        """What became of it, or None while it runs."""
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        if pid == 0:
            if time.monotonic() < self.until:
                return None
            os.killpg(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            return "time", {}
        if os.WIFSIGNALED(status):
            name = signal.Signals(os.WTERMSIG(status)).name
            return ("time" if name in ("SIGXCPU", "SIGKILL") else name), {}
        said = json.loads(self.answer.read_text()) if self.answer.exists() else {}
        code = os.WEXITSTATUS(status)
        meaning = {0: "survived", 1: "a failing test", 2: "import", 5: "survived"}
        if code not in meaning or (code == 5 and said["failed"]):
            raise RuntimeError(f"pytest ended with {code}; run its tests by hand: {said}")
        return meaning[code], said


def fork(module: str, source: str, files: list[str], watch: Watch, seconds: float, folder: Path) -> Child:
    """Run tests on a source in a child that may take that many seconds of processor time."""
    answer = folder / f"{time.monotonic_ns()}.json"
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return Child(pid, answer, time.monotonic() + 10 * seconds + 60)
    os.setsid()
    log = os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + GIGABYTES * 2**30,) * 2)
    resource.setrlimit(resource.RLIMIT_CPU, (int(seconds) + 1, int(seconds) + 5))
    Replaced.path_of_mutant, Replaced.mutated = str(file_of(module)), source.encode()
    SourceFileLoader.get_data = Replaced.get_data
    code = 3
    try:
        code = run_tests(files, watch, first_only=watch.chosen is not None)
        lines = {name: sorted(lines) for name, lines in watch.lines.items()}
        answer.write_text(json.dumps({"failed": watch.failed, "seconds": watch.seconds, "lines": lines}))
    finally:
        os._exit(code)  # whatever happened: a child must not go on as a second parent


def wait(child: Child) -> tuple[str, dict]:
    while (end := child.ended()) is None:
        time.sleep(0.02)
    return end


@dataclass
class Baseline:
    """What the tests of a module do with the original: how long each takes, and which lines it reaches."""

    seconds: dict[str, float]
    lines: dict[str, set[int]]

    def reaching(self, mutant: Mutant) -> list[str]:
        """The tests that run the changed statement: one of each function first, the quick ones before."""
        names = [
            name
            for name, lines in self.lines.items()
            if mutant.lines is None or not lines.isdisjoint(mutant.lines)
        ]
        turns, turn = Counter(), {}
        for name in sorted(names, key=self.seconds.get):
            function = name.split("[")[0]
            turn[name] = turns[function]
            turns[function] += 1
        return sorted(names, key=lambda name: (turn[name], self.seconds[name]))


def baseline(module: str, source: str, files: list[str], folder: Path) -> Baseline:
    """Run all the tests on the original, in a child as the mutants will be; they must pass."""
    found = []
    # The second time in another order, since in their own order is not how mutants will meet them.
    for traced in (str(file_of(module)), None):
        order = list(reversed(found[0]["seconds"])) if found else None
        end, said = wait(fork(module, source, files, Watch(order, traced), 1800, folder))
        if end != "survived":
            log = (folder / "log").read_text()
            raise SystemExit(f"the tests of {module} fail without any mutation ({end})\n{log[-3000:]}")
        found.append(said)
    lines = {name: set(lines) for name, lines in found[0]["lines"].items()}
    return Baseline(found[1]["seconds"], lines)


def examine(
    module: str, mutants: list[Mutant], source: str, jobs: int, folder: Path
) -> Iterator[tuple[str, str]]:
    """Run the tests on each mutant; yield its name and what killed it, or "survived"."""
    if not mutants:
        return
    files = [f"tests/{name}.py" for name in TESTS[module]]
    known = baseline(module, source, files, folder)
    print(f"{module}: {len(known.seconds)} tests pass in {sum(known.seconds.values()):.0f} s", flush=True)
    running, waiting = [], list(reversed(mutants))
    while waiting or running:
        while waiting and len(running) < jobs:
            mutant = waiting.pop()
            chosen = known.reaching(mutant)
            if not chosen:
                print(f"  no test reaches {mutant.name}", flush=True)
                yield mutant.name, "survived"
                continue
            used = [file for file in files if any(name.startswith(file + "::") for name in chosen)]
            seconds = 20 + 5 * sum(known.seconds[name] for name in chosen)
            child = fork(module, mutant.source, used, Watch(chosen), seconds, folder)
            running.append((mutant, child))
        for mutant, child in list(running):
            if (end := child.ended()) is not None:
                running.remove((mutant, child))
                child.answer.unlink(missing_ok=True)
                if end[0] == "survived":
                    print(f"  survived: {mutant.name}", flush=True)
                yield mutant.name, end[0] if not end[1].get("failed") else end[1]["failed"][0]
        time.sleep(0.01)


# -------------------------------------------------------------------------------------------- the result


def reasons() -> dict[str, dict[str, str]]:
    """Of mutants.toml: "equivalent" and "let_live", each from a mutant's name to the reason."""
    tables = tomllib.loads(REASONS.read_text(encoding="utf-8"))
    return {
        kind: {name: entry["reason"] for entry in tables.get(kind, []) for name in entry["mutants"]}
        for kind in ("equivalent", "let_live")
    }


def summary(module: str, mutants: list[Mutant], fates: dict[str, str]) -> dict:
    """The counts of one module, its survivors, and entries of mutants.toml that no longer hold."""
    why, made = reasons(), {mutant.name for mutant in mutants}
    fates = {name: fate for name, fate in fates.items() if name in made}
    survivors = {name for name, fate in fates.items() if fate == "survived"}
    equivalent = {name for name in fates if name in why["equivalent"]}
    counted = [name for name in fates if name not in equivalent]
    killed = [fates[name] for name in counted if name not in survivors]
    kinds = Counter(fate if fate == "time" else fate.split()[0].split("::")[0] for fate in killed)
    listed = [name for kind in why.values() for name in kind if name.split(":")[0].startswith(module)]
    return {
        "date": datetime.date.today().isoformat(),
        "mutants": len(mutants),
        "tried": len(fates),
        "equivalent": len(equivalent),
        "killed": sum(kinds.values()),
        "killed_by": dict(sorted(kinds.items())),
        "survived": {
            name: why["let_live"].get(name, "no reason given") for name in sorted(survivors - equivalent)
        },
        "listed_but_killed": sorted(name for name in listed if name in fates and name not in survivors),
        "listed_but_no_longer_made": sorted(set(listed) - made),
    }


def remembered(module: str, source: str) -> dict[str, str]:
    """The fates of a module's mutants as they were last seen, if its source is the same."""
    kept = json.loads(FATES.read_text(encoding="utf-8")) if FATES.exists() else {}
    known = kept.get(module, {"source": None})
    return known["fates"] if known["source"] == digest(source) else {}


def remember(module: str, source: str, fates: dict[str, str]) -> None:
    kept = json.loads(FATES.read_text(encoding="utf-8")) if FATES.exists() else {}
    write_json(FATES, kept | {module: {"source": digest(source), "fates": fates}})


def digest(source: str) -> str:
    return hashlib.sha256(source.encode()).hexdigest()


def write_json(path: Path, content: dict) -> None:
    """Write the whole file or none of it."""
    path.parent.mkdir(exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False, encoding="utf-8") as file:
        json.dump(content, file, indent=1, ensure_ascii=False)
        file.write("\n")
    os.replace(file.name, path)


def write(modules: dict[str, dict], path: Path) -> None:
    """Write the result, with the sums over modules."""
    ordered = {module: modules[module] for module in TESTS if module in modules}
    killed = sum(one["killed"] for one in ordered.values())
    counted = sum(one["tried"] - one["equivalent"] for one in ordered.values())
    whole = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "killed": killed,
        "counted": counted,
        "share": round(killed / counted, 4) if counted else None,
        "modules": ordered,
    }
    write_json(path, whole)
    print(f"killed {killed} of {counted}, a share of {whole['share']}; see {path.name}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("modules", nargs="*", choices=[*TESTS, []], help="all unless given")
    parser.add_argument("--sample", type=int, help="how many mutants, of all the modules together")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("--again", action="store_true", help="only what is not known to be killed")
    parser.add_argument("--only", default="", help="a part of a mutant's name")
    parser.add_argument("--result", type=Path, default=RESULT, help="where to write the counts")
    parser.add_argument("--jobs", type=int, default=1, help="how many at once")
    options = parser.parse_args()
    prepare()
    modules = options.modules or list(TESTS)
    sources = {module: file_of(module).read_text(encoding="utf-8") for module in modules}
    everything = {module: mutants_of(sources[module], module) for module in modules}
    chosen = [mutant for mutants in everything.values() for mutant in mutants if options.only in mutant.name]
    if options.sample is not None:
        chosen = random.Random(options.seed).sample(chosen, min(options.sample, len(chosen)))
    names = {mutant.name for mutant in chosen}
    results = {}
    if options.result.exists():
        results = json.loads(options.result.read_text(encoding="utf-8"))["modules"]
    for module in modules:
        fates = remembered(module, sources[module]) if options.again else {}
        known = {name for table in reasons().values() for name in table}
        open_cases = {name for name, fate in fates.items() if fate == "survived"} - known
        killed = {name for name, fate in fates.items() if fate != "survived"}
        mutants = [
            mutant
            for mutant in everything[module]
            if mutant.name in open_cases or (mutant.name in names and mutant.name not in killed)
        ]
        with tempfile.TemporaryDirectory() as folder:
            for name, fate in examine(module, mutants, sources[module], options.jobs, Path(folder)):
                fates[name] = fate
                if len(fates) % 10 == 0:
                    remember(module, sources[module], fates)
        remember(module, sources[module], fates)
        results[module] = summary(module, everything[module], fates)
        write(results, options.result)


if __name__ == "__main__":
    main()
