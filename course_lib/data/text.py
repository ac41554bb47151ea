"""Running text for language models, and its tokens: characters, or the pieces of a byte-pair encoder."""

import importlib
import operator
from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from course_lib.data.download import DataUnavailable, fetch


def load_text(name: str) -> str:
    """Load a long text.

    Args:
        name: "python-docs" for the topics of the Python language reference that every interpreter carries
            for its help(), about 465,000 characters, which differ a little from one version of Python to
            another; or "tiny-shakespeare" for 1,115,394 characters of Shakespeare's plays (Karpathy, 2015,
            https://github.com/karpathy/char-rnn).

    Raises:
        ValueError: no such text.
        DataUnavailable: the file cannot be had, or this Python came without its reference.
    """
    loaders = {"python-docs": _python_docs, "tiny-shakespeare": _tiny_shakespeare}
    if not isinstance(name, str) or name not in loaders:
        raise ValueError(f"no text is called {name!r}; choose from {', '.join(loaders)}")
    return loaders[name]()


def _python_docs() -> str:
    try:
        topics = importlib.import_module("pydoc_data.topics").topics
    except ImportError as error:
        raise DataUnavailable(
            "this Python came without its reference, the module pydoc_data.topics; install Python's full "
            'standard library, or use load_text("tiny-shakespeare")'
        ) from error
    return "\n\n".join(topics[name].strip("\n") for name in sorted(topics)) + "\n"


def _tiny_shakespeare() -> str:
    return fetch("tiny-shakespeare/input.txt").decode("utf-8")


class CharacterVocabulary:
    """A numbered list of characters, without special tokens: every text of these characters can be encoded.

    Args:
        characters: each once; a character's id is its place.

    Raises:
        TypeError: `characters` is not a string.
        ValueError: there is none, or one is given twice.
    """

    def __init__(self, characters: str) -> None:
        if not isinstance(characters, str):
            raise TypeError(f"characters must be one string, got {characters!r:.80}")
        if not characters or len(set(characters)) < len(characters):
            raise ValueError(
                f"characters must hold at least one, and each once, got {characters!r:.80}; of a whole text "
                f"make the vocabulary with CharacterVocabulary.from_text"
            )
        self.characters = characters
        self._ids = {character: index for index, character in enumerate(characters)}

    @classmethod
    def from_text(cls, text: str) -> "CharacterVocabulary":
        """Collect the characters of a text, in Unicode's order.

        Raises:
            TypeError: `text` is not a string.
        """
        if not isinstance(text, str):
            raise TypeError(f"from_text takes one string, got {text!r:.80}")
        return cls("".join(sorted(set(text))))

    def __len__(self) -> int:
        return len(self.characters)

    def encode(self, text: str) -> list[int]:
        """Number each character.

        Raises:
            TypeError: `text` is not a string.
            ValueError: the text holds a character that is not in the vocabulary.
        """
        if not isinstance(text, str):
            raise TypeError(f"encode takes one string, got {text!r:.80}")
        try:
            return [self._ids[character] for character in text]
        except KeyError as error:
            unknown = error.args[0]
            raise ValueError(
                f"the vocabulary has no {unknown!r} (U+{ord(unknown):04X}), which stands at place "
                f"{text.index(unknown)} of the text; its characters are {self.characters!r:.200}"
            ) from None

    def decode(self, ids: Iterable[int]) -> str:
        """Turn ids back into text.

        Raises:
            TypeError: `ids` is not one list of whole numbers.
            ValueError: an id is not between 0 and `len(vocabulary) - 1`.
        """
        if hasattr(ids, "tolist"):  # a tensor or an array
            ids = ids.tolist()
        try:
            numbers = [operator.index(given) for given in ids]
        except TypeError:
            raise TypeError(f"decode takes one list of whole numbers, got {ids!r:.80}") from None
        for number in numbers:
            if not 0 <= number < len(self):
                raise ValueError(f"id {number} is not in this vocabulary: ids run from 0 to {len(self) - 1}")
        return "".join(self.characters[number] for number in numbers)


# A word, a number or a run of signs, each with the blank before it; then blanks, of which the last one before
# a word is left to the word. Pairs are never merged across two pieces. GPT-2's pattern, but for its English
# endings ('s, 'll), in the syntax that Python's re and the tokenizers library share.
PIECES = r" ?[^\W\d_]+| ?\d+| ?(?:[^\s\w]|_)+|\s+(?!\S)|\s+"


def train_byte_pairs(text: str, vocab_size: int) -> Tokenizer:
    """Train a byte-pair encoder on a text, by the tokenizers library.

        tokenizer = train_byte_pairs(text, vocab_size=512)
        ids = tokenizer.encode(text).ids
        text = tokenizer.decode(ids)

    It begins with the 256 bytes as tokens, and adds as a new token, again and again, the pair of neighbours
    that is most frequent within PIECES of the text. Since every text is bytes, there are no unknown tokens.

    Args:
        text: what the pairs are counted in.
        vocab_size: how many tokens to make, from 256 on; fewer come of a text that has not as many pairs.

    Raises:
        TypeError: `text` is not a string.
        ValueError: the text is empty, or `vocab_size` is below 256.

    Sources: Sennrich et al. 2016, section 3.2; on bytes: Radford et al. 2019, section 2.2.
    """
    if not isinstance(text, str):
        raise TypeError(f"text must be one string, got {text!r:.80}")
    if not text:
        raise ValueError("the text is empty; there are no pairs to count")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"the text holds half of a character at place {error.start} ({text[error.start]!r}), which has "
            f"no bytes; read the file with its right encoding"
        ) from None
    whole = isinstance(vocab_size, int) and not isinstance(vocab_size, bool)
    if not whole or not 256 <= vocab_size < 2**31:
        raise ValueError(f"vocab_size is {vocab_size!r}; give at least 256, since each byte is a token")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([text], trainer)
    return tokenizer
