"""The exercises of chapter 7: shift, merges, top-k and top-p, the cache, and a GPT that sees the answer."""

import math
from collections import Counter
from itertools import pairwise

import torch
from torch.nn import functional as F

from course_lib.attention import causal_mask
from course_lib.exercises.exercise import Goal, exercise, target
from course_lib.exercises.models import Restless, shaken, trained_model
from course_lib.models.gpt import GPT, GPTConfig
from course_lib.training import mean_loss, next_token_loss

TITLE = "GPT"


def _texts(g):
    for what, batch, length in (("two tokens", 1, 2), ("one text", 1, 5), ("three texts", 3, 7)):
        # No token comes twice, so that each tells where it stood.
        yield what, (torch.randperm(100, generator=g)[: batch * length].view(batch, length),)
    yield (
        "one token again and again: the lengths alone count",
        (torch.randint(100, (1, 1), generator=g).expand(1, 4),),
    )


@exercise("7.1", _texts, solved="A text is its own teacher: every language model is trained on these two.")
def shift(tokens):
    return tokens[:, :-1], tokens[:, 1:]


@shift.mistake(
    "off by one in the shift",
    "The answers are what the model reads. It would learn to repeat its input, with a loss near zero.",
)
def not_shifted(tokens):
    return tokens[:, :-1], tokens[:, :-1]


@shift.mistake(
    "shifted the wrong way",
    "The model would read each token and answer with the one *before* it. What it reads comes first in "
    "the result, and lacks the last token.",
)
def shifted_back(tokens):
    return tokens[:, 1:], tokens[:, :-1]


@shift.mistake(
    "the last token is read",
    "Nothing comes after the last token, so reading it leads to no answer. Both have n − 1 tokens.",
)
def all_read(tokens):
    return tokens, tokens[:, 1:]


@shift.mistake(
    "rolled round",
    "`roll` brings the first token back as the answer to the last one. The text does not go on like that.",
)
def rolled(tokens):
    return tokens, tokens.roll(-1, dims=1)


@shift.mistake(
    "shifted by two",
    "You leave one token out between what is read and what is asked: the answer is the very next one.",
)
def by_two(tokens):
    return tokens[:, :-2], tokens[:, 2:]


@shift.mistake(
    "the texts are shifted",
    "The first axis counts the texts, the second their tokens. Each text is to answer for itself.",
)
def along_the_batch(tokens):
    return tokens[:-1], tokens[1:]


def _pieces(g):
    a, b, c, d, e, f = sorted(torch.randperm(500, generator=g)[:6].tolist())
    n = int(torch.randint(3, 9, (), generator=g))
    yield "a single pair", {(b, a): n}
    yield "a piece that comes often", {(a, b, c): 1, (a, b, d): 1, (e, f): n}
    yield "three pairs that are equally frequent", {(c, d): n, (e, f): n, (a, b): n}
    yield "a pair that stands twice in a piece", {(e, f, c, e, f): n, (a, b): 2 * n - 1}
    yield "three equal tokens: their pair stands there twice", {(d, d, d): n, (a, b): 2 * n - 1}
    yield "a pair in both orders", {(b, a): n, (a, b): n, (c, d): n + 1}
    yield "the end of one piece and the beginning of the next", {(a, b): n, (b, a): n + 1}
    yield "a pair within longer pieces", {(c, a, b): n, (d, a, b): n, (e, f): 2 * n - 1}


@exercise(
    "7.2",
    lambda g: ((what, (pieces,)) for what, pieces in _pieces(g)),
    solved="Repeat it 50,000 times, and you have GPT-2's tokens.",
)
def next_pair(pieces):
    pairs = Counter()
    for piece, count in pieces.items():
        for pair in pairwise(piece):
            pairs[pair] += count
    return min(pairs, key=lambda pair: (-pairs[pair], pair))


def _counted(pieces, pairs_of=pairwise):
    return Counter(pair for piece, count in pieces.items() for pair in pairs_of(piece) for _ in range(count))


def _first(pairs):
    return min(pairs, key=lambda pair: (-pairs[pair], pair))


@next_pair.mistake(
    "each piece counted once", "A piece that comes often brings its pairs as often: add its count, not 1."
)
def once(pieces):
    return _first(Counter(pair for piece in pieces for pair in pairwise(piece)))


