"""The training loop, its batches and its checkpoints."""

import math
import os
import time

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
    load_checkpoint,
    mean_loss,
    save_checkpoint,
    translation_loss,
)

# ---------------------------------------------------------------------------------------------- batches


def make_pairs(count, seed=0):
    """Pairs of random length whose first source token is the pair's own number."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(2, 30, (count, 2), generator=generator).tolist()
    return [[i] + [7] * (m - 1) for i, (m, _) in enumerate(lengths)], [[1] + [9] * n for _, n in lengths]


def numbers(batch):
    return batch.source[:, 0].tolist()


def test_every_pair_comes_once_an_epoch_with_its_partner_and_true_lengths():
    sources, targets = make_pairs(211)
    batches = PairBatches(sources, targets, batch_size=13, seed=0, pad_id=5)
    epoch = list(batches)
    assert len(epoch) == len(batches) == 17
    assert sorted(n for batch in epoch for n in numbers(batch)) == list(range(211))
    for batch in epoch:
        for row, n in enumerate(numbers(batch)):
            source, target = batch.source[row].tolist(), batch.target[row].tolist()
            assert source == sources[n] + [5] * (len(source) - len(sources[n]))
            assert target == targets[n] + [5] * (len(target) - len(targets[n]))
            assert batch.source_lengths[row] == len(sources[n])
            assert batch.target_lengths[row] == len(targets[n])


def test_batches_of_like_length_waste_less_on_padding_than_random_ones():
    sources, targets = make_pairs(997)

    def padding(batches):
        return sum((batch.target == 0).sum().item() for batch in batches)

    bucketed = padding(PairBatches(sources, targets, batch_size=16, seed=0))
    order = torch.randperm(997, generator=torch.Generator().manual_seed(0)).tolist()
    random = sum(
        sum(max(len(targets[i]) for i in group) - len(targets[i]) for i in group)
        for group in (order[first : first + 16] for first in range(0, 997, 16))
    )
    assert bucketed < random / 5


def test_same_seed_same_epochs_and_each_epoch_differs():
    pairs = make_pairs(101)

    def epochs(seed):
        batches = PairBatches(*pairs, batch_size=7, seed=seed)
        return [[numbers(batch) for batch in batches] for _ in range(2)]

    first, second = epochs(3)
    assert epochs(3) == [first, second]
    assert first != second
    assert epochs(4)[0] != first


def test_without_a_seed_the_order_is_by_length_and_always_the_same():
    batches = PairBatches(*make_pairs(101), batch_size=7)
    widths = [batch.target.shape[1] for batch in batches]
    assert widths == sorted(widths)
    assert [numbers(batch) for batch in batches] == [numbers(batch) for batch in batches]


def test_shuffling_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    list(PairBatches(*make_pairs(31), batch_size=7, seed=0))
    assert torch.equal(torch.get_rng_state(), before)


def test_batch_errors():
    with pytest.raises(ValueError, match="2 sources for 1 targets"):
        PairBatches([[1], [2]], [[1]])
    with pytest.raises(ValueError, match="0 sources for 0 targets"):
        PairBatches([], [])
    with pytest.raises(ValueError, match="source 1 has no tokens"):
        PairBatches([[1], []], [[1], [2]])
    with pytest.raises(ValueError, match="batch_size is 0"):
        PairBatches([[1]], [[1]], batch_size=0)


# ----------------------------------------------------------------------------------------------- the loss


class ConstantModel(nn.Module):
    """Scores every position by the same trainable logits."""

    def __init__(self, logits):
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(logits))

    def forward(self, source, target, source_lengths):
        return self.logits.expand(*target.shape, -1)


def test_translation_loss_counts_each_real_next_token_once():
    logits = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    [batch] = PairBatches([[4], [4, 5]], [[1, 6, 2], [1, 5, 4, 6, 2]])
    loss, tokens = translation_loss(ConstantModel(logits), batch)
    log_probabilities = torch.tensor(logits).log_softmax(-1)
    wanted = [6, 2, 5, 4, 6, 2]  # all but <bos>, without padding
    assert tokens == 6
    torch.testing.assert_close(loss, -log_probabilities[wanted].mean())


def test_label_smoothing_acts_in_training_mode_only():
    [batch] = PairBatches([[4]], [[1, 6, 2]])
    model = ConstantModel([0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    plain = translation_loss(model, batch)[0]
    smoothed = translation_loss(model, batch, label_smoothing=0.1)[0]
    spread = -model.logits.log_softmax(-1).mean()
    torch.testing.assert_close(smoothed, 0.9 * plain + 0.1 * spread)
    torch.testing.assert_close(translation_loss(model.eval(), batch, label_smoothing=0.1)[0], plain)


# ------------------------------------------------------------------------------------------ the training loop


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


def test_budgets_stop_training():
    def steps(**budget):
        return len(fit(make_line(), regression(), squared_error, progress=False, **budget).losses)

    assert steps(steps=7) == 7
    assert steps(epochs=3) == 12
    assert steps(epochs=0.5) == 2
    assert steps(epochs=3, steps=5) == 5
    assert steps(seconds=60, steps=3) == 3


def test_a_budget_of_seconds_stops_and_brings_the_learning_rate_down():
    def slow(model, batch):
        time.sleep(0.01)
        return squared_error(model, batch)

    history = fit(make_line(), regression(), slow, seconds=0.5, learning_rate=0.1, warmup=0.0, progress=False)
    assert 0.5 <= history.seconds[-1] < 1.5
    assert 3 < len(history.losses) <= 50
    for earlier, rate in zip([0.0, *history.seconds], history.learning_rates, strict=False):
        assert rate == pytest.approx(0.1 * (1 - earlier / 0.5), abs=0.02)


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
    with pytest.raises(ValueError, match="no tokens"):
        mean_loss(make_line(), [], given)


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


def test_fit_errors():
    with pytest.raises(ValueError, match="does not know when to stop"):
        fit(make_line(), regression(), squared_error)
    with pytest.raises(ValueError, match="decay is 'sine'"):
        fit(make_line(), regression(), squared_error, steps=1, decay="sine")
    with pytest.raises(ValueError, match="iterated over again"):
        fit(make_line(), iter(regression()), squared_error, steps=9, progress=False)


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


# ------------------------------------------------------------------------------------------------ checkpoints


def make_translator(seed, **options):
    torch.manual_seed(seed)
    return Seq2Seq(Seq2SeqConfig(13, 11, embedding_size=17, hidden_size=38, attention_size=23, **options))


def test_a_checkpoint_brings_all_weights_back_tied_ones_too(tmp_path):
    saved, loaded = make_translator(0), make_translator(1)
    save_checkpoint(saved, tmp_path / "deep" / "model.safetensors")
    assert not torch.equal(saved.output.weight, loaded.output.weight)
    load_checkpoint(loaded, tmp_path / "deep" / "model.safetensors")
    torch.testing.assert_close(loaded.state_dict(), saved.state_dict(), atol=0, rtol=0)
    assert loaded.output.weight is loaded.target_embedding.weight
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["model.safetensors"]


def test_a_save_that_fails_leaves_the_old_file_and_no_rest(tmp_path, monkeypatch):
    path = tmp_path / "model.safetensors"
    save_checkpoint(make_translator(0), path)
    before = path.read_bytes()

    def fail(weights, filename):
        with open(filename, "wb") as file:
            file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(training, "save_file", fail)
    with pytest.raises(OSError, match="disk full"):
        save_checkpoint(make_translator(1), path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["model.safetensors"]


def test_a_second_save_puts_a_new_file_in_the_old_ones_place(tmp_path):
    path = tmp_path / "model.safetensors"
    save_checkpoint(make_translator(0), path)
    before = path.read_bytes()
    with path.open("rb") as reader:
        save_checkpoint(make_translator(1), path)
        # Written over, the file would change under who is reading it.
        assert reader.read() == before
    assert path.read_bytes() != before


@pytest.mark.parametrize("damage", ["cut short", "empty", "foreign"])
def test_a_damaged_file_is_refused_and_the_model_untouched(tmp_path, damage):
    path, model = tmp_path / "model.safetensors", make_translator(1)
    save_checkpoint(make_translator(0), path)
    content = path.read_bytes()
    path.write_bytes(
        {"cut short": content[:-100], "empty": b"", "foreign": b"PK\x03\x04 a zip file" * 20}[damage]
    )
    before = weights_of(model)
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        load_checkpoint(model, path)
    torch.testing.assert_close(weights_of(model), before, atol=0, rtol=0)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (lambda: make_translator(0, attention=False), r"lacks \['attention"),
        (lambda: make_translator(0, bidirectional=False), "adds|lacks"),
        (lambda: Seq2Seq(Seq2SeqConfig(13, 11, 17, 38, 29)), r"\(29, 38\).*\(23, 38\)"),
        (lambda: make_translator(0).double(), "float64.*float32"),
    ],
)
def test_another_models_checkpoint_is_refused_and_the_model_untouched(tmp_path, other, message):
    save_checkpoint(other(), tmp_path / "model.safetensors")
    model = make_translator(1)
    before = weights_of(model)
    with pytest.raises(ValueError, match=message):
        load_checkpoint(model, tmp_path / "model.safetensors")
    torch.testing.assert_close(weights_of(model), before, atol=0, rtol=0)


def test_a_missing_checkpoint_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no checkpoint"):
        load_checkpoint(make_translator(0), tmp_path / "nothing.safetensors")
