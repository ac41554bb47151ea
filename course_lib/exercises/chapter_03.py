"""The exercises of chapter 3: weights, masks, the root of d_k, and who asks whom."""

import math

import torch

from course_lib.exercises.exercise import Goal, Unusable, exercise, target
from course_lib.exercises.models import score, trained_model

TITLE = "Scaled dot-product attention"


def _score_tables(g):
    yield "a single key: its weight is 1", (torch.randn(1, 2, 1, generator=g),)
    yield "one query, three keys", (torch.randn(1, 1, 3, generator=g),)
    yield "a batch of two, three queries, five keys", (2 * torch.randn(2, 3, 5, generator=g),)


@exercise("3.1", _score_tables, solved="Each row is a distribution over the keys: attention's middle line.")
def weights_from_scores(scores):
    return scores.softmax(dim=-1)


@weights_from_scores.mistake(
    "softmax over the queries",
    "Your weights sum to one down the columns, so the queries compete with one another. The last axis "
    "counts the keys: take `dim=-1`.",
)
def over_queries(scores):
    return scores.softmax(dim=-2)


@weights_from_scores.mistake(
    "softmax over the batch",
    "Your weights sum to one over the sentences of the batch. Counted from the front, 0 is the batch; "
    "counted from the end, -1 is the keys.",
)
def over_batch(scores):
    return scores.softmax(dim=0)


@weights_from_scores.mistake(
    "softmax over queries and keys together",
    "All weights of a sentence sum to one together. Each query needs a sum of one of its own.",
)
def over_both(scores):
    return scores.flatten(1).softmax(dim=-1).view_as(scores)


@weights_from_scores.mistake(
    "no exponential",
    "You divide the scores by their sum. Scores may be negative, and then so are the weights.",
)
def no_exponential(scores):
    return scores / scores.sum(dim=-1, keepdim=True)


@weights_from_scores.mistake("not divided by the sum", "The exponentials of a row do not sum to one yet.")
def not_divided(scores):
    return scores.exp()


@weights_from_scores.mistake(
    "the logarithms of the weights", "log_softmax gives the weights' logarithms, which are never above 0."
)
def logarithms(scores):
    return scores.log_softmax(dim=-1)


@weights_from_scores.mistake(
    "a sigmoid for each score",
    "A sigmoid looks at one score alone. Weights must know of one another to sum to one.",
)
def sigmoids(scores):
    return scores.sigmoid()


@weights_from_scores.mistake(
    "softmax over all axes at once",
    "All weights of the whole batch sum to one together. Each query needs a sum of one of its own: it runs "
    "along the last axis.",
)
def over_all(scores):
    return scores.flatten().softmax(dim=0).view_as(scores)


@weights_from_scores.mistake(
    "the sums lost their axis",
    "`sum(dim=-1)` leaves (batch, query), and PyTorch lines shapes up from the right: it takes the queries "
    "for keys. With `keepdim=True` the sums are (batch, query, 1), one for each row.",
)
def no_keepdim(scores):
    return scores.exp() / scores.exp().sum(dim=-1)


def _query_and_key_counts(g):
    yield "a single query, a single key", (1, 1)
    yield "as many queries as keys", (int(torch.randint(3, 6, (), generator=g)),) * 2
    yield (
        "the last query of several, as in a decoder with a cache",
        (1, int(torch.randint(3, 6, (), generator=g))),
    )
    few = int(torch.randint(2, 4, (), generator=g))
    yield "the last few queries", (few, few + int(torch.randint(1, 4, (), generator=g)))


@exercise(
    "3.2", _query_and_key_counts, solved="The same mask serves for training and, row by row, for a cache."
)
def my_causal_mask(num_queries, num_keys):
    query_position = torch.arange(num_keys - num_queries, num_keys)
    return torch.arange(num_keys)[None, :] <= query_position[:, None]


def _positions(num_queries, num_keys):
    return torch.arange(num_keys - num_queries, num_keys)[:, None], torch.arange(num_keys)[None, :]


