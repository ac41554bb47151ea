"""The exercises of chapter 4: heads that are split and merged, counted, shuffled and shared."""

import math

import torch

from course_lib.exercises.exercise import Goal, exercise, target
from course_lib.exercises.models import score, trained_model

TITLE = "Multi-head attention"


def _split(x, num_heads):
    """(batch, position, d_model) to (batch, head, position, d_k)."""
    return x.unflatten(-1, (num_heads, -1)).transpose(1, 2)


def _heads(g):
    yield "a single head", (torch.randn(2, 1, 3, 5, generator=g),)
    yield "heads of width 1", (torch.randn(1, 3, 2, 1, generator=g),)
    yield "two heads, two positions", (torch.randn(1, 2, 2, 3, generator=g),)
    yield "a batch of two, three heads, five positions, width 7", (torch.randn(2, 3, 5, 7, generator=g),)


@exercise("4.1", _heads, solved="It undoes the split: nothing is lost, nothing is moved.")
def my_merge(heads):
    batch, num_heads, position, d_k = heads.shape
    return heads.transpose(1, 2).reshape(batch, position, num_heads * d_k)


@my_merge.mistake(
    "reshaped without transposing",
    "The shape is right and the numbers are mixed up: reshape reads them in the order in which they "
    "lie, head by head, so a row of yours holds several positions of one head. Bring head and d_k "
    "side by side first.",
)
def not_transposed(heads):
    batch, num_heads, position, d_k = heads.shape
    return heads.reshape(batch, position, num_heads * d_k)


@my_merge.mistake(
    "heads dealt out channel by channel",
    "You lay the first channel of every head side by side, then the second. Concatenating keeps each "
    "head's channels together: (position, head, d_k), not (position, d_k, head).",
)
def interleaved(heads):
    return heads.permute(0, 2, 3, 1).flatten(2)


@my_merge.mistake("the last head first", "The heads are laid side by side in their order, head 0 first.")
def last_head_first(heads):
    return heads.flip(1).transpose(1, 2).flatten(2)


@my_merge.mistake(
    "the heads are added up", "Merging lays the heads side by side: d_model is num_heads times d_k."
)
def added_up(heads):
    return heads.sum(dim=1)


@my_merge.mistake(
    "positions laid side by side", "Your result has a row for each head. It must have one for each position."
)
def positions_merged(heads):
    return heads.flatten(2)


@my_merge.mistake(
    "the wrong axes transposed",
    "You exchange the positions and d_k. What must come side by side are the heads and d_k, so exchange the "
    "heads and the positions: `transpose(1, 2)`.",
)
def wrong_axes(heads):
    batch, num_heads, position, d_k = heads.shape
    return heads.transpose(2, 3).reshape(batch, position, num_heads * d_k)


def _inputs_and_matrices(g):
    yield "a single head", (torch.randn(1, 2, 3, generator=g), torch.randn(1, 3, 3, generator=g))
    yield "one position", (torch.randn(2, 1, 4, generator=g), torch.randn(2, 4, 2, generator=g))
    yield "as many heads as positions", (torch.randn(1, 3, 6, generator=g), torch.randn(3, 6, 2, generator=g))
    yield "all sizes different", (torch.randn(2, 5, 12, generator=g), torch.randn(3, 12, 4, generator=g))


@exercise(
    "4.2", _inputs_and_matrices, solved="One line projects for all heads, with no reshape to get wrong."
)
def project_heads(x, W):
    return torch.einsum("bnm,hmd->bhnd", x, W)


@project_heads.mistake(
    "split without transposing",
    "The projections are right, and then cut into heads by a reshape alone. So a head gets some "
    "positions' channels of all heads, not all positions of its own. Split the last axis, then "
    "transpose.",
)
def split_without_transposing(x, W):
    side_by_side = x @ torch.cat(list(W), dim=1)
    return side_by_side.reshape(len(x), len(W), x.shape[1], -1)


@project_heads.mistake(
    "positions before heads",
    "Attention multiplies the last two axes, so the heads must come before the positions: b h n d.",
)
def positions_first(x, W):
    return torch.einsum("bnm,hmd->bnhd", x, W)