@next_pair.mistake(
    "ties to the first that was seen",
    "`max` and `most_common` take the first of equals, so the result hangs on the order of the text. "
    "Here the smaller pair wins.",
)
def first_seen(pieces):
    pairs = _counted(pieces)
    return max(pairs, key=pairs.get)


@next_pair.mistake("ties to the larger pair", "Of equally frequent pairs take the smaller one.")
def larger(pieces):
    pairs = _counted(pieces)
    return max(pairs, key=lambda pair: (pairs[pair], pair))


@next_pair.mistake(
    "a pair counted once in a piece",
    "A pair may stand in a piece more than once. Each time counts.",
)
def set_of_pairs(pieces):
    return _first(_counted(pieces, lambda piece: set(pairwise(piece))))


def _without_overlap(piece):
    found, end = [], {}
    for i, pair in enumerate(pairwise(piece)):
        if end.get(pair, -1) < i:
            found.append(pair)
            end[pair] = i + 1
    return found


@next_pair.mistake(
    "overlapping pairs counted once",
    "In (4, 4, 4) the pair (4, 4) stands twice, though only one of the two can be merged. The method "
    "counts both.",
)
def no_overlap(pieces):
    return _first(_counted(pieces, _without_overlap))


@next_pair.mistake(
    "every second pair",
    "You cut a piece into twos, and so miss the pairs that begin at places 1, 3, 5, ...: every token and "
    "the next make a pair.",
)
def in_twos(pieces):
    return _first(_counted(pieces, lambda piece: list(zip(piece[::2], piece[1::2], strict=False))))


@next_pair.mistake(
    "pairs across pieces",
    "The last token of one piece and the first of the next are no pair: nothing is merged across pieces.",
)
def across(pieces):
    line = [token for piece, count in pieces.items() for _ in range(count) for token in piece]
    return _first(Counter(pairwise(line)))


@next_pair.mistake(
    "the order within a pair ignored", "(1, 2) and (2, 1) are two pairs: what stands first matters."
)
def either_order(pieces):
    return _first(_counted(pieces, lambda piece: [tuple(sorted(pair)) for pair in pairwise(piece)]))


@next_pair.mistake(
    "the pair and its count", "`most_common(1)[0]` is a pair and its count. The pair alone is asked for."
)
def with_its_count(pieces):
    return _counted(pieces).most_common(1)[0]


@next_pair.mistake("the rarest pair", "The *most* frequent pair is merged: the counts need a minus in `min`.")
def rarest(pieces):
    pairs = _counted(pieces)
    return min(pairs, key=lambda pair: (pairs[pair], pair))


def _scores_and_k(g):
    def scores(*shape):
        return torch.randn(shape, generator=g)

    yield "k = 1: the likeliest token has all", (scores(1, 5), 1, 0.7)
    yield "all tokens kept, at temperature 1", (scores(1, 5), 5, 1.0)
    yield "three of seven kept, at temperature 1", (scores(2, 7), 3, 1.0)
    yield "a low temperature", (scores(2, 7), 3, 0.5)
    yield "a high temperature, several texts", (scores(3, 11), 4, 2.0)
    yield "scores in the thousands", (1000 * scores(2, 7), 3, 500.0)


@exercise("7.3", _scores_and_k, solved="Draw from it, append what was drawn, and again: that is writing.")
def top_k_probabilities(logits, k, temperature):
    lowest = logits.topk(k).values[:, -1:]
    kept = logits.masked_fill(logits < lowest, -math.inf)
    return (kept / temperature).softmax(dim=-1)


def _kept(logits, k, filler=-math.inf):
    return logits.masked_fill(logits < logits.topk(k).values[:, -1:], filler)


@top_k_probabilities.mistake(
    "argmax before temperature",
    "Only the likeliest token is left. So there is nothing for the temperature to change: its probability is "
    "1 at any.",
)
def argmax_first(logits, k, temperature):
    return F.one_hot(logits.argmax(dim=-1), logits.shape[-1]).float()


@top_k_probabilities.mistake(
    "no temperature", "The temperature is not used: divide the scores by it before the softmax."
)
def no_temperature(logits, k, temperature):
    return _kept(logits, k).softmax(dim=-1)


@top_k_probabilities.mistake(
    "multiplied by the temperature",
    "A *low* temperature makes the likely likelier, so the scores are divided by it.",
)
def multiplied(logits, k, temperature):
    return (_kept(logits, k) * temperature).softmax(dim=-1)


