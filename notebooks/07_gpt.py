# %% [markdown]
# # 7 · GPT
#
# **The question.** A model that only ever learned to say which piece of text comes next can write. How much
# of a Transformer does that need, how is it trained, and how does a text come out of it, piece by piece?
#
# **You will be able to**
# - cut text into tokens with a byte-pair encoder that you built yourself;
# - build GPT from the encoder block of chapter 6 and a causal mask, and train it on a text;
# - write with it: greedy, with temperature, top-k and top-p, with a cache and without;
# - find an induction head, the part with which a model repeats what it has read;
# - read published GPT-2 weights, and know that your code is the model they belong to.
#
# **You should know** chapter 3 (the causal mask), chapter 5 (positions) and chapter 6 (the encoder block).
#
# **Time.** The chapter runs in less than 90 seconds on a laptop's CPU, without a network.

# %%
import json
import math
import re
import time
from collections import Counter
from itertools import pairwise

import matplotlib.pyplot as plt
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from course_lib.attention import causal_mask, record_attention
from course_lib.data.download import DataUnavailable
from course_lib.data.text import PIECES, CharacterVocabulary, load_text, train_byte_pairs
from course_lib.generation import generate, next_token_distribution
from course_lib.layers import EncoderBlock
from course_lib.models.gpt import GPT, GPTConfig
from course_lib.pretrained import load_gpt2, load_gpt2_tokenizer
from course_lib.training import WindowBatches, fit, mean_loss, next_token_loss
from course_lib.widgets import attention_map, generation_view

torch.set_printoptions(precision=3, sci_mode=False)
torch.set_num_threads(1)  # these tensors are small: more threads would mostly wait for one another

# %% [markdown]
# ## 7.1 What comes next?
#
# We need a text, and nearly every Python carries one: the reference of the language, which `help()` reads
# from. We put each paragraph on a line of its own. Some stand under several topics; each is kept once, or
# what we measure on would not be new. We learn from the first nine tenths and measure on the last.

# %%
paragraphs = re.sub(r"[-=*+|]{3,}", " ", load_text("python-docs")).split("\n\n")  # without drawn rulers
text = "\n".join(dict.fromkeys(" ".join(paragraph.split()) for paragraph in paragraphs))
cut = 9 * len(text) // 10
train_text, held_out = text[:cut], text[cut:]
print(f"{len(train_text):,} characters to learn from, {len(held_out):,} to measure on\n")
print(train_text[20_000:20_400])

# %% [markdown]
# The task is the same everywhere: *given what came so far, what comes next?* A text is its own teacher.
# Shift it by one place, and each character has its answer below it:

# %%
piece = "for x in y:"
print("read   ", " ".join(piece[:-1]))
print("answer ", " ".join(piece[1:]))

# %% [markdown]
# The simplest machine that answers remembers **one** character, and counts what followed it. For "e" it
# knows that a blank is likely, then "r", and so on. **Predict:** will its text have words? Will it have
# brackets that close?

# %%
characters = CharacterVocabulary.from_text(text)
ids = torch.tensor(characters.encode(train_text))
counts = torch.ones(len(characters), len(characters))  # one of each, so that nothing is impossible
counts.index_put_((ids[:-1], ids[1:]), torch.tensor(1.0), accumulate=True)
after = counts / counts.sum(dim=-1, keepdim=True)  # after[i, j]: how often j came after i

held_ids = torch.tensor(characters.encode(held_out))
bigram_loss = -after[held_ids[:-1], held_ids[1:]].log().mean().item()
generator = torch.Generator().manual_seed(0)
written = [characters.encode("T")[0]]
for _ in range(200):
    written.append(torch.multinomial(after[written[-1]], 1, generator=generator).item())
print(characters.decode(written))
print(f"\nloss on the held-out text: {bigram_loss:.3f} for each character")
print(f"blind guessing would have: {math.log(len(characters)):.3f}")

# %% [markdown]
# It has the sound of the text, and hardly a word. A bracket may close where it closes at once, since ")"
# often follows "("; a bracket further back is forgotten, as is all but one character. A count for each
# *three* characters would need a table of a million rows, and would meet rows that it never saw. What we
# want is a memory that looks back as far as it needs, at what it needs. You know one.
#
# ## 7.2 Build: a byte-pair encoder
#
# First the tokens. Single characters make texts long. Whole words make the list of words endless, and the
# next text has one that is not on it. **Byte-pair encoding** ([Sennrich et al.
# 2016](https://arxiv.org/abs/1508.07909)) lies between: begin with single bytes (they began with
# characters; bytes are GPT-2's), find the pair of neighbours that is most frequent, make it one new token,
# and do it again.
#
# Two rules beside that. Pairs are merged within words, never across the blank between them. So the text is
# cut into pieces first, and a word's piece begins with its blank:

# %%
print(PIECES)
print(re.findall(PIECES, "The value of x_1 is (not) 12.5."))

# %% [markdown]
# And of two pairs that are equally frequent, the one whose tokens were numbered first wins. The rest is
# counting:


# %%
def count_pairs(pieces):
    """Count neighbours in {piece: how often it comes}, where a piece is a tuple of token ids."""
    pairs = Counter()
    for piece, count in pieces.items():
        for pair in pairwise(piece):
            pairs[pair] += count
    return pairs


def merge(piece, pair, new):
    """Put the token `new` in the place of each `pair`, from left to right."""
    merged, i = [], 0
    while i < len(piece):
        found = piece[i : i + 2] == pair
        merged.append(new if found else piece[i])
        i += 2 if found else 1
    return tuple(merged)


# GPT-2 numbers the bytes that can be printed first, then the others.
printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
tokens = [
    bytes([byte]) for byte in [*printable, *sorted(set(range(256)) - set(printable))]
]  # id -> its bytes
id_of_byte = {token[0]: number for number, token in enumerate(tokens)}


def to_ids(piece):
    return tuple(id_of_byte[byte] for byte in piece.encode("utf-8"))


pieces = Counter()
for piece, count in Counter(re.findall(PIECES, train_text)).items():
    pieces[to_ids(piece)] += count
merges = {}  # pair -> the token it became
for _ in range(60):
    pairs = count_pairs(pieces)
    best = min(pairs, key=lambda pair: (-pairs[pair], pair))
    merges[best] = len(tokens)
    tokens.append(tokens[best[0]] + tokens[best[1]])
    if len(merges) <= 8:
        print(f"{pairs[best]:6,} times  {tokens[best[0]]!s:8} + {tokens[best[1]]!s:6} -> {tokens[-1]!s}")
    pieces = {merge(piece, best, merges[best]): count for piece, count in pieces.items()}

# %% [markdown]
# To encode a text, cut it into pieces and do the merges in the order in which they were learned. Follow one
# word:


# %%
def encode(text):
    found = []
    for piece in re.findall(PIECES, text):
        ids = to_ids(piece)
        for pair, new in merges.items():
            ids = merge(ids, pair, new)
        found += ids
    return found


ids = to_ids(" statement")
print(len(ids), [tokens[i].decode() for i in ids])
for pair, new in merges.items():
    if merge(ids, pair, new) != ids:
        ids = merge(ids, pair, new)
        print(len(ids), [tokens[i].decode() for i in ids])