@my_causal_mask.mistake(
    "queries counted from the front",
    "Your first query stands at position 0. The queries are the *last* positions: with 3 queries and "
    "5 keys they stand at 2, 3 and 4. Your mask hides from the newest word nearly all that came "
    "before (PyTorch's `is_causal` does that).",
)
def from_the_front(num_queries, num_keys):
    return torch.arange(num_keys)[None, :] <= torch.arange(num_queries)[:, None]


@my_causal_mask.mistake(
    "True where it is forbidden",
    "In this course True means *may attend*. Yours is True for the future, as in "
    "torch.nn.MultiheadAttention.",
)
def polarity(num_queries, num_keys):
    query, key = _positions(num_queries, num_keys)
    return key > query


@my_causal_mask.mistake("a position does not see itself", "Use `<=`: each position may look at itself, too.")
def not_oneself(num_queries, num_keys):
    query, key = _positions(num_queries, num_keys)
    return key < query


@my_causal_mask.mistake(
    "the past is hidden",
    "Each position sees itself and what comes *after* it: the comparison is the wrong way round.",
)
def past_hidden(num_queries, num_keys):
    query, key = _positions(num_queries, num_keys)
    return key >= query


@my_causal_mask.mistake(
    "queries and keys have changed places", "Rows are queries and columns are keys: (num_queries, num_keys)."
)
def transposed_mask(num_queries, num_keys):
    query, key = _positions(num_queries, num_keys)
    return (key <= query).T


@my_causal_mask.mistake("one position too far", "Each query also sees the position right after its own.")
def one_too_far(num_queries, num_keys):
    query, key = _positions(num_queries, num_keys)
    return key <= query + 1


@my_causal_mask.mistake(
    "nothing is hidden", "Your mask is True everywhere, so every position sees the future."
)
def all_true(num_queries, num_keys):
    return torch.ones(num_queries, num_keys, dtype=torch.bool)


@my_causal_mask.mistake(
    "square",
    "Your mask has a row for each key. There is one for each query: (num_queries, num_keys).",
)
def square_mask(num_queries, num_keys):
    return my_causal_mask.reference(num_keys, num_keys)


added = my_causal_mask.mistake(
    "a mask to be added",
    "It holds 0 and -inf (or a number far below zero), as in 3.3. Here True is to mean *may attend*: "
    "return the comparison itself.",
)


@added
def added_infinite(num_queries, num_keys):
    query, key = _positions(num_queries, num_keys)
    return torch.zeros(num_queries, num_keys).masked_fill(key > query, -math.inf)


@added
def added_finite(num_queries, num_keys):
    query, key = _positions(num_queries, num_keys)
    return torch.zeros(num_queries, num_keys).masked_fill(key > query, -1e9)


@added
def added_less(num_queries, num_keys):
    query, key = _positions(num_queries, num_keys)
    return torch.zeros(num_queries, num_keys).masked_fill(key > query, -1e4)


def _masked_attention(g):
    def tensors(num_queries, num_keys, d_k, d_v, scale=1.0):
        sizes = (num_queries, d_k), (num_keys, d_k), (num_keys, d_v)
        return tuple((scale * torch.randn(size, generator=g)).requires_grad_() for size in sizes)

    yield "nothing is hidden: plain attention", (*tensors(2, 3, 5, 2), torch.ones(2, 3, dtype=torch.bool))
    yield (
        "only one key may be seen: its value comes out",
        (
            *tensors(1, 3, 5, 2),
            torch.tensor([[False, True, False]]),
        ),
    )
    some = torch.tensor([[True, True, False], [True, False, True]])
    yield "each query may see two keys", (*tensors(2, 3, 5, 2), some)
    yield (
        "a query that may see nothing: zeros, and no NaN in the gradients",
        (
            *tensors(2, 3, 5, 2),
            torch.tensor([[True, False, True], [False, False, False]]),
        ),
    )
    query, key, value = tensors(2, 3, 5, 2, scale=4.0)
    # The lowest score is hidden, so that only the next input tells whether a hidden one is lowered enough.
    lowest = (query @ key.T).argmin(dim=-1, keepdim=True)
    yield "scores in the tens", (query, key, value, torch.arange(3) != lowest)
    yield "a hidden score lies 60 above the visible ones", _high_hidden_score()


