"""Running text for language models, and its characters as tokens."""

import importlib
import operator
from collections.abc import Iterable

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
        """Collect the characters of a text, in Unicode's order."""
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
