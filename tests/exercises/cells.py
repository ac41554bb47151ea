"""A chapter's exercises, run without the chapter's work: its definitions, stubs, checks and solutions."""

import ast
import builtins
import re
from functools import cache
from itertools import pairwise

from notebooks import build


def source(chapter):
    return next(path for path in build.chapters() if path.name.startswith(f"{chapter:02}_"))


def definitions(chapter, wanted=()):
    """The namespace of a chapter after its imports, functions, classes and constants, and nothing else.

    A constant is written in capitals, or is a literal. `wanted`: names of other variables to be made.
    """
    namespace = {"__name__": "__main__"}
    for node in ast.parse(source(chapter).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign):
            if not _is_constant(node, namespace) and not _names(node) & set(wanted):
                continue
        elif not isinstance(node, ast.Import | ast.ImportFrom | ast.FunctionDef | ast.ClassDef):
            continue
        exec(compile(ast.Module([node], []), str(source(chapter)), "exec"), namespace)
    return namespace


def _names(assignment):
    parts = [part for t in assignment.targets for part in (t.elts if isinstance(t, ast.Tuple) else [t])]
    return {part.id for part in parts} if all(isinstance(part, ast.Name) for part in parts) else set()


def _is_constant(assignment, namespace):
    names = _names(assignment)
    used = {node.id for node in ast.walk(assignment.value) if isinstance(node, ast.Name)}
    literal = not any(
        isinstance(node, ast.Call | ast.Attribute | ast.Subscript) for node in ast.walk(assignment.value)
    )
    known = used <= namespace.keys() | set(dir(builtins))
    return bool(names) and known and (literal or all(name.isupper() for name in names))


@cache
def exercises(chapter):
    """For each exercise with a check: its number, its cell (stub and check), and its solution."""
    cells = build.convert(source(chapter)).cells
    found = {}
    for cell, after in pairwise(cells):
        if "exercise" in cell.metadata.get("tags", []):
            number = re.search(r'^check\(\s*"([\d.]+)"', cell.source, re.MULTILINE)[1]
            solution = re.search(r"Solution</summary>\n\n```python\n(.*?)```", after.source, re.DOTALL)
            found[number] = cell.source, solution[1], after.source
    return found


def run(code, namespace):
    """Run a cell; return the value of its last line, a call of check, as a notebook would show it."""
    *before, last = ast.parse(code).body
    exec(compile(ast.Module(before, []), "<cell>", "exec"), namespace)
    return eval(compile(ast.Expression(last.value), "<cell>", "eval"), namespace)


def check_line(code):
    """The last statement of a cell, as source."""
    return ast.get_source_segment(code, ast.parse(code).body[-1])