def _high_hidden_score():
    """Numbers that are always the same: the scores of both queries are 0.3, 61 and 0.7."""
    query = torch.ones(2, 4)
    key = torch.tensor([[0.3], [61.0], [0.7]]).expand(3, 4) / 2
    value = torch.tensor([[1.0, -2.0], [3.0, 1.0], [-1.0, 0.5]])
    mask = torch.tensor([[True, False, True]]).expand(2, 3).clone()
    return *(tensor.requires_grad_() for tensor in (query, key, value)), mask


def _output_and_gradients(output, query, key, value, mask):
    if not output.requires_grad:
        raise Unusable(
            "No gradient can flow back from the output. Was it cut off, by .detach(), .item(), NumPy or "
            "no_grad?"
        )
    tensors = [tensor for tensor in (query, key, value) if tensor.requires_grad]
    try:
        gradients = torch.autograd.grad(
            output.square().sum(), tensors, allow_unused=True, materialize_grads=True
        )
    except RuntimeError as error:
        if "inplace operation" not in str(error):
            raise Unusable(f"The output can be computed, but not its gradients: {error}") from error
        raise Unusable(
            "The output can be computed, but not its gradients. You change a result in place "
            "(`weights *= mask`, `weights[...] = 0`), and softmax needs its result for the backward pass. "
            "Write `weights = weights * mask`."
        ) from error
    return (output, *gradients)


def _which_gradient(right, reading):
    if not right[0] or all(right):
        return ""
    place = right.index(False)
    name = ("query", "key", "value")[place - 1]
    if not reading[place].any():
        return (
            f"The output is right, but no gradient reaches `{name}`: were the weights cut off, by .detach() "
            f"or NumPy?"
        )
    return f"The output is right; the gradient of `{name}` is not:"


@exercise(
    "3.3",
    _masked_attention,
    reading=_output_and_gradients,
    remark=_which_gradient,
    solved="Outputs and gradients are right, also where nothing may be seen: no NaN will spread from here.",
)
def attention_with_added_mask(query, key, value, mask):
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])
    bias = torch.zeros(mask.shape, dtype=scores.dtype).masked_fill(~mask, -1e4)
    weights = (scores + bias).softmax(dim=-1) * mask
    return weights @ value


def _scaled_scores(query, key):
    return query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])


def _bias(mask, forbidden):
    return torch.zeros(mask.shape).masked_fill(~mask, forbidden)


infinite = attention_with_added_mask.mistake(
    "rows of minus infinity",
    "Where everything is hidden, all scores are minus infinity, and softmax divides 0 by 0: NaN. Add "
    "a large finite number below zero instead.",
)


@infinite
def infinite_rows(query, key, value, mask):
    return (_scaled_scores(query, key) + _bias(mask, -math.inf)).softmax(dim=-1) @ value


@infinite
def infinite_rows_filled(query, key, value, mask):
    return _scaled_scores(query, key).masked_fill(~mask, -math.inf).softmax(dim=-1) @ value


@attention_with_added_mask.mistake(
    "NaN mended too late",
    "Your output is right, but the gradients are NaN: in the backward pass the softmax multiplies by "
    "its own NaN, and 0 times NaN is NaN. Do not let one arise.",
)
def mended_too_late(query, key, value, mask):
    weights = (_scaled_scores(query, key) + _bias(mask, -math.inf)).softmax(dim=-1)
    return weights.masked_fill(weights.isnan(), 0.0) @ value


not_cleared = attention_with_added_mask.mistake(
    "all hidden, and still an answer",
    "A number added to *all* scores of a row changes no weight, so a query that may see nothing gets "
    "a mean of everything. Clear those rows after the softmax.",
)


@not_cleared
def rows_not_cleared(query, key, value, mask):
    return (_scaled_scores(query, key) + _bias(mask, -1e4)).softmax(dim=-1) @ value


