"""A first cell for Colab: it fetches and installs the course, whose address the book's settings hold.

A chapter may read the benchmarks' results beside it, so the whole repository is fetched, and worked in.

    python -m book.generate.colab          put it into every notebook of this working copy

The stored notebooks do without, since they do not know where they will be published. The workflow that
publishes the book runs this and keeps the result on a branch of its own, which Colab opens.
"""

from pathlib import Path

import nbformat
import yaml

ROOT = Path(__file__).resolve().parents[2]
CELL = """\
# In Colab the course has to be installed first. Elsewhere it is there already.
import importlib.util

if importlib.util.find_spec("course_lib") is None:
    !git clone --quiet --depth 1 {address} course
    %pip install --quiet ./course
    %cd -q course/notebooks"""
ID = "install-in-colab"


def with_first_cell(notebook: nbformat.NotebookNode, address: str) -> nbformat.NotebookNode:
    """Return the notebook with the cell in front; one that stands there already is renewed."""
    cell = nbformat.v4.new_code_cell(CELL.format(address=address), id=ID)
    cells = [cell, *(other for other in notebook.cells if other.id != ID)]
    return nbformat.from_dict({**notebook, "cells": cells})


def main() -> None:
    config = yaml.safe_load((ROOT / "book" / "_config.yml").read_text(encoding="utf-8"))
    address = config["repository"]["url"].rstrip("/")
    if not address:
        print("No address is set in book/_config.yml, so the notebooks are left as they are.")
        return
    for path in sorted((ROOT / "notebooks").glob("[0-9]*.ipynb")):
        notebook = with_first_cell(nbformat.read(path, as_version=4), address)
        part = path.with_name(path.name + ".new")
        part.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8")
        part.replace(path)


if __name__ == "__main__":
    main()