@top_k_probabilities.mistake(
    "the temperature after the softmax",
    "Probabilities divided by a number do not sum to one. The scores are what is divided.",
)
def divided_after(logits, k, temperature):
    return _kept(logits, k).softmax(dim=-1) / temperature


@top_k_probabilities.mistake(
    "not scaled after the cut",
    "The softmax came before the cut, so what is left does not sum to one. Cut the scores, to −∞.",
)
def not_scaled(logits, k, temperature):
    return (logits / temperature).softmax(dim=-1) * (logits >= logits.topk(k).values[:, -1:])


@top_k_probabilities.mistake(
    "a score of 0 for what is cut",
    "e⁰ is 1, so a token with the score 0 may still be drawn. Its score must be −∞.",
)
def zero_score(logits, k, temperature):
    return (_kept(logits, k, 0.0) / temperature).softmax(dim=-1)


@top_k_probabilities.mistake(
    "the k-th is cut as well", "One token too few is left: the lowest of the k stays, so cut by `<`."
)
def one_too_few(logits, k, temperature):
    lowest = logits.topk(k).values[:, -1:]
    return (logits.masked_fill(logits <= lowest, -math.inf) / temperature).softmax(dim=-1)


@top_k_probabilities.mistake(
    "the k least likely", "You keep the tokens with the smallest scores. topk gives the largest."
)
def least_likely(logits, k, temperature):
    highest = logits.topk(k, largest=False).values[:, -1:]
    return (logits.masked_fill(logits > highest, -math.inf) / temperature).softmax(dim=-1)


@top_k_probabilities.mistake(
    "one threshold for all texts",
    "You cut every text at the k-th score of the whole batch. Each row has its own.",
)
def one_threshold(logits, k, temperature):
    lowest = logits.flatten().topk(k).values[-1]
    return (logits.masked_fill(logits < lowest, -math.inf) / temperature).softmax(dim=-1)


@top_k_probabilities.mistake(
    "softmax over the texts", "Each row must sum to one: the last axis counts the tokens, dim=-1."
)
def over_texts(logits, k, temperature):
    return (_kept(logits, k) / temperature).softmax(dim=0)


@top_k_probabilities.mistake(
    "k is not used", "All tokens are left. Those below the k-th score must not come: their score is −∞."
)
def no_cut(logits, k, temperature):
    return (logits / temperature).softmax(dim=-1)


@top_k_probabilities.mistake(
    "not put back in place",
    "You return k probabilities, the likeliest first. Each belongs to its token: a row has as many numbers "
    "as there are tokens, and those that were cut are 0.",
)
def k_alone(logits, k, temperature):
    return (logits.topk(k).values / temperature).softmax(dim=-1)


@top_k_probabilities.mistake(
    "scores, not probabilities", "The scores are cut and divided. The softmax makes probabilities of them."
)
def no_softmax(logits, k, temperature):
    return _kept(logits, k) / temperature


@top_k_probabilities.mistake(
    "the thresholds lost their axis",
    "`values[:, -1]` is (batch), and PyTorch lines shapes up from the right: it takes the texts for tokens. "
    "`values[:, -1:]` keeps (batch, 1), one threshold for each row.",
)
def thresholds_in_a_row(logits, k, temperature):
    kept = logits.masked_fill(logits < logits.topk(k).values[:, -1], -math.inf)
    return (kept / temperature).softmax(dim=-1)


def _cache_sizes(g):
    def some():
        return int(torch.randint(5, 200, (), generator=g))

    yield "one block, one token", (1, some(), 1, 4)
    yield "one byte a number", (some(), some(), some(), 1)
    yield "GPT-2, in half precision", (12, 768, 1024, 2)
    yield "any sizes", (some(), some(), some(), 8)


@exercise(
    "7.4",
    _cache_sizes,
    solved="Now you know what limits how many texts a server writes at a time.",
    tolerance=1e-9,
)
def cache_bytes(num_blocks, d_model, length, bytes_per_number):
    return 2 * num_blocks * d_model * length * bytes_per_number


@cache_bytes.mistake("keys or values alone", "Both are kept: two vectors for a token, in each block.")
def keys_alone(num_blocks, d_model, length, bytes_per_number):
    return num_blocks * d_model * length * bytes_per_number


@cache_bytes.mistake(
    "the queries as well", "A query is used once, when its token is read. Keys and values alone are kept."
)
def three_vectors(num_blocks, d_model, length, bytes_per_number):
    return 3 * num_blocks * d_model * length * bytes_per_number


