"""The exercises of chapter 1: weighted means, kernels, a mask, and a width that is learned."""

import math

import torch

from course_lib.exercises.exercise import Goal, Unusable, exercise, target

TITLE = "Attention pooling"


def _scores_and_values(g):
    yield (
        "one query with equal scores: the plain mean",
        (torch.full((1, 3), 0.7), torch.randn(3, 1, generator=g)),
    )
    far = torch.tensor([[0.0, 40.0, 0.0]]) + torch.rand(1, 3, generator=g)
    yield "one score far above the others: its value", (far, torch.randn(3, 2, generator=g))
    yield (
        "a single key: its value, for each query",
        tuple(torch.randn(size, generator=g) for size in ((2, 1), (1, 3))),
    )
    yield "two queries, three keys", tuple(torch.randn(size, generator=g) for size in ((2, 3), (3, 2)))


@exercise("1.1", _scores_and_values, solved="Every attention of this course is this line, with other scores.")
def pool(scores, values):
    return scores.softmax(dim=-1) @ values


@pool.mistake(
    "softmax over the queries",
    "Your weights sum to one down the columns. The last axis counts the keys, and along it one "
    "query's weights must sum to one; otherwise the queries compete with one another.",
)
def over_queries(scores, values):
    return scores.softmax(dim=0) @ values


@pool.mistake(
    "scores taken for weights",
    "Scores may be negative and sum to anything. The softmax makes weights of them.",
)
def no_softmax(scores, values):
    return scores @ values


@pool.mistake(
    "weights that do not sum to one",
    "The exponentials are positive, but nothing divides them by their sum over the keys.",
)
def not_divided(scores, values):
    return scores.exp() @ values


@pool.mistake(
    "one softmax for all queries together",
    "All your weights sum to one over the whole table. Each query, each row, needs a sum of one of its own.",
)
def over_everything(scores, values):
    return scores.flatten().softmax(dim=0).view_as(scores) @ values


@pool.mistake(
    "the best key takes all",
    "You return the value of the largest score. A soft dictionary mixes: the others count as well, "
    "each by its weight.",
)
def hard(scores, values):
    return values[scores.argmax(dim=-1)]


@pool.mistake(
    "the mean was divided once more",
    "The weights sum to one already, so the product is the mean. Dividing by the number of keys makes it too "
    "small.",
)
def divided_twice(scores, values):
    return scores.softmax(dim=-1) @ values / len(values)


@pool.mistake(
    "no exponential",
    "You divide the scores by their sum. Scores may be negative, and then so are the weights: e to a score "
    "never is.",
)
def no_exponential(scores, values):
    return scores / scores.sum(dim=-1, keepdim=True) @ values


@pool.mistake(
    "the values are not used",
    "You return the weights. They say how much of each value comes in; the pooled values are their product "
    "with the values.",
)
def weights_alone(scores, values):
    return scores.softmax(dim=-1)


@pool.mistake(
    "the sums lost their axis",
    "A sum over the keys leaves one number for each query, (query), and PyTorch lines shapes up from the "
    "right: it takes that axis for the keys. `sum(dim=-1, keepdim=True)` keeps (query, 1).",
)
def no_keepdim(scores, values):
    return scores.exp() / scores.exp().sum(dim=-1) @ values


def _vectors_and_width(g):
    yield "one query half way between two keys", (torch.zeros(1, 1), torch.tensor([[-1.0], [1.0]]), 0.7)
    yield (
        "vectors of one number, width 1",
        (torch.randn(1, 1, generator=g), torch.randn(2, 1, generator=g), 1.0),
    )
    yield (
        "the same, and a narrow kernel",
        (torch.randn(2, 1, generator=g), torch.randn(3, 1, generator=g), 0.5),
    )
    yield (
        "vectors of three numbers, a wide kernel",
        (
            torch.randn(2, 3, generator=g),
            2 * torch.randn(5, 3, generator=g),
            2.0,
        ),
    )
    yield (
        "a query far away from all keys: the nearest one's weight is near 1, and nothing is NaN",
        (
            torch.tensor([[50.0, 0.0]]),
            torch.randn(3, 2, generator=g),
            1.0,
        ),
    )


def _squared_distance(query, key):
    return (query[:, None] - key[None]).square().sum(dim=-1)


