"""check, as a learner meets it: each kind of answer gets the sentence that helps."""

import json
import sys

import pytest
import torch

from course_lib.exercises import check
from course_lib.exercises import check as check_function
from course_lib.exercises.check import draw, examine
from course_lib.exercises.exercise import Exercise, find, target
from course_lib.exercises.verdict import shown


def stub(*arguments): ...


@pytest.fixture(autouse=True)
def file(tmp_path, monkeypatch):
    path = tmp_path / "progress.json"
    monkeypatch.setenv("ATTENTION_COURSE_PROGRESS", str(path))
    return path


def test_stub_is_not_written_yet_in_one_calm_line(file):
    verdict = check("3.1", stub)
    assert repr(verdict) == "3.1 · not written yet: it returns None."
    assert verdict._repr_html_() is None and not verdict.right and not file.exists()


def documented(scores):
    """What it is to do."""
    ...


def passed(scores):
    """What it is to do."""
    pass


def bare_pass(scores):
    pass


@pytest.mark.parametrize("answer", [documented, passed, bare_pass, lambda scores: None])
def test_every_empty_body_is_a_stub(answer):
    assert check("3.1", answer).state == "unwritten"


def forgotten(scores):
    scores.softmax(dim=-1)


def printed(scores):
    """What it is to do."""
    print(scores.softmax(dim=-1))


def without_source():
    space = {}
    exec("def answer(scores):\n    weights = scores.softmax(dim=-1)", space)
    return space["answer"]


@pytest.mark.parametrize("answer", [forgotten, printed, without_source()])
def test_forgotten_return_is_not_called_unwritten(answer):
    verdict = check("3.1", answer)
    assert verdict.state == "wrong"
    assert "it returns None: is a `return` missing? (print shows" in repr(verdict)


def test_forgotten_return_of_a_model_is_not_called_unwritten():
    def no_model():
        torch.nn.Linear(2, 2)

    options = {"make_signals": None, "parameters": 1, "error": 1.0}
    assert "is a `return` missing?" in repr(check("3.6", no_model, **options))
    assert check("3.6", stub, **options).state == "unwritten"


def test_right_answer_says_what_it_is_good_for_and_is_noted(file):
    verdict = check("3.1", lambda scores: scores.softmax(dim=-1))
    assert verdict.right and repr(verdict).startswith("✓ 3.1 · Each row is a distribution")
    assert "✓" in verdict._repr_html_()
    assert list(json.loads(file.read_text())["solved"]) == ["3.1"]


def test_known_mistake_is_named_with_property_input_and_difference(file):
    verdict = check("3.1", lambda scores: scores.softmax(dim=-2))
    text, page = repr(verdict), verdict._repr_html_()
    assert "Softmax over the queries. Your weights sum to one down the columns" in text
    assert "Tried: a single key: its weight is 1." in text
    assert "numbers differ by more than" in text and "scores = tensor([[[" in text
    assert "data-attention-view" in page and "<code>dim=-1</code>" in page
    assert not file.exists()


def test_unknown_mistake_gets_property_and_difference():
    verdict = check("3.1", lambda scores: scores.softmax(dim=-1) + 0.25)
    assert verdict.state == "wrong" and verdict.mistake is None and verdict.view is not None


@pytest.mark.parametrize(
    "answer",
    [
        lambda scores: torch.einsum("bqk,bq->bqk", scores.exp(), 1 / scores.exp().sum(-1)),
        lambda scores: torch.stack([torch.stack([row.softmax(0) for row in rows]) for rows in scores]),
        lambda scores: scores.double().softmax(dim=2),
        lambda scores: (scores.softmax(dim=-1), scores),
        lambda scores: scores.softmax(dim=-1).numpy(),
        lambda scores: scores.softmax(dim=-1).tolist(),
        torch.nn.Softmax(dim=-1),
    ],
)
def test_any_right_way_is_accepted(answer):
    assert check("3.1", answer).right


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_right_and_its_mistakes_are_named(dtype):
    for _ in range(20):
        assert check("3.1", lambda scores: scores.to(dtype).softmax(dim=-1)).right
        assert check("3.4", lambda *given: find("3.4").reference(*(part.to(dtype) for part in given))).right
        verdict = check("3.1", lambda scores: scores.to(dtype).softmax(dim=-2))
        assert verdict.mistake and verdict.mistake.name == "softmax over the queries", verdict
    text = repr(check("3.1", lambda scores: scores.to(dtype).softmax(dim=-1) + 0.1))
    assert "in half precision. Does it come out right in float32?" in text


