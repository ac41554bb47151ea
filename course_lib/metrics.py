"""How good is it: BLEU, alignment error rate and perplexity."""

import math
from collections.abc import Collection, Sequence
from typing import NamedTuple

import sacrebleu
import torch
from jaxtyping import Float
from torch import Tensor

Links = Collection[tuple[int, int]]


class BleuScore(NamedTuple):
    """A corpus BLEU between 0 and 100, and sacrebleu's signature that says how it was computed."""

    score: float
    signature: str


def corpus_bleu(
    hypotheses: Sequence[str], references: Sequence[str], tokenized: bool = False, lowercase: bool = False
) -> BleuScore:
    """Score translations against one reference each, over the whole corpus at once.

        BLEU = min(1, exp(1 - r/c)) (p_1 p_2 p_3 p_4)^(1/4)

    with p_n the share of the hypotheses' n-grams found in the references, c and r the lengths of both.

    hypotheses, references: sentences as strings, in the same order.
    tokenized: True when the sentences are tokens joined by spaces, to be counted as they are; False for plain
        text, which sacrebleu then splits by its standard tokeniser (13a). The two give different numbers.
    lowercase: whether to ignore case.
    Raises ValueError for no sentences and for unequal numbers of them.
    Sources: Papineni et al. 2002, section 2; Post 2018 (sacrebleu and its signatures).
    """
    for name, sentences in (("hypotheses", hypotheses), ("references", references)):
        if isinstance(sentences, str) or not all(isinstance(sentence, str) for sentence in sentences):
            raise TypeError(f"{name} must be a list of strings, one a sentence; join tokens with ' '.join")
    _check_counts("hypotheses", hypotheses, "references", references)
    bleu = sacrebleu.metrics.BLEU(
        tokenize="none" if tokenized else "13a", lowercase=lowercase, force=tokenized
    )
    score = bleu.corpus_score(list(hypotheses), [list(references)]).score
    return BleuScore(score, str(bleu.get_signature()))


def alignment_from_weights(weights: Float[Tensor, "query key"]) -> frozenset[tuple[int, int]]:
    """Link each query (target word) to the key (source word) that it attends to most.

    weights: one sentence's attention, without padding and without the row that predicts <eos>. A row of
        zeros, which attends to nothing, gives no link.
    Raises ValueError unless weights has exactly two axes.
    """
    if weights.ndim != 2 or weights.shape[1] == 0:
        raise ValueError(
            f"weights has shape {tuple(weights.shape)}; expected (query, key) of one sentence and one head"
        )
    best = torch.where(weights.amax(dim=1) > 0, weights.argmax(dim=1), -1)
    return frozenset((query, key) for query, key in enumerate(best.tolist()) if key >= 0)


def alignment_error_rate(
    predicted: Sequence[Links], sure: Sequence[Links], possible: Sequence[Links] | None = None
) -> float:
    """Compare predicted word links with gold ones: 0 is perfect, 1 is none right.

        AER = 1 - (|A and S| + |A and P|) / (|A| + |S|)

    predicted: A, for each sentence the links (target index, source index).
    sure: S, the gold links; possible: P, further links that cost nothing either way. P always includes S.
    Counts are summed over all sentences before dividing.
    Raises ValueError for no sentences, unequal numbers of them, and no links at all.
    Source: Och and Ney 2003, section 5.
    """
    possible = sure if possible is None else possible
    _check_counts("predicted", predicted, "sure", sure)
    _check_counts("possible", possible, "sure", sure)
    right = total = 0
    for sentence, (links, sure_links, possible_links) in enumerate(
        zip(predicted, sure, possible, strict=True)
    ):
        for name, group in (("predicted", links), ("sure", sure_links), ("possible", possible_links)):
            if not all(isinstance(link, tuple) and len(link) == 2 for link in group):
                raise TypeError(
                    f"{name}[{sentence}] must be a set of links (target index, source index); put a single "
                    f"sentence's links into a list, and turn attention weights into links with "
                    f"alignment_from_weights"
                )
        links, sure_links = set(links), set(sure_links)
        right += len(links & sure_links) + len(links & (sure_links | set(possible_links)))
        total += len(links) + len(sure_links)
    if total == 0:
        raise ValueError("neither predicted nor sure holds a link, so the alignment error rate is 0/0")
    return 1 - right / total


def perplexity(total_loss: float, tokens: int) -> float:
    """Turn a summed cross-entropy into the number of equally likely words it amounts to.

        perplexity = exp(total_loss / tokens)

    total_loss: summed (not averaged) over all tokens, in nats, without label smoothing.
    Raises ValueError for no tokens and for a loss that cannot be a cross-entropy.
    """
    if tokens <= 0:
        raise ValueError(f"perplexity is an average over tokens, but tokens is {tokens}")
    if not total_loss >= 0:
        raise ValueError(f"a summed cross-entropy is never below zero, but total_loss is {total_loss}")
    return math.exp(total_loss / tokens)


def _check_counts(name: str, values: Sequence, other_name: str, others: Sequence) -> None:
    """Raise ValueError unless both hold the same number of sentences, at least one."""
    if len(values) != len(others):
        raise ValueError(
            f"there are {len(values)} {name} for {len(others)} {other_name}; each sentence needs its partner"
        )
    if len(values) == 0:
        raise ValueError(f"{name} and {other_name} are empty; a score needs at least one sentence")
