"""What holds for all tests: checked shapes, one thread, and notebook kernels without a network."""

import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path

import jaxtyping
import pytest
import torch

# Imported before the hook, and so unchecked. The grammar has no tensors, and checking each of its many small
# calls would take half a minute. Views and checks take whatever a learner has, lists and whole numbers
# included.
import course_lib.data.grammar
import course_lib.exercises
import course_lib.widgets  # noqa: F401

# One browser for all the tests that need one.
from tests.browser import axe_source, browser, missing  # noqa: F401

# From here on each call into course_lib is checked against its shape annotations, by beartype. A learner's
# import is not slowed down by it.
jaxtyping.install_import_hook("course_lib", "beartype.beartype")

# The tests' tensors are tiny: more threads would cost more than they bring. Notebook kernels keep all cores.
torch.set_num_threads(1)

collect_ignore = ["benchmarks"]


def pytest_configure(config):
    config.addinivalue_line("markers", "browser: needs Chromium, Playwright, axe or node")
    config.addinivalue_line("markers", "trust: takes minutes, and belongs to `make trust`")
    # nbval's kernels inherit this environment: nobody's own IPython settings, and no network.
    settings = tempfile.mkdtemp()
    config.add_cleanup(lambda: shutil.rmtree(settings, ignore_errors=True))
    startup = Path(settings, "profile_default", "startup")
    startup.mkdir(parents=True)
    guard = Path(__file__).with_name("no_network.py").read_text(encoding="utf-8")
    # In a namespace of its own, so that a chapter cannot lean on a name from here.
    (startup / "no_network.py").write_text(f"exec({guard!r}, {{}})\n", encoding="utf-8")
    os.environ["IPYTHONDIR"] = settings


@pytest.fixture
def locked():
    """A folder, and a context in which nothing in it can be written."""
    if os.name == "nt":
        pytest.skip("folders are locked on Unix")

    @contextmanager
    def lock():
        inside = [folder, *(path for path in folder.rglob("*") if path.is_dir())]
        me = os.geteuid()
        for path in inside:
            path.chmod(0o555)
        if me == 0:  # nothing is locked for root, who therefore becomes nobody for a while
            os.seteuid(65534)
        try:
            yield
        finally:
            os.seteuid(me)
            for path in inside:
                path.chmod(0o755)

    # Not tmp_path, which nobody may enter.
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder, lock


@pytest.fixture
def unchecked_shapes():
    """For tests of bad input: switch the annotations' check off, so that our own error is what comes."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
