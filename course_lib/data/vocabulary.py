"""Words and numbers: splitting a sentence into tokens, and numbering the tokens.

One tokenizer serves English, French and German, so that a model meets the same rules on both sides.
"""

import operator
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from numbers import Integral

PAD, BOS, EOS, UNK = "<pad>", "<bos>", "<eos>", "<unk>"
SPECIALS = (PAD, BOS, EOS, UNK)

_ELISION = r"(?:[cdjlmnst]|qu|jusqu|lorsqu|puisqu|quelqu|quoiqu)'"
_CLITIC = r"'(?:s|m|d|ll|re|ve)\b"
_TOKEN = re.compile(
    rf"""
    aujourd'hui | o'clock               # words whose apostrophe splits nothing
  | \w+?(?=n't\b) | n't\b               # don't -> do n't
  | {_ELISION}(?=\w)                    # j'ai -> j' ai
  | {_CLITIC}                           # anna's -> anna 's
  | \d+(?:[.,]\d+)+                     # 1,000.5
  | \w+(?:-\w+)*                        # t-shirt
  | \.\.\. | [^\w\s]                    # punctuation, one sign a token
    """,
    re.VERBOSE,
)
_GLUE = re.compile(  # the spaces that join() puts where none belongs
    r" (?:(?=[.,;:!?%)\]}…])"  # before closing signs
    rf"|(?=n't\b|{_CLITIC})"  # before English endings
    r"|(?:(?<=\b[cdjlmnst]' )|(?<=\bqu' )|(?<=\bjusqu' )|(?<=\b(?:lors|puis|quel|quoi)qu' ))(?=\w)"
    r"|(?<=[(\[{] ))",  # after an elided word, and after an opening bracket
    re.IGNORECASE,
)


def tokenize(text: str) -> list[str]:
    """Split `text` into lower-case tokens: words, and each sign of punctuation by itself.

    The text is first brought to Unicode's NFC form and typographic apostrophes become plain ones. An
    elided French word is a token that keeps its apostrophe (`j'ai` gives `j'`, `ai`). English endings
    are split as in the Penn Treebank: `don't` gives `do`, `n't`, `can't` gives `ca`, `n't`, and `Anna's`
    gives `anna`, `'s`. Words joined by a hyphen stay together.

    Raises:
        TypeError: `text` is not a string.
    """
    if not isinstance(text, str):
        raise TypeError(f"tokenize takes one string, got {text!r:.80}; for several call it on each")
    text = unicodedata.normalize("NFC", text).lower().replace("\u2019", "'")
    return _TOKEN.findall(text)


def detokenize(tokens: Iterable[str]) -> str:
    """Join `tokens` into readable text: the inverse of `tokenize` up to case and spacing.

    Raises:
        TypeError: `tokens` is not a list of strings.
    """
    tokens = _strings("tokens", tokens)
    return _GLUE.sub("", " ".join(tokens))