@cache_bytes.mistake("one block alone", "Every block has keys and values of its own.")
def one_block(num_blocks, d_model, length, bytes_per_number):
    return 2 * d_model * length * bytes_per_number


@cache_bytes.mistake("numbers, not bytes", "This counts the numbers; each takes `bytes_per_number`.")
def numbers(num_blocks, d_model, length, bytes_per_number):
    return 2 * num_blocks * d_model * length


@cache_bytes.mistake("bits, not bytes", "You multiply by 8, but bytes are asked for.")
def bits(num_blocks, d_model, length, bytes_per_number):
    return 8 * cache_bytes.reference(num_blocks, d_model, length, bytes_per_number)


@cache_bytes.mistake("one token alone", "Keys and values of *all* tokens so far are kept.")
def one_token(num_blocks, d_model, length, bytes_per_number):
    return 2 * num_blocks * d_model * bytes_per_number


@cache_bytes.mistake(
    "the square of the length",
    "Scores have length × length numbers, but they are used at once and not kept. Keys have "
    "length × d_model.",
)
def scores_kept(num_blocks, d_model, length, bytes_per_number):
    return 2 * num_blocks * length * length * bytes_per_number


def _models_and_prompts(g):
    config = GPTConfig(13, 64, d_model=8, num_heads=2, num_blocks=1, d_ff=11, dropout=0.0)
    for what, batch, length, new_tokens in (
        ("a single new token", 1, 3, 1),
        ("a prompt of one token", 1, 1, 4),
        ("four new tokens", 1, 3, 4),
        ("two texts", 2, 4, 4),
    ):
        model = shaken(GPT(config), g)
        model.output = Restless(model.output)
        yield what, (model, torch.randint(13, (batch, length), generator=g), new_tokens)


@exercise(
    "7.5",
    _models_and_prompts,
    solved="Each token is read once, however long the text. That is how every chat program writes.",
)
def suspicious_generate(model, prompt, new_tokens):
    state, new, found = model.initial_state(len(prompt)), prompt, []
    for _ in range(new_tokens):
        logits, state = model.step(new, state)
        new = logits.argmax(dim=-1, keepdim=True)
        found.append(new)
    return torch.cat(found, dim=1)


def _written(model, prompt, new_tokens, fed, keeps=lambda step: True):
    """Write greedily: `fed` says what is read next, `keeps` which steps leave their state behind."""
    state, text, new = model.initial_state(len(prompt)), prompt, prompt
    for step in range(new_tokens):
        logits, after = model.step(new, state)
        state = after if keeps(step) else state
        text = torch.cat([text, logits.argmax(dim=-1, keepdim=True)], dim=1)
        new = fed(text, prompt)
    return text[:, prompt.shape[1] :]


@suspicious_generate.mistake(
    "the whole text behind its own cache", "The text is read again at each step.", as_given=True
)
def whole_text(model, prompt, new_tokens):
    return _written(model, prompt, new_tokens, lambda text, prompt: text)


@suspicious_generate.mistake(
    "position 0 for every decoded token",
    "The state that `step` returns is thrown away. So each new token is the first of its text: it stands "
    "at position 0, with nothing to look back at.",
)
def state_forgotten(model, prompt, new_tokens):
    return _written(model, prompt, new_tokens, lambda text, prompt: text[:, -1:], lambda step: False)


@suspicious_generate.mistake(
    "the cache stays at the prompt's",
    "The first state is kept and no later one. Each new token sees the prompt, and none of the others.",
)
def state_of_the_prompt(model, prompt, new_tokens):
    return _written(model, prompt, new_tokens, lambda text, prompt: text[:, -1:], lambda step: step == 0)


@suspicious_generate.mistake(
    "the prompt is read at each step",
    "You feed the prompt again and again, and what was written never. Feed the new token.",
)
def prompt_again(model, prompt, new_tokens):
    return _written(model, prompt, new_tokens, lambda text, prompt: prompt)


@suspicious_generate.mistake(
    "the token before the newest", "You feed one token late: the newest is what the cache has not seen yet."
)
def one_late(model, prompt, new_tokens):
    return _written(model, prompt, new_tokens, lambda text, prompt: text[:, -2:-1])


