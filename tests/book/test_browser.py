"""The pages in a real browser: nothing from elsewhere, no error, alive, for phones and for the dark."""

import re

import pytest

from book.build import on_paper

pytestmark = pytest.mark.browser

AXE = """async (source) => {
  if (!globalThis.axe) {
    document.head.append(Object.assign(document.createElement("script"), { textContent: source }));
  }
  const runOnly = ["wcag2a", "wcag2aa", "best-practice"];
  const { violations } = await axe.run({ exclude: [".katex"] }, { resultTypes: ["violations"], runOnly });
  return violations.filter(({ impact }) => ["serious", "critical"].includes(impact))
    .flatMap(({ id, nodes }) =>
      nodes.map(({ target, any }) => [id, target.flat().join(" "), any[0]?.message ?? ""]))
    .map((parts) => parts.join(": "));
}"""
SIDEWAYS = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"


def kinds_of_pages(pages):
    """All pages, but of the library's, which differ in their text alone, one."""
    return [
        name
        for name in pages
        if not name.startswith("library/") or name == "library/course_lib.attention.html"
    ]


# What a page loads, its own file and its fonts too, in bytes; pictures that stand in it are counted apart.
WEIGHT = """() => [...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")]
  .map(({ name, encodedBodySize }) => [new URL(name).pathname, encodedBodySize])"""
PICTURE_IN_PAGE = re.compile(r"data:image/[a-z+]+;base64,[A-Za-z0-9+/=]+")


def weigh(page, page_file):
    """How heavy a page is, without its pictures and with them."""
    pictures = sum(map(len, PICTURE_IN_PAGE.findall(page_file.path.read_text(encoding="utf-8"))))
    parts = dict(page.evaluate(WEIGHT)).items()
    everything = sum(size for _, size in parts)
    pictures += sum(size for path, size in parts if path.endswith((".png", ".svg", ".jpg")))
    assert everything > 500_000  # the theme alone weighs more: what was counted is not nothing
    return everything - pictures, everything


def test_pages_load_without_error_fit_a_wide_screen_and_are_light(visit, pages):
    window = visit(1440, "light")
    # With a route there is no cache, so that each page is weighed with all that it loads.
    window.page.route("**/*", lambda route: route.continue_())
    found = {}
    for name, page_file in pages.items():
        page = window.go(name)
        troubles = list(window.troubles)
        if page.evaluate(SIDEWAYS) > 0:
            troubles.append("scrolls sideways")
        without_pictures, everything = weigh(page, page_file)
        if without_pictures > 1_500_000 or everything > 4_000_000:
            troubles.append(f"weighs {without_pictures:,} bytes without pictures, {everything:,} with them")
        if troubles:
            found[name] = troubles
    assert found == {}


def test_pages_fit_a_phone_in_the_dark(visit, pages):
    window = visit(360, "dark")
    found = {}
    for name in kinds_of_pages(pages):
        page = window.go(name)
        troubles = list(window.troubles)
        if page.evaluate(SIDEWAYS) > 0:
            troubles.append("scrolls sideways")
        if page.evaluate("document.documentElement.dataset.theme") != "dark":
            troubles.append("is not dark")
        if troubles:
            found[name] = troubles
    assert found == {}


@pytest.mark.parametrize("width, scheme", [(1440, "light"), (1440, "dark"), (360, "dark")])
def test_axe_finds_nothing_serious(visit, pages, axe_source, width, scheme):
    window = visit(width, scheme)
    found = {}
    for name in kinds_of_pages(pages):
        page = window.go(name)
        if violations := page.evaluate(AXE, axe_source):
            found[name] = violations
    assert found == {}


# On paper nothing scrolls: what is cut is lost. Between its margins, A4 is 673 pixels wide.
CUT = """() => [...document.querySelectorAll("#main-content :is(p, li, pre, table, img, div.formula)")]
  .filter((place) =>
    place.getBoundingClientRect().right > innerWidth || place.scrollWidth > place.clientWidth + 4)
  .map((place) => `${place.localName}: ${place.innerText.slice(0, 40)}`)"""


