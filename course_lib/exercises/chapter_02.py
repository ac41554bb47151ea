"""The exercises of chapter 2: contexts, additive scores, a softmax that survives, links, and padding."""

import math

import torch

from course_lib.exercises.exercise import Goal, exercise, target
from course_lib.exercises.models import trained_model

TITLE = "Bahdanau attention"


def _weights(g, *size):
    return torch.randn(*size, generator=g).softmax(dim=-1)


def _weights_and_values(g):
    yield (
        "all weight on one key: its value comes out",
        (
            torch.tensor([[0.0, 1.0, 0.0]]),
            torch.randn(3, 2, generator=g),
        ),
    )
    yield "two queries, two keys", (_weights(g, 2, 2), torch.randn(2, 3, generator=g))
    yield "two queries, three keys", (_weights(g, 2, 3), torch.randn(3, 5, generator=g))
    yield (
        "a query whose weights are all zero: it gets zeros",
        (torch.zeros(1, 3), torch.randn(3, 2, generator=g)),
    )


@exercise(
    "2.1",
    _weights_and_values,
    solved="All contexts of a sentence at once: that is what makes attention quick.",
)
def contexts(weights, values):
    return weights @ values


@contexts.mistake(
    "a second softmax", "The weights are weights already. A softmax over them makes them all but equal."
)
def second_softmax(weights, values):
    return weights.softmax(dim=-1) @ values


@contexts.mistake(
    "divided by the number of keys",
    "The weights sum to one, so the sum is the mean. Nothing is left to divide.",
)
def divided_by_keys(weights, values):
    return weights @ values / len(values)


@contexts.mistake(
    "the weights are not used", "You return the plain mean of the values, the same for each query."
)
def plain_mean(weights, values):
    return values.mean(dim=0).expand(len(weights), -1)


@contexts.mistake(
    "only the largest weight counts", "A context is a mixture: every value counts, by its weight."
)
def largest_alone(weights, values):
    return values[weights.argmax(dim=-1)]


@contexts.mistake(
    "weights made to sum to one again",
    "You divide by the sum of the weights. Where all are zero, since nothing may be attended to, that "
    "is 0 / 0.",
)
def divided_by_sum(weights, values):
    return weights / weights.sum(dim=-1, keepdim=True) @ values


@contexts.mistake(
    "the weights are turned round",
    "`weights.T` has a row for each key. Rows must be queries: (query, key) times (key, width) needs no "
    "transposing.",
)
def weights_transposed(weights, values):
    return weights.T @ values


def _projections(g):
    yield (
        "one query, one key, a hidden width of 1",
        tuple(torch.randn(s, generator=g) for s in ((1, 1), (1, 1), (1,))),
    )
    yield "a query of zeros", (torch.zeros(1, 3), torch.randn(2, 3, generator=g), torch.randn(3, generator=g))
    yield "two queries, three keys", tuple(torch.randn(s, generator=g) for s in ((2, 5), (3, 5), (5,)))
    yield (
        "projections in the tens: no score beyond the sum of |v|",
        (
            30 * torch.randn(2, 3, generator=g),
            30 * torch.randn(3, 3, generator=g),
            torch.randn(3, generator=g),
        ),
    )


@exercise(
    "2.2",
    _projections,
    solved="Scores for a whole sentence at once, as the library's AdditiveAttention does it.",
)
def additive_scores(projected_queries, projected_keys, v):
    return torch.tanh(projected_queries[:, None, :] + projected_keys[None, :, :]) @ v


@additive_scores.mistake(
    "no tanh",
    "Without it the score is a sum of a number of the query and a number of the key. The query's part "
    "is the same for all keys, so all queries would get the same weights.",
)
def no_tanh(projected_queries, projected_keys, v):
    return (projected_queries[:, None, :] + projected_keys[None, :, :]) @ v


@additive_scores.mistake(
    "tanh after v", "tanh belongs inside: it is the hidden layer's. v then adds up what comes out of it."
)
def tanh_outside(projected_queries, projected_keys, v):
    return torch.tanh((projected_queries[:, None, :] + projected_keys[None, :, :]) @ v)


