"""Small wrong changes to a module's source, one a mutant, for the tests to notice.

What is changed: operators, comparisons, numbers, flags, axes, names in quotes, conditions, the order of
arguments. What is left out: a call around a value, an option, a bound of a slice, a statement, a decorator.
What is let alone: docstrings, annotations, the words of messages, and what is only printed.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass

ARITHMETIC = {
    ast.Add: "-",
    ast.Sub: "+",
    ast.Mult: "/",
    ast.Div: "*",
    ast.FloorDiv: "*",
    ast.Mod: "*",
    ast.Pow: "*",
    ast.BitAnd: "|",
    ast.BitOr: "&",
    ast.LShift: ">>",
    ast.RShift: "<<",
}
COMPARISONS = {
    ast.Lt: ("<=", ">="),
    ast.LtE: ("<", ">"),
    ast.Gt: (">=", "<="),
    ast.GtE: (">", "<"),
    ast.Eq: ("!=",),
    ast.NotEq: ("==",),
    ast.Is: ("is not",),
    ast.IsNot: ("is",),
    ast.In: ("not in",),
    ast.NotIn: ("in",),
}
GIVEN = {"torch", "math", "nn", "F", "self"}  # what is called on these works on what is given
# What these give is of another kind than what they are given: without them nothing would run.
OTHER_KIND = {"len", "range", "type", "zip", "torch.stack", "torch.cat", "torch.tensor", "torch.arange"}
PRINTED = {"__repr__", "extra_repr"}
NOT_ENTERED = (ast.JoinedStr, ast.stmt, ast.excepthandler)  # words, and statements, which come by themselves
CONTEXT = 34  # letters of the statement that are shown on either side of a change


@dataclass(frozen=True)
class Mutant:
    """One change. `name` says where and what, and stays the same when lines move."""

    name: str
    source: str
    # The lines of which at least one runs in every test that can notice the change; None: any test can.
    lines: range | None


def mutants_of(source: str, module: str) -> list[Mutant]:
    """Make every mutant of a module's source."""
    tree = ast.parse(source)
    data = source.encode()
    starts = [0]
    for line in data.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))

    def place(node: ast.AST) -> slice:  # ast counts columns in bytes
        return slice(
            starts[node.lineno - 1] + node.col_offset, starts[node.end_lineno - 1] + node.end_col_offset
        )

    mutants, seen, counts = [], set(), {}
    for where, statement, lines, node, new in _edits(tree, module):
        at = place(node)
        if not new:  # a decorator, with its @
            at = slice(at.start - 1, at.stop)
        if (at.start, at.stop, new) in seen:
            continue
        seen.add((at.start, at.stop, new))
        text = f"({new})" if new and isinstance(node, ast.expr) else new
        mutated = (data[: at.start] + text.encode() + data[at.stop :]).decode()
        around = place(statement)
        before = data[min(around.start, at.start) : at.start].decode()
        after = data[at.stop : max(around.stop, at.stop)].decode()
        before, old, after = (" ".join(part.split(" ")) for part in (before, data[at].decode(), after))
        name = " ".join(f"{where}: {before[-CONTEXT:]}⟦{old} → {new}⟧{after[:CONTEXT]}".split())
        counts[name] = counts.get(name, 0) + 1
        name += f" #{counts[name]}" if counts[name] > 1 else ""
        mutants.append(Mutant(name, mutated, lines))
    return mutants


