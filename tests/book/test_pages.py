"""The pages made from the ledger of claims, the glossary, the bibliography, the library and the settings."""

import ast
import inspect
import re
import sys
from pathlib import Path

import nbformat
import pytest
import yaml
from jupyter_book.config import get_final_config

from book import build
from book.generate import chapters, claims, colab, glossary, library, references

ROOT = Path(__file__).parents[2]
STORED = chapters.read_chapters(ROOT / "notebooks")
ADDRESS = "https://github.com/somebody/attention"


def make_chapter(number, **claims_printed):
    cells = [nbformat.v4.new_markdown_cell(f"# {number} · A chapter")]
    for claim, printed in claims_printed.items():
        outputs = [nbformat.v4.new_output("stream", text=printed)] if printed else []
        cells.append(nbformat.v4.new_code_cell("1", outputs=outputs, metadata={"tags": [f"claim-{claim}"]}))
    return chapters.Chapter(f"{number:02}_chapter", nbformat.v4.new_notebook(cells=cells))


LEDGER = {
    "C01": {"chapter": 2, "claim": "It forgets"},
    "C02": {"chapter": 1, "claim": "It sums", "note": "Only half of it."},
    "C03": {"chapter": 7, "claim": "It writes"},
}


def test_a_claim_has_its_number_its_cell_and_its_note():
    page = claims.page(LEDGER, [make_chapter(1, C02="sum 1.0\n"), make_chapter(2, C01="error 12\n")])
    first, second, third = page.index("### C02"), page.index("### C01"), page.index("### C03")
    assert first < second < third
    assert "It sums.\n" in page[first:second] and "](#cell-c02):" in page[first:second]
    assert "```text\nsum 1.0\n```" in page[first:second] and "Only half of it." in page[first:second]
    assert "*To come.*" in page[third:] and "*To come.*" not in page[:third]
    assert "## Chapter 7, to come" in page and "So far 2 of 3 claims are measured." in page


def test_a_long_finding_is_folded():
    page = claims.page(LEDGER, [make_chapter(1, C02="line\n" * 40), make_chapter(2, C01="short")])
    assert page.count("{dropdown}") == 1


@pytest.mark.parametrize(
    "made, message",
    [
        ({"C02": "1"}, None),
        ({}, "chapter 1 is there and has no cell tagged claim-C02"),
        ({"C02": "1", "C77": "1"}, "shows C77, which book/claims.yml does not have"),
        ({"C02": ""}, "the cell that shows C02 prints nothing"),
    ],
)
def test_ledger_and_cells_must_agree(made, message):
    if message is None:
        assert "### C02" in claims.page(LEDGER, [make_chapter(1, **made)])
    else:
        with pytest.raises(ValueError, match=message):
            claims.page(LEDGER, [make_chapter(1, **made)])


def test_the_ledger_is_whole():
    ledger = claims.read_claims(ROOT / "book" / "claims.yml")
    assert list(ledger) == [f"C{number:02}" for number in range(1, len(ledger) + 1)] and len(ledger) >= 33
    page = claims.page(ledger, STORED)
    assert all(f"### {name}\n" in page for name in ledger)


def test_a_ledger_of_another_form_is_refused(tmp_path):
    (tmp_path / "claims.yml").write_text("C01: {chapter: 1}\n", encoding="utf-8")
    with pytest.raises(ValueError, match="C01 must have a chapter, a claim"):
        claims.read_claims(tmp_path / "claims.yml")


def test_the_glossary_is_sorted_and_its_words_lead_to_one_entry():
    entries = glossary.read_glossary(ROOT / "book" / "glossary.yml")
    page = glossary.page(entries)
    terms = re.findall(r"^(?!  |`|#)(\S.*)\n  \S", page, re.MULTILINE)
    assert terms == sorted(entries, key=str.lower) and len(terms) > 40
    assert glossary.terms(entries)["queries"] == "query"
    with pytest.raises(ValueError, match="'Keys' under 'key' and 'lock'"):
        glossary.terms({"key": {"means": "k", "forms": ["keys"]}, "lock": {"means": "l", "forms": ["Keys"]}})


