"""Views under a finger, which does not hover: what was tapped stays."""

import re

import pytest

from course_lib.widgets import head_view

pytestmark = pytest.mark.browser


def test_a_tapped_token_stays_alone_until_the_reader_taps_beside_the_tokens(open_page, make_weights):
    opened = open_page(head_view(make_weights(2, 3, 3), ["the", "cat", "sat"]), has_touch=True)
    canvas = opened.view().locator("canvas")
    box = canvas.bounding_box()
    picture = lambda: canvas.evaluate("(node) => node.toDataURL()")  # noqa: E731
    start = picture()
    opened.page.touchscreen.tap(box["x"] + 12, box["y"] + 26 + 1.5 * 28)
    assert re.match(r"query 'cat' attends to '\w+': 0\.\d+", opened.say())
    alone = picture()
    assert alone != start
    # Choosing the token by keyboard gives the same picture: nothing was cleared when the finger was lifted.
    canvas.press("Enter")
    assert picture() == alone
    opened.page.touchscreen.tap(box["x"] + box["width"] * 0.5, box["y"] + 26)
    assert opened.say() == "All lines are shown."
    assert picture() != alone
    opened.clean()


def test_a_mouse_that_leaves_shows_all_lines_again(open_page, make_weights):
    opened = open_page(head_view(make_weights(2, 3, 3), ["the", "cat", "sat"]))
    canvas = opened.view().locator("canvas")
    box = canvas.bounding_box()
    opened.page.mouse.move(box["x"] + 12, box["y"] + 26 + 14)
    alone = canvas.evaluate("(node) => node.toDataURL()")
    opened.page.mouse.move(box["x"] + 12, box["y"] - 30)
    assert canvas.evaluate("(node) => node.toDataURL()") != alone