def test_known_mistake_that_raises_is_named_at_its_line():
    def attention(query, key, value, mask):
        scores = query @ key / query.shape[-1] ** 0.5
        return scores.softmax(dim=-1) @ value

    verdict = check("3.3", attention)
    text = repr(verdict)
    assert verdict.state == "error" and verdict.mistake.name == "the keys are not transposed"
    assert "it raised RuntimeError" in text and "query @ key / query" in text and "The keys are not" in text
    assert check("3.3", lambda query, key, value, mask: query @ value).mistake is None


def test_sums_without_their_axis_are_named_though_only_some_inputs_raise():
    verdict = check("3.1", lambda scores: scores.exp() / scores.exp().sum(dim=-1))
    assert verdict.mistake.name == "the sums lost their axis" and "keepdim=True" in repr(verdict)
    assert check("3.1", lambda scores: scores.exp() / scores.exp().sum(-1, keepdim=True)).right


def test_a_check_leaves_the_number_of_threads_as_it_was():
    threads, seen = torch.get_num_threads(), []

    def answer(scores):
        seen.append(torch.get_num_threads())
        return scores.softmax(dim=-1)

    torch.set_num_threads(2)
    try:
        check("3.1", answer)
        assert set(seen) == {1} and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)


def test_given_bug_is_not_named_but_said_to_be_unmended():
    verdict = check("3.4", find("3.4").mistakes[0].make)
    assert verdict.state == "as given" and verdict._repr_html_() is None
    assert repr(verdict) == "3.4 · not mended yet: it does what it did. Tried: width 4."


def test_input_changed_in_place_is_reported_though_the_result_is_right():
    def softmax(scores):
        scores -= scores.amax(dim=-1, keepdim=True)
        return scores.softmax(dim=-1)

    verdict = check("3.1", softmax)
    assert verdict.state == "changed" and "`scores` in place" in repr(verdict)
    assert "<code>scores</code> in place" in verdict._repr_html_()


def test_error_is_shown_at_the_learners_line():
    def attention(scores):
        weights = scores.softmax(dim=-1)
        return weights @ weights.softmax(dim=7)

    text = repr(check("3.1", attention))
    assert "it raised IndexError: Dimension out of range" in text
    assert "in attention, line" in text and "weights.softmax(dim=7)" in text
    assert "attempt.py" not in text and "_comparable" not in text


def test_wrong_arguments_are_shown_as_the_check_gives_them():
    text = repr(check("3.3", lambda query, key: query))
    assert "TypeError" in text and "check calls it with (query, key, value, mask)" in text


def test_endless_loop_is_ended_and_its_line_shown():
    def weights(scores):
        while True:
            scores = scores + 1

    cases = draw(find("3.1"), torch.Generator().manual_seed(0))
    verdict = examine(find("3.1"), weights, cases, seconds=0.3)
    text = repr(verdict)
    assert verdict.state == "endless" and "ended after 0.3 seconds" in text and "in weights, line" in text


def test_result_forgotten_in_one_branch_is_no_stub():
    def residual(x, part, norm, norm_first):
        if norm_first:
            return x + part(norm(x))

    verdict = check("6.1", residual)
    assert verdict.state == "wrong" and "is a return missing?" in repr(verdict)


def test_no_gradient_is_said_in_words():
    right = find("3.3").reference
    text = repr(check("3.3", lambda query, key, value, mask: right(query, key, value, mask).detach()))
    assert "No gradient can flow back" in text


def scaled_scores(query, key):
    return query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5


def weights_changed_by_operator(query, key, value, mask):
    weights = (scaled_scores(query, key) - 1e4 * ~mask).softmax(dim=-1)
    weights *= mask
    return weights @ value


def weights_changed_by_index(query, key, value, mask):
    weights = (scaled_scores(query, key) - 1e4 * ~mask).softmax(dim=-1)
    weights[~mask] = 0
    return weights @ value


def weights_made_anew(query, key, value, mask):
    weights = (scaled_scores(query, key) - 1e4 * ~mask).softmax(dim=-1)
    weights = weights * mask
    return weights @ value


@pytest.mark.parametrize("answer", [weights_changed_by_operator, weights_changed_by_index])
def test_weights_changed_in_place_are_a_verdict(answer):
    verdict = check("3.3", answer)
    assert verdict.state == "wrong"
    assert "not its gradients. You change a result in place" in repr(verdict)
    assert check("3.3", weights_made_anew).right


