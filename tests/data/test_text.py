"""Texts from the interpreter and from a checked file, and their characters and byte pairs as tokens."""

import hashlib
import os
import re
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from course_lib.data import download
from course_lib.data.download import DataUnavailable
from course_lib.data.text import PIECES, CharacterVocabulary, load_text, train_byte_pairs
from tests.bad_calls import assert_refused, each_bad_call


def test_python_docs_come_from_the_interpreter_itself():
    text = load_text("python-docs")
    assert len(text) > 300_000 and len(set(text)) < 200
    assert 'The "assert" statement\n**********************' in text
    assert text == load_text("python-docs") and text[0] != "\n" and text.endswith("\n")


def test_a_python_without_its_reference_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    with pytest.raises(DataUnavailable, match="came without its reference"):
        load_text("python-docs")


def test_tiny_shakespeare_is_checked(monkeypatch, tmp_path):
    path, content = "tiny-shakespeare/input.txt", "Élan vital:\nsay no more.\n".encode()
    (tmp_path / path).parent.mkdir()
    (tmp_path / path).write_bytes(content)
    monkeypatch.setenv(download.FOLDER_VARIABLE, str(tmp_path))
    with pytest.raises(DataUnavailable, match="not the expected one") as caught:
        load_text("tiny-shakespeare")
    assert 'load_text("python-docs")' in str(caught.value)
    record = download.DataFile(path, "https://e.org", len(content), hashlib.sha256(content).hexdigest())
    monkeypatch.setitem(download.FILES, path, record)
    assert load_text("tiny-shakespeare") == content.decode()


@pytest.mark.skipif(download.FOLDER_VARIABLE not in os.environ, reason="ATTENTION_COURSE_DATA is not set")
def test_the_real_shakespeare():
    text = load_text("tiny-shakespeare")
    assert len(text) == 1_115_394 and len(CharacterVocabulary.from_text(text)) == 65


@given(st.text(min_size=1))
def test_a_text_comes_back(text):
    vocabulary = CharacterVocabulary.from_text(text)
    ids = vocabulary.encode(text)
    assert len(ids) == len(text) and set(ids) == set(range(len(vocabulary)))
    for form in (ids, torch.tensor(ids), np.array(ids), tuple(ids)):
        assert vocabulary.decode(form) == text


def test_ids_are_places():
    vocabulary = CharacterVocabulary("cab")
    assert vocabulary.encode("abca") == [1, 2, 0, 1] and vocabulary.decode([2, 2, 0]) == "bbc"
    assert CharacterVocabulary.from_text("banana").characters == "abn"
    assert vocabulary.encode("") == [] and vocabulary.decode([]) == ""


def test_pairs_are_merged_by_their_number_and_never_across_pieces():
    tokenizer = train_byte_pairs("aab aab aab ab", vocab_size=258)
    # "a", "b" stands four times, the others three times and less; then "a", "ab" three times.
    assert tokenizer.get_vocab_size() == 258
    assert tokenizer.id_to_token(256) == "ab" and tokenizer.id_to_token(257) == "aab"
    assert tokenizer.encode("aab aab").tokens == ["aab", "Ġ", "aab"]
    assert train_byte_pairs("ab", vocab_size=1000).get_vocab_size() == 257  # there is no other pair


@pytest.mark.parametrize(
    "text, pieces",
    [
        ("The_x  is 12.5!\n\n  end", ["The", "_", "x", " ", " is", " 12", ".", "5", "!", "\n\n ", " end"]),
        ("don't — naïve 你好", ["don", "'", "t", " —", " naïve", " 你好"]),
    ],
)
def test_pieces(text, pieces):
    assert re.findall(PIECES, text) == pieces
    tokenizer = train_byte_pairs(text, vocab_size=256)
    found = [text[first:last] for _, (first, last) in tokenizer.pre_tokenizer.pre_tokenize_str(text)]
    assert found == pieces, "the library's regular expressions read the pattern as Python's do"


@given(st.text())
def test_every_text_can_be_encoded_and_comes_back(text):
    ids = DOCS_TOKENIZER.encode(text).ids
    assert DOCS_TOKENIZER.decode(ids) == text and len(ids) <= len(text.encode())


DOCS_TOKENIZER = train_byte_pairs(load_text("python-docs")[:20_000], vocab_size=400)
CAB = CharacterVocabulary("cab")
V, T = ValueError, TypeError
BAD_CALLS = [
    ("load_text('war-and-peace')", V, ["'war-and-peace'", "python-docs, tiny-shakespeare"]),
    ("load_text(None)", V, ["None", "python-docs, tiny-shakespeare"]),
    ("CAB.encode('abcé')", V, ["no 'é' (U+00E9)", "place 3", "'cab'"]),
    ("CAB.encode(['a', 'b'])", T, ["one string"]),
    ("CAB.decode([0, 3])", V, ["id 3", "0 to 2"]),
    ("CAB.decode([-1])", V, ["id -1"]),
    ("CAB.decode([0.5])", T, ["whole numbers"]),
    ("CAB.decode(torch.tensor([[0], [1]]))", T, ["one list of whole numbers"]),
    ("CAB.decode(7)", T, ["one list of whole numbers"]),
    ("CharacterVocabulary('abca')", V, ["each once", "from_text"]),
    ("CharacterVocabulary.from_text('')", V, ["at least one"]),
    ("CharacterVocabulary(['a'])", T, ["one string"]),
    ("train_byte_pairs('', 300)", V, ["the text is empty"]),
    ("train_byte_pairs('a', 255)", V, ["255", "at least 256"]),
    ("train_byte_pairs('a', 300.0)", V, ["300.0"]),
    ("train_byte_pairs(['a'], 300)", T, ["one string"]),
]


@pytest.mark.usefixtures("unchecked_shapes")
@each_bad_call(BAD_CALLS)
def test_bad_calls_say_what_was_wrong(call, error, words):
    assert_refused(call, error, words, globals(), "text.py")