@additive_scores.mistake(
    "multiplied instead of added",
    "Additive attention *adds* the two projections; a product comes in chapter 3.",
)
def multiplied(projected_queries, projected_keys, v):
    return torch.tanh(projected_queries[:, None, :] * projected_keys[None, :, :]) @ v


@additive_scores.mistake(
    "v is not used", "You add up the hidden layer as it is. v says how much each unit counts."
)
def without_v(projected_queries, projected_keys, v):
    return torch.tanh(projected_queries[:, None, :] + projected_keys[None, :, :]).sum(dim=-1)


@additive_scores.mistake("subtracted", "The two projections are added, W q + U k; you have W q − U k.")
def subtracted(projected_queries, projected_keys, v):
    return torch.tanh(projected_queries[:, None, :] - projected_keys[None, :, :]) @ v


@additive_scores.mistake(
    "queries and keys have changed places",
    "Rows are queries and columns are keys; your table stands the other way.",
)
def transposed_scores(projected_queries, projected_keys, v):
    return torch.tanh(projected_keys[:, None, :] + projected_queries[None, :, :]) @ v


@additive_scores.mistake(
    "no axis for each pair",
    "The projections are added one with one, the first query with the first key. Every query meets every "
    "key: (query, 1, hidden) plus (1, key, hidden).",
)
def not_every_pair(projected_queries, projected_keys, v):
    return torch.tanh(projected_queries + projected_keys) @ v


@additive_scores.mistake(
    "weights, not scores", "You have taken the softmax already. The scores are asked for, before it."
)
def weights_already(projected_queries, projected_keys, v):
    return additive_scores.reference(projected_queries, projected_keys, v).softmax(dim=-1)


def _plain_scores(g):
    yield "a single score: its weight is 1", (torch.randn(1, generator=g),)
    yield "scores near zero", (torch.randn(5, generator=g),)
    yield "scores near 1000, where e to them is infinite", (1000 + torch.randn(3, generator=g),)
    yield "scores near -1000, where e to them is 0", (-1000 + torch.randn(3, generator=g),)
    yield (
        "two scores a hundred above the third",
        (torch.tensor([100.0, 99.0, 0.0]) + torch.rand(3, generator=g),),
    )
    yield "scores a thousand apart", (torch.tensor([1000.0, 999.0, 0.0]) + torch.rand(3, generator=g),)


@exercise(
    "2.3", _plain_scores, solved="Your softmax now bears any finite score, as PyTorch's does.", tolerance=1e-3
)
def safe_weights(e):
    shifted = (e - e.max()).exp()
    return shifted / shifted.sum()


@safe_weights.mistake(
    "nothing is subtracted",
    "e to 1000 is infinity, and infinity divided by infinity is NaN. Subtract a number first.",
)
def unshifted(e):
    return e.exp() / e.exp().sum()


@safe_weights.mistake(
    "the mean is subtracted",
    "The largest score may lie far above the mean. Subtract the largest: then no exponent is above 0.",
)
def shifted_by_mean(e):
    shifted = (e - e.mean()).exp()
    return shifted / shifted.sum()


@safe_weights.mistake(
    "the smallest is subtracted",
    "Now all exponents are above 0, and large ones overflow. Subtract the largest.",
)
def shifted_by_smallest(e):
    shifted = (e - e.min()).exp()
    return shifted / shifted.sum()


@safe_weights.mistake(
    "the largest in size is subtracted",
    "For scores near -1000 that subtracts +1000: all exponents become -2000, and 0 / 0 is NaN. Take "
    "the largest score with its sign.",
)
def shifted_by_size(e):
    shifted = (e - e.abs().max()).exp()
    return shifted / shifted.sum()


@safe_weights.mistake(
    "scores divided by the largest",
    "Dividing changes the weights: the gap between two scores is what counts, and it shrinks. "
    "Subtracting keeps it.",
)
def divided_by_largest(e):
    scaled = (e / e.abs().max()).exp()
    return scaled / scaled.sum()


