"""Generation: the exact distributions, the loop against transformers, and the cache against none."""

import itertools
import math
from types import SimpleNamespace

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close
from transformers.generation import logits_process as reference

from course_lib.generation import generate, next_token_distribution
from course_lib.models.gpt import GPT, GPTConfig
from course_lib.pretrained import load_gpt2
from tests.bad_calls import assert_refused, each_bad_call
from tests.torch_twins import shake

BATCH, PROMPT, CONTEXT, VOCAB = 3, 5, 11, 17


def liven(model):
    """Random weights under which greedy texts vary; with shaken norms one token comes for ever."""
    with torch.no_grad():
        for name, parameter in shake(model).named_parameters():
            if "norm" in name or "ln_" in name:
                parameter.fill_(1.0 if name.endswith("weight") else 0.0)
            elif parameter.ndim == 2 and parameter.shape[0] != VOCAB:
                parameter.mul_(2)
    return model.double().eval()


def make(positions="learned", **options):
    torch.manual_seed(0)
    sizes = {"d_model": 26, "num_heads": 1, "num_blocks": 2, "d_ff": 23}
    return liven(GPT(GPTConfig(VOCAB, CONTEXT, positions=positions, **(sizes | options))))


def make_prompt(length=PROMPT, seed=1):
    return torch.randint(VOCAB, (BATCH, length), generator=torch.Generator().manual_seed(seed))


def seeded(seed=7):
    return torch.Generator().manual_seed(seed)


# ------------------------------------------------------------------------------------- distributions


def probabilities(logits, text=None, **options):
    text = None if text is None else torch.tensor([text])
    return next_token_distribution(torch.tensor([logits], dtype=torch.float64), text, **options)[0]


def logs(*shares):
    return [math.log(share) for share in shares]


def exact(*shares):
    return torch.tensor(shares, dtype=torch.float64)


def test_distributions_by_hand():
    shares = logs(0.2, 0.5, 0.1, 0.15, 0.05)
    assert_close(probabilities(shares), exact(0.2, 0.5, 0.1, 0.15, 0.05))
    assert_close(probabilities(logs(0.2, 0.8), temperature=0.5), exact(0.04 / 0.68, 0.64 / 0.68))
    assert_close(probabilities(shares, top_k=2), exact(2 / 7, 5 / 7, 0, 0, 0))
    assert_close(probabilities(shares, top_p=0.6), exact(2 / 7, 5 / 7, 0, 0, 0))
    assert_close(probabilities(shares, top_p=0.4), exact(0, 1, 0, 0, 0))  # never nothing
    assert_close(probabilities(shares, top_p=0.75), exact(4 / 17, 10 / 17, 0, 3 / 17, 0))
    # Top-k comes first, and top-p counts what it left: 2/7 + 5/7 is all.
    assert_close(probabilities(shares, top_k=2, top_p=0.71), exact(0, 1, 0, 0, 0))
    # The temperature comes before top-p: at 0.5 the likeliest has 0.25 / 0.325 = 0.77 of all.
    assert_close(probabilities(shares, temperature=0.5, top_p=0.75), exact(0, 1, 0, 0, 0))
    assert_close(probabilities([1.0, 1.0, 1.0], top_k=2), exact(0.5, 0.5, 0))  # equals: the lower id first
    assert_close(probabilities([1.0] * 1009, top_k=3)[:5], exact(1 / 3, 1 / 3, 1 / 3, 0, 0))
    # What was said: 2 is halved, -2 is doubled, and how often it was said does not matter.
    penalised = probabilities([2.0, -2.0, 0.5], text=[0, 1, 0, 0], repetition_penalty=2.0)
    assert_close(penalised, torch.tensor([1.0, -4.0, 0.5], dtype=torch.float64).softmax(0))


OPTIONS = {
    "temperature": st.floats(0.2, 3.0),
    "top_k": st.none() | st.integers(1, 30),
    "top_p": st.just(1.0) | st.floats(0.02, 0.99),
    "repetition_penalty": st.just(1.0) | st.floats(0.5, 2.0),
}