@not_cleared
def rows_all_alike(query, key, value, mask):
    return (_scaled_scores(query, key) + _bias(mask, -1e9)).softmax(dim=-1) @ value


@attention_with_added_mask.mistake(
    "the mask after the softmax",
    "What is hidden has taken part in the sum that softmax divides by, so the weights left sum to "
    "less than one.",
)
def mask_after_softmax(query, key, value, mask):
    return (_scaled_scores(query, key).softmax(dim=-1) * mask) @ value


wrong_way_round = attention_with_added_mask.mistake(
    "the mask is the wrong way round",
    "True means *may attend*; you hide what may be seen and show what may not.",
)


@wrong_way_round
def polarity_of_bias(query, key, value, mask):
    return ((_scaled_scores(query, key) + _bias(~mask, -1e4)).softmax(dim=-1) * ~mask) @ value


@wrong_way_round
def polarity_infinite(query, key, value, mask):
    return _scaled_scores(query, key).masked_fill(mask, -math.inf).softmax(dim=-1) @ value


@wrong_way_round
def polarity_of_rows(query, key, value, mask):
    return (_scaled_scores(query, key) + _bias(~mask, -1e9)).softmax(dim=-1) @ value


@attention_with_added_mask.mistake(
    "the mask itself was added",
    "True counts as 1 and False as 0, so what is hidden has its score lowered by 1 and no more.",
)
def mask_added(query, key, value, mask):
    return (_scaled_scores(query, key) + mask).softmax(dim=-1) @ value


@attention_with_added_mask.mistake(
    "hidden scores set to 0",
    "e to 0 is 1, so what is hidden still gets weight. The score must go far below zero.",
)
def hidden_is_zero(query, key, value, mask):
    return (_scaled_scores(query, key) * mask).softmax(dim=-1) @ value


@attention_with_added_mask.mistake(
    "zero times infinity",
    "`~mask * -inf` is 0 times infinity wherever a key may be seen, and that is NaN. Use masked_fill "
    "or torch.where.",
)
def zero_times_infinity(query, key, value, mask):
    return (_scaled_scores(query, key) + ~mask * -math.inf).softmax(dim=-1) @ value


@attention_with_added_mask.mistake(
    "not low enough",
    "Your number is smaller than the scores it must beat: where they are large, hidden keys still take "
    "part in softmax. Take -1e4 or lower.",
)
def not_low_enough(query, key, value, mask):
    return ((_scaled_scores(query, key) + _bias(mask, -20.0)).softmax(dim=-1) * mask) @ value


@attention_with_added_mask.mistake("no scaling", "The scores are not divided by the root of d_k.")
def added_unscaled(query, key, value, mask):
    return ((query @ key.transpose(-2, -1) + _bias(mask, -1e4)).softmax(dim=-1) * mask) @ value


unscaled_and_more = attention_with_added_mask.mistake(
    "no scaling",
    "The scores are not divided by the root of d_k. That is not all: mend it, and check again.",
)


@unscaled_and_more
def unscaled_infinite(query, key, value, mask):
    return (query @ key.transpose(-2, -1) + _bias(mask, -math.inf)).softmax(dim=-1) @ value


@unscaled_and_more
def unscaled_not_cleared(query, key, value, mask):
    return (query @ key.transpose(-2, -1) + _bias(mask, -1e4)).softmax(dim=-1) @ value


@unscaled_and_more
def unscaled_all_alike(query, key, value, mask):
    return (query @ key.transpose(-2, -1) + _bias(mask, -1e9)).softmax(dim=-1) @ value


@attention_with_added_mask.mistake(
    "scaled by d_k", "The scores are divided by d_k and not by its root, so the weights are too even."
)
def added_scaled_by_d(query, key, value, mask):
    scores = query @ key.transpose(-2, -1) / query.shape[-1]
    return ((scores + _bias(mask, -1e4)).softmax(dim=-1) * mask) @ value


