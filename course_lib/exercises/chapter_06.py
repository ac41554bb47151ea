"""The exercises of chapter 6: residuals, masks, sizes, decoding, LayerNorm and the loss of a next word."""

import torch
from torch import nn
from torch.nn import functional as F

from course_lib.exercises.exercise import Goal, exercise, target
from course_lib.exercises.models import Restless, score, shaken, trained_model
from course_lib.models.transformer import Transformer, TransformerConfig

TITLE = "The Transformer"


def _parts(g):
    for norm_first, name in ((True, "pre-norm"), (False, "post-norm")):
        yield (
            f"{name}, one position",
            (
                torch.randn(1, 1, 3, generator=g),
                shaken(nn.Linear(3, 3), g),
                shaken(nn.LayerNorm(3), g),
                norm_first,
            ),
        )
        yield (
            f"{name}, a part that gives zeros",
            (
                torch.randn(1, 2, 3, generator=g),
                nn.Linear(3, 3, bias=False).requires_grad_(False).apply(lambda m: nn.init.zeros_(m.weight)),
                shaken(nn.LayerNorm(3), g),
                norm_first,
            ),
        )
        yield (
            f"{name}, a batch of two",
            (
                torch.randn(2, 3, 5, generator=g),
                shaken(nn.Linear(5, 5), g),
                shaken(nn.LayerNorm(5), g),
                norm_first,
            ),
        )


@exercise("6.1", _parts, solved="Every sublayer of every Transformer is tied in by one of these two lines.")
def residual(x, part, norm, norm_first):
    if norm_first:
        return x + part(norm(x))
    return norm(x + part(x))


@residual.mistake(
    "residual dropped",
    "x itself is not added: what the part computes takes its place. A part that gives zeros must "
    "leave x as it was.",
)
def dropped(x, part, norm, norm_first):
    return part(norm(x)) if norm_first else norm(part(x))


@residual.mistake(
    "pre-norm and post-norm exchanged", "With norm_first the norm stands before the part, not after the sum."
)
def exchanged(x, part, norm, norm_first):
    return residual.reference(x, part, norm, not norm_first)


@residual.mistake(
    "the normalised x is added",
    "In pre-norm x goes through untouched: x + part(norm(x)). You add norm(x), and nothing goes "
    "straight through.",
)
def normalised_added(x, part, norm, norm_first):
    return norm(x) + part(norm(x)) if norm_first else norm(x + part(x))


@residual.mistake(
    "the norm before the sum",
    "In post-norm the *sum* is normalised: norm(x + part(x)). You normalise the part alone.",
)
def part_normalised(x, part, norm, norm_first):
    return x + part(norm(x)) if norm_first else x + norm(part(x))


@residual.mistake("pre-norm in both cases", "norm_first=False must give norm(x + part(x)).")
def always_first(x, part, norm, norm_first):
    return x + part(norm(x))


@residual.mistake("post-norm in both cases", "norm_first=True must give x + part(norm(x)).")
def always_last(x, part, norm, norm_first):
    return norm(x + part(x))


@residual.mistake("two norms", "There is one norm, before the part or after the sum, not both.")
def two_norms(x, part, norm, norm_first):
    return norm(x + part(norm(x)))


dropped_once = residual.mistake(
    "residual dropped in one case",
    "In one of the two cases x itself is not added: what the part computes takes its place.",
)


@dropped_once
def dropped_first(x, part, norm, norm_first):
    return part(norm(x)) if norm_first else norm(x + part(x))


@dropped_once
def dropped_last(x, part, norm, norm_first):
    return x + part(norm(x)) if norm_first else norm(part(x))


@residual.mistake(
    "the norm behind the part",
    "In pre-norm the *input* of the part is normalised: x + part(norm(x)). You normalise what it returns.",
)
def norm_behind(x, part, norm, norm_first):
    return x + norm(part(x)) if norm_first else norm(x + part(x))


def _target_lengths(g):
    yield "one target without padding", ([3], 3)
    yield "one word and padding", ([1], 3)
    yield "targets of three and two words, of four places", ([3, 2], 4)
    yield "three targets", (torch.randint(1, 6, (3,), generator=g).tolist(), 5)