# %% [markdown]
# Does it do what the encoder does that everybody uses? The
# [tokenizers](https://huggingface.co/docs/tokenizers) library learns from the same text, and we compare:
# the merges, one by one; the ids of a stretch of text that neither has seen; and that the text comes back.

# %%
library = train_byte_pairs(train_text, vocab_size=256 + len(merges))
stretch = held_out[:20_000]
assert encode(stretch) == library.encode(stretch).ids
learned = json.loads(library.to_str())["model"]["merges"]
assert [tuple(map(library.token_to_id, pair)) for pair in learned] == list(merges)
assert b"".join(tokens[i] for i in encode(stretch)).decode("utf-8") == stretch
print(f"{len(merges)} merges and {len(encode(stretch)):,} ids agree")

# %% [markdown]
# For the model we take more tokens, 512, and the library, which is faster. A token is now worth more than a
# character, so a loss for each *token* and one for each *character* are different numbers. Whoever compares
# models must say which.

# %%
tokenizer = train_byte_pairs(train_text, vocab_size=512)
train_tokens = torch.tensor(tokenizer.encode(train_text).ids)
held_tokens = torch.tensor(tokenizer.encode(held_out).ids)
scored = 64 * ((len(held_tokens) - 1) // 64)  # those that windows of 64 will predict
characters_per_token = len(tokenizer.decode(held_tokens[1 : 1 + scored].tolist())) / scored
print(
    f"{len(train_tokens):,} tokens to learn from; {characters_per_token:.2f} characters in a held-out token"
)
print("the longest:", [tokenizer.decode([i]) for i in range(512) if len(tokenizer.decode([i])) > 7])

# %% [markdown]
# ## 7.3 Build: the model is the encoder's stack, with a mask
#
# In chapter 6 the decoder had three parts: attention to what was written, attention to the source, and the
# position-wise network. Here there is no source. Take the cross-attention away, and what is left is the
# *encoder's* block. What makes it write is who may look where: the causal mask. With $E$ for the
# embedding's matrix and pre-norm blocks, counted from 0:
#
# $$ x_0 = E[\text{tokens}] + \text{position codes}, \qquad
#    x_{b+1} = \mathrm{EncoderBlock}_b(x_b,\ \text{causal mask}), \qquad
#    \mathrm{logits} = \mathrm{LayerNorm}(x_B)\, E^{\top} $$
#
# Three smaller things are GPT-2's own. The position codes are learned. The embedding is not multiplied by
# $\sqrt{d_{\text{model}}}$, since the codes begin as small as it does (a deviation of 0.02). And the bend
# in the position-wise network is not ReLU's corner but a smooth one, **GELU**: $x$ times the share of a
# normal distribution that lies below $x$ ([Hendrycks and Gimpel 2016](https://arxiv.org/abs/1606.08415)).
#
# $E$ is used a second time at the end: the **tied head**. **Predict:** if we load GPT's weights into plain
# encoder blocks, how far apart will the logits be? And without the mask?

# %% tags=["claim-C28"]
torch.manual_seed(0)
config = GPTConfig(
    vocab_size=29, context_length=13, d_model=20, num_heads=5, num_blocks=3, d_ff=22, dropout=0.0
)
gpt = GPT(config).double()
stack = [EncoderBlock(20, 5, 22, activation="gelu_tanh").double() for _ in range(3)]
for mine, theirs in zip(stack, gpt.blocks, strict=True):
    mine.load_state_dict(theirs.state_dict())


def my_gpt(tokens, mask):
    x = gpt.embedding(tokens) + gpt.positions(tokens.shape[1])  # (batch, position, d_model)
    for block in stack:
        x = block(x, mask)
    return gpt.norm(x) @ gpt.embedding.weight.T  # (batch, position, vocab)


tokens_in = torch.randint(29, (2, 11))
mine, theirs = my_gpt(tokens_in, causal_mask(11)), gpt(tokens_in)
assert_close(mine, theirs)
shared = [gpt.embedding.weight, gpt.positions.weight, gpt.norm.weight, gpt.norm.bias]
grads = [
    torch.autograd.grad(y.square().sum(), [*shared, *(p for block in blocks for p in block.parameters())])
    for y, blocks in ((mine, stack), (theirs, gpt.blocks))
]
for a, b in zip(*grads, strict=True):
    assert_close(a, b)
wrong = my_gpt(tokens_in, None)
print(f"the logits' own deviation {theirs.std():.3f}")
print(f"with the mask   off by    {(mine - theirs).abs().max():.0e}")
print(f"without it      off by    {(wrong - theirs).abs().max():.3f}")
assert (wrong - theirs).abs().max() > 0.01
x = gpt.embedding(tokens_in)
one_block = stack[0](x) - stack[0](x, causal_mask(11))
print(f"without it, of one block alone, at the last position: off by {one_block[:, -1].abs().max():.0e}")

# %% [markdown]
# The last line is worth a thought: in *one* block the last position may look at all others anyway, so for
# it the mask changes nothing. In a stack it does, because the positions that it looks at have looked ahead.
#
# The property that a wrong mask would break: the future must not leak into the past. And the control: it
# must reach itself, or nothing would be learned.

# %%
changed = tokens_in.clone()
changed[:, 6] = (changed[:, 6] + 1) % 29
moved = (gpt(changed) - gpt(tokens_in)).detach().abs().amax(dim=(0, 2))
print("token 6 changed; the logits move by", moved)
assert (moved[:6] == 0).all() and (moved[6:] > 1e-9).all()

# %% [markdown]
# Before token 6 nothing moves. At token 6 its own embedding has changed, and that counts most; behind it
# the change comes by attention alone, and the weights are not trained yet.
#
# ## 7.4 One pass is a lesson for every prefix
#
# A text of $n$ tokens holds $n - 1$ questions: what comes after the first, after the first two, and so on.
# The slow way asks them one by one, each with its own prefix. The fast way gives the whole text once and
# reads the answers at all positions. With the causal mask position $i$ saw the prefix up to $i$ and nothing
# else, so
#
# $$ \sum_{i=1}^{n-1} -\log p(y_{i+1} \mid y_1 \dots y_i) $$
#
# must come out the same, and so must its gradient. **Predict:** how many times as long does the slow way
# take, for 64 tokens?

# %% tags=["claim-C27"]
torch.manual_seed(0)
long = GPT(GPTConfig(29, 64, d_model=20, num_heads=5, num_blocks=3, d_ff=22, dropout=0.0)).double()
story = torch.randint(29, (1, 65))


def at_once():
    return F.cross_entropy(long(story[:, :-1])[0], story[0, 1:], reduction="sum")


def prefix_by_prefix():
    return sum(F.cross_entropy(long(story[:, :i])[:, -1], story[:, i], reduction="sum") for i in range(1, 65))


results = {}
for way in (at_once, prefix_by_prefix):
    start = time.perf_counter()
    loss = way()
    gradients = torch.autograd.grad(loss, list(long.parameters()))
    results[way.__name__] = loss, gradients, time.perf_counter() - start
    print(f"{way.__name__:17} loss {loss.item():.6f}  {1000 * results[way.__name__][2]:7.1f} ms")
assert_close(results["at_once"][0], results["prefix_by_prefix"][0])
for a, b in zip(results["at_once"][1], results["prefix_by_prefix"][1], strict=True):
    assert_close(a, b)
ratio = results["prefix_by_prefix"][2] / results["at_once"][2]
print(f"prefix by prefix takes {ratio:.0f} times as long")
assert ratio > 5

# %% [markdown]
# The same loss, the same gradient for every weight, and one pass instead of 64. (The factor is not just 64:
# most prefixes are shorter than the whole, and each pass has costs of its own, whatever its length.) This
# is why such models can be trained on so much text.
#
# ## 7.5 Use: train it
#
# Three blocks of width 96, a context of 64 tokens. **Predict:** what will it write before training? And
# what will it have learned first: words, or the order of words?


# %%
def make_gpt(**options):
    torch.manual_seed(0)
    sizes = {
        "context_length": 64,
        "d_model": 96,
        "num_heads": 4,
        "num_blocks": 3,
        "d_ff": 384,
        "dropout": 0.0,
    }
    return GPT(GPTConfig(vocab_size=512, **(sizes | options)))


def train(model, tokens, steps, learning_rate=3e-3, batch_size=8, **options):
    batches = WindowBatches(tokens, model.config.context_length, batch_size, seed=0)
    return fit(
        model, batches, next_token_loss, steps=steps, learning_rate=learning_rate, warmup=0.1, **options
    )


def write(model, prompt, length=60, **options):
    """Continue a prompt; return the text, prompt included."""
    ids = torch.tensor([tokenizer.encode(prompt).ids])
    options = options or {"generator": torch.Generator().manual_seed(1)}
    return prompt + tokenizer.decode(generate(model, ids, length, **options)[0])


validation = WindowBatches(held_tokens, 64, batch_size=64)
print("--- before\n" + write(make_gpt().eval(), "The statement"))
early = make_gpt()
train(early, train_tokens, steps=40, decay="constant")
print("--- after 40 steps\n" + write(early, "The statement"))
model = make_gpt()
history = train(model, train_tokens, steps=600, decay="cosine")
print("--- after 600 steps\n" + write(model, "The statement"))
print(f"\n{sum(p.numel() for p in model.parameters()):,} parameters")

# %%
frequency = torch.bincount(train_tokens, minlength=512) + 1.0
pairs = torch.ones(512, 512).index_put(
    (train_tokens[:-1], train_tokens[1:]), torch.tensor(1.0), accumulate=True
)
one_token = -(frequency / frequency.sum()).log()[held_tokens[1:]].mean().item()
two_tokens = -(pairs / pairs.sum(dim=1, keepdim=True)).log()[held_tokens[:-1], held_tokens[1:]].mean().item()
gpt_loss = mean_loss(model, validation, next_token_loss)

fig, ax = plt.subplots(figsize=(6, 2.8), layout="constrained")
ax.plot(history.losses, color="#0a6660", lw=0.9, label="training")
for height, style, name in (
    (one_token, ":", "knows how frequent each token is"),
    (two_tokens, "-.", "knows what follows one token"),
    (gpt_loss, "--", "GPT in the end"),
):
    ax.axhline(height, color="#8a4b08", ls=style, label=f"held out: {name}")
ax.set(xlabel="step", ylabel="loss for each token", ylim=(2, 6.5))
ax.legend(fontsize=8)
print(f"held out: {gpt_loss:.3f} for each token = {gpt_loss / characters_per_token:.3f} for each character")
print(f"the table of pairs had           {bigram_loss:.3f} for each character")
print(f"perplexity {math.exp(gpt_loss):.0f} of 512 tokens: it is as unsure as one who chooses among so many")
assert gpt_loss / characters_per_token < 0.75 * bigram_loss and gpt_loss < two_tokens < one_token

# %% [markdown]
# *What to look at: how soon the curve falls below the first line, which a model reaches that knows no order
# at all, and how much longer it takes to the second, which is all that a table of pairs can know. What lies
# below is worth more and comes slowly.*
#
# So it learned which tokens are frequent first, then which follow which, then more. One caution: each
# window begins without a past, so the first tokens in it are guessed with little to go by. A longer context
# would lower the number for that alone.
#
# Does it write, or does it recite? Look for the longest stretch of a sample that stands in the training
# text word for word, and for comparison the same of a held-out stretch, which a person wrote:


# %%
def longest_copy(sample):
    """The longest piece of `sample` that stands in the training text."""
    best = ""
    for first in range(len(sample)):
        while first + len(best) < len(sample) and sample[first : first + len(best) + 1] in train_text:
            best = sample[first : first + len(best) + 1]
    return best


sample = write(model, "The statement", length=120)
for name, words in (("written by the model", sample), ("held-out text", held_out[5000 : 5000 + len(sample)])):
    copy = longest_copy(words)
    print(f"{name:21} {len(copy):3} of {len(words)} characters: {copy!r}")

# %% [markdown]
# It does not recite: its longest stretch is a few words, as in the text that a person wrote. It puts
# familiar runs together in new ways.
#
# ## 7.6 Write: from scores to a text
#
# The model gives a score for each token. What is done with them is a choice of its own, and it is not the
# model's. **Greedy** takes the likeliest. All others draw, from probabilities that were bent before:
#
# $$ p = \mathrm{softmax}(z / T) $$
#
# A **temperature** $T$ below 1 makes the likely likelier. **Top-k** ([Fan et al.
# 2018](https://arxiv.org/abs/1805.04833)) keeps the $k$ likeliest tokens. **Top-p**, or nucleus ([Holtzman
# et al. 2020](https://arxiv.org/abs/1904.09751)), keeps the fewest that together reach $p$. What is kept is
# scaled to sum to one. By hand, with four tokens of probability 0.4, 0.3, 0.2 and 0.1:

# %%
logits = torch.tensor([[0.4, 0.3, 0.2, 0.1]]).log()
for options in ({}, {"temperature": 0.5}, {"top_k": 2}, {"top_p": 0.6}, {"top_p": 0.8}):
    print(f"{options!s:22}", next_token_distribution(logits, **options)[0])
squares = torch.tensor([0.16, 0.09, 0.04, 0.01])
assert_close(next_token_distribution(logits, temperature=0.5)[0], squares / squares.sum())
assert_close(next_token_distribution(logits, top_k=2)[0], torch.tensor([4 / 7, 3 / 7, 0.0, 0.0]))
assert_close(next_token_distribution(logits, top_p=0.8)[0], torch.tensor([4 / 9, 3 / 9, 2 / 9, 0.0]))

# %% [markdown]
# Check the second row by hand: $T = 1/2$ squares the probabilities and scales them. And why does top-p 0.6
# keep two? Because one has 0.4, which is short of it, and two have 0.7.
#
# Two more words that you will meet. A **repetition penalty** $r$ makes what was said less likely: its score
# is divided by $r$ where it is positive, and multiplied where it is negative ([Keskar et al.
# 2019](https://arxiv.org/abs/1909.05858)). And `slide=32` says what happens when the text has outgrown the
# 64 tokens that the model reads at once: the oldest 32 leave together.
#
# Now the model's own. **Predict** for each: will it repeat itself? Will it make sense?


# %%
def repeated(tokens):
    """The share of all runs of four tokens that came before in the same text."""
    runs = [tuple(tokens[i : i + 4]) for i in range(len(tokens) - 3)]
    return 1 - len(set(runs)) / len(runs)


strategies = {
    "greedy": {"greedy": True},
    "temperature 0.5": {"temperature": 0.5},
    "temperature 1": {"temperature": 1.0},
    "temperature 1.5": {"temperature": 1.5},
    "top-k 10": {"top_k": 10},
    "top-p 0.8": {"top_p": 0.8},
    "greedy, penalty 1.3": {"greedy": True, "repetition_penalty": 1.3},
}
shares = {}
for name, options in strategies.items():
    samples = []
    for seed, prompt in enumerate(("The statement", "If the function", "A class")):
        drawn = {} if "greedy" in options else {"generator": torch.Generator().manual_seed(seed)}
        samples.append(write(model, prompt, length=100, slide=32, **options, **drawn))
    shares[name] = sum(repeated(tokenizer.encode(s).ids) for s in samples) / len(samples)
    print(f"--- {name}: repeated {shares[name]:.0%}\n{samples[0][:180]}\n")
assert shares["greedy"] > shares["temperature 1"]

# %% [markdown]
# Greedy writing runs in circles. A high temperature does not repeat, and does not make sense. What lies
# between is taste, and no formula says where the best place is.
#
# Is what is drawn really drawn from that distribution? Draw 4,000 tokens after one prompt, and compare how
# often each came with its probability. Chance alone makes them differ a little; how much is known:

# %%
prompt = torch.tensor([tokenizer.encode("The value of the").ids])
with torch.no_grad():
    exact = next_token_distribution(model(prompt)[:, -1], top_p=0.8)[0]
drawn = generate(model, prompt.expand(4000, -1), 1, top_p=0.8, generator=torch.Generator().manual_seed(0))
share = torch.bincount(torch.tensor(drawn)[:, 0], minlength=512) / 4000
deviation = (exact * (1 - exact) / 4000).sqrt()  # of a share that is counted over 4,000 draws
print("token           probability   drawn")
for token in exact.topk(5).indices.tolist():
    print(f"{tokenizer.decode([token])!r:16}{exact[token]:10.3f}{share[token]:9.3f}")
assert ((share - exact).abs() <= 5 * deviation).all() and (share[exact == 0] == 0).all()

# %% [markdown]
# Play with it. Each step shows what could have come, and what the last block looked at, as the mean over
# its heads. Move temperature, top-k and top-p, and see which tokens are left.


# %%
def steps_of(model, prompt, length, **options):
    """What generation_view shows: for each new token the text before it, the logits, and the attention."""
    ids = torch.tensor([tokenizer.encode(prompt).ids])
    new = generate(model, ids, length, **options)[0]
    names = [tokenizer.decode([token]) for token in range(512)]
    steps, whole = [], torch.cat([ids, torch.tensor([new])], dim=1)
    for end in range(ids.shape[1], whole.shape[1]):
        with torch.no_grad(), record_attention(model) as maps:
            logits = model(whole[:, :end])[0, -1]
        last = maps[f"blocks.{len(model.blocks) - 1}.attention"][0, :, -1].mean(dim=0)  # (key,)
        steps.append(
            {
                "tokens": [names[token] for token in whole[0, :end]],
                "vocabulary": names,
                "logits": logits,
                "chosen": names[whole[0, end]],
                "attention": last,
            }
        )
    return steps


generator = torch.Generator().manual_seed(4)
generation_view(
    steps_of(model, "The value of the", 24, generator=generator, top_p=0.9),
    temperature=1.0,
    top_p=0.9,
    cache=(3, 4, 24),  # blocks, heads, d_k
    title="The model writes",
)

# %% [markdown]
# *What to look at: where the model is sure, as in the middle of a word, no setting changes much. Where it
# is not, at the beginning of a word, every setting does.*
#
# ## 7.7 The cache
#
# As in chapter 6. To write token 100, the model needs the keys and values of tokens 1 to 99. Those of 1 to
# 98 were there already when token 99 was written, and behind a causal mask they do not change while the
# window stands. So they are kept: that is the **KV cache**. Each step then feeds one token, the newest, in
# place of all.
#
# Count it. Writing tokens $m+1$ to $n$, the loop without a cache passes $m + (m+1) + \dots + (n-1)$ tokens
# through the blocks. With a cache it passes $m$ for the prompt and then one at a time. **Predict:** will
# the time shrink by as much as the count?

# %% tags=["claim-C29"]
settings = {
    "greedy": {"greedy": True},
    "temperature 0.7": {"temperature": 0.7},
    "top-k 10": {"top_k": 10},
    "top-p 0.9": {"top_p": 0.9},
    "penalty": {"repetition_penalty": 1.3},
}
prompt = torch.tensor([tokenizer.encode("The statement").ids])
for name, options in settings.items():
    texts = []
    for use_cache in (True, False):
        drawn = {} if name == "greedy" else {"generator": torch.Generator().manual_seed(3)}
        # 90 tokens: past the end of the context, where the window slides on by 32
        texts.append(generate(model, prompt, 90, use_cache=use_cache, slide=32, **options, **drawn))
    assert texts[0] == texts[1], name
print(f"with and without a cache, {len(settings)} ways of choosing write the same 90 tokens")
greedy = generate(model, prompt, 9, greedy=True)[0]
assert greedy == generate(model, prompt, 9, top_k=1, generator=torch.Generator())[0]

# %%
torch.manual_seed(0)
larger = GPT(GPTConfig(512, context_length=256, d_model=128, num_heads=4, num_blocks=3, d_ff=512)).eval()
start = torch.randint(512, (1, 16))
print("new tokens   tokens through the blocks       seconds         times as fast")
print("              without        with       without    with")
for new in (15, 60, 240):
    passed = sum(range(16, 16 + new)), 16 + new - 1
    seconds = []
    for use_cache in (False, True):
        begun = time.perf_counter()
        generate(larger, start, new, greedy=True, use_cache=use_cache)
        seconds.append(time.perf_counter() - begun)
    faster = seconds[0] / seconds[1]
    print(f"{new:6}{passed[0]:14,}{passed[1]:13,}{seconds[0]:13.2f}{seconds[1]:9.2f}{faster:12.1f}")
assert seconds[0] > 2 * seconds[1]

# %% [markdown]
# The count shrinks far more than the time. A step with one token has little to compute and yet must call
# every layer once, and a processor is at its best with much to do at a time.
#
# What does it cost? For each token two vectors, key and value, of width $d_{\text{model}}$ in each block.
# Exercise 7.4 asks how much that is for GPT-2.
#
# ## 7.8 An induction head
#
# "Mr Dursley ... Mr" — and you know what comes next, though you never met the name before. A model can do
# it with two heads, one behind the other ([Elhage et al.
# 2021](https://transformer-circuits.pub/2021/framework/index.html), [Olsson et al.
# 2022](https://arxiv.org/abs/2209.11895)). The first, in an early block, notes at each position which token
# stood *before* it. The second, in a later block, looks for the position whose note says "before me stood
# the token that you read now", and takes what stands there. Together they say: *what followed the last
# time?* The second is called an **induction head**.
#
# So one block should not be enough, and two should. Let us grow one. The text is random letters and digits,
# so nothing in it can be known. But after a while, different each time, it begins again from the start, and
# from then on everything can.


# %%
SIGNS = "abcdefghijklmnopqrstuvwxyz012345"
VOCAB, LENGTH = len(SIGNS), 32


def repeating(count, generator, shortest=8, longest=15):
    """Random tokens (count, LENGTH + 1) that begin again after a while, and after how many."""
    period = torch.randint(shortest, longest + 1, (count, 1), generator=generator)
    fresh = torch.randint(VOCAB, (count, longest), generator=generator)
    return fresh.gather(1, torch.arange(LENGTH + 1) % period), period


generator = torch.Generator().manual_seed(0)
tokens_seen, period = repeating(2, generator)
for row, p in zip(tokens_seen.tolist(), period[:, 0].tolist(), strict=True):
    print(f"begins again after {p:2}:", *(SIGNS[token] for token in row))

# %% [markdown]
# One thing about the start. GPT-2's first weights, of deviation 0.02, suit its width of 768. Our model is
# 64 wide, and at that size they are so small that heads take long to look anywhere in particular. So we
# begin with four times as much.
#
# **Predict:** a blind guess among 32 signs has a loss of $\log 32 \approx 3.47$. How low does each model
# get where everything can be known? And where nothing can, could it be *worse* than a blind guess?


# %%
def knowable(period):
    """Whether the text has begun again, so that what comes next stood in it before (count, LENGTH)."""
    return torch.arange(LENGTH) >= period


def grow(num_blocks, steps=500):
    torch.manual_seed(0)
    sizes = {"d_model": 64, "num_heads": 4, "d_ff": 64, "dropout": 0.0, "positions": "rotary"}
    model = GPT(GPTConfig(VOCAB, LENGTH, num_blocks=num_blocks, **sizes))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:  # the matrices
                parameter.mul_(4)
    generator = torch.Generator().manual_seed(1)
    batches = [repeating(32, generator)[0] for _ in range(steps)]
    options = {"learning_rate": 2.5e-3, "warmup": 0.1, "progress": False}
    return model, fit(model, batches, next_token_loss, steps=steps, **options)


test_tokens, test_period = repeating(500, torch.Generator().manual_seed(2))
known = knowable(test_period)
models, known_loss = {}, {}
print("loss where it     cannot be known   can be known")
for num_blocks in (1, 2):
    models[num_blocks], _ = grow(num_blocks)
    with torch.no_grad():
        logits = models[num_blocks](test_tokens[:, :-1])
    losses = F.cross_entropy(logits.transpose(1, 2), test_tokens[:, 1:], reduction="none")
    known_loss[num_blocks] = losses[known].mean().item()
    blocks = f"{num_blocks} block{'s' if num_blocks > 1 else ''}"
    print(f"{blocks:10}{losses[~known].mean():17.2f}{known_loss[num_blocks]:15.2f}")
assert known_loss[2] < 0.5 * known_loss[1]

# %% [markdown]
# One block is better than a blind guess where the answer can be known: it can tell which signs the text
# has, and not which comes next. Two blocks know. They are a little worse than blind where nothing can be
# known, since a sign may come twice by chance, and then they bet on what followed the last time.
#
# Now find the heads. The **induction score** of a head: how much weight, at a position that can be known,
# goes to where the answer stood the last time, one period back and one further on. The **previous-token
# score**: how much goes to the position just before. Beside them stands what a head would get that looks
# evenly at all that it may see.


# %%
with torch.no_grad(), record_attention(models[2]) as maps:
    models[2](test_tokens[:, :-1])
weights = torch.stack(
    [maps[f"blocks.{block}.attention"] for block in range(2)]
)  # (block, text, head, query, key)
query = torch.arange(LENGTH)
answer = (query + 1 - test_period).clamp(min=0)  # (text, query): where the next token stood the last time
at_answer = weights.gather(-1, answer[None, :, None, :, None].expand(2, -1, 4, -1, 1))[..., 0]
induction = at_answer.transpose(2, 3)[:, known].mean(dim=1)  # (block, head)
previous = weights[..., query[1:], query[:-1]].mean(dim=(1, 3))  # (block, head)
evenly = torch.tril(torch.ones(LENGTH, LENGTH)) / (query[:, None] + 1)
even = {
    "previous-token score": evenly[query[1:], query[:-1]].mean(),
    "induction score": evenly.gather(1, answer.T).T[known].mean(),
}
for name, scores in (("previous-token score", previous), ("induction score", induction)):
    print(f"{name:22}head 0  head 1  head 2  head 3   (evenly {even[name]:.2f})")
    for block in range(2):
        print(f"  block {block}           " + "".join(f"{score:8.2f}" for score in scores[block].tolist()))
assert induction[1].max() > 0.4 and induction[1].max() > 2 * induction[0].max()
assert previous[0].max() > 0.3

# %%
row = 0
shown = test_tokens[row, :-1].tolist()
names = [SIGNS[token] for token in shown]
best_head = induction[1].argmax().item()
gold = {(i, answer[row, i].item()) for i in range(LENGTH) if known[row, i]}
print(f"a text that begins again after {test_period[row].item()} letters")
attention_map(
    weights[:, row],
    names,
    names,
    gold=gold,
    layer=1,
    head=best_head,
    title="Two heads that work together",
)

# %% [markdown]
# *What to look at: frames mark where the answer stood. In block 1 ("layer 1") the strongest cells of the
# best head lie in them. Go to layer 0 and find the head whose strong cells lie just beside the diagonal.*
#
# Does this head do the work? Take it away: set its part of the output to zero, and measure the loss again
# where it can be known. Do the same with each of the others. **Predict:** which two will be missed most?

# %%
print("loss where it can be known, without one head")
without = torch.zeros(2, 4)
for block in range(2):
    for head in range(4):
        projection = models[2].blocks[block].attention.output_projection
        kept = projection.weight.detach().clone()
        with torch.no_grad():
            projection.weight[:, 16 * head : 16 * (head + 1)] = 0  # the columns that read this head
            logits = models[2](test_tokens[:, :-1])
            projection.weight.copy_(kept)
        losses = F.cross_entropy(logits.transpose(1, 2), test_tokens[:, 1:], reduction="none")
        without[block, head] = losses[known].mean()
    print(f"  block {block}  " + "".join(f"{loss:8.2f}" for loss in without[block].tolist()))
print(f"  whole model {known_loss[2]:6.2f}")

# %% [markdown]
# A high score says where a head looks, and taking it away says what it is worth. The two need not agree:
# heads can share a job, and then no single one is missed much. Compare the two tables head by head.
#
# ## 7.9 A small ladder
#
# Larger models and more text give lower losses, and in large experiments so regularly that one can plan
# with it ([Kaplan et al. 2020](https://arxiv.org/abs/2001.08361)). Ours are tiny. Does it show already?
# First four widths with the same text, then one width with more and more text. All are trained for the same
# 200 steps, so a short text is read many times. (Their positions are rotary: with those a model this small
# gets further in so few steps.) **Predict:** how low does each get? And what goes wrong with the shortest
# text?


# %% tags=["claim-C31"]
def small(width):
    return make_gpt(d_model=width, num_heads=4, num_blocks=2, d_ff=4 * width, positions="rotary")


def held_out_loss(model):
    return mean_loss(model, validation, next_token_loss)


WIDTHS, STEPS = (8, 16, 32, 64), 200
by_size, by_data = {}, {}
for width in WIDTHS:
    ladder_model = small(width)
    train(ladder_model, train_tokens, STEPS, progress=False)
    size = sum(p.numel() for p in ladder_model.parameters())
    by_size[size] = held_out_loss(ladder_model)
    print(f"width {width:3}, {size:8,} parameters: held-out loss {by_size[size]:.3f}")
for part in (64, 16, 4, 1):
    some = train_tokens[: len(train_tokens) // part]
    ladder_model = small(32)
    train(ladder_model, some, STEPS, progress=False)
    by_data[len(some)] = held_out_loss(ladder_model)
    print(f"{len(some):9,} tokens of text:      held-out loss {by_data[len(some)]:.3f}")
for ladder in (by_size, by_data):
    found = list(ladder.values())
    assert all(later < before for before, later in pairwise(found)), "each rung is lower"

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(7, 2.6), sharey=True, layout="constrained")
left.loglog(list(by_size), list(by_size.values()), "o-", color="#0a6660")
left.set(xlabel="parameters", ylabel="held-out loss")
right.loglog(list(by_data), list(by_data.values()), "o-", color="#8a4b08")
right.set(xlabel="tokens of text")
for ax in (left, right):
    ax.yaxis.set_major_formatter("{x:.1f}")
    ax.yaxis.set_minor_formatter("{x:.1f}")

# %% [markdown]
# *What to look at: both axes are logarithmic. A law of the form "loss = a · size to the power −b" would be
# a straight line.*
#
# Every rung is lower than the one before. That is all that four rungs of such a size can show. A straight
# line over many orders of magnitude takes far larger experiments. And the right-hand figure shows two
# things in one: the shortest text is also the one that was read most often, and a model that has read the
# same page dozens of times begins to know it by heart.
#
# ## 7.10 The same code, published weights
#
# GPT-2's weights are public, and many programs read them. If our GPT is GPT-2, it must give what they give.
# The file has its own names and its own layout: `c_attn` makes queries, keys and values with one matrix,
# and matrices are stored as (in, out), the other way round than in `nn.Linear`. Here is the whole of GPT-2,
# straight from the names in the file, in plain operations:


# %%
def gpt2_logits(w, tokens, num_heads):
    """GPT-2 from the tensors of its published file: tokens (batch, position) to logits."""

    def norm(x, name):
        return F.layer_norm(x, x.shape[-1:], w[name + ".weight"], w[name + ".bias"])

    def linear(x, name):
        return x @ w[name + ".weight"] + w[name + ".bias"]

    n = tokens.shape[1]
    x = w["wte.weight"][tokens] + w["wpe.weight"][:n]  # (batch, position, d_model)
    for b in range(len({name.split(".")[1] for name in w if name.startswith("h.")})):
        q, k, v = (
            part.unflatten(-1, (num_heads, -1)).transpose(1, 2)  # (batch, head, position, d_k)
            for part in linear(norm(x, f"h.{b}.ln_1"), f"h.{b}.attn.c_attn").chunk(3, dim=-1)
        )
        scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])  # (batch, head, query, key)
        scores = scores.masked_fill(torch.ones(n, n).triu(1).bool(), -math.inf)
        heads = (scores.softmax(dim=-1) @ v).transpose(1, 2).flatten(2)  # (batch, position, d_model)
        x = x + linear(heads, f"h.{b}.attn.c_proj")
        hidden = F.gelu(linear(norm(x, f"h.{b}.ln_2"), f"h.{b}.mlp.c_fc"), approximate="tanh")
        x = x + linear(hidden, f"h.{b}.mlp.c_proj")
    return norm(x, "ln_f") @ w["wte.weight"].T


