"""Batches, and the loss of a model on one: sentence pairs for a translator, windows of a text for a GPT."""

import math
from collections.abc import Iterable, Iterator, Sequence
from numbers import Integral
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence


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
    Raises ValueError for no pairs, unequal numbers of sources and targets, and empty sentences; TypeError for
    sentences that are not numbered.
    """

    def __init__(
        self,
        sources: Sequence[Sequence[int]],
        targets: Sequence[Sequence[int]],
        batch_size: int = 64,
        seed: int | None = None,
        pad_id: int = 0,
    ):
        for name, number in (("batch_size", batch_size), ("pad_id", pad_id), ("seed", seed)):
            if not (_is_whole(number) or (name == "seed" and number is None)):
                raise TypeError(f"{name} must be a whole number, got {number!r}")
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; a batch needs at least one pair")
        self.sources, self.targets = _id_lists("source", sources), _id_lists("target", targets)
        if len(self.sources) != len(self.targets) or len(self.sources) == 0:
            raise ValueError(
                f"there are {len(self.sources)} sources for {len(self.targets)} targets; each needs its "
                f"partner"
            )
        self.batch_size, self.pad_id = batch_size, pad_id
        self.generator = None if seed is None else torch.Generator().manual_seed(int(seed))

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
    pad_id: what the batch is padded with.
    Raises TypeError for anything but a PairBatch, ValueError where batch, pad_id or label_smoothing is not
    what it says above, and for a target outside the vocabulary that the model scores.
    Source for label smoothing: Szegedy et al. 2016, section 7.
    """
    if not isinstance(batch, PairBatch):
        raise TypeError(f"batch must be a PairBatch, as PairBatches gives them, got {type(batch).__name__}")
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"label_smoothing is a share from 0 to 1, got {label_smoothing}")
    wanted = batch.target[:, 1:]
    real = torch.arange(wanted.shape[1]) < batch.target_lengths[:, None].cpu() - 1
    tokens = int(real.sum())
    if tokens == 0 or not torch.equal(real, wanted.cpu() != pad_id):
        raise ValueError(
            f"by target_lengths {tokens} tokens are to be predicted, and by pad_id={pad_id} "
            f"{int((wanted != pad_id).sum())}; they must be the same, and at least one: encode targets with "
            f"bos=True, eos=True, and give the same pad_id to PairBatches and translation_loss"
        )
    logits = model(batch.source, batch.target[:, :-1], batch.source_lengths)
    lowest, highest = int(wanted.min()), int(wanted.max())
    if lowest < 0 or highest >= logits.shape[-1]:
        wrong = lowest if lowest < 0 else highest
        raise ValueError(
            f"target holds the token id {wrong}, but the model scores the ids 0 to "
            f"{logits.shape[-1] - 1}; encode it with the vocabulary that the model was made for"
        )
    loss = F.cross_entropy(
        logits.flatten(0, 1).float(),
        wanted.flatten(),
        ignore_index=pad_id,
        label_smoothing=label_smoothing if model.training else 0.0,
    )
    return loss, tokens