@pytest.mark.parametrize(
    "entry, message",
    [
        ("key: {form: keys}", "'key' must say what it means"),
        ('"<b>key": {means: k}', "'<b>key' must be words"),
    ],
)
def test_a_glossary_of_another_form_is_refused(tmp_path, entry, message):
    (tmp_path / "glossary.yml").write_text(entry + "\n", encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        glossary.read_glossary(tmp_path / "glossary.yml")


def test_a_word_leads_nowhere_in_a_chapter_that_uses_it_for_something_else():
    entries = {"key": {"means": "k", "forms": ["keys"], "but_not_in": [7]}, "lock": {"means": "l"}}
    assert glossary.terms_in(7, entries) == {"lock": "lock"}
    assert glossary.terms_in(6, entries) == {"key": "key", "keys": "key", "lock": "lock"}
    numbers = {chapter.number for chapter in STORED}
    for entry in glossary.read_glossary(ROOT / "book" / "glossary.yml").values():
        assert set(entry.get("but_not_in", [])) <= numbers


def test_every_source_that_a_chapter_links_to_is_in_the_bibliography(tmp_path):
    bib = ROOT / "book" / "references.bib"
    assert references.missing(bib, STORED) == set()
    text = bib.read_text(encoding="utf-8").replace(
        "https://arxiv.org/abs/1706.03762", "https://elsewhere.org"
    )
    (tmp_path / "references.bib").write_text(text, encoding="utf-8")
    assert references.missing(tmp_path / "references.bib", STORED) == {"https://arxiv.org/abs/1706.03762"}


def test_the_bibliography_says_where_a_source_is_cited():
    page = references.page(ROOT / "book" / "references.bib", STORED)
    (line,) = [line for line in page.splitlines() if "[Layer Normalization]" in line]
    assert line == (
        "- Jimmy Lei Ba, Jamie Ryan Kiros and Geoffrey E. Hinton (2016). [Layer Normalization]"
        "(https://arxiv.org/abs/1607.06450). *arXiv*. Cited in chapter [6](#chapter-6)."
    )
    asked = (
        "bahdanau sutskever luong vaswani radford devlin dosovitskiy shaw su press xiong abnar jain wiegreffe"
    )
    keys = (ROOT / "book" / "references.bib").read_text(encoding="utf-8")
    assert all(re.search(rf"@misc\{{{name}20\d\d", keys) for name in asked.split())
    assert keys.count("@misc{radford") == 2


@pytest.mark.parametrize("lost", ["author", "title", "year", "url"])
def test_an_incomplete_reference_is_named(tmp_path, lost):
    fields = {"author": "A. Bee", "title": "T", "year": "2020", "url": "https://example.org"} | {lost: None}
    body = ", ".join(f"{name} = {{{value}}}" for name, value in fields.items() if value)
    (tmp_path / "references.bib").write_text(f"@misc{{bee2020, {body}}}", encoding="utf-8")
    with pytest.raises(ValueError, match=f"bee2020 has no {lost}"):
        references.page(tmp_path / "references.bib", [])


@pytest.mark.parametrize("url", ["javascript:alert(1)", "https://example.org/a)b", "https://a.org/<b>"])
def test_an_address_that_no_link_can_hold_is_named(tmp_path, url):
    fields = f"author = {{A. Bee}}, title = {{T}}, year = {{2020}}, url = {{{url}}}"
    (tmp_path / "references.bib").write_text(f"@misc{{bee2020, {fields}}}", encoding="utf-8")
    with pytest.raises(ValueError, match="the url of bee2020"):
        references.page(tmp_path / "references.bib", [])


def test_a_group_stands_in_its_place_without_braces(tmp_path):
    entries = "".join(
        f"@misc{{{key}, author = {{{who}}}, title = {{{{T}} of it}}, year = {{2020}}, url = {{https://a.org}}}}\n"
        for key, who in (("a", "A. Zed"), ("b", "{Hugging Face}"), ("c", "A. Able"))
    )
    (tmp_path / "references.bib").write_text(entries, encoding="utf-8")
    lines = [
        line for line in references.page(tmp_path / "references.bib", []).splitlines() if line[:2] == "- "
    ]
    assert [line.partition(" (")[0] for line in lines] == [
        "- A. Able",
        "- Hugging Face",
        "- A. Zed",
    ]
    assert all("[T of it]" in line for line in lines)


SOURCE = '''
"""What the module is for. And more."""

def scale(query, key=None, *, width: int = 4, **others) -> float:
    """Divide <scores> by a root.

    scores = query key / sqrt(width)

        a   b

    query: what *asks*, of shape
        (batch, d_k).
    Raises ValueError for a `width` below 1.
    Source: A and B 2017, section 3.
    """

def _hidden():
    """Not shown."""

class Head(Module):
    """One head."""

    size: int = 3

    def __init__(self, size: int):
        pass

    def forward(self, x):
        """Look."""
'''


def test_the_library_s_page_is_its_docstrings(tmp_path):
    (tmp_path / "lib").mkdir()
    path = tmp_path / "lib" / "heads.py"
    path.write_text(SOURCE, encoding="utf-8")
    page = library.page(path, tmp_path / "lib")
    assert page.startswith("# `lib.heads`\n\nWhat the module is for")
    assert "```python\ndef scale(query, key=None, *, width: int=4, **others) -> float\n```" in page
    assert "Divide \\<scores\\> by a root." in page
    assert "```text\nscores = query key / sqrt(width)\n```" in page and "```text\na   b\n```" in page
    assert "- `query`: what \\*asks\\*, of shape \\(batch, d\\_k\\)." in page
    assert (
        "Raises ValueError for a `width` below 1.\n" in page
        and "\nSource\\: A and B 2017, section 3." in page
    )
    assert "class Head(Module)\n    size: int = 3\n    def __init__(self, size: int)\n```" in page
    assert "### `Head.forward`" in page and "Not shown" not in page
    assert "- [`lib.heads`](library/lib.heads.md): What the module is for" in library.index(tmp_path / "lib")


def test_a_class_and_a_function_of_one_name_have_two_labels(tmp_path):
    path = tmp_path / "heads.py"
    path.write_text(
        'def head():\n    """Make one."""\n\nclass Head:\n    """One head."""\n', encoding="utf-8"
    )
    labels = re.findall(r"^\((.+)\)=$", library.page(path, tmp_path), re.MULTILINE)
    assert len({label.lower() for label in labels}) == len(labels) == 2


def test_what_a_package_does_not_offer_is_left_out(tmp_path):
    (tmp_path / "lib" / "views").mkdir(parents=True)
    for name in ("views/map", "views/pen", "views/__init__"):
        (tmp_path / "lib" / f"{name}.py").write_text(SOURCE, encoding="utf-8")
    assert [path.stem for path in library.modules(tmp_path / "lib")] == ["map", "pen"]
    offers = "from lib.views.map import scale\n"
    (tmp_path / "lib" / "views" / "__init__.py").write_text(offers, encoding="utf-8")
    assert [path.stem for path in library.modules(tmp_path / "lib")] == ["map"]


def test_a_long_signature_has_a_line_for_each_argument():
    head = f"def f(first, second: int = 1, /, third=None, *rest, {'long' * 20}: str = 'x', **others) -> int"
    made = library.call(ast.parse(head + ": pass").body[0])
    lines = [line.strip() for line in made.splitlines()]
    assert lines[:6] == ["def f(", "first,", "second: int = 1,", "/,", "third=None,", "*rest,"]
    assert lines[-2:] == ["**others,", ") -> int"]


def test_every_public_name_is_in_the_reference():
    import course_lib.attention

    page = library.page(ROOT / "course_lib" / "attention.py", ROOT / "course_lib")
    for name, thing in vars(course_lib.attention).items():
        own = getattr(thing, "__module__", None) == "course_lib.attention"
        if own and not name.startswith("_") and (inspect.isfunction(thing) or inspect.isclass(thing)):
            assert f"## `{name}`\n" in page


def test_launch_buttons_come_from_one_setting():
    without = build.settings("")
    assert "launch_buttons" not in without and "repository" not in without
    config = build.settings(ADDRESS + "/")
    assert config["repository"] == {"url": ADDRESS, "path_to_book": "", "branch": "published"}
    assert config["launch_buttons"]["colab_url"] == "https://colab.research.google.com"
    assert config["launch_buttons"]["binderhub_url"] == "https://mybinder.org"
    # What Jupyter Book makes of it for the theme, beside the options that are always there.
    for made, present in ((config, True), (without, False)):
        final, _ = get_final_config(user_yaml=made, cli_config={"latex_individualpages": False})
        options = final["html_theme_options"]
        assert options["show_toc_level"] == 2
        assert (options.get("repository_url") == ADDRESS) is present
        assert bool(options["launch_buttons"]["colab_url"]) is present
    with pytest.raises(ValueError, match="should begin with https://"):
        build.settings("github.com/somebody/attention")


def test_the_stored_setting_is_empty_so_that_a_fork_sets_its_own():
    assert (
        yaml.safe_load((ROOT / "book" / "_config.yml").read_text(encoding="utf-8"))["repository"]["url"] == ""
    )


def test_in_colab_the_first_cell_installs_the_course():
    notebook = STORED[0].notebook
    made = colab.with_first_cell(notebook, ADDRESS)
    nbformat.validate(made)
    assert f"!git clone --quiet --depth 1 {ADDRESS} course\n" in made.cells[0].source
    assert made.cells[1:] == notebook.cells and len(notebook.cells) == len(made.cells) - 1
    again = colab.with_first_cell(made, ADDRESS + "2")
    assert len(again.cells) == len(made.cells) and ADDRESS + "2" in again.cells[0].source


def test_run_times_belong_to_chapters():
    import json

    times = json.loads((ROOT / "book" / "run_times.json").read_text(encoding="utf-8"))
    assert {chapter.slug for chapter in STORED} <= times.keys()
    assert (
        build.run_time({"seconds": 7.2, "cores": 2, "processor": "Abacus"})
        == "Measured: 7 seconds, on a machine with 2 cores (Abacus)."
    )
    assert build.run_time(None) is None


def test_a_book_that_cannot_be_written_is_told(locked, monkeypatch):
    folder, lock = locked
    monkeypatch.setattr(sys, "argv", ["build.py", "--output", str(folder / "_build")])
    with lock(), pytest.raises(SystemExit, match="The book could not be built: ") as caught:
        build.main()
    assert str(folder) in str(caught.value)