# %% [markdown]
# `load_gpt2` puts such tensors into our `GPT`. Try it on random ones, with the shapes of a small GPT-2:

# %% tags=["claim-C30"]
generator = torch.Generator().manual_seed(0)
d_model, vocab, context, blocks = 24, 31, 17, 3
shapes = {"wte.weight": (vocab, d_model), "wpe.weight": (context, d_model)}
for name in ("ln_f", *(f"h.{b}.ln_{i}" for b in range(blocks) for i in (1, 2))):
    shapes |= {f"{name}.weight": (d_model,), f"{name}.bias": (d_model,)}
for b in range(blocks):
    for name, ins, outs in (
        ("attn.c_attn", d_model, 3 * d_model),
        ("attn.c_proj", d_model, d_model),
        ("mlp.c_fc", d_model, 4 * d_model),
        ("mlp.c_proj", 4 * d_model, d_model),
    ):
        shapes |= {f"h.{b}.{name}.weight": (ins, outs), f"h.{b}.{name}.bias": (outs,)}
weights_2 = {
    name: 0.3 * torch.randn(shape, generator=generator, dtype=torch.float64) for name, shape in shapes.items()
}

ours = load_gpt2(weights_2, num_heads=4)
some_tokens = torch.randint(vocab, (2, 13), generator=generator)
assert_close(ours(some_tokens), gpt2_logits(weights_2, some_tokens, num_heads=4))
off = (ours(some_tokens) - gpt2_logits(weights_2, some_tokens, num_heads=3)).abs().max()
print(f"{len(shapes)} tensors, one model, the same logits; with the wrong number of heads off by {off:.2f}")
assert off > 0.1