def _edits(tree: ast.Module, module: str) -> Iterator[tuple]:
    """Yield (where, statement, its lines, the node to replace, the text to replace it by)."""

    def walk_body(body: list[ast.stmt], where: str, function: ast.AST | None, bound: set[str]):
        for statement in body:
            yield from walk(statement, where, function, bound)

    def walk(statement: ast.stmt, where: str, function: ast.AST | None, bound: set[str]):
        inner = f"{where}.{statement.name}" if hasattr(statement, "name") else where
        if getattr(statement, "name", "") in PRINTED:
            return
        blocks = [getattr(statement, field, []) for field in ("body", "orelse", "finalbody")]
        blocks += [handler.body for handler in getattr(statement, "handlers", [])]
        if isinstance(statement, ast.FunctionDef):
            lines = range(statement.body[0].lineno, statement.end_lineno + 1)  # defaults count in calls
        elif function is None:
            lines = None
        else:
            first_inner = min((block[0].lineno for block in blocks if block), default=None)
            lines = range(statement.lineno, (first_inner or statement.end_lineno + 1))
            lines = lines or range(statement.lineno, statement.lineno + 1)
        for node, new in _changes(statement, bound):
            yield inner, statement, lines, node, new
        if isinstance(statement, ast.FunctionDef):
            arguments = statement.args
            names = {a.arg for a in (*arguments.args, *arguments.kwonlyargs)}
            yield from walk_body(statement.body, inner, statement, names)
        elif isinstance(statement, ast.ClassDef):
            yield from walk_body(statement.body, inner, None, set())
        else:
            for block in blocks:
                yield from walk_body(block, where, function, bound)
        if isinstance(statement, ast.Assign):
            bound |= {n.id for t in statement.targets for n in ast.walk(t) if isinstance(n, ast.Name)}

    yield from walk_body(tree.body, module, None, set())


def _changes(statement: ast.stmt, bound: set[str]) -> Iterator[tuple[ast.AST, str]]:
    """The changes of a statement itself: what it is, and the expressions of it, but no inner statement."""
    match statement:
        case ast.Import() | ast.ImportFrom() | ast.Pass() | ast.Nonlocal():
            return
        case ast.Expr(ast.Constant()):  # a docstring, or the body of a protocol's method
            return
        case ast.Raise(ast.Call(ast.Name(error))):
            yield statement, "pass"
            yield statement.exc.func, "TypeError" if error == "ValueError" else "ValueError"
            return  # the rest are words
        case ast.Expr(ast.Call(ast.Attribute(ast.Call(ast.Name("super"))))):
            return
        case ast.Expr(ast.Call()) | ast.AugAssign():
            yield statement, "pass"
        case ast.Break():
            yield statement, "pass"
        case ast.Assign(targets=[ast.Attribute(ast.Attribute()) | ast.Subscript()]):
            yield statement, "pass"
        case ast.Assign(targets=[ast.Name(name)]) if name in bound:
            yield statement, "pass"
        case ast.For():
            yield statement.iter, "()"
        case ast.If():
            yield statement.test, "True"
            if not isinstance(statement.body[0], ast.Raise):  # there it is the same as no raise
                yield statement.test, "False"
        case ast.While():
            yield statement.test, f"not ({ast.unparse(statement.test)})"
        case ast.Return(ast.Tuple(elts=[first, second])):
            yield statement.value, f"{ast.unparse(second)}, {ast.unparse(first)}"
    if isinstance(statement, ast.AugAssign):
        left, right = ast.unparse(statement.target), ast.unparse(statement.value)
        yield statement, f"{left} = {right}"
        if type(statement.op) in ARITHMETIC:
            yield statement, f"{left} {ARITHMETIC[type(statement.op)]}= {right}"
    for decorator in getattr(statement, "decorator_list", []):
        yield decorator, ""
    for handler in getattr(statement, "handlers", []):
        if isinstance(handler.type, ast.Tuple):
            yield from _without_each(handler.type)
    for expression in _expressions(statement):
        yield from _of_expression(expression)
        if isinstance(expression, ast.Call) and not isinstance(statement, ast.Expr):
            yield from _without_call(expression)


