"""The exercises: references are right, known mistakes are rejected and named, mutations are rejected."""

import ast
import copy
import inspect
import textwrap
from functools import lru_cache

import pytest
import torch

from course_lib.exercises.check import draw, examine
from course_lib.exercises.exercise import Exercise, Target, chapters, find, of_chapter
from notebooks import build

TASKS = [task for chapter in chapters() for task in of_chapter(chapter)]
EXERCISES = [task for task in TASKS if isinstance(task, Exercise)]
ROUNDS = 50


def seeded(seed):
    return torch.Generator().manual_seed(seed)


@lru_cache(maxsize=ROUNDS)  # the inputs of one exercise, which all its mistakes share
def drawn(number, seed):
    return draw(find(number), seeded(seed))


def examined(exercise, answer, seed):
    return examine(exercise, answer, drawn(exercise.number, seed), seconds=60)  # the machine may be busy


def each(exercises=EXERCISES):
    return pytest.mark.parametrize("exercise", exercises, ids=lambda exercise: exercise.number)


@each()
def test_reference_passes_every_check(exercise):
    for seed in range(ROUNDS):
        verdict = examined(exercise, exercise.reference, seed)
        assert verdict.right, f"seed {seed}: {verdict}"


@pytest.mark.parametrize(
    "exercise, mistake",
    [
        pytest.param(exercise, mistake, id=f"{exercise.number} {mistake.make.__name__}")
        for exercise in EXERCISES
        for mistake in exercise.mistakes
    ],
)
def test_known_mistake_is_rejected_and_named(exercise, mistake):
    verdicts = [examined(exercise, mistake.make, seed) for seed in range(ROUNDS)]
    assert not any(verdict.right for verdict in verdicts)
    named = sum(verdict.mistake is mistake for verdict in verdicts)
    assert named >= 0.9 * ROUNDS, {v.mistake.name if v.mistake else v.state for v in verdicts}


def halved(value):
    """A result in bfloat16, which keeps fewer digits than any other."""
    if isinstance(value, tuple):
        return tuple(map(halved, value))
    floats = isinstance(value, torch.Tensor) and value.is_floating_point()
    return value.bfloat16() if floats else value


@each()
def test_half_precision_is_right_and_hides_no_mistake(exercise):
    for seed in range(5):
        verdict = examined(exercise, lambda *given: halved(exercise.reference(*given)), seed)
        assert verdict.right, f"seed {seed}: {verdict}"
        for mistake in exercise.mistakes:
            verdict = examined(exercise, lambda *given: halved(mistake.make(*given)), seed)  # noqa: B023
            assert not verdict.right, f"seed {seed}: {mistake.name}"


def test_every_chapter_has_exercises():
    assert chapters() == [int(source.name[:2]) for source in build.chapters()]


def test_there_are_enough_of_all_kinds():
    for chapter in chapters():
        tasks = of_chapter(chapter)
        assert len(tasks) >= 5
        assert sum(isinstance(task, Target) for task in tasks) >= 1, "an open end with a measured goal"
        given = [m for task in tasks if isinstance(task, Exercise) for m in task.mistakes if m.as_given]
        assert len(given) >= 1, "a bug to find"
    mistakes = sum(len(exercise.mistakes) for exercise in EXERCISES)
    assert mistakes >= 3 * len(TASKS)


CLASSICS = """
softmax over the queries · no scaling · scaled by d_k · the mask after the softmax
True where it is forbidden · rows of minus infinity · split without transposing · the last head first
keys and values swapped · position 0 for every decoded token · off by one in the shift · loss over padding
argmax before temperature · cache without offset · class token appended last · patches in transposed order
residual dropped · LayerNorm over the wrong axis · unbiased deviation
"""


@pytest.mark.parametrize("name", [name.strip() for name in CLASSICS.replace("\n", "·").strip("·").split("·")])
def test_classic_is_named_to_the_learner(name):
    """A bug that is given to be found does not count: check does not name it."""
    known = [m for exercise in EXERCISES for m in exercise.mistakes if not m.as_given]
    assert name in {mistake.name for mistake in known}


@each([exercise for exercise in EXERCISES if exercise.number != "6.3"])  # a wrong count is wrong for any size
def test_inputs_tell_mistakes_apart(exercise):
    """There are several, each with words of its own, and not all of them catch every mistake."""
    cases = drawn(exercise.number, 0)
    words = [case.what for case in cases]
    assert len(set(words)) == len(words) >= 3
    passed = [
        examine(exercise, mistake.make, [case], seconds=60).right
        for case in cases
        for mistake in exercise.mistakes
    ]
    assert any(passed)


def test_names_and_words_are_sentences():
    for exercise in EXERCISES:
        assert exercise.solved.endswith("."), exercise.number
        for mistake in exercise.mistakes:
            assert not mistake.name.endswith("."), mistake.name
            assert mistake.why[-1] in ".?", mistake.why


# ------------------------------------------------------------------------------------- mutations
#
# Beyond the catalogue: every reference is changed in one place, in every way that these rules know.

SWAPPED = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.NotEq: ast.Eq,
}


