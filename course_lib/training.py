"""One plain training loop.

batches = PairBatches(sources, targets, batch_size=64, seed=0)
history = fit(model, batches, translation_loss, epochs=5, validation=validation_batches)
"""

import math
import operator
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from tqdm.auto import tqdm

from course_lib.batches import PairBatch, PairBatches, WindowBatches, next_token_loss, translation_loss
from course_lib.checkpoints import load_checkpoint, save_checkpoint

__all__ = [
    "History",
    "NonFiniteLossError",
    "PairBatch",
    "PairBatches",
    "WindowBatches",
    "fit",
    "learning_rate_factor",
    "load_checkpoint",
    "mean_loss",
    "next_token_loss",
    "save_checkpoint",
    "translation_loss",
    "warmup_schedule",
]


@dataclass
class History:
    """What happened in training. Lists with one entry a step, or one a validation.

    losses, learning_rates, seconds, tokens: at each step the training loss, the learning rate, the time
        since the start, and the number of tokens.
    validation_steps, validation_losses: the steps done before each validation, and the mean loss it found.
    best_step: how many steps the weights that the model is left with were trained for.
    interrupted: whether Ctrl-C ended the training.
    """

    losses: list[float] = field(default_factory=list)
    learning_rates: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    validation_steps: list[int] = field(default_factory=list)
    validation_losses: list[float] = field(default_factory=list)
    best_step: int = 0
    interrupted: bool = False


# It ends in brackets, as tqdm's own does: notebooks/build.py knows a progress bar by them.
BAR_FORMAT = "{percentage:3.0f}%|{bar}| [{elapsed}<{remaining}{postfix}]"


class NonFiniteLossError(FloatingPointError):
    """Training met a loss or gradient that is not a number. Its `history` holds the steps before."""

    def __init__(self, message: str, history: History):
        super().__init__(message)
        self.history = history


def learning_rate_factor(progress: float, warmup: float, decay: str) -> float:
    """Give the factor on the learning rate when the share `progress` of the training is done.

    It rises from 0 to 1 during the share `warmup`, then falls to 0 in a straight line ("linear") or half a
    cosine ("cosine"), or stays ("constant").

    Raises ValueError for a share below 0, a warmup that is no share, and any other decay.
    """
    if decay not in ("linear", "cosine", "constant"):
        raise ValueError(f"decay is {decay!r}; choose 'linear', 'cosine' or 'constant'")
    if not (isinstance(warmup, Real) and 0 <= warmup <= 1):
        raise ValueError(f"warmup is a share of the training, from 0 to 1, got {warmup!r}")
    if not progress >= 0:
        raise ValueError(f"progress is the share of the training that is done, from 0 to 1, got {progress}")
    if progress < warmup:
        return progress / warmup
    rest = min(1.0, (progress - warmup) / (1 - warmup)) if warmup < 1 else 1.0
    if decay == "linear":
        return 1 - rest
    if decay == "cosine":
        return 0.5 * (1 + math.cos(math.pi * rest))
    return 1.0


def warmup_schedule(step: int, d_model: int, warmup_steps: int = 4000) -> float:
    """Give the learning rate of a step, counted from 1, in the schedule that the Transformer came with.

        rate = d_model^(-1/2) * min(step^(-1/2), step * warmup_steps^(-3/2))

    It rises in a straight line for warmup_steps, then falls with the inverse root of the step. Give it to fit
    as `schedule=functools.partial(warmup_schedule, d_model=256, warmup_steps=400)`.

    Raises ValueError for a step, d_model or warmup_steps below 1.
    Source: Vaswani et al. 2017, section 5.3, equation 3.
    """
    for name, number in (("step", step), ("d_model", d_model), ("warmup_steps", warmup_steps)):
        if not number >= 1:
            raise ValueError(f"{name} is {number!r}; give a number of at least 1 (steps are counted from 1)")
    return d_model**-0.5 * min(step**-0.5, step * warmup_steps**-1.5)


