"""A stored chapter becomes a page: links, folds, labels, alternative texts, views without their scripts."""

import nbformat
import numpy as np
import pytest

from book.generate import chapters, views
from book.generate.prose import in_prose, plain
from course_lib.widgets import attention_map
from course_lib.widgets.bundle import script
from tests.widgets.hostile_labels import HOSTILE

TERMS = {"query": "query", "queries": "query", "beam search": "beam search"}


def make_chapter(*cells, slug="03_scaled_attention"):
    title = nbformat.v4.new_markdown_cell(f"# {int(slug[:2])} · Scaled attention\n\n**Time.** It is quick.\n")
    return chapters.Chapter(slug, nbformat.v4.new_notebook(cells=[title, *cells]))


def text(source):
    return nbformat.v4.new_markdown_cell(source)


def code(tags=(), **outputs):
    made = [nbformat.v4.new_output("display_data", data={kind: data}) for kind, data in outputs.items()]
    return nbformat.v4.new_code_cell("1", outputs=made, metadata={"tags": list(tags)})


def figure():
    cell = code()
    cell.outputs = [nbformat.v4.new_output("display_data", data={"image/png": "AAAA"})]
    return cell


def as_page(chapter, numbers=(2, 3, 5), run_time=None):
    notebook, scripts = chapters.page(chapter, set(numbers), TERMS, run_time)
    return (
        notebook,
        "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown"),
        scripts,
    )


def test_chapters_that_there_are_become_links():
    _, page, _ = as_page(
        make_chapter(text("See chapter 2, chapter\n5, chapter 9 and chapter 3. Chapter 2's."))
    )
    assert "See [chapter 2](#chapter-2), [chapter\n5](#chapter-5), chapter 9 and chapter 3." in page
    assert "[Chapter 2](#chapter-2)'s." in page
    assert page.startswith("(chapter-3)=\n# 3 · Scaled attention")


def test_sections_of_this_chapter_become_links_and_those_of_papers_do_not():
    chapter = make_chapter(
        text("## 3.4 Why divide\n\nAs section 3.4 says, and section 5.1."),
        text("**What the papers say.** The paper says so in section 3.4 and in chapter 5."),
    )
    _, page, _ = as_page(chapter)
    assert (
        "(section-3-4)=\n## 3.4 Why divide\n\nAs [section 3.4](#section-3-4) says, and section 5.1." in page
    )
    assert "says so in section 3.4 and in chapter 5" in page


def test_claims_are_linked_both_ways():
    chapter = make_chapter(
        code(["claim-C08"]), code(["claim-C08", "other"]), text("So it is (C08), not C01.")
    )
    notebook, page, _ = as_page(chapter)
    assert "So it is ([C08](#c08)), not C01." in page
    labels = [cell.source for cell in notebook.cells[1:4:2]]
    assert labels == ["(cell-c08)=", "(cell-c08-2)="]
    assert [cell.cell_type for cell in notebook.cells[1:5]] == ["markdown", "code"] * 2


def test_the_first_use_of_a_term_leads_to_the_glossary():
    chapter = make_chapter(
        text("Many Queries, one query. A `query` is $query$."), text("Another query; beam\nsearch.")
    )
    _, page, _ = as_page(chapter)
    assert "Many {term}`Queries<query>`, one query. A `query` is $query$." in page
    assert "Another query; {term}`beam\nsearch<beam search>`." in page


def test_only_prose_is_changed():
    kept = [
        "```python\nquery = 1  # chapter 2\n```",
        "# query",
        "| query | x |",
        "$$ query\n + query $$",
        "$query$",
        "`query`",
        "[a query](https://example.org/query)",
        "<a id='query'>",
        "(query)=",
        "{term}`query<query>`",
        "https://example.org/query",
    ]
    for piece in kept:
        assert in_prose(lambda words: words.replace("query", "X"), f"a query\n\n{piece}\n\nquery") == (
            f"a X\n\n{piece}\n\nX"
        )


def test_plain_text_is_what_markdown_shows():
    assert plain("a *b* `c`\n[d](e) $f_g$ {term}`h<i>`") == "a b c d f_g h"


