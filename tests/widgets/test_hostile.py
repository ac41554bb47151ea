"""Labels that try to be more than text, in every view: on the page, read aloud, exported."""

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


TITLE = "".join(HOSTILE)
# A text that is one of a list, and refused otherwise, is no label.
CHOICES = {"kernel"}


def call(*arguments, **options):
    return arguments, {**options, "title": TITLE}


@pytest.fixture
def hostile_calls(make_weights):
    """How each view is called with all its labels hostile."""
    weights = make_weights(COUNT, COUNT)
    numbers = np.random.default_rng(5).normal(size=(3, 6, 2)).round(1)
    step = {"vocabulary": HOSTILE, "logits": np.arange(COUNT), "attention": make_weights(COUNT)}
    return {
        "attention_map": call(weights, HOSTILE, HOSTILE),
        "head_view": call(make_weights(2, COUNT, COUNT), HOSTILE, HOSTILE),
        "model_view": call(make_weights(2, 2, COUNT, COUNT), HOSTILE, HOSTILE),
        "attention_bench": call(*numbers, HOSTILE[:3] + HOSTILE[7:10], HOSTILE[:3] + HOSTILE[7:10]),
        "compare": call(weights, weights.T, HOSTILE, HOSTILE),
        "alignment_view": call(weights, HOSTILE, HOSTILE),
        "generation_view": call([{**step, "tokens": HOSTILE, "chosen": token} for token in HOSTILE]),
        "predict_then_reveal": call(weights, HOSTILE, HOSTILE),
        "beam_view": call(
            [[0] * COUNT] * 3,
            [HOSTILE, HOSTILE[1:] + HOSTILE[:1], HOSTILE],
            [[-1] * COUNT, [-2] * COUNT, [-3] * COUNT],
            start=HOSTILE[0],
            end=HOSTILE[8],
            max_length=3,
        ),
        "kernel_regression_view": call([0.0, 1.0], [2.0, 4.0], [0.5, 1.5], xlabel=TITLE, ylabel=TITLE),
        "positions_view": call(length=5, width=4),
        "patch_view": call(np.ones((6, 6)), make_weights(1, 1, 5, 5), patch_size=3),
    }


@pytest.fixture
def hostile_views(hostile_calls):
    return {
        kind: getattr(widgets, kind)(*arguments, **options)
        for kind, (arguments, options) in hostile_calls.items()
    }


def test_no_view_and_no_label_was_forgotten(hostile_calls):
    # A live view needs a kernel, and shows what another view made.
    assert hostile_calls.keys() | {"live"} == set(widgets.__all__)
    for kind, (arguments, options) in hostile_calls.items():
        signature = inspect.signature(inspect.unwrap(getattr(widgets, kind)))
        labels = {name for name, about in signature.parameters.items() if "str" in str(about.annotation)}
        assert labels - CHOICES <= signature.bind(*arguments, **options).arguments.keys(), kind


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
        assert opened.view().locator("img, b, svg").count() == 1, kind  # the picture of the output itself
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


def test_every_export_is_xml_whatever_the_labels_are(open_page, hostile_views, tmp_path):
    for kind, view in hostile_views.items():
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


def test_a_hostile_title_breaks_no_page_of_its_own(hostile_views, tmp_path):
    for kind, view in hostile_views.items():
        page = view.to_page(tmp_path / f"{kind}.html").read_text(encoding="utf-8")
        assert "<b>" not in page and "<img src=x" not in page, kind