def _real(lengths, max_length):
    return (torch.arange(max_length) < torch.as_tensor(lengths)[:, None])[:, None, None, :]


def _past(max_length):
    return torch.ones(max_length, max_length, dtype=torch.bool).tril()


@exercise("6.2", _target_lengths, solved="Two masks become one by `&`, in any number.")
def target_mask(lengths, max_length):
    position = torch.arange(max_length)
    real = position < torch.as_tensor(lengths)[:, None]
    return real[:, None, None, :] & (position[None, :] <= position[:, None])


@target_mask.mistake(
    "the padding mask alone", "The future is in view: a position may see those up to its own only."
)
def padding_alone(lengths, max_length):
    return _real(lengths, max_length).expand(-1, 1, max_length, -1)


@target_mask.mistake("the causal mask alone", "The padding is in view. The lengths are not used.")
def causal_alone(lengths, max_length):
    return _past(max_length).expand(len(lengths), 1, -1, -1)


@target_mask.mistake("either instead of both", "`|` lets in what *one* mask allows. Both must allow it: `&`.")
def either(lengths, max_length):
    return _real(lengths, max_length) | _past(max_length)


@target_mask.mistake(
    "True where it is forbidden", "In this course True means *may attend*; yours is the wrong way round."
)
def polarity(lengths, max_length):
    return ~(_real(lengths, max_length) & _past(max_length))


@target_mask.mistake(
    "rows of padding emptied",
    "You forbid that padding *asks*: the lengths lie along the rows. Then its rows are False everywhere, "
    "which in much code means NaN. Hide it as a key; what it asks, nobody uses.",
)
def rows_emptied(lengths, max_length):
    real = _real(lengths, max_length)
    return real & _past(max_length) & real.transpose(-2, -1)


@target_mask.mistake(
    "a position does not see itself", "Up to *and with* i: the causal part needs its diagonal."
)
def without_oneself(lengths, max_length):
    return _real(lengths, max_length) & _past(max_length).tril(-1)


@target_mask.mistake(
    "the past is hidden", "The causal part is turned round: each position sees itself and the future."
)
def past_hidden(lengths, max_length):
    return _real(lengths, max_length) & _past(max_length).T


@target_mask.mistake(
    "one filler too many",
    "Positions count from 0, so a target of 3 words has 0, 1 and 2. `<=` lets 3 in as well.",
)
def one_too_many(lengths, max_length):
    return _real(torch.as_tensor(lengths) + 1, max_length) & _past(max_length)


@target_mask.mistake("one position too far", "Each position also sees the one right after its own.")
def one_too_far(lengths, max_length):
    ones = torch.ones(max_length, max_length, dtype=torch.bool)
    return _real(lengths, max_length) & ones.tril(1)


@target_mask.mistake(
    "one length for all", "Every target is cut at the longest one's length. Each has its own."
)
def one_length(lengths, max_length):
    return _real([max(lengths)] * len(lengths), max_length) & _past(max_length)


@target_mask.mistake(
    "no axis for the heads",
    "The mask is asked for as (target, 1, position, position): the axis of size 1 is for the heads, and "
    "without it the targets would be taken for heads.",
)
def no_axis_for_heads(lengths, max_length):
    return target_mask.reference(lengths, max_length)[:, 0]


@target_mask.mistake(
    "a mask to be added",
    "It holds 0 and -inf (or a number far below zero). Here True is to mean *may attend*: return the "
    "comparison itself.",
)
def added(lengths, max_length):
    hidden = ~target_mask.reference(lengths, max_length)
    return torch.zeros(hidden.shape).masked_fill(hidden, -torch.inf)


def _block_sizes(g):
    yield "width 1", (1, 1)
    yield "d_ff four times d_model", (8, 32)
    yield "any sizes", tuple(torch.randint(2, 100, (2,), generator=g).tolist())


@exercise(
    "6.3",
    _block_sizes,
    solved="With d_ff = 4 d_model the position-wise network holds two thirds of it.",
    tolerance=1e-9,
)
def block_parameters(d_model, d_ff):
    attention = 4 * (d_model**2 + d_model)
    feed_forward = 2 * d_model * d_ff + d_ff + d_model
    return attention + feed_forward + 2 * 2 * d_model