@exercise("1.2", _vectors_and_width, solved="With it a dictionary of vectors answers any query, near or far.")
def gaussian_weights(query, key, width):
    squared = (query[:, None] - key[None]).square().sum(dim=-1)
    return (-squared / (2 * width**2)).softmax(dim=-1)


@gaussian_weights.mistake(
    "the distance is not squared",
    "The Gaussian falls with the squared distance. With the distance itself the kernel has a peak at "
    "zero and long tails.",
)
def distance_not_squared(query, key, width):
    return (-_squared_distance(query, key).sqrt() / (2 * width**2)).softmax(dim=-1)


@gaussian_weights.mistake(
    "the 2 is missing", "The exponent is minus the squared distance over *twice* the squared width."
)
def no_factor_two(query, key, width):
    return (-_squared_distance(query, key) / width**2).softmax(dim=-1)


@gaussian_weights.mistake(
    "the width is not squared",
    "The distance is squared, so the width must be, too: only then do both change alike when hours "
    "become minutes.",
)
def width_not_squared(query, key, width):
    return (-_squared_distance(query, key) / (2 * width)).softmax(dim=-1)


@gaussian_weights.mistake(
    "multiplied by the width",
    "`x / 2 * width**2` is `(x / 2) * width**2`. The width belongs under the fraction bar, so put the whole "
    "denominator in parentheses.",
)
def multiplied_by_width(query, key, width):
    return (-_squared_distance(query, key) / 2 * width**2).softmax(dim=-1)


@gaussian_weights.mistake(
    "the sign is missing", "Without the minus the *farthest* key has the largest weight."
)
def no_sign(query, key, width):
    return (_squared_distance(query, key) / (2 * width**2)).softmax(dim=-1)


@gaussian_weights.mistake(
    "softmax over the queries",
    "Your weights sum to one down the columns. One query's weights run along the last axis, the keys.",
)
def gaussian_over_queries(query, key, width):
    return (-_squared_distance(query, key) / (2 * width**2)).softmax(dim=0)


@gaussian_weights.mistake(
    "zero divided by zero",
    "Far from all keys the Gaussian is so small that it is rounded to 0 for every key, and 0 / 0 is NaN. A "
    "softmax of the exponents subtracts the largest first and never gets there.",
)
def zero_by_zero(query, key, width):
    kernel = (-_squared_distance(query, key) / (2 * width**2)).exp()
    return kernel / kernel.sum(dim=-1, keepdim=True)


@gaussian_weights.mistake(
    "the kernel itself",
    "These are the kernel's values. Weights are their shares: divide by the sum over the keys.",
)
def kernel_alone(query, key, width):
    return (-_squared_distance(query, key) / (2 * width**2)).exp()


@gaussian_weights.mistake(
    "one softmax for all queries together",
    "All your weights sum to one over the whole table. Each query, each row, needs a sum of one of its own.",
)
def gaussian_over_everything(query, key, width):
    exponents = -_squared_distance(query, key) / (2 * width**2)
    return exponents.flatten().softmax(dim=0).view_as(exponents)


@gaussian_weights.mistake(
    "the 2 is squared as well",
    "`(2 * width) ** 2` is four times the squared width. Only the width is squared: `2 * width**2`.",
)
def two_squared(query, key, width):
    return (-_squared_distance(query, key) / (2 * width) ** 2).softmax(dim=-1)


@gaussian_weights.mistake(
    "e twice",
    "You take the softmax of the kernel's values. It has an exponential of its own, so it needs the "
    "*exponents*: minus the squared distance over twice the squared width.",
)
def exponential_twice(query, key, width):
    return (-_squared_distance(query, key) / (2 * width**2)).exp().softmax(dim=-1)


@gaussian_weights.mistake(
    "the mean over the numbers of a vector",
    "A squared distance adds up the squares of all numbers; with `mean` it shrinks as vectors grow longer.",
)
def mean_square(query, key, width):
    squares = (query[:, None] - key[None]).square().mean(dim=-1)
    return (-squares / (2 * width**2)).softmax(dim=-1)


@gaussian_weights.mistake(
    "the sums lost their axis",
    "A sum over the keys leaves one number for each query, (query), and PyTorch lines shapes up from the "
    "right: it takes that axis for the keys. `sum(dim=-1, keepdim=True)` keeps (query, 1).",
)
def gaussian_no_keepdim(query, key, width):
    kernel = (-_squared_distance(query, key) / (2 * width**2)).exp()
    return kernel / kernel.sum(dim=-1)


