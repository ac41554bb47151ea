"""Where in Markdown the prose is: outside of code, formulas, links, headings and HTML."""

import re
from collections.abc import Callable

_NOT_PROSE = re.compile(
    r"""
    ^(?P<fence>`{3,}|:{3,}).*?^(?P=fence)[ \t]*$   # a fenced block
    | ^\#[^\n]*$                                   # a heading
    | ^\([\w-]+\)=$                                # a label
    | ^\|[^\n]*$                                   # a row of a table
    | ^[ ]{4,}\S[^\n]*$                            # an indented block, or the inside of a list
    | \$\$.*?\$\$ | \$[^$\n]+(?:\n[^$\n]+)?\$      # formulas
    | \{\w+\}`[^`]*`                               # roles
    | `[^`]*`                                      # code in a line
    | !?\[[^\]]*\](?:\([^)]*\)|\[[^\]]*\])         # links and images
    | <summary>.*?</summary> | <[a-zA-Z/!][^>]*>   # HTML
    | https?://\S+
    """,
    re.VERBOSE | re.DOTALL | re.MULTILINE,
)


def in_prose(change: Callable[[str], str], text: str) -> str:
    """Return the Markdown with its prose changed, piece by piece, and all else as it was."""
    parts, end = [], 0
    for match in _NOT_PROSE.finditer(text):
        parts += [change(text[end : match.start()]), match[0]]
        end = match.end()
    return "".join([*parts, change(text[end:])])


def plain(text: str) -> str:
    """Return Markdown as the words that it shows, for places that hold nothing but text."""
    text = re.sub(r"\{\w+\}`([^`<]*)(?:<[^`]*)?`", r"\1", text)
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)
    text = re.sub(r"[`*$]|\\[,;!]", "", text)
    return " ".join(text.split())
