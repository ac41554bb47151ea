"""The views where notebooks are read: converted by nbconvert, and in JupyterLab, saved and opened again."""

import json
import os
import secrets
import socket
import subprocess
import sys
import time
import urllib.request
from importlib.util import find_spec
from pathlib import Path

import pytest

pytestmark = pytest.mark.browser

ROOT = Path(__file__).parents[2]

CELLS = [
    "import numpy as np\nfrom course_lib.widgets import attention_bench, attention_map\n"
    "each_to_itself = np.full((3, 3), 0.2) + 0.4 * np.eye(3)\n"
    "weights = np.stack([each_to_itself[::-1], each_to_itself])",
    "attention_map(weights, ['one', 'two', 'three'], title='Map in the notebook')",
    "attention_bench(np.eye(2), np.eye(2), np.eye(2), ['a', 'b'])",
]

# A live view: what is typed goes to Python, which gives each word to itself.
LIVE = (
    "from course_lib.widgets import live\n"
    "live(lambda text: attention_map(np.eye(len(text.split())), text.split()), 'one two', label='Sentence')"
)


def write_notebook(path, *more):
    nbformat = pytest.importorskip("nbformat")
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in (*CELLS, *more)])
    book.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(book, path)


def test_a_converted_notebook_keeps_its_views(tmp_path, browser, missing):
    if find_spec("nbconvert") is None:
        missing("nbconvert", "pip install jupyterlab")
    write_notebook(tmp_path / "views.ipynb")
    command = [sys.executable, "-m", "jupyter", "nbconvert", "--to", "html", "--execute", "views.ipynb"]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr[-2000:]
    page = browser.new_page()
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    # nbconvert's own page asks two other hosts for MathJax and RequireJS; the views must not need them.
    page.route("http*://**", lambda route: route.abort())
    page.goto((tmp_path / "views.html").as_uri())
    page.wait_for_function("document.querySelectorAll('[data-state=ready]').length === 2")
    canvas = page.locator("[data-attention-view] canvas").first
    canvas.focus()
    page.keyboard.press("ArrowDown")
    said = page.locator("[data-attention-view] [role=status]").first.inner_text()
    assert said.startswith("query 'two' attends to 'one': 0.20")
    page.locator("[data-attention-view]").first.locator("canvas").press("Control+Home")
    assert (
        page.locator("[data-attention-view] [role=status]")
        .first.inner_text()
        .startswith("query 'one' attends to 'one': 0.20")
    )
    assert [error for error in errors if "require" not in error.lower()] == []
    page.close()


@pytest.fixture
def lab(tmp_path, missing):
    """JupyterLab on a free port of this machine, with a token; gives its address and folder."""
    for module, name in (("jupyterlab", "JupyterLab"), ("anywidget", "anywidget")):
        if find_spec(module) is None:
            missing(name, f"pip install {module}")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token = secrets.token_hex(16)
    work = tmp_path / "work"
    work.mkdir()
    write_notebook(work / "views.ipynb", LIVE)
    folders = {
        name: str(tmp_path / name) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")
    }
    environment = {
        **os.environ,
        **folders,
        "JUPYTERLAB_SETTINGS_DIR": str(tmp_path / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(tmp_path / "workspaces"),
        "PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
    }
    command = [
        sys.executable, "-m", "jupyter", "lab", "--no-browser", "--allow-root", "--ip=127.0.0.1",
        f"--port={port}", f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={work}",
        f"--NotebookNotary.data_dir={tmp_path}", "--LabApp.extension_manager=readonly",
    ]  # fmt: skip
    log = (tmp_path / "lab.log").open("w")
    server = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=work)
    address = f"http://127.0.0.1:{port}"
    for _ in range(120):
        try:
            urllib.request.urlopen(f"{address}/api", timeout=2)
            break
        except OSError:
            assert server.poll() is None, (tmp_path / "lab.log").read_text()
            time.sleep(0.5)
    yield address, token, work
    server.terminate()
    try:
        server.wait(60)
    finally:
        server.kill()  # does nothing to a server that ended
        log.close()