# %% [markdown]
# So far both sides are ours. The library's tests do the same with a third: `GPT2LMHeadModel` of the
# transformers library, logits, gradients and greedy texts.
#
# And the real weights, 124 million parameters? They are 548 MB, so the course does not fetch them unasked.
# If they are on this machine, the next cell lets them write; if not, it says how to get them.

# %%
try:
    published, encoder = load_gpt2("gpt2", download=False), load_gpt2_tokenizer(download=False)
except DataUnavailable as reason:
    print("Left out:", str(reason).splitlines()[0])
    print('Once, with a network: load_gpt2("gpt2") and load_gpt2_tokenizer(). Then run this cell again.')
else:
    prompt = torch.tensor([encoder.encode("Studying Deep-Learning is").ids])
    for name, options in (("greedy", {"greedy": True}), ("top-p 0.9", {"top_p": 0.9})):
        drawn = {} if "greedy" in options else {"generator": torch.Generator().manual_seed(0)}
        print(
            f"{name}: Studying Deep-Learning is"
            + encoder.decode(generate(published, prompt, 30, **options, **drawn)[0])
        )

# %% [markdown]
# ## 7.11 Break it
#
# For each: predict the symptom, run, explain.
#
# **1. The shift forgotten.** Ask each position for the token that it reads, in place of the next. What will
# the loss do, and what will the model write?