@settings(deadline=None, max_examples=200)
@given(options=st.fixed_dictionaries(OPTIONS), seed=st.integers(0, 10_000))
def test_distributions_equal_transformers(options, seed):
    generator = seeded(seed)
    logits = 3 * torch.randn(5, 23, generator=generator, dtype=torch.float64)
    text = torch.randint(23, (5, 7), generator=generator)
    scores = reference.RepetitionPenaltyLogitsProcessor(options["repetition_penalty"])(text, logits.clone())
    scores = reference.TemperatureLogitsWarper(options["temperature"])(text, scores)
    if options["top_k"] is not None:
        scores = reference.TopKLogitsWarper(options["top_k"])(text, scores)
    if options["top_p"] < 1:
        scores = reference.TopPLogitsWarper(options["top_p"])(text, scores)
    ours = next_token_distribution(logits, text, **options)
    assert_close(ours, scores.softmax(dim=-1), atol=1e-10, rtol=1e-8)


def test_extreme_logits_and_temperatures_stay_finite():
    extreme = torch.tensor([[3e38, -3e38, 0.0, 3e38]])
    for temperature in (1e-30, 1.0, 1e30):
        got = next_token_distribution(extreme, temperature=temperature, top_p=0.9)
        assert got.isfinite().all() and abs(got.sum() - 1) < 1e-6
    cold = next_token_distribution(torch.tensor([[1.0, 1.1, 0.9]]), temperature=1e-4)
    assert_close(cold, torch.tensor([[0.0, 1.0, 0.0]]))
    half = next_token_distribution(torch.zeros(1, 5, dtype=torch.bfloat16))
    assert_close(half, torch.full((1, 5), 0.2))


class FixedModel:
    """Says after each token what a table of logits says, and knows no earlier ones."""

    training = False

    def __init__(self, table, context_length=CONTEXT):
        self.table = table
        self.config = SimpleNamespace(context_length=context_length, vocab_size=len(table))
        self.read, self.passes = [], 0

    def __call__(self, tokens):
        self.passes += 1
        self.read.append(tokens.tolist())
        return self.table[tokens]

    def initial_state(self, batch_size):
        return torch.zeros(batch_size, 0, dtype=torch.long)

    def step(self, tokens, state):
        state = torch.cat([state, tokens], dim=1)
        assert state.shape[1] <= self.config.context_length
        self.read.append(tokens.tolist())
        return self.table[tokens[:, -1]], state


def fits(counts, wanted):
    """Whether counts may well be of this distribution, by chi-square: within 5 deviations of its mean."""
    if (counts[wanted == 0] > 0).any():
        return False
    expected = wanted * counts.sum()
    rare = expected < 5  # for which the statistic is not made: counted together
    counts, expected = (torch.cat([x[~rare], x[rare].sum()[None]]) for x in (counts, expected))
    statistic = ((counts - expected) ** 2 / expected.clamp(min=1e-9)).sum().item()
    freedom = len(counts) - 1
    return statistic < freedom + 5 * math.sqrt(2 * freedom)


STRATEGIES = {
    "plain": {},
    "temperature": {"temperature": 0.7},
    "top-k": {"top_k": 5},
    "top-p": {"top_p": 0.8},
    "penalty": {"repetition_penalty": 1.7},
    "all": {"temperature": 1.3, "top_k": 7, "top_p": 0.9, "repetition_penalty": 1.3},
}
N = 20_000


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_samples_have_the_exact_joint_distribution(strategy):
    """Two tokens in a row: the pairs that come are counted against p(a | prompt) p(b | prompt, a)."""
    options = STRATEGIES[strategy]
    table = torch.randn(11, 11, generator=seeded(3), dtype=torch.float64)
    rows = generate(FixedModel(table), torch.full((N, 1), 4), 2, generator=seeded(), **options)
    counts = torch.zeros(11, 11, dtype=torch.float64)
    for first, second in rows:
        counts[first, second] += 1

    def joint(options):
        first = next_token_distribution(table[[4]], torch.tensor([[4]]), **options)[0]
        texts = torch.tensor([[4, token] for token in range(11)])
        return (first[:, None] * next_token_distribution(table, texts, **options)).flatten()

    assert fits(counts.flatten(), joint(options))
    # The same count tells this distribution from one at another temperature.
    warmer = {**options, "temperature": 1.1 * options.get("temperature", 1.0)}
    assert not fits(counts.flatten(), joint(warmer))


# ------------------------------------------------------------------------------------------ the loop


