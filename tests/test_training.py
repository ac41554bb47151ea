"""The training loop."""

import math
from types import SimpleNamespace

import nbformat
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from course_lib import training
from course_lib.models.seq2seq import Seq2Seq, Seq2SeqConfig
from course_lib.training import (
    NonFiniteLossError,
    PairBatches,
    fit,
    learning_rate_factor,
    mean_loss,
    translation_loss,
    warmup_schedule,
)
from notebooks import build
from tests.bad_calls import assert_refused, each_bad_call


def regression(seed=0, rows=64):
    """A line to learn: batches of (x, y), and a loss in fit's form."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, 3, generator=generator)
    y = x @ torch.tensor([[1.0], [-2.0], [0.5]]) + 0.3
    return list(zip(x.split(16), y.split(16), strict=True))


def squared_error(model, batch):
    x, y = batch
    return F.mse_loss(model(x), y), len(x)


def make_line():
    torch.manual_seed(0)
    return nn.Linear(3, 1)


def weights_of(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def test_fit_learns_a_line_and_records_each_step():
    model, batches = make_line(), regression()
    history = fit(model, batches, squared_error, epochs=100, learning_rate=0.1, progress=False)
    assert history.losses[0] > 1 and mean_loss(model, batches, squared_error) < 1e-3
    assert len(history.losses) == len(history.learning_rates) == len(history.seconds) == 400
    assert history.tokens == [16] * 400
    assert history.seconds == sorted(history.seconds)
    assert history.best_step == 400 and not history.interrupted and not model.training


def test_one_step_of_fit_is_one_step_of_adamw_with_clipping():
    model, by_hand, batches = make_line(), make_line(), regression()
    fit(
        model,
        batches,
        squared_error,
        steps=1,
        learning_rate=0.1,
        weight_decay=0.5,
        max_gradient_norm=0.01,
        warmup=0.0,
        decay="constant",
        progress=False,
    )
    optimizer = torch.optim.AdamW(by_hand.parameters(), lr=0.1, weight_decay=0.5)
    squared_error(by_hand, batches[0])[0].backward()
    nn.utils.clip_grad_norm_(by_hand.parameters(), 0.01)
    optimizer.step()
    torch.testing.assert_close(model.state_dict(), by_hand.state_dict())


@pytest.mark.parametrize(
    ("decay", "halfway"), [("linear", 0.5), ("cosine", 0.5 * (1 + math.cos(math.pi / 2))), ("constant", 1.0)]
)
def test_learning_rate_rises_then_falls(decay, halfway):
    assert learning_rate_factor(0.1, 0.2, decay) == pytest.approx(0.5)
    assert learning_rate_factor(0.2, 0.2, decay) == pytest.approx(1.0)
    assert learning_rate_factor(0.6, 0.2, decay) == pytest.approx(halfway)
    assert learning_rate_factor(1.0, 0.2, decay) == pytest.approx(1.0 if decay == "constant" else 0.0)


def test_the_learning_rate_follows_the_steps():
    history = fit(
        make_line(), regression(), squared_error, steps=10, learning_rate=0.1, warmup=0.2, progress=False
    )
    expected = [0.025, 0.075] + [0.1 * (1 - (n + 0.5 - 2) / 8) for n in range(2, 10)]
    assert history.learning_rates == pytest.approx(expected)


def test_the_papers_schedule_by_hand():
    assert warmup_schedule(4000, 512) == pytest.approx(1 / math.sqrt(512 * 4000))  # the peak, about 7e-4
    assert warmup_schedule(1, 512) == pytest.approx(warmup_schedule(4000, 512) / 4000)
    assert warmup_schedule(2000, 512) == pytest.approx(warmup_schedule(4000, 512) / 2)
    assert warmup_schedule(16000, 512) == pytest.approx(warmup_schedule(4000, 512) / 2)
    for wrong in ({"step": 0}, {"d_model": 0}, {"warmup_steps": 0}):
        with pytest.raises(ValueError, match=f"{next(iter(wrong))} is 0"):
            warmup_schedule(**({"step": 1, "d_model": 4} | wrong))


def test_a_schedule_gives_the_rate_of_each_step():
    def schedule(step):
        return warmup_schedule(step, d_model=16, warmup_steps=4)

    history = fit(make_line(), regression(), squared_error, steps=9, schedule=schedule, progress=False)
    assert history.learning_rates == pytest.approx([schedule(step) for step in range(1, 10)])
    assert history.learning_rates[3] == max(history.learning_rates)


def test_budgets_stop_training():
    def steps(**budget):
        return len(fit(make_line(), regression(), squared_error, progress=False, **budget).losses)

    assert steps(steps=7) == 7
    assert steps(epochs=3) == 12
    assert steps(epochs=0.5) == 2
    assert steps(epochs=3, steps=5) == 5
    assert steps(seconds=60, steps=3) == 3


def test_a_budget_of_seconds_stops_and_brings_the_learning_rate_down(monkeypatch):
    """By a clock that the loss function moves on: each step takes a quarter of a second."""
    now = 1000.0

    def slow(model, batch):
        nonlocal now
        now += 0.25
        return squared_error(model, batch)

    monkeypatch.setattr(training, "time", SimpleNamespace(perf_counter=lambda: now))
    history = fit(make_line(), regression(), slow, seconds=2, learning_rate=0.1, warmup=0.0, progress=False)
    assert history.seconds == [0.25 * step for step in range(1, 9)]
    assert history.learning_rates == pytest.approx([0.1 * (1 - step / 8) for step in range(8)])


def test_the_best_weights_by_validation_come_back():
    batches = regression()
    validation = regression(seed=1)
    seen = []

    class Spy(list):
        """Remembers the weights at each validation."""

        def __iter__(self):
            seen.append(weights_of(model))
            return super().__iter__()

    model = make_line()
    # A learning rate this high overshoots, so that the last epoch is not the best.
    history = fit(
        model,
        batches,
        squared_error,
        epochs=7,
        validation=Spy(validation),
        learning_rate=1.5,
        warmup=0.0,
        decay="constant",
        progress=False,
    )
    assert history.validation_steps == [4, 8, 12, 16, 20, 24, 28]
    best = min(range(7), key=lambda i: history.validation_losses[i])
    assert best != 6
    assert history.best_step == history.validation_steps[best]
    torch.testing.assert_close(weights_of(model), seen[best], atol=0, rtol=0)
    assert mean_loss(model, validation, squared_error) == pytest.approx(history.validation_losses[best])
    with pytest.raises(AssertionError):
        torch.testing.assert_close(weights_of(model), seen[6])


def test_validation_is_also_done_when_training_ends_within_an_epoch():
    history = fit(make_line(), regression(), squared_error, steps=6, validation=regression(1), progress=False)
    assert history.validation_steps == [4, 6]


def test_validation_runs_in_eval_mode_without_gradients_and_training_goes_on_in_training_mode():
    modes = []

    def loss_fn(model, batch):
        modes.append((model.training, torch.is_grad_enabled()))
        return squared_error(model, batch)

    model = make_line().eval()  # as an earlier fit has left it
    fit(model, regression(), loss_fn, epochs=2, validation=regression(1)[:1], progress=False)
    assert modes == ([(True, True)] * 4 + [(False, False)]) * 2


def test_mean_loss_weighs_each_batch_by_its_count():
    def given(model, batch):
        return torch.tensor(batch[0]), batch[1]

    assert mean_loss(make_line(), [(1.0, 3), (5.0, 1)], given) == pytest.approx(2.0)
    with pytest.raises(ValueError, match="hold no tokens"):
        mean_loss(make_line(), [(1.0, 0)], given)


@pytest.mark.parametrize("with_validation", [False, True])
def test_ctrl_c_keeps_what_was_learned(with_validation):
    calls = 0

    def interrupted_loss(model, batch):
        nonlocal calls
        calls += model.training
        if calls == 7:
            calls += 1
            raise KeyboardInterrupt
        return squared_error(model, batch)

    model, reference = make_line(), make_line()
    validation = regression(1) if with_validation else None
    options = {"steps": 100, "learning_rate": 0.1, "progress": False}
    history = fit(model, regression(), interrupted_loss, validation=validation, **options)
    assert history.interrupted and len(history.losses) == history.best_step == 6
    assert history.validation_steps == ([4, 6] if with_validation else [])
    assert not model.training

    # The same six steps without an interruption.
    six = 0

    def counted(model, batch):
        nonlocal six
        six += 1
        if six == 7:
            raise StopIteration
        return squared_error(model, batch)

    with pytest.raises(StopIteration):
        fit(reference, regression(), counted, **options)
    torch.testing.assert_close(model.state_dict(), reference.state_dict(), atol=0, rtol=0)


@pytest.mark.parametrize("steps_before", [0, 4])
def test_ctrl_c_in_a_validation_keeps_what_was_learned(steps_before):
    """The first validation counts if there was one; the second is cut off, and its weights are not judged."""
    model, reference, seen = make_line(), make_line(), []

    class Interrupted(list):
        def __iter__(self):
            seen.append(weights_of(model))
            if len(history_of) == steps_before + 4:
                raise KeyboardInterrupt
            return super().__iter__()

    history_of = []

    def counted(model, batch):
        history_of.extend([batch] * model.training)
        return squared_error(model, batch)

    options = {"steps": 100, "learning_rate": 0.1, "warmup": 0.0, "decay": "constant", "progress": False}
    history = fit(model, regression(), counted, validation=Interrupted(regression(1)), **options)
    assert history.interrupted and not model.training
    assert len(history.losses) == steps_before + 4 and history.best_step == 4
    assert history.validation_steps == [4][: steps_before // 4]
    fit(reference, regression(), squared_error, **options | {"steps": 4})
    torch.testing.assert_close(weights_of(model), weights_of(reference), atol=0, rtol=0)


def test_a_second_ctrl_c_in_the_validation_after_the_first_still_returns():
    def interrupted(model, batch):
        if not model.training or len(done) == 6:
            raise KeyboardInterrupt
        done.append(batch)
        return squared_error(model, batch)

    done = []
    history = fit(
        make_line(), regression() * 2, interrupted, steps=100, validation=regression(1), progress=False
    )
    assert history.interrupted and len(history.losses) == history.best_step == 6
    assert history.validation_steps == []


def test_an_error_gives_the_best_weights_back_too():
    model, reference = make_line(), make_line()
    options = {"learning_rate": 0.01, "decay": "constant", "warmup": 0.0, "progress": False}
    calls = 0

    def broken(model, batch):
        nonlocal calls
        calls += model.training
        if calls == 7:
            raise RuntimeError("out of memory")
        return squared_error(model, batch)

    with pytest.raises(RuntimeError, match="out of memory"):
        fit(model, regression(), broken, steps=9, validation=regression(1), **options)
    fit(reference, regression(), squared_error, steps=4, **options)
    torch.testing.assert_close(model.state_dict(), reference.state_dict(), atol=0, rtol=0)
    assert not model.training


def test_a_mean_loss_that_fails_leaves_the_mode_as_it_was():
    def broken(model, batch):
        raise RuntimeError("out of memory")

    model = make_line().train()
    with pytest.raises(RuntimeError, match="out of memory"):
        mean_loss(model, regression(), broken)
    assert model.training


def break_at(step, broken_loss):
    """A loss function that is right but for one step."""
    calls = 0

    def loss_fn(model, batch):
        nonlocal calls
        calls += 1
        return (broken_loss(model, batch) if calls == step + 1 else squared_error(model, batch)[0]), 1

    return loss_fn


@pytest.mark.parametrize(
    ("broken_loss", "message"),
    [
        (
            lambda model, batch: (model(batch[0]) * 0).sum() / 0,
            "the loss of step 5 is nan; .*masked everywhere",
        ),
        (lambda model, batch: -(model(batch[0]) * 0).log().sum(), "the loss of step 5 is inf; .*log of zero"),
        (lambda model, batch: (model(batch[0]) * 0).sum().sqrt(), "the gradient of step 5 is nan; .*slope"),
    ],
)
def test_a_loss_that_is_not_finite_names_step_and_cause_and_spares_the_weights(broken_loss, message):
    model, reference = make_line(), make_line()
    options = {"learning_rate": 0.01, "decay": "constant", "warmup": 0.0, "progress": False}
    with pytest.raises(NonFiniteLossError, match=message) as caught:
        fit(model, regression(), break_at(5, broken_loss), steps=9, **options)
    fit(reference, regression(), squared_error, steps=5, **options)
    torch.testing.assert_close(model.state_dict(), reference.state_dict(), atol=0, rtol=0)
    assert len(caught.value.history.losses) == 5


def test_a_loss_that_rose_before_it_overflowed_points_to_the_learning_rate():
    calls = 0

    def rising(model, batch):
        nonlocal calls
        calls += 1
        return squared_error(model, batch)[0] * 1000.0**calls, 1

    with pytest.raises(NonFiniteLossError, match=r"step \d+ is inf; .*rose.*learning rate"):
        fit(make_line(), regression(), rising, steps=50, progress=False)


def test_parameters_that_were_broken_before_are_named():
    model = make_line()
    model.bias.data.fill_(math.nan)
    with pytest.raises(NonFiniteLossError, match="parameter bias was not finite before"):
        fit(model, regression(), squared_error, steps=3, progress=False)


def test_a_validation_loss_that_is_not_finite_stops_training_too():
    validation = [(x, y * math.nan) for x, y in regression(1)]
    with pytest.raises(NonFiniteLossError, match="the validation loss of step 4 is nan"):
        fit(make_line(), regression(), squared_error, epochs=2, validation=validation, progress=False)


def test_after_a_validation_a_loss_that_is_not_finite_leaves_the_best_weights():
    model, reference = make_line(), make_line()
    options = {"learning_rate": 0.01, "decay": "constant", "warmup": 0.0, "progress": False}
    calls = 0

    def broken(model, batch):
        nonlocal calls
        calls += model.training
        loss, tokens = squared_error(model, batch)
        return (loss * math.nan if calls == 7 else loss), tokens

    with pytest.raises(
        NonFiniteLossError, match=r"step 6 is nan.* its parameters of step 4, the best"
    ) as caught:
        fit(model, regression(), broken, steps=9, validation=regression(1), **options)
    fit(reference, regression(), squared_error, steps=4, **options)
    torch.testing.assert_close(model.state_dict(), reference.state_dict(), atol=0, rtol=0)
    assert caught.value.history.best_step == 4


def train(model=None, batches=None, loss_fn=squared_error, **options):
    """fit with something sound in the place of what is left out."""
    options = options or {"steps": 2}
    model, batches = (make_line() if model is None else model), regression() if batches is None else batches
    return fit(model, batches, loss_fn, progress=False, **options)


V, T = ValueError, TypeError
X, Y = torch.ones(5, 3), torch.ones(5, 1)

# The call as text, its error, and what that must say.
BAD_CALLS = [
    ("fit(make_line(), regression(), squared_error)", V, ["does not know when to stop", "steps="]),
    ("train(steps=0)", V, ["steps is 0", "above 0"]),
    ("train(steps=-3)", V, ["steps is -3", "above 0"]),
    ("train(steps=2.5)", V, ["steps is 2.5", "whole number"]),
    ("train(steps=True)", V, ["steps is True", "above 0"]),
    ("train(steps='9')", V, ["steps is '9'", "above 0"]),
    ("train(epochs=0)", V, ["epochs is 0", "above 0"]),
    ("train(epochs=-1)", V, ["epochs is -1", "above 0"]),
    ("train(epochs=math.nan)", V, ["epochs is nan", "above 0"]),
    ("train(epochs=math.inf)", V, ["epochs is inf", "above 0"]),
    ("train(seconds=0)", V, ["seconds is 0", "above 0"]),
    ("train(seconds=-1.5)", V, ["seconds is -1.5", "above 0"]),
    ("train(seconds=math.nan, steps=2)", V, ["seconds is nan", "above 0"]),
    ("train(steps=2, learning_rate=0)", V, ["learning_rate is 0", "above 0"]),
    ("train(steps=2, learning_rate=-0.1)", V, ["learning_rate is -0.1", "above 0"]),
    ("train(steps=2, learning_rate=math.nan)", V, ["learning_rate is nan", "above 0"]),
    ("train(steps=2, learning_rate='fast')", V, ["learning_rate is 'fast'", "above 0"]),
    ("train(steps=2, max_gradient_norm=0)", V, ["max_gradient_norm is 0", "above 0"]),
    ("train(steps=2, max_gradient_norm=None)", V, ["max_gradient_norm is None", "above 0"]),
    ("train(steps=2, weight_decay=-1)", V, ["weight_decay is -1", "at least 0"]),
    ("train(steps=2, warmup=1.5)", V, ["warmup", "from 0 to 1", "1.5"]),
    ("train(steps=2, warmup=-0.1)", V, ["warmup", "from 0 to 1", "-0.1"]),
    ("train(steps=2, warmup=100, decay='constant')", V, ["warmup", "from 0 to 1", "100"]),
    ("train(steps=2, decay='sine')", V, ["decay is 'sine'", "'cosine'"]),
    ("learning_rate_factor(0.5, 0.1, 'sine')", V, ["decay is 'sine'", "'cosine'"]),
    ("learning_rate_factor(-0.5, 0.1, 'linear')", V, ["progress", "from 0 to 1", "-0.5"]),
    ("train(steps=2, autocast=torch.int8)", V, ["autocast is torch.int8", "torch.bfloat16"]),
    ("train(steps=2, autocast='bfloat16')", V, ["autocast is 'bfloat16'", "torch.bfloat16"]),
    # batches
    ("train(batches=[])", V, ["batches holds no batch", "at least one"]),
    ("train(batches=[], epochs=2)", V, ["batches holds no batch", "at least one"]),
    ("train(batches=iter(regression()), epochs=2)", V, ["list_iterator does not tell", "steps="]),
    ("train(batches=(b for b in regression()), epochs=2)", V, ["generator does not tell", "steps="]),
    ("train(batches=iter(regression()), steps=9)", V, ["iterated over again", "as a list"]),
    ("train(batches=iter([]), steps=9)", V, ["an epoch held no batch", "as a list"]),
    ("train(batches=5)", T, ["batches must be", "a list", "got int"]),
    ("train(batches=one_pair())", T, ["batches must be", "PairBatches", "got PairBatch"]),
    ("train(steps=2, validation=[])", V, ["validation holds no batch"]),
    (
        "train(steps=2, validation=iter(regression()))",
        V,
        ["validation is iterated over again", "give a list"],
    ),
    ("train(steps=2, validation=3)", T, ["validation must be", "got int"]),
    ("mean_loss(make_line(), [], squared_error)", V, ["batches holds no batch"]),
    ("mean_loss(make_line(), None, squared_error)", T, ["batches must be", "got NoneType"]),
    # model and loss
    ("fit(regression(), make_line(), squared_error, steps=2)", T, ["model must be an nn.Module", "got list"]),
    ("fit(nn.Linear, regression(), squared_error, steps=2)", T, ["model must be an nn.Module", "got type"]),
    ("train(nn.Tanh())", V, ["Tanh has no parameters"]),
    ("train(make_line().requires_grad_(False))", V, ["the loss has no gradient", "requires_grad"]),
    ("mean_loss(regression(), make_line(), squared_error)", T, ["model must be an nn.Module", "got list"]),
    ("train(loss_fn=nn.MSELoss())", T, ["loss_fn must be a function", "mean loss", "got MSELoss"]),
    ("train(loss_fn=None)", T, ["loss_fn must be a function", "got NoneType"]),
    ("train(loss_fn=lambda m, b: squared_error(m, b)[0])", T, ["two things", "got Tensor"]),
    ("train(loss_fn=lambda m, b: None)", T, ["two things", "got NoneType"]),
    ("train(loss_fn=lambda m, b: (1.0, 2))", T, ["two things", "mean loss as a tensor"]),
    ("train(loss_fn=lambda m, b: (m(X) - Y, 5))", V, ["a mean loss", "(5, 1)", ".mean()"]),
    ("train(loss_fn=lambda m, b: (m(X).sum().long(), 5))", V, ["floating-point", "torch.int64"]),
    ("train(loss_fn=lambda m, b: (m(X).mean().detach(), 5))", V, ["no gradient", ".detach()"]),
    ("train(loss_fn=lambda m, b: (m(X).mean(), 2.5))", T, ["whole number", "2.5"]),
    ("train(loss_fn=lambda m, b: (m(X).mean(), None))", T, ["whole number", "None"]),
    ("without_gradients(train)", V, ["no gradient", "torch.no_grad()"]),
    ("mean_loss(make_line(), regression(), lambda m, b: m(b[0]).mean())", T, ["two things", "got Tensor"]),
]


def one_pair():
    [batch] = PairBatches([[4, 2]], [[1, 5, 2]])
    return batch


def without_gradients(call):
    with torch.no_grad():
        call()


@pytest.mark.usefixtures("unchecked_shapes")
@each_bad_call(BAD_CALLS)
def test_bad_calls_say_what_was_wrong(call, error, words):
    assert_refused(call, error, words, globals(), "training.py")


@pytest.mark.usefixtures("unchecked_shapes")
def test_numbers_of_numpy_and_tensors_are_as_good_as_pythons():
    history = train(steps=np.int64(3), seconds=np.float32(1e6), learning_rate=np.float64(0.1))
    assert len(history.losses) == 3
    counts = train(loss_fn=lambda model, batch: (model(X).mean(), torch.tensor(5))).tokens
    assert counts == [5, 5] and all(type(count) is int for count in counts)


def test_an_endless_stream_can_be_trained_on_by_steps():
    def stream():
        while True:
            yield from regression()

    assert len(train(batches=stream(), steps=11).losses) == 11


def test_fit_never_seeds_and_repeats_with_the_callers_seed():
    def run():
        torch.manual_seed(5)
        model = nn.Sequential(nn.Linear(3, 7), nn.Dropout(0.5), nn.Linear(7, 1))
        return fit(model, regression(), squared_error, steps=9, progress=False).losses

    assert run() == run()
    model, before = make_line(), torch.get_rng_state()
    fit(model, regression(), squared_error, steps=2, progress=False)
    assert torch.equal(torch.get_rng_state(), before)


def test_autocast_computes_in_the_type_asked_for_and_keeps_the_weights():
    types = []

    def loss_fn(model, batch):
        output = model(batch[0])
        types.append(output.dtype)
        return F.mse_loss(output.float(), batch[1]), len(batch[0])

    model = make_line()
    for dtype in (None, torch.bfloat16):
        fit(model, regression(), loss_fn, steps=1, autocast=dtype, progress=False)
    assert types == [torch.float32, torch.bfloat16]
    assert model.weight.dtype == torch.float32


def test_the_bar_is_not_stored_in_a_notebook(capsys):
    fit(make_line(), regression(), squared_error, steps=9, validation=regression(1))
    shown = capsys.readouterr().err
    assert "loss=" in shown
    output = nbformat.v4.new_output("stream", name="stderr", text=shown + "done\n")
    assert build.normalise_output(output).text.strip() == "done"


def test_the_bar_shows_loss_and_tokens_per_second(capsys):
    fit(make_line(), regression(), squared_error, steps=3, validation=regression(1))
    shown = capsys.readouterr().err
    assert "loss=" in shown and "tokens/s=" in shown and "100%" in shown
    fit(make_line(), regression(), squared_error, steps=3, progress=False)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("attention", [True, False])
def test_the_translator_learns_to_reverse(attention):
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(1, 5, (32,), generator=generator).tolist()
    sources = [torch.randint(4, 11, (length,), generator=generator).tolist() for length in lengths]
    targets = [[1, *reversed(source), 2] for source in sources]
    torch.manual_seed(0)
    model = Seq2Seq(Seq2SeqConfig(11, 11, 16, 32, 16, attention=attention))
    batches = PairBatches(sources, targets, batch_size=32, seed=0)
    assert mean_loss(model, batches, translation_loss) > 2
    fit(model, batches, translation_loss, steps=80, learning_rate=2e-2, progress=False)
    assert mean_loss(model, batches, translation_loss) < 0.3
