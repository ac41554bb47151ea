"""One plain training loop, the batches it eats, and checkpoints.

batches = PairBatches(sources, targets, batch_size=64, seed=0)
history = fit(model, batches, translation_loss, epochs=5, validation=validation_batches)
"""

import math
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.nn.utils.rnn import pad_sequence
from tqdm.auto import tqdm

# ---------------------------------------------------------------------------------------------- batches


class PairBatch(NamedTuple):
    """Padded sentence pairs, with the number of real tokens of each row."""

    source: Int[Tensor, "batch source"]
    source_lengths: Int[Tensor, " batch"]
    target: Int[Tensor, "batch target"]
    target_lengths: Int[Tensor, " batch"]


class PairBatches:
    """Cut sentence pairs into padded batches of similar length; each pair comes once an epoch.

    sources, targets: token ids of each sentence, with <bos> and <eos> where the model wants them.
    seed: where the shuffling starts. Every epoch is shuffled anew, and the same seed gives the same epochs.
        With None nothing is shuffled: shortest sentences first, as suits validation.

    Shuffled pairs are taken a pool of 50 batches at a time, and each pool is sorted by length before it is
    cut. So little is wasted on padding, while the company a pair keeps still changes from epoch to epoch.
    Raises ValueError for no pairs, unequal numbers of sources and targets, and empty sentences.
    """

    def __init__(
        self,
        sources: Sequence[Sequence[int]],
        targets: Sequence[Sequence[int]],
        batch_size: int = 64,
        seed: int | None = None,
        pad_id: int = 0,
    ):
        if len(sources) != len(targets) or len(sources) == 0:
            raise ValueError(
                f"there are {len(sources)} sources for {len(targets)} targets; each needs its partner"
            )
        for name, sentences in (("source", sources), ("target", targets)):
            empty = [row for row, sentence in enumerate(sentences) if len(sentence) == 0]
            if empty:
                raise ValueError(f"{name} {empty[0]} has no tokens; leave out pairs with an empty sentence")
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; a batch needs at least one pair")
        self.sources, self.targets = sources, targets
        self.batch_size, self.pad_id = batch_size, pad_id
        self.generator = None if seed is None else torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        return math.ceil(len(self.sources) / self.batch_size)

    def __iter__(self) -> Iterator[PairBatch]:
        size, count = self.batch_size, len(self.sources)
        if self.generator is None:
            order, pool = list(range(count)), count
        else:
            order, pool = torch.randperm(count, generator=self.generator).tolist(), 50 * size
        # The last pool's last batch may be small; all others are full.
        groups = []
        for start in range(0, count, pool):
            rows = sorted(
                order[start : start + pool], key=lambda row: (len(self.targets[row]), len(self.sources[row]))
            )
            groups += [rows[first : first + size] for first in range(0, len(rows), size)]
        if self.generator is not None:
            groups = [groups[i] for i in torch.randperm(len(groups), generator=self.generator).tolist()]
        for group in groups:
            source, source_lengths = self._pad([self.sources[row] for row in group])
            target, target_lengths = self._pad([self.targets[row] for row in group])
            yield PairBatch(source, source_lengths, target, target_lengths)

    def _pad(self, sentences: list[Sequence[int]]) -> tuple[Tensor, Tensor]:
        rows = [torch.tensor(sentence) for sentence in sentences]
        lengths = torch.tensor([len(sentence) for sentence in sentences])
        return pad_sequence(rows, batch_first=True, padding_value=self.pad_id), lengths


def translation_loss(
    model: nn.Module, batch: PairBatch, label_smoothing: float = 0.0, pad_id: int = 0
) -> tuple[Float[Tensor, ""], int]:
    """Give the mean cross-entropy of each next target token, and the number of tokens it is a mean over.

        loss = -(1/n) sum_i log p(y_i | y_1 .. y_{i-1}, x)

    batch: its target begins with <bos>, which the model is fed, and ends with <eos>, which it must predict.
    label_smoothing: share of the probability spread over all words. It acts in training mode alone, so that a
        validation loss is the plain cross-entropy, whose exponential is the perplexity.
    Source for label smoothing: Szegedy et al. 2016, section 7.
    """
    logits = model(batch.source, batch.target[:, :-1], batch.source_lengths)
    wanted = batch.target[:, 1:]
    loss = F.cross_entropy(
        logits.flatten(0, 1).float(),
        wanted.flatten(),
        ignore_index=pad_id,
        label_smoothing=label_smoothing if model.training else 0.0,
    )
    return loss, int((wanted != pad_id).sum())


# ----------------------------------------------------------------------------------------- the training loop


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


BAR_FORMAT = "{percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}"


class NonFiniteLossError(FloatingPointError):
    """Training met a loss or gradient that is not a number. Its `history` holds the steps before."""

    def __init__(self, message: str, history: History):
        super().__init__(message)
        self.history = history


