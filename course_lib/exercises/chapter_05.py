"""The exercises of chapter 5: the waves of a sinusoid, distances for a cache, rotations and slopes."""

import math

import torch

from course_lib.exercises.exercise import Goal, Unusable, exercise, target
from course_lib.positions import RelativePositionBias

TITLE = "Positional encoding"


def _widths(g):
    yield "a single pair: it turns by one radian a position", (2, 10000.0)
    yield "two pairs and a small base", (4, 100.0)
    yield "the paper's width and its base", (512,)
    yield (
        "another width and base",
        (
            2 * int(torch.randint(3, 40, (), generator=g)),
            float(torch.randint(20, 2000, (), generator=g)),
        ),
    )


@exercise(
    "5.1",
    _widths,
    solved="The paper's figure is the limit for great width, not the value at 512.",
    tolerance=1e-6,
)
def slowest(d_model, base=10000.0):
    return 2 * math.pi * base ** ((d_model - 2) / d_model)


@slowest.mistake(
    "one pair too far",
    "The pairs are numbered from 0, so the last is d_model/2 − 1. You have taken number d_model/2.",
)
def one_pair_too_far(d_model, base=10000.0):
    return 2 * math.pi * base


@slowest.mistake(
    "radians, not turns", "You have the number of positions for one radian. Once round is 2π of them."
)
def radians(d_model, base=10000.0):
    return base ** ((d_model - 2) / d_model)


@slowest.mistake(
    "the channel's number in the exponent",
    "The exponent is 2i / d_model, shared by sine and cosine. With the last channel's number, d_model"
    " − 1, it is the other formula in circulation.",
)
def exponent_of_the_cosine(d_model, base=10000.0):
    return 2 * math.pi * base ** ((d_model - 1) / d_model)


@slowest.mistake(
    "the fastest pair", "Pair 0 is the fastest, and goes round in 2π positions whatever the width."
)
def fastest(d_model, base=10000.0):
    return 2 * math.pi


@slowest.mistake(
    "the frequency", "You have the part of a turn that one position makes. The period is one divided by it."
)
def frequency(d_model, base=10000.0):
    return base ** (-(d_model - 2) / d_model) / (2 * math.pi)


