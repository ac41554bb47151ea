"""Build the book: the chapters as they are stored, the pages around them, and the pages made from both.

    make book                 into book/_build/html
    make book-serve           and show it on this machine
    make book-pdf             and print it into book/_build/pdf

Nothing is executed and nothing is fetched. A source folder is put together in book/_build/source, from which
Jupyter Book makes the pages; any warning is an error.
"""

import argparse
import functools
import http.server
import json
import re
import shutil
import sys
import time
from pathlib import Path

import nbformat
import yaml
from jupyter_book.cli.main import main as jupyter_book

from book.generate import chapters, claims, glossary, icons, library, pdf, proofs, references, results, views
from book.generate.markdown import escape

ROOT = Path(__file__).resolve().parent.parent
BOOK = ROOT / "book"
OUTPUT = BOOK / "_build"
SEARCH_TOOLS = re.compile(
    r'\s*<script src="[^"]*(?:_static/searchtools|_static/language_data|searchindex)\.js"></script>'
)
COLAB, BINDER = "https://colab.research.google.com", "https://mybinder.org"


def build(output: Path = OUTPUT, address: str | None = None) -> Path:
    """Build the book into `output`/html and return that folder. What was in `output` is removed.

    address: the repository's, in place of the one in _config.yml.
    """
    source = output / "source"
    if output.name != "_build":
        raise ValueError(f"Jupyter Book writes to a folder named _build, and was given {output}")
    # Anew each time: Sphinx does not see when the code that makes its pages has changed.
    shutil.rmtree(output, ignore_errors=True)
    put_together(source, address)
    arguments = ["build", str(source), "--path-output", str(output.parent), "--quiet"]
    jupyter_book([*arguments, "--warningiserror", "--nitpick", "--keep-going"], standalone_mode=False)
    html = output / "html"
    # The theme loads what searching needs on every page; only the page of search needs it.
    for path in html.rglob("*.html"):
        if path.name != "search.html":
            path.write_text(SEARCH_TOOLS.sub("", path.read_text(encoding="utf-8")), encoding="utf-8")
    icons.keep_used(html)
    # What is offered for download is the notebook as it is, without what only the book can show.
    for path in (ROOT / "notebooks").glob("[0-9]*.ipynb"):
        shutil.copyfile(path, html / "_sources" / "notebooks" / path.name)
    return html


def put_together(source: Path, address: str | None) -> None:
    """Write the folder that Jupyter Book reads."""
    stored = chapters.read_chapters(ROOT / "notebooks")
    entries = glossary.read_glossary(BOOK / "glossary.yml")
    ledger = claims.read_claims(BOOK / "claims.yml")
    run_times = json.loads((BOOK / "run_times.json").read_text(encoding="utf-8"))

    numbers = {chapter.number for chapter in stored}
    scripts: dict[str, views.Script] = {}
    for chapter in stored:
        measured = run_time(run_times.get(chapter.slug))
        notebook, used = chapters.page(chapter, numbers, glossary.terms_in(chapter.number, entries), measured)
        write(source / f"notebooks/{chapter.slug}.ipynb", nbformat.writes(notebook))
        scripts |= {script.file: script for script in used}

    for path in (BOOK / "content").glob("*.md"):
        text, used = with_views(path.read_text(encoding="utf-8"), stored)
        write(source / path.name, text)
        scripts |= {script.file: script for script in used}
    write(source / "glossary.md", glossary.page(entries))
    write(source / "claims.md", claims.page(ledger, stored))
    write(source / "bibliography.md", references.page(BOOK / "references.bib", stored))
    shutil.copyfile(BOOK / "references.bib", source / "references.bib")
    write(source / "proofs.md", proofs.page(BOOK / "results" / "parity.json"))
    write(source / "results.md", results.page(BOOK / "results", source / "images"))
    code = ROOT / "course_lib"
    write(source / "library.md", library.index(code))
    for path in library.modules(code):
        write(source / f"library/{library.dotted(path, code)}.md", library.page(path, code))

    shutil.copytree(BOOK / "assets", source / "assets")
    for script in scripts.values():
        write(source / f"assets/views/{script.file}", script.content())
    write(source / "_config.yml", yaml.safe_dump(settings(address)))
    write(source / "_toc.yml", yaml.safe_dump(contents(stored, code)))