ignored = attention_with_added_mask.mistake(
    "the mask is not used",
    "This is plain attention: what is hidden is looked at all the same. Lower its score far before the "
    "softmax.",
)


@ignored
def mask_ignored(query, key, value, mask):
    return _scaled_scores(query, key).softmax(dim=-1) @ value


@ignored
def mask_ignored_unscaled(query, key, value, mask):
    return (query @ key.transpose(-2, -1)).softmax(dim=-1) @ value


@attention_with_added_mask.mistake(
    "added after the softmax",
    "You lower the weights, not the scores, so what is hidden has a large weight below zero. Add before the "
    "softmax.",
)
def added_after_softmax(query, key, value, mask):
    return (_scaled_scores(query, key).softmax(dim=-1) + _bias(mask, -1e4)) @ value


@attention_with_added_mask.mistake(
    "added after the softmax",
    "You lower the weights, not the scores, and minus infinity as a weight gives infinite or NaN outputs. "
    "Add before the softmax.",
)
def infinity_after_softmax(query, key, value, mask):
    return (_scaled_scores(query, key).softmax(dim=-1) + _bias(mask, -math.inf)) @ value


hidden_all_the_same = attention_with_added_mask.mistake(
    "hidden scores not lowered enough",
    "What is hidden still takes part in the softmax's sum, since its score is 0, or 1 less than it was. "
    "Clearing the weights afterwards leaves rows that sum to less than one. Lower the score by 1e4.",
)


@hidden_all_the_same
def zero_and_cleared(query, key, value, mask):
    return ((_scaled_scores(query, key) * mask).softmax(dim=-1) * mask) @ value


@hidden_all_the_same
def mask_added_and_cleared(query, key, value, mask):
    return ((_scaled_scores(query, key) + mask).softmax(dim=-1) * mask) @ value


@attention_with_added_mask.mistake(
    "shown and hidden at once",
    "The bias lowers what may be seen, and the product after the softmax clears the rest, or the other way "
    "round: one of the two takes the mask the wrong way. True means *may attend* in both.",
)
def bias_turned_round(query, key, value, mask):
    return ((_scaled_scores(query, key) + _bias(~mask, -1e4)).softmax(dim=-1) * mask) @ value


@attention_with_added_mask.mistake(
    "softmax over the queries",
    "The last axis of the scores counts the keys, and there the weights must sum to one.",
)
def added_over_queries(query, key, value, mask):
    return ((_scaled_scores(query, key) + _bias(mask, -1e4)).softmax(dim=-2) * mask) @ value


@attention_with_added_mask.mistake(
    "no softmax", "Scores may be negative and sum to anything. The softmax makes weights of them."
)
def added_no_softmax(query, key, value, mask):
    return ((_scaled_scores(query, key) + _bias(mask, -1e4)) * mask) @ value


@attention_with_added_mask.mistake(
    "the keys are not transposed",
    "`query @ key` multiplies (query, d_k) by (key, d_k), whose inner sizes differ. Every query meets every "
    "key over d_k: exchange the last two axes of the keys.",
)
def keys_not_transposed(query, key, value, mask):
    return query @ key


def _plain_attention(g):
    def tensors(num_queries, num_keys, d_k, d_v):
        sizes = (num_queries, d_k), (num_keys, d_k), (num_keys, d_v)
        return tuple(torch.randn(size, generator=g) for size in sizes)

    yield "width 1", tensors(2, 3, 1, 2)
    yield "width 4", tensors(2, 3, 4, 2)
    yield "width 16", tensors(2, 3, 16, 2)
    yield "a batch of two", tuple(torch.randn(2, *size, generator=g) for size in ((3, 7), (5, 7), (5, 2)))


@exercise("3.4", _plain_attention, solved="The scores' variance is 1 again, at every width.")
def suspicious_attention(query, key, value):
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])
    return scores.softmax(dim=-1) @ value


@suspicious_attention.mistake("scaled by d_k", "Divided by d_k and not by its root.", as_given=True)
def scaled_by_d(query, key, value):
    return (query @ key.transpose(-2, -1) / query.shape[-1]).softmax(dim=-1) @ value


