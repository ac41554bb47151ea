"""The output as a text: stands alone, is small, and shows its picture and table without a script."""

import html.parser
import io

import numpy as np
import pytest
from PIL import Image

from course_lib import widgets
from course_lib.widgets import attention_map, compare
from course_lib.widgets.output import _packed_script
from tests.widgets.hostile_labels import HOSTILE


class Reader(html.parser.HTMLParser):
    """Collects the tags and text outside scripts."""

    def __init__(self):
        super().__init__()
        self.tags, self.text, self.images, self.scripts = [], [], [], 0
        self.addresses = []
        self.inside = None

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.inside = tag
        self.scripts += tag == "script"
        self.addresses += [value for name, value in attributes if name in ("src", "href", "srcset", "data")]
        if tag == "img":
            self.images.append(dict(attributes))

    def handle_data(self, data):
        if self.inside != "script":
            self.text.append(data)


def read(view):
    reader = Reader()
    reader.feed(view._repr_html_())
    return reader


def test_hostile_tokens_are_characters_and_end_no_script(make_weights):
    output = read(attention_map(make_weights(len(HOSTILE), len(HOSTILE)), HOSTILE))
    assert output.scripts == 1
    assert len(output.images) == 1 and output.images[0]["src"].startswith("data:image/png;base64,")
    assert "b" not in output.tags
    assert "<img src=x onerror=alert(1)>" in output.text


def test_every_output_has_a_picture_with_words_a_table_and_no_address(every_view):
    assert set(every_view) == {name for name in widgets.__all__ if name != "live"}
    for kind, view in every_view.items():
        assert view.kind == kind
        output = read(view)
        assert output.images[0]["alt"] == view.alt != ""
        assert output.tags.count("table") == 1 and "th" in output.tags
        with Image.open(io.BytesIO(view.picture())) as picture:
            assert picture.width > 150
            assert len(picture.convert("RGB").getcolors(10_000)) > 3
        # What the page itself asks for is watched in test_page.py, which lets no view make a request.
        assert all(address.startswith("data:image/png;base64,") for address in output.addresses)
        assert output.scripts == 1


def test_one_small_map_is_small(make_weights):
    view = attention_map(make_weights(12, 12))
    assert len(view._repr_html_()) - len(_packed_script("attention_map")[0]) <= 25_000


def test_the_output_is_the_same_each_time(make_weights):
    first, second = (attention_map(make_weights(5, 7))._repr_html_() for _ in range(2))
    assert first == second
    assert first != attention_map(make_weights(5, 7, seed=1))._repr_html_()


def test_a_page_is_written_whole(tmp_path, make_weights):
    view = attention_map(make_weights(5, 7))
    path = view.to_page(tmp_path / "map.html")
    assert view._repr_html_() in path.read_text(encoding="utf-8")
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("mine", "words"),
    [
        ([[1.0, 2.0]], "all 2 numbers are equal to within 1e-05"),
        ([[1.0, 3.0]], "1 of 2 numbers differs by more than 1e-05; the largest difference is 1, at [0, 1]"),
        ([[np.nan, 3.0]], "2 of 2 numbers differ by more than 1e-05; one is not finite, at [0, 0]"),
    ],
)
def test_compare_says_what_differs(mine, words):
    assert compare(mine, [[1.0, 2.0]]).alt == words