@pytest.mark.parametrize("low", [20, 25, 30, 40, 50])
def test_number_that_is_not_low_enough_is_always_refused_and_named(low):
    def answer(query, key, value, mask):
        return ((scaled_scores(query, key) - low * ~mask).softmax(dim=-1) * mask) @ value

    for _ in range(20):
        verdict = check("3.3", answer)
        assert verdict.mistake and verdict.mistake.name == "not low enough", verdict
    assert "Not low enough. Your number is smaller" in repr(verdict)


@pytest.mark.parametrize("low", [200, 1e3, 1e4, 1e9])
def test_number_that_is_low_enough_is_accepted(low):
    def answer(query, key, value, mask):
        return ((scaled_scores(query, key) - low * ~mask).softmax(dim=-1) * mask) @ value

    assert all(check("3.3", answer).right for _ in range(20))


def test_right_output_with_a_wrong_gradient_says_which():
    right = find("3.3").reference

    def weights_cut_off(query, key, value, mask):
        weights = (scaled_scores(query, key) - 1e4 * ~mask).softmax(dim=-1).detach() * mask
        return weights @ value

    def key_halved(query, key, value, mask):
        return right(query, (key + key.detach()) / 2, value, mask)

    assert "The output is right, but no gradient reaches `query`: were the" in repr(
        check("3.3", weights_cut_off)
    )
    assert "The output is right; the gradient of `key` is not: " in repr(check("3.3", key_halved))
    assert "The output is right" not in repr(check("3.3", lambda *given: right(*given) + 1))


def test_input_that_needs_a_gradient_and_is_changed_in_place_is_named():
    def query_divided(query, key, value, mask):
        query /= query.shape[-1] ** 0.5
        return (query @ key.T).softmax(dim=-1) @ value

    text = repr(check("3.3", query_divided))
    assert "It changes `query` in place" in text and "in query_divided, line" in text
    assert "leaf Variable" not in text and "`key` in place" not in text


def signals(count, generator):
    inputs = torch.randn(count, 1, 7, generator=generator)
    centre = torch.randint(7, (count, 4), generator=generator)
    return inputs, inputs, centre, centre % 2, inputs[:, 0].gather(1, centre)


SIGNALS = {"make_signals": signals, "parameters": 0, "error": 1e-6}


@pytest.mark.parametrize("wrap", [lambda model: model, lambda model: (model, 0.1)])
def test_model_is_taken_from_a_tuple_and_measured_in_eval(wrap):
    # In training, dropout would zero nearly all outputs.
    verdict = check("3.6", lambda: wrap(torch.nn.Dropout(0.99).train()), **SIGNALS)
    assert verdict.right, verdict


def test_training_without_an_end_is_ended_and_the_limit_said(monkeypatch):
    monkeypatch.setattr(sys.modules["course_lib.exercises.check"], "TARGET_SECONDS", 0.6)

    def train_for_ever():
        model = torch.nn.Linear(7, 7)
        optimizer = torch.optim.Adam(model.parameters())
        while True:
            optimizer.zero_grad()
            model(torch.randn(3, 7)).square().mean().backward()
            optimizer.step()

    verdict = check("3.6", train_for_ever, **SIGNALS)
    text = repr(verdict)
    assert verdict.state == "endless" and "ended after 0.01 minutes, the time limit" in text
    assert "in train_for_ever, line" in text


def test_model_in_place_of_the_function_is_said_in_words():
    with pytest.raises(TypeError, match="the function itself, not the model"):
        check("3.6", torch.nn.Linear(7, 7), **SIGNALS)


def test_error_of_measuring_tells_the_shapes():
    text = repr(check("3.6", lambda: torch.nn.Linear(5, 7), **SIGNALS))
    assert "it raised RuntimeError" in text and "your model on numbers of shape (1000, 1, 7)." in text
    text = repr(check("3.6", lambda: torch.nn.Linear(7, 2), **SIGNALS))
    assert "It returned numbers of shape (1000, 1, 2)." in text
    assert "got a tuple" in repr(check("3.6", lambda: (3, 4), **SIGNALS))


def test_mask_to_be_added_is_named_and_not_made_boolean():
    def added(num_queries, num_keys):
        allowed = find("3.2").reference(num_queries, num_keys)
        return torch.zeros(allowed.shape).masked_fill(~allowed, -torch.inf)

    text = repr(check("3.2", added))
    assert "A mask to be added." in text and "return the comparison itself" in text and ".bool()" not in text
    assert ".bool()" in repr(check("3.2", lambda *counts: find("3.2").reference(*counts).int()))