@suspicious_attention.mistake(
    "no scaling",
    "Now nothing is divided. The variance of the scores is d_k: the wider, the more one key takes all.",
)
def unscaled(query, key, value):
    return (query @ key.transpose(-2, -1)).softmax(dim=-1) @ value


@suspicious_attention.mistake("multiplied by the root", "The scores must be *divided* by the root of d_k.")
def multiplied_by_root(query, key, value):
    return (query @ key.transpose(-2, -1) * math.sqrt(query.shape[-1])).softmax(dim=-1) @ value


wrong_root = suspicious_attention.mistake(
    "the root of the wrong axis",
    "-2 counts the positions and -1 is their width: it is the width whose root counts.",
)


@wrong_root
def root_of_keys(query, key, value):
    return (query @ key.transpose(-2, -1) / math.sqrt(key.shape[-2])).softmax(dim=-1) @ value


@wrong_root
def root_of_queries(query, key, value):
    return (query @ key.transpose(-2, -1) / math.sqrt(query.shape[-2])).softmax(dim=-1) @ value


@wrong_root
def root_of_first_axis(query, key, value):
    return (query @ key.transpose(-2, -1) / math.sqrt(query.shape[0])).softmax(dim=-1) @ value


@suspicious_attention.mistake(
    "divided after the softmax",
    "The weights are divided, and no longer sum to one. Divide the scores, before it.",
)
def divided_after(query, key, value):
    return (query @ key.transpose(-2, -1)).softmax(dim=-1) / math.sqrt(query.shape[-1]) @ value


@suspicious_attention.mistake(
    "softmax over the queries", "The last axis counts the keys, and there the weights must sum to one."
)
def suspicious_axis(query, key, value):
    return (query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])).softmax(dim=-2) @ value


def _two_sequences(g):
    def tensors(num_queries, num_keys, d_model, d_k):
        x, memory = (torch.randn(count, d_model, generator=g) for count in (num_queries, num_keys))
        # Smaller matrices: where one key takes all the weight, no wrong scale would show.
        return x, memory, *(0.7 * torch.randn(d_model, d_k, generator=g) for _ in range(3))

    yield "a memory of one word: its value, for each query", tensors(2, 1, 3, 2)
    yield "as many queries as keys", tensors(3, 3, 5, 2)
    yield "five queries, two keys", tensors(5, 2, 3, 12)


@exercise(
    "3.5",
    _two_sequences,
    solved="With x as the memory it is self-attention, with another memory a decoder's look back.",
)
def cross_attention(x, memory, w_q, w_k, w_v):
    query, key, value = x @ w_q, memory @ w_k, memory @ w_v
    return (query @ key.T / math.sqrt(key.shape[-1])).softmax(dim=-1) @ value


def _attend(query, key, value, scale=None):
    scale = 1 / math.sqrt(key.shape[-1]) if scale is None else scale
    return (query @ key.T * scale).softmax(dim=-1) @ value


@cross_attention.mistake(
    "keys and values swapped",
    "You score by the values and bring the keys home. W^K makes what is compared with the query, W^V "
    "what is brought.",
)
def swapped(x, memory, w_q, w_k, w_v):
    return _attend(x @ w_q, memory @ w_v, memory @ w_k)


@cross_attention.mistake(
    "the memory asks",
    "Your queries come from the memory, so the output has a row for each of *its* positions. x asks.",
)
def memory_asks(x, memory, w_q, w_k, w_v):
    return _attend(memory @ w_q, x @ w_k, x @ w_v)


@cross_attention.mistake("x looks at itself", "Keys and values come from x: the memory is not used at all.")
def self_attention(x, memory, w_q, w_k, w_v):
    return _attend(x @ w_q, x @ w_k, x @ w_v)


@cross_attention.mistake("no scaling", "The scores are not divided by the root of d_k.")
def cross_unscaled(x, memory, w_q, w_k, w_v):
    return _attend(x @ w_q, memory @ w_k, memory @ w_v, scale=1.0)


