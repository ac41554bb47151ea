"""The exercises as the notebooks have them: stubs are not written yet, solutions are right."""

import re

import pytest

from course_lib.exercises.exercise import chapters, of_chapter
from tests.exercises.cells import check_line, definitions, exercises, run

# What a chapter's exercises need besides its definitions.
WANTED = {
    2: {"data", "source_vocab", "target_vocab"},
    3: {"attentive"},
    4: {"two_heads", "generator", "tables", "test_notes"},
    6: {"generator", "batches"},
    8: {"digits", "digits_to_learn"},
}
# Some solutions train for half a minute and more. Here they take 20 steps, and are only measured.
SHORTENED = {"2.6": "fit", "3.6": "train", "7.8": "train"}

CELLS = [pytest.param(chapter, number, id=number) for chapter in chapters() for number in exercises(chapter)]


@pytest.fixture(scope="module")
def spaces():
    """The namespaces of the chapters, each made once."""
    made = {}

    def space(chapter):
        if chapter not in made:
            made[chapter] = definitions(chapter, WANTED.get(chapter, ()))
            if chapter == 2:
                made[chapter]["attentive"] = made[chapter]["Seq2Seq"](attentive_config(made[chapter]))
            if chapter == 3:
                made[chapter] |= signals(made[chapter]) | {"attentive_error": 0.012}
            if chapter == 7:
                made[chapter] |= random_text(made[chapter]) | {"gpt_loss": 3.4}
        return made[chapter].copy()

    return space


def attentive_config(space):
    return space["Seq2SeqConfig"](len(space["source_vocab"]), len(space["target_vocab"]), 64, 112, 64)


def signals(space):
    names = "test_inputs", "test_targets", "test_centre", "test_kind", "test_height"
    return dict(zip(names, space["make_signals"](20, space["torch"].Generator()), strict=True))


def random_text(space):
    tokens = space["torch"].randint(512, (2000,))
    return {"train_tokens": tokens, "validation": space["WindowBatches"](tokens, 64, batch_size=8)}


@pytest.fixture(autouse=True)
def file(tmp_path, monkeypatch):
    monkeypatch.setenv("ATTENTION_COURSE_PROGRESS", str(tmp_path / "progress.json"))


@pytest.mark.parametrize("chapter", chapters())
def test_notebook_has_the_exercises_of_the_library(chapter):
    assert list(exercises(chapter)) == [task.number for task in of_chapter(chapter)]


@pytest.mark.parametrize("chapter, number", CELLS)
def test_each_has_two_hints_and_a_solution_that_is_explained(chapter, number):
    _, _, text = exercises(chapter)[number]
    summaries = re.findall(r"<details><summary>(.*?)</summary>", text)
    assert summaries[:3] == ["Hint 1", "Hint 2", "Solution"]
    explained = re.search(r"Solution</summary>\n\n```python\n.*?```\n(.*?)</details>", text, re.DOTALL)[1]
    assert len(explained.split()) >= 8


@pytest.mark.parametrize("chapter, number", CELLS)
def test_stub_is_said_not_to_be_written_yet(spaces, chapter, number):
    cell, _, _ = exercises(chapter)[number]
    verdict = run(cell, spaces(chapter))
    assert verdict.number == number and verdict.state in ("unwritten", "as given")
    assert len(repr(verdict).splitlines()) == 1


@pytest.mark.parametrize("chapter, number", CELLS)
def test_solution_is_right(spaces, chapter, number):
    cell, solution, _ = exercises(chapter)[number]
    space = spaces(chapter)
    exec(solution, space)
    if name := SHORTENED.get(number):
        trained = space[name]
        space[name] = lambda *given, steps, **options: trained(*given, steps=20, **options)
    verdict = run(check_line(cell), space)
    if name:
        assert [goal.reached for goal in verdict.goals] == [True, False], verdict
    else:
        assert verdict.right, verdict