# %%
def loss_without_shift(model, batch):
    logits = model(batch[:, :-1])
    return F.cross_entropy(logits.flatten(0, 1), batch[:, :-1].flatten()), batch[:, 1:].numel()


parrot = make_gpt(num_blocks=1)
parrot_batches = WindowBatches(train_tokens, 64, 16, seed=0)
parrot_history = fit(parrot, parrot_batches, loss_without_shift, steps=60, learning_rate=4e-3, progress=False)
right_loss = mean_loss(parrot, validation, next_token_loss)
print(f"its loss {parrot_history.losses[-1]:.3f}; the loss of the next token {right_loss:.1f}")
print(write(parrot, "The statement", length=20, greedy=True))
assert parrot_history.losses[-1] < 0.5 and right_loss > gpt_loss + 1

# %% [markdown]
# The loss falls as never before, and the model says the last token for ever: it learned to copy its input.
# As in chapter 6, a loss that is too good is a symptom.
#
# **2. A cache without an offset.** Chapter 5's mistake, in a program that writes: each new token comes
# alone, and somebody gives it the code of position 0, since it is the first of its input. You know that
# nothing fails. **Predict:** from which new token on does the text differ?


# %%
class Forgetful(GPT):
    """Each piece of text that comes in is thought to begin at position 0."""

    def _embed(self, tokens, offset=0):
        return super()._embed(tokens, offset=0)


