"""The views in a real page: painted, walked by keyboard, dark and light, exported, alone and together."""

import re

import numpy as np
import pytest
from PIL import Image

from course_lib.widgets import alignment_view, attention_bench, attention_map, compare

pytestmark = pytest.mark.browser

TOKENS = "the animal was too tired".split()


@pytest.fixture
def map_view(make_weights):
    def build(**options):
        weights = make_weights(5, 5)
        weights[2] = [0.1, 0.62, 0.08, 0.1, 0.1]
        return attention_map(weights, TOKENS, **options)

    return build


def colours(opened, index=0):
    """The colours on a view's first canvas, with how many pixels have each."""
    return opened.view(index).locator("canvas").first.evaluate(
        """(canvas) => {
          // A copy is read, since reading a canvas again and again makes the browser warn.
          const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d");
          copy.drawImage(canvas, 0, 0);
          const { data } = copy.getImageData(0, 0, canvas.width, canvas.height);
          const seen = {};
          for (let i = 0; i < data.length; i += 4) {
            const key = [data[i], data[i + 1], data[i + 2], data[i + 3]].join();
            seen[key] = (seen[key] ?? 0) + 1;
          }
          return seen;
        }"""
    )


def test_the_map_is_painted_without_error_or_request(open_page, map_view):
    opened = open_page(map_view())
    assert len(colours(opened)) > 50
    # The picture for places without scripts gives way; the table stays for screen readers.
    assert not opened.view().locator("img").is_visible()
    assert opened.view().locator("table").evaluate("(table) => table.assignedSlot !== null")
    opened.clean()


def test_the_keyboard_walks_the_map_and_the_live_region_tells(open_page, map_view):
    opened = open_page(map_view())
    opened.focus()
    opened.press("ArrowDown", "ArrowDown", "ArrowRight")
    assert opened.say().startswith("query 'was' attends to 'animal': 0.62")
    opened.press("End")
    assert opened.say().startswith("query 'was' attends to 'tired'")
    opened.press("Home")
    assert opened.say().startswith("query 'was' attends to 'the'")
    opened.press("Control+End", "ArrowDown", "ArrowRight")
    assert opened.say().startswith("query 'tired' attends to 'tired'")
    opened.press("Control+Home", "ArrowUp")
    assert opened.say().startswith("query 'the' attends to 'the'")
    opened.press("ArrowDown", "ArrowDown", "Enter")
    assert opened.say().startswith("query 'was' attends most to 'animal' 0.62")
    assert opened.view().locator("[role=status]").get_attribute("aria-live") == "polite"


def test_focus_can_be_seen(open_page, map_view):
    opened = open_page(map_view())
    canvas = opened.focus()
    assert canvas.evaluate("(node) => getComputedStyle(node).outlineStyle") == "solid"
    assert canvas.evaluate("(node) => parseFloat(getComputedStyle(node).outlineWidth)") >= 2


def test_pointer_and_touch_tell_the_cell(open_page, map_view):
    opened = open_page(map_view(), has_touch=True)
    box = opened.view().locator("canvas").bounding_box()
    place = box["x"] + box["width"] * 0.55, box["y"] + box["height"] * 0.55
    opened.page.mouse.move(*place)
    told = opened.say()
    assert re.match(r"query '\w+' attends to '\w+': [\d.]+", told)
    opened.page.touchscreen.tap(place[0] + 45, place[1])
    assert opened.say() != told


def test_layer_and_head_are_chosen(open_page, make_weights):
    weights = make_weights(2, 3, 5, 7)
    weights[1, 2, 0, 0] = 0.987
    opened = open_page(attention_map(weights, normalized=False))
    opened.view().get_by_label("Layer").select_option("1")
    opened.view().get_by_label("Head").select_option("2")
    opened.page.wait_for_function(
        """() => document.querySelector("[data-attention-view]").shadowRoot
          .querySelector("[role=status]").textContent.includes("0.99")"""
    )
    opened.clean()


def test_mask_and_gold_can_be_shown_and_hidden(open_page, map_view):
    opened = open_page(map_view(mask=np.tril(np.ones((5, 5))), gold={(2, 1)}))
    both = colours(opened)
    opened.view().get_by_label("Gold").uncheck()
    assert colours(opened) != both
    without = colours(opened)
    opened.view().get_by_label("Mask").uncheck()
    assert colours(opened) != without
    opened.focus()
    opened.press("ArrowDown", "ArrowDown", "ArrowRight")
    assert "0.62, gold" in opened.say()
    opened.press("End")
    assert ", masked" in opened.say()