class Vocabulary:
    """A numbered list of tokens: ids 0 to 3 are padding, beginning, end and unknown, then come the tokens.

    Args:
        tokens: the ordinary tokens, each once, without the four special ones.

    Raises:
        TypeError: `tokens` is not a list of strings.
        ValueError: a token is given twice or is one of the special tokens.
    """

    def __init__(self, tokens: Iterable[str]) -> None:
        ordinary = _strings("tokens", tokens)
        if special := sorted(set(ordinary) & set(SPECIALS)):
            raise ValueError(f"the special tokens are added by Vocabulary itself: leave out {special}")
        if len(set(ordinary)) < len(ordinary):
            twice = sorted(token for token, count in Counter(ordinary).items() if count > 1)
            raise ValueError(f"each token must be given once, but these came again: {twice[:10]}")
        self.tokens: tuple[str, ...] = SPECIALS + ordinary
        self._ids = {token: index for index, token in enumerate(self.tokens)}
        self.pad_id, self.bos_id, self.eos_id, self.unk_id = range(4)

    @classmethod
    def from_sentences(
        cls, sentences: Iterable[Sequence[str]], min_count: int = 1, max_size: int | None = None
    ) -> "Vocabulary":
        """Collect the tokens of `sentences`, the frequent first, equally frequent ones in alphabetical order.

        Args:
            sentences: tokenized sentences.
            min_count: a token seen less often is left out, and so encoded as unknown.
            max_size: the most entries to keep, the four special tokens included.

        Raises:
            TypeError: a sentence is a string that was not tokenized.
            ValueError: `max_size` has no room for the four special tokens.
        """
        for name, number in (("min_count", min_count), ("max_size", max_size)):
            whole = isinstance(number, Integral) and not isinstance(number, bool)
            if not whole and not (name == "max_size" and number is None):
                raise TypeError(f"{name} must be a whole number, got {number!r}")
        if isinstance(sentences, str) or not isinstance(sentences, Iterable):
            raise TypeError(f"sentences must be a list of tokenized sentences, got {sentences!r:.80}")
        if max_size is not None and max_size < len(SPECIALS):
            raise ValueError(
                f"max_size must leave room for the {len(SPECIALS)} special tokens, got {max_size}"
            )
        counts: Counter[str] = Counter()
        for sentence in sentences:
            counts.update(_strings("a sentence", sentence))
        ranked = sorted((-count, token) for token, count in counts.items() if count >= min_count)
        room = None if max_size is None else max_size - len(SPECIALS)
        return cls(token for _, token in ranked[:room])

    def __len__(self) -> int:
        return len(self.tokens)

    def __contains__(self, token: object) -> bool:
        return token in self._ids

    def encode(self, tokens: Sequence[str], bos: bool = False, eos: bool = False) -> list[int]:
        """Number each token, with the mark of beginning or end where asked; a token not known gets `unk_id`.

        Raises:
            TypeError: `tokens` is not a list of strings, as where a text was not tokenized.
        """
        if not isinstance(bos, bool) or not isinstance(eos, bool):
            raise TypeError(f"bos and eos must be True or False, got {bos!r} and {eos!r}")
        ids = [self._ids.get(token, self.unk_id) for token in _strings("tokens", tokens)]
        return [self.bos_id] * bos + ids + [self.eos_id] * eos

    def decode(self, ids: Iterable[int]) -> list[str]:
        """Turn `ids` back into tokens, up to the first end mark, without padding and beginning marks.

        Raises:
            TypeError: `ids` is not one sentence of whole numbers.
            ValueError: an id is not between 0 and `len(vocabulary) - 1`.
        """
        if hasattr(ids, "tolist"):  # a tensor or an array
            ids = ids.tolist()
        if not isinstance(ids, Iterable):
            raise TypeError(f"decode takes the ids of one sentence, a list of whole numbers, got {ids!r:.80}")
        tokens = []
        for given in ids:
            try:
                index = operator.index(given)
            except TypeError:
                raise TypeError(
                    f"decode takes the ids of one sentence, whole numbers, and {given!r:.80} is none"
                ) from None
            if not 0 <= index < len(self.tokens):
                raise ValueError(f"id {index} is not in this vocabulary: ids run from 0 to {len(self) - 1}")
            if index == self.eos_id:
                break
            if index not in (self.pad_id, self.bos_id):
                tokens.append(self.tokens[index])
        return tokens


def _strings(name: str, tokens: Iterable[str]) -> tuple[str, ...]:
    """Give the tokens as a tuple, after checking that they are a list of strings and not one."""
    if isinstance(tokens, str):
        raise TypeError(
            f"{name} must be a list of strings, not the one string: call tokenize({tokens!r}) first"
        )
    tokens = tuple(tokens) if isinstance(tokens, Iterable) else (tokens,)
    wrong = [token for token in tokens if not isinstance(token, str)]
    if wrong:
        raise TypeError(f"{name} must be a list of strings, but it holds {wrong[0]!r:.80}")
    return tokens
