"""Pages with views in them, opened in the tests' browser, and views to open."""

import shutil
import subprocess
from dataclasses import dataclass, field
from importlib.resources import files
from importlib.util import find_spec

import numpy as np
import pytest


def first_able_node(candidates):
    """The first node that can do what the views do: undo a raw deflate, which came with version 20.12."""
    probe = "new DecompressionStream('deflate-raw')"
    for path in filter(None, candidates):
        try:
            if subprocess.run([path, "-e", probe], capture_output=True, timeout=30).returncode == 0:
                return str(path)
        except OSError:
            continue
    return None


@pytest.fixture(scope="session")
def find_node():
    return first_able_node


@pytest.fixture(scope="session")
def node(missing):
    # Playwright's Python package brings a node of its own.
    own = sorted((files("playwright") / "driver").glob("node*")) if find_spec("playwright") else []
    path = first_able_node([shutil.which("node"), *own])
    if path is None:
        missing("node 20.12 or later", "pip install playwright, which brings one")
    return path


@dataclass
class Opened:
    """A page with views, and what went wrong on it."""

    page: object
    errors: list = field(default_factory=list)
    requests: list = field(default_factory=list)

    def view(self, index=0):
        return self.page.locator("[data-attention-view]").nth(index)

    def say(self, index=0):
        return self.view(index).locator("[role=status]").first.inner_text()

    def focus(self, index=0, canvas=0):
        """Reach a canvas with the Tab key, as a reader without a pointer does."""
        wanted = self.view(index).locator("canvas[tabindex]").nth(canvas)
        for _ in range(60):
            if wanted.evaluate("(node) => node.getRootNode().activeElement === node"):
                return wanted
            self.page.keyboard.press("Tab")
        raise AssertionError("Tab never reached the view")

    def press(self, *keys):
        for key in keys:
            self.page.keyboard.press(key)

    def run_output(self, html):
        """Put an output on the page as a notebook does when a cell is run."""
        self.page.evaluate(
            """(html) => {
              const place = document.createElement("div");
              place.innerHTML = html;
              document.querySelector("main").append(place);
              for (const old of place.querySelectorAll("script")) {
                const script = document.createElement("script");
                script.textContent = old.textContent;
                old.replaceWith(script);
              }
            }""",
            html,
        )

    def numbers(self, index=0):
        """What "Copy numbers" gives, where the page has no clipboard."""
        self.page.evaluate(
            "Object.defineProperty(navigator, 'clipboard', { value: undefined, configurable: true })"
        )
        self.view(index).get_by_role("button", name="Copy numbers").first.click()
        return self.view(index).locator("textarea").first.input_value()

    def wait_until(self, condition, seconds=15):
        """Wait for something to become true; what the page does meanwhile goes on."""
        for _ in range(seconds * 20):
            if condition():
                return
            self.page.wait_for_timeout(50)
        raise AssertionError(f"waited {seconds} s in vain")

    def clean(self):
        assert self.errors == []
        outside = [url for url in self.requests if not url.startswith(("file:", "data:", "blob:", "about:"))]
        assert outside == []


@pytest.fixture
def open_page(browser, tmp_path):
    """Open a page from a file that holds the given views or pieces of HTML, and wait until they are ready."""
    contexts = []

    def build(*parts, attributes="", ready=True, **options):
        options = {"viewport": {"width": 900, "height": 700}, "color_scheme": "light", **options}
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        opened = Opened(page)
        page.on("console", lambda m: opened.errors.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: opened.errors.append(str(error)))
        page.on("dialog", lambda dialog: (opened.errors.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda request: opened.requests.append(request.url))
        body = "".join(part if isinstance(part, str) else part._repr_html_() for part in parts)
        path = tmp_path / f"page{len(contexts)}.html"
        path.write_text(
            f'<!doctype html><html lang="en" {attributes}><meta charset="utf-8"><title>Views</title>'
            f'<meta name="viewport" content="width=device-width"><main><h1>Views</h1>{body}</main></html>',
            encoding="utf-8",
        )
        page.goto(path.as_uri())
        if ready:
            page.wait_for_function(
                "() => !document.querySelector('[data-attention-view]:not([data-state=ready])')",
                timeout=15000,
            )
        return opened

    yield build
    for context in contexts:
        context.close()


@pytest.fixture
def make_weights():
    """Softmax rows of a given shape, the same for the same seed."""

    def make(*shape, seed=0, sharpness=2.0):
        scores = np.random.default_rng(seed).normal(size=shape) * sharpness
        powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
        return powers / powers.sum(axis=-1, keepdims=True)

    return make


def beam_example(**options):
    """A beam of 3: one hypothesis ends early, a better one late, and one beginning is given up."""
    from course_lib.widgets import beam_view

    parents = [[0, 0, 0], [0, 1, 0], [0, 0, 1], [0, 1, -1]]
    words = [["j'", "mes", "mon"], ["ai", "pieds", "me"], ["mal", "froid", "<eos>"], ["<eos>", "<eos>", ""]]
    totals = [[-0.25, -1.5, -2.5], [-0.33, -1.75, -3.25], [-0.41, -2.5, -2.0], [-0.75, -3.0, -np.inf]]
    return beam_view(parents, words, totals, **options)


@pytest.fixture
def make_beam():
    return beam_example


@pytest.fixture
def every_view(make_weights):
    """One example of each view, by name."""
    from course_lib import widgets

    numbers = np.random.default_rng(3).normal(size=(3, 4, 2)).round(1)
    words = ["the", "cat", "sat", "down"]
    image = np.random.default_rng(4).random((6, 9, 3))
    vocabulary = ["mat", "dog", " sofa", "<b>", "שלום"]
    steps = [
        {
            "tokens": words[: 2 + number],
            "vocabulary": vocabulary,
            "logits": [3.0, 2.0, 1.0, 0.0, -1.0],
            "chosen": vocabulary[number],
            "attention": make_weights(2 + number),
        }
        for number in range(3)
    ]
    return {
        "attention_map": widgets.attention_map(make_weights(2, 3, 5, 7)),
        "head_view": widgets.head_view(make_weights(2, 3, 4, 4), words),
        "model_view": widgets.model_view(make_weights(2, 3, 5, 7)),
        "attention_bench": widgets.attention_bench(*numbers, words),
        "compare": widgets.compare(make_weights(3, 4), make_weights(3, 4, seed=1)),
        "alignment_view": widgets.alignment_view(make_weights(3, 4), words, list("xyz"), gold={(1, 2)}),
        "positions_view": widgets.positions_view(length=11, width=6),
        "kernel_regression_view": widgets.kernel_regression_view(
            [0.0, 1.0, 2.0, 5.0, 7.0],
            [2.0, 4.0, 3.0, 7.0, 5.0],
            np.linspace(0, 7, 29),
            truth=np.linspace(2, 6, 29),
        ),
        "patch_view": widgets.patch_view(
            image, make_weights(2, 3, 7, 7), patch_size=3, gold=image[..., 0] > 0.5
        ),
        "generation_view": widgets.generation_view(steps, cache=(2, 3, 5)),
        "beam_view": beam_example(),
        "predict_then_reveal": widgets.predict_then_reveal(make_weights(4, 4), words, asked=[1, 3]),
    }
