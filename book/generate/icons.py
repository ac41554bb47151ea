"""Of the theme's two thousand icons, only those that the pages show.

The theme brings Font Awesome whole: 86 kB of rules and a font of 156 kB, for some twenty icons.
"""

import logging
import re
from pathlib import Path

from fontTools import subset, ttLib

SHEET = "_static/styles/pydata-sphinx-theme.css"
FONT = "_static/vendor/fontawesome/webfonts/fa-solid-900"
RULE = re.compile(r'(?:\.fa-[\w-]+:before,?)+\{content:"[^"]*"\}')
NAME = re.compile(r"\bfa-[\w-]+")
CODE = re.compile(r"\\([ef][0-9a-f]{3})\b")


def keep_used(html: Path) -> None:
    """Take out of a built book's style sheet and font the icons that no page and no script names.

    Raises ValueError when the theme's sheet has another form than is known here.
    """
    sheet = html / SHEET
    text = sheet.read_text(encoding="utf-8")
    pages = [*html.rglob("*.html"), *(html / "_static").rglob("*.js")]
    used = set().union(*(NAME.findall(path.read_text(encoding="utf-8")) for path in pages))
    kept = RULE.sub(lambda rule: rule[0] if used.intersection(NAME.findall(rule[0])) else "", text)
    fonts = ('fa-solid-900.woff2) format("woff2")', 'fa-solid-900.woff) format("woff")')
    if kept == text or fonts[0] not in text:
        raise ValueError(f"{SHEET} has no icons in the form that book/generate/icons.py knows.")
    sheet.write_text(kept.replace(*fonts), encoding="utf-8")

    # Other rules name icons by their codes.
    sheets = " ".join(path.read_text(encoding="utf-8") for path in (html / "_static").rglob("*.css"))
    font = ttLib.TTFont(html / f"{FONT}.ttf", recalcTimestamp=False)
    logging.getLogger("fontTools.subset").setLevel(logging.WARNING)
    cut = subset.Subsetter(subset.Options(layout_features=[], hinting=False))
    cut.populate(unicodes=[int(code, 16) for code in CODE.findall(sheets)])
    cut.subset(font)
    font.flavor = "woff"
    font.save(html / f"{FONT}.woff")
    (html / f"{FONT}.woff2").unlink()