def learning_rate_factor(progress: float, warmup: float, decay: str) -> float:
    """Give the factor on the learning rate when the share `progress` of the training is done.

    It rises from 0 to 1 during the share `warmup`, then falls to 0 in a straight line ("linear") or half a
    cosine ("cosine"), or stays ("constant").
    """
    if progress < warmup:
        return progress / warmup
    rest = min(1.0, (progress - warmup) / (1 - warmup)) if warmup < 1 else 1.0
    if decay == "linear":
        return 1 - rest
    if decay == "cosine":
        return 0.5 * (1 + math.cos(math.pi * rest))
    return 1.0


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
    autocast: torch.bfloat16 computes matrix products in that type, which some processors do much faster.
    progress: whether to show a bar.

    Ctrl-C ends training early with what was learned. However it ends, the model is left in eval mode. Dropout
    draws from torch's global generator, which fit does not seed.
    Raises ValueError for a missing budget or no batches, and NonFiniteLossError when a loss or gradient is
    not finite; the parameters are then those from before that step.
    Source: Loshchilov and Hutter 2019 (AdamW).
    """
    if epochs is None and steps is None and seconds is None:
        raise ValueError("fit does not know when to stop; give epochs=, steps= or seconds=")
    if decay not in ("linear", "cosine", "constant"):
        raise ValueError(f"decay is {decay!r}; choose 'linear', 'cosine' or 'constant'")
    if epochs is not None:
        epoch_steps = math.ceil(epochs * len(batches))
        steps = epoch_steps if steps is None else min(steps, epoch_steps)

    history, best_loss, best_weights = History(), math.inf, None
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=weight_decay, fused=True)
    started = time.perf_counter()

    def share_used(steps_done: int | float) -> float:
        by_steps = steps_done / steps if steps is not None else 0.0
        by_seconds = (time.perf_counter() - started) / seconds if seconds is not None else 0.0
        return max(by_steps, by_seconds)

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
            best_loss, history.best_step = loss, done
            best_weights = {name: value.detach().clone() for name, value in model.state_dict().items()}

    bar = tqdm(total=1.0, miniters=0, disable=not progress, bar_format=BAR_FORMAT)
    try:
        done = 0
        while share_used(done) < 1:
            epoch_start = done
            for batch in batches:
                model.train()
                # Half a step on, so that neither the first step nor the last has a learning rate of zero.
                factor = learning_rate_factor(share_used(done + 0.5), warmup, decay)
                for group in optimizer.param_groups:
                    group["lr"] = learning_rate * factor

                optimizer.zero_grad()
                with _autocast(model, autocast):
                    loss, tokens = loss_fn(model, batch)
                _stop_if_not_finite("loss", loss, model, history)
                loss.backward()
                norm = clip_grad_norm_(model.parameters(), max_gradient_norm)
                _stop_if_not_finite("gradient", norm, model, history)
                optimizer.step()

                history.losses.append(loss.item())
                history.learning_rates.append(learning_rate * factor)
                history.tokens.append(tokens)
                history.seconds.append(time.perf_counter() - started)
                done = len(history.losses)
                _show_progress(bar, min(1.0, share_used(done)), history)
                if share_used(done) >= 1:
                    break
            if done == epoch_start:
                raise ValueError(
                    "an epoch held no batch; give batches that can be iterated over again, as a list"
                )
            validate()
    except KeyboardInterrupt:
        history.interrupted = True
        validate()
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

    Raises ValueError if the batches hold no tokens.
    """
    was_training = model.training
    model.eval()
    total, count = 0.0, 0
    with _autocast(model, autocast):
        for batch in batches:
            loss, tokens = loss_fn(model, batch)
            total += loss.item() * tokens
            count += tokens
    model.train(was_training)
    if count == 0:
        raise ValueError("there is nothing to measure a mean loss on: the batches hold no tokens")
    return total / count


def _autocast(model: nn.Module, dtype: torch.dtype | None):
    """Compute matrix products in dtype inside the block; with None nothing changes."""
    device = next(model.parameters()).device.type
    return nullcontext() if dtype is None else torch.autocast(device, dtype)


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
    raise NonFiniteLossError(
        f"the {what} of step {step} is {value.item()}; {cause}. The parameters are as before this step.",
        history,
    )


# ------------------------------------------------------------------------------------------------ checkpoints


def save_checkpoint(model: nn.Module, path: str | os.PathLike) -> None:
    """Write a model's weights to a safetensors file; the file appears whole or not at all."""
    path = Path(path)
    # Clones, since safetensors refuses weights that share memory, as tied embeddings do.
    weights = {name: value.detach().cpu().clone().contiguous() for name, value in model.state_dict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
    os.close(handle)
    try:
        save_file(weights, temporary)
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)


def load_checkpoint(model: nn.Module, path: str | os.PathLike) -> None:
    """Read weights written by save_checkpoint into a model of the same configuration.

    Names, shapes and types are all compared before the model is touched.
    Raises FileNotFoundError, or ValueError for a file that is damaged or belongs to another model.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"there is no checkpoint at {path}; train the model and save_checkpoint it first"
        )
    try:
        with safe_open(path, framework="pt") as file:
            found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (a safe_open cannot be iterated over)
    except SafetensorError as error:
        raise ValueError(
            f"{path} is not a whole safetensors file ({error}); it was cut short or is something else: "
            f"save the checkpoint again"
        ) from error
    expected = model.state_dict()
    missing, unknown = sorted(expected.keys() - found.keys()), sorted(found.keys() - expected.keys())
    if missing or unknown:
        raise ValueError(
            f"{path} belongs to another model: it lacks {missing or 'nothing'} and adds "
            f"{unknown or 'nothing'}; build the model with the configuration it was saved with"
        )
    for name, value in expected.items():
        if found[name].shape != value.shape or found[name].dtype != value.dtype:
            raise ValueError(
                f"{name} is {tuple(found[name].shape)} {found[name].dtype} in {path}, but "
                f"{tuple(value.shape)} {value.dtype} in the model; build the model with the configuration it "
                f"was saved with"
            )
    model.load_state_dict(found)