def test_greedy_equals_transformers_token_by_token():
    for seed, heads in itertools.product(range(5), (1, 3)):
        torch.manual_seed(seed)
        sizes = {"vocab_size": VOCAB, "n_positions": 29, "n_embd": 33, "n_head": heads, "n_layer": 2}
        config = transformers.GPT2Config(**sizes, n_inner=23, bos_token_id=0, eos_token_id=0)
        theirs = liven(transformers.GPT2LMHeadModel(config))
        ours = load_gpt2(theirs.state_dict(), num_heads=heads)
        for penalty in (1.0, 1.5):
            settings = {"repetition_penalty": penalty} if penalty != 1.0 else {}
            wanted = theirs.generate(
                make_prompt(seed=seed),
                attention_mask=torch.ones(BATCH, PROMPT, dtype=torch.long),
                max_new_tokens=23,
                do_sample=False,
                eos_token_id=None,
                pad_token_id=0,
                **settings,
            )[:, PROMPT:].tolist()
            got = generate(ours, make_prompt(seed=seed), 23, greedy=True, repetition_penalty=penalty)
            assert got == wanted
            assert all(len(set(row)) > 3 for row in got)


@pytest.mark.parametrize("positions", ["learned", "rotary"])
@pytest.mark.parametrize("strategy", ["greedy", *STRATEGIES])
@pytest.mark.parametrize("slide", [1, 3, 5, CONTEXT])
def test_cached_equals_uncached_also_past_the_contexts_end(positions, strategy, slide):
    model = make(positions)
    options = {"greedy": True} if strategy == "greedy" else STRATEGIES[strategy]

    def continue_with(use_cache, seed=7):
        randomness = {} if strategy == "greedy" else {"generator": seeded(seed)}
        return generate(model, make_prompt(), 31, use_cache=use_cache, slide=slide, **randomness, **options)

    cached = continue_with(True)
    assert cached == continue_with(False)
    assert [len(row) for row in cached] == [31] * BATCH  # 36 tokens in all, of which 11 fit
    assert all(len(set(row[CONTEXT:])) > 3 for row in cached)
    if strategy != "greedy":
        assert cached != continue_with(True, seed=8)


@pytest.mark.parametrize("positions", ["learned", "rotary"])
def test_a_cache_that_is_cut_gives_another_text(positions, monkeypatch):
    """What would go wrong if the window slid and the cache were not made anew."""
    model = make(positions)
    right = generate(model, make_prompt(), 31, greedy=True)
    usual, last = model.step, []

    def step_with_cut_cache(tokens, state):
        if tokens.shape[1] == CONTEXT:  # the pass over a window that slid
            tokens, state = tokens[:, -1:], last.pop()[..., 1:, :]
        logits, state = usual(tokens, state)
        last[:] = [state]
        return logits, state

    monkeypatch.setattr(model, "step", step_with_cut_cache)
    wrong = generate(model, make_prompt(), 31, greedy=True)
    first_wrong = CONTEXT - PROMPT + 1
    assert [row[:first_wrong] for row in wrong] == [row[:first_wrong] for row in right]
    assert wrong != right


@pytest.mark.parametrize("use_cache", [True, False])
def test_windows_are_as_documented(use_cache):
    """Each token of the text is its own number, so what was read shows where the window began."""
    counting = torch.full((23, 23), -9.0)
    counting[range(22), range(1, 23)] = 9.0
    for slide, begins in ((1, [0, 0, 0, 1, 2, 3, 4, 5, 6]), (3, [0, 0, 0, 3, 3, 3, 6, 6, 6])):
        model = FixedModel(counting, context_length=5)
        (row,) = generate(model, torch.tensor([[0, 1, 2]]), 9, greedy=True, use_cache=use_cache, slide=slide)
        assert row == list(range(3, 12))
        windows = [list(range(begin, end)) for begin, end in zip(begins, range(3, 12), strict=True)]
        if use_cache:
            fresh = [True] + [a != b for a, b in itertools.pairwise(begins)]
            windows = [window if new else window[-1:] for window, new in zip(windows, fresh, strict=True)]
        assert [read[0] for read in model.read] == windows


def test_stop_tokens_end_each_text_by_itself():
    counting = torch.full((23, 23), -9.0)
    counting[range(22), range(1, 23)] = 9.0
    model = FixedModel(counting)
    prompt = torch.tensor([[0], [4], [6]])
    assert generate(model, prompt, 9, greedy=True, stop_tokens=[7, 3]) == [[1, 2], [5, 6], []]
    assert len(model.read) == 3  # and nobody is asked again once all have ended
    assert generate(model, prompt, 2, greedy=True, stop_tokens=[7]) == [[1, 2], [5, 6], []]
    assert generate(model, prompt, 2, greedy=True) == [[1, 2], [5, 6], [7, 8]]


