"""A book whose texts are full of HTML, script and SVG shows all of it as text."""

import json
import shutil
from pathlib import Path

import nbformat
import pytest
import yaml

from book import build
from book.generate.markdown import escape
from course_lib.widgets import attention_map

ROOT = Path(__file__).parents[2]
HOSTILE = "<script>hostile = 1</script><img src=x onerror=hostile=1><svg onload=hostile=1></svg>"
# What a program printed may also look like the end of the block that it is shown in.
PRINTED = f"{HOSTILE}\n```\n{HOSTILE}\n````\n~~~\n::::\n{HOSTILE}"

MODULE = f"""'''{HOSTILE}'''

def look(at={HOSTILE!r}):
    '''{HOSTILE}

        {HOSTILE}

    at: {HOSTILE}
    '''
"""


@pytest.fixture(scope="module")
def hostile_site(tmp_path_factory):
    """The book's own pages around one chapter, with such text wherever a book takes text from elsewhere."""
    root = tmp_path_factory.mktemp("hostile")
    book = root / "book"
    shutil.copytree(ROOT / "book", book, ignore=shutil.ignore_patterns("_build", "generate", "*.py"))
    for name in ("notebooks", "course_lib"):
        (root / name).mkdir()
    nbformat.write(chapter(), root / "notebooks" / "06_hostile.ipynb")
    (root / "course_lib" / "attention.py").write_text(MODULE, encoding="utf-8")
    write(book / "claims.yml", {"C01": {"chapter": 6, "claim": HOSTILE, "note": HOSTILE}})
    write(book / "glossary.yml", {"query": {"means": HOSTILE}})
    write(book / "run_times.json", {"06_hostile": {"seconds": 1, "cores": 2, "processor": HOSTILE}})
    (book / "references.bib").write_text(
        f"@misc{{a2020, author = {{{{{HOSTILE}}}}}, title = {{{HOSTILE}}}, year = {{2020}}, "
        f"journal = {{{HOSTILE}}}, url = {{https://example.org}}}}\n",
        encoding="utf-8",
    )
    for path in (book / "results").glob("*.json"):
        write(path, spoiled(json.loads(path.read_text(encoding="utf-8"))))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "ROOT", root)
        patch.setattr(build, "BOOK", book)
        return build.build(root / "_build")


def chapter():
    view = attention_map([[0.25, 0.75], [0.5, 0.5]], [HOSTILE, "b"], [HOSTILE, "d"], title=HOSTILE)
    outputs = [
        nbformat.v4.new_output("stream", text=PRINTED),
        nbformat.v4.new_output("display_data", data={"text/html": view._repr_html_()}),
    ]
    cells = [
        nbformat.v4.new_markdown_cell(f"# 6 · {escape(HOSTILE)}\n\n**Time.** A query takes none.\n"),
        nbformat.v4.new_code_cell(f"print({HOSTILE!r})", outputs=outputs, metadata={"tags": ["claim-C01"]}),
    ]
    metadata = {"language_info": {"name": "python", "pygments_lexer": "ipython3"}}
    return nbformat.v4.new_notebook(cells=cells, metadata=metadata)


def spoiled(found, key=""):
    """The same results, with such text in place of every sentence of theirs."""
    if isinstance(found, dict):
        return {name: spoiled(value, name) for name, value in found.items()}
    if isinstance(found, list):
        return [spoiled(value, key) for value in found]
    texts = {"task", "command", "processor", "sample", "reference", "source", "translation", "signature"}
    return PRINTED if key in texts else found


def write(path, content):
    text = json.dumps(content) if path.suffix == ".json" else yaml.safe_dump(content)
    path.write_text(text, encoding="utf-8")


# Each page, with how often such text should stand on it.
PAGES = {
    "index": 1,
    "notebooks/06_hostile": 4,
    "claims": 5,
    "glossary": 1,
    "bibliography": 3,
    "proofs": 2,
    "results": 10,
    "library": 1,
    "library/course_lib.attention": 5,
    "search": 1,
}
READY = """() => document.readyState === "complete"
    && !document.querySelector("[data-attention-view]:not([data-state=ready])")
    && (!document.querySelector("#search-results") || document.querySelector("#search-results li a"))"""
ALIVE = """() => [document, ...document.querySelectorAll("[data-attention-view]")]
    .map((place) => place.shadowRoot ?? place)
    .map((root) => root.querySelectorAll("[onerror], [onload]").length)"""


@pytest.mark.browser
@pytest.mark.parametrize("name", PAGES)
def test_html_script_and_svg_are_shown_as_text(hostile_site, browser, name):
    page = browser.new_page()
    page.set_default_timeout(60000)
    page.goto((hostile_site / f"{name}.html").as_uri() + "?q=hostile")
    page.wait_for_function(READY)
    found = page.evaluate("globalThis.hostile"), set(page.evaluate(ALIVE))
    count = page.evaluate("document.body.textContent").count(HOSTILE)
    page.close()
    assert found == (None, {0})
    assert count >= PAGES[name]