def fit(
    model: nn.Module,
    batches: Iterable[Any],
    loss_fn: Callable[[nn.Module, Any], tuple[Tensor, int]],
    *,
    epochs: int | float | None = None,
    steps: int | None = None,
    seconds: int | float | None = None,
    validation: Iterable[Any] | None = None,
    learning_rate: float = 1e-3,
    weight_decay: float = 0.0,
    max_gradient_norm: float = 1.0,
    warmup: float = 0.05,
    decay: str = "linear",
    schedule: Callable[[int], float] | None = None,
    autocast: torch.dtype | None = None,
    progress: bool = True,
) -> History:
    """Train a model with AdamW until the first of the given budgets is used up.

    batches: gives the batches of an epoch each time it is iterated over: PairBatches, a list, a DataLoader.
    loss_fn: loss_fn(model, batch) returns the mean loss and the number of tokens (or examples) it is over.
    epochs, steps, seconds: the budgets; give at least one. The learning rate follows the share of it used.
    validation: batches to measure the loss on after each epoch and at the end. The weights with the lowest
        such loss are kept and given back to the model; without it the last ones stay.
    max_gradient_norm: longer gradients are shortened to this length.
    warmup, decay: the learning rate's course, as in learning_rate_factor.
    schedule: gives the learning rate of each step, counted from 1; stands in for the three above.
    autocast: torch.bfloat16 computes matrix products in that type, which some processors do much faster.
    progress: whether to show a bar.

    Ctrl-C ends training early with what was learned, in a validation too. However it ends, also by an error,
    the model is left in eval mode with the best weights by validation, or without validation with the last.
    Dropout draws from torch's global generator, which fit does not seed.
    Raises ValueError for a missing or empty budget and for batches that cannot serve, TypeError for a model
    or loss_fn that is none, and NonFiniteLossError when a loss or gradient is not finite, before the weights
    are touched by it.
    Source: Loshchilov and Hutter 2019 (AdamW).
    """
    _check_model_and_loss(model, loss_fn)
    _check_batches("batches", batches)
    if validation is not None:
        _check_batches("validation", validation, iterated_again=True)
    steps = _count_steps(epochs, steps, seconds, batches)
    _check_above_zero(learning_rate=learning_rate, max_gradient_norm=max_gradient_norm)
    if not (isinstance(weight_decay, Real) and 0 <= weight_decay < math.inf):
        raise ValueError(f"weight_decay is {weight_decay!r}; give a number of at least 0")
    learning_rate_factor(0.0, warmup, decay)  # says what is wrong with them before the training, not in it

    history, best_loss, best_weights = History(), math.inf, None
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=weight_decay, fused=True)
    bar = tqdm(total=1.0, miniters=0, disable=not progress, bar_format=BAR_FORMAT)
    started = time.perf_counter()

    def share_used(steps_done: int | float) -> float:
        by_steps = steps_done / steps if steps is not None else 0.0
        by_seconds = (time.perf_counter() - started) / seconds if seconds is not None else 0.0
        return max(by_steps, by_seconds)

    def train_an_epoch() -> None:
        done = len(history.losses)
        for batch in batches:
            model.train()
            if schedule is not None:
                rate = schedule(done + 1)
                if not isinstance(rate, Real) or not 0 <= rate < math.inf:
                    raise ValueError(
                        f"schedule gave {rate!r} for step {done + 1}; it must be a number from 0 on"
                    )
            else:  # half a step on, so that neither the first step nor the last has a learning rate of zero
                rate = learning_rate * learning_rate_factor(share_used(done + 0.5), warmup, decay)
            for group in optimizer.param_groups:
                group["lr"] = rate

            optimizer.zero_grad()
            with _autocast(model, autocast):
                loss, tokens = _loss_and_count(loss_fn, model, batch)
            if not loss.requires_grad:
                raise ValueError(
                    "the loss has no gradient: compute it from the model's output by operations on tensors "
                    "alone, without .detach(), .item() or torch.no_grad(), and leave some parameter its "
                    "requires_grad"
                )
            _stop_if_not_finite("loss", loss, model, history)
            loss.backward()
            norm = clip_grad_norm_(model.parameters(), max_gradient_norm)
            _stop_if_not_finite("gradient", norm, model, history)
            optimizer.step()

            history.losses.append(loss.item())
            history.learning_rates.append(rate)
            history.tokens.append(tokens)
            history.seconds.append(time.perf_counter() - started)
            done = len(history.losses)
            _show_progress(bar, min(1.0, share_used(done)), history)
            if share_used(done) >= 1:
                return

    def validate() -> None:
        nonlocal best_loss, best_weights
        done = len(history.losses)
        if validation is None or history.validation_steps[-1:] == [done]:
            return
        loss = mean_loss(model, validation, loss_fn, autocast)
        _stop_if_not_finite("validation loss", torch.tensor(loss), model, history)
        history.validation_steps.append(done)
        history.validation_losses.append(loss)
        if loss <= best_loss:
            weights = {name: value.detach().clone() for name, value in model.state_dict().items()}
            best_loss, best_weights, history.best_step = loss, weights, done

    try:
        while share_used(done := len(history.losses)) < 1 and not history.interrupted:
            try:
                train_an_epoch()
            except KeyboardInterrupt:
                history.interrupted = True
            if len(history.losses) == done and not history.interrupted:
                raise ValueError(
                    "an epoch held no batch; give batches that can be iterated over again, as a list"
                )
            validate()
    except KeyboardInterrupt:  # it fell into a validation, whose result is then missing
        history.interrupted = True
    finally:
        bar.close()
        optimizer.zero_grad()
        model.eval()
        if best_weights is None:
            history.best_step = len(history.losses)
        else:
            model.load_state_dict(best_weights)
    return history