def _expressions(node: ast.AST) -> Iterator[ast.expr]:
    """All expressions below a node that belong to its statement and are no annotation and no words."""
    for field, value in ast.iter_fields(node):
        if field in ("annotation", "returns"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if not isinstance(child, ast.AST) or isinstance(child, NOT_ENTERED):
                continue
            if _is_check(node) and isinstance(getattr(child, "value", None), str):
                continue  # the name of an argument, for the message
            if isinstance(child, ast.expr):
                yield child
            yield from _expressions(child)


def _is_check(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1].startswith("_check")


def _of_expression(node: ast.expr) -> Iterator[tuple[ast.expr, str]]:
    text = ast.unparse
    match node:
        case ast.Constant(bool(value)):
            yield node, str(not value)
        case ast.Constant(int(value)):
            yield node, str(value + 1)
            yield node, str(value - 1)
        case ast.Constant(float(value)):
            yield node, str(value + 1)
            if value:
                yield node, str(value / 2)
        case ast.Constant(str(value)) if "->" in value:  # axes of einsum
            yield node, repr(value[:-2] + value[-1] + value[-2])
        case ast.Constant(str(value)) if value.isidentifier():
            yield node, repr(f"no_{value}")
        case ast.BinOp(left, op, right) if type(op) in ARITHMETIC:
            yield node, f"({text(left)}) {ARITHMETIC[type(op)]} ({text(right)})"
            yield node, text(left)
            if isinstance(op, ast.Add | ast.Mult | ast.BitOr | ast.BitAnd):
                yield node, text(right)
        case ast.UnaryOp(ast.Not() | ast.USub() | ast.Invert(), operand):
            yield node, text(operand)
        case ast.BoolOp(op, values):
            other = " or " if isinstance(op, ast.And) else " and "
            yield node, other.join(f"({text(value)})" for value in values)
            for place in range(len(values)):
                rest = values[:place] + values[place + 1 :]
                yield node, text(ast.BoolOp(op, rest)) if len(rest) > 1 else text(rest[0])
        case ast.Compare(left, ops, comparators):
            for place, op in enumerate(ops):
                for other in COMPARISONS[type(op)]:
                    signs = [_sign(one) for one in ops]
                    signs[place] = other
                    pairs = zip(signs, comparators, strict=True)
                    yield node, text(left) + "".join(f" {sign} {text(right)}" for sign, right in pairs)
                if isinstance(op, ast.In | ast.NotIn) and isinstance(comparators[place], ast.Tuple):
                    yield from _without_each(comparators[place])
        case ast.IfExp(_, body, orelse):
            yield node, text(body)
            yield node, text(orelse)
        case ast.Subscript(_, ast.Slice() as part):
            for bound in ("lower", "upper", "step"):
                if getattr(part, bound) is not None:
                    without = ast.Slice(**(vars(part) | {bound: None}))
                    yield node, f"({text(node.value)})[{text(without)}]"
        case ast.ListComp() | ast.GeneratorExp() | ast.DictComp() | ast.SetComp():
            for generator in node.generators:
                for condition in generator.ifs:
                    yield condition, "True"
                    yield condition, f"not ({text(condition)})"
        case ast.Call():
            yield from _of_call(node)


def _of_call(node: ast.Call) -> Iterator[tuple[ast.expr, str]]:
    called = ast.unparse(node.func)
    if called == "isinstance" or _is_check(node):
        return
    given = [ast.unparse(one) for one in (*node.args, *node.keywords)]
    count = len(node.args)
    own = isinstance(node.func, ast.Name) or called.startswith(("self.", "nn.", "model.", "block.", "F."))
    if own and count > 1 and not any(isinstance(one, ast.Starred | ast.Lambda) for one in node.args):
        if given[0] != given[1]:
            yield node, f"{called}({', '.join([given[1], given[0], *given[2:]])})"
        yield node, f"{called}({', '.join([*given[: count - 1], *given[count:]])})"
    for place, keyword in enumerate(node.keywords, start=count):
        if keyword.arg is not None:
            yield node, f"{called}({', '.join(given[:place] + given[place + 1 :])})"


def _without_call(node: ast.Call) -> Iterator[tuple[ast.expr, str]]:
    """What a method is called on, or what a function is given, in the place of its result."""
    called = ast.unparse(node.func)
    on = ast.unparse(node.func.value) if isinstance(node.func, ast.Attribute) else None
    if called in OTHER_KIND or called.startswith("super()") or _is_check(node):
        return
    if on is not None and not (on.replace(".", "_").isidentifier() and on.split(".")[0] in GIVEN):
        yield node, on
    elif called.split(".")[-1].islower():  # no class: what is made of sizes is no size
        match node.args:
            case [ast.Starred()]:
                return
            case [given]:
                yield node, ast.unparse(given)


def _without_each(node: ast.Tuple) -> Iterator[tuple[ast.expr, str]]:
    for place in range(len(node.elts)):
        rest = [ast.unparse(one) for one in node.elts[:place] + node.elts[place + 1 :]]
        yield node, "".join(f"{one}, " for one in rest)


def _sign(op: ast.cmpop) -> str:
    return ast.unparse(ast.Compare(ast.Name("a"), [op], [ast.Name("b")]))[2:-2]