@safe_weights.mistake(
    "scores cut off", "Cut at a fixed number, all large scores become equal. Subtracting keeps their gaps."
)
def clamped(e):
    cut = e.clamp(-80, 80).exp()
    return cut / cut.sum()


@safe_weights.mistake("not divided by the sum", "These are positive, but they do not sum to one yet.")
def not_normalised(e):
    return (e - e.max()).exp()


@safe_weights.mistake(
    "the logarithms of the weights", "These are the weights' logarithms, which are never above 0."
)
def logarithms(e):
    return e.log_softmax(dim=-1)


def _weight_tables(g):
    yield "a word that two others look at", (torch.tensor([[0.6, 0.3, 0.1], [0.5, 0.4, 0.1]]),)
    yield "one target word", (_weights(g, 1, 3),)
    yield "more target words than source words", (_weights(g, 5, 3),)
    yield "fewer target words than source words", (_weights(g, 3, 7),)


@exercise("2.4", _weight_tables, solved="One link for each target word: now two models can be graded alike.")
def suspicious_links(weights):
    return frozenset((query, key) for query, key in enumerate(weights.argmax(dim=1).tolist()))


@suspicious_links.mistake("the largest of each column", "Each source word got a link.", as_given=True)
def links_as_given(weights):
    return frozenset((query, key) for key, query in enumerate(weights.argmax(dim=0).tolist()))


@suspicious_links.mistake(
    "the pairs are turned round", "A link is (target, source); yours are (source, target)."
)
def turned_pairs(weights):
    return frozenset((key, query) for query, key in enumerate(weights.argmax(dim=1).tolist()))


@suspicious_links.mistake(
    "only weights above one half",
    "A target word whose weight is spread gets no link. The largest of a row may be small.",
)
def above_half(weights):
    return frozenset((int(q), int(k)) for q, k in (weights > 0.5).nonzero())


@suspicious_links.mistake("the smallest weight of each row", "You link each word to what it looks at least.")
def smallest(weights):
    return frozenset((query, key) for query, key in enumerate(weights.argmin(dim=1).tolist()))


@suspicious_links.mistake(
    "columns, with the names exchanged",
    "Still one link for each column: for each source word, not each target word.",
)
def columns_renamed(weights):
    return frozenset((query, key) for query, key in enumerate(weights.argmax(dim=0).tolist()))


def _padded_scores(g):
    yield "one sentence without padding", (torch.randn(1, 2, 3, generator=g), torch.tensor([3]))
    yield (
        "a sentence of one word, padded: that word has all the weight",
        (
            torch.randn(1, 1, 3, generator=g),
            torch.tensor([1]),
        ),
    )
    yield "sentences of 3, 5 and 2 words", (torch.randn(3, 2, 5, generator=g), torch.tensor([3, 5, 2]))
    yield (
        "padding with the highest scores",
        (
            torch.randn(2, 3, 5, generator=g) + torch.tensor([0.0, 0, 0, 9, 9]),
            torch.tensor([3, 2]),
        ),
    )


@exercise("2.5", _padded_scores, solved="A sentence now gets the same weights alone and in any company.")
def padded_weights(scores, lengths):
    real = torch.arange(scores.shape[-1]) < lengths[:, None]
    return scores.masked_fill(~real[:, None, :], -math.inf).softmax(dim=-1)


def _real(scores, lengths):
    return (torch.arange(scores.shape[-1]) < lengths[:, None])[:, None, :]


@padded_weights.mistake(
    "the mask after the softmax",
    "The padding has taken part in the sum, so the weights of the real words sum to less than one.",
)
def mask_after_softmax(scores, lengths):
    return scores.softmax(dim=-1) * _real(scores, lengths)


@padded_weights.mistake("no mask", "The lengths are not used: padding gets its share of the weight.")
def no_mask(scores, lengths):
    return scores.softmax(dim=-1)