@torch.no_grad()
def mean_loss(
    model: nn.Module,
    batches: Iterable[Any],
    loss_fn: Callable[[nn.Module, Any], tuple[Tensor, int]],
    autocast: torch.dtype | None = None,
) -> float:
    """Give the mean loss over all tokens of all batches, with the model in eval mode.

    Raises ValueError if the batches hold no tokens, TypeError for a model or loss_fn that is none.
    """
    _check_model_and_loss(model, loss_fn)
    _check_batches("batches", batches)
    was_training = model.training
    model.eval()
    total, count = 0.0, 0
    try:
        with _autocast(model, autocast):
            for batch in batches:
                loss, tokens = _loss_and_count(loss_fn, model, batch)
                total += loss.item() * tokens
                count += tokens
    finally:
        model.train(was_training)
    if count == 0:
        raise ValueError("there is nothing to measure a mean loss on: the batches hold no tokens")
    return total / count


def _autocast(model: nn.Module, dtype: torch.dtype | None):
    """Compute matrix products in dtype inside the block; with None nothing changes."""
    if dtype is None:
        return nullcontext()
    if dtype not in (torch.bfloat16, torch.float16):
        raise ValueError(f"autocast is {dtype!r}; give torch.bfloat16, torch.float16, or None for no change")
    return torch.autocast(next(model.parameters()).device.type, dtype)


def _show_progress(bar: tqdm, share: float, history: History) -> None:
    """Move the bar, with means over the last 50 steps beside it."""
    before = history.seconds[-51] if len(history.seconds) > 50 else 0.0
    losses, tokens = history.losses[-50:], history.tokens[-50:]
    shown = {
        "loss": f"{sum(losses) / len(losses):.3f}",
        "tokens/s": f"{sum(tokens) / (history.seconds[-1] - before):,.0f}",
    }
    if history.validation_losses:
        shown["validation loss"] = f"{history.validation_losses[-1]:.3f}"
    bar.set_postfix(shown, refresh=False)
    bar.update(share - bar.n)


def _stop_if_not_finite(what: str, value: Tensor, model: nn.Module, history: History) -> None:
    """Raise NonFiniteLossError with the likely cause, unless value is a finite number."""
    if torch.isfinite(value):
        return
    step = len(history.losses)
    broken = [name for name, parameter in model.named_parameters() if not parameter.isfinite().all()]
    if broken and step == 0:
        cause = f"the parameter {broken[0]} was not finite before training began"
    elif broken:
        cause = f"the last step made the parameter {broken[0]} infinite: the learning rate is too high"
    elif step and history.losses[-1] > 2 * min(history.losses):
        cause = (
            f"the loss rose from {min(history.losses):.3g} to {history.losses[-1]:.3g}: the learning "
            f"rate is probably too high; lower it or warm up for longer"
        )
    elif what == "gradient":
        cause = "a function was taken where its slope is infinite, such as a square root or a norm at zero"
    elif torch.isnan(value):
        cause = (
            "probably zero divided by zero: a row that is masked everywhere, or a batch without a real token"
        )
    else:
        cause = (
            "probably the log of zero: work on logits with log_softmax or cross_entropy, not on probabilities"
        )
    left = "The parameters are as before this step."
    if history.validation_losses:
        left = f"The model is given back its parameters of step {history.best_step}, the best by validation."
    raise NonFiniteLossError(
        f"the {what} of step {step} is {value.item()}; {cause}. {left}",
        history,
    )