@pytest.mark.parametrize(
    ("attribute", "node"),
    [("data-theme", "documentElement"), ("data-jp-theme-light", "body")],
)
def test_light_and_dark_follow_the_page_while_it_is_open(open_page, map_view, attribute, node):
    opened = open_page(map_view(), color_scheme="dark")
    frame = opened.view().locator(".view")
    assert frame.get_attribute("data-theme") == "dark"
    dark, light = ("dark", "light") if attribute == "data-theme" else ("false", "true")
    opened.page.evaluate(f"document.{node}.setAttribute('{attribute}', '{light}')")
    opened.page.wait_for_timeout(50)
    assert frame.get_attribute("data-theme") == "light"
    painted = colours(opened)
    opened.page.evaluate(f"document.{node}.setAttribute('{attribute}', '{dark}')")
    opened.page.wait_for_timeout(50)
    assert frame.get_attribute("data-theme") == "dark"
    assert colours(opened) != painted
    opened.clean()


def test_the_system_decides_where_the_page_says_nothing(open_page, map_view):
    opened = open_page(map_view(), color_scheme="light")
    frame = opened.view().locator(".view")
    assert frame.get_attribute("data-theme") == "light"
    opened.page.emulate_media(color_scheme="dark")
    opened.page.wait_for_timeout(50)
    assert frame.get_attribute("data-theme") == "dark"


def test_export_as_png_and_svg(open_page, map_view, tmp_path):
    opened = open_page(map_view(gold={(2, 1)}))
    for kind in ("PNG", "SVG"):
        with opened.page.expect_download() as download:
            opened.view().get_by_role("button", name=f"Save {kind}").click()
        download.value.save_as(tmp_path / f"map.{kind.lower()}")
        assert download.value.suggested_filename == f"Attention-map.{kind.lower()}"
    with Image.open(tmp_path / "map.png") as picture:
        assert picture.width > 300
        assert len(picture.convert("RGB").getcolors(100_000)) > 50
    svg = (tmp_path / "map.svg").read_text(encoding="utf-8")
    assert svg.startswith("<svg ") and "animal" in svg and svg.count("<rect") > 25
    shown = open_page(svg.replace('role="img"', ""), ready=False)
    shown.clean()


def test_numbers_are_copied(open_page, map_view):
    opened = open_page(map_view(), permissions=["clipboard-read", "clipboard-write"])
    opened.page.bring_to_front()
    opened.view().get_by_role("button", name="Copy numbers").click()
    opened.page.wait_for_timeout(100)
    area = opened.view().locator("textarea")
    text = area.input_value() if area.count() else opened.page.evaluate("navigator.clipboard.readText()")
    lines = [line.split("\t") for line in text.splitlines()]
    assert lines[0] == ["", *TOKENS]
    assert float(lines[3][2]) == pytest.approx(0.62)


def test_without_a_clipboard_the_numbers_are_shown(open_page, map_view):
    opened = open_page(map_view())
    opened.page.evaluate("Object.defineProperty(navigator, 'clipboard', { value: undefined })")
    opened.view().get_by_role("button", name="Copy numbers").click()
    assert "animal" in opened.view().locator("textarea").input_value()


def test_two_views_and_the_same_one_twice(open_page, map_view, make_weights):
    other = alignment_view(make_weights(3, 4), list("abcd"), list("xyz"))
    opened = open_page(map_view(), other, map_view(), map_view(title="Another"))
    assert opened.page.locator("[data-state=ready]").count() == 4
    assert all(len(colours(opened, index)) > 5 for index in range(4))
    opened.clean()


def test_each_output_stands_alone(open_page, map_view, make_weights):
    """The first output is cleared and the last one run again: neither needs the other."""
    opened = open_page(map_view(title="First"), map_view(title="Second"))
    opened.page.evaluate("document.querySelector('[data-attention-view]').remove()")
    opened.page.evaluate(
        """(html) => {
          const place = document.createElement("div");
          place.innerHTML = html;
          document.querySelector("main").append(place);
          for (const old of place.querySelectorAll("script")) {
            const script = document.createElement("script");
            script.textContent = old.textContent;
            old.replaceWith(script);
          }
        }""",
        map_view(title="Second")._repr_html_(),
    )
    opened.page.wait_for_function("document.querySelectorAll('[data-state=ready]').length === 2")
    opened.clean()


def test_without_scripts_picture_and_table_are_seen(open_page, map_view):
    opened = open_page(map_view(), ready=False, java_script_enabled=False)
    assert opened.view().locator("img").is_visible()
    assert opened.view().locator("table").is_visible()


HOSTILE = ["<img src=x onerror=alert(1)>", "</script><b>", "", "   ", "\n", "שלום", "x" * 60, "a&b\"'", "\u202eevil"]


def test_hostile_tokens_are_only_characters(open_page, make_weights):
    count = len(HOSTILE)
    opened = open_page(attention_map(make_weights(count, count), HOSTILE))
    opened.focus()
    said = []
    for _ in HOSTILE:
        opened.press("ArrowRight")
        said.append(opened.say())
    assert "'</script><b>'" in said[0] and "'∅'" in said[1] and "'␣␣␣'" in said[2] and "'↵'" in said[3]
    assert "⟨U+202E⟩evil" in said[7]
    opened.press("Home")
    assert "'<img src=x onerror=alert(1)>'" in opened.say()
    assert opened.view().locator("canvas").bounding_box()["width"] < 800
    opened.clean()


