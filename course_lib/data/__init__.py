"""Data that a chapter needs: words and numbers, sentence pairs, images, and checked downloads.

Images are tensors, and so they are imported from course_lib.data.images: what is named here does without
PyTorch.
"""

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
