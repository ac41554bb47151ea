"""Labels that try to be more than text, in every view: on the page, read aloud, exported."""

import dataclasses
import inspect
from xml.etree import ElementTree

import numpy as np
import pytest

from course_lib import widgets
from tests.widgets.hostile_labels import HOSTILE

pytestmark = pytest.mark.browser

COUNT = len(HOSTILE)
# What must never reach an attribute, a file or a screen reader as it is.
RAW = ("\u202e", "\x00", "\x1b", "\ufffe", "\ud800", "\n")


@pytest.fixture
def hostile_views(make_weights):
    """Each view that takes labels, with all of them hostile."""
    weights = make_weights(COUNT, COUNT)
    numbers = np.random.default_rng(5).normal(size=(3, 6, 2)).round(1)
    step = {"vocabulary": HOSTILE, "logits": np.arange(COUNT), "attention": make_weights(COUNT)}
    return {
        "attention_map": widgets.attention_map(weights, HOSTILE),
        "head_view": widgets.head_view(make_weights(2, COUNT, COUNT), HOSTILE),
        "model_view": widgets.model_view(make_weights(2, 2, COUNT, COUNT), HOSTILE),
        "attention_bench": widgets.attention_bench(*numbers, HOSTILE[:3] + HOSTILE[7:10]),
        "compare": widgets.compare(weights, weights.T, HOSTILE, HOSTILE),
        "alignment_view": widgets.alignment_view(weights, HOSTILE, HOSTILE),
        "generation_view": widgets.generation_view(
            [{**step, "tokens": HOSTILE, "chosen": token} for token in HOSTILE]
        ),
        "predict_then_reveal": widgets.predict_then_reveal(weights, HOSTILE),
        "beam_view": widgets.beam_view(
            [[0] * COUNT] * 3,
            [HOSTILE, HOSTILE[1:] + HOSTILE[:1], HOSTILE],
            [[-1] * COUNT, [-2] * COUNT, [-3] * COUNT],
            start=HOSTILE[0],
            end=HOSTILE[8],
            max_length=3,
        ),
    }


def test_no_view_with_labels_was_forgotten(hostile_views):
    labels = {"queries", "source", "rows", "steps", "words"}
    takes = {
        name
        for name in widgets.__all__
        if labels & inspect.signature(inspect.unwrap(getattr(widgets, name))).parameters.keys()
    }
    assert takes == hostile_views.keys()


def test_hostile_labels_are_only_characters_in_every_view(open_page, hostile_views):
    for kind, view in hostile_views.items():
        opened = open_page(view)
        said = {opened.say()}
        for canvas in range(opened.view().locator("canvas[tabindex]").count()):
            opened.focus(canvas=canvas)
            for key in ["Home", "Enter", "ArrowRight", "ArrowDown"] * COUNT:
                opened.press(key)
                said.add(opened.say())
        if kind == "attention_bench":
            for box in opened.view().locator("[data-stage=weights] button").all():
                box.click()
                said.add(opened.say())
        told = "".join(said - {""})
        assert [letter for letter in RAW[:-1] if letter in told] == [], kind
        assert opened.view().locator("img, b").count() == 1, kind  # the picture of the output itself
        assert opened.page.evaluate("document.documentElement.scrollWidth") <= 900, kind
        text = opened.numbers()
        assert [letter for letter in RAW[:-1] if letter in text] == [], kind
        opened.clean()


def test_hostile_labels_are_read_aloud_as_they_are_shown(open_page, hostile_views):
    opened = open_page(hostile_views["compare"])
    opened.focus()
    opened.press("Control+Home")
    for label in (
        "'<img src=x onerror=alert(1)>'",
        "'</script><b>'",
        "'∅'",
        "'␣␣␣'",
        "'↵'",
        "'\u2068שלום\u2069'",
    ):
        assert f"row {label}, column '<img src=x onerror=alert(1)>'" in opened.say()
        opened.press("ArrowDown")
    opened.press("ArrowDown", "ArrowDown")
    assert opened.say().startswith("row '⟨U+202E⟩evil'")
    opened.press("ArrowDown")
    assert opened.say().startswith("row '⟨U+0000⟩⟨U+001B⟩⟨U+FFFE⟩⟨U+D800⟩'")


def test_every_export_is_xml_whatever_the_labels_are(open_page, hostile_views, every_view, tmp_path):
    views = {**every_view, **hostile_views}
    title = "".join(HOSTILE)
    for kind, view in views.items():
        view = dataclasses.replace(view, data={**view.data, "title": title})
        opened = open_page(view)
        with opened.page.expect_download() as download:
            opened.view().get_by_role("button", name="Save SVG").last.click()
        path = tmp_path / f"{kind}.svg"
        download.value.save_as(path)
        found = ElementTree.parse(path).getroot()
        names = {element.tag.rpartition("}")[2] for element in found.iter()}
        assert names <= {"svg", "title", "rect", "path", "text", "image"}, kind
        assert "<img src=x onerror=alert(1)>" in "".join(found.itertext()), kind
        opened.clean()


def test_a_hostile_title_breaks_neither_picture_nor_page(hostile_views, every_view, tmp_path, make_weights):
    title = "".join(HOSTILE)
    view = widgets.attention_map(make_weights(3, 3), title=title)
    assert "<b>" not in view.to_page(tmp_path / "page.html").read_text(encoding="utf-8")