@block_parameters.mistake("no biases", "Each of the six matrices has a bias, as long as its output is wide.")
def no_biases(d_model, d_ff):
    return 4 * d_model**2 + 2 * d_model * d_ff + 4 * d_model


@block_parameters.mistake(
    "no LayerNorm", "There are two LayerNorms, each with a scale and a shift of width d_model."
)
def no_norms(d_model, d_ff):
    return block_parameters.reference(d_model, d_ff) - 4 * d_model


@block_parameters.mistake(
    "half of the LayerNorms", "There are two LayerNorms in a block, and each has a scale *and* a shift."
)
def half_of_the_norms(d_model, d_ff):
    return block_parameters.reference(d_model, d_ff) - 2 * d_model


@block_parameters.mistake(
    "three matrices of attention", "There are four: queries, keys, values, and the output's."
)
def three_matrices(d_model, d_ff):
    return block_parameters.reference(d_model, d_ff) - d_model**2 - d_model


@block_parameters.mistake(
    "no biases in the network", "The network's two matrices have biases, of d_ff and of d_model."
)
def network_without_biases(d_model, d_ff):
    return block_parameters.reference(d_model, d_ff) - d_ff - d_model


@block_parameters.mistake("one matrix of the network", "The network goes up to d_ff and back: two matrices.")
def one_matrix(d_model, d_ff):
    return block_parameters.reference(d_model, d_ff) - d_model * d_ff


@block_parameters.mistake(
    "one LayerNorm too many",
    "There are two LayerNorms in a block, one for each sublayer. The one behind all blocks is not a block's.",
)
def three_norms(d_model, d_ff):
    return block_parameters.reference(d_model, d_ff) + 2 * d_model


@block_parameters.mistake(
    "a decoder's block",
    "You count two attentions and three LayerNorms: that is a block of the decoder, which looks at the "
    "source as well.",
)
def of_the_decoder(d_model, d_ff):
    return block_parameters.reference(d_model, d_ff) + 4 * (d_model**2 + d_model) + 2 * d_model


BOS = 2


def _models_and_sources(g):
    config = TransformerConfig(
        13, 17, d_model=8, num_heads=2, num_blocks=1, d_ff=11, dropout=0.0, max_length=12
    )
    for what, lengths, steps in (
        ("a single step", [3], 1),
        ("five steps", [3], 5),
        ("two sentences of different lengths", [5, 2], 5),
    ):
        model = shaken(Transformer(config), g)
        model.output = Restless(model.output)
        ids = torch.randint(3, 13, (len(lengths), max(lengths)), generator=g)
        ids[torch.arange(ids.shape[1]) >= torch.tensor(lengths)[:, None]] = 0
        yield what, (model, ids, torch.tensor(lengths), steps, BOS)


@exercise(
    "6.4", _models_and_sources, solved="Every word has its own position and remembers the words before it."
)
def suspicious_decode(model, ids, lengths, steps, bos_id):
    memory = model.encode(ids, lengths)
    words = torch.full((len(ids), 1), bos_id)
    for _ in range(steps):
        logits = model.decode(words, memory)
        words = torch.cat([words, logits[:, -1].argmax(dim=-1, keepdim=True)], dim=1)
    return words


def _decode(model, ids, lengths, steps, bos_id, fed=lambda words: words, place=-1):
    memory = model.encode(ids, lengths)
    words = torch.full((len(ids), 1), bos_id)
    for _ in range(steps):
        logits = model.decode(fed(words), memory)
        words = torch.cat([words, logits[:, place].argmax(dim=-1, keepdim=True)], dim=1)
    return words


@suspicious_decode.mistake("position 0 for every decoded token", "Only the last word is fed.", as_given=True)
def decode_as_given(model, ids, lengths, steps, bos_id):
    return _decode(model, ids, lengths, steps, bos_id, fed=lambda words: words[:, -1:])


@suspicious_decode.mistake(
    "the first position's logits",
    "You read the logits after <bos> each time. Those of the newest word stand last.",
)
def first_logits(model, ids, lengths, steps, bos_id):
    return _decode(model, ids, lengths, steps, bos_id, place=0)


