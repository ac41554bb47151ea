"""The views in a real page: painted, walked by keyboard, dark and light, exported, alone and together."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from course_lib.widgets import (
    alignment_view,
    attention_bench,
    attention_map,
    beam_view,
    compare,
    kernel_regression_view,
    predict_then_reveal,
)
from tests.widgets.hostile_labels import HOSTILE

pytestmark = pytest.mark.browser

TOKENS = ["the", "animal", "was", "too", "tired"]


@pytest.fixture
def map_view(make_weights):
    def build(**options):
        weights = make_weights(5, 5)
        weights[2] = [0.1, 0.62, 0.08, 0.1, 0.1]
        return attention_map(weights, TOKENS, **options)

    return build


def colours(opened, index=0):
    """The colours on a view's first canvas, with how many pixels have each."""
    return (
        opened.view(index)
        .locator("canvas")
        .first.evaluate(
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
    opened.wait_until(lambda: frame.get_attribute("data-theme") == "light")
    painted = colours(opened)
    opened.page.evaluate(f"document.{node}.setAttribute('{attribute}', '{dark}')")
    opened.wait_until(lambda: frame.get_attribute("data-theme") == "dark")
    assert colours(opened) != painted
    opened.clean()


def test_the_system_decides_where_the_page_says_nothing(open_page, map_view):
    opened = open_page(map_view(), color_scheme="light")
    frame = opened.view().locator(".view")
    assert frame.get_attribute("data-theme") == "light"
    opened.page.emulate_media(color_scheme="dark")
    opened.wait_until(lambda: frame.get_attribute("data-theme") == "dark")


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
    opened.wait_until(lambda: opened.say().startswith(("Copied", "Selected")))
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
    opened.focus()
    opened.press("End")
    told = opened.say()
    opened.run_output(map_view(title="Second")._repr_html_())
    opened.page.wait_for_function("document.querySelectorAll('[data-state=ready]').length === 2")
    # The same output further up the page is left as the reader has it.
    assert opened.say() == told
    opened.clean()


def test_without_scripts_picture_and_table_are_seen(open_page, map_view):
    opened = open_page(map_view(), ready=False, java_script_enabled=False)
    assert opened.view().locator("img").is_visible()
    assert opened.view().locator("table").is_visible()


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
        map_view(),
        alignment_view(make_weights(6, 9), [f"word{i}" for i in range(9)], list("abcdef")),
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


def test_the_bench_s_mask_does_something_or_is_not_offered(open_page):
    opened = open_page(attention_bench(np.ones((2, 3)), np.eye(4, 3), np.eye(4, 2)))
    opened.view().get_by_label("Mask", exact=True).check()
    masked = opened.view().locator("[data-stage=masked] button")
    # The queries are the last positions: the first of two sees three of four keys.
    assert [text == "−∞" for text in masked.all_inner_texts()] == [False] * 3 + [True] + [False] * 4
    # A single new query may see every key.
    opened = open_page(attention_bench(np.ones((1, 3)), np.eye(4, 3), np.eye(4, 2)))
    assert opened.view().get_by_label("Mask", exact=True).count() == 0
    assert "nothing is hidden" in opened.view().locator("[data-stage=masked]").inner_text()


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
    assert opened.say() == "row '1', column '2': mine 5.5, reference 6, difference −0.5"
    opened.press("ArrowUp")
    assert opened.say().endswith(", equal")
    opened.clean()


def test_numbers_are_written_only_into_cells_that_hold_them(open_page, tmp_path):
    """Wide cells hold "0.50" and narrower ones do not; a minus or more digits need more room."""
    for values, width, written in [
        ([0.5] * 6, 900, True),
        ([-0.25] * 6, 900, True),
        ([-0.25] * 7, 860, False),
        ([0.5] * 20, 900, False),
    ]:
        view = compare([values], [values])
        opened = open_page(view, viewport={"width": width, "height": 700})
        with opened.page.expect_download() as download:
            opened.view().get_by_role("button", name="Save SVG").click()
        download.value.save_as(tmp_path / "map.svg")
        texts = [element.text for element in ElementTree.parse(tmp_path / "map.svg").iter() if element.text]
        number = f"\u2068{values[0]:.2f}\u2069".replace("-", "−")
        assert (texts.count(number) >= 2 * len(values)) == written, (values[0], len(values), width)


def test_tables_of_the_bench_keep_their_height_beside_taller_ones(open_page):
    opened = open_page(attention_bench(np.ones((1, 3)), np.eye(6, 3), np.eye(6, 2)))
    query, key = (opened.view().locator(f"[data-stage={name}]").bounding_box() for name in ("query", "key"))
    assert query["y"] == key["y"]
    assert query["height"] < key["height"] / 2


def test_compare_shows_differences_far_below_single_precision(open_page):
    """Both numbers have the same first seven digits, and the difference still has its own seven."""
    opened = open_page(compare([[3.0, 3.0 + 1e-9]], [[3.0, 3.0]], atol=1e-12))
    opened.focus()
    opened.press("End")
    assert opened.say() == "row '0', column '1': mine 3, reference 3, difference 1e−9"
    opened.press("Home")
    assert opened.say().endswith("difference 0, equal")
    assert float(opened.numbers().splitlines()[-1].split("\t")[2]) == pytest.approx(1e-9, rel=1e-6)
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
def test_axe_finds_no_violation(open_page, axe_source, every_view, map_view, scheme):
    opened = open_page(
        map_view(mask=np.tril(np.ones((5, 5))), gold={(2, 1)}), *every_view.values(), color_scheme=scheme
    )
    opened.page.evaluate(axe_source)
    found = opened.page.evaluate("axe.run(document, { resultTypes: ['violations'] })")["violations"]
    assert [(v["id"], [node["html"][:120] for node in v["nodes"]]) for v in found] == []
    # Axe itself is awake: a button without a name is found.
    opened.page.evaluate("document.querySelector('main').append(document.createElement('button'))")
    found = opened.page.evaluate("axe.run(document, { resultTypes: ['violations'] })")["violations"]
    assert [violation["id"] for violation in found] == ["button-name"]


def test_every_view_is_painted_walked_and_exported(open_page, every_view, tmp_path):
    opened = open_page(*every_view.values())
    for index, name in enumerate(every_view):
        if name != "attention_bench":
            assert len(colours(opened, index)) > 5, name
            opened.focus(index)
            opened.press("Home")
            before = opened.say(index)
            opened.press("ArrowRight", "ArrowDown")
            assert opened.say(index) != before, name
        # Every control and canvas is large enough to hit.
        for box in opened.view(index).locator("button:visible, select:visible, input:visible").all():
            size = box.bounding_box()
            assert min(size["width"], size["height"]) >= 24, (name, size)
        for kind in ("PNG", "SVG"):
            with opened.page.expect_download() as download:
                opened.view(index).get_by_role("button", name=f"Save {kind}").last.click()
            path = tmp_path / f"{name}.{kind.lower()}"
            download.value.save_as(path)
            if kind == "PNG":
                with Image.open(path) as picture:
                    assert len(picture.convert("RGB").getcolors(1_000_000)) > 5, name
            else:
                ElementTree.parse(path)
    opened.clean()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_view_fits_a_phone(open_page, every_view, scheme):
    opened = open_page(*every_view.values(), viewport={"width": 360, "height": 640}, color_scheme=scheme)
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= 360
    frames = opened.page.locator("[data-attention-view] .view")
    assert {frame.get_attribute("data-theme") for frame in frames.all()} == {scheme}
    opened.clean()


def test_heads_are_switched_and_tokens_isolated(open_page, every_view):
    opened = open_page(every_view["head_view"])
    all_heads = colours(opened)
    opened.view().get_by_role("button", name="Head 1").click()
    assert opened.say() == "head 1 hidden, 2 of 3 shown"
    assert colours(opened) != all_heads
    opened.view().get_by_role("button", name="None").click()
    opened.view().get_by_role("button", name="Head 2").click()
    opened.focus()
    opened.press("ArrowDown")
    assert re.match(r"query 'cat' attends to '\w+': 0\.\d+, ", opened.say())
    opened.press("ArrowRight", "Home")
    assert opened.say().startswith("key 'the' is attended to by '")
    opened.clean()


def test_a_head_opens_as_a_map(open_page, every_view):
    opened = open_page(every_view["model_view"])
    opened.focus()
    opened.press("ArrowDown", "ArrowRight", "Enter")
    inner = opened.view().locator(".opened canvas")
    inner.wait_for()
    assert opened.view().locator(".opened").get_by_label("Layer").input_value() == "1"
    assert opened.view().locator(".opened").get_by_label("Head").input_value() == "1"
    assert opened.say() == "layer 1, head 1 opened below"
    opened.clean()


def test_base_and_width_are_adjusted_in_the_page(open_page, every_view):
    opened = open_page(every_view["positions_view"])
    before = colours(opened)
    opened.view().get_by_label("Base").fill("1")
    assert opened.say().startswith("base 10.00, width 6: similarity falls to")
    assert colours(opened) != before
    opened.view().get_by_label("Width").fill("12")
    assert "width 12" in opened.say()
    opened.focus(canvas=1)
    opened.press("Home", "ArrowRight")
    assert opened.say().startswith("positions 1 apart: similarity 0.")
    opened.clean()


def test_a_kernel_is_chosen_and_widened_in_the_page(open_page):
    """Two points, so that every number said can be checked by hand."""
    view = kernel_regression_view([0, 4], [10, 20], [0, 1, 2, 3, 4], truth=[10, 10, 15, 20, 20], width=100)
    opened = open_page(view)
    before = colours(opened)
    opened.view().get_by_label("Kernel", exact=True).select_option("triangular")
    assert colours(opened) != before
    opened.view().get_by_label("Width", exact=True).fill("0.6")  # 3.98
    assert opened.say().startswith("triangular kernel, width 3.98: error ")
    opened.focus()
    opened.press("Home", "ArrowRight", "ArrowRight")  # half way between the two points
    assert opened.say() == (
        "query 2.00: estimate 15.00, true 15.00; most weight, 0.50, on key 0; 2 of 2 weights are above 0.01"
    )
    opened.view().get_by_label("Width", exact=True).fill("0")
    assert opened.say() == (
        "triangular kernel, width 1.00: error 0; queries without a point in their window: 3 of 5"
    )
    opened.focus()
    opened.press("Home", "ArrowRight")
    assert opened.say() == "query 1.00: no point in the window, so every weight is zero"
    # At the edge of its window a boxcar still counts a point in full.
    opened.view().get_by_label("Kernel", exact=True).select_option("boxcar")
    assert opened.say() == (
        "boxcar kernel, width 1.00: error 0; queries without a point in their window: 1 of 5"
    )
    opened.focus(canvas=1)
    opened.press("Home", "ArrowRight")
    assert re.match(r"query \d.00 attends to key 4.00: [\d.]+$", opened.say())
    opened.clean()


def test_the_query_of_a_curve_follows_pointer_and_finger(open_page, every_view):
    opened = open_page(every_view["kernel_regression_view"], has_touch=True)
    box = opened.view().locator("canvas").first.bounding_box()
    opened.page.mouse.move(box["x"] + 46, box["y"] + 150)
    assert opened.say().startswith("query 0: estimate ")
    opened.page.touchscreen.tap(box["x"] + box["width"] - 14, box["y"] + 150)
    assert opened.say().startswith("query 7.00: estimate ")


def test_a_patch_or_the_class_token_asks(open_page, every_view):
    opened = open_page(every_view["patch_view"])
    assert opened.say().startswith("the class token asks: it attends most to patch")
    opened.focus()
    opened.press("ArrowRight", "ArrowDown", "Enter")
    assert opened.say().startswith("patch 1, 1 asks")
    opened.press("ArrowRight")
    assert re.match(r"patch 1, 1 attends to patch 1, 2: [\d.]+, rollout [\d.]+", opened.say())
    opened.press("c")
    assert opened.say().startswith("the class token asks")
    opened.view().get_by_label("Head").select_option("mean")
    assert opened.view().locator("canvas").count() == 4
    opened.clean()


def test_generation_is_scrubbed_and_its_distribution_moved(open_page, every_view):
    opened = open_page(every_view["generation_view"])
    assert opened.say() == "step 1 of 3: after 'cat' came 'mat', probability 0.64"
    opened.view().get_by_role("button", name="Next").click()
    assert opened.say() == "step 2 of 3: after 'sat' came 'dog', probability 0.23"
    opened.view().get_by_label("Top-k").fill("1")
    assert opened.say() == "1 of 5 tokens can be drawn; the likeliest, 'mat', has 1.00"
    opened.view().get_by_label("Top-k").fill("0")
    opened.view().get_by_label("Top-p").fill("0.7")
    assert opened.say().startswith("2 of 5 tokens can be drawn")
    opened.view().get_by_label("Top-p").fill("1")
    opened.view().get_by_label("Temperature").fill("0")
    assert opened.say() == "1 of 5 tokens can be drawn; the likeliest, 'mat', has 1.00"
    opened.clean()


def test_a_beam_search_is_followed_step_by_step(open_page, make_beam):
    opened = open_page(make_beam())
    first = colours(opened)
    assert opened.say().startswith("step 1, slot 1: 'j'' after '<bos>', log-probability −0.25")
    opened.view().get_by_role("button", name="Next").click()
    assert opened.say().startswith("step 2, slot 1: 'ai' after 'j'', log-probability −0.33")
    opened.view().get_by_label("Step", exact=True).fill("3")
    assert opened.say().startswith("step 3, slot 1: 'mal' after 'ai', log-probability −0.41")
    assert colours(opened) != first
    opened.focus()
    opened.press("ArrowDown", "ArrowDown", "ArrowDown")
    # −2.00 ÷ ((5 + 3) / 6)^0.6
    assert opened.say().startswith(
        "step 3, slot 3: '<eos>' after 'pieds', log-probability −2.00; ended, hypothesis 1 of 1, score −1.68"
    )
    opened.press("ArrowLeft")
    assert opened.say().startswith("step 2, slot 2: 'pieds' after 'mes', log-probability −1.75")
    assert opened.view().get_by_label("Step", exact=True).get_attribute("aria-valuetext") == "2 of 4"
    opened.press("Home")
    assert opened.say().startswith("step 1, slot 2: 'mes'")
    opened.press("End", "ArrowDown", "ArrowDown", "ArrowRight")
    # The third slot of the last step is empty: the second one is the last that can be reached.
    assert opened.say().startswith("step 4, slot 2: '<eos>' after 'froid'")
    assert opened.view().get_by_role("button", name="Next").is_disabled()
    opened.clean()


def test_a_beginning_that_was_given_up_is_told(open_page, make_beam):
    opened = open_page(make_beam())
    opened.focus()
    opened.press("ArrowDown", "ArrowDown")
    assert opened.say().startswith("step 1, slot 3: 'mon' after '<bos>', log-probability −2.50 mon")
    opened.press("ArrowRight")
    box = opened.view().locator("canvas").first.bounding_box()
    opened.page.mouse.click(box["x"] + box["width"] * 0.3, box["y"] + 30 + 2 * 50 + 20)
    assert opened.say().startswith("step 1, slot 3: 'mon' after '<bos>', log-probability −2.50; given up")
    # A press on a column that is not there yet goes to its step.
    opened.page.mouse.click(box["x"] + box["width"] * 0.9, box["y"] + 60)
    assert opened.say().startswith("step 4, slot 1: ")


def test_the_length_penalty_ranks_hypotheses_anew_in_the_page(open_page, make_beam):
    opened = open_page(make_beam())
    alpha = opened.view().get_by_label("Length penalty α")
    alpha.fill("1")
    assert opened.say() == "α 1.00: no hypothesis to rank yet"
    opened.focus(canvas=1)
    opened.press("ArrowDown")
    assert opened.say() == "no hypothesis yet"
    opened.view().get_by_label("Step", exact=True).fill("4")
    ranks = lambda: [line.split("\t") for line in opened.numbers().splitlines()][-3:]  # noqa: E731
    for value, first, second, third in [
        ("0", -0.75, -2, -3),
        ("1", -0.5, -1.5, -2),
        ("2", -1 / 3, -1.125, -4 / 3),
    ]:
        alpha.fill(value)
        assert opened.say().startswith(f"α {value}.00: the best of 3 is 'j' ai mal', score −0.")
        assert [float(row[1]) for row in ranks()] == pytest.approx([first, second, third], abs=1e-6)
    opened.focus(canvas=1)
    opened.press("End")
    assert opened.say() == (
        "hypothesis 3 of 3: 'j' ai froid', score −1.33: log-probability −3.00, divided by 2.25 for length 4"
    )
    opened.press("ArrowUp")
    assert opened.say().startswith("hypothesis 2 of 3: 'mes pieds', score −1.13: ")
    opened.clean()


def test_a_penalty_can_change_which_hypothesis_is_best(open_page):
    """−1 for one token, −1.5 for two: by hand, the longer one leads from alpha 2.63 on."""
    view = beam_view([[0, 0], [-1, 1]], [["<eos>", "oui"], ["", "<eos>"]], [[-1, -1.2], [0, -1.5]], alpha=2.6)
    opened = open_page(view)
    opened.view().get_by_label("Step", exact=True).fill("2")
    opened.view().get_by_label("Length penalty α").fill("2.6")
    assert opened.say() == "α 2.60: the best of 2 is '∅', score −1.00"
    opened.view().get_by_label("Length penalty α").fill("2.65")
    assert opened.say() == "α 2.65: the best of 2 is 'oui', score −1.00"


def test_what_is_open_at_the_longest_counts_and_is_marked(open_page, make_beam):
    view = beam_view([[0, 0]], [["oui", "<eos>"]], [[-0.5, -1.5]], max_length=1)
    opened = open_page(view)
    opened.focus()
    opened.press("Enter")
    assert "; cut off, hypothesis 1 of 2, score −0.50" in opened.say()
    opened = open_page(beam_view([[0, 0]], [["oui", "<eos>"]], [[-0.5, -1.5]], max_length=2))
    opened.focus()
    opened.press("Enter")
    assert "hypothesis" not in opened.say()


def test_a_long_search_is_scrolled_by_itself(open_page):
    count = 100
    view = beam_view(
        [[0] * 12] * count,
        [[f"mot{slot}" for slot in range(12)]] * count,
        [[-step / 10] * 12 for step in range(count)],
    )
    opened = open_page(view, viewport={"width": 360, "height": 640})
    opened.view().get_by_label("Step", exact=True).fill("100")
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= 360
    canvas, frame = opened.view().locator("canvas").first.bounding_box(), opened.view().bounding_box()
    assert canvas["x"] < -1000
    assert canvas["x"] + canvas["width"] < frame["x"] + frame["width"]
    # The numbers of the slots stay, beside their slots: the first entry of the tree has its middle at 49.
    numbers = opened.view().locator(".slots span")
    assert numbers.all_inner_texts() == ["slot", *map(str, range(1, 13))]
    for slot, number in enumerate(numbers.all()[1:]):
        box = number.bounding_box()
        assert frame["x"] <= box["x"] < frame["x"] + 40
        assert box["y"] + box["height"] / 2 == pytest.approx(canvas["y"] + 49 + 50 * slot, abs=1)
    opened.focus()
    opened.press("Home")
    assert opened.view().locator("canvas").first.bounding_box()["x"] > 0
    opened.clean()


def test_a_guess_is_made_then_revealed_and_scored(open_page, make_weights):
    weights = make_weights(3, 3)
    weights[1] = [0.2, 0.3, 0.5]
    opened = open_page(predict_then_reveal(weights, list("abc"), asked=[1, 0]))
    reveal = opened.view().get_by_role("button", name="Reveal")
    assert reveal.is_disabled()
    # The answers stay hidden, from screen readers too, until every query is answered.
    assert not opened.view().locator("table").is_visible()
    opened.focus()
    opened.press("ArrowRight", "Enter")
    assert opened.say() == "guess: query 'b' looks at 'b'. Press Reveal to see."
    reveal.click()
    assert opened.say() == (
        "Not most: 'b' gets 0.30. Query 'b' attends most to 'c': 0.50. Score 60 of 100 after 1 of 2."
    )
    opened.clean()