def test_what_is_folded_is_read_as_markdown():
    hint = "<details><summary>Hint</summary>Use $d_k$.</details>\n"
    solution = "<details><summary>Solution</summary>\n\n```python\nx\n```\n</details>"
    assert chapters.unfold(hint + solution) == (
        "<details>\n<summary>Hint</summary>\n\nUse $d_k$.\n\n</details>\n\n"
        "<details>\n<summary>Solution</summary>\n\n```python\nx\n```\n\n</details>\n"
    )


def test_a_figure_is_described_by_the_sentence_below():
    notebook, _, _ = as_page(
        make_chapter(figure(), text("*What to look at: the $d_k$ of\nthe red one.*\n\nMore."))
    )
    assert notebook.cells[1].metadata["mystnb"]["image"]["alt"] == "Figure. the d_k of the red one."


@pytest.mark.parametrize("below", [[], [text("Here you see it.")], [code()]])
def test_a_figure_without_a_sentence_is_refused(below):
    with pytest.raises(ValueError, match="03_scaled_attention, cell 2: the figure needs a sentence below it"):
        as_page(make_chapter(figure(), *below))


def test_the_measured_time_is_told_once():
    _, page, _ = as_page(make_chapter(text("**Time.** Again.")), run_time="Measured: 7 seconds.")
    assert page.count("Measured: 7 seconds.") == 1
    assert "**Time.** It is quick. Measured: 7 seconds." in page


def test_the_stored_notebook_is_left_as_it_was():
    chapter = make_chapter(text("chapter 2"), figure(), text("*What to look at: it.*"), code(["claim-C01"]))
    before = nbformat.writes(chapter.notebook)
    as_page(chapter)
    assert nbformat.writes(chapter.notebook) == before


def test_a_title_without_its_number_is_refused():
    chapter = chapters.Chapter("04_heads", make_chapter(slug="03_x").notebook)
    with pytest.raises(ValueError, match="04_heads: the title should read '# 4 · …'"):
        _ = chapter.title


def a_view(seed=0):
    return attention_map([[0.25, 0.75], [0.5, 0.5]] if seed == 0 else [[1.0, 0.0], [0.5, 0.5]])._repr_html_()


def test_a_view_s_script_is_taken_out_and_comes_back_the_same():
    slim, found = views.split(a_view())
    assert (found.kind, found.text) == ("attention_map", script("attention_map"))
    assert len(slim) < len(a_view()) - 10_000 and ', "");\n</script>' in slim
    assert f'["{found.key}"] = Promise.resolve($attention_map)' in found.content()
    assert found.text in found.content()


def test_views_of_one_kind_share_a_file():
    chapter = make_chapter(code(**{"text/html": a_view()}), code(**{"text/html": a_view(1)}))
    notebook, _, scripts = as_page(chapter)
    assert len(scripts) == 1
    for cell in notebook.cells[1:]:
        html = cell.outputs[0].data["text/html"]
        assert html.startswith(f'<script src="../_static/views/{scripts[0].file}"></script>\n<div')


def test_hostile_words_of_a_view_end_nothing_in_a_page():
    words = HOSTILE
    hostile = attention_map(np.eye(len(words)), words, title="".join(words))
    page, _ = views.in_page(hostile._repr_html_(), "../")
    plain, _ = views.in_page(a_view(), "../")
    for tag in ("<script", "</script", "<svg", "<b>", "<img"):
        assert page.lower().count(tag) == plain.lower().count(tag), tag


def test_a_view_of_another_form_is_refused():
    with pytest.raises(ValueError, match=r"another form than book/generate/views\.py knows"):
        views.split(a_view().replace("views[", "sights["))


def test_a_chapter_gives_its_first_view_of_a_kind():
    chapter = make_chapter(code(**{"text/html": a_view()}), code(**{"text/html": a_view(1)}))
    assert chapter.view("attention_map") == a_view()
    with pytest.raises(ValueError, match="03_scaled_attention shows no head_view"):
        chapter.view("head_view")