@suspicious_decode.mistake(
    "the last word is never fed",
    "You cut the newest word off before you feed the rest, so the same word is predicted again, one "
    "step late.",
)
def without_the_last(model, ids, lengths, steps, bos_id):
    return _decode(
        model, ids, lengths, steps, bos_id, fed=lambda words: words[:, : max(1, words.shape[1] - 1)]
    )


@suspicious_decode.mistake(
    "<bos> is forgotten after the first step",
    "The model was trained with <bos> in front. Feed all words, and it too.",
)
def bos_forgotten(model, ids, lengths, steps, bos_id):
    return _decode(
        model, ids, lengths, steps, bos_id, fed=lambda words: words[:, 1:] if words.shape[1] > 1 else words
    )


@suspicious_decode.mistake(
    "two words are remembered",
    "You feed the last two words only, and so they stand at positions 0 and 1. Feed them all.",
)
def last_two(model, ids, lengths, steps, bos_id):
    return _decode(model, ids, lengths, steps, bos_id, fed=lambda words: words[:, -2:])


def _activations(g):
    def parameters(width):
        return torch.randn(width, generator=g), torch.randn(width, generator=g)

    yield "width 2", (torch.randn(1, 1, 2, generator=g), *parameters(2))
    yield (
        "three positions, without scale and shift",
        (
            torch.randn(1, 3, 5, generator=g),
            torch.ones(5),
            torch.zeros(5),
        ),
    )
    yield "far from zero", (10 + torch.randn(2, 3, 5, generator=g), *parameters(5))
    yield "numbers so small that eps counts", (0.003 * torch.randn(2, 3, 5, generator=g), *parameters(5))
    yield (
        "a position whose numbers are all equal: the shift comes out",
        (
            torch.full((1, 2, 3), float(torch.randn((), generator=g))),
            *parameters(3),
        ),
    )


@exercise("6.5", _activations, solved="To the last digit the layer that every Transformer is full of.")
def my_layer_norm(x, gamma, beta, eps=1e-5):
    mean = x.mean(dim=-1, keepdim=True)
    variance = (x - mean).square().mean(dim=-1, keepdim=True)
    return gamma * (x - mean) / (variance + eps).sqrt() + beta


