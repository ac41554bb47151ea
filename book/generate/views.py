"""The live views of a stored notebook, with their scripts in files that the pages share.

In a notebook each output carries the whole script of its view, so that it works alone. In the book, where one
page may hold many, the script is taken out into a file, and the output keeps its data. The file runs before
the output's own script, which then finds its view there and unpacks nothing.
"""

import base64
import re
import zlib
from dataclasses import dataclass

MARK = "data-attention-view="
_KEY = re.compile(r'views\["(?P<key>[0-9a-f]{12})"\] \?\?=')
_KIND = re.compile(r"attentionViews\.newest = \$(?P<kind>[a-z_]+);")
_CODE = re.compile(r'(?<=, ")(?P<code>[A-Za-z0-9+/=]{100,})(?="\);\s*</script>\s*$)')


@dataclass(frozen=True)
class Script:
    """The script of one kind of view, and the name that its outputs know it by."""

    kind: str
    key: str
    text: str

    @property
    def file(self) -> str:
        return f"{self.kind}-{self.key}.js"

    def content(self) -> str:
        """Return what the file holds: the script, entered where the outputs look for it."""
        entry = f'(globalThis.attentionViews ??= {{}})["{self.key}"] = Promise.resolve(${self.kind});'
        return f"(() => {{{self.text}{entry}}})();\n"


def is_view(html: str) -> bool:
    return MARK in html


def split(html: str) -> tuple[str, Script]:
    """Return a view's output without its script, and the script.

    Raises ValueError if the output is not written as course_lib.widgets writes it.
    """
    key, kind, code = (pattern.search(html) for pattern in (_KEY, _KIND, _CODE))
    if not (key and kind and code):
        raise ValueError(
            "this view's output has another form than book/generate/views.py knows: bring it up to date with "
            "course_lib/widgets/output.py."
        )
    text = zlib.decompress(base64.b64decode(code["code"]), -zlib.MAX_WBITS).decode()
    return _CODE.sub("", html), Script(kind["kind"], key["key"], text)


def in_page(html: str, root: str) -> tuple[str, Script]:
    """Return a view's output as a page shows it, with its script in a file, and the script.

    root: the way from the page to the folder of the site, such as "../".
    """
    slim, script = split(html)
    return f'<script src="{root}_static/views/{script.file}"></script>\n{slim}', script
