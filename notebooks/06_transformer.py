# %% [markdown]
# # 6 · The Transformer
#
# **The question.** Chapter 2's translator reads and writes one word after another, and attention was an
# addition to it. What is left when the recurrence goes, and attention does all the carrying? And which of
# the parts around it are needed, for what?
#
# **You will be able to**
# - build an encoder block and a decoder block from parts that you have checked against PyTorch's;
# - say which of the three attentions asks whom, and prove that the future stays hidden;
# - train a Transformer on sentences, grade its cross-attention, and follow a beam search;
# - show what residual connections, LayerNorm, warm-up and the position-wise network are each good for.
#
# **You should know** chapters 2 to 5: translation with attention, scaled dot products and masks, heads,
# positions.
#
# **Time.** The chapter runs in less than 90 seconds on a laptop's CPU, without a network.

# %%
import copy
import inspect
import math
import time

import matplotlib.pyplot as plt
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence
from torch.testing import assert_close

from course_lib.attention import MultiHeadAttention, causal_mask, padding_mask, record_attention
from course_lib.data.translation import load_translation
from course_lib.data.vocabulary import Vocabulary
from course_lib.decoding import beam_search, beam_steps, greedy_decode, length_penalty
from course_lib.layers import DecoderBlock, EncoderBlock
from course_lib.metrics import alignment_error_rate, alignment_from_weights, corpus_bleu
from course_lib.models.seq2seq import Seq2Seq, Seq2SeqConfig
from course_lib.models.transformer import Transformer, TransformerConfig
from course_lib.positions import sinusoidal_positions
from course_lib.training import PairBatches, fit, mean_loss, translation_loss, warmup_schedule
from course_lib.widgets import attention_map, beam_view

torch.set_printoptions(precision=3, sci_mode=False)
torch.set_num_threads(1)  # these tensors are small: more threads would mostly wait for one another

# %% [markdown]
# ## 6.1 Waiting for the word before
#
# A recurrent network computes state $s_i$ from state $s_{i-1}$. It cannot begin with word 20 before word 19
# is done, even when it is trained and all words are known. Attention has no such chain: in chapter 5 you
# counted its steps in a row, and they were the same few at any length.
#
# How much is that worth on a laptop? Take chapter 2's translator and a Transformer (we build it below) with
# about as many parameters. Give both the same number of words, cut into sentences of different lengths.
# **Predict:** how does the number of words that each can train on in a second depend on the length?