forgetful = Forgetful(model.config).eval()
forgetful.load_state_dict(model.state_dict())
prompt = torch.tensor([tokenizer.encode("The statement").ids])
texts = {}
for use_cache in (False, True):
    drawn = {"generator": torch.Generator().manual_seed(0), "top_p": 0.9, "use_cache": use_cache}
    texts[use_cache] = generate(forgetful, prompt, 24, **drawn)[0]
for use_cache, new_tokens in texts.items():
    print(f"{'with' if use_cache else 'without'} a cache:".ljust(17), repr(tokenizer.decode(new_tokens)))
first = next(i for i, (a, b) in enumerate(zip(*texts.values(), strict=True)) if a != b)
print(f"they differ from new token {first + 1} on")
assert first > 0

# %% [markdown]
# The first is right in any case: the prompt came in one piece. Everything behind it was written by a model
# that believed to be at the beginning. A reader who does not know the right text may never notice. That is
# why the library's tests compare a cached step with the whole pass, at every position.
#
# **3. Temperature zero.** It would divide by zero. The library says what you meant:

# %%
try:
    generate(model, prompt, 5, temperature=0)
except ValueError as error_message:
    print("ValueError:", error_message)

# %% [markdown]
# ## 7.12 Exercises
#
# Write into the cells in place of `...` and run them. `check` tries your function on small inputs, drawn
# anew each time, and says what is wrong, and which mistake it is, where it knows the mistake. Hints come
# in two steps, then the solution; all are folded. `progress()`, from the same module, lists what you have
# solved.