def _normed(x, gamma, beta, eps, dim=-1, correction=0):
    mean = x.mean(dim=dim, keepdim=True)
    total = (x - mean).square().sum(dim=dim, keepdim=True)
    variance = total / (x.numel() // mean.numel() - correction)
    return gamma * (x - mean) / (variance + eps).sqrt() + beta


@my_layer_norm.mistake(
    "LayerNorm over the wrong axis",
    "You normalise each channel over the positions. Then a position's output depends on the others, "
    "on padding too and on the future. Mean and variance run over the channels of one position: the "
    "last axis.",
)
def over_positions(x, gamma, beta, eps=1e-5):
    return _normed(x, gamma, beta, eps, dim=1)


@my_layer_norm.mistake(
    "normalised over positions and channels",
    "One mean for a whole sentence mixes its positions. Every position has its own mean and variance.",
)
def over_the_sentence(x, gamma, beta, eps=1e-5):
    return _normed(x, gamma, beta, eps, dim=(1, 2))


@my_layer_norm.mistake(
    "unbiased deviation",
    "You divide by d − 1, as `var` and `std` do unless told otherwise. LayerNorm divides by d: "
    "`correction=0`.",
)
def unbiased(x, gamma, beta, eps=1e-5):
    return _normed(x, gamma, beta, eps, correction=1)


@my_layer_norm.mistake(
    "eps outside the root",
    "It is the root of (variance + eps). Outside it is a hundred times too small to matter here.",
)
def eps_outside(x, gamma, beta, eps=1e-5):
    centred = x - x.mean(dim=-1, keepdim=True)
    return gamma * centred / (centred.square().mean(dim=-1, keepdim=True).sqrt() + eps) + beta


@my_layer_norm.mistake(
    "the mean is not subtracted", "Without it this is RMSNorm, which scales and does not centre."
)
def not_centred(x, gamma, beta, eps=1e-5):
    return gamma * x / (x.square().mean(dim=-1, keepdim=True) + eps).sqrt() + beta


@my_layer_norm.mistake("no root", "You divide by the variance. Its root has the units of x.")
def no_root(x, gamma, beta, eps=1e-5):
    centred = x - x.mean(dim=-1, keepdim=True)
    return gamma * centred / (centred.square().mean(dim=-1, keepdim=True) + eps) + beta


@my_layer_norm.mistake("no scale and shift", "gamma and beta are not used.")
def no_scale_and_shift(x, gamma, beta, eps=1e-5):
    return _normed(x, 1.0, 0.0, eps)


@my_layer_norm.mistake("the scale comes last", "The shift is added after the scale: gamma * (...) + beta.")
def scale_last(x, gamma, beta, eps=1e-5):
    return gamma * (_normed(x, 1.0, 0.0, eps) + beta)


@my_layer_norm.mistake(
    "no eps", "Where all numbers of a position are equal the variance is 0, and 0 / 0 is NaN."
)
def no_eps(x, gamma, beta, eps=1e-5):
    return _normed(x, gamma, beta, 0.0)


@my_layer_norm.mistake(
    "normalised over the batch",
    "You normalise over the sentences, as BatchNorm does. Every position has its own mean and variance, "
    "along the last axis.",
)
def over_batch(x, gamma, beta, eps=1e-5):
    return _normed(x, gamma, beta, eps, dim=0)


@my_layer_norm.mistake(
    "unbiased deviation, and eps outside the root",
    "`std` divides by d − 1 unless told otherwise, and to it you add eps. It is the root of (variance + "
    "eps), with the variance divided by d. A much copied Transformer has it this way.",
)
def deviation_plus_eps(x, gamma, beta, eps=1e-5):
    deviation = x.std(dim=-1, keepdim=True)
    return gamma * (x - x.mean(dim=-1, keepdim=True)) / (deviation + eps) + beta


without_axis = my_layer_norm.mistake(
    "the mean lost its axis",
    "`mean(dim=-1)` leaves (batch, position), and PyTorch lines shapes up from the right: it takes the "
    "positions for channels. With `keepdim=True` it is (batch, position, 1), one for each row.",
)


@without_axis
def no_keepdim_unbiased(x, gamma, beta, eps=1e-5):
    return gamma * (x - x.mean(dim=-1)) / (x.var(dim=-1) + eps).sqrt() + beta


@without_axis
def no_keepdim(x, gamma, beta, eps=1e-5):
    return gamma * (x - x.mean(dim=-1)) / (x.var(dim=-1, correction=0) + eps).sqrt() + beta


@my_layer_norm.mistake(
    "normalised over everything",
    "One mean for the whole batch mixes sentences and positions. Every position has its own mean and "
    "variance, along the last axis.",
)
def over_everything(x, gamma, beta, eps=1e-5):
    return _normed(x, gamma, beta, eps, dim=(0, 1, 2))


PAD = 0


def _logits_and_targets(g):
    for what, lengths, width in (
        ("one word after <bos>", [2], 2),
        ("a sentence without padding", [5], 5),
        ("sentences of two and of five tokens, padded", [2, 5], 5),
        ("much padding", [3, 2, 4], 7),
    ):
        target = torch.randint(3, 11, (len(lengths), width), generator=g)
        target[:, 0] = BOS
        target[torch.arange(width) >= torch.tensor(lengths)[:, None]] = PAD
        logits = 4 * torch.randn(len(lengths), width, 11, generator=g)
        if len(lengths) > 1:
            # So that a mean over the wrong words is far off: one sentence is easier than the others, and
            # padding the hardest of all.
            logits[0] /= 10
            logits[:, :-1, PAD] -= 10 * (target[:, 1:] == PAD)
        yield what, (logits, target, PAD)


@exercise(
    "6.6",
    _logits_and_targets,
    solved="The loss that this chapter's models learned by: one number for each real word.",
)
def next_word_loss(logits, target, pad_id):
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), target[:, 1:].flatten(), ignore_index=pad_id)


unshifted = next_word_loss.mistake(
    "off by one in the shift",
    "You grade logits[:, i] by target[:, i], the word that went *in* at i. They score the one after "
    "it, target[:, i + 1].",
)


@unshifted
def not_shifted_and_cut(logits, target, pad_id):
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), target[:, :-1].flatten(), ignore_index=pad_id)


@unshifted
def not_shifted(logits, target, pad_id):
    return F.cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=pad_id)


