"""The built book: made once for all tests, in a process of its own, and served below a path."""

import functools
import http.server
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """The folder of the built book's pages. It is built without a network."""
    output = tmp_path_factory.mktemp("book") / "_build"
    command = [sys.executable, "-m", "book.build", "--output", str(output)]
    code = (ROOT / "tests" / "no_network.py").read_text(encoding="utf-8")
    guarded = [sys.executable, "-c", f"import runpy, sys; exec({code!r}, {{}}); {RUN}", *command[3:]]
    result = subprocess.run(guarded, cwd=ROOT, capture_output=True, text=True, encoding="utf-8")
    assert result.returncode == 0, result.stdout + result.stderr
    return output / "html"


RUN = "sys.argv[0] = 'build'; runpy.run_module('book.build', run_name='__main__')"


class Page(HTMLParser):
    """What a page links to, shows and loads."""

    def __init__(self, path):
        super().__init__()
        self.path = path
        self.ids, self.links, self.images, self.loads = set(), [], [], []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.ids.update(filter(None, [found.get("id"), found.get("name") if tag == "a" else None]))
        if tag == "a" and found.get("href"):
            self.links.append(found["href"])
        if tag == "img":
            self.images.append((found.get("src", ""), found.get("alt")))
        if tag in ("script", "img", "iframe", "source", "video", "audio", "embed") and found.get("src"):
            self.loads.append(found["src"])
        if tag == "object" and found.get("data"):
            self.loads.append(found["data"])
        if tag == "link" and found.get("rel") in (
            "stylesheet",
            "icon",
            "preload",
            "preconnect",
            "dns-prefetch",
        ):
            self.loads.append(found["href"])


@pytest.fixture(scope="session")
def pages(site):
    """Every page of the book, by its name."""
    files = [path for path in sorted(site.rglob("*.html")) if "_static" not in path.parts]
    return {path.relative_to(site).as_posix(): Page(path) for path in files}


@pytest.fixture(scope="session")
def address(site):
    """Where the book is served: below a path, as it is when it is published."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def translate_path(self, path):
            return super().translate_path(path.removeprefix("/some/path"))

        def log_message(self, *words):
            pass

    handler = functools.partial(Handler, directory=site)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/some/path/"
        server.shutdown()


@dataclass
class Visit:
    """An open page, and what went wrong on it."""

    page: object
    home: str
    troubles: list = field(default_factory=list)

    def go(self, name):
        """Open a page of the book and wait until its formulas and views stand, in their own fonts."""
        self.troubles.clear()
        self.page.goto(self.home + name)
        self.page.wait_for_function(READY)
        self.page.evaluate("document.fonts.ready.then(() => {})")
        return self.page


READY = """() => document.readyState === "complete"
    && !document.querySelector("[data-attention-view]:not([data-state=ready])")
    && [...document.querySelectorAll(".formula")].every((place) => place.querySelector(".katex"))"""


@pytest.fixture
def visit(browser, site, address):
    """A function that opens a window on the book: served, or from its files."""
    contexts = []

    def open_window(width=1440, scheme="light", from_files=False):
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        context.set_default_timeout(60000)
        contexts.append(context)
        home = site.as_uri() + "/" if from_files else address
        found = Visit(context.new_page(), home)

        def told(message):
            if message.type in ("error", "warning"):
                found.troubles.append(message.text)

        def asked(request):
            if not request.url.startswith((home, "data:", "blob:")):
                found.troubles.append(f"asks for {request.url}")

        def answered(response):
            if response.status >= 400:
                found.troubles.append(f"{response.status} for {response.url}")

        found.page.on("console", told)
        found.page.on("pageerror", lambda error: found.troubles.append(str(error)))
        found.page.on("request", asked)
        found.page.on("response", answered)
        return found

    yield open_window
    for context in contexts:
        context.close()
