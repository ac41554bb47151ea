"""What the book asks of Sphinx beyond its settings: numbered formulas, by KaTeX from the book's own files.

KaTeX stands in assets/katex, unchanged, so that a page asks no other host for anything.
"""

import html
import re

from docutils import nodes
from sphinx.application import Sphinx

_CHAPTER = re.compile(r"notebooks/(\d\d)_")


def number_equations(app: Sphinx, doctree: nodes.document) -> None:
    """Number the displayed formulas of a chapter: (3.1), (3.2) and so on."""
    chapter = _CHAPTER.match(app.env.docname)
    if chapter:
        for count, block in enumerate(doctree.findall(nodes.math_block), start=1):
            block["place"] = f"{int(chapter[1])}.{count}"


def visit_inline(translator, node: nodes.math) -> None:
    translator.body.append(translator.starttag(node, "span", "", CLASS="formula notranslate"))
    translator.body.append(f"{translator.encode(node.astext())}</span>")
    raise nodes.SkipNode


def visit_display(translator, node: nodes.math_block) -> None:
    if place := node.get("place"):
        anchor = f"equation-{place.replace('.', '-')}"
        translator.body.append(f'<div class="equation" id="{anchor}">')
    else:
        translator.body.append('<div class="equation">')
    translator.body.append(translator.starttag(node, "div", "", CLASS="formula notranslate"))
    translator.body.append(f"{translator.encode(node.astext())}</div>")
    if place:
        translator.body.append(
            f'<a class="eqno" href="#{anchor}" aria-label="Equation {place}">({place})</a>'
        )
    translator.body.append("</div>\n")
    raise nodes.SkipNode


def load_katex(app: Sphinx, pagename: str, templatename: str, context: dict, doctree) -> None:
    """Load KaTeX on the pages that have formulas, and on no other."""
    if doctree is None or next(iter(doctree.findall(is_formula)), None) is None:
        return
    app.add_css_file("katex/katex.min.css")
    app.add_js_file("katex/katex.min.js", loading_method="defer")
    app.add_js_file("formulas.js", loading_method="defer")


def leave_out_thebe(app: Sphinx, pagename: str, templatename: str, context: dict, doctree) -> None:
    """Leave out the scripts of thebe, which runs code on another host; Jupyter Book loads it unasked."""
    for kind in ("script_files", "css_files"):
        context[kind] = [
            file
            for file in context[kind]
            if "thebe" not in f"{file.filename}{file.attributes.get('body', '')}".lower()
        ]


def escape_title(app: Sphinx, pagename: str, templatename: str, context: dict, doctree) -> None:
    """Escape the title that the theme writes for print as it is, whatever stands in it."""
    if "pagetitle" in context:
        context["pagetitle"] = html.escape(context["pagetitle"])


def is_formula(node: nodes.Node) -> bool:
    return isinstance(node, nodes.math | nodes.math_block)


def setup(app: Sphinx) -> dict:
    app.add_html_math_renderer("katex", (visit_inline, None), (visit_display, None))
    app.connect("doctree-read", number_equations)
    app.connect("html-page-context", load_katex)
    app.connect("html-page-context", leave_out_thebe, priority=900)  # after Jupyter Book and the theme
    app.connect("html-page-context", escape_title, priority=900)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