def test_nothing_is_cut_on_paper(visit):
    window = visit(673)
    found = {}
    for name in on_paper():
        page = window.go(f"{name}.html")
        page.emulate_media(media="print")
        page.evaluate("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
        if cut := page.evaluate(CUT):
            found[name] = cut
    assert found == {}


# What may scroll sideways on a page: whether it does, whether the Tab key stops at it, and under which name.
SCROLLED = """() => [...document.querySelectorAll("#main-content *")]
  .filter((place) => ["auto", "scroll"].includes(getComputedStyle(place).overflowX))
  .map((place) => ({
    kind: place.matches(".formula") ? "formula" : place.matches(":has(> table)") ? "table" : place.localName,
    scrolls: place.scrollWidth > place.clientWidth,
    stop: place.tabIndex === 0,
    named: `${place.getAttribute("role")} ${place.getAttribute("aria-label")}`,
  }))"""


def stops_of(page):
    """What scrolls sideways on a page, after a check that the Tab key stops at it, and at nothing else."""
    for _ in range(50):  # the theme waits a third of a second before it looks at code again
        places = page.evaluate(SCROLLED)
        wrong = [place for place in places if place["stop"] != place["scrolls"]]
        if not wrong:
            break
        page.wait_for_timeout(100)
    assert wrong == []
    stops = [place for place in places if place["stop"]]
    for kind, name in {"formula": r"group (Equation \d+\.\d+|Formula)", "table": "group Table"}.items():
        for place in places:
            if place["kind"] == kind:
                assert re.fullmatch(name if place["stop"] else "null null", place["named"])
    return {kind: sum(stop["kind"] == kind for stop in stops) for kind in ("formula", "table", "pre")}


@pytest.mark.parametrize("name", ["notebooks/04_multi_head_attention.html", "results.html"])
def test_the_keyboard_stops_at_what_scrolls_sideways_and_only_there(visit, name):
    window = visit(1440)
    page = window.go(name)
    wide = stops_of(page)
    page.set_viewport_size({"width": 360, "height": 900})
    narrow = stops_of(page)
    assert sum(narrow.values()) > sum(wide.values())
    page.set_viewport_size({"width": 1440, "height": 900})
    assert stops_of(page) == wide


def test_a_stop_can_be_seen_and_scrolled_by_its_arrows(visit):
    page = visit(360).go("notebooks/04_multi_head_attention.html")
    formula = page.locator(".formula[tabindex]").first
    formula.evaluate("(place) => place.focus({ focusVisible: true })")
    assert formula.evaluate("(place) => getComputedStyle(place).outlineStyle") == "solid"
    assert formula.evaluate("(place) => parseFloat(getComputedStyle(place).outlineWidth)") >= 2
    page.keyboard.press("ArrowRight")
    page.wait_for_function("() => document.activeElement.scrollLeft > 0")


def test_fonts_that_come_late_change_what_scrolls(visit):
    """A formula's width is that of its font; KaTeX has it typeset before its fonts are there."""
    window = visit(360)
    page, held = window.page, []
    page.route("**/*.woff2", lambda route: held.append(route))
    page.goto(window.home + "notebooks/04_multi_head_attention.html", wait_until="domcontentloaded")
    page.wait_for_function("() => document.querySelector('.formula .katex') && document.fonts.size")
    widths = "() => [...document.querySelectorAll('div.formula')].map((place) => place.scrollWidth)"
    page.wait_for_timeout(500)
    before = page.evaluate(widths)
    for route in held:
        route.continue_()
    page.evaluate("document.fonts.ready.then(() => {})")
    assert held and page.evaluate(widths) != before
    assert stops_of(page)["formula"] > 0


def test_the_book_works_from_its_files(visit, pages):
    window = visit(from_files=True)
    for name in ("index.html", *(name for name in pages if name.startswith("notebooks/"))):
        window.go(name)
        assert window.troubles == [], name


@pytest.mark.parametrize("from_files", [False, True], ids=["served", "from files"])
def test_search_finds_masked_softmax(visit, from_files):
    window = visit(from_files=from_files)
    page = window.page
    page.goto(window.home + "search.html?q=masked+softmax")
    page.wait_for_selector("#search-results li a")
    results = page.locator("#search-results li a").all_inner_texts()
    assert any("attention" in result.lower() for result in results)
    assert window.troubles == []
    page.goto(window.home + "search.html?q=zebrafish")
    page.wait_for_function("() => /did not match/.test(document.body.innerText)")
    assert page.locator("#search-results li a").count() == 0


def views_of(page):
    return page.locator("[data-attention-view]")


def test_every_view_answers_to_pointer_and_keyboard(visit, pages):
    window = visit()
    count, silent = 0, []
    for name, page_file in pages.items():
        if "data-attention-view" not in page_file.path.read_text(encoding="utf-8"):
            continue
        page = window.go(name)
        for index in range(views_of(page).count()):
            count += 1
            view = views_of(page).nth(index)
            place = f"{name}, view {index + 1}"
            # Some views are led by a slider, the calculator by its cells.
            handle = view.locator("input[type=range], canvas[tabindex], td button").first
            before = picture(view)
            handle.focus()
            for key in ("ArrowRight", "ArrowRight", "ArrowDown"):
                page.keyboard.press(key)
            by_keys = picture(view)
            if by_keys == before:
                silent.append(f"{place}: keyboard")
            box = handle.bounding_box()
            seen = set()
            for x, y in ((0.62, 0.62), (0.45, 0.8), (0.2, 0.4)):
                handle.hover(position={"x": box["width"] * x, "y": box["height"] * y})
                page.mouse.down()
                page.mouse.up()
                seen.add(str(picture(view)))
            if seen == {str(by_keys)}:
                silent.append(f"{place}: pointer")
    assert count >= 15 and silent == []


def picture(view):
    """What a view says and paints."""
    said = view.locator("[role=status]").all_inner_texts()
    return said, view.evaluate(
        "(place) => [...place.shadowRoot.querySelectorAll('canvas')].map((canvas) => canvas.toDataURL())"
    )


def test_views_follow_the_book_s_switch(visit):
    window = visit()
    page = window.go("index.html")
    frame = page.locator("[data-attention-view] .view").first
    assert frame.get_attribute("data-theme") == "light"
    for _ in range(3):
        page.locator("button.theme-switch-button").locator("visible=true").first.click()
        wanted = page.evaluate("document.documentElement.dataset.theme")
        page.wait_for_function(
            "(wanted) => document.querySelector('[data-attention-view]').shadowRoot"
            ".querySelector('.view').dataset.theme === wanted",
            arg=wanted,
        )
        if wanted == "dark":
            return
    pytest.fail("the switch never made the page dark")


def test_the_first_screen_has_a_live_map_and_what_will_be_built(visit):
    window = visit()
    page = window.go("index.html")
    canvas = page.locator("[data-attention-view] canvas").first.bounding_box()
    built = page.get_by_text("You will build").bounding_box()
    assert canvas["y"] + canvas["height"] < 900 and built["y"] + built["height"] < 900


def test_hints_and_solutions_fold(visit):
    window = visit()
    page = window.go("notebooks/02_bahdanau_attention.html")
    folded = page.locator("details:not(.sd-dropdown)")
    assert folded.count() >= 8
    solution = folded.filter(has_text="Solution").first
    code = solution.locator("pre").first
    assert not code.is_visible()
    solution.locator("summary").click()
    assert code.is_visible()