@slowest.mistake(
    "half the exponent",
    "The exponent of pair i is 2i / d_model, and the last pair is d_model/2 − 1; the 2 is missing.",
)
def slowest_half_exponent(d_model, base=10000.0):
    return 2 * math.pi * base ** ((d_model // 2 - 1) / d_model)


@slowest.mistake("the base is fixed", "You always take 10000. The base is given: use `base`.")
def slowest_fixed_base(d_model, base=10000.0):
    return slowest.reference(d_model)


@slowest.mistake(
    "the angle of one step",
    "You have the angle, in radians, by which the pair turns from one position to the next. Once round is "
    "2π: divide 2π by it.",
)
def angle_of_a_step(d_model, base=10000.0):
    return base ** (-(d_model - 2) / d_model)


def _distances(g):
    yield "distance 0: half of d_model", (0, 8)
    yield "a single pair", (int(torch.randint(1, 5, (), generator=g)), 2)
    yield "a distance forwards", (int(torch.randint(2, 9, (), generator=g)), 16)
    yield "a distance backwards, another base", (-int(torch.randint(2, 9, (), generator=g)), 6, 50.0)


@exercise("5.2", _distances, solved="The product knows the distance, and not which of the two came first.")
def similarity(distance, d_model, base=10000.0):
    return sum(math.cos(distance * base ** (-2 * i / d_model)) for i in range(d_model // 2))


@similarity.mistake(
    "a sine", "sin a sin b + cos a cos b is the *cosine* of a − b. At distance 0 every pair gives 1."
)
def sine(distance, d_model, base=10000.0):
    return sum(math.sin(distance * base ** (-2 * i / d_model)) for i in range(d_model // 2))


@similarity.mistake("every pair counted twice", "There are d_model/2 pairs, and each gives one cosine.")
def twice(distance, d_model, base=10000.0):
    return 2 * similarity.reference(distance, d_model, base)


@similarity.mistake(
    "channels taken for pairs", "i runs over the pairs, 0 to d_model/2 − 1; you let it run over the channels."
)
def channels(distance, d_model, base=10000.0):
    return sum(math.cos(distance * base ** (-2 * i / d_model)) for i in range(d_model))


@similarity.mistake(
    "the mean of the cosines", "A dot product adds up: the sum of the cosines, not their mean."
)
def mean(distance, d_model, base=10000.0):
    return similarity.reference(distance, d_model, base) / (d_model // 2)


@similarity.mistake("the frequencies grow", "Later pairs turn more slowly: the exponent is −2i / d_model.")
def growing(distance, d_model, base=10000.0):
    return sum(math.cos(distance * base ** (2 * i / d_model)) for i in range(d_model // 2))


@similarity.mistake("half the exponent", "The exponent is −2i / d_model; the 2 is missing.")
def half_exponent(distance, d_model, base=10000.0):
    return sum(math.cos(distance * base ** (-i / d_model)) for i in range(d_model // 2))


@similarity.mistake("the base is fixed", "You always take 10000. The base is given: use `base`.")
def similarity_fixed_base(distance, d_model, base=10000.0):
    return similarity.reference(distance, d_model)


@similarity.mistake(
    "doubled twice",
    "You count 0, 2, 4, ..., which is 2i already, and multiply by 2 once more. The exponent is −2i / "
    "d_model.",
)
def doubled_twice(distance, d_model, base=10000.0):
    return sum(math.cos(distance * base ** (-2 * i / d_model)) for i in range(0, d_model, 2))


@similarity.mistake("pairs counted from 1", "i begins at 0: the first pair turns by one radian a position.")
def pairs_from_one(distance, d_model, base=10000.0):
    return sum(math.cos(distance * base ** (-2 * i / d_model)) for i in range(1, d_model // 2 + 1))


def _counts(g):
    yield "one query, one key", (1, 1)
    yield "as many queries as keys", (5, 5)
    yield "one query and a cache", (1, int(torch.randint(3, 7, (), generator=g)))
    few = int(torch.randint(2, 4, (), generator=g))
    yield "the last few of the keys", (few, few + int(torch.randint(1, 4, (), generator=g)))


@exercise("5.3", _counts, solved="The same table serves for training and for a cache.")
def my_relative_positions(num_queries, num_keys):
    query_position = torch.arange(num_keys - num_queries, num_keys)
    return torch.arange(num_keys)[None, :] - query_position[:, None]


@my_relative_positions.mistake(
    "cache without offset",
    "Your first query stands at position 0. The queries are the last positions, so it stands at "
    "num_keys − num_queries. Without a cache that is 0, and nothing shows.",
)
def without_offset(num_queries, num_keys):
    return torch.arange(num_keys)[None, :] - torch.arange(num_queries)[:, None]


@my_relative_positions.mistake(
    "the sign is turned round", "It is j − i, key minus query: keys of the past are negative."
)
def turned_sign(num_queries, num_keys):
    return -my_relative_positions.reference(num_queries, num_keys)


unsigned = my_relative_positions.mistake(
    "no sign", "Without its sign the distance does not say which of the two came first."
)


@unsigned
def absolute_from_the_front(num_queries, num_keys):
    return without_offset(num_queries, num_keys).abs()


@unsigned
def absolute(num_queries, num_keys):
    return my_relative_positions.reference(num_queries, num_keys).abs()


@my_relative_positions.mistake(
    "queries and keys have changed places", "Rows are queries and columns are keys."
)
def transposed_distances(num_queries, num_keys):
    return my_relative_positions.reference(num_queries, num_keys).T


@my_relative_positions.mistake(
    "off by one", "The last query is the last key, and their distance is 0. Yours stands one place behind."
)
def off_by_one(num_queries, num_keys):
    return my_relative_positions.reference(num_queries, num_keys) - 1


@my_relative_positions.mistake(
    "a mask, not distances", "Each entry is a number, the distance j − i, and not whether j may be seen."
)
def mask_instead(num_queries, num_keys):
    return (my_relative_positions.reference(num_queries, num_keys) <= 0).int()


def _rows(g):
    def rows(count, width):
        return torch.randn(count, width, generator=g, dtype=torch.float64)

    yield "one position: nothing is turned", (rows(1, 4), rows(1, 4))
    yield "two positions", (rows(2, 4), rows(2, 4))
    same = rows(1, 8)
    yield (
        "the same vector at every position: every diagonal is constant",
        (same.expand(5, 8), same.expand(5, 8)),
    )
    yield "different vectors", (rows(5, 8), rows(5, 8))


def _turned(x, sign):
    """Row p rotated by sign * p."""
    angles = torch.arange(len(x))[:, None] * 10000.0 ** (-torch.arange(0, x.shape[-1], 2) / x.shape[-1])
    a, b = x.unflatten(-1, (-1, 2)).unbind(dim=-1)
    cos, sin = angles.cos(), sign * angles.sin()
    return torch.stack([a * cos - b * sin, a * sin + b * cos], dim=-1).flatten(-2)


@exercise("5.4", _rows, solved="The scores know m − n alone, as it was meant.")
def suspicious_scores(query, key):
    return _turned(query, 1) @ _turned(key, 1).T


@suspicious_scores.mistake("the keys turn backwards", "The scores depend on m + n.", as_given=True)
def scores_as_given(query, key):
    return _turned(query, 1) @ _turned(key, -1).T


@suspicious_scores.mistake(
    "only the queries turn",
    "The angle between the two is now that of the query alone, so the score knows m and not m − n.",
)
def queries_turn(query, key):
    return _turned(query, 1) @ key.T


@suspicious_scores.mistake(
    "only the keys turn",
    "The angle between the two is now that of the key alone, so the score knows n and not m − n.",
)
def keys_turn(query, key):
    return query @ _turned(key, 1).T


@suspicious_scores.mistake("nothing turns", "Without a rotation the score does not know of positions at all.")
def nothing_turns(query, key):
    return query @ key.T


@suspicious_scores.mistake(
    "the queries turn backwards", "Still the two turn against each other, and the scores depend on m + n."
)
def queries_backwards(query, key):
    return _turned(query, -1) @ _turned(key, 1).T


@suspicious_scores.mistake(
    "both turn backwards",
    "The scores know the distance alone now, but as n − m: both must turn by their positions, not by minus "
    "them. Only then do they agree with everybody else's.",
)
def both_backwards(query, key):
    return _turned(query, -1) @ _turned(key, -1).T


def _heads_and_keys(g):
    yield "one head, two keys", (1, 2)
    yield "two heads", (2, 3)
    yield "eight heads and a longer cache", (8, int(torch.randint(5, 9, (), generator=g)))
    yield "four heads", (4, int(torch.randint(3, 6, (), generator=g)))


def _weights_of_bias(bias, num_heads, num_keys):
    """A number added to all biases of a row changes no weight, so the weights are compared."""
    return bias.softmax(dim=-1)


@exercise(
    "5.5",
    _heads_and_keys,
    reading=_weights_of_bias,
    solved="A decoder can take its steps with a cache, and each sees what training saw.",
)
def alibi_step(num_heads, num_keys):
    distance = num_keys - 1 - torch.arange(num_keys)
    slopes = 2.0 ** (-8 * torch.arange(1, num_heads + 1) / num_heads)
    return -slopes[:, None, None] * distance


def _slopes(num_heads):
    return 2.0 ** (-8 * torch.arange(1, num_heads + 1) / num_heads)


@alibi_step.mistake(
    "cache without offset",
    "Your *oldest* key has the largest bias, as if the query stood at position 0 (or is the minus missing?). "
    "The query is the newest word, at position num_keys − 1, and the bias falls with the distance from it.",
)
def query_at_zero(num_heads, num_keys):
    return -_slopes(num_heads)[:, None, None] * torch.arange(num_keys)


@alibi_step.mistake(
    "slopes counted from 0", "Heads are counted from 1 in the formula, so the first slope is 2^(−8/H), not 1."
)
def slopes_from_zero(num_heads, num_keys):
    slopes = 2.0 ** (-8 * torch.arange(num_heads) / num_heads)
    return slopes[:, None, None] * torch.arange(num_keys)


@alibi_step.mistake(
    "one slope for all heads", "Every head has a slope of its own; yours all have the first one's."
)
def one_slope(num_heads, num_keys):
    return _slopes(num_heads)[:1].expand(num_heads)[:, None, None] * torch.arange(num_keys)


@alibi_step.mistake(
    "the number of heads is not in the exponent", "The slope of head h is 2^(−8h/H): divide by H."
)
def slopes_without_heads(num_heads, num_keys):
    return (2.0 ** (-8.0 * torch.arange(1, num_heads + 1)))[:, None, None] * torch.arange(num_keys)


@alibi_step.mistake("the steepest head last", "Head 1 has the steepest slope, 2^(−8/H).")
def slopes_backwards(num_heads, num_keys):
    return _slopes(num_heads).flip(0)[:, None, None] * torch.arange(num_keys)


@alibi_step.mistake("no slopes", "The bias falls by 1 for each step in every head; the slopes are missing.")
def no_slopes(num_heads, num_keys):
    return torch.arange(num_keys, dtype=torch.float).expand(num_heads, 1, num_keys)


@alibi_step.mistake(
    "the slopes of eight heads",
    "2^(−h) is right for 8 heads alone, the paper's example. In general the slope of head h is 2^(−8h/H).",
)
def slopes_of_eight(num_heads, num_keys):
    return (2.0 ** -torch.arange(1.0, num_heads + 1))[:, None, None] * torch.arange(num_keys)


@target("5.6", solved="Now what is far away is treated as far, and not as new.")
def mended_bias(answer, generator, *, train, grade, reader):
    def bias():
        made = answer()
        if not isinstance(made, RelativePositionBias):
            raise Unusable(f"return a RelativePositionBias; got a {type(made).__name__}")
        return made

    bias()  # before anything is trained

    class MendedReader(reader):
        def __init__(self, code):
            super().__init__(code)
            self.t5 = bias()

    right, _ = grade(train("T5", reader=MendedReader))
    return [Goal("share of right answers at length 256", right[-1], at_least=0.65)]