@project_heads.mistake("one matrix for all heads", "Every head got the first matrix. Each has its own, W[h].")
def first_matrix(x, W):
    return torch.einsum("bnm,hmd->bhnd", x, W[:1].expand_as(W))


@project_heads.mistake(
    "heads added up", "h is missing on the right of the arrow, so einsum has summed over the heads."
)
def heads_summed(x, W):
    return torch.einsum("bnm,hmd->bnd", x, W)


@project_heads.mistake(
    "channels dealt out like cards",
    "Head 0 got every num_heads-th channel of the wide projection. Its channels are neighbours: "
    "unflatten the last axis into (head, d_k), not (d_k, head).",
)
def dealt_out(x, W):
    side_by_side = x @ torch.cat(list(W), dim=1)
    return side_by_side.unflatten(-1, (-1, len(W))).permute(0, 3, 1, 2)


@project_heads.mistake(
    "heads taken for the batch",
    "`x @ W` lines shapes up from the right, so the heads of W meet the sentences of x. Give x an axis for "
    "the heads, `x[:, None] @ W`, or write the axes down with einsum.",
)
def heads_meet_sentences(x, W):
    return x @ W


@project_heads.mistake(
    "heads before the sentences",
    "You stack the heads in front, (head, batch, position, d_k). The sentences come first: "
    "`torch.stack(..., dim=1)`, b h n d.",
)
def heads_in_front(x, W):
    return torch.einsum("bnm,hmd->hbnd", x, W)


def _layer_sizes(g):
    def some(low, high):
        return int(torch.randint(low, high, (), generator=g))

    yield "one head, as many queries as keys", (some(3, 9), 1, 3, 3)
    yield "more keys than queries", (4 * some(2, 5), 4, 2, some(5, 9))
    yield "more queries than keys", (3 * some(2, 5), 3, some(5, 9), 2)


@exercise(
    "4.3", _layer_sizes, solved="You can tell before you build it what a layer will cost.", tolerance=1e-9
)
def count(d_model, num_heads, n, m):
    parameters = 4 * (d_model**2 + d_model)
    projections = 2 * n * d_model**2 + 2 * m * d_model**2
    return parameters, projections + 2 * n * m * d_model


@count.mistake("the biases are missing", "Each of the four projections has a bias of d_model numbers.")
def no_biases(d_model, num_heads, n, m):
    return 4 * d_model**2, 2 * (n + m) * d_model**2 + 2 * n * m * d_model


@count.mistake("a projection is missing", "There are four: queries, keys, values, and the output's.")
def three_projections(d_model, num_heads, n, m):
    return 3 * (d_model**2 + d_model), (n + 2 * m) * d_model**2 + 2 * n * m * d_model


@count.mistake(
    "all projections see the queries",
    "The projections of keys and values act on the m keys, the other two on the n queries.",
)
def all_see_queries(d_model, num_heads, n, m):
    return 4 * (d_model**2 + d_model), 4 * n * d_model**2 + 2 * n * m * d_model


@count.mistake(
    "one head's scores alone",
    "Every head has its own n times m scores of width d_k; together that is the width d_model.",
)
def one_heads_scores(d_model, num_heads, n, m):
    d_k = d_model // num_heads
    return 4 * (d_model**2 + d_model), 2 * (n + m) * d_model**2 + 2 * n * m * d_k


@count.mistake(
    "the product with the values is missing",
    "Two products are as large as n × m: queries by keys, and weights by values.",
)
def no_values(d_model, num_heads, n, m):
    return 4 * (d_model**2 + d_model), 2 * (n + m) * d_model**2 + n * m * d_model


@count.mistake(
    "the full width for every head",
    "The heads share the width: each has d_model / num_heads. With the full width for each you count "
    "num_heads times too much.",
)
def full_width_heads(d_model, num_heads, n, m):
    return 4 * (d_model**2 + d_model), 2 * (n + m) * d_model**2 + 2 * num_heads * n * m * d_model


