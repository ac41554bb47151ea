"""Data that a chapter needs: words and numbers, sentence pairs, texts, images, and checked downloads.

Images are tensors, and so they are imported from course_lib.data.images: what is named here does without
PyTorch.
"""

from course_lib.data.text import CharacterVocabulary, load_text, train_byte_pairs
from course_lib.data.translation import TranslationData, TranslationPair, load_translation
from course_lib.data.vocabulary import BOS, EOS, PAD, UNK, Vocabulary, detokenize, tokenize

__all__ = [
    "BOS",
    "EOS",
    "PAD",
    "UNK",
    "CharacterVocabulary",
    "TranslationData",
    "TranslationPair",
    "Vocabulary",
    "detokenize",
    "load_text",
    "load_translation",
    "tokenize",
    "train_byte_pairs",
]