# %%
from course_lib.exercises import check

# %% [markdown]
# **7.1 The shift.** From tokens (batch, n) make what the model reads and what it must answer, both (batch,
# n - 1). Return the two in this order.


# %% tags=["exercise"]
def shift(tokens): ...


check("7.1", shift)

# %% [markdown]
# <details><summary>Hint 1</summary>The last token has no answer, and the first is none.</details>
# <details><summary>Hint 2</summary>Two slices along the second axis: one leaves out the last, one the
# first.</details>
# <details><summary>Solution</summary>
#
# ```python
# def shift(tokens):
#     return tokens[:, :-1], tokens[:, 1:]
# ```
#
# Position $i$ of the first stands above its answer, position $i$ of the second. This one line decides what
# a model learns; section 7.11 shows what becomes of it without.
# </details>
#
# **7.2 One merge.** Which pair would the byte-pair encoder merge next? Give it from {piece: count}, where a
# piece is a tuple of token ids; of equally frequent pairs the smaller one.


# %% tags=["exercise"]
def next_pair(pieces): ...


check("7.2", next_pair)

# %% [markdown]
# <details><summary>Hint 1</summary>In (4, 4, 4) the pair (4, 4) stands twice. <code>count_pairs</code> is
# yours already.</details>
# <details><summary>Hint 2</summary><code>min</code> with a key that is a tuple compares its first entry,
# and the second where the first are equal. What must the first be, so that the most frequent is the
# smallest?</details>
# <details><summary>Solution</summary>
#
# ```python
# def next_pair(pieces):
#     pairs = count_pairs(pieces)
#     return min(pairs, key=lambda pair: (-pairs[pair], pair))
# ```
#
# That (4, 4, 4) counts twice although only one of the two can be merged is a known oddity of the method,
# which the library shares.
# </details>
#
# **7.3 Top-k.** Turn scores (batch, vocab) into probabilities in which only the $k$ likeliest tokens are
# left, after a temperature.


# %% tags=["exercise"]
def top_k_probabilities(logits, k, temperature): ...


check("7.3", top_k_probabilities)

# %% [markdown]
# <details><summary>Hint 1</summary>A token that must not come needs the score −∞ before the softmax, as
# behind a mask.</details>
# <details><summary>Hint 2</summary><code>logits.topk(k).values[:, -1:]</code> is the lowest score that
# stays, one for each row.</details>
# <details><summary>Solution</summary>
#
# ```python
# def top_k_probabilities(logits, k, temperature):
#     lowest = logits.topk(k).values[:, -1:]
#     kept = logits.masked_fill(logits < lowest, -math.inf)
#     return (kept / temperature).softmax(dim=-1)
# ```
#
# Cutting after the softmax would need to scale again. Cutting by `logits < lowest` keeps more than $k$
# where scores are equal; the library breaks such ties by the token's number.
# </details>
#
# **7.4 How large is the cache?** In bytes, for one text of `length` tokens.


# %% tags=["exercise"]
def cache_bytes(num_blocks, d_model, length, bytes_per_number): ...


check("7.4", cache_bytes)

# %% [markdown]
# <details><summary>Hint 1</summary>Two vectors a token, in each block. Which two?</details>
# <details><summary>Hint 2</summary>Does the number of heads matter? They only cut the width into
# parts.</details>
# <details><summary>Solution</summary>
#
# ```python
# def cache_bytes(num_blocks, d_model, length, bytes_per_number):
#     return 2 * num_blocks * d_model * length * bytes_per_number
# ```
#
# Call it for GPT-2, `cache_bytes(12, 768, 1024, 4)`: 75 MB for one text of 1,024 tokens. For the model of
# section 7.3 it must equal what the state holds, `state.numel() * state.element_size()`, after
# `_, state = gpt.step(tokens_in[:1], gpt.initial_state(1))`.
# </details>
#
# **7.5 Find the bug.** This loop should write greedily with the model's cache. The first token is right.
# Mend the rest. (The check brings small models of its own, with random parameters.)