def test_one_seed_one_text_and_the_global_generator_is_left_alone():
    model = make()
    before = torch.get_rng_state()
    first, again = (generate(model, make_prompt(), 19, generator=seeded()) for _ in range(2))
    assert first == again != generate(model, make_prompt(), 19, generator=seeded(8))
    assert torch.equal(torch.get_rng_state(), before)
    generate(model, make_prompt(), 1)  # without a generator it is the global one that is drawn from
    assert not torch.equal(torch.get_rng_state(), before)


def test_no_graph_is_kept_and_the_prompt_is_left_as_it_was():
    model, prompt = make(), make_prompt()
    generate(model, prompt, 2, greedy=True)
    assert torch.equal(prompt, make_prompt())
    assert all(parameter.grad is None for parameter in model.parameters())


V, T = ValueError, TypeError
BAD_CALLS = [
    ("go(prompt=make_prompt(0))", V, ["prompt has shape (3, 0)", "at least one token"]),
    ("go(prompt=make_prompt(12))", V, ["prompt has 12 tokens", "reads 11 at once", "prompt[:, -11:]"]),
    ("go(prompt=make_prompt() + 17)", V, ["prompt holds the token id", "ids 0 to 16"]),
    ("go(prompt=make_prompt()[0])", V, ["prompt has shape (5,)", "(batch, position)"]),
    ("go(prompt=[[1, 2]])", T, ["prompt must be a tensor", "list"]),
    ("go(prompt=make_prompt().float())", T, ["whole numbers", "float32"]),
    ("go(max_new_tokens=0)", V, ["max_new_tokens is 0"]),
    ("go(max_new_tokens=2.5)", V, ["max_new_tokens is 2.5"]),
    ("go(temperature=0)", V, ["temperature is 0", "above 0", "greedy=True"]),
    ("go(temperature=-1.0)", V, ["temperature is -1.0"]),
    ("go(temperature=math.inf)", V, ["temperature is inf"]),
    ("go(temperature=math.nan)", V, ["temperature is nan"]),
    ("go(temperature=None)", V, ["temperature is None"]),
    ("go(top_k=0)", V, ["top_k is 0", "at least 1"]),
    ("go(top_k=2.0)", V, ["top_k is 2.0"]),
    ("go(top_p=0.0)", V, ["top_p is 0.0", "above 0 and at most 1"]),
    ("go(top_p=1.01)", V, ["top_p is 1.01"]),
    ("go(top_p=None)", V, ["top_p is None"]),
    ("go(repetition_penalty=0)", V, ["repetition_penalty is 0"]),
    ("go(greedy=True, temperature=0.7)", V, ["greedy takes the likeliest", "leave"]),
    ("go(greedy=True, top_k=3)", V, ["greedy takes the likeliest"]),
    ("go(greedy=True, generator=seeded())", V, ["greedy takes the likeliest"]),
    ("go(stop_tokens=[17])", V, ["stop_tokens holds 17", "0 to 16"]),
    ("go(stop_tokens=['.'])", V, ["stop_tokens holds '.'"]),
    ("go(stop_tokens=3)", V, ["stop_tokens must be a list", "3"]),
    ("go(slide=0)", V, ["slide is 0", "1 to 11"]),
    ("go(slide=12)", V, ["slide is 12", "1 to 11"]),
    ("go(model=make().train())", V, ["training mode", "model.eval()"]),
    ("go(model=GPT)", T, ["such as a GPT", "got GPT"]),
    ("go(model=torch.nn.Linear(3, 5))", T, ["such as a GPT", "got Linear"]),
    ("go(model=FixedModel(torch.full((17, 17), math.nan)))", V, ["logits hold NaN"]),
    ("go(model=FixedModel(torch.full((17, 17), math.nan)), greedy=True)", V, ["logits hold NaN"]),
    ("next_token_distribution(torch.zeros(1, 5), repetition_penalty=2.0)", V, ["needs the text"]),
    ("next_token_distribution(torch.zeros(1, 5), temperature=0)", V, ["temperature is 0"]),
]


def go(model=None, prompt=None, max_new_tokens=3, **options):
    model = make() if model is None else model
    return generate(model, make_prompt() if prompt is None else prompt, max_new_tokens, **options)


@pytest.mark.usefixtures("unchecked_shapes")
@each_bad_call(BAD_CALLS)
def test_bad_calls_say_what_was_wrong(call, error, words):
    assert_refused(call, error, words, globals(), "generation.py", "seq2seq.py")
