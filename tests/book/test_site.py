"""The pages as files: links and pictures lead somewhere, nothing comes from elsewhere."""

import json
import re
import urllib.parse
from pathlib import Path

import nbformat

ROOT = Path(__file__).parents[2]
SLUGS = [path.stem for path in sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))]


def broken_links(pages, site):
    broken = []
    for name, page in pages.items():
        for link in page.links:
            parts = urllib.parse.urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            path = page.path if not parts.path else (page.path.parent / urllib.parse.unquote(parts.path))
            target = path.resolve()
            if not target.is_file():
                broken.append(f"{name}: {link}")
                continue
            other = pages.get(target.relative_to(site.resolve()).as_posix())
            if parts.fragment and other and urllib.parse.unquote(parts.fragment) not in other.ids:
                broken.append(f"{name}: {link}")
    return broken


def test_every_chapter_and_page_is_there(pages):
    expected = {f"notebooks/{slug}.html" for slug in SLUGS}
    start = ("index", "how_to_use", "claims", "proofs", "results", "notation")
    expected |= {f"{name}.html" for name in start}
    expected |= {f"{name}.html" for name in ("glossary", "library", "bibliography", "contribute", "search")}
    expected |= {f"library/course_lib.{name}.html" for name in ("attention", "models.transformer")}
    assert expected <= pages.keys()


def test_links_within_the_book_lead_somewhere(pages, site):
    assert broken_links(pages, site) == []
    home = pages["index.html"]
    good = list(home.links)
    for bad in ("nowhere.html", "glossary.html#no-such-term", "#no-such-place"):
        home.links = [*good, bad]
        assert broken_links(pages, site) == [f"index.html: {bad}"]
    home.links = good


def test_every_picture_is_there_and_has_an_alternative_text(pages):
    count = 0
    for name, page in pages.items():
        for source, alternative in page.images:
            count += 1
            assert alternative and alternative.strip(), f"{name}: {source[:60]}"
            if not source.startswith("data:"):
                assert (page.path.parent / urllib.parse.unquote(source.split("?")[0])).is_file(), (
                    f"{name}: {source}"
                )
    assert count > 30


def test_nothing_is_loaded_from_another_host(pages, site):
    for name, page in pages.items():
        outside = [load for load in page.loads if re.match(r"(?:[a-z]+:)?//", load)]
        assert outside == [], name
        assert "unpkg.com" not in page.path.read_text(encoding="utf-8"), name
    for sheet in site.rglob("*.css"):
        text = sheet.read_text(encoding="utf-8")
        assert re.findall(r"(?:url\(|@import )['\"]?(?:https?:)?//[^)]*", text) == [], sheet.name


def test_a_view_s_script_stands_in_a_file_once(pages, site):
    """In the notebooks each output carries it; here a page names the file and keeps the data."""
    files = list((site / "_static" / "views").glob("*.js"))
    assert len(files) > 5
    for name, page in pages.items():
        text = page.path.read_text(encoding="utf-8")
        views = len(re.findall(r"<div data-attention-view=", text))
        assert len(re.findall(r"_static/views/[\w-]+\.js", text)) == views, name
        assert max(map(len, re.findall(r'\}\)\(\{.*?\}, "([^"]*)"\);', text)), default=0) == 0, name


def test_icons_that_are_shown_are_in_the_font_and_others_are_not(pages, site):
    from fontTools.ttLib import TTFont

    font = TTFont(site / "_static" / "vendor" / "fontawesome" / "webfonts" / "fa-solid-900.woff")
    sheet = (site / "_static" / "styles" / "pydata-sphinx-theme.css").read_text(encoding="utf-8")
    codes = dict(
        re.findall(r'\.(fa-[\w-]+):before(?:,\.fa-[\w-]+:before)*\{content:"\\([0-9a-f]{4})"\}', sheet)
    )
    for name in ("fa-bars", "fa-download", "fa-magnifying-glass"):
        assert f"{name}" in pages["index.html"].path.read_text(encoding="utf-8")
        assert int(codes[name], 16) in font.getBestCmap()
    assert "fa-ghost" not in codes and len(font.getBestCmap()) < 100


def test_downloads_are_the_notebooks_as_they_are(pages, site):
    for slug in SLUGS:
        link = f"../_sources/notebooks/{slug}.ipynb"
        assert link in pages[f"notebooks/{slug}.html"].links
        offered = (site / "_sources" / "notebooks" / f"{slug}.ipynb").read_bytes()
        assert offered == (ROOT / "notebooks" / f"{slug}.ipynb").read_bytes()


def test_without_an_address_there_are_no_launch_buttons(pages):
    for name, page in pages.items():
        hosts = ("colab.research.google.com", "mybinder.org")
        assert not [link for link in page.links if any(host in link for host in hosts)], name


def test_every_chapter_states_its_measured_time_and_links_on(pages):
    run_times = json.loads((ROOT / "book" / "run_times.json").read_text(encoding="utf-8"))
    for before, slug in zip([None, *SLUGS], SLUGS, strict=False):
        page = pages[f"notebooks/{slug}.html"]
        text = page.path.read_text(encoding="utf-8")
        assert f"Measured: {run_times[slug]['seconds']} seconds" in text, slug
        if before:
            assert (
                f"{before}.html" in page.links and f"{slug}.html" in pages[f"notebooks/{before}.html"].links
            )


def test_terms_claims_chapters_and_sections_are_linked(pages):
    links = pages["notebooks/06_transformer.html"].links
    assert any(link.startswith("../glossary.html#term-") for link in links)
    assert "../claims.html#c26" in links
    assert "05_positional_encoding.html#chapter-5" in links
    assert any(link.startswith("#section-6-") for link in links)
    terms = [link for link in links if link.startswith("../glossary.html#term-")]
    assert len(terms) == len(set(terms)) > 10  # the first use alone


def test_every_claim_leads_to_its_cell(pages):
    claims = pages["claims.html"]
    for slug in SLUGS:
        for cell in nbformat.read(ROOT / "notebooks" / f"{slug}.ipynb", as_version=4).cells:
            for tag in cell.metadata.get("tags", []):
                if tag.startswith("claim-"):
                    anchor = f"cell-{tag.removeprefix('claim-').lower()}"
                    assert f"notebooks/{slug}.html#{anchor}" in claims.links
                    assert anchor in pages[f"notebooks/{slug}.html"].ids


def test_equations_are_numbered_by_chapter(pages):
    for slug in SLUGS:
        text = pages[f"notebooks/{slug}.html"].path.read_text(encoding="utf-8")
        numbers = re.findall(r'id="equation-(\d+)-(\d+)"', text)
        assert [int(count) for _, count in numbers] == list(range(1, len(numbers) + 1))
        assert {int(chapter) for chapter, _ in numbers} <= {int(slug[:2])}
    assert numbers
