"""How good is it: BLEU, alignment error rate, perplexity, pointing accuracy and attention mass."""

import math
from collections.abc import Collection, Sequence
from numbers import Integral, Real
from typing import NamedTuple

import sacrebleu
import torch
from jaxtyping import Bool, Float
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
    Raises ValueError for no sentences and for unequal numbers of them, TypeError for anything but strings.
    Sources: Papineni et al. 2002, section 2; Post 2018 (sacrebleu and its signatures).
    """
    for name, sentences in (("hypotheses", hypotheses), ("references", references)):
        is_list = isinstance(sentences, Sequence) and not isinstance(sentences, str)
        if not is_list or not all(isinstance(sentence, str) for sentence in sentences):
            raise TypeError(f"{name} must be a list of strings, one a sentence; join tokens with ' '.join")
    for name, choice in (("tokenized", tokenized), ("lowercase", lowercase)):
        if not isinstance(choice, bool):
            raise TypeError(f"{name} must be True or False, got {choice!r}")
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
    Raises ValueError unless weights has exactly two axes and no NaN, TypeError unless it is a floating-point
    tensor.
    """
    if not isinstance(weights, Tensor) or not weights.is_floating_point():
        got = weights.dtype if isinstance(weights, Tensor) else type(weights).__name__
        raise TypeError(f"weights must be a floating-point tensor of one sentence, (query, key), got {got}")
    if weights.ndim != 2 or weights.shape[1] == 0:
        raise ValueError(
            f"weights has shape {tuple(weights.shape)}; expected (query, key) of one sentence and one head"
        )
    if weights.isnan().any():
        raise ValueError(
            "weights holds NaN, so that no key can be called the largest; find where it comes from"
        )
    if weights.isinf().any() or (weights < 0).any():
        raise ValueError("weights holds infinite or negative numbers; give what the softmax gave, not scores")
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
    Raises ValueError for no sentences, unequal numbers of them, and no links at all, TypeError for links that
    are not pairs of whole numbers.
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
            if not isinstance(group, Collection) or not all(map(_is_link, group)):
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
    Raises ValueError for no tokens and for a loss that cannot be a cross-entropy, TypeError for what is not
    one number.
    """
    total_loss, tokens = _number("total_loss", total_loss), _number("tokens", tokens)
    if not tokens > 0:
        raise ValueError(f"perplexity is an average over tokens, but tokens is {tokens}")
    if tokens == math.inf:
        raise ValueError("tokens is inf; give the number of tokens that the loss was summed over")
    if not total_loss >= 0:
        raise ValueError(f"a summed cross-entropy is never below zero, but total_loss is {total_loss}")
    try:
        return math.exp(total_loss / tokens)
    except OverflowError:
        return math.inf


def pointing_accuracy(
    weights: Float[Tensor, "image row column"], object_mask: Bool[Tensor, "image height width"]
) -> float:
    """Say how often the most attended place is on the object: 1 is always, 0 is never.

        accuracy = mean over images of the share of object pixels in the place with the largest weight

    weights: the attention to each place, such as the class token's weights on the patches, in rows and
        columns. A place stands for the pixels of its patch; with as many rows and columns as pixels, it is a
        pixel. Where several places share the largest weight, their mean counts: equal weights all over, which
        point nowhere, score the share of the image that is object.
    object_mask: True on the object's pixels.
    Raises ValueError where the two do not fit, an image has no object, or weights are not finite, negative or
    all zero; TypeError for other dtypes.
    Source: the pointing game of Zhang et al. 2016, on single pixels.
    """
    cover = _cover(weights, object_mask)
    largest = (weights == weights.amax(dim=(1, 2), keepdim=True)).to(weights.dtype)
    return float(((largest * cover).sum(dim=(1, 2)) / largest.sum(dim=(1, 2))).mean())


def attention_mass(
    weights: Float[Tensor, "image row column"], object_mask: Bool[Tensor, "image height width"]
) -> float:
    """Say how much of the attention is on the object: 1 is all of it, 0 is none.

        mass = mean over images of sum(weights * cover) / sum(weights)

    with cover the share of object pixels in each place. Equal weights score the object's share of the image.

    weights, object_mask: as for pointing_accuracy. Weights that do not sum to one, as those on the patches
        without the class token, are taken as shares of their sum.
    Raises what pointing_accuracy raises.
    """
    cover = _cover(weights, object_mask)
    return float(((weights * cover).sum(dim=(1, 2)) / weights.sum(dim=(1, 2))).mean())


def _cover(weights: Tensor, object_mask: Tensor) -> Float[Tensor, "image row column"]:
    """The share of object pixels in each place, after checking weights and mask."""
    if not isinstance(weights, Tensor) or not weights.is_floating_point():
        got = weights.dtype if isinstance(weights, Tensor) else type(weights).__name__
        raise TypeError(f"weights must be a floating-point tensor, (image, row, column), got {got}")
    if not isinstance(object_mask, Tensor) or object_mask.dtype != torch.bool:
        got = object_mask.dtype if isinstance(object_mask, Tensor) else type(object_mask).__name__
        raise TypeError(f"object_mask must be a boolean tensor, True on the object, got {got}")
    shapes = f"weights has shape {tuple(weights.shape)} and object_mask {tuple(object_mask.shape)}"
    if weights.ndim != 3 or object_mask.ndim != 3 or len(weights) != len(object_mask) or weights.numel() == 0:
        raise ValueError(
            f"{shapes}; expected (image, row, column) and (image, height, width) of the same images, at "
            f"least one. Without the class token's own, weights on patches become a grid with "
            f"weights.unflatten(-1, (rows, columns))"
        )
    rows, columns = weights.shape[1:]
    height, width = object_mask.shape[1:]
    if height % rows or width % columns:
        raise ValueError(
            f"{shapes}: {height} by {width} pixels cannot be shared out among {rows} by {columns} places"
        )
    if not weights.isfinite().all() or (weights < 0).any() or (weights.sum(dim=(1, 2)) == 0).any():
        raise ValueError("weights must be finite and not negative, and in each image some above zero")
    if not object_mask.any(dim=2).any(dim=1).all():
        empty = int((~object_mask.any(dim=2).any(dim=1)).nonzero()[0])
        raise ValueError(f"image {empty} has no object: object_mask is False everywhere; leave it out")
    places = object_mask.unflatten(2, (columns, -1)).unflatten(1, (rows, -1))
    return places.to(weights.dtype).mean(dim=(2, 4))


def _number(name: str, value: float | int | Tensor) -> float | int:
    if isinstance(value, Tensor) and value.numel() == 1:
        value = value.item()
    if not isinstance(value, Real) or isinstance(value, bool):
        raise TypeError(f"{name} must be a single number, got {value!r:.80}")
    return value


def _is_link(link: object) -> bool:
    return isinstance(link, tuple) and len(link) == 2 and all(map(_is_index, link))


def _is_index(number: object) -> bool:
    return isinstance(number, Integral) and not isinstance(number, bool) and number >= 0


def _check_counts(name: str, values: Sequence, other_name: str, others: Sequence) -> None:
    """Raise ValueError unless both hold the same number of sentences, at least one."""
    for what, given in ((name, values), (other_name, others)):
        if not isinstance(given, Sequence):
            raise TypeError(
                f"{what} must be a list with an entry for each sentence, got {type(given).__name__}"
            )
    if len(values) != len(others):
        raise ValueError(
            f"there are {len(values)} {name} for {len(others)} {other_name}; each sentence needs its partner"
        )
    if len(values) == 0:
        raise ValueError(f"{name} and {other_name} are empty; a score needs at least one sentence")