@count.mistake(
    "all projections see the keys",
    "The queries' projection and the output's act on the n queries, the other two on the m keys.",
)
def all_see_keys(d_model, num_heads, n, m):
    return 4 * (d_model**2 + d_model), 4 * m * d_model**2 + 2 * n * m * d_model


@count.mistake(
    "additions counted as well",
    "You count twice as many: each multiplication and the addition after it. Multiplications alone are asked "
    "for.",
)
def additions_too(d_model, num_heads, n, m):
    parameters, products = count.reference(d_model, num_heads, n, m)
    return parameters, 2 * products


@count.mistake(
    "the projections are missing",
    "You count the two products of the attention. Before them stand three projections, and behind them one.",
)
def no_projections(d_model, num_heads, n, m):
    return 4 * (d_model**2 + d_model), 2 * n * m * d_model


@count.mistake(
    "every head's matrices at full width",
    "A head's matrices have d_model rows and d_model / num_heads columns. Together the heads are as wide as "
    "one, so the number of heads does not appear.",
)
def full_width_matrices(d_model, num_heads, n, m):
    parameters, products = count.reference(d_model, num_heads, n, m)
    return num_heads * parameters, num_heads * products


@count.mistake(
    "the biases multiply nothing",
    "You count the biases among the multiplications. They are added: parameters, but no products.",
)
def biases_multiplied(d_model, num_heads, n, m):
    parameters, products = count.reference(d_model, num_heads, n, m)
    return parameters, products + 2 * (n + m) * d_model


@count.mistake("the two results exchanged", "The parameters come first, and then the multiplications.")
def products_first(d_model, num_heads, n, m):
    return count.reference(d_model, num_heads, n, m)[::-1]


def _layers_and_inputs(g):
    matrix = torch.randn(3, 3, generator=g)

    def self_attention(x):
        return (x @ matrix @ x.transpose(-2, -1)).softmax(dim=-1) @ x

    def causal_attention(x):
        scores = x @ matrix @ x.transpose(-2, -1)
        future = torch.ones(x.shape[1], x.shape[1]).triu(1).bool()
        return scores.masked_fill(future, -math.inf).softmax(dim=-1) @ x

    def looks_at_the_first_position(x):
        return x.mean(dim=1, keepdim=True) + x[:, :1].expand_as(x)

    def adds_a_code_of_position(x):
        return x + torch.arange(x.shape[1])[:, None]

    def mean_of_all_positions(x):
        return x.mean(dim=1, keepdim=True).expand_as(x)

    def mixes_the_sentences(x):
        return x + x[0]

    layers = (
        (self_attention, "self-attention: equivariant"),
        (causal_attention, "a causal mask: not equivariant"),
        (mean_of_all_positions, "a mean that all positions get: equivariant"),
        (looks_at_the_first_position, "a layer that adds the first position: not equivariant"),
        (adds_a_code_of_position, "a code of position: not equivariant"),
        (mixes_the_sentences, "a layer that adds the first sentence to all: not equivariant"),
    )
    for layer, what in layers:
        yield what, (layer, torch.randn(2, 5, 3, generator=g))


@exercise(
    "4.4", _layers_and_inputs, solved="Now you can ask any layer whether it knows the order of its words."
)
def is_equivariant(function, x):
    order = torch.arange(x.shape[1]).roll(1)
    return torch.allclose(function(x[:, order]), function(x)[:, order], atol=1e-5)


@is_equivariant.mistake(
    "a test for invariance",
    "You ask whether the outputs stay the same when the positions are shuffled. Equivariance asks "
    "whether they are shuffled in the same way.",
)
def invariance(function, x):
    order = torch.arange(x.shape[1]).roll(1)
    return torch.allclose(function(x[:, order]), function(x), atol=1e-5)


@is_equivariant.mistake(
    "the sentences were shuffled", "You change the order along axis 0, the batch. The positions are axis 1."
)
def batch_shuffled(function, x):
    order = torch.arange(x.shape[0]).roll(1)
    return torch.allclose(function(x[order]), function(x)[order], atol=1e-5)


