"""A real browser for the tests: Chromium through Playwright, and axe for accessibility.

Where one of them is missing the test is left out and says what to install; with COURSE_REQUIRE_BROWSER=1
it fails instead.
"""

import os
import shutil
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

import pytest

CHROMIUM_OPTIONS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="session")
def missing():
    """A function that leaves the test out, or fails it where nothing may be left out."""
    return leave_out


def leave_out(what, cure):
    words = f"{what} is missing: {cure}"
    if os.environ.get("COURSE_REQUIRE_BROWSER") == "1":
        pytest.fail(words)
    pytest.skip(words)


def find_chromium():
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
    return next(filter(None, map(shutil.which, names)), None)


@pytest.fixture(scope="session")
def browser(missing):
    if find_spec("playwright") is None:
        missing("Playwright", "pip install playwright")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        own = Path(playwright.chromium.executable_path)
        path = find_chromium() or (own if own.exists() else None)
        if path is None:
            missing("Chromium", "apt-get install chromium, or playwright install chromium")
        started = playwright.chromium.launch(executable_path=path, args=CHROMIUM_OPTIONS)
        yield started
        started.close()


@pytest.fixture(scope="session")
def axe_source(missing):
    if find_spec("axe_playwright_python") is None:
        missing("axe", "pip install axe-playwright-python")
    return (files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")
