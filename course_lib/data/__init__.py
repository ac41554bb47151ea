"""Data that a chapter needs: words and numbers, sentence pairs, and checked downloads."""

from course_lib.data.translation import TranslationData, TranslationPair, load_translation
from course_lib.data.vocabulary import BOS, EOS, PAD, UNK, Vocabulary, detokenize, tokenize

__all__ = [
    "BOS",
    "EOS",
    "PAD",
    "UNK",
    "TranslationData",
    "TranslationPair",
    "Vocabulary",
    "detokenize",
    "load_translation",
    "tokenize",
]
