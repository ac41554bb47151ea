"""The views in a page as Jupyter Book makes it: its elements, its rules for dark pages, its switch.

The book is built elsewhere; here stand the parts of its pages that a view has to do with, as myst-nb and the
pydata-sphinx-theme (on which the sphinx-book-theme builds) write them.
"""

import pytest

from course_lib.widgets import alignment_view, attention_map

pytestmark = pytest.mark.browser

# In a dark page the theme puts a light ground behind whatever a cell shows and is not known to be dark too.
STYLE = """
<style>
html[data-theme="light"] { --pst-color-background: #ffffff; --pst-color-text-base: #222832; }
html[data-theme="dark"] { --pst-color-background: #14181e; --pst-color-text-base: #ced6dd; }
body { background: var(--pst-color-background); color: var(--pst-color-text-base); }
html[data-theme="dark"] .bd-content div.cell_output .text_html:not(:has(table.dataframe)) {
  background-color: var(--pst-color-text-base); color: #222832; padding: 0.5rem; border-radius: 0.25rem;
}
html[data-theme="dark"] .bd-content div.cell_output img { background-color: #ced6dd; }
</style>
"""

# auto, light and dark in turn; auto takes what the system says.
SWITCH = """
<button class="theme-switch-button">Theme</button>
<script>
const system = matchMedia("(prefers-color-scheme: dark)");
const modes = ["auto", "light", "dark"];
function setTheme(mode) {
  document.documentElement.dataset.mode = mode;
  document.documentElement.dataset.theme = mode === "auto" ? (system.matches ? "dark" : "light") : mode;
}
setTheme("auto");
system.addEventListener("change", () => setTheme(document.documentElement.dataset.mode));
document.querySelector(".theme-switch-button").onclick = () =>
  setTheme(modes[(modes.indexOf(document.documentElement.dataset.mode) + 1) % 3]);
</script>
"""


def in_the_book(*views):
    cells = "".join(
        '<div class="cell docutils container"><div class="cell_output docutils container">'
        f'<div class="output text_html">{view._repr_html_()}</div></div></div>'
        for view in views
    )
    return f'{STYLE}{SWITCH}<div class="bd-content"><article class="bd-article">{cells}</article></div>'


@pytest.fixture
def chapter(make_weights):
    return in_the_book(
        attention_map(make_weights(4, 4)),
        alignment_view(make_weights(3, 4), list("abcd"), list("xyz")),
    )


def themes(opened):
    frames = opened.page.locator("[data-attention-view] .view").all()
    return [frame.get_attribute("data-theme") for frame in frames]


def ground(opened, selector):
    return opened.page.locator(selector).first.evaluate("(node) => getComputedStyle(node).backgroundColor")


def test_the_views_follow_the_book_s_switch(open_page, chapter):
    opened = open_page(chapter, color_scheme="dark")
    assert themes(opened) == ["dark", "dark"]
    opened.page.get_by_role("button", name="Theme").click()
    opened.wait_until(lambda: themes(opened) == ["light", "light"])
    opened.page.get_by_role("button", name="Theme").click()
    opened.wait_until(lambda: themes(opened) == ["dark", "dark"])
    # On a light system, auto is light again; and follows the system from there.
    opened.page.emulate_media(color_scheme="light")
    opened.page.get_by_role("button", name="Theme").click()
    opened.wait_until(lambda: themes(opened) == ["light", "light"])
    opened.page.emulate_media(color_scheme="dark")
    opened.wait_until(lambda: themes(opened) == ["dark", "dark"])
    opened.clean()


def test_a_dark_book_puts_no_light_ground_behind_a_view(open_page, chapter):
    opened = open_page(chapter, color_scheme="dark")
    assert ground(opened, ".text_html") == "rgba(0, 0, 0, 0)"
    assert ground(opened, "[data-attention-view] .view") == "rgb(20, 24, 29)"
    # The rule is at work in this page: it would be there for an output that holds no table of this kind.
    opened.page.evaluate("document.querySelector('table.dataframe').classList.remove('dataframe')")
    assert ground(opened, ".text_html") == "rgb(206, 214, 221)"


def test_the_book_s_views_are_used_by_keyboard(open_page, chapter):
    opened = open_page(chapter)
    opened.focus()
    opened.press("ArrowDown")
    assert opened.say().startswith("query '1' attends to '0'")
    opened.clean()