@gaussian_weights.mistake(
    "no axis for each pair",
    "`query - key` lines them up one with one, the first query with the first key. Every query meets every "
    "key: `query[:, None] - key[None]` has the shape (query, key, d).",
)
def not_every_pair(query, key, width):
    return (-(query - key).square().sum(dim=-1) / (2 * width**2)).softmax(dim=-1)


def _any_lengths(g):
    yield (
        "a query of zeros: only the keys' lengths count",
        (torch.zeros(1, 2), torch.randn(3, 2, generator=g)),
    )
    yield "two keys of one length", (torch.randn(1, 2, generator=g), torch.tensor([[0.6, 0.8], [-1.0, 0.0]]))
    yield "keys of any length", (torch.randn(2, 3, generator=g), 1.5 * torch.randn(5, 3, generator=g))


def _weights_by_dot_product(longer, query, key):
    """Many answers are right: only what the dot products give after the softmax is compared."""
    return (longer[0].double() @ longer[1].double().T).softmax(dim=-1)


@exercise(
    "1.3",
    _any_lengths,
    reading=_weights_by_dot_product,
    solved="So a dot product can do whatever a Gaussian kernel can, given one more number.",
)
def lengthen(query, key):
    missing = -key.square().sum(dim=1, keepdim=True) / 2
    return torch.cat([query, torch.ones(len(query), 1)], dim=1), torch.cat([key, missing], dim=1)


def _lengthened(query, key, of_query, of_key):
    ones = torch.ones(len(query), 1), torch.ones(len(key), 1)
    return torch.cat([query, of_query * ones[0]], dim=1), torch.cat([key, of_key * ones[1]], dim=1)


def _square(x):
    return x.square().sum(dim=1, keepdim=True)


@lengthen.mistake(
    "the half is missing",
    "Multiplied out, the exponent is q·k − q²/2 − k²/2. The key's term has the factor one half.",
)
def no_half(query, key):
    return _lengthened(query, key, 1, -_square(key))


@lengthen.mistake("the sign is missing", "A long key is far away, so its squared length counts *against* it.")
def wrong_sign(query, key):
    return _lengthened(query, key, 1, _square(key) / 2)


@lengthen.mistake(
    "the length is not squared", "It is the squared length, k·k, that is missing in the dot product."
)
def length_not_squared(query, key):
    return _lengthened(query, key, 1, -_square(key).sqrt() / 2)


@lengthen.mistake(
    "the query's term",
    "You have added −q²/2, which is the same for all keys of a query and changes no weight. The term that is "
    "missing depends on the key.",
)
def term_of_the_query(query, key):
    return _lengthened(query, key, -_square(query) / 2, 1)


@lengthen.mistake(
    "both terms multiplied",
    "Query and key each got their own term, and a dot product *multiplies* those two. Give the query a 1.",
)
def both_terms(query, key):
    return _lengthened(query, key, -_square(query) / 2, -_square(key) / 2)


@lengthen.mistake("the two results exchanged", "The longer queries come first, and then the longer keys.")
def keys_first(query, key):
    return lengthen.reference(query, key)[::-1]


def _readings(g):
    for count, what in (
        (1, "one reading, entered twice"),
        (3, "three readings, entered twice"),
        (7, "seven"),
    ):
        yield what, ((24 * torch.rand(count, generator=g)).sort().values.repeat(2),)


@exercise(
    "1.4", _readings, solved="Duplicates on both sides of a split fool any model; a mask takes them out."
)
def honest_mask(hour):
    return hour[:, None] != hour[None, :]


@honest_mask.mistake(
    "the twin stays in view",
    "Each reading is hidden from itself, but its twin has the same value, and the width shrinks as if "
    "there were no mask.",
)
def only_oneself(hour):
    return ~torch.eye(len(hour), dtype=torch.bool)


@honest_mask.mistake(
    "True where it is forbidden",
    "In this course True means *may attend*. Yours is True for oneself and the twin.",
)
def polarity(hour):
    return hour[:, None] == hour[None, :]


@honest_mask.mistake(
    "the twin is hidden, oneself is not", "The easy answer is still in view: the reading itself."
)
def only_the_twin(hour):
    return (hour[:, None] != hour[None, :]) | torch.eye(len(hour), dtype=torch.bool)