def test_a_phone_shows_it_without_scrolling_sideways(open_page, map_view, make_weights):
    opened = open_page(
        map_view(), alignment_view(make_weights(6, 9), [f"word{i}" for i in range(9)], list("abcdef")),
        viewport={"width": 360, "height": 640},
    )
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= 360


def bench(make_weights, **options):
    numbers = np.random.default_rng(3).normal(size=(3, 4, 2)).round(1)
    return attention_bench(*numbers, ["the", "cat", "sat", "down"], **options)


def cell(opened, stage, query, key):
    label = f"{stage}, query {query}, key {key}"
    return opened.view().locator(f"[data-stage={stage}] button[aria-label^='{label}']")


def test_the_bench_recomputes_when_a_number_changes(open_page, make_weights):
    opened = open_page(bench(make_weights))
    assert opened.view().locator("input[type=number]").count() == 3 * 4 * 2
    before = cell(opened, "weights", "the", "cat").inner_text()
    box = opened.view().get_by_label("query 0, number 0")
    box.fill("9")
    assert cell(opened, "weights", "the", "cat").inner_text() != before
    opened.view().get_by_role("button", name="Start again").click()
    assert cell(opened, "weights", "the", "cat").inner_text() == before
    opened.view().get_by_label("Mask", exact=True).check()
    assert cell(opened, "masked", "the", "cat").inner_text() == "−∞"
    assert cell(opened, "weights", "the", "the").inner_text() == "1.00"
    opened.view().get_by_label("÷ √d").uncheck()
    score = cell(opened, "scores", "sat", "cat").inner_text()
    assert cell(opened, "scaled", "sat", "cat").inner_text() == score
    opened.clean()


def test_the_bench_shows_the_arithmetic_and_walks_the_stages(open_page, make_weights):
    opened = open_page(bench(make_weights))
    cell(opened, "scores", "the", "cat").click()
    assert re.match(r"query 'the' · key 'cat'\n= .+·.+ \+ .+·.+\n= [−\d.e-]+$", opened.say())
    assert opened.view().locator(".linked").count() == 4
    opened.press("ArrowRight")
    assert "key 'sat'" in opened.say()
    for _ in range(4):
        opened.view().get_by_role("button", name="‹ Stage").click()
    assert opened.view().locator(".later").count() == 4
    assert opened.view().get_by_role("button", name="‹ Stage").is_disabled()
    opened.view().get_by_role("button", name="Stage ›").click()
    assert "÷ √2" in opened.say()


def test_the_temperature_flattens(open_page, make_weights):
    opened = open_page(bench(make_weights))
    slider = opened.view().get_by_label("Temperature")
    slider.fill("3")
    flat = [float(cell(opened, "weights", "the", key).inner_text()) for key in ("the", "cat", "sat", "down")]
    slider.fill("-3")
    sharp = [float(cell(opened, "weights", "the", key).inner_text()) for key in ("the", "cat", "sat", "down")]
    assert max(flat) < max(sharp)


def test_compare_moves_three_maps_together(open_page):
    reference = np.arange(12.0).reshape(3, 4)
    mine = reference.copy()
    mine[1, 2] = 5.5
    opened = open_page(compare(mine, reference))
    assert opened.say().startswith("1 of 12 numbers differs")
    opened.focus()
    opened.press("Home", "ArrowRight", "ArrowRight")
    assert opened.say() == "row 1, column 2: mine 5.5, reference 6, difference −0.5"
    opened.press("ArrowUp")
    assert opened.say().endswith(", equal")
    opened.clean()


def test_alignment_steps_word_by_word(open_page, make_weights):
    weights = make_weights(3, 4)
    weights[1] = [0.1, 0.1, 0.7, 0.1]
    opened = open_page(alignment_view(weights, list("abcd"), list("xyz"), gold={(1, 2)}))
    opened.view().get_by_role("button", name="Next word").click()
    assert opened.say() == "step 2 of 3: 'y' attends to 'c': 0.70, gold"
    opened.focus(canvas=0)
    opened.press("ArrowRight")
    assert opened.say().startswith("step 3 of 3: 'z'")
    opened.press("ArrowRight", "Home")
    assert opened.say().startswith("step 1 of 3: 'x'")
    opened.clean()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_violation(open_page, axe_source, map_view, make_weights, scheme):
    opened = open_page(
        map_view(mask=np.tril(np.ones((5, 5))), gold={(2, 1)}),
        attention_map(make_weights(2, 3, 5, 7)),
        alignment_view(make_weights(3, 4), list("abcd"), list("xyz"), gold={(1, 2)}),
        bench(make_weights),
        compare(make_weights(3, 4), make_weights(3, 4)),
        color_scheme=scheme,
    )
    opened.page.evaluate(axe_source)
    found = opened.page.evaluate("axe.run(document, { resultTypes: ['violations'] })")["violations"]
    assert [(v["id"], [node["html"][:120] for node in v["nodes"]]) for v in found] == []
