import unicodedata

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from course_lib.data.vocabulary import BOS, EOS, PAD, UNK, Vocabulary, detokenize, tokenize
from tests.bad_calls import assert_refused, each_bad_call


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("J'ai mal aux pieds.", "j' ai mal aux pieds ."),
        ("L’homme qu'elle aime", "l' homme qu' elle aime"),
        ("Lorsqu'il vient aujourd'hui", "lorsqu' il vient aujourd'hui"),
        ("Don't! I can't, it isn't Anna's.", "do n't ! i ca n't , it is n't anna 's ."),
        ("Il n'est pas là", "il n' est pas là"),
        ("A man's T-shirt costs 1,000.50 (or so)...", "a man 's t-shirt costs 1,000.50 ( or so ) ..."),
        ("Ein weißer Hund, größer.", "ein weißer hund , größer ."),
        ("   ", ""),
    ],
)
def test_tokenize(text, tokens):
    assert tokenize(text) == tokens.split()


def test_composed_and_decomposed_letters_are_one_token():
    decomposed = unicodedata.normalize("NFD", "élève")
    assert decomposed != "élève"
    assert tokenize(decomposed) == ["élève"]


@pytest.mark.parametrize(
    "text",
    [
        "j'ai mal aux pieds.",
        "hier, l'ami d'anna n'a pas vu l'œuf qu'emma aime.",
        "don't go: anna's cat can't (really) swim!",
        "jusqu'à lorsqu'il vient aujourd'hui",
    ],
)
def test_detokenize_undoes_tokenize(text):
    assert detokenize(tokenize(text)) == text


@given(st.text(alphabet="aàeilnqstu'’ ,.-()", max_size=40))
def test_tokenizing_again_changes_nothing(text):
    tokens = tokenize(text)
    assert not any(" " in token for token in tokens)
    assert "".join(tokens) == "".join(unicodedata.normalize("NFC", text).lower().replace("’", "'").split())


def test_order_is_by_frequency_then_alphabet():
    vocabulary = Vocabulary.from_sentences([["b", "a", "c"], ["c", "b"], ["c"], ["a"]])
    assert vocabulary.tokens == (PAD, BOS, EOS, UNK, "c", "a", "b")
    assert len(vocabulary) == 7
    assert "a" in vocabulary and "z" not in vocabulary and PAD in vocabulary


def test_rare_words_are_left_out_and_size_is_limited():
    sentences = [["b", "a", "c"], ["c", "b"], ["c"]]
    assert Vocabulary.from_sentences(sentences, min_count=2).tokens[4:] == ("c", "b")
    assert Vocabulary.from_sentences(sentences, max_size=5).tokens[4:] == ("c",)
    assert Vocabulary.from_sentences(sentences, max_size=4).tokens[4:] == ()
    with pytest.raises(ValueError, match="4 special tokens, got 3"):
        Vocabulary.from_sentences(sentences, max_size=3)


def test_encode_and_decode():
    vocabulary = Vocabulary(["le", "chat"])
    assert (vocabulary.pad_id, vocabulary.bos_id, vocabulary.eos_id, vocabulary.unk_id) == (0, 1, 2, 3)
    assert vocabulary.encode(["le", "chien", "chat"]) == [4, 3, 5]
    assert vocabulary.encode(["chat"], bos=True, eos=True) == [1, 5, 2]
    assert vocabulary.decode([1, 4, 0, 5, 2, 4]) == ["le", "chat"]
    assert vocabulary.decode([3]) == [UNK]


@pytest.mark.parametrize("index", [-1, 6])
def test_decode_names_an_id_out_of_range(index):
    with pytest.raises(ValueError, match=f"id {index} .* 0 to 5"):
        Vocabulary(["le", "chat"]).decode([4, index])


def test_bad_tokens_are_named():
    with pytest.raises(ValueError, match=r"came again: \['le'\]"):
        Vocabulary(["le", "chat", "le"])
    with pytest.raises(ValueError, match=r"leave out \['<eos>'\]"):
        Vocabulary(["le", EOS])


WORDS = Vocabulary(["le", "chat"])

