"""A small hand-written grammar of English and French that walks both languages at once.

Every rule adds words to the English and to the French sentence together, and words that express the same
thing carry the same key. The gold alignment is read off these keys; nothing is aligned after the fact.

What links with what:

- a word links with the word or words that translate it: "looks for" both with "cherche", "ate" with both
  words of "a mangé", "because" with "parce que";
- "not" and "never" link with both halves, "ne ... pas" and "ne ... jamais";
- "do" and "does" link with nothing: French has no word for them. "did" links with the auxiliary "a",
  the verb after it with the participle;
- "à" in "manque à" is part of "misses", "mal à" in "j'ai mal à" together with "ai" is part of "hurt", and the
  person who aches links with the owner ("my" with "j'");
- an article that only French needs goes with its noun: "la tête" with "head", "la nuit" with "night";
- melted words link with all that they stand for: "aux" in "mal aux pieds" with "hurt" and "feet", "du" in
  "le chat du roi" with "'s" and "the"; "le" there comes from "'s" as well;
- commas that one language alone has, "'s" in "Anna's feet hurt", and the prepositions of "at night" and "on
  Sundays" link with nothing.

One in fifteen of the combinations of two words (noun and adjective, verb and object, subject and verb,
owner and aching part, who misses whom) never occurs in training. Each validation and each test sentence
holds at least one of those set aside for its split, while every single word occurs in training.

A French sentence always has the same one English translation and the other way round. This is why "you" is
always "tu", "they" is always "ils", "his" and "her" always point to the subject of their clause, and
"him" and "her" do not stand where French would write "l'" or "lui" for both.
"""

import random
import zlib
from dataclasses import dataclass
from functools import cache, lru_cache
from numbers import Integral

from course_lib.data.grammar_phrases import VOWELS, Words
from course_lib.data.grammar_rules import Walk
from course_lib.data.vocabulary import detokenize

SIZES = {"train": 27_500, "validation": 1_000, "test": 1_500}
LONGEST = 25  # English tokens
PATIENCE = 10_000  # walks in a row that may give no new sentence; for the sizes above, 7 of them is the most
_ELIDED = frozenset(("je", "me", "te", "le", "la", "ne", "de", "que"))
_MELTED = {("à", "le"): "au", ("à", "les"): "aux", ("de", "le"): "du", ("de", "les"): "des"}
_PREPOSITIONS, _ARTICLES = ({pair[n] for pair in _MELTED} for n in (0, 1))
# What the reader of chapter 02 is shown must be new to the model.
_SET_ASIDE = {("ache", "my", "feet"): "test"}


@dataclass(frozen=True)
class Derivation:
    """A sentence in both languages: tokens, text, links (French index, English index), combinations used."""

    english: tuple[str, ...]
    french: tuple[str, ...]
    english_text: str
    french_text: str
    alignment: frozenset[tuple[int, int]]
    combinations: frozenset[tuple[str, str, str]]


@cache
def split_of(combination: tuple[str, str, str]) -> str:
    """The split that owns a combination (kind, word, word): "train", "validation" or "test"."""
    # A check sum, since hash() of a string changes from one run of Python to the next.
    chosen = zlib.crc32(" ".join(combination).encode()) % 30
    return _SET_ASIDE.get(combination) or {0: "test", 1: "validation"}.get(chosen, "train")


@lru_cache(maxsize=1)
def generate(seed: int = 0) -> dict[str, tuple[Derivation, ...]]:
    """Walk the grammar at random until every split is full; the same seed gives the same sentences.

    Returns:
        "train", "validation" and "test", with `SIZES` distinct sentences.

    Raises:
        TypeError: the seed is not a whole number.
        ValueError: the grammar has too few sentences for `SIZES` within `LONGEST`.
    """
    if not isinstance(seed, Integral):
        raise TypeError(f"seed must be a whole number, so that the sentences can be had again; got {seed!r}")
    walk = Walk(random.Random(int(seed)))
    in_vain = 0
    splits: dict[str, list[Derivation]] = {split: [] for split in SIZES}
    seen: set[tuple[str, ...]] = set()
    while any(len(splits[split]) < size for split, size in SIZES.items()):
        if in_vain == PATIENCE:
            filled = ", ".join(
                f"{len(splits[split]):,} of {size:,} for {split}" for split, size in SIZES.items()
            )
            raise ValueError(
                f"the grammar gives no more new sentences of up to {LONGEST} words ({filled}): "
                f"ask for fewer in SIZES, or for longer ones by LONGEST"
            )
        in_vain += 1
        walk.begin()
        english, french = walk.sentence()
        tokens = tuple([_lower(word) for word, _ in english])
        if len(tokens) > LONGEST or tokens in seen:
            continue
        owners = {split_of(combination) for combination in walk.combinations}
        split = "test" if "test" in owners else "validation" if "validation" in owners else "train"
        if len(splits[split]) < SIZES[split]:
            in_vain = 0
            seen.add(tokens)
            splits[split].append(_derivation(tokens, english, _spell(french), walk.combinations))
    return {split: tuple(sentences) for split, sentences in splits.items()}


# One object for each word and each link, since they come again in thousands of sentences.
_lower = cache(str.lower)
_link = cache(lambda french, english: (french, english))


def _derivation(tokens: tuple[str, ...], english: Words, french: Words, combinations: set) -> Derivation:
    places: dict[int, list[int]] = {}
    for position, (_, keys) in enumerate(english):
        for key in keys:
            places.setdefault(key, []).append(position)
    links = [_link(i, j) for i, (_, keys) in enumerate(french) for key in keys for j in places.get(key, ())]
    return Derivation(
        tokens,
        tuple([_lower(word) for word, _ in french]),
        _text(english),
        _text(french),
        frozenset(links),
        frozenset(combinations),
    )


def _text(words: Words) -> str:
    text = detokenize([word for word, _ in words])
    return text[0].upper() + text[1:]


def _spell(words: Words) -> Words:
    """Elide and melt neighbouring French words: je ai -> j'ai, à les -> aux, à le homme -> à l'homme."""
    spelt: Words = []
    before = ""
    for (word, keys), (following, _) in zip(words, [*words[1:], (".", ())], strict=True):
        if (word in _ELIDED and following[0] in VOWELS) or (word == "si" and following in ("il", "ils")):
            word = word[:-1] + "'"
        if word in _ARTICLES and before in _PREPOSITIONS:
            spelt[-1] = (_MELTED[before, word], spelt[-1][1] + keys)
        else:
            spelt.append((word, keys))
        before = word
    return spelt