@cross_attention.mistake(
    "scaled by d_k", "The scores are divided by d_k and not by its root, so the weights are too even."
)
def cross_scaled_by_d(x, memory, w_q, w_k, w_v):
    return _attend(x @ w_q, memory @ w_k, memory @ w_v, scale=1 / w_k.shape[-1])


@cross_attention.mistake(
    "the root of d_model",
    "Queries and keys have the width d_k, that of their matrices' columns. Take its root.",
)
def root_of_d_model(x, memory, w_q, w_k, w_v):
    return _attend(x @ w_q, memory @ w_k, memory @ w_v, scale=1 / math.sqrt(x.shape[-1]))


@cross_attention.mistake("one matrix for queries and keys", "The keys need W^K; you made them with W^Q.")
def keys_by_w_q(x, memory, w_q, w_k, w_v):
    return _attend(x @ w_q, memory @ w_q, memory @ w_v)


@cross_attention.mistake(
    "softmax over the queries",
    "The last axis of the scores counts the keys, and there the weights must sum to one.",
)
def cross_over_queries(x, memory, w_q, w_k, w_v):
    query, key, value = x @ w_q, memory @ w_k, memory @ w_v
    return (query @ key.T / math.sqrt(key.shape[-1])).softmax(dim=0) @ value


@cross_attention.mistake(
    "the memory asks itself",
    "Queries, keys and values all come from the memory, and x is not used. x asks.",
)
def memory_alone(x, memory, w_q, w_k, w_v):
    return _attend(memory @ w_q, memory @ w_k, memory @ w_v)


@cross_attention.mistake(
    "values from x", "Whoever is asked gives both keys and values. Your values come from x."
)
def values_from_x(x, memory, w_q, w_k, w_v):
    return _attend(x @ w_q, memory @ w_k, x @ w_v)


@cross_attention.mistake("keys from x", "Whoever is asked gives both keys and values. Your keys come from x.")
def keys_from_x(x, memory, w_q, w_k, w_v):
    return _attend(x @ w_q, x @ w_k, memory @ w_v)


@cross_attention.mistake("one matrix for keys and values", "The values need W^V; you made them with W^K.")
def values_by_w_k(x, memory, w_q, w_k, w_v):
    return _attend(x @ w_q, memory @ w_k, memory @ w_k)


@cross_attention.mistake(
    "the values are not projected", "You bring the memory home as it is. What is brought is memory @ W^V."
)
def values_as_they_are(x, memory, w_q, w_k, w_v):
    return _attend(x @ w_q, memory @ w_k, memory)


@cross_attention.mistake(
    "no softmax", "Scores may be negative and sum to anything. The softmax makes weights of them."
)
def cross_no_softmax(x, memory, w_q, w_k, w_v):
    query, key, value = x @ w_q, memory @ w_k, memory @ w_v
    return query @ key.T / math.sqrt(key.shape[-1]) @ value


@cross_attention.mistake(
    "the root of the number of keys",
    "-1 counts the width and -2 (or 0) the positions: it is the width whose root counts.",
)
def root_of_positions(x, memory, w_q, w_k, w_v):
    return _attend(x @ w_q, memory @ w_k, memory @ w_v, scale=1 / math.sqrt(len(memory)))


@cross_attention.mistake(
    "the keys are not transposed",
    "Every query meets every key over d_k: `query @ key.T`, (query, d_k) times (d_k, key).",
)
def cross_not_transposed(x, memory, w_q, w_k, w_v):
    return (x @ w_q) @ (memory @ w_k)


@target("3.6", solved="Half the error with no parameter more.")
def better_signals(answer, generator, *, make_signals, parameters, error):
    model = trained_model(answer)
    inputs, _, centre, _, height = make_signals(1000, generator)
    found = score(model, (inputs,), lambda output: (output[:, 0].gather(1, centre) - height).abs().mean())
    size = sum(parameter.numel() for parameter in model.parameters())
    return [Goal("parameters", size, at_most=parameters), Goal("error on new signals", found, at_most=error)]