# The call as text, its error, and what that must say.
BAD_CALLS = [
    ("WORDS.encode('le chat')", TypeError, ["tokens must be a list of strings", "tokenize('le chat')"]),
    ("WORDS.encode(None)", TypeError, ["tokens must be a list of strings", "None"]),
    ("WORDS.encode([4, 5])", TypeError, ["tokens must be a list of strings", "holds 4"]),
    ("WORDS.encode([['le'], ['chat']])", TypeError, ["tokens must be a list of strings", "holds ['le']"]),
    ("WORDS.encode(torch.tensor([4, 5]))", TypeError, ["tokens must be a list of strings", "tensor(4)"]),
    ("WORDS.encode(['le'], 'yes')", TypeError, ["bos and eos must be True or False", "'yes'"]),
    ("WORDS.encode(['le'], eos=2)", TypeError, ["bos and eos must be True or False", "2"]),
    ("WORDS.decode(5)", TypeError, ["ids of one sentence", "got 5"]),
    ("WORDS.decode(torch.tensor(5))", TypeError, ["ids of one sentence", "got 5"]),
    ("WORDS.decode(None)", TypeError, ["ids of one sentence", "got None"]),
    ("WORDS.decode('45')", TypeError, ["ids of one sentence", "'4' is none"]),
    ("WORDS.decode(['le'])", TypeError, ["ids of one sentence", "'le' is none"]),
    ("WORDS.decode([4.7])", TypeError, ["ids of one sentence", "4.7 is none"]),
    ("WORDS.decode(torch.randn(5))", TypeError, ["ids of one sentence", "is none"]),
    ("WORDS.decode(torch.tensor([[4, 5]]))", TypeError, ["ids of one sentence", "[4, 5] is none"]),
    ("Vocabulary('le chat')", TypeError, ["tokens must be a list of strings", "one string", "tokenize"]),
    ("Vocabulary(None)", TypeError, ["tokens must be a list of strings", "None"]),
    ("Vocabulary(['le', 5])", TypeError, ["tokens must be a list of strings", "holds 5"]),
    ("Vocabulary([['le'], ['chat']])", TypeError, ["tokens must be a list of strings", "holds ['le']"]),
    (
        "Vocabulary.from_sentences(['le chat'])",
        TypeError,
        ["a sentence", "one string", "tokenize('le chat')"],
    ),
    ("Vocabulary.from_sentences('le chat')", TypeError, ["list of tokenized sentences", "'le chat'"]),
    ("Vocabulary.from_sentences(None)", TypeError, ["list of tokenized sentences", "None"]),
    ("Vocabulary.from_sentences([None])", TypeError, ["a sentence must be a list of strings", "None"]),
    ("Vocabulary.from_sentences([['le', None]])", TypeError, ["a sentence must be a list", "None"]),
    ("Vocabulary.from_sentences([[4, 5]])", TypeError, ["a sentence must be a list of strings", "holds 4"]),
    ("Vocabulary.from_sentences([['le']], '2')", TypeError, ["min_count must be a whole number", "'2'"]),
    ("Vocabulary.from_sentences([['le']], 0.5)", TypeError, ["min_count must be a whole number", "0.5"]),
    ("Vocabulary.from_sentences([['le']], 1, 4.5)", TypeError, ["max_size must be a whole number", "4.5"]),
    ("tokenize(None)", TypeError, ["tokenize takes one string", "None"]),
    ("tokenize(['le chat'])", TypeError, ["tokenize takes one string", "['le chat']"]),
    ("tokenize(b'le chat')", TypeError, ["tokenize takes one string", "b'le chat'"]),
    ("detokenize('le chat')", TypeError, ["tokens must be a list of strings", "one string"]),
    ("detokenize([4, 5])", TypeError, ["tokens must be a list of strings", "holds 4"]),
    ("detokenize(None)", TypeError, ["tokens must be a list of strings", "None"]),
]


@pytest.mark.usefixtures("unchecked_shapes")
@each_bad_call(BAD_CALLS)
def test_bad_calls_say_what_was_wrong(call, error, words):
    assert_refused(call, error, words, globals(), "vocabulary.py")


@pytest.mark.usefixtures("unchecked_shapes")
def test_ids_may_be_a_tensor_an_array_and_their_numbers():
    for ids in (torch.tensor([4, 5]), torch.tensor([4, 5]).numpy(), list(torch.tensor([4, 5]))):
        assert WORDS.decode(ids) == ["le", "chat"]
