"""The pages of the built book on paper: one PDF each, printed by Chromium."""

import shutil
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
READY = """() => document.readyState === "complete"
    && !document.querySelector("[data-attention-view]:not([data-state=ready])")
    && [...document.querySelectorAll(".formula")].every((place) => place.childElementCount)"""


def print_pages(html: Path, folder: Path, names: list[str]) -> list[Path]:
    """Print these pages of the book into `folder` and return the files.

    Raises RuntimeError where there is no Chromium.
    """
    from playwright.sync_api import sync_playwright

    folder.mkdir(parents=True, exist_ok=True)
    made = []
    with sync_playwright() as playwright:
        own = Path(playwright.chromium.executable_path)
        path = next(filter(None, map(shutil.which, NAMES)), own if own.exists() else None)
        if path is None:
            raise RuntimeError(
                "Printing needs Chromium, and there is none: install it (on Debian: apt install chromium), "
                "or let Playwright do it: .venv/bin/playwright install chromium."
            )
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        page = browser.new_page(color_scheme="light")
        for name in names:
            page.goto((html / f"{name}.html").as_uri())
            page.wait_for_function(READY)
            # What is folded on the screen is open on paper.
            page.evaluate("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
            target = folder / f"{name.replace('/', '-')}.pdf"
            page.pdf(
                path=target,
                format="A4",
                print_background=True,
                tagged=True,
                margin={"top": "18mm", "bottom": "18mm", "left": "16mm", "right": "16mm"},
            )
            made.append(target)
        browser.close()
    return made