@honest_mask.mistake(
    "a whole half is hidden",
    "A reading may look at all *other* readings of both halves; only its own two entries are forbidden.",
)
def own_half_hidden(hour):
    half = torch.arange(len(hour)) < len(hour) // 2
    return (half[:, None] != half[None, :]) & (hour[:, None] != hour[None, :])


@honest_mask.mistake(
    "only what came before", "Leave-one-out is no causal mask: later readings may be looked at as well."
)
def only_earlier(hour):
    return hour[:, None] > hour[None, :]


def _hours_and_width(g):
    yield "width 1", (24 * torch.rand(2, generator=g), 24 * torch.rand(3, generator=g), 1.0)
    yield "width 3", (24 * torch.rand(2, generator=g), 24 * torch.rand(3, generator=g), 3.0)
    yield "half an hour", (torch.rand(3, generator=g), torch.rand(5, generator=g), 0.5)
    yield (
        "a very wide kernel: nearly equal weights",
        (
            24 * torch.rand(2, generator=g),
            24 * torch.rand(3, generator=g),
            100.0,
        ),
    )


@exercise("1.5", _hours_and_width, solved="A width that does what its name says: the larger, the more even.")
def suspicious_weights(query, key, width):
    scores = -((query[:, None] - key[None, :]) ** 2) / (2 * width**2)
    return scores.softmax(dim=-1)


@suspicious_weights.mistake(
    "multiplied by the width", "`x / 2 * width**2` is `(x / 2) * width**2`.", as_given=True
)
def suspicious_as_given(query, key, width):
    return (-((query[:, None] - key[None, :]) ** 2) / 2 * width**2).softmax(dim=-1)


@suspicious_weights.mistake(
    "the width is not squared", "Under the fraction bar stands twice the *squared* width."
)
def suspicious_width(query, key, width):
    return (-((query[:, None] - key[None, :]) ** 2) / (2 * width)).softmax(dim=-1)


@suspicious_weights.mistake("the 2 is gone", "The factor 2 belongs under the fraction bar, too.")
def suspicious_two(query, key, width):
    return (-((query[:, None] - key[None, :]) ** 2) / width**2).softmax(dim=-1)


@suspicious_weights.mistake("the sign is gone", "Now the farthest key has the largest weight.")
def suspicious_sign(query, key, width):
    return ((query[:, None] - key[None, :]) ** 2 / (2 * width**2)).softmax(dim=-1)


@suspicious_weights.mistake(
    "softmax over the queries", "The last axis counts the keys, and there the weights must sum to one."
)
def suspicious_axis(query, key, width):
    return (-((query[:, None] - key[None, :]) ** 2) / (2 * width**2)).softmax(dim=0)


@suspicious_weights.mistake(
    "the 2 is squared as well",
    "`(2 * width) ** 2` is four times the squared width. Only the width is squared: `2 * width**2`.",
)
def suspicious_two_squared(query, key, width):
    return (-((query[:, None] - key[None, :]) ** 2) / (2 * width) ** 2).softmax(dim=-1)


@suspicious_weights.mistake("the distance is not squared", "The Gaussian falls with the *squared* distance.")
def suspicious_distance(query, key, width):
    return (-(query[:, None] - key[None, :]).abs() / (2 * width**2)).softmax(dim=-1)


@target("1.6", solved="A learned score found out by itself what to look at and what to ignore.")
def two_widths(answer, generator):
    """Another day of 80 readings, so that chance alone makes a useless number look useful less often."""
    hour, useless = 24 * torch.rand(2, 80, generator=generator)
    turn = 2 * math.pi * hour / 24
    noise = torch.randn(80, generator=generator)
    degrees = 12 - 5 * torch.cos(turn - 0.9) + 2 * torch.sin(3 * turn) + noise
    try:
        hour_width, useless_width = (float(width) for width in answer(hour, degrees, useless))
    except (TypeError, ValueError) as error:
        raise Unusable(f"two widths are expected, that of the hour first: {error}") from error
    if min(hour_width, useless_width) <= 0:
        raise Unusable(f"a width is above zero; got {hour_width:.3g} and {useless_width:.3g}")
    return [
        Goal("width of the hour", hour_width, at_least=0.2, at_most=4.0),
        Goal("width of the useless number, in widths of the hour", useless_width / hour_width, at_least=10),
    ]
