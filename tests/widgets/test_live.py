"""live: what the reader types reaches Python, and the view of the result comes back."""

import re
from importlib.util import find_spec

import numpy as np
import pytest

from course_lib.widgets import attention_map, compare, live


@pytest.fixture(autouse=True)
def anywidget(missing):
    if find_spec("anywidget") is None:
        missing("anywidget", "pip install anywidget")


def look(sentence):
    tokens = sentence.split()
    if not tokens:
        raise ValueError("type at least one word")
    return attention_map(np.eye(len(tokens)), tokens, title=sentence)


def test_a_run_shows_what_was_typed():
    widget = live(look, "the cat", label="Sentence")
    assert widget.data["queries"] == ["the", "cat"]
    widget.text = "the cat sat"
    assert widget.data["queries"] == ["the", "cat"]
    widget.runs += 1
    assert widget.data["queries"] == ["the", "cat", "sat"]
    assert widget.message == "done"


def test_an_error_is_told_and_the_last_view_stays():
    widget = live(look, "the cat")
    widget.text = ""
    widget.runs += 1
    assert widget.message == "ValueError: type at least one word"
    assert widget.data["queries"] == ["the", "cat"]


def test_the_function_must_return_a_view_of_one_kind():
    with pytest.raises(TypeError, match="show returned str"):
        live(str.upper, "x")
    widget = live(lambda text: compare([1.0], [1.0]) if text == "b" else look(text), "a")
    widget.text = "b"
    widget.runs += 1
    assert re.search(r"attention_map\(\.\.\.\) each time", widget.message)


def test_a_saved_page_keeps_the_view():
    widget = live(look, "the cat")
    content, _ = widget._repr_mimebundle_()
    assert content["text/html"] == look("the cat")._repr_html_()
    assert "application/vnd.jupyter.widget-view+json" in content