@next_word_loss.mistake(
    "shifted the wrong way",
    "You grade logits[:, i] by target[:, i − 1], a word that the model has long seen. Cut the last "
    "logits and the first target, not the other way round.",
)
def shifted_back(logits, target, pad_id):
    return F.cross_entropy(logits[:, 1:].flatten(0, 1), target[:, :-1].flatten(), ignore_index=pad_id)


@next_word_loss.mistake(
    "loss over padding",
    "The model is graded on its guesses of <pad>, too. That is easy, so the loss looks better the "
    "more padding there is.",
)
def over_padding(logits, target, pad_id):
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), target[:, 1:].flatten())


@next_word_loss.mistake(
    "padding counted in the mean", "Padding adds nothing to the sum, but you divide by its places as well."
)
def padding_in_the_mean(logits, target, pad_id):
    total = F.cross_entropy(
        logits[:, :-1].flatten(0, 1), target[:, 1:].flatten(), ignore_index=pad_id, reduction="sum"
    )
    return total / target[:, 1:].numel()


@next_word_loss.mistake(
    "a sum, not a mean", "The loss grows with the number of words. Divide by how many are graded."
)
def summed(logits, target, pad_id):
    return F.cross_entropy(
        logits[:, :-1].flatten(0, 1), target[:, 1:].flatten(), ignore_index=pad_id, reduction="sum"
    )


@next_word_loss.mistake(
    "the mean of the sentences' means",
    "You take a mean for each sentence and then their mean, so a word of a short sentence counts more "
    "than one of a long one.",
)
def mean_of_means(logits, target, pad_id):
    rows = zip(logits[:, :-1], target[:, 1:], strict=True)
    return torch.stack([F.cross_entropy(row, words, ignore_index=pad_id) for row, words in rows]).mean()


@next_word_loss.mistake(
    "probabilities instead of logits",
    "cross_entropy applies the softmax itself; you have applied one before it.",
)
def two_softmaxes(logits, target, pad_id):
    return next_word_loss.reference(logits.softmax(dim=-1), target, pad_id)


@next_word_loss.mistake(
    "off by one in the shift, and loss over padding",
    "You grade logits[:, i] by target[:, i], the word that went *in* at i; they score the one after it, "
    "target[:, i + 1]. And padding is graded, too.",
)
def neither(logits, target, pad_id):
    return F.cross_entropy(logits.flatten(0, 1), target.flatten())


@next_word_loss.mistake(
    "the classes are not the second axis",
    "cross_entropy wants the scores as (word, class) and the words as (word): flatten sentences and "
    "positions into one axis first.",
)
def not_flattened(logits, target, pad_id):
    return F.cross_entropy(logits[:, :-1], target[:, 1:], ignore_index=pad_id)


@next_word_loss.mistake(
    "the sign is missing", "The loss is *minus* the logarithm of the right word's probability."
)
def no_sign(logits, target, pad_id):
    return -next_word_loss.reference(logits, target, pad_id)


@next_word_loss.mistake(
    "the mean over the sentences",
    "You divide by the number of sentences. Divide by the number of words that are graded.",
)
def over_sentences(logits, target, pad_id):
    return summed(logits, target, pad_id) / len(target)


@next_word_loss.mistake(
    "logits taken for logarithms",
    "nll_loss wants the logarithms of probabilities. Take log_softmax first, or cross_entropy, which does "
    "both.",
)
def no_log_softmax(logits, target, pad_id):
    return F.nll_loss(logits[:, :-1].flatten(0, 1), target[:, 1:].flatten(), ignore_index=pad_id)


@next_word_loss.mistake(
    "the perplexity", "You return e to the loss. The loss itself is asked for, the mean of the logarithms."
)
def perplexity(logits, target, pad_id):
    return next_word_loss.reference(logits, target, pad_id).exp()


@target("6.8", solved="A quarter of the parameters is enough to fetch a digit and to add.")
def smaller_adder(answer, generator, *, digits, parameters):
    model = trained_model(answer)
    asked, sums = digits(1000, generator)
    right = score(model, (asked,), lambda output: (output.argmax(dim=-1) == sums).float().mean())
    size = sum(parameter.numel() for parameter in model.parameters())
    return [Goal("parameters", size, at_most=parameters), Goal("share of right sums", right, at_least=0.95)]
