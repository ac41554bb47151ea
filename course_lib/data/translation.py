"""Sentence pairs for translation: a hand-written grammar with known alignments, and Multi30k."""

from dataclasses import dataclass
from functools import lru_cache

from course_lib.data import grammar
from course_lib.data.download import DataUnavailable, fetch
from course_lib.data.vocabulary import tokenize

_LANGUAGES = {"grammar": ("en", "fr"), "multi30k": ("en", "de", "fr")}  # the first two are the default
_SPLITS = {"train": "train", "validation": "val", "test": "test_2016_flickr"}


@dataclass(frozen=True)
class TranslationPair:
    """A sentence and its translation, as tokens and as text.

    `alignment` holds the gold links (target_index, source_index), the axes (query, key) of the attention
    weights of a decoder that looks at the source, or None where no alignment is known.
    """

    source: tuple[str, ...]
    target: tuple[str, ...]
    source_text: str
    target_text: str
    alignment: frozenset[tuple[int, int]] | None = None


@dataclass(frozen=True)
class TranslationData:
    """The three splits of a collection of sentence pairs."""

    train: tuple[TranslationPair, ...]
    validation: tuple[TranslationPair, ...]
    test: tuple[TranslationPair, ...]
    source_language: str
    target_language: str
    name: str


def load_translation(name: str, source: str | None = None, target: str | None = None) -> TranslationData:
    """Load sentence pairs with their training, validation and test splits.

    Args:
        name: "grammar" for the course's own English and French sentences (see `course_lib.data.grammar`),
            each with its gold alignment, or "multi30k" for 29,000 + 1,014 + 1,000 captions of photographs
            in English, German and French, tested on test_2016_flickr (Elliott et al., 2016, "Multi30K:
            Multilingual English-German Image Descriptions", https://arxiv.org/abs/1605.00459).
        source: the language to translate from; if left out, "en", unless that is the target.
        target: the language to translate into; if left out, "en", or from "en" into "fr" (grammar) or
            "de" (multi30k).

    Raises:
        ValueError: no such collection, or not two different languages of it.
        DataUnavailable: a file of Multi30k cannot be had.
    """
    if not isinstance(name, str) or name not in _LANGUAGES:
        raise ValueError(f"no collection is called {name!r}; choose from {', '.join(sorted(_LANGUAGES))}")
    languages = _LANGUAGES[name]
    for side in (source, target):
        if side is not None and side not in languages:
            raise ValueError(f"{name} has no language {side!r}; choose from {', '.join(languages)}")
    if source is None:
        source = next(language for language in languages if language != target)
    if target is None:
        target = languages[1] if source == languages[0] else languages[0]
    if source == target:
        raise ValueError(
            f"{name} cannot be translated from {source!r} into {target!r}; "
            f"choose two different languages from {', '.join(languages)}"
        )
    return (_load_grammar if name == "grammar" else _load_multi30k)(source, target)


@lru_cache(maxsize=2)
def _load_grammar(source: str, target: str) -> TranslationData:
    if source == "fr":
        english = _load_grammar("en", "fr")
        return TranslationData(
            *(tuple(map(_reversed, pairs)) for pairs in (english.train, english.validation, english.test)),
            source_language="fr",
            target_language="en",
            name="grammar",
        )
    splits = grammar.generate()
    return TranslationData(
        *(
            tuple(
                TranslationPair(s.english, s.french, s.english_text, s.french_text, s.alignment)
                for s in splits[split]
            )
            for split in _SPLITS
        ),
        source_language="en",
        target_language="fr",
        name="grammar",
    )


def _reversed(pair: TranslationPair) -> TranslationPair:
    links = frozenset((source, target) for target, source in pair.alignment)
    return TranslationPair(pair.target, pair.source, pair.target_text, pair.source_text, links)


def _load_multi30k(source: str, target: str) -> TranslationData:
    splits = []
    for file_name in _SPLITS.values():
        source_lines, target_lines = (
            _read_lines(f"multi30k/{file_name}.{side}.gz") for side in (source, target)
        )
        if len(source_lines) != len(target_lines):
            raise DataUnavailable(
                f"multi30k/{file_name}: {len(source_lines)} lines in {source!r} stand against "
                f"{len(target_lines)} in {target!r}, so they are not translations of each other"
            )
        splits.append(
            tuple(
                TranslationPair(tuple(tokenize(a)), tuple(tokenize(b)), a, b)
                for a, b in zip(source_lines, target_lines, strict=True)
            )
        )
    return TranslationData(*splits, source_language=source, target_language=target, name="multi30k")


def _read_lines(file: str) -> list[str]:
    # Not splitlines(), which also cuts at signs that may stand inside a sentence.
    return [line.strip() for line in fetch(file).decode("utf-8").removesuffix("\n").split("\n")]