def settings(address: str | None) -> dict:
    """The book's settings, with the buttons that need the repository's address only where there is one."""
    config = yaml.safe_load((BOOK / "_config.yml").read_text(encoding="utf-8"))
    address = config["repository"]["url"] if address is None else address
    if not address:
        del config["repository"]
        return config
    if not address.startswith("https://"):
        raise ValueError(f"the repository's address should begin with https://, and is {address!r}")
    # The branch that the workflow makes: there, each notebook begins with a cell for Colab.
    config["repository"] |= {"url": address.rstrip("/"), "path_to_book": "", "branch": "published"}
    config["launch_buttons"] = {
        "colab_url": COLAB,
        "binderhub_url": BINDER,
        "notebook_interface": "jupyterlab",
    }
    config["html"]["use_repository_button"] = True
    return config


def contents(stored: list[chapters.Chapter], code: Path) -> dict:
    """The table of contents."""
    modules = [f"library/{library.dotted(path, code)}" for path in library.modules(code)]
    return {
        "format": "jb-book",
        "root": "index",
        "parts": [
            {"caption": "Start", "chapters": [{"file": "how_to_use"}]},
            {
                "caption": "Chapters",
                "chapters": [{"file": f"notebooks/{chapter.slug}"} for chapter in stored],
            },
            {
                "caption": "What was found",
                "chapters": [{"file": "claims"}, {"file": "proofs"}, {"file": "results"}],
            },
            {
                "caption": "To look up",
                "chapters": [
                    {"file": "notation"},
                    {"file": "glossary"},
                    {"file": "library", "sections": [{"file": module} for module in modules]},
                    {"file": "bibliography"},
                    {"file": "contribute"},
                ],
            },
        ],
    }


def with_views(text: str, stored: list[chapters.Chapter]) -> tuple[str, list[views.Script]]:
    """Put a chapter's live view wherever a line says {{ view NN kind }}, and a list of the chapters."""
    lines, scripts = [], []
    for line in text.split("\n"):
        words = line.removeprefix("{{ ").removesuffix(" }}").split()
        if line.startswith("{{ view "):
            (chapter,) = [chapter for chapter in stored if chapter.number == int(words[1])]
            html, script = views.in_page(chapter.view(words[2]), "")
            scripts.append(script)
            line = f"```{{raw}} html\n{html}\n```"
        elif line == "{{ chapters }}":
            line = "\n".join(f"- [{chapter.title}](notebooks/{chapter.slug}.ipynb)" for chapter in stored)
        lines.append(line)
    return "\n".join(lines), scripts


def run_time(measured: dict | None) -> str | None:
    """A sentence on how long a chapter took, or None where nobody has measured it."""
    if measured is None:
        return None
    return (
        f"Measured: {measured['seconds']:.0f} seconds, on a machine with {measured['cores']} cores "
        f"({escape(measured['processor'])})."
    )


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def on_paper() -> list[str]:
    """The pages to print: all but the library's reference."""
    stored = sorted(path.stem for path in (ROOT / "notebooks").glob("[0-9]*.ipynb"))
    around = ["claims", "proofs", "results", "notation", "glossary", "bibliography"]
    return ["index", *(f"notebooks/{slug}" for slug in stored), *around]


def serve(folder: Path, port: int) -> None:
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", port), handler) as server:
        print(f"The book: http://127.0.0.1:{server.server_port}/   (Ctrl-C ends it)", flush=True)
        server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--serve", action="store_true", help="then show it on this machine")
    parser.add_argument("--pdf", action="store_true", help="then print it, a file for each page")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="a folder named _build to build it in")
    parser.add_argument("--port", type=int, default=8000, help="where to show it (default 8000)")
    arguments = parser.parse_args()
    start = time.perf_counter()
    try:
        html = build(arguments.output.resolve())
    except OSError as error:  # a disk that is full or read-only, most of all
        sys.exit(f"The book could not be built: {error}")
    size = sum(path.stat().st_size for path in html.rglob("*") if path.is_file()) / 1e6
    print(f"{html}/index.html  {time.perf_counter() - start:.0f} s  {size:.0f} MB", flush=True)
    if arguments.pdf:
        try:
            made = pdf.print_pages(html, html.parent / "pdf", on_paper())
        except RuntimeError as error:
            sys.exit(str(error))
        print(f"{html.parent / 'pdf'}  {len(made)} files", flush=True)
    if arguments.serve:
        try:
            serve(html, arguments.port)
        except OSError as error:
            sys.exit(
                f"Port {arguments.port} cannot be had ({error.strerror}): choose another, with --port 8001."
            )


if __name__ == "__main__":
    main()