@padded_weights.mistake(
    "a score of 0 for the padding",
    "e to 0 is 1, so the padding still gets weight. Minus infinity gives e to it = 0.",
)
def zero_for_padding(scores, lengths):
    return (scores * _real(scores, lengths)).softmax(dim=-1)


@padded_weights.mistake(
    "the real words are hidden", "The mask is the wrong way round: the padding has all the weight."
)
def words_hidden(scores, lengths):
    return scores.masked_fill(_real(scores, lengths), -math.inf).softmax(dim=-1)


@padded_weights.mistake(
    "one filler too many",
    "Positions count from 0, so a sentence of 3 words has 0, 1 and 2. `<=` lets 3 in as well.",
)
def one_too_many(scores, lengths):
    return scores.masked_fill(~_real(scores, lengths + 1), -math.inf).softmax(dim=-1)


@padded_weights.mistake(
    "the last word is hidden",
    "The last real word is lost; of a sentence of one word nothing is left, and 0 / 0 is NaN.",
)
def last_word_lost(scores, lengths):
    return scores.masked_fill(~_real(scores, lengths - 1), -math.inf).softmax(dim=-1)


@padded_weights.mistake(
    "one length for all",
    "Every sentence is cut at the longest one's length. Each has its own: compare with lengths[:, None].",
)
def one_length(scores, lengths):
    return scores.masked_fill(~_real(scores, lengths.max().expand(len(lengths))), -math.inf).softmax(dim=-1)


def _hidden(scores, real):
    return scores.masked_fill(~real, -math.inf)


@padded_weights.mistake(
    "softmax over the queries",
    "Your weights sum to one down the columns. The last axis counts the keys: `dim=-1`.",
)
def over_queries(scores, lengths):
    return _hidden(scores, _real(scores, lengths)).softmax(dim=1)


@padded_weights.mistake(
    "softmax over the sentences", "Axis 0 counts the sentences. The last axis counts the keys: `dim=-1`."
)
def over_sentences(scores, lengths):
    return _hidden(scores, _real(scores, lengths)).softmax(dim=0)


@padded_weights.mistake(
    "the mask itself was added",
    "True counts as 1 and False as 0, so the padding has its score lowered by 1 and no more.",
)
def mask_added(scores, lengths):
    return (scores + _real(scores, lengths)).softmax(dim=-1)


@padded_weights.mistake(
    "not low enough",
    "The number that you put in place of the padding's scores still leaves it some weight. Take minus "
    "infinity, or -1e4 and lower.",
)
def not_low_enough(scores, lengths):
    return scores.masked_fill(~_real(scores, lengths), -1.0).softmax(dim=-1)


@padded_weights.mistake(
    "the lengths have no axis of their own",
    "`torch.arange(...) < lengths` lines the lengths up with the positions. A row of positions against a "
    "*column* of lengths, `lengths[:, None]`, gives the table (sentence, key).",
)
def lengths_as_a_row(scores, lengths):
    return _hidden(scores, torch.arange(scores.shape[-1]) < lengths).softmax(dim=-1)


@padded_weights.mistake(
    "the mask has no axis for the queries",
    "Your mask is (sentence, key), and PyTorch lines shapes up from the right: it takes your sentences for "
    "queries. `real[:, None, :]` is (sentence, 1, key).",
)
def no_axis_for_queries(scores, lengths):
    return _hidden(scores, _real(scores, lengths)[:, 0]).softmax(dim=-1)


@padded_weights.mistake(
    "queries hidden, not keys",
    "Your mask lies along the queries, (sentence, key, 1). Nobody is to look *at* the filling, so it lies "
    "along the keys: (sentence, 1, key).",
)
def queries_hidden(scores, lengths):
    return _hidden(scores, _real(scores, lengths).transpose(1, 2)).softmax(dim=-1)


@target("2.6", solved="The words need their embeddings; most of the rest was more than this task asks for.")
def smaller_translator(answer, generator, *, bleu, parameters):
    model = trained_model(answer)
    size = sum(parameter.numel() for parameter in model.parameters())
    return [Goal("parameters", size, at_most=parameters), Goal("BLEU", bleu(model), at_least=87)]