class WindowBatches:
    """Cut a long text into batches of windows, as a language model is trained on them.

    tokens: the ids of the text, one after another.
    context_length: how many tokens the model reads at once. A window has one more, so that each token that is
        read has a next one; a batch is a tensor (batch, context_length + 1).
    seed: where the shuffling starts. Every epoch begins its first window at another place, and each token is
        predicted at most once an epoch. With None nothing is shuffled, and the windows follow one another
        from the first token on, as suits validation.

    Windows overlap by one token: the last of one, only predicted there, is the first that the next one reads.
    What is left at the end, less than a window, is left out.
    Raises ValueError for a text shorter than one window and for sizes below 1; TypeError for tokens that are
    not numbered.
    """

    def __init__(
        self,
        tokens: Sequence[int] | Int[Tensor, " token"],
        context_length: int,
        batch_size: int = 32,
        seed: int | None = None,
    ):
        for name, number in (("context_length", context_length), ("batch_size", batch_size)):
            if not _is_whole(number) or number < 1:
                raise ValueError(f"{name} is {number!r}; give a whole number of at least 1")
        if seed is not None and not _is_whole(seed):
            raise TypeError(f"seed must be a whole number or None, got {seed!r}")
        self.tokens = torch.tensor(_id_lists("text", [tokens])[0])
        if len(self.tokens) < context_length + 1:
            raise ValueError(
                f"the text has {len(self.tokens)} tokens, but a window needs {context_length + 1}: "
                f"context_length={context_length} to read, and the one after them to predict"
            )
        self.context_length, self.batch_size = context_length, batch_size
        self.generator = None if seed is None else torch.Generator().manual_seed(int(seed))

    def __len__(self) -> int:
        return math.ceil(self._number_of_windows() / self.batch_size)

    def __iter__(self) -> Iterator[Int[Tensor, "batch context_plus_one"]]:
        count, first = self._number_of_windows(), 0
        order = torch.arange(count)
        if self.generator is not None:
            spare = len(self.tokens) - 1 - count * self.context_length
            first = int(torch.randint(min(self.context_length, spare + 1), (), generator=self.generator))
            order = order[torch.randperm(count, generator=self.generator)]
        within = torch.arange(self.context_length + 1)
        for rows in order.split(self.batch_size):
            yield self.tokens[first + rows[:, None] * self.context_length + within]

    def _number_of_windows(self) -> int:
        """In order as many as fit; shuffled as many as fit from any of the first context_length places."""
        predicted = len(self.tokens) - 1
        if self.generator is not None:
            predicted = max(predicted - self.context_length + 1, self.context_length)
        return predicted // self.context_length


def next_token_loss(
    model: nn.Module, batch: Int[Tensor, "batch context_plus_one"]
) -> tuple[Float[Tensor, ""], int]:
    """Give the mean cross-entropy of each next token, and the number of tokens it is a mean over.

        loss = -(1/n) sum_i log p(y_i | y_1 .. y_{i-1})

    batch: ids, of which the model is fed all but the last of each row, and must predict all but the first.
    Raises TypeError for anything but such a tensor, ValueError for rows of a single token.
    """
    whole = isinstance(batch, Tensor) and not batch.is_floating_point() and batch.dtype != torch.bool
    if not whole or batch.ndim != 2:
        got = repr(batch)[:80]
        if isinstance(batch, Tensor):
            got = f"{batch.dtype} of shape {tuple(batch.shape)}"
        raise TypeError(
            f"batch must hold token ids (batch, context_length + 1), as WindowBatches gives them, got {got}"
        )
    if batch.shape[0] == 0 or batch.shape[1] < 2:
        raise ValueError(
            f"batch has shape {tuple(batch.shape)}; there must be a row, and in it a token to read and one "
            f"to predict"
        )
    logits, wanted = model(batch[:, :-1]), batch[:, 1:].long()
    lowest, highest = int(wanted.min()), int(wanted.max())
    if lowest < 0 or highest >= logits.shape[-1]:  # -100 would be left out without a word
        wrong = lowest if lowest < 0 else highest
        raise ValueError(
            f"batch holds the token id {wrong}, but the model scores the ids 0 to {logits.shape[-1] - 1}; "
            f"encode the text with the vocabulary that the model was made for"
        )
    return F.cross_entropy(logits.flatten(0, 1).float(), wanted.flatten()), wanted.numel()


def _id_lists(name: str, sentences: Iterable) -> list[list[int]]:
    """Give each sentence as a list of ids, after checking that it is one."""
    if isinstance(sentences, str) or not isinstance(sentences, Iterable):
        raise TypeError(f"{name}s must be a list of sentences, got {sentences!r:.80}")
    lists = []
    for row, sentence in enumerate(sentences):
        ids = sentence.tolist() if isinstance(sentence, Tensor | np.ndarray) else sentence
        whole = isinstance(ids, Sequence) and all(type(i) is int or _is_whole(i) for i in ids)
        if not whole or isinstance(ids, str):
            raise TypeError(
                f"{name} {row} must be a list of token ids, which are whole numbers, got {sentence!r:.80}; "
                f"number its tokens with Vocabulary.encode"
            )
        if len(ids) == 0:
            raise ValueError(f"{name} {row} has no tokens; leave out pairs with an empty sentence")
        lists.append(ids)
    return lists


def _is_whole(number: object) -> bool:
    return isinstance(number, Integral) and not isinstance(number, bool)