def mutants_of(function):
    """Pairs of a description and a changed function: operators, constants, signs, calls and lines."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    tree.body[0].decorator_list = []
    places = [node for node in ast.walk(tree.body[0]) if not isinstance(node, ast.arguments)]
    for place, node in enumerate(places):
        for change in changes(node):
            mutant = copy.deepcopy(tree)
            twin = [n for n in ast.walk(mutant.body[0]) if not isinstance(n, ast.arguments)][place]
            change(mutant, twin)
            code = ast.unparse(ast.fix_missing_locations(mutant))
            namespace = dict(inspect.unwrap(function).__globals__)
            exec(compile(code, "<mutant>", "exec"), namespace)
            yield code, namespace[tree.body[0].name]


def changes(node):
    if isinstance(node, ast.BinOp):
        if type(node.op) in SWAPPED:
            yield lambda tree, twin: setattr(twin, "op", SWAPPED[type(twin.op)]())
        if isinstance(node.op, ast.Sub | ast.Div | ast.FloorDiv):
            yield exchange_sides
        yield lambda tree, twin: replace_node(tree, twin, twin.left)
    if isinstance(node, ast.Compare) and type(node.ops[0]) in SWAPPED:
        yield lambda tree, twin: twin.ops.__setitem__(0, SWAPPED[type(twin.ops[0])]())
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        if isinstance(node.value, bool):
            yield lambda tree, twin: setattr(twin, "value", not twin.value)
        else:
            yield lambda tree, twin: setattr(twin, "value", twin.value + 1)
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and "->" in node.value:
        yield lambda tree, twin: setattr(twin, "value", twin.value[:-2] + twin.value[-1] + twin.value[-2])
    if isinstance(node, ast.UnaryOp):
        yield lambda tree, twin: replace_node(tree, twin, twin.operand)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        if not (isinstance(node.func.value, ast.Name) and node.func.value.id in ("torch", "math", "F")):
            yield lambda tree, twin: replace_node(tree, twin, twin.func.value)
        elif len(node.args) == 1:
            yield lambda tree, twin: replace_node(tree, twin, twin.args[0])
    if isinstance(node, ast.If):
        yield lambda tree, twin: setattr(twin, "test", ast.Constant(True))
        yield lambda tree, twin: setattr(twin, "test", ast.Constant(False))
    if isinstance(node, ast.Return) and isinstance(node.value, ast.BinOp):
        yield lambda tree, twin: setattr(twin, "value", twin.value.left)
        yield lambda tree, twin: setattr(twin, "value", twin.value.right)


def exchange_sides(tree, twin):
    twin.left, twin.right = twin.right, twin.left


def replace_node(tree, old, new):
    class Replace(ast.NodeTransformer):
        def visit(self, node):
            return new if node is old else self.generic_visit(node)

    Replace().visit(tree)


# Mutants that do what the reference does, each by a part of its code, with the reason.
LAST = "there are two axes, so the last is axis 1"
SQUARED = "the difference is squared"
CONSTANT = "a number added to all biases of a row changes no weight, and weights are compared"
EQUIVALENT = {
    ("1.1", "softmax(dim=1)"): LAST,
    ("1.2", "softmax(dim=1)"): LAST,
    ("1.2", "key[None] - query[:, None]"): SQUARED,
    ("1.5", "softmax(dim=1)"): LAST,
    ("1.5", "key[None, :] - query[:, None]"): SQUARED,
    ("3.3", "transpose(-2, 1)"): LAST,
    ("3.3", "query.shape[1]"): LAST,
    ("3.3", "softmax(dim=1)"): LAST,
    ("3.3", "-10001.0"): "e to it is 0 as well",
    ("3.5", "softmax(dim=1)"): LAST,
    ("3.5", "key.shape[1]"): LAST,
    ("4.4", "roll(2)"): "another order that moves all five positions",
    ("4.6", "transpose(2, -1)"): "of four axes the last but one is axis 2",
    ("5.2", "base=10001.0"): "moves the sum by less than the tolerance",
    ("5.5", "num_keys + 1 - "): CONSTANT,
    ("5.5", "num_keys - 2 - "): CONSTANT,
    ("5.5", "distance = num_keys - torch"): CONSTANT,
    ("5.5", "1 - num_keys - "): CONSTANT,
    ("6.4", "argmax(dim=1"): "the logits of one position have two axes: the last is axis 1",
    ("6.5", "(mean - x)"): SQUARED,
    ("7.3", "softmax(dim=1)"): LAST,
    ("7.5", "argmax(dim=1"): LAST,
    ("7.6", "sort(dim=1"): LAST,
    ("7.6", "cumsum(dim=1"): LAST,
    ("7.6", "kept.sum(dim=1"): LAST,
    ("7.6", "scatter(1"): LAST,
    ("7.6", "return kept.scatter("): "every place is written over",
    ("8.4", "keepdim=True)).mean()"): "a tensor of one number is a number",
    ("8.5", "shape[-2]"): "weights are square",
}


def survivors(exercise):
    """The mutants, those that raise on the first input, and the code of those that pass a check."""
    seen, raising, passing = set(), 0, []
    for code, mutant in mutants_of(exercise.reference):
        if code in seen:
            continue
        seen.add(code)
        verdict = examined(exercise, mutant, 7)
        raising += verdict.state == "error"
        if verdict.right:
            passing.append(code)
    return len(seen), raising, passing


def test_mutants_are_rejected():
    total = raised = 0
    unexpected, equivalent = [], []
    for exercise in EXERCISES:
        count, raising, passing = survivors(exercise)
        total, raised = total + count, raised + raising
        for code in passing:
            known = any(n == exercise.number and line in code for n, line in EQUIVALENT)
            (equivalent if known else unexpected).append(f"{exercise.number}\n{code}")
    print(f"{total} mutants, {raised} raised, {len(equivalent)} equivalent, {len(unexpected)} passed")
    assert not unexpected, "\n\n".join(unexpected)
    assert total - raised - len(equivalent) >= 100
    assert len(equivalent) == len(EQUIVALENT), "a mutant listed as equivalent is rejected, or no longer made"