# %%
def time_a_step(model, length, words=1024):
    """Seconds for one training step, forward and backward, on 1,024 target words."""
    source, target = (torch.randint(3, 100, (words // length, length)) for _ in range(2))
    lengths = torch.full((len(source),), length)
    start = time.perf_counter()
    model(source, target, lengths).logsumexp(dim=-1).mean().backward()
    return time.perf_counter() - start


torch.manual_seed(0)
recurrent = Seq2Seq(Seq2SeqConfig(100, 100, embedding_size=64, hidden_size=128, attention_size=64))
parallel = Transformer(TransformerConfig(100, 100, d_model=64, num_heads=4, num_blocks=2, d_ff=256))
for name, model in (("recurrent", recurrent), ("Transformer", parallel)):
    print(f"{name:12}{sum(p.numel() for p in model.parameters()):9,} parameters")

# %% tags=["claim-C26"]
sentence_lengths = [8, 16, 32, 64, 128]
seconds = {(name, length): math.inf for name in ("recurrent", "Transformer") for length in sentence_lengths}
for _ in range(5):  # in turns, the best counts, so that whatever else the machine does meets all alike
    for length in sentence_lengths:
        for name, model in (("recurrent", recurrent), ("Transformer", parallel)):
            seconds[name, length] = min(seconds[name, length], time_a_step(model, length))
print("words in a sentence     " + "".join(f"{length:>9}" for length in sentence_lengths))
for name in ("recurrent", "Transformer"):
    print(f"{name:12} words/s    " + "".join(f"{1024 / seconds[name, n]:9,.0f}" for n in sentence_lengths))
ahead = {n: seconds["recurrent", n] / seconds["Transformer", n] for n in sentence_lengths}
print("Transformer, times as fast" + "".join(f"{a:9.1f}" for a in ahead.values())[2:])
assert ahead[128] > 1.2 and ahead[128] > 1.3 * ahead[8], "length costs the recurrent model more"

# %% [markdown]
# Each column holds the same number of words. On short sentences the recurrent model keeps up or is ahead:
# one core does its few steps in a row as quickly as anything. As sentences get longer it falls behind,
# because it has more steps to do one after the other, each with fewer sentences to share it. The
# Transformer has a cost of its own that grows with the length, the $n^2$ of its scores: it too loses speed
# on long sentences, and less of it.
#
# One caution: all this holds for **training**, where the right words are known. When it *writes*, a
# Transformer too must wait for its own last word.
#
# ## 6.2 Build: the encoder
#
# ### Words in
#
# A word becomes a vector of width $d_{\text{model}}$, and a code of its place is added (chapter 5). In the
# paper that gave the model its name ([Vaswani et al. 2017](https://arxiv.org/abs/1706.03762), "the paper"
# from here on) the embedding is multiplied by $\sqrt{d_{\text{model}}}$ first:
#
# $$ x_p = \sqrt{d_{\text{model}}}\; \mathrm{embedding}(\text{word}_p) + \mathrm{code}(p) $$
#
# Why? The same matrix also serves as the output layer, where a large start would make the first guesses
# wild. So its entries begin small, with a deviation of $1/\sqrt{d_{\text{model}}}$, and the factor brings
# them back to about the size of the sines and cosines. **Predict:** at a width of 256, how long is a word's
# vector beside a code's, without the factor and with it?

# %%
d_model = 256
torch.manual_seed(0)
embedding = nn.Embedding(1000, d_model)
nn.init.normal_(embedding.weight, std=d_model**-0.5)
code = sinusoidal_positions(20, d_model)
words = embedding(torch.arange(20))
for name, vectors in (("word", words), ("word, scaled", math.sqrt(d_model) * words), ("code", code)):
    print(f"{name:13} mean length of a vector {vectors.norm(dim=-1).mean():6.2f}")

# %% [markdown]
# Without the factor the word is a whisper beside its place. With it the word is a little louder: its
# entries have variance 1, those of sines and cosines one half.
#
# ### LayerNorm
#
# Layers stacked on layers let numbers drift. **LayerNorm** ([Ba et al.
# 2016](https://arxiv.org/abs/1607.06450)) brings each position's vector back to mean 0 and variance 1, by
# itself, then gives it a trained scale $\gamma$ and shift $\beta$:
#
# $$ \mathrm{LayerNorm}(x) = \gamma \odot
#    \frac{x - \mathrm{mean}(x)}{\sqrt{\mathrm{var}(x) + \epsilon}} + \beta, \qquad
#    \mathrm{var}(x) = \frac{1}{d} \sum_{c=1}^{d} (x_c - \mathrm{mean}(x))^2 $$
#
# Here $d$ is the width of the vector and $c$ counts its entries. Two details are easy to get wrong: the
# variance divides by $d$, not by $d - 1$, and $\epsilon$ stands **inside** the root. By hand: $x = (1, 3)$
# has mean 2 and variance $((-1)^2 + 1^2)/2 = 1$, so it becomes $(-1, 1)$.


# %%
def layer_norm(x, gamma, beta, eps=1e-5):
    mean = x.mean(dim=-1, keepdim=True)
    variance = (x - mean).square().mean(dim=-1, keepdim=True)
    return gamma * (x - mean) / (variance + eps).sqrt() + beta


print(layer_norm(torch.tensor([1.0, 3.0]), gamma=1.0, beta=0.0))

x = torch.randn(2, 5, 7, dtype=torch.float64, requires_grad=True)  # (batch, position, d_model)
reference = nn.LayerNorm(7).double()
nn.init.normal_(reference.weight)
nn.init.normal_(reference.bias)
parameters = reference.weight, reference.bias
mine, theirs = layer_norm(x, *parameters), reference(x)
assert_close(mine, theirs)
grads = [torch.autograd.grad(y.pow(3).sum(), (x, *parameters)) for y in (mine, theirs)]
for a, b in zip(*grads, strict=True):
    assert_close(a, b)

# Both mistakes would have been noticed, on small numbers where epsilon counts.
small = 0.01 * x
unbiased = (small - small.mean(-1, keepdim=True)) / (small.var(-1, keepdim=True) + 1e-5).sqrt()
outside = (small - small.mean(-1, keepdim=True)) / (small.var(-1, keepdim=True, correction=0).sqrt() + 1e-5)
right = layer_norm(small, 1.0, 0.0)
print(f"dividing by d - 1: off by {(unbiased - right).abs().max():.3f}")
print(f"epsilon outside:   off by {(outside - right).abs().max():.3f}")
assert not torch.allclose(unbiased, right, atol=1e-3) and not torch.allclose(outside, right, atol=1e-3)

# %% [markdown]
# ### The block
#
# An encoder block has two parts. **Attention** lets positions exchange what they know. A **feed-forward
# network** works on what has arrived. It is the same for each position and sees one position at a time, so
# it is also called the **position-wise network**:
#
# $$ \mathrm{FFN}(x) = W_2\, \mathrm{ReLU}(W_1 x + b_1) + b_2 $$
#
# Around each part runs a **residual connection**: what the part computes is *added* to what was there.
# LayerNorm stands before the part (**pre-norm**) or after the sum (**post-norm**, as the paper had it):
#
# $$ \text{pre-norm:}\;\; x + f(\mathrm{LayerNorm}(x)) \qquad\qquad
#    \text{post-norm:}\;\; \mathrm{LayerNorm}(x + f(x)) $$


# %%
def my_encoder_block(x, attention, feed_forward, norms, mask=None, norm_first=True):
    first, second = norms
    if norm_first:
        x = x + attention(first(x), mask=mask)  # (batch, position, d_model), as all of these
        return x + feed_forward(second(x))
    x = first(x + attention(x, mask=mask))
    return second(x + feed_forward(x))


torch.manual_seed(0)
mask = padding_mask([7, 4])  # (batch, head, query, key): 2, 1, 1, 7
for norm_first in (True, False):
    block = EncoderBlock(d_model=12, num_heads=3, d_ff=20, norm_first=norm_first).double()
    norms = block.attention_residual.norm, block.feed_forward_residual.norm
    x = torch.randn(2, 7, 12, dtype=torch.float64, requires_grad=True)
    mine = my_encoder_block(x, block.attention, block.feed_forward, norms, mask, norm_first)
    theirs = block(x, mask)
    assert_close(mine, theirs)
    everything = (x, *block.parameters())
    grads = [torch.autograd.grad(y.square().sum(), everything, retain_graph=True) for y in (mine, theirs)]
    for a, b in zip(*grads, strict=True):
        assert_close(a, b)
    wrong = my_encoder_block(x, block.attention, block.feed_forward, norms, mask, not norm_first)
    print(f"norm_first={norm_first!s:5} agrees; the other order is off by {(wrong - theirs).abs().max():.2f}")

# %% [markdown]
# The library's `EncoderBlock` in its turn is held by its tests to `nn.TransformerEncoderLayer`, in both
# orders, values and gradients.
#
# ## 6.3 Build: the decoder, and one mechanism in three uses
#
# The decoder writes the target. Its block has one part more: between looking at what it has written and
# thinking about it, it looks at the source. In pre-norm, with `memory` for the encoder's states:


# %%
def my_decoder_block(x, memory, self_attention, cross_attention, feed_forward, norms, mask, memory_mask):
    first, second, third = norms
    x = x + self_attention(first(x), mask=mask)  # (batch, target, d_model), as all of these
    x = x + cross_attention(second(x), memory, mask=memory_mask)
    return x + feed_forward(third(x))


torch.manual_seed(0)
block = DecoderBlock(d_model=12, num_heads=3, d_ff=20).double()
parts = block.self_attention, block.cross_attention, block.feed_forward
norms = [
    residual.norm
    for residual in (
        block.self_attention_residual,
        block.cross_attention_residual,
        block.feed_forward_residual,
    )
]
x = torch.randn(2, 5, 12, dtype=torch.float64, requires_grad=True)
memory = torch.randn(2, 7, 12, dtype=torch.float64, requires_grad=True)
masks = causal_mask(5), padding_mask([7, 4])  # (target, target) and (batch, head, target, source)
mine, theirs = my_decoder_block(x, memory, *parts, norms, *masks), block(x, memory, *masks)
assert_close(mine, theirs)
everything = (x, memory, *block.parameters())
grads = [torch.autograd.grad(y.square().sum(), everything, retain_graph=True) for y in (mine, theirs)]
for a, b in zip(*grads, strict=True):
    assert_close(a, b)
wrong = my_decoder_block(x, memory, *parts, norms, None, masks[1])
print(f"agrees; without the causal mask it is off by {(wrong - theirs).abs().max():.2f}")

# %% [markdown]
# Here is the model that we build towards. Follow one arrow after the other: each box is something that you
# have built by now.


# %%
def draw_transformer(ax):
    """Draw the two stacks: boxes compute, arrows carry, and the thin lines around boxes add."""
    ink = "#33475b"
    arrow = {"arrowstyle": "-|>", "color": ink, "lw": 1.3}

    def box(x, y, text, color="#ffffff"):
        style = {"boxstyle": "round,pad=0.35", "fc": color, "ec": ink}
        ax.text(x, y, text, ha="center", va="center", fontsize=8, color="#14212e", bbox=style)

    def stack(x, side, title, words, parts):
        """A column of parts with their residual lines on one side (-1 left, 1 right); return its top."""
        top = 2.3 + 1.6 * len(parts)
        ax.add_patch(plt.Rectangle((x - 1.6, 1.6), 3.2, top - 1.6, fc="#f3f6f8", ec="#9fb0bf", zorder=0))
        ax.text(x - 1.55, top + 0.12, title, fontsize=8, color=ink)
        box(x, 0.4, words)
        ax.text(x + 0.15, 1.1, "embedding + position", fontsize=7, color=ink)
        ax.plot([x, x], [0.75, top], color=ink, lw=1.3)
        for row, (part, color) in enumerate(parts):
            y, beside = 2.65 + 1.6 * row, x + 1.35 * side
            ax.plot([x, beside, beside, x], [y - 0.65, y - 0.65, y + 0.7, y + 0.7], color=ink, lw=0.8)
            ax.text(x + 0.1 * side, y + 0.76, "+", fontsize=9, color=ink, ha="right" if side < 0 else "left")
            box(x, y, part, color)
        return top

    looks, thinks = "#cfe8e4", "#f7dfc3"
    own = ("self-attention\nmask: padding", looks)
    top = stack(1.7, -1, "encoder, N blocks", "source words", [own, ("feed-forward", thinks)])
    written = ("self-attention\nmask: causal", looks)
    across = ("cross-attention\nmask: padding", looks)
    words = "target words so far"
    end = stack(6.3, 1, "decoder, N blocks", words, [written, across, ("feed-forward", thinks)])
    ax.plot([1.7, 1.7, 3.9, 3.9], [top, top + 0.7, top + 0.7, 4.25], color=ink, lw=1.3)
    ax.annotate("", (5.72, 4.25), (3.88, 4.25), arrowprops=arrow)
    ax.text(3.8, 5.0, "keys and values", fontsize=7, rotation=90, color=ink, ha="right", va="center")
    ax.annotate("", (6.3, end + 0.75), (6.3, end), arrowprops=arrow)
    box(6.3, end + 1.1, "output: a score for each word")
    ax.set(xlim=(0, 8), ylim=(0, end + 1.5))
    ax.axis("off")
    return ax


figure, ax = plt.subplots(figsize=(7, 5), layout="constrained")
_ = draw_transformer(ax)
# %% [markdown]
# *What to look at: the thin line around each box is its residual connection, and + is where it adds.
# (LayerNorm, at the beginning of each box, is not drawn.) The only way from the source to the target is the
# line into the cross-attention.*
#
# So the model uses the same layer in three ways:
#
# | where | queries from | keys and values from | mask |
# |---|---|---|---|
# | encoder self-attention | source | source | padding |
# | decoder self-attention | target | target | **causal** |
# | cross-attention | target | source, as the encoder left it | padding of the source |
#
# Do not take the table on trust. For each use, change one thing and see what notices. **Predict** before
# you run: we change the *third* word of the target, of five. Which of the five outputs move? Then we change
# the last word of the source. Which move?

# %% tags=["claim-C24"]
torch.manual_seed(0)
small = Transformer(
    TransformerConfig(20, 30, d_model=24, num_heads=3, num_blocks=2, d_ff=32, dropout=0.0)
).double()
source, target = torch.randint(3, 20, (1, 7)), torch.randint(3, 30, (1, 5))


def moved(after, before):
    return (after - before).detach().abs().amax(dim=(0, 2))  # how far each position moves


before = small(source, target)
third, last = target.clone(), source.clone()
third[0, 2] = 3 + (third[0, 2] - 2) % 27
last[0, 6] = 3 + (last[0, 6] - 2) % 17
by_target, by_source = moved(small(source, third), before), moved(small(last, target), before)
states = moved(small.encode(last).states, small.encode(source).states)
print("the third target word moves the outputs by", by_target)
print("the last source word moves the outputs by ", by_source)
print("the last source word moves the states by  ", states)
assert (by_target[:2] == 0).all() and (by_target[2:] > 1e-6).all(), "causal: only itself and what follows"
assert (by_source > 1e-6).all(), "cross-attention: every target position sees the source"
assert (states > 1e-6).all(), "encoder self-attention: every source position sees the last"
attentions = {name: layer for name, layer in small.named_modules() if name.endswith("attention")}
assert {type(layer) for layer in attentions.values()} == {MultiHeadAttention}
print(len(attentions), "attention layers, all of one class")

# %% [markdown]
# And who asks whom in the cross-attention? The weights have a row for each query and a column for each key,
# so their shape tells. To be sure, shuffle. If the encoder's states are the keys, then shuffling them must
# shuffle the columns of the weights. If they are the values too, the output must not notice, since each
# value still gets its own weight. **Predict** what shuffling the decoder's states does.

# %% tags=["claim-C25"]
with torch.no_grad(), record_attention(small) as maps:
    small(source, target)
for name in (
    "encoder_blocks.0.attention",
    "decoder_blocks.0.self_attention",
    "decoder_blocks.0.cross_attention",
):
    print(f"{name:34} (batch, head, query, key) = {tuple(maps[name].shape)}")
assert maps["decoder_blocks.0.cross_attention"].shape[-2:] == (target.shape[1], source.shape[1])

block = small.decoder_blocks[0]
x, memory = torch.randn(1, 5, 24, dtype=torch.float64), torch.randn(1, 7, 24, dtype=torch.float64)
order, memory_order = torch.tensor([3, 0, 4, 1, 2]), torch.tensor([5, 2, 6, 0, 3, 1, 4])


def run(x, memory):
    """The output of the block, and the weights of its cross-attention (batch, head, query, key)."""
    with torch.no_grad(), record_attention(block) as maps:
        return block(x, memory), maps["cross_attention"]


output, weights = run(x, memory)
same_output, columns_moved = run(x, memory[:, memory_order])
assert_close(columns_moved, weights[..., memory_order])
assert_close(same_output, output)
output_moved, rows_moved = run(x[:, order], memory)
assert_close(rows_moved, weights[:, :, order])
assert_close(output_moved, output[:, order])
other_output, other_weights = run(x, torch.randn_like(memory))  # the control: this must be noticed
assert (other_weights - weights).abs().max() > 0.01 and (other_output - output).abs().max() > 0.01
print("shuffled states of the encoder: columns move, the output stays")
print("shuffled states of the decoder: rows move, and the output with them")

# %% [markdown]
# ## 6.4 The whole model
#
# Stack blocks, put embeddings in front and a linear layer behind. With pre-norm one more LayerNorm closes
# each stack, since nothing else would normalise its sum. That is all:

# %%
for function in (Transformer.encode, Transformer.decode):
    print(f"{function.__name__}:", inspect.getsource(function).split('"""')[2])

# %% [markdown]
# (The `_check` functions look for bad input; `_memory` projects the states to keys and values, once for
# each decoder block.) The library's tests copy its parameters into `torch.nn.Transformer` and find the same
# logits and gradients, for pre-norm and post-norm.
#
# ## 6.5 Use: translate
#
# The sentences are those of chapter 2, English and French with the gold alignment set aside. (`warmup` and
# `decay` say that the learning rate rises first and falls afterwards. Section 6.8 asks why.)

# %%
data = load_translation("grammar")
source_vocab = Vocabulary.from_sentences(pair.source for pair in data.train)
target_vocab = Vocabulary.from_sentences(pair.target for pair in data.train)


def encode_pairs(pairs):
    sources = [source_vocab.encode(pair.source) for pair in pairs]
    targets = [target_vocab.encode(pair.target, bos=True, eos=True) for pair in pairs]
    return sources, targets


def pad(sentences):
    """Return token ids (sentence, position), filled up with <pad>, and the lengths."""
    rows = [torch.tensor(sentence) for sentence in sentences]
    return pad_sequence(rows, batch_first=True), torch.tensor([len(row) for row in rows])


def make_translator(**options):
    torch.manual_seed(2)
    sizes = {"d_model": 64, "num_heads": 4, "num_blocks": 2, "d_ff": 128, "dropout": 0.0, "max_length": 64}
    return Transformer(TransformerConfig(len(source_vocab), len(target_vocab), **(sizes | options)))


def train_translator(model, pairs, steps, learning_rate=8e-3):
    batches = PairBatches(*encode_pairs(pairs), batch_size=32, seed=2)
    return fit(
        model,
        batches,
        translation_loss,
        steps=steps,
        learning_rate=learning_rate,
        warmup=0.15,
        decay="cosine",
    )


def translate(model, pairs):
    ids, lengths = pad([source_vocab.encode(pair.source) for pair in pairs])
    outputs = greedy_decode(model, ids, lengths, target_vocab.bos_id, target_vocab.eos_id, max_length=40)
    return [" ".join(target_vocab.decode(output)) for output in outputs]


def bleu(model, pairs):
    return corpus_bleu(translate(model, pairs), [" ".join(p.target) for p in pairs], tokenized=True).score


model = make_translator()
history = train_translator(model, data.train, steps=1000)

# %% [markdown]
# **Predict:** in chapter 2 BLEU was nearly flat over the length of the sentence. Here every word is one
# step away from every other. Will it be flat again?

# %%
BINS = [(3, 6), (7, 10), (11, 14), (15, 18), (19, 25)]
hypotheses = translate(model, data.test)
references = [" ".join(pair.target) for pair in data.test]
scores = {}
for low, high in [(3, 25), *BINS]:
    rows = [row for row, pair in enumerate(data.test) if low <= len(pair.source) <= high]
    chosen = [hypotheses[row] for row in rows], [references[row] for row in rows]
    exact = sum(a == b for a, b in zip(*chosen, strict=True)) / len(rows)
    scores[low, high] = corpus_bleu(*chosen, tokenized=True).score
    print(f"{low:2} to {high:2} words: BLEU {scores[low, high]:5.1f}, exactly right {exact:4.0%}")
assert scores[3, 25] > 75
print(f"{sum(p.numel() for p in model.parameters()):,} parameters, {len(history.losses):,} steps")

# %% [markdown]
# It learned to translate, but no, it is not flat: it falls with the length. Chapter 2's model, after as
# many steps and with about as many parameters, scored higher in every one of these bins and fell far less
# towards the last: compare the table of section 2.3. So the Transformer is *behind*, and most so on long
# sentences. A short path is not everything. Why, we did not measure. One guess: a recurrent encoder has "the
# next word" built in, and a Transformer must learn what "next" means from sines, with few sentences and in
# little time.
#
# ## 6.6 See and grade the cross-attention
#
# Two blocks with four heads each look at the source. Which of them aligns words? The gold links know.
# **Predict:** will it be all eight, a few, or one?


# %%
def cross_attention(model, pairs):
    """For each pair the weights (block, head, target word, source word), with teacher forcing."""
    sources, targets = encode_pairs(pairs)
    (source, lengths), (target, _) = pad(sources), pad(targets)
    with torch.no_grad(), record_attention(model) as maps:
        model(source, target[:, :-1], lengths)
    names = [f"decoder_blocks.{block}.cross_attention" for block in range(len(model.decoder_blocks))]
    weights = torch.stack([maps[name] for name in names], dim=1)  # (pair, block, head, target, source)
    return [w[..., : len(p.target), : len(p.source)] for w, p in zip(weights, pairs, strict=True)]


sample = data.test[:400]
gold = [pair.alignment for pair in sample]
weights = cross_attention(model, sample)
torch.manual_seed(0)
untrained_weights = cross_attention(make_translator().eval(), sample)
error = torch.zeros(2, 2, 4)  # (trained or not, block, head)
for row, maps in enumerate((weights, untrained_weights)):
    for block in range(2):
        for head in range(4):
            links = [alignment_from_weights(w[block, head]) for w in maps]
            error[row, block, head] = alignment_error_rate(links, gold)
print("alignment error rate   head 0  head 1  head 2  head 3")
for block in range(2):
    print(f"block {block}               " + "".join(f"{e:8.2f}" for e in error[0, block].tolist()))
print(f"untrained, best head {error[1].min():10.2f}")
diagonal = [
    {(i, round(i * (len(p.source) - 1) / max(1, len(p.target) - 1))) for i in range(len(p.target))}
    for p in sample
]
print(f"diagonal guess {alignment_error_rate(diagonal, gold):16.2f}")
best_block, best_head = divmod(error[0].argmin().item(), 4)
print(f"best: block {best_block}, head {best_head}")
assert error[0].min() < 0.5 < 0.7 < error[1].min()

# %% [markdown]
# All eight are far better than untrained, and nobody told them to be. But look at the guess that sees no
# word at all and goes down the diagonal: the weakest heads are no better. And the best is far behind
# chapter 2's single attention; compare the error of section 2.5. What a head that aligns badly is good for,
# this table cannot say.
#
# Now "my feet hurt", *j'ai mal aux pieds*. Choose block (the view says "layer") and head; the gold links
# are outlined. The view opens on the head that was best on 400 sentences. **Predict:** is it the best on
# this one?

# %%
feet = min(
    (pair for pair in data.test if pair.source[:3] == ("my", "feet", "hurt")),
    key=lambda pair: len(pair.source),
)
print(feet.source_text, "->", translate(model, [feet])[0])
attention_map(
    cross_attention(model, [feet])[0],
    list(feet.target),
    list(feet.source),
    gold=feet.alignment,
    layer=best_block,
    head=best_head,
    title="Cross-attention: my feet hurt",
)

# %% [markdown]
# *What to look at: rows are the French words that are about to be written, columns the English ones. Is the
# strongest cell of each row in its frame? Find a head in which all of them are.*
#
# ## 6.7 Write: greedy, and with a beam
#
# The decoder writes with a cache. Behind the causal mask an old word never sees a newer one. So its keys
# and values do not change when the sentence grows, and each step computes those of the newest word only. It
# must give what the whole pass gives, at every position:

# %%
ids, lengths = pad([source_vocab.encode(pair.source) for pair in sample[:20]])
target, _ = pad([target_vocab.encode(pair.target, bos=True) for pair in sample[:20]])
with torch.no_grad():
    whole = model(ids, target, lengths)  # (sentence, position, word)
    memory = model.encode(ids, lengths)
    state, steps = memory.initial_state, []
    for position in range(target.shape[1]):
        logits, state = model.step(target[:, position], state, memory)
        steps.append(logits)
assert_close(torch.stack(steps, dim=1), whole, atol=1e-4, rtol=1e-4)
print("one pass and", len(steps), "cached steps agree")

# %% [markdown]
# **Greedy** decoding takes the likeliest word each time. But the likeliest first word need not begin the
# likeliest sentence. A **beam** follows several beginnings at once and keeps, of all their continuations, a
# few good ones. In the end it compares whole sentences by
#
# $$ \mathrm{score}(y) = \frac{\log p(y \mid x)}{\mathrm{lp}(|y|)}, \qquad
#    \mathrm{lp}(n) = \left(\frac{5 + n}{6}\right)^{\alpha} $$
#
# where $|y|$ counts the words with the closing `<eos>`, and the **length penalty** $\mathrm{lp}$ makes up
# for the fact that each further word makes a sentence less likely ([Wu et al.
# 2016](https://arxiv.org/abs/1609.08144)). With $\alpha = 0$ there is no penalty; we take 0.6. Let us find
# a sentence where greedy decoding and the beam differ, if possible one where the beam is right, and follow
# it.

# %%
greedy = translate(model, sample)
ids, lengths = pad([source_vocab.encode(pair.source) for pair in sample])
found = beam_search(model, ids, lengths, target_vocab.bos_id, target_vocab.eos_id, beam_size=4, max_length=40)
beam = [" ".join(target_vocab.decode(hypotheses[0].tokens)) for hypotheses in found]
references = [" ".join(pair.target) for pair in sample]
different = [row for row in range(len(sample)) if greedy[row] != beam[row]]
print(f"{len(different)} of {len(sample)} sentences differ")
print(f"BLEU greedy {corpus_bleu(greedy, references, tokenized=True).score:.1f}")
print(f"BLEU beam   {corpus_bleu(beam, references, tokenized=True).score:.1f}")

shown = min(different, key=lambda row: (beam[row] != references[row], len(sample[row].source)))
print("\nsource ", " ".join(sample[shown].source))
print("greedy ", greedy[shown])
print("beam   ", beam[shown])
print("right  ", references[shown])

# %%
one = torch.tensor([source_vocab.encode(sample[shown].source)])
marks = target_vocab.bos_id, target_vocab.eos_id
hypotheses, steps = beam_steps(model, one, *marks, beam_size=3, max_length=40)
for hypothesis in hypotheses:
    words = target_vocab.decode(hypothesis.tokens)
    penalty = length_penalty(len(words) + 1, alpha=0.6)  # <eos> counts too
    assert math.isclose(hypothesis.score, hypothesis.log_probability / penalty, rel_tol=1e-6)
    print(f"{hypothesis.log_probability:6.2f} / {penalty:.2f} = {hypothesis.score:6.2f}  {' '.join(words)}")

beam_view(
    [step.parents for step in steps],
    [[target_vocab.tokens[token] for token in step.tokens] for step in steps],
    [step.log_probabilities for step in steps],
    max_length=40,
    title="A beam of three",
)

# %% [markdown]
# *What to look at: step through the search. Slot 1 is greedy decoding. Where does the best hypothesis leave
# the greedy path? Then move the length penalty. Does the order of the hypotheses change? If it does not,
# count their words: the penalty can tell long from short, and nothing else. (The search stops as soon as
# nothing that a slot still holds can come to a better score. What the slots then hold is left over.)*
#
# Our beam differs from the usual in one point. Its slots choose one after another, each from what the slots
# up to itself have found. So a wider beam does all that a narrower one does, and more, and its best score
# can only rise. The usual beam keeps the $k$ likeliest continuations of all slots, and can lose by getting
# wider. A higher score is no promise of a better translation, though: the score is the model's own.
#
# ## 6.8 What is each part good for?
#
# To ask that, we need a task that is quick to train. Eight digits come in. At each place the answer is the
# digit there *plus the digit at the mirrored place*, modulo 10. Attention must fetch the other digit, and
# something must add. Four encoder blocks, 400 steps, a high learning rate.


# %%
class Adder(nn.Module):
    def __init__(self, norm_first=True, num_blocks=4, d_model=32):
        super().__init__()
        self.embedding = nn.Embedding(10, d_model)
        nn.init.normal_(self.embedding.weight, std=d_model**-0.5)
        self.blocks = nn.ModuleList(
            EncoderBlock(d_model, 4, 64, norm_first=norm_first) for _ in range(num_blocks)
        )
        self.norm = nn.LayerNorm(d_model) if norm_first else nn.Identity()
        self.output = nn.Linear(d_model, 10)
        self.register_buffer("code", sinusoidal_positions(8, d_model))

    def forward(self, digits):
        x = math.sqrt(self.code.shape[1]) * self.embedding(digits) + self.code  # (batch, position, d_model)
        for block in self.blocks:
            x = block(x)
        return self.output(self.norm(x))


def digits(count, generator):
    x = torch.randint(10, (count, 8), generator=generator)
    return x, (x + x.flip(1)) % 10


def adder_loss(model, batch):
    x, y = batch
    return F.cross_entropy(model(x).flatten(0, 1), y.flatten()), y.numel()


generator = torch.Generator().manual_seed(1)
batches = [digits(64, generator) for _ in range(400)]  # the same for every model
test_digits, test_sums = digits(1000, generator)


def train_adder(norm_first=True, warmup=200, change=None, learning_rate=5e-3, num_blocks=4, d_model=32):
    """Train for 400 steps and return the share of right sums; chance is 0.10."""
    torch.manual_seed(0)
    model = Adder(norm_first, num_blocks, d_model)
    if change is not None:
        change(model)

    def schedule(step):  # a rise over the warm-up, full height, then a fall to zero in the second half
        return learning_rate * min(1.0, step / warmup if warmup else 1.0) * min(1.0, (401 - step) / 200)

    fit(model, batches, adder_loss, steps=400, schedule=schedule, progress=False)
    with torch.no_grad():
        return (model(test_digits).argmax(dim=-1) == test_sums).float().mean().item()


# %% [markdown]
# ### Pre-norm, post-norm and warm-up
#
# The paper's model, with post-norm, needs **warm-up**: the learning rate starts near zero and rises over
# the first thousands of steps. Here is the paper's schedule, for $d_{\text{model}} = 512$:

# %%
figure, ax = plt.subplots(figsize=(5, 2.2), layout="constrained")
ax.plot([warmup_schedule(step, 512, 4000) for step in range(1, 20001)])
ax.set(xlabel="step", ylabel="learning rate", xticks=[0, 4000, 10000, 20000])
peak = max(range(1, 20001), key=lambda step: warmup_schedule(step, 512, 4000))
print(f"highest at step {peak:,}: {warmup_schedule(peak, 512, 4000):.1e}")

# %% [markdown]
# *What to look at: a straight rise for 4,000 steps, then a fall with the inverse root of the step.*
#
# Why should a model need to be started gently? We train four: pre-norm and post-norm, each with warm-up and
# without. In post-norm nothing goes straight through, since every sum is normalised again. In pre-norm the
# residual path is never touched. **Predict** which of the four learn to add, before you run.

# %% tags=["claim-C20"]
right = {}
print("share of right sums    without warm-up   with")
for name, norm_first in (("pre-norm", True), ("post-norm", False)):
    right[name] = [train_adder(norm_first, warmup) for warmup in (0, 200)]
    print(f"{name:18}{right[name][0]:17.2f}{right[name][1]:8.2f}")
assert min(right["pre-norm"]) > 0.9, "pre-norm trains either way"
assert right["post-norm"][0] < 0.5 < right["post-norm"][1], "post-norm needs the warm-up"

# %% [markdown]
# At this learning rate and depth it is as the literature says: [Xiong et al.
# (2020)](https://arxiv.org/abs/2002.04745) find that in post-norm the gradients near the output are large
# at the start. Be exact about "needs": this is one rate and one depth. Exercise 6.7 asks you where it
# begins.
#
# ### No residual connections
#
# Without them a block must carry through attention whatever it wants to keep. **Predict:** how right will
# the sums be?


# %% tags=["claim-C22"]
class NoResidual(nn.Module):
    """Norm and part, without adding what was there."""

    def __init__(self, residual):
        super().__init__()
        self.norm = residual.norm

    def forward(self, x, part):
        return part(self.norm(x))


def without_residuals(model):
    for block in model.blocks:
        block.attention_residual = NoResidual(block.attention_residual)
        block.feed_forward_residual = NoResidual(block.feed_forward_residual)


def own_digit_after_each_block(model, count=1000):
    """How much of its own digit a linear map reads off each position, after each block: right shares."""
    shares = []
    with torch.no_grad():
        x = math.sqrt(32) * model.embedding(test_digits[:count]) + model.code
        wanted = F.one_hot(test_digits[:count], 10).float().flatten(0, 1)
        for block in [None, *model.blocks]:
            x = x if block is None else block(x)
            features = torch.cat([x, torch.ones(*x.shape[:2], 1)], dim=-1).flatten(0, 1)
            half = len(features) // 2
            fit_map = torch.linalg.lstsq(features[:half], wanted[:half]).solution
            guessed = (features[half:] @ fit_map).argmax(dim=-1)
            shares.append((guessed == wanted[half:].argmax(dim=-1)).float().mean().item())
    return shares


torch.manual_seed(0)
fresh, stripped = Adder(), Adder()
without_residuals(stripped)
print(f"{'own digit read off a fresh model':35}  input" + "".join(f"   block {b}" for b in range(4)))
kept_digits = {}
for name, m in (("with residuals", fresh), ("without", stripped)):
    kept_digits[name] = own_digit_after_each_block(m)
    first, *others = kept_digits[name]
    print(f"{name:35}{first:7.2f}" + "".join(f"{share:10.2f}" for share in others))
commonest = test_digits.mode(dim=1, keepdim=True).values  # of each row
print(f"always naming the row's commonest digit: {(test_digits == commonest).float().mean():.2f}")
no_residual = train_adder(change=without_residuals)
print(f"right sums: with residuals {right['pre-norm'][1]:.2f}, without {no_residual:.2f}")
assert kept_digits["with residuals"][-1] > 0.9 and kept_digits["without"][-1] < 0.5
assert no_residual < 0.3

# %% [markdown]
# With residuals the digit at a position can still be read off it after four blocks of random weights.
# Without them no more often than by always naming the row's commonest digit, for which one needs to know
# which digits there are, and not where. And training does not mend it; the sums stay near chance.
# Likely because an untrained head looks at all positions nearly alike, so that each block mixes them, and
# no part adds back what was there.
#
# ### No position-wise network
#
# Attention takes means of values. It can fetch the mirrored digit. Can it add modulo 10?


# %% tags=["claim-C23"]
class Nothing(nn.Module):
    def forward(self, x, part):
        return x


def without_feed_forward(model):
    for block in model.blocks:
        block.feed_forward, block.feed_forward_residual = nn.Identity(), Nothing()


no_mlp = train_adder(change=without_feed_forward)
print(f"right sums: with the position-wise network {right['pre-norm'][1]:.2f}, without {no_mlp:.2f}")
for name, change in (("with", None), ("without", without_feed_forward)):
    counted = Adder()
    if change is not None:
        change(counted)
    print(f"{name:8}{sum(p.numel() for p in counted.parameters()):7,} parameters")
assert no_mlp < 0.75 < 0.9 < right["pre-norm"][1]

# %% [markdown]
# Better than chance, far from right. Be fair: without the networks the model also has fewer parameters.
# Exercise 6.9 asks whether wider attention makes up for it.
#
# ### BatchNorm in place of LayerNorm
#
# BatchNorm, the usual choice for images, normalises each channel over all positions of all sentences in the
# batch. What would that mean for text? Three questions, and **predict** each answer. Does a sentence get
# the same states alone and in company? Does the amount of padding matter? And in the decoder: does the
# causal mask still hide the future?


# %%
class BatchNorm(nn.BatchNorm1d):
    """Batch normalisation over sentences and positions, for (batch, position, d_model)."""

    def forward(self, x):
        return super().forward(x.transpose(1, 2)).transpose(1, 2)  # it wants (batch, channel, position)


def with_batch_norm(model):
    model = copy.deepcopy(model)
    for name, layer in list(model.named_modules()):
        if isinstance(layer, nn.LayerNorm):
            parent, _, attribute = name.rpartition(".")
            setattr(model.get_submodule(parent), attribute, BatchNorm(layer.normalized_shape[0]))
    return model


# %% tags=["claim-C21"]
sources, targets = encode_pairs(data.train[:8])
(ids, lengths), (target, _) = pad(sources), pad(targets)
other = target.clone()
other[:, 5:] = target_vocab.unk_id  # another future, from position 5 on
shift = {}
print("how far a sentence's states or logits move    LayerNorm   BatchNorm")
for name, m in (("LayerNorm", make_translator()), ("BatchNorm", with_batch_norm(make_translator()))):
    m.train()  # in training, where BatchNorm takes its numbers from the batch
    with torch.no_grad():
        together = m.encode(ids, lengths).states[0, : lengths[0]]
        alone = m.encode(ids[:1, : lengths[0]], lengths[:1]).states[0]
        more_padding = m.encode(F.pad(ids, (0, 20)), lengths).states[0, : lengths[0]]
        logits, other_logits = (m(ids, words, lengths)[:, :5] for words in (target, other))
    pairs = (together, alone), (together, more_padding), (logits, other_logits)
    shift[name] = [(a - b).abs().max().item() for a, b in pairs]
for row, what in enumerate(("when it is alone", "with more padding", "with another future")):
    print(f"{what:42}{shift['LayerNorm'][row]:13.0e}{shift['BatchNorm'][row]:12.0e}")
assert max(shift["LayerNorm"]) < 1e-4 and min(shift["BatchNorm"]) > 1e-2

# %% [markdown]
# BatchNorm mixes sentences with one another and with their padding. And it lets the future through: the
# mean over all positions knows the later words, mask or no mask. When the model translates, none of this is
# there, since BatchNorm then uses means that it kept from training. So what it learned with is not what it
# works with.
#
# The literature says that it does worse on text ([Shen et al. 2020](https://arxiv.org/abs/2003.07845)).
# Does it here? Train both on the short sentences, 300 steps each.

# %%
brief = [pair for pair in data.train if len(pair.source) <= 10]
brief_test = [pair for pair in data.test if len(pair.source) <= 10]
test_batches = PairBatches(*encode_pairs(brief_test), batch_size=32)
brief_bleu, brief_history, loss_gap = {}, {}, {}
for name, m in (("LayerNorm", make_translator()), ("BatchNorm", with_batch_norm(make_translator()))):
    brief_history[name] = train_translator(m, brief, steps=300)
    as_used = mean_loss(m, test_batches, translation_loss)
    brief_bleu[name] = bleu(m, brief_test)
    m.train()
    with torch.no_grad():
        losses, counts = zip(*(translation_loss(m, batch) for batch in test_batches), strict=True)
    as_trained = sum(loss.item() * count for loss, count in zip(losses, counts, strict=True)) / sum(counts)
    loss_gap[name] = as_used - as_trained
    print(
        f"{name}: BLEU {brief_bleu[name]:.1f}; loss as in training {as_trained:.3f}, as in use {as_used:.3f}"
    )
assert abs(loss_gap["LayerNorm"]) < 1e-4 and loss_gap["BatchNorm"] > 0.02

# %% [markdown]
# We had expected BatchNorm to lose. It came out ahead, in BLEU and in its loss in use: with one seed, after
# 300 steps, when both are far from done. What does show is the gap between its two losses: it does better
# with the batch's own means than with those that it kept from training, and those it has to use. Our
# sentences are short and alike, and the batches are full of them. The paper names what is missing here: in
# real text the batches differ much more from one another. So we have shown that BatchNorm mixes what should
# be apart. That it does worse for it, we have not.
#
# ## 6.9 Break it
#
# For each: predict the symptom, run, explain.
#
# **1. A decoder that sees the future.** Train with teacher forcing and without the causal mask, from the
# same first weights. What will the training loss do? And the translations?


# %%
class Seeing(Transformer):
    def decode(self, target, memory):
        x = self._embed(target, "target")
        for block, projected in zip(self.decoder_blocks, memory.projected, strict=True):
            x = block(x, projected, None, memory.mask)
        return self.output(self.decoder_norm(x))


def last_loss(history):
    return sum(history.losses[-20:]) / 20  # of the last 20 steps


seeing = Seeing(make_translator().config)
seeing.load_state_dict(make_translator().state_dict())
seeing_history, seeing_bleu = train_translator(seeing, brief, steps=300), bleu(seeing, brief_test)
print(f"with the mask     training loss {last_loss(brief_history['LayerNorm']):.3f}", end="")
print(f", BLEU {brief_bleu['LayerNorm']:.1f}")
print(f"without the mask  training loss {last_loss(seeing_history):.3f}, BLEU {seeing_bleu:.1f}")
assert seeing_bleu < 0.5 * brief_bleu["LayerNorm"]

with torch.no_grad():  # the test of section 6.3
    changed = target.clone()
    changed[:, 2] = target_vocab.unk_id
    for name, m in (("with the mask", model), ("without the mask", seeing)):
        first_two = moved(m(ids, changed, lengths), m(ids, target, lengths))[:2]
        print(f"the third word moves the outputs before it, {name}: by {first_two.max():.2f}")

# %% [markdown]
# A wonderful loss and a useless translator. Each position could copy its answer from the next one. When it
# writes, there is no next one. **A loss that is too good is a symptom**, and the test of section 6.3 finds
# the cause in a second.
#
# **2. No scale on the embedding.** Divide the embedding by $\sqrt{d_{\text{model}}}$, so that the codes
# drown the words. Same steps. **Predict:** does it fail, or is it slower? One number at the end could not
# tell, so we look at the loss on the way.


# %%
class Unscaled(Transformer):
    def _embed(self, tokens, name, offset=0):
        scaled = super()._embed(tokens, name, offset)
        code = self.position_code[offset : offset + tokens.shape[1]]
        return (scaled - code) / math.sqrt(self.config.d_model) + code


unscaled = Unscaled(make_translator().config)
unscaled.load_state_dict(make_translator().state_dict())
unscaled_history = train_translator(unscaled, brief, steps=300)
print("training loss at step      20    100    200    300     BLEU")
for name, h, reached in (
    ("with the scale", brief_history["LayerNorm"], brief_bleu["LayerNorm"]),
    ("without", unscaled_history, bleu(unscaled, brief_test)),
):
    losses = [sum(h.losses[step - 20 : step]) / 20 for step in (20, 100, 200, 300)]
    print(f"{name:18}" + "".join(f"{loss:7.2f}" for loss in losses) + f"{reached:9.1f}")

# %% [markdown]
# It learns, and slowly: its loss keeps falling, far behind. A trained embedding can grow. Somebody who
# looks at the translations after 300 steps would call it broken and search elsewhere.
#
# **3. A mistake that the library stops.** Padding that is not masked would be looked at like words. Give
# `encode` no lengths although rows are padded, and it refuses:

# %%
try:
    model.encode(ids)
except ValueError as error_message:
    print("ValueError:", error_message)

# %% [markdown]
# ## 6.10 Exercises
#
# Write into the cells in place of `...` and run them. `check` tries your function on small inputs, drawn
# anew each time, and says what is wrong, and which mistake it is, where it knows the mistake. Hints come
# in two steps, then the solution; all are folded. `progress()`, from the same module, lists what you have
# solved.

# %%
from course_lib.exercises import check

# %% [markdown]
# **6.1 Post-norm or pre-norm?** Write a residual connection that does either. `part` and `norm` are
# layers, x is (batch, position, d_model).


# %% tags=["exercise"]
def residual(x, part, norm, norm_first): ...


check("6.1", residual)

# %% [markdown]
# <details><summary>Hint 1</summary>In which of the two does x itself go through without being
# touched?</details>
# <details><summary>Hint 2</summary>In the other one it is the <i>sum</i> that is normalised.</details>
# <details><summary>Solution</summary>
#
# ```python
# def residual(x, part, norm, norm_first):
#     if norm_first:
#         return x + part(norm(x))
#     return norm(x + part(x))
# ```
#
# If the part gives zeros, pre-norm returns x as it was: stacked a hundred times, x still goes straight
# through. Post-norm normalises it a hundred times.
# </details>
#
# **6.2 Both masks.** A batch of targets is padded too. From a list of their lengths and the padded
# length, build the mask (batch, 1, query, key) with which position $i$ sees the real positions up to and
# including $i$.


# %% tags=["exercise"]
def target_mask(lengths, max_length): ...


check("6.2", target_mask)

# %% [markdown]
# <details><summary>Hint 1</summary>A position may be seen if both masks allow it. The library has
# both: <code>padding_mask</code> is here already, <code>causal_mask</code> stands beside it in
# <code>course_lib.attention</code>.</details>
# <details><summary>Hint 2</summary>What does <code>&</code> do with shapes (2, 1, 1, 4) and (4,
# 4)?</details>
# <details><summary>Solution</summary>
#
# ```python
# from course_lib.attention import causal_mask
#
#
# def target_mask(lengths, max_length):
#     return padding_mask(lengths, max_length) & causal_mask(max_length)
# ```
#
# Our decoder does without: padding stands at the end, where no real position looks, and the loss leaves
# it out.
# </details>
#
# **6.3 Count.** How many parameters has an encoder block, biases and both LayerNorms included? Write the
# formula.


# %% tags=["exercise"]
def block_parameters(d_model, d_ff): ...


check("6.3", block_parameters)

# %% [markdown]
# <details><summary>Hint 1</summary>Four square matrices with biases, two rectangular ones with biases, and
# two scales and shifts.</details>
# <details><summary>Hint 2</summary>A bias is as long as the output of its matrix is wide: d_ff once,
# d_model five times.</details>
# <details><summary>Solution</summary>
#
# ```python
# def block_parameters(d_model, d_ff):
#     attention = 4 * (d_model**2 + d_model)
#     feed_forward = 2 * d_model * d_ff + d_ff + d_model
#     return attention + feed_forward + 2 * 2 * d_model
# ```
#
# With the usual $d_{ff} = 4 d_{\text{model}}$ the position-wise network has two thirds of them.
# </details>
#
# **6.4 Find the bug.** This decoding loop gives the right first word, and nonsense after it. Mend it. (The
# check brings small models of its own, with random parameters.)


# %% tags=["exercise"]
def suspicious_decode(model, ids, lengths, steps, bos_id):
    """Greedy decoding without a cache."""
    memory = model.encode(ids, lengths)
    words = torch.full((len(ids), 1), bos_id)
    for _ in range(steps):
        logits = model.decode(words[:, -1:], memory)
        words = torch.cat([words, logits[:, -1].argmax(dim=-1, keepdim=True)], dim=1)
    return words


check("6.4", suspicious_decode)

# %% [markdown]
# <details><summary>Hint 1</summary>What does the model know of the words that it has written?</details>
# <details><summary>Hint 2</summary>Which position has each new word, as the model sees it?</details>
# <details><summary>Solution</summary>
#
# ```python
# def suspicious_decode(model, ids, lengths, steps, bos_id):
#     memory = model.encode(ids, lengths)
#     words = torch.full((len(ids), 1), bos_id)
#     for _ in range(steps):
#         logits = model.decode(words, memory)
#         words = torch.cat([words, logits[:, -1].argmax(dim=-1, keepdim=True)], dim=1)
#     return words
# ```
#
# It fed the last word alone, as one does with a cache, but without the cache. So each word stood at
# position 0 and remembered nothing.
# </details>
#
# **6.5 LayerNorm, from memory.** Without looking at section 6.2: normalise x (batch, position, d_model),
# then apply the scale `gamma` and the shift `beta`, both (d_model).


# %% tags=["exercise"]
def my_layer_norm(x, gamma, beta, eps=1e-5): ...


check("6.5", my_layer_norm)

# %% [markdown]
# <details><summary>Hint 1</summary>Mean and variance of what? Of each position by itself, so
# <code>keepdim=True</code> keeps the axes that they are subtracted from.</details>
# <details><summary>Hint 2</summary>Two details: by which number does the variance divide, and on which
# side of the root does eps stand?</details>
# <details><summary>Solution</summary>
#
# ```python
# def my_layer_norm(x, gamma, beta, eps=1e-5):
#     mean = x.mean(dim=-1, keepdim=True)
#     variance = x.var(dim=-1, keepdim=True, correction=0)
#     return gamma * (x - mean) / (variance + eps).sqrt() + beta
# ```
#
# `var` and `std` divide by $d - 1$ unless they are told `correction=0`. At a width of 512 hardly anybody
# would notice; a comparison with copied parameters does.
# </details>
#
# **6.6 The loss of the next word.** A batch of targets (sentence, position) begins with `<bos>` and is
# filled up with `pad_id`. The model was fed all of it, and `logits[:, i]` (sentence, position, word)
# score the word after position i. Return the mean cross-entropy of all real words that are to be
# predicted.


# %% tags=["exercise"]
def next_word_loss(logits, target, pad_id): ...


check("6.6", next_word_loss)

# %% [markdown]
# <details><summary>Hint 1</summary>Nothing predicts the first word, and nothing grades the last logits.
# Which of the two tensors loses its beginning, and which its end?</details>
# <details><summary>Hint 2</summary><code>F.cross_entropy</code> wants (word, class) and (word), and has
# an argument for a class to leave out.</details>
# <details><summary>Solution</summary>
#
# ```python
# def next_word_loss(logits, target, pad_id):
#     predicted, right = logits[:, :-1], target[:, 1:]
#     return F.cross_entropy(predicted.flatten(0, 1), right.flatten(), ignore_index=pad_id)
# ```
#
# Without the shift the model is graded on repeating its input, and soon does so without a fault. With
# padding in the loss it is praised for predicting `<pad>`. Both give a curve that looks better than the
# right one.
# </details>
#
# **6.7 Open end: where does post-norm begin to fail?** Call `train_adder(norm_first=False, warmup=0, ...)`
# with other numbers of blocks (`num_blocks`) and other rates (`learning_rate`). Make a small table of right
# shares. What would you tell somebody who says that post-norm *always* needs warm-up?
#
# **6.8 Open end: a quarter of the parameters.** Train an `Adder` with at most a quarter of the parameters
# of section 6.8's, in the same 400 steps, so that at least 95% of new sums are right, and return it.
# Which of its parts does the task need?


# %% tags=["exercise"]
def smaller_adder(): ...


check(
    "6.8",
    smaller_adder,
    digits=digits,
    parameters=sum(parameter.numel() for parameter in Adder().parameters()) // 4,
)

# %% [markdown]
# <details><summary>Hint 1</summary>Count the parameters of one block, of the embedding and of the output.
# How many blocks can you afford?</details>
# <details><summary>Hint 2</summary>Copy the training out of <code>train_adder</code>, and give
# <code>Adder</code> other sizes. The width must be a multiple of four, for four heads.</details>
# <details><summary>Solution</summary>
#
# ```python
# def smaller_adder():
#     torch.manual_seed(0)
#     model = Adder(num_blocks=1, d_model=28)
#
#     def schedule(step):  # that of train_adder, with its warm-up
#         return 5e-3 * min(1.0, step / 200) * min(1.0, (401 - step) / 200)
#
#     fit(model, batches, adder_loss, steps=400, schedule=schedule, progress=False)
#     return model
# ```
#
# One look at the mirrored place, and one network that adds: a single block can do both, and a little
# narrower than before. The three others were there for the experiments, since warm-up and residuals
# matter with depth.
# </details>
#
# **6.9 Open end: attention instead of networks.** Train without the position-wise networks
# (`change=without_feed_forward`), and make the model wider (`d_model`, a multiple of 4) until it has as
# many parameters as with them. How far does it get? And why would more heads not do?
#
# ## 6.11 What we showed
#
# - Training a Transformer is parallel over positions; length costs the recurrent model more (C26).
# - One mechanism in three uses, told apart by who asks and by the mask (C24); in cross-attention the
#   decoder asks, and the encoder's states are keys and values (C25).
# - Post-norm needed the warm-up where pre-norm did without, at this depth and rate (C20).
# - LayerNorm normalises each position by itself. BatchNorm mixes sentences, padding and even the future;
#   that it does worse on text, as the literature finds, did not show at our size (C21).
# - Without residual connections what was at a position is lost, and training stalls (C22).
# - Without the position-wise networks far fewer sums were right, in a model that was then also smaller
#   (C23).
# - What we had not expected: after as many steps chapter 2's recurrent translator was better, most of all
#   on long sentences. The book's page of results has both on real sentences, with equal time.
#
# **What the papers say.** [Vaswani et al. (2017)](https://arxiv.org/abs/1706.03762) describe the model in
# section 3, tie the embeddings in 3.4, and give the schedule in 5.3. [Xiong et al.
# (2020)](https://arxiv.org/abs/2002.04745) explain the warm-up. [Dong et al.
# (2021)](https://arxiv.org/abs/2103.03404) prove that attention without residuals and networks makes all
# positions alike, doubly exponentially fast with depth. [Shen et al.
# (2020)](https://arxiv.org/abs/2003.07845) measure why BatchNorm does badly on text: its batches vary too
# much.
#
# **What comes next.** Take the encoder's stack, give it the causal mask, and let it write: that is GPT, and
# chapter 7.