# ------------------------------------------------------------------------------------------------- the checks


def _check_model_and_loss(model: nn.Module, loss_fn: Callable) -> None:
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be an nn.Module, got {type(model).__name__}")
    if next(model.parameters(), None) is None:
        raise ValueError(f"{type(model).__name__} has no parameters, so there is nothing to train")
    if not callable(loss_fn) or isinstance(loss_fn, nn.Module):
        raise TypeError(
            f"loss_fn must be a function of model and batch that returns (mean loss, number of tokens), such "
            f"as translation_loss; got {type(loss_fn).__name__}"
        )


def _check_batches(name: str, batches: Iterable, iterated_again: bool = False) -> None:
    if isinstance(batches, PairBatch) or not isinstance(batches, Iterable):
        raise TypeError(f"{name} must be a PairBatches, a list or a DataLoader, got {type(batches).__name__}")
    if _length(batches) == 0:
        raise ValueError(f"{name} holds no batch; give at least one")
    if iterated_again and isinstance(batches, Iterator):
        raise ValueError(
            f"{name} is iterated over again and again, and a {type(batches).__name__} can be only once; "
            f"give a list"
        )


def _length(batches: Iterable) -> int | None:
    """The number of batches, or None where they do not know it, as those of a generator."""
    try:
        return len(batches)
    except TypeError:
        return None


def _count_steps(
    epochs: int | float | None, steps: int | None, seconds: int | float | None, batches: Iterable
) -> int | None:
    """The steps that the budgets allow, or None for as many as the seconds do."""
    if epochs is None and steps is None and seconds is None:
        raise ValueError("fit does not know when to stop; give epochs=, steps= or seconds=")
    budgets = {"epochs": epochs, "steps": steps, "seconds": seconds}
    _check_above_zero(**{name: budget for name, budget in budgets.items() if budget is not None})
    if steps is not None and not isinstance(steps, Integral):
        raise ValueError(f"steps is {steps!r}; give a whole number")
    if epochs is None:
        return steps
    if _length(batches) is None:
        raise ValueError(
            f"epochs needs to know the number of batches, and a {type(batches).__name__} does not tell; give "
            f"them as a list, or give steps= or seconds= instead"
        )
    epoch_steps = math.ceil(epochs * _length(batches))
    return epoch_steps if steps is None else min(steps, epoch_steps)


def _check_above_zero(**numbers: int | float) -> None:
    for name, number in numbers.items():
        if not isinstance(number, Real) or isinstance(number, bool) or not 0 < number < math.inf:
            raise ValueError(f"{name} is {number!r}; give a number above 0")


def _loss_and_count(loss_fn: Callable, model: nn.Module, batch: Any) -> tuple[Tensor, int]:
    """Call loss_fn, and check that it gives a mean loss and a count."""
    result = loss_fn(model, batch)
    if not (isinstance(result, tuple) and len(result) == 2 and isinstance(result[0], Tensor)):
        raise TypeError(
            f"loss_fn must return two things, the mean loss as a tensor and the number of tokens, "
            f"got {type(result).__name__}"
        )
    loss, tokens = result
    if loss.numel() != 1 or not loss.is_floating_point():
        raise ValueError(
            f"loss_fn must return a mean loss, one floating-point number, got {loss.dtype} of shape "
            f"{tuple(loss.shape)}; end it with .mean()"
        )
    try:
        count = operator.index(tokens)  # a whole number, of NumPy or a tensor too
    except TypeError:
        raise TypeError(f"loss_fn must count its tokens in a whole number, got {tokens!r}") from None
    if count < 0:
        raise ValueError(f"loss_fn counted {count} tokens; give a whole number of at least 0")
    return loss, count