@suspicious_generate.mistake(
    "the last two tokens are fed",
    "Of the two the cache already holds the first, so the model reads it twice. Feed the newest alone.",
)
def two_fed(model, prompt, new_tokens):
    return _written(model, prompt, new_tokens, lambda text, prompt: text[:, -2:])


@suspicious_generate.mistake(
    "the prompt is returned as well", "Only the new tokens are asked for: cut the prompt off in front."
)
def with_prompt(model, prompt, new_tokens):
    new = suspicious_generate.reference(model, prompt, new_tokens)
    return torch.cat([prompt, new], dim=1)


def _distributions(g):
    def drawn(*shape):
        return (1.5 * torch.randn(shape, generator=g)).softmax(dim=-1)

    by_hand = torch.tensor([0.4, 0.3, 0.2, 0.1])[torch.randperm(4, generator=g)]
    yield "0.4, 0.3, 0.2 and 0.1, in any order, and p = 0.6", (by_hand[None], 0.6)
    yield "one token is enough", (drawn(1, 5), 0.05)
    yield "p = 1: all are kept", (drawn(1, 5), 1.0)
    yield "one text", (drawn(1, 7), 0.7)
    yield "three texts", (drawn(3, 11), 0.8)


@exercise("7.6", _distributions, solved="This is nucleus sampling, with which most chat programs draw.")
def nucleus(probabilities, p):
    ordered, order = probabilities.sort(dim=-1, descending=True)
    before = ordered.cumsum(dim=-1) - ordered
    kept = ordered.masked_fill(before >= p, 0.0)
    kept = kept / kept.sum(dim=-1, keepdim=True)
    return torch.zeros_like(kept).scatter(-1, order, kept)


def _nucleus(probabilities, p, stays, scale=True, back=True, descending=True):
    ordered, order = probabilities.sort(dim=-1, descending=descending)
    kept = ordered * stays(ordered, ordered.cumsum(dim=-1))
    kept = kept / kept.sum(dim=-1, keepdim=True) if scale else kept
    return torch.zeros_like(kept).scatter(-1, order, kept) if back else kept


@nucleus.mistake(
    "the token that reaches p is dropped",
    "You keep tokens while their sum is below p, so they do not reach it. The one that crosses p belongs to "
    "the nucleus; the first always does.",
)
def crossing_dropped(probabilities, p):
    return _nucleus(probabilities, p, lambda ordered, total: total <= p)


@nucleus.mistake(
    "one token too many", "Once p is reached nothing more is kept: the *fewest* tokens that reach it."
)
def one_too_many(probabilities, p):
    return _nucleus(probabilities, p, lambda ordered, total: total - ordered - ordered.roll(1, -1) < p)


@nucleus.mistake("not scaled to sum to one", "What is kept must sum to one again: divide by its sum.")
def nucleus_not_scaled(probabilities, p):
    return _nucleus(probabilities, p, lambda ordered, total: total - ordered < p, scale=False)


@nucleus.mistake(
    "not put back in place",
    "You return the probabilities sorted, the likeliest first. Each belongs to its token: use the order that "
    "`sort` returned, with `scatter`.",
)
def left_sorted(probabilities, p):
    return _nucleus(probabilities, p, lambda ordered, total: total - ordered < p, back=False)


@nucleus.mistake(
    "the least likely are kept", "The sum begins with the *likeliest* token: sort with descending=True."
)
def tail_kept(probabilities, p):
    return _nucleus(probabilities, p, lambda ordered, total: total - ordered < p, descending=False)


@nucleus.mistake(
    "p taken for a threshold",
    "You keep the tokens whose own probability is at least p. It is their *sum* that must reach p.",
)
def threshold(probabilities, p):
    return _nucleus(probabilities, p, lambda ordered, total: ordered >= p)


@nucleus.mistake(
    "a share of the tokens",
    "You keep the share p of the tokens, however likely. It is the share p of the probability.",
)
def share_of_tokens(probabilities, p):
    count = math.ceil(p * probabilities.shape[-1])
    return _nucleus(probabilities, p, lambda ordered, total: torch.arange(total.shape[-1]) < count)


@nucleus.mistake(
    "a second softmax",
    "These are probabilities already. A softmax over them makes them all but equal: divide by their sum.",
)
def second_softmax(probabilities, p):
    kept = nucleus.reference(probabilities, p) > 0
    return probabilities.masked_fill(~kept, -math.inf).softmax(dim=-1)


