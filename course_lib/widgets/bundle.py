"""One script from the few modules that a view needs.

The modules in static/ are ordinary ES modules. An output must work by itself, from a file and without a
network, where a module cannot import its neighbour; so the modules are put one after the other, each in a
function of its own that returns what it exports. The rules are strict and simple: imports stand one to a
statement at the start of a line and name what they take; exports stand before a declaration.
"""

import re
from functools import cache
from importlib.resources import files

_IMPORT = re.compile(r'^import \{([^}]*)\} from "\./([a-z_]+)\.js";$', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(?:async )?(?:function|const|let|class) (\w+))", re.MULTILINE)
_DEFAULT = re.compile(r"^export default ([^\n]*);$", re.MULTILINE)
_NAME = re.compile(r"^export (?:async )?(?:function|const|let|class) (\w+)", re.MULTILINE)
# Comments that stand on lines of their own, and the indentation: the reader has them in the source.
_COMMENT = re.compile(r"^[ \t]*(?:/\*\*.*?\*/|//[^\n]*)[ \t]*\n", re.MULTILINE | re.DOTALL)
_INDENT = re.compile(r"^[ \t]+", re.MULTILINE)


def source(module: str) -> str:
    """Return the text of one module of static/."""
    return (files(__package__) / "static" / f"{module}.js").read_text(encoding="utf-8")


def order(module: str, seen: tuple[str, ...] = ()) -> list[str]:
    """Return the modules that `module` needs and itself, each after those it imports."""
    if module in seen:
        raise ValueError(f"the modules {' → '.join((*seen, module))} import each other in a circle")
    found: list[str] = []
    for _, needed in _IMPORT.findall(source(module)):
        found += [name for name in order(needed, (*seen, module)) if name not in found]
    return [*found, module]


def _function(module: str) -> str:
    text = source(module)
    names = _NAME.findall(text)
    text = _COMMENT.sub("", text)
    text = _IMPORT.sub(lambda m: f"const {{{m[1].replace(' as ', ': ')}}} = ${m[2]};", text)
    if default := _DEFAULT.search(text):
        names.append(f"default: {default[1]}")
        text = _DEFAULT.sub("", text)
    text = _EXPORT.sub("", text)
    if stray := re.search(r"^(?:import|export)\b.*", text, re.MULTILINE):
        raise ValueError(f"static/{module}.js: cannot bundle {stray[0]!r}")
    body = _INDENT.sub("", text).strip()
    return f"const ${module} = (() => {{\n{body}\nreturn {{{', '.join(names)}}};\n}})();\n"


@cache
def script(view: str) -> str:
    """Return a view's modules as one script whose value, `$view`, holds `mount` and `default`."""
    return '"use strict";\n' + "".join(_function(module) for module in order(view))


@cache
def module(view: str) -> str:
    """Return a view's modules as one ES module with `mount` and anywidget's default export."""
    exports = f"export const mount = ${view}.mount;\nexport default ${view}.default;\n"
    return script(view) + exports