@is_equivariant.mistake(
    "always True",
    "Nothing can fail your test. Does it compare shapes alone, or shuffle in an order that leaves every "
    "position where it is?",
)
def always_true(function, x):
    return function(x).shape == x.shape


@is_equivariant.mistake(
    "compared with the input",
    "You compare the function's answer to shuffled positions with the shuffled *input*. Compare it with the "
    "shuffled output.",
)
def compared_with_input(function, x):
    order = torch.arange(x.shape[1]).roll(1)
    return torch.allclose(function(x[:, order]), x[:, order], atol=1e-5)


@is_equivariant.mistake("the opposite answer", "True must mean that the layer is equivariant.")
def opposite(function, x):
    order = torch.arange(x.shape[1]).roll(1)
    return not torch.allclose(function(x[:, order]), function(x)[:, order], atol=1e-5)


@is_equivariant.mistake(
    "only the output was shuffled",
    "You compare the output with itself, shuffled. Shuffle the *input* as well: function(x[:, order]) "
    "against function(x)[:, order].",
)
def output_alone(function, x):
    order = torch.arange(x.shape[1]).roll(1)
    return torch.allclose(function(x), function(x)[:, order], atol=1e-5)


def _numbered(g):
    for what, (batch, position, d_model, num_heads) in (
        ("a single head", (1, 3, 4, 1)),
        ("two heads; the entry of position p and channel c is 10p + c", (1, 3, 4, 2)),
        ("as many heads as positions", (1, 3, 6, 3)),
        ("a batch of two, three heads", (2, 5, 12, 3)),
    ):
        start = torch.randint(1, 5, (batch, 1, 1), generator=g)
        yield what, (10 * torch.arange(position)[:, None] + torch.arange(d_model) + 100 * start, num_heads)


@exercise("4.5", _numbered, solved="With the same split as everybody else's, parameters can be copied over.")
def suspicious_split(x, num_heads):
    x = x.unflatten(-1, (num_heads, -1))
    return x.permute(0, 2, 1, 3)


@suspicious_split.mistake("channels dealt out like cards", "Head 0 got every second channel.", as_given=True)
def split_as_given(x, num_heads):
    return x.unflatten(-1, (-1, num_heads)).permute(0, 3, 1, 2)


@suspicious_split.mistake(
    "split without transposing",
    "A reshape alone gives a head some positions' channels, not all positions of its own.",
)
def reshaped_alone(x, num_heads):
    return x.reshape(len(x), num_heads, x.shape[1], -1)


@suspicious_split.mistake(
    "positions before heads",
    "The axes are (batch, head, position, d_k); yours are (batch, position, head, d_k).",
)
def unflattened_alone(x, num_heads):
    return x.unflatten(-1, (num_heads, -1))


@suspicious_split.mistake(
    "d_k before the positions",
    "The axes are (batch, head, position, d_k); yours are (batch, head, d_k, position).",
)
def width_first(x, num_heads):
    return x.unflatten(-1, (num_heads, -1)).permute(0, 2, 3, 1)


@suspicious_split.mistake("the last head first", "Head 0 has the first channels.")
def heads_backwards(x, num_heads):
    return _split(x, num_heads).flip(1)


@suspicious_split.mistake(
    "the batch moved back",
    "The axes are (batch, head, position, d_k): the sentences stay in front.",
)
def heads_before_batch(x, num_heads):
    return x.unflatten(-1, (num_heads, -1)).permute(2, 0, 1, 3)


def _queries_of_heads(g):
    for what, (batch, head, query, key, d_k) in (
        ("one key: its value, for every head and query", (1, 2, 2, 1, 3)),
        ("two heads and a batch of two", (2, 2, 3, 5, 4)),
        ("a batch of two, three heads", (2, 3, 5, 7, 4)),
    ):
        sizes = (batch, head, query, d_k), (batch, key, d_k), (batch, key, d_k)
        yield what, tuple(torch.randn(size, generator=g) for size in sizes)