def test_rows_of_a_tensor_stand_one_below_another():
    lines = shown(["x"], [torch.tensor([[1.5, 2.5], [3.5, 4.5]])]).splitlines()
    assert lines == ["x = tensor([[1.5, 2.5],", "            [3.5, 4.5]])"]


def test_pairs_of_numbers_are_shown_whole_and_without_digits_that_say_nothing():
    case = next(case for case in draw(find("7.2"), torch.Generator()) if case.what == "a single pair")
    wrong = examine(find("7.2"), lambda pieces: (7, 9), [case])
    ((pair, _),) = case.arguments[0].items()
    assert f"It returned (7, 9); expected is {pair}." in repr(wrong)
    assert "It returned 6; expected is 6.283185307." in repr(check("5.1", lambda d_model, base=1e4: 6))


def test_right_result_in_a_later_place_is_pointed_out():
    right = find("3.3").reference

    def weights_first(query, key, value, mask):
        return scaled_scores(query, key).softmax(dim=-1), right(query, key, value, mask)

    def both_wrong(query, key, value, mask):
        return scaled_scores(query, key).softmax(dim=-1), 2 * right(query, key, value, mask)

    words = "The second of your results is the right one: return the output first."
    assert words in repr(check("3.3", weights_first))
    assert "of your results is the right one" not in repr(check("3.3", both_wrong))


class Backward(torch.autograd.Function):
    """The right output, with a backward pass that raises what it is told to."""

    @staticmethod
    def forward(ctx, output, error):
        ctx.error = error
        return output.clone()

    @staticmethod
    def backward(ctx, gradient):
        raise ctx.error


@pytest.mark.parametrize("error", [ValueError("mine"), RuntimeError("mine"), KeyError("mine")])
def test_error_of_a_reading_is_a_verdict(error):
    right = find("3.3").reference
    verdict = check("3.3", lambda *given: Backward.apply(right(*given), error))
    assert verdict.state == "wrong" and "mine" in repr(verdict)


def test_result_that_cannot_be_made_numbers_is_a_verdict():
    assert check("3.1", lambda scores: [10**400]).state == "wrong"
    assert check("3.1", lambda scores: scores.softmax(dim=-1).to_sparse()).state in ("wrong", "right")


def test_exit_in_an_answer_is_an_error_of_the_answer():
    def leaves(scores):
        raise SystemExit(3)

    assert "it raised SystemExit: 3" in repr(check("3.1", leaves))


def test_checks_are_drawn_anew():
    drawn = []

    def remember(scores):
        drawn.append(scores)
        return scores.softmax(dim=-1)

    assert check("3.1", remember).right
    first = drawn.copy()
    drawn.clear()
    assert check("3.1", remember).right
    assert all(not torch.equal(a, b) for a, b in zip(first, drawn, strict=True))


def test_answers_that_depend_on_the_input_by_heart_fail():
    answers = [find("3.1").reference(*arguments) for _, arguments in find("3.1").inputs(torch.Generator())]
    by_heart = iter(answers)
    assert not check("3.1", lambda scores: next(by_heart)).right


def test_hostile_text_stays_text():
    def bad(scores):
        raise ValueError("<script>alert(1)</script> `x")

    verdict = check("3.1", bad)
    assert "<script>alert" not in verdict._repr_html_() and "&lt;script&gt;" in verdict._repr_html_()


@pytest.mark.parametrize(
    "number, answer, error, words",
    [
        (3.1, stub, TypeError, "in quotes"),
        ("3.99", stub, ValueError, "chapter 3 has 3.1, 3.2"),
        ("99.1", stub, ValueError, "the chapters are 1, 2"),
        ("three", stub, ValueError, "there is no exercise 'three'"),
        ("../03", stub, ValueError, "there is no exercise"),
        ("3.1", torch.ones(3), TypeError, "the function itself"),
        ("3.1", None, TypeError, "None: was it called"),
    ],
)
def test_wrong_calls_are_said_in_words(number, answer, error, words):
    with pytest.raises(error, match=words):
        check(number, answer)


def test_options_that_do_not_belong_are_named():
    with pytest.raises(TypeError, match="without options, got colour"):
        check("3.1", stub, colour="red")
    with pytest.raises(TypeError, match="parameters"):
        check("2.6", stub)


def test_two_exercises_of_one_number_are_refused():
    find("1.6")
    with pytest.raises(ValueError, match="stands there twice"):
        target("1.6", "x")(lambda answer, generator: [])


def test_check_is_the_function():
    assert check_function is check and isinstance(find("3.1"), Exercise)
