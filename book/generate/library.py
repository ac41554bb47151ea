"""The library's reference: a page for each module, from its source text alone."""

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

from book.generate.markdown import escape, fenced

HEAD = """\
# The library

`course_lib` is the small library that the chapters derive piece by piece and that the tests hold to its word.
These pages are made from its docstrings. A module imports only from those above it in this list.
"""
# From the ground up, as a learner meets them; what is not named here follows in the order of the alphabet.
ORDER = ["attention", "positions", "layers", "models", "decoding", "data", "metrics", "batches", "training"]
WIDTH = 88
_ARGUMENTS = re.compile(r"^(?!Sources?:|Raises:|Shapes:|Axes:)(\w+(?:, \w+)*|`\w+`): ")


def modules(library: Path) -> list[Path]:
    """The files that have something for a user in them, in the order of the reference."""
    files = [
        path for path in library.rglob("*.py") if path.name != "__init__.py" and is_offered(path, library)
    ]

    def place(path):
        first = path.relative_to(library).parts[0].removesuffix(".py")
        return ORDER.index(first) if first in ORDER else len(ORDER), dotted(path, library)

    return [path for path in sorted(files, key=place) if list(public(parse(path)))]


def is_offered(path: Path, library: Path) -> bool:
    """Whether a module is for users: in a package that gathers names, it is one that names are taken from."""
    if path.parent == library:
        return True
    imports = [node for node in parse(path.with_name("__init__.py")).body if isinstance(node, ast.ImportFrom)]
    return not imports or dotted(path, library) in {node.module for node in imports}


def dotted(path: Path, library: Path) -> str:
    return ".".join([library.name, *path.relative_to(library).with_suffix("").parts])


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def public(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.ClassDef]:
    """What has a docstring and a public name."""
    for node in tree.body:
        named = isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
        if named and ast.get_docstring(node):
            yield node


def index(library: Path) -> str:
    lines = []
    for path in modules(library):
        first = first_sentence(ast.get_docstring(parse(path)) or "")
        name = dotted(path, library)
        lines.append(f"- [`{name}`](library/{name}.md): {prose(first)}")
    return HEAD + "\n" + "\n".join(lines) + "\n"


def page(path: Path, library: Path) -> str:
    """Return the reference of one module as Markdown."""
    tree, name = parse(path), dotted(path, library)
    parts = [f"# `{name}`\n", docstring(ast.get_docstring(tree) or "")]
    for node in public(tree):
        # Labels are in small letters, where a class may have the name of a function.
        kind = "class-" if isinstance(node, ast.ClassDef) else ""
        parts.append(f"({name.lower().replace('.', '-')}-{kind}{node.name.lower()})=\n## `{node.name}`\n")
        parts.append(fenced(signature(node), "python"))
        parts.append(docstring(ast.get_docstring(node)))
        if isinstance(node, ast.ClassDef):
            for method in public(node):
                parts.append(f"### `{node.name}.{method.name}`\n")
                parts.append(fenced(signature(method), "python"))
                parts.append(docstring(ast.get_docstring(method)))
    return "\n".join(parts)


def signature(node: ast.FunctionDef | ast.ClassDef) -> str:
    if isinstance(node, ast.FunctionDef):
        return call(node)
    bases = [ast.unparse(base) for base in node.bases]
    head = f"class {node.name}({', '.join(bases)})" if bases else f"class {node.name}"
    fields = [f"    {ast.unparse(line)}" for line in node.body if isinstance(line, ast.AnnAssign)]
    start = [line for line in node.body if isinstance(line, ast.FunctionDef) and line.name == "__init__"]
    return "\n".join([head, *fields, *(f"    {indent(call(line))}" for line in start)])


def indent(text: str) -> str:
    return text.replace("\n", "\n    ")


def call(node: ast.FunctionDef) -> str:
    """The head of a function, in one line or, where it is long, with a line for each argument."""
    decorators = [f"@{ast.unparse(decorator)}\n" for decorator in node.decorator_list]
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    arguments = ast.unparse(node.args)
    line = f"def {node.name}({arguments}){returns}"
    if len(line) > WIDTH:
        inside = "".join(f"    {part},\n" for part in split_arguments(node.args))
        line = f"def {node.name}(\n{inside}){returns}"
    return "".join(decorators) + line


def split_arguments(arguments: ast.arguments) -> list[str]:
    """The arguments one by one, as they are written."""
    positional = [*arguments.posonlyargs, *arguments.args]
    defaults = [None] * (len(positional) - len(arguments.defaults)) + arguments.defaults
    parts = [written(*pair) for pair in zip(positional, defaults, strict=True)]
    if arguments.posonlyargs:
        parts.insert(len(arguments.posonlyargs), "/")
    if arguments.vararg:
        parts.append("*" + written(arguments.vararg, None))
    elif arguments.kwonlyargs:
        parts.append("*")
    parts += [written(*pair) for pair in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)]
    return [*parts, *(["**" + written(arguments.kwarg, None)] if arguments.kwarg else [])]


def written(argument: ast.arg, default: ast.expr | None) -> str:
    if default is None:
        return ast.unparse(argument)
    return ast.unparse(argument) + (" = " if argument.annotation else "=") + ast.unparse(default)


def docstring(text: str) -> str:
    """Turn a docstring of the house style into Markdown.

    Indented paragraphs and equations are shown as they are; "name: what it is" becomes a list.
    """
    parts = []
    for paragraph in re.split(r"\n\s*\n", inspect.cleandoc(text)):
        lines = paragraph.splitlines()
        if all(line.startswith("    ") for line in lines):
            parts.append(fenced(inspect.cleandoc(paragraph)))
        elif is_equation(paragraph) or is_columns(lines):
            parts.append(fenced(paragraph))
        else:
            parts += [f"{part}\n" for part in sentences(lines)]
    return "\n".join(parts)


def is_equation(paragraph: str) -> bool:
    return bool(re.search(r" = |\(j <", paragraph)) and not paragraph.rstrip().endswith((".", ":"))


def is_columns(lines: list[str]) -> bool:
    """Whether these are two columns, such as names and what they hold."""
    return len(lines) > 1 and all(re.match(r"\S+ {2,}\S|\s", line) for line in lines)


def sentences(lines: list[str]) -> list[str]:
    """Paragraphs of plain lines: arguments become a list; errors and sources stand by themselves."""
    blocks: list[list[str]] = []
    for line in lines:
        begins = _ARGUMENTS.match(line) or line.startswith(("Raises ", "Source: ", "Sources: ", "Returns "))
        if begins or not blocks:
            blocks.append([line])
        else:
            blocks[-1].append(line)
    texts = []
    for block in blocks:
        text = " ".join(line.strip() for line in block)
        if match := _ARGUMENTS.match(text):
            names = match[1] if match[1].startswith("`") else f"`{match[1]}`"
            texts.append(f"- {names}: {prose(text[match.end() :])}")
        else:
            texts.append(prose(text))
    return texts


def first_sentence(text: str) -> str:
    return " ".join(re.split(r"\n\s*\n", text)[0].split())


def prose(text: str) -> str:
    """Text in which only what stands between backticks means something to Markdown."""
    pieces = re.split(r"(`[^`]+`)", text)
    return "".join(piece if piece.startswith("`") else escape(piece) for piece in pieces)