@exercise(
    "4.6", _queries_of_heads, solved="Every head asks on its own, and one key and one value serve them all."
)
def multi_query(q, k, v):
    weights = (q @ k[:, None].transpose(-2, -1) / math.sqrt(q.shape[-1])).softmax(dim=-1)
    return weights @ v[:, None]


@multi_query.mistake("keys and values swapped", "You score by the values and bring the keys home.")
def shared_swapped(q, k, v):
    return multi_query.reference(q, v, k)


@multi_query.mistake("no scaling", "The scores are not divided by the root of d_k.")
def shared_unscaled(q, k, v):
    return (q @ k[:, None].transpose(-2, -1)).softmax(dim=-1) @ v[:, None]


@multi_query.mistake("scaled by d_k", "The scores are divided by d_k and not by its root.")
def shared_scaled_by_d(q, k, v):
    return (q @ k[:, None].transpose(-2, -1) / q.shape[-1]).softmax(dim=-1) @ v[:, None]


@multi_query.mistake(
    "softmax over the heads",
    "Axis 1 counts the heads. Each head has its own softmax, over the keys: the last axis.",
)
def over_heads(q, k, v):
    return (q @ k[:, None].transpose(-2, -1) / math.sqrt(q.shape[-1])).softmax(dim=1) @ v[:, None]


@multi_query.mistake("softmax over the queries", "The last axis of the scores counts the keys.")
def shared_over_queries(q, k, v):
    return (q @ k[:, None].transpose(-2, -1) / math.sqrt(q.shape[-1])).softmax(dim=-2) @ v[:, None]


@multi_query.mistake(
    "one query for all heads as well",
    "Every head asks with its own queries; only keys and values are shared.",
)
def one_query(q, k, v):
    return multi_query.reference(q[:, :1].expand_as(q), k, v)


@multi_query.mistake(
    "no axis for the heads",
    "`q @ k.transpose(-2, -1)` lines shapes up from the right, so the heads of q meet the sentences of k. "
    "Give k and v an axis for the heads: `k[:, None]`.",
)
def heads_meet_sentences_again(q, k, v):
    return (q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])).softmax(dim=-1) @ v


@multi_query.mistake(
    "the values have no axis for the heads",
    "The scores are right. The weights are (batch, head, query, key), so v needs an axis for the heads, too: "
    "`v[:, None]`.",
)
def values_without_heads(q, k, v):
    return (q @ k[:, None].transpose(-2, -1) / math.sqrt(q.shape[-1])).softmax(dim=-1) @ v


@multi_query.mistake(
    "the root of d_model",
    "A head's queries have the width d_k. Take its root, not that of all heads together.",
)
def shared_root_of_d_model(q, k, v):
    scores = q @ k[:, None].transpose(-2, -1) / math.sqrt(q.shape[1] * q.shape[-1])
    return scores.softmax(dim=-1) @ v[:, None]


@multi_query.mistake(
    "the heads are merged",
    "The result has the form of q, (batch, head, query, d_k). Merging the heads comes later.",
)
def merged_already(q, k, v):
    return my_merge.reference(multi_query.reference(q, k, v))


@multi_query.mistake(
    "no softmax", "Scores may be negative and sum to anything. The softmax makes weights of them."
)
def shared_no_softmax(q, k, v):
    return q @ k[:, None].transpose(-2, -1) / math.sqrt(q.shape[-1]) @ v[:, None]


@multi_query.mistake(
    "the values are not used", "You return the weights. What comes home is their product with the values."
)
def weights_alone(q, k, v):
    return (q @ k[:, None].transpose(-2, -1) / math.sqrt(q.shape[-1])).softmax(dim=-1)


@target("4.7", solved="Two heads of width 4 tell eight names apart.")
def small_table(answer, generator, *, make_tables, parameters):
    model = trained_model(answer)
    notes, names, numbers, wanted = make_tables(2000, generator)
    found = score(model, (notes, names, numbers), lambda output: (output - wanted).square().mean())
    size = sum(parameter.numel() for parameter in model.parameters())
    return [Goal("parameters", size, at_most=parameters), Goal("error on new tables", found, at_most=0.001)]