@nucleus.mistake(
    "one nucleus for all texts",
    "You keep the first text's tokens in every row. Each row has its own nucleus.",
)
def first_row(probabilities, p):
    kept = probabilities * (nucleus.reference(probabilities, p)[:1] > 0)
    return kept / kept.sum(dim=-1, keepdim=True)


@nucleus.mistake("p is not used", "All tokens are left. Those after the sum has reached p get 0.")
def no_nucleus(probabilities, p):
    return probabilities


@nucleus.mistake(
    "gather instead of scatter",
    "`gather` *reads* at the places that the order tells. To put each number back to its token, *write* "
    "there: `scatter`.",
)
def gathered(probabilities, p):
    order = probabilities.argsort(dim=-1, descending=True)
    return left_sorted(probabilities, p).gather(-1, order)


def _models_and_tokens(g):
    config = GPTConfig(11, 7, d_model=8, num_heads=2, num_blocks=2, d_ff=5, dropout=0.0)
    for what, batch, length in (("a single token", 1, 1), ("two tokens", 1, 2), ("three texts", 3, 7)):
        yield what, (shaken(GPT(config), g, 0.5), torch.randint(11, (batch, length), generator=g))


@exercise(
    "7.7", _models_and_tokens, solved="No position sees its answer any more, so the loss means something."
)
def suspicious_gpt(model, tokens):
    x = model.embedding(tokens) + model.positions(tokens.shape[1])
    for block in model.blocks:
        x = block(x, causal_mask(tokens.shape[1]))
    return model.norm(x) @ model.embedding.weight.T


def _gpt(model, tokens, mask, positions=True, norm=True):
    """The model's logits; `mask` makes the mask of each block from a full one."""
    n = tokens.shape[1]
    x = model.embedding(tokens) + (model.positions(n) if positions else 0)
    for number, block in enumerate(model.blocks):
        x = block(x, mask(torch.ones(n, n, dtype=torch.bool), number))
    return (model.norm(x) if norm else x) @ model.embedding.weight.T


@suspicious_gpt.mistake("one position too far", "tril(1) leaves the next token in view.", as_given=True)
def one_too_far(model, tokens):
    return _gpt(model, tokens, lambda full, block: full.tril(1))


@suspicious_gpt.mistake(
    "a position does not see itself",
    "Now the mask hides too much: position i may see tokens up to *and with* its own. In the first row "
    "nothing at all is left.",
)
def not_oneself(model, tokens):
    return _gpt(model, tokens, lambda full, block: full.tril(-1))


@suspicious_gpt.mistake("no mask", "All positions see all tokens, the answer among them.")
def no_mask(model, tokens):
    return _gpt(model, tokens, lambda full, block: None)


@suspicious_gpt.mistake(
    "True where it is forbidden", "In this course True means *may attend*; yours is the wrong way round."
)
def polarity(model, tokens):
    return _gpt(model, tokens, lambda full, block: ~full.tril())


@suspicious_gpt.mistake(
    "the past is hidden", "triu keeps the future. What lies *below* the diagonal is the past: tril."
)
def past_hidden(model, tokens):
    return _gpt(model, tokens, lambda full, block: full.triu())


@suspicious_gpt.mistake(
    "the mask in the first block alone",
    "One block without a mask is enough: what it brings from the future is there for all that follow.",
)
def first_block_alone(model, tokens):
    return _gpt(model, tokens, lambda full, block: full.tril() if block == 0 else None)


@suspicious_gpt.mistake(
    "no position codes",
    "They were right as they stood. Without them attention cannot tell one order from "
    "another, but for the mask.",
)
def no_positions(model, tokens):
    return _gpt(model, tokens, lambda full, block: full.tril(), positions=False)


@suspicious_gpt.mistake(
    "the last LayerNorm is missing", "Pre-norm blocks end with a bare sum: `model.norm` comes behind them."
)
def no_norm(model, tokens):
    return _gpt(model, tokens, lambda full, block: full.tril(), norm=False)


@target("7.8", solved="Half the parameters, and hardly a worse guess at the next token.")
def smaller_gpt(answer, generator, *, validation, parameters, loss):
    model = trained_model(answer)
    size = sum(parameter.numel() for parameter in model.parameters())
    found = mean_loss(model, validation, next_token_loss)
    return [Goal("parameters", size, at_most=parameters), Goal("held-out loss", found, at_most=loss)]