# %% tags=["exercise"]
def suspicious_generate(model, prompt, new_tokens):
    """Greedy writing with the cache; returns the ids of the new tokens (batch, new)."""
    state, written = model.initial_state(len(prompt)), prompt
    with torch.no_grad():
        for _ in range(new_tokens):
            logits, state = model.step(written, state)
            written = torch.cat([written, logits.argmax(dim=-1, keepdim=True)], dim=1)
    return written[:, prompt.shape[1] :]


check("7.5", suspicious_generate)

# %% [markdown]
# <details><summary>Hint 1</summary>What is in the cache when the second step begins, and what is fed
# again?</details>
# <details><summary>Hint 2</summary>The prompt is fed once. After that, how many tokens has the model not
# read yet?</details>
# <details><summary>Solution</summary>
#
# ```python
# def suspicious_generate(model, prompt, new_tokens):
#     state, written, new = model.initial_state(len(prompt)), prompt, prompt
#     with torch.no_grad():
#         for _ in range(new_tokens):
#             logits, state = model.step(new, state)
#             new = logits.argmax(dim=-1, keepdim=True)
#             written = torch.cat([written, new], dim=1)
#     return written[:, prompt.shape[1] :]
# ```
#
# It fed the whole text again at each step, behind a cache that held it already. The model read it twice.
# </details>
#
# **7.6 The nucleus.** From probabilities (batch, vocab), whose rows sum to one, keep in each row the fewest
# of the likeliest tokens that together reach $p$. Scale what is left to sum to one; all else is 0.


# %% tags=["exercise"]
def nucleus(probabilities, p): ...


check("7.6", nucleus)

# %% [markdown]
# <details><summary>Hint 1</summary>Sort, and add up. A token stays if those <i>before</i> it have not
# reached p yet.</details>
# <details><summary>Hint 2</summary><code>cumsum</code> counts each token itself, too: take it off again.
# And <code>sort</code> also returns the order, by which <code>scatter</code> puts everything
# back.</details>
# <details><summary>Solution</summary>
#
# ```python
# def nucleus(probabilities, p):
#     ordered, order = probabilities.sort(dim=-1, descending=True)
#     before = ordered.cumsum(dim=-1) - ordered
#     kept = ordered.masked_fill(before >= p, 0.0)
#     kept = kept / kept.sum(dim=-1, keepdim=True)
#     return torch.zeros_like(kept).scatter(-1, order, kept)
# ```
#
# Nothing stands before the likeliest token, so it always stays. Top-k keeps as many tokens where the model
# is sure as where it is not; the nucleus shrinks and grows with what it knows.
# </details>
#
# **7.7 Find the bug in this model.** It has the parts of the library's GPT, and returns logits of the same
# shape. Trained, its loss falls far below that of section 7.5's model, on held-out text as well. What it
# writes is nonsense. Mend it.


# %% tags=["exercise"]
def suspicious_gpt(model, tokens):
    """The logits (batch, position, vocab) of a GPT, from its parts."""
    n = tokens.shape[1]
    x = model.embedding(tokens) + model.positions(n)
    mask = torch.ones(n, n, dtype=torch.bool).tril(1)
    for block in model.blocks:
        x = block(x, mask)
    return model.norm(x) @ model.embedding.weight.T


check("7.7", suspicious_gpt)

# %% [markdown]
# <details><summary>Hint 1</summary>A loss that is too good is a symptom. Where could the model have seen
# the answer?</details>
# <details><summary>Hint 2</summary>Print the mask for n = 4. Which tokens may position 0
# see?</details>
# <details><summary>Solution</summary>
#
# ```python
# def suspicious_gpt(model, tokens):
#     x = model.embedding(tokens) + model.positions(tokens.shape[1])
#     mask = causal_mask(tokens.shape[1])
#     for block in model.blocks:
#         x = block(x, mask)
#     return model.norm(x) @ model.embedding.weight.T
# ```
#
# `tril(1)` keeps one diagonal too many: position $i$ sees token $i + 1$, which is its answer. In training
# copying it is all that there is to learn. In writing the answer is not there yet. The test of section 7.3
# finds it at once: change a token, and see whether anything *before* it moves.
# </details>
#
# **7.8 Open end: half the parameters.** Train a GPT with at most half as many parameters as `model`, in
# the same 600 steps, whose held-out loss is no more than 0.1 above `gpt_loss`, and return it. `make_gpt`
# takes `d_model`, `num_blocks`, `d_ff`, `positions="rotary"` and more. What could you take away at the
# smallest price?


# %% tags=["exercise"]
def smaller_gpt(): ...


check(
    "7.8",
    smaller_gpt,
    validation=validation,
    parameters=sum(parameter.numel() for parameter in make_gpt().parameters()) // 2,
    loss=gpt_loss + 0.1,
)

# %% [markdown]
# <details><summary>Hint 1</summary>Print how many parameters the embedding, the positions and one block
# have. With which of the three does the number grow as the square of the width?</details>
# <details><summary>Hint 2</summary>The ladder of section 7.9 says what kind of positions gets further in few
# steps.</details>
# <details><summary>Solution</summary>
#
# ```python
# def smaller_gpt():
#     small = make_gpt(d_model=64, d_ff=256, positions="rotary")
#     train(small, train_tokens, steps=600, decay="cosine", progress=False)
#     return small
# ```
#
# Two thirds of the width is less than half of the parameters, since a block's matrices grow with its square.
# The rotary positions more than pay for it: they need no codes to be learned, and in so few steps that counts
# most. In our runs the smaller model was ahead of `model`.
# </details>
#
# **7.9 Open end: when does the head grow?** `grow` returns the training's history, too. Draw its losses for
# one block and for two. Does the second curve fall evenly, or is there a place where it turns? Then let it
# train for 1,500 steps.
#
# ## 7.13 What we showed
#
# - A causal model learns from all prefixes of a text in one pass: same loss, same gradient (C27).
# - GPT is the encoder's stack with a causal mask, with the same block and the same weights (C28).
# - Writing is predicting the next token again and again. How it is chosen is a matter of a few lines, and
#   the cache changes the time and never the text (C29).
# - Tensors in GPT-2's published layout run in our model, and give what plain operations give (C30).
# - On a small ladder each larger model, and each larger text, had a lower loss (C31).
# - Two blocks can do what one cannot: look up what followed the last time. Its head was found by its score
#   and seen in the map.
#
# **What the papers say.** [Radford et al.
# (2018)](https://cdn.openai.com/research-covers/language-unsupervised/language_understanding_paper.pdf)
# train the decoder's stack without cross-attention, which is what we call the encoder's with a mask; the
# two names mean the same block. [Radford et al.
# (2019)](https://cdn.openai.com/better-language-models/language_models_are_unsupervised_multitask_learners.pdf)
# move LayerNorm in front, encode bytes, and divide the first weights of what is added by the root of the
# number of residual parts. [Olsson et al. (2022)](https://arxiv.org/abs/2209.11895) find induction heads in
# models of many sizes, and that they appear suddenly. [Holtzman et al.
# (2020)](https://arxiv.org/abs/1904.09751) show that the likeliest text runs in circles.
#
# **What comes next.** The same block once more, and no text at all: chapter 8 cuts a picture into pieces
# and reads them as a sentence.