def test_jupyterlab_runs_saves_and_reopens_a_view(browser, lab):
    address, token, work = lab
    context = browser.new_context(viewport={"width": 1300, "height": 900})
    page = context.new_page()
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(f"{address}/lab/tree/views.ipynb?token={token}")
    page.wait_for_selector(".jp-Notebook .jp-CodeCell", timeout=60000)
    page.wait_for_function(
        "document.querySelector('.jp-Notebook-ExecutionIndicator')?.dataset.status === 'idle'", timeout=90000
    )

    run_all(page)
    use_the_map(page)
    use_the_live_view(page)

    page.locator(".jp-InputPrompt").first.click()
    page.keyboard.press("Control+s")
    stored = work / "views.ipynb"
    wait_until(page, lambda: "data-attention-view" in stored.read_text(encoding="utf-8"))
    outputs = [cell["outputs"] for cell in json.loads(stored.read_text(encoding="utf-8"))["cells"]]
    assert "text/html" in outputs[1][0]["data"] and "text/plain" in outputs[1][0]["data"]
    page.close()

    # A new window, in which nothing is run: the saved output comes to life by itself.
    again = context.new_page()
    again.on("pageerror", lambda error: errors.append(str(error)))
    again.goto(f"{address}/lab/tree/views.ipynb?token={token}")
    again.wait_for_function("document.querySelectorAll('[data-state=ready]').length === 2", timeout=60000)
    use_the_map(again)
    again.evaluate("document.body.setAttribute('data-jp-theme-light', 'false')")
    again.locator("[data-attention-view] .view[data-theme=dark]").first.wait_for()
    assert errors == []
    context.close()


def use_the_map(page):
    view = page.locator("[data-attention-view]").first
    view.scroll_into_view_if_needed()
    view.locator("canvas").press("Control+Home")
    status = view.locator("[role=status]").first
    assert status.inner_text().startswith("query 'one' attends to 'one': 0.20"), status.inner_text()
    view.get_by_label("Head").select_option("1")
    view.get_by_text("query 'one' attends to 'one': 0.60").wait_for()
    view.locator("canvas").focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    said = view.locator("[role=status]").first.inner_text()
    assert said.startswith("query 'two' attends to 'two': 0.60"), said
    page.keyboard.press("Enter")
    said = view.locator("[role=status]").first.inner_text()
    assert said.startswith("query 'two' attends most to 'two' 0.60"), said


def wait_until(page, condition, seconds=90):
    """Wait for something to become true; what the page does meanwhile goes on."""
    for _ in range(seconds * 10):
        if condition():
            return
        page.wait_for_timeout(100)
    raise AssertionError(f"waited {seconds} s in vain")


def run_all(page):
    """Run every cell; where JupyterLab asks something first (mostly for a kernel), take what it proposes."""
    dialog = page.locator(".jp-Dialog")
    ready = page.locator("[data-state=ready]")
    asked = []
    # A run that is asked for before the kernel listens is dropped without a word: then it is asked for again.
    for _ in range(6):
        # One dialog may wait behind another: on a slow machine notebook and run both ask for a kernel.
        while dialog.count():
            asked.append(dialog.first.inner_text())
            assert len(asked) < 20, f"JupyterLab keeps asking: {asked}"
            dialog.first.locator("button.jp-mod-accept").click()
            page.wait_for_timeout(1000)
        page.locator(".jp-Notebook-ExecutionIndicator[data-status=idle]").first.wait_for(timeout=90000)
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_text("Run All Cells", exact=True).click()
        for _ in range(200):
            if ready.count() >= 2:
                return
            if dialog.count():
                break
            page.wait_for_timeout(100)
        else:
            page.keyboard.press("Escape")
    prompts = page.locator(".jp-InputPrompt").all_inner_texts()
    raise AssertionError(f"{ready.count()} views are ready; the prompts are {prompts}; it asked {asked}")


def use_the_live_view(page):
    line = page.get_by_label("Sentence")
    line.scroll_into_view_if_needed()
    line.fill("alpha beta gamma delta")
    line.press("Enter")
    page.get_by_label("4 queries down, 4 keys across").wait_for()
    page.get_by_text("done", exact=True).wait_for()
