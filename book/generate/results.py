"""The page of results: what the benchmarks found, read from book/results, one section for each file."""

import json
from collections.abc import Callable
from pathlib import Path

from book.generate import gpt, translation, vit

# One renderer for each file of results: it is given the file's content and the folder for pictures, and
# returns its section of the page. A benchmark that has not been run has no file, and so no section.
SECTIONS: dict[str, Callable[[dict, Path], str]] = {
    "translation": translation.section,
    "gpt": gpt.section,
    "vit": vit.section,
}

# Files that have a page of their own: book/generate/proofs.py.
ELSEWHERE = {"parity"}

HEAD = """\
# Results

Some questions take longer than a chapter's minute and a half. They are answered by benchmarks that train on
real data and keep what they found in a file. This page is made from those files. No number of ours on it was
typed by hand; figures of others are cited.
"""


def page(results: Path, images: Path) -> str:
    """Return the page as Markdown, and draw its pictures into the folder `images`.

    Raises ValueError for a file that cannot be read, lacks something, or has no renderer.
    """
    files = {path.stem: path for path in sorted(results.glob("*.json")) if path.stem not in ELSEWHERE}
    if unknown := sorted(files.keys() - SECTIONS.keys()):
        raise ValueError(
            f"book/results holds {', '.join(f'{name}.json' for name in unknown)}, and no renderer for it: "
            "add one to SECTIONS in book/generate/results.py."
        )
    parts = [HEAD]
    for name, section in SECTIONS.items():
        if name in files:
            try:
                parts.append(section(json.loads(files[name].read_text(encoding="utf-8")), images))
            except (ValueError, KeyError, TypeError) as error:
                reason = f"{error} is missing" if isinstance(error, KeyError) else error
                raise ValueError(f"book/results/{name}.json cannot be shown: {reason}") from error
    if len(parts) == 1:
        parts.append("No benchmark has been run yet. `make bench` runs the first of them.\n")
    return "\n".join(parts)
