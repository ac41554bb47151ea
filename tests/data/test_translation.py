import dataclasses
import gzip
import os

import pytest

from course_lib.data import download, translation
from course_lib.data.translation import load_translation
from course_lib.data.vocabulary import tokenize


@pytest.mark.usefixtures("unchecked_shapes")
@pytest.mark.parametrize(
    ("name", "source", "target", "listed"),
    [
        ("wmt14", None, None, "grammar, multi30k"),
        ("grammar", "en", "de", "en, fr"),
        ("grammar", "fr", "fr", "en, fr"),
        ("multi30k", "en", "cs", "en, de, fr"),
        ("multi30k", "xx", None, "en, de, fr"),
        ("multi30k", None, "xx", "'xx'; choose from en, de, fr"),
        ("grammar", ["en"], None, "en, fr"),
        ("grammar", None, 5, "en, fr"),
        (None, None, None, "grammar, multi30k"),
        (["grammar"], None, None, "grammar, multi30k"),
    ],
)
def test_what_does_not_exist_is_answered_with_the_choices(name, source, target, listed):
    with pytest.raises(ValueError, match=listed):
        load_translation(name, source, target)


def test_grammar_can_be_read_from_french():
    forward, backward = load_translation("grammar"), load_translation("grammar", source="fr")
    assert (forward.source_language, forward.target_language) == ("en", "fr")
    assert (backward.source_language, backward.target_language) == ("fr", "en")
    there, back = forward.test[0], backward.test[0]
    assert (there.source, there.target_text) == (back.target, back.source_text)
    assert back.alignment == {(j, i) for i, j in there.alignment} != there.alignment
    assert load_translation("grammar", target="en") is backward


def _small_multi30k(monkeypatch, tmp_path, lines):
    """A data folder with the files that `lines` names, and a table that expects just these."""
    monkeypatch.setenv(download.FOLDER_VARIABLE, str(tmp_path))
    monkeypatch.setattr(download, "cache_folder", lambda: tmp_path / "never")
    for path, text in lines.items():
        content = text.encode()
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(gzip.compress(content))
        digest = download.hashlib.sha256(content).hexdigest()
        record = dataclasses.replace(download.FILES[path], size=len(content), sha256=digest)
        monkeypatch.setitem(download.FILES, path, record)


def _files(english, german):
    splits = ("train", "val", "test_2016_flickr")
    return {
        f"multi30k/{split}.{side}.gz": text
        for split in splits
        for side, text in (("en", english), ("de", german))
    }


def test_multi30k_reads_line_by_line(monkeypatch, tmp_path):
    # The separator U+2028 would end a line for str.splitlines().
    _small_multi30k(monkeypatch, tmp_path, _files("A dog.\nTwo\u2028 cats. \n", "Ein Hund.\nZwei Katzen.\n"))
    data = load_translation("multi30k")
    assert (data.name, data.source_language, data.target_language) == ("multi30k", "en", "de")
    assert [pair.source for pair in data.validation] == [("a", "dog", "."), ("two", "cats", ".")]
    assert data.test[1].target_text == "Zwei Katzen."
    assert data.train[0].alignment is None
    assert load_translation("multi30k", "de").train[0].target == ("a", "dog", ".")


def test_multi30k_refuses_sides_of_different_length(monkeypatch, tmp_path):
    _small_multi30k(monkeypatch, tmp_path, _files("A dog.\nTwo cats.\n", "Ein Hund.\n"))
    with pytest.raises(download.DataUnavailable, match="2 lines in 'en' stand against 1 in 'de'"):
        load_translation("multi30k")


@pytest.mark.skipif(
    not os.environ.get(download.FOLDER_VARIABLE),
    reason=f"{download.FOLDER_VARIABLE} is not set: no real data",
)
@pytest.mark.parametrize(("source", "target"), [("de", "en"), ("en", "fr")])
def test_real_multi30k(source, target):
    data = load_translation("multi30k", source, target)
    assert (len(data.train), len(data.validation), len(data.test)) == (29_000, 1_014, 1_000)
    assert all(pair.source and pair.target for pair in data.train + data.validation + data.test)
    for pair in data.test[:10]:
        assert pair.source == tuple(tokenize(pair.source_text))


def test_every_collection_is_tried_here():
    assert set(translation._LANGUAGES) == {"grammar", "multi30k"}
