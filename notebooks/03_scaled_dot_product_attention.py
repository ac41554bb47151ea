# %% [markdown]
# # 3 · Scaled dot-product attention
#
# **The question.** Chapter 2 let a decoder look back with a small network, which needs a hidden layer for
# each pair of states. Can a plain dot product do the same? And why divide it by $\sqrt{d_k}$, the root of
# the vectors' width?
#
# **You will be able to**
# - write attention in four lines, and say what each axis of each tensor counts;
# - explain with a measurement what the root of $d_k$ is for;
# - mask padding and the future, and test that nothing leaks;
# - recognise attention in three notations, and as a layer of 1×1 convolutions;
# - solve a task with one attention layer, and measure how far convolutions alone stay behind.
#
# **You should know** chapter 2 (queries, keys, values, softmax weights) and a little PyTorch.
#
# **Time.** The chapter runs in less than 90 seconds on a laptop's CPU, without a network.

# %%
import math

import matplotlib.pyplot as plt
import torch
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from course_lib.attention import causal_mask, masked_softmax, padding_mask, scaled_dot_product_attention
from course_lib.widgets import attention_bench, attention_map, compare

torch.manual_seed(3)
torch.set_printoptions(precision=3, sci_mode=False)
torch.set_num_threads(1)  # these tensors are small: more threads would mostly wait for one another

# %% [markdown]
# ## 3.1 A task that needs a long look
#
# Here is a signal with four bumps: two triangles and two rectangles, in any order, each with its own
# height, drawn evenly between 0.2 and 1. The task: give every bump the **mean height of its kind**. Both
# triangles must come out equally high, and both rectangles. (The task is François Fleuret's, from the
# lecture on attention in his [deep learning course](https://fleuret.org/dlc/).)
#
# What makes it hard: a bump's partner may be anywhere. To know how high this triangle should become, you
# must find the other one.

# %%
LENGTH, WIDTH = 100, 9


def make_signals(count, generator):
    """Return inputs and targets (signal, 1, position), and the bumps' centres, kinds and target heights."""
    # Two triangles (0) and two rectangles (1) in any order.
    kind = torch.rand(count, 4, generator=generator).argsort(dim=1) % 2
    height = 0.2 + 0.8 * torch.rand(count, 4, generator=generator)
    quarter = LENGTH // 4  # each bump stays in its own quarter, so that no two overlap
    offset = (torch.rand(count, 4, generator=generator) * (quarter - WIDTH)).long()
    centre = offset + quarter * torch.arange(4) + WIDTH // 2

    mean_of_kind = torch.stack([(height * (kind == k)).sum(dim=1) / 2 for k in (0, 1)], dim=1)
    target_height = mean_of_kind.gather(1, kind)

    distance = (torch.arange(LENGTH) - centre[:, :, None]).abs()  # signal, bump, position
    triangle = (1 - distance / (WIDTH // 2 + 1)).clamp(min=0)
    rectangle = (distance <= WIDTH // 2).float()
    bump = torch.where(kind[:, :, None] == 0, triangle, rectangle)
    inputs = (bump * height[:, :, None]).sum(dim=1, keepdim=True)
    targets = (bump * target_height[:, :, None]).sum(dim=1, keepdim=True)
    return inputs, targets, centre, kind, target_height


test_inputs, test_targets, test_centre, test_kind, test_height = make_signals(
    1000, torch.Generator().manual_seed(0)
)


# The two signals in which most is to be changed.
examples = (test_inputs - test_targets).abs().sum(dim=(1, 2)).topk(2).indices


def plot_signal(ax, index, output=None):
    ax.fill_between(range(LENGTH), test_inputs[index, 0], color="0.85", label="input")
    ax.plot(test_targets[index, 0], color="black", linestyle="--", label="target")
    if output is not None:
        ax.plot(output[index, 0], color="tab:red", label="output")
    ax.set(xlabel="position", ylabel="height", ylim=(-0.1, 1.5))
    ax.legend(loc="upper right", ncols=3, fontsize="small")
    return ax


figure, axes = plt.subplots(1, 2, figsize=(9, 2), layout="constrained")
for index, ax in zip(examples, axes, strict=True):
    plot_signal(ax, index)

# %% [markdown]
# *What to look at: grey is what the model gets, the dashed line is what it must give. Within a kind the
# dashed bumps are equally high.*
#
# We measure one number: how far the output is from the right height at the centre of a bump, on average.
# Two yardsticks: a model that copies its input, and one that sees a bump and not its partner. The best that
# the second can do is to take the partner for an average one, of height 0.6.


# %%
def height_error(output):
    """Mean distance between output and right height at the centres of the bumps."""
    return (output[:, 0].gather(1, test_centre) - test_height).abs().mean().item()


copying = height_error(test_inputs)
own_height = test_inputs[:, 0].gather(1, test_centre)
blind = ((own_height + 0.6) / 2 - test_height).abs().mean().item()
print(f"copying the input:               error {copying:.3f}")
print(f"not seeing the partner at all:   error {blind:.3f}")

# %% [markdown]
# Now the usual tool for signals, a stack of convolutions. Each layer sees 5 neighbouring positions, so six
# of them see $6 \cdot 4 + 1 = 25$ of the 100. **Predict:** which of the two yardsticks will it come close
# to?


# %%
def conv(in_channels, out_channels, dilation=1):
    return nn.Conv1d(in_channels, out_channels, kernel_size=5, padding=2 * dilation, dilation=dilation)


def train(model, steps=1200, learning_rate=6e-3):
    generator = torch.Generator().manual_seed(1)  # the same signals for every model
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate)
    # The learning rate rises for a while, then falls to next to nothing.
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=steps)
    for _ in range(steps):
        inputs, targets, *_ = make_signals(64, generator)
        loss = F.mse_loss(model(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        return model(test_inputs)


channels = 32


def stack_around(middle):
    """Three convolutions, a layer in the middle, two convolutions."""
    return nn.Sequential(
        conv(1, channels), nn.ReLU(),
        conv(channels, channels), nn.ReLU(),
        conv(channels, channels), nn.ReLU(),
        middle, nn.ReLU(),
        conv(channels, channels), nn.ReLU(),
        conv(channels, 1),
    )  # fmt: skip


convolutions = stack_around(middle=conv(channels, channels))
convolutions_output = train(convolutions)
convolutions_error = height_error(convolutions_output)
print(f"copying                  error {copying:.3f}")
print(f"not seeing the partner   error {blind:.3f}")
print(f"convolutions             error {convolutions_error:.3f}")

# %%
figure, axes = plt.subplots(1, 2, figsize=(9, 2), layout="constrained")
for index, ax in zip(examples, axes, strict=True):
    plot_signal(ax, index, convolutions_output)

# %% [markdown]
# *What to look at: the red bumps have the right shape and the right place, but not the right height.*
#
# The convolutions know what a triangle is. But they do no better than anybody who cannot see the partner.
# We need a layer with which a position can ask the whole signal a question.
#
# ## 3.2 Build: a score that is only a dot product
#
# In chapter 2 one vector $h_j$ was key and value at once. Give each its own (section 3.6 says where they
# come from):
# - a **query** $q_i$, what position $i$ asks for, of width $d_k$,
# - a **key** $k_j$, what position $j$ offers itself under, of width $d_k$ too,
# - a **value** $v_j$, what position $j$ hands over when asked, of width $d_v$.
#
# Bahdanau's score is a network with parameters of its own. The simplest score of two vectors, called "dot"
# by [Luong et al. (2015)](https://arxiv.org/abs/1508.04025), has none:
#
# $$ e_{ij} = q_i \cdot k_j = \sum_{c=1}^{d_k} q_{ic}\, k_{jc} $$
#
# It is large when the two point the same way, zero when they are at right angles, negative when the angle
# is wider still, and it grows with their lengths. Take numbers that you can check by hand: two queries,
# three keys, $d_k = 2$. There need not be as many queries as keys.

# %%
query = torch.tensor([[1.0, 0.0], [1.0, 1.0]])  # 2 queries, d_k = 2
key = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])  # 3 keys, d_k = 2
value = torch.tensor([[10.0, 0.0, 0.0], [0.0, 10.0, 0.0], [0.0, 0.0, 10.0]])  # 3 values, d_v = 3

scores = torch.zeros(2, 3)
for i in range(2):
    for j in range(3):
        scores[i, j] = (query[i] * key[j]).sum()
scores

# %% [markdown]
# Check one: the second query and the first key give $1 \cdot 1 + 1 \cdot 0 = 1$. Then check the last
# column: its key points to the left, both queries to the right.
#
# The double loop is a matrix product. With the queries as the rows of $Q$ and the keys as the rows of $K$
# it is $E = Q K^\top$. A softmax over each **row** turns one query's scores into weights, and the output is
# the mean of the values under those weights. Together with the division that section 3.4 is about:
#
# $$ \mathrm{Attention}(Q, K, V) = \mathrm{softmax}\!\left(\frac{Q K^\top}{\sqrt{d_k}}\right) V $$
#
# That is equation 1 of [*Attention is all you need*](https://arxiv.org/abs/1706.03762) (Vaswani et al.
# 2017). In code:


# %%
def my_attention(query, key, value, mask=None):
    scores = query @ key.transpose(-2, -1)  # (..., query, d_k) @ (..., d_k, key) -> (..., query, key)
    scores = scores / math.sqrt(query.shape[-1])
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf)
    weights = scores.softmax(dim=-1)  # over the keys
    return weights @ value, weights  # (..., query, key) @ (..., key, d_v) -> (..., query, d_v)


output, weights = my_attention(query, key, value)
print("weights\n", weights, "\nsum over keys", weights.sum(dim=-1), "\noutput\n", output)

# %% [markdown]
# Do the first row by hand: its scores are $(1, 0, -1)$, divided by $\sqrt 2$ they are $(0.707, 0, -0.707)$,
# and $e$ to those is $(2.028, 1, 0.493)$. Divide by their sum and compare with the first row of the
# weights.
#
# The values were chosen so that you can read the weights in the output: value $j$ is 10 in column $j$ and 0
# elsewhere.
#
# Now take the machine apart. The view below does the whole computation in the page, from the same numbers,
# in five stages. Every number of $Q$, $K$ and $V$ can be edited; click any other number and its arithmetic
# is written out. (The stage called Masked passes everything on until you switch the mask on; section 3.3 is
# about it.) **Try this, and predict each time:** Double the first query: do its weights get more even, or
# less? Make the third key equal to the first: what becomes of their weights? Switch the division off: does
# the largest weight grow? (*Temperature* is one more number to divide the scores by. Leave it at 1.)

# %%
attention_bench(query, key, value, queries=["query 1", "query 2"], keys=["key 1", "key 2", "key 3"])

# %% [markdown]
# ### Which size must agree with which?
#
# Queries, keys and values have two sizes each: how many, and how wide. Before you run the next cell, decide
# for each of the six whether you may choose it freely.

# %% tags=["claim-C12", "nbval-check-output"]
num_queries, num_keys, d_k, d_v = 5, 7, 3, 11
output, weights = my_attention(
    torch.randn(num_queries, d_k), torch.randn(num_keys, d_k), torch.randn(num_keys, d_v)
)
print("weights (query, key):", tuple(weights.shape))
print("output  (query, d_v):", tuple(output.shape))
assert weights.shape == (num_queries, num_keys) and output.shape == (num_queries, d_v)

wrong = {
    "keys of another width": (torch.randn(5, 3), torch.randn(7, 4), torch.randn(7, 11)),
    "fewer values than keys": (torch.randn(5, 3), torch.randn(7, 3), torch.randn(6, 11)),
}
for name, tensors in wrong.items():
    refused = False
    try:
        scaled_dot_product_attention(*tensors)
    except ValueError as error:
        refused = True
        print(f"\n{name}:\n  {error}")
    assert refused

# %% [markdown]
# Two rules, then. Queries and keys share their **width**, since they are multiplied. Keys and values share
# their **number**, since each value has one weight. Everything else is free: as many queries as you like,
# values as wide as you like. The output has a row for each query, as wide as a value.
#
# ### Three notations, one thing
#
# You will meet attention written with `bmm`, with `@`, and with `einsum`. Real tensors have more axes than
# two: a batch of sentences, and soon several *heads*, attentions side by side (chapter 4). Are the three
# the same, values and gradients? And are they when all heads share one set of keys and values, whose head
# axis has size 1 and is stretched, or **broadcast**?

# %% tags=["claim-C09"]
batch, heads, num_queries, num_keys, d_k, d_v = 2, 3, 5, 7, 11, 13


def with_bmm(q, k, v):  # bmm knows one batch axis, and stretches nothing: expand, then fold the first two
    q, k, v = (tensor.expand(-1, heads, -1, -1).flatten(0, 1) for tensor in (q, k, v))  # (batch*head, ...)
    weights = torch.bmm(q, k.transpose(1, 2)).softmax(dim=-1)  # (batch*head, query, key)
    return torch.bmm(weights, v).unflatten(0, (batch, heads))  # (batch, head, query, d_v)


def with_matmul(q, k, v):  # @ multiplies the last two axes, carries the others along and stretches them
    return (q @ k.transpose(-2, -1)).softmax(dim=-1) @ v  # (batch, head, query, d_v)


def with_einsum(q, k, v):  # one letter an axis; an axis that is missing after the arrow is summed over
    weights = torch.einsum("bhqd,bhkd->bhqk", q, k).softmax(dim=-1)
    return torch.einsum("bhqk,bhkv->bhqv", weights, v)  # (batch, head, query, d_v)


for key_heads in (heads, 1):
    tensors = [
        torch.randn(batch, number_of_heads, positions, width, dtype=torch.float64, requires_grad=True)
        for number_of_heads, positions, width in (
            (heads, num_queries, d_k),
            (key_heads, num_keys, d_k),
            (key_heads, num_keys, d_v),
        )
    ]
    found = {}
    for function in (with_bmm, with_matmul, with_einsum):
        output = function(*tensors)
        found[function] = output, *torch.autograd.grad(output.square().sum(), tensors)
    for function in (with_bmm, with_einsum):
        for mine, theirs in zip(found[function], found[with_matmul], strict=True):
            assert_close(mine, theirs)
    print(f"{heads} heads of queries, {key_heads} of keys and values: all three agree, output and gradients")

# %% [markdown]
# `einsum` names the axes, which is worth a lot when you read it a month later. `@` is shortest, and the
# library uses it. `bmm` is what older code has, and the one that needs the most care.
#
# ## 3.3 Masks: who may look at whom
#
# A **mask** is a table of booleans with a row for each query and a column for each key. In this course, as
# in `torch.nn.functional.scaled_dot_product_attention`, **True means may attend**.
# (`torch.nn.MultiheadAttention` has it the other way round.)
#
# Two masks do most of the work. The **causal** mask lets position $i$ see positions $j \le i$. The
# **padding** mask hides the filler words after the end of a short sentence.

# %% tags=["nbval-check-output"]
print("causal_mask(4)\n", causal_mask(4).int())
print("padding_mask([4, 2]) has the shape", tuple(padding_mask([4, 2]).shape))
print(padding_mask([4, 2])[:, 0].int())

# %% [markdown]
# The padding mask has the axes (batch, head, query, key). Head and query have size 1: the same row holds
# for all of them. `[:, 0]` takes the head axis away, since so far we have no heads.
#
# A mask works on the scores: a forbidden score becomes $-\infty$, and since $e^{-\infty} = 0$ its weight is
# zero and the rest still sums to one.
#
# **Is a batch the same as each sentence by itself?** Sentences of different lengths are padded to one
# length. We fill the padding with large nonsense, so that any leak would show.

# %% tags=["claim-C15"]
lengths = [7, 4]
x = torch.randn(2, 7, 5, dtype=torch.float64)  # (batch, position, width)
x[1, 4:] = 1e3  # nonsense behind the second sentence

together, _ = scaled_dot_product_attention(x, x, x, padding_mask(lengths))
for sentence, length in enumerate(lengths):
    alone, _ = scaled_dot_product_attention(*[x[sentence : sentence + 1, :length]] * 3)
    assert_close(together[sentence : sentence + 1, :length], alone)
unmasked, _ = scaled_dot_product_attention(x, x, x)
leak = (unmasked - together)[1, :4].abs().max().item()
assert leak > 1  # without the mask the nonsense does get in, so the test above could have failed
print(f"with the mask each sentence gives what it gives alone; without it outputs move by up to {leak:.0f}")

# A causal mask: change the last word, and look at which outputs change.
x = torch.randn(1, 7, 5, dtype=torch.float64)
changed = x.clone()
changed[:, 6] += 1.0
for name, mask in (("causal mask", causal_mask(7)), ("no mask", None)):
    before, _ = scaled_dot_product_attention(x, x, x, mask)
    after, _ = scaled_dot_product_attention(changed, changed, changed, mask)
    moved = (after - before).abs().amax(dim=(0, 2))
    print(f"{name:11}: how far the output moves at each position", moved)
    assert moved[6] > 0
    assert (moved[:6] == 0).all() if mask is not None else (moved[:6] > 0).all()

# %% [markdown]
# Read the last two lines. With the mask the six earlier outputs did not move at all, and the last one did.
# That last number matters as much as the zeros: a mask that hides *everything* would pass a test which only
# looks for leaks. Without the mask all outputs move, so the test can fail.
#
# ### A query with nothing to look at
#
# What if a row of the mask is False everywhere, as in a sentence of length 0? All scores are $-\infty$, and
# softmax divides zero by zero:

# %%
q, k, v = torch.randn(1, 3), torch.randn(4, 3), torch.randn(4, 2)
nobody = torch.zeros(1, 4, dtype=torch.bool)
print("written naively:", my_attention(q, k, v, nobody)[0])
print("in the library: ", scaled_dot_product_attention(q, k, v, nobody)[0])
assert my_attention(q, k, v, nobody)[0].isnan().all()
assert (scaled_dot_product_attention(q, k, v, nobody)[0] == 0).all()

# %% [markdown]
# One such NaN reaches the loss, and from there nearly every parameter of the model. The library's
# `masked_softmax` gives zeros instead. Here it is without its docstring (the strings are shapes, which the
# tests check; the two names with an underscore in front refuse tensors that do not fit):

# %%
import inspect

source = inspect.getsource(masked_softmax)
print(source[: source.index('    """')] + source[source.rindex('"""') + 4 :])

# %% [markdown]
# Two fills instead of one. The first uses the lowest *finite* number, so nothing divides zero by zero. The
# second sets forbidden weights to zero, which matters only in a row where everything is forbidden.
#
# ### Prove it
#
# Our function, the library's and PyTorch's own must agree, values and gradients, with a mask. The mask is
# that of five queries which are the last of seven positions.

# %%
mask = causal_mask(5, 7)
tensors = [
    torch.randn(2, 3, positions, width, dtype=torch.float64, requires_grad=True)
    for positions, width in ((5, 11), (7, 11), (7, 13))
]


def output_and_gradients(function):
    output = function(*tensors, mask)
    output = output[0] if isinstance(output, tuple) else output
    return output, *torch.autograd.grad(output.square().sum(), tensors)


mine = output_and_gradients(my_attention)
for theirs in (
    output_and_gradients(scaled_dot_product_attention),
    output_and_gradients(F.scaled_dot_product_attention),
):
    for a, b in zip(mine, theirs, strict=True):
        assert_close(a, b)
print("my_attention, course_lib and torch agree: output and the gradients of query, key and value")

# %% [markdown]
# ## 3.4 Why divide by the root of $d_k$?
#
# Let all entries of a query and of a key be random and independent, with mean 0 and variance 1. Then each
# product $q_c k_c$ has mean 0 and variance 1 too, their dot product is a sum of $d_k$ of them, and
# variances of independent terms add up (footnote 4 of Vaswani et al.):
#
# $$ \operatorname{Var}(q \cdot k) = d_k, \qquad
#    \operatorname{Var}\!\left(\frac{q \cdot k}{\sqrt{d_k}}\right) = \frac{d_k}{d_k} = 1. $$
#
# **Predict** two things before you run the cell. With $d_k = 512$, how large is a typical score without the
# division? And what does a softmax make of scores that large?
#
# The last columns measure how much the weights of a query move when its scores move. Put all those
# derivatives into a table, the Jacobian; its norm is the **slope** of the softmax there. A query whose
# slope is below 0.001 counts as *flat*.

# %% tags=["claim-C08"]
widths = [2, 8, 32, 128, 512, 2048]
generator = torch.Generator().manual_seed(0)
found = {"plain": [], "scaled": []}
for d_k in widths:
    q = torch.randn(400, 16, d_k, generator=generator)
    k = torch.randn(400, 16, d_k, generator=generator)
    plain = q @ k.transpose(-2, -1)  # (trial, query, key): 400 trials of 16 queries and 16 keys
    for name, scores in (("plain", plain), ("scaled", plain / math.sqrt(d_k))):
        weights = scores.softmax(dim=-1)
        # How each weight moves with each score: d weights_j / d scores_l = weights_j (1[j = l] - weights_l).
        outer = weights[..., :, None] * weights[..., None, :]  # (trial, query, key, key)
        jacobian = torch.diag_embed(weights) - outer  # (trial, query, key, key)
        slope = jacobian.norm(dim=(-2, -1))  # (trial, query)
        found[name].append(
            {
                "variance": scores.var().item(),
                "largest": weights.amax(dim=-1).mean().item(),
                "slope": slope.median().item(),
                "flat": (slope < 1e-3).float().mean().item(),
            }
        )

print("         typical score        variance      largest weight    slope (median)   flat queries")
print("  d_k    plain  scaled     plain  scaled    plain  scaled     plain   scaled   plain  scaled")
for d_k, plain, scaled in zip(widths, found["plain"], found["scaled"], strict=True):
    print(
        f"{d_k:5}{plain['variance'] ** 0.5:9.1f}{scaled['variance'] ** 0.5:8.1f}"
        f"{plain['variance']:10.1f}{scaled['variance']:8.2f}{plain['largest']:9.2f}{scaled['largest']:8.2f}"
        f"{plain['slope']:10.0e}{scaled['slope']:9.0e}{plain['flat']:8.0%}{scaled['flat']:8.0%}"
    )
    assert 0.9 < plain["variance"] / d_k < 1.1, "without scaling the variance is d_k"
    assert 0.9 < scaled["variance"] < 1.1, "with scaling it is one"

assert found["plain"][-1]["largest"] > 0.95 > 0.5 > found["scaled"][-1]["largest"], "softmax saturates"
assert found["plain"][-1]["slope"] < 1e-3 < 1e-1 < found["scaled"][-1]["slope"], "its slopes vanish"

# %%
figure, axes = plt.subplots(1, 3, figsize=(9, 2.6), layout="constrained")
titles = {
    "variance": "variance of the scores",
    "largest": "largest weight of a query",
    "slope": "slope of softmax",
}
for ax, (column, title) in zip(axes, titles.items(), strict=True):
    for name, style in (("plain", "o--"), ("scaled", "s-")):
        ax.plot(widths, [row[column] for row in found[name]], style, label=name)
    ax.set(xscale="log", yscale="linear" if column == "largest" else "log", xlabel="width $d_k$", title=title)
axes[1].axhline(1 / 16, color="0.6", linewidth=1)
axes[0].legend()
None

# %% [markdown]
# *What to look at: on the left the plain variance climbs with $d_k$ and the scaled one stays at 1. In the
# middle the plain weights close in on 1: the query looks at a single key. On the right the slope of its
# softmax falls away. (The thin grey line is $1/16$, what an even look at 16 keys would give.)*
#
# When one weight is all but 1 and the others all but 0, a small change of the scores changes nothing. In
# the widest rows of the table the winner is that far ahead for most queries, and their scores get next to
# no gradient; what there is goes to the near-ties. (This slows down the *queries* and the *keys*, whose
# gradient passes through the softmax. That of the values does not.) Dividing by $\sqrt{d_k}$ makes the
# start the same for every width.
#
# Be exact about what this shows. It holds for independent entries of variance 1. A fresh layer of PyTorch
# starts with smaller ones, as section 3.7 will show, and training may change all of it.
#
# ## 3.5 See: how to read a map
#
# Two maps to learn to read: six positions with random vectors, from which one random matrix makes the
# queries and another the keys. Rows are queries, columns are keys. **Before you run it:** what must the
# first row of the causal map be?


# %%
x = torch.randn(6, 64)
query_matrix, key_matrix = torch.randn(2, 64, 64) / math.sqrt(64)
q, k = x @ query_matrix, x @ key_matrix  # (position, d_k)
names = [f"position {i}" for i in range(6)]

_, causal_weights = scaled_dot_product_attention(q, k, x, causal_mask(6))
attention_map(causal_weights, names, names, mask=causal_mask(6), title="A causal mask")

# %%
four_keys = padding_mask([4], 6)[0, 0]  # (1, key)
_, padded_weights = scaled_dot_product_attention(q, k, x, four_keys)
attention_map(
    padded_weights, names, names, mask=four_keys.expand(6, 6), title="Four real keys, two of padding"
)

# %% [markdown]
# *What to look at: every row sums to one. The causal map is empty above its diagonal, and its first row has
# no choice but to look at itself. In the second map two columns are empty, and their weight has gone to the
# four real keys. Point at a cell, or walk with the arrow keys, to read its weight.*
#
# Nothing makes the diagonal bright. A position need not look at itself: with two different matrices it can
# ask for something that it is not.
#
# ## 3.6 Use: solve the task of the beginning
#
# Where do queries, keys and values come from? A layer has three matrices, which make them out of a
# position's channels $x_i$, each with a bias as `nn.Linear` has it:
#
# $$ q_i = W^Q x_i + b^Q, \qquad k_i = W^K x_i + b^K, \qquad v_i = W^V x_i + b^V $$
#
# Signals are usually stored as (signal, channel, position), and there a linear map of the channels at every
# position has a name: a **convolution with a kernel of size 1**.


# %%
class AttentionLayer(nn.Module):
    """Attention over the positions of a signal (signal, channel, position), built from 1x1 convolutions."""

    def __init__(self, channels):
        super().__init__()
        self.query = nn.Conv1d(channels, channels, kernel_size=1)
        self.key = nn.Conv1d(channels, channels, kernel_size=1)
        self.value = nn.Conv1d(channels, channels, kernel_size=1)

    def forward(self, x):
        query, key, value = self.query(x), self.key(x), self.value(x)  # each (signal, channel, position)
        scores = torch.einsum("ncq,nck->nqk", query, key)  # n signal, c channel, q and k positions
        scores = scores / math.sqrt(query.shape[1])
        self.weights = scores.softmax(dim=-1)  # (signal, query, key)
        return torch.einsum("nqk,nck->ncq", self.weights, value)


# %% [markdown]
# **Is that really the same attention?** Put its parameters into three `nn.Linear` and compare.

# %%
layer = AttentionLayer(7).double()
linear = {}
for name in ("query", "key", "value"):
    convolution = getattr(layer, name)
    linear[name] = nn.Linear(7, 7).double()
    linear[name].load_state_dict({"weight": convolution.weight[:, :, 0], "bias": convolution.bias})

signal = torch.randn(2, 7, 13, dtype=torch.float64, requires_grad=True)  # (signal, channel, position)
by_convolution = layer(signal)
rows = signal.transpose(1, 2)  # (signal, position, channel)
by_linear, _ = scaled_dot_product_attention(linear["query"](rows), linear["key"](rows), linear["value"](rows))
assert_close(by_convolution, by_linear.transpose(1, 2))
assert_close(
    torch.autograd.grad(by_convolution.square().sum(), signal),
    torch.autograd.grad(by_linear.square().sum(), signal),
)

print("1x1 convolutions and nn.Linear give the same output and the same gradient")

# %% [markdown]
# Now exchange one of the six convolutions for it. **Predict:** how far below the convolutions does the
# error fall?

# %%
attentive = stack_around(middle=AttentionLayer(channels))
attentive_output = train(attentive)
attentive_error = height_error(attentive_output)


def size(model):
    return sum(parameter.numel() for parameter in model.parameters())


print(f"not seeing the partner  error {blind:.3f}")
print(f"convolutions alone      error {convolutions_error:.3f}   {size(convolutions):6,} parameters")
print(f"one layer attends       error {attentive_error:.3f}   {size(attentive):6,} parameters")

# %%
figure, axes = plt.subplots(1, 2, figsize=(9, 2), layout="constrained")
for index, ax in zip(examples, axes, strict=True):
    plot_signal(ax, index, attentive_output)

# %% [markdown]
# *What to look at: the same two signals as before. Now the red bumps come close to the dashed line.*
#
# With one layer exchanged, and with fewer parameters, the heights are all but right. But is the comparison
# fair? The convolutions saw only 25 positions. Let us give them **dilated** kernels, which skip positions,
# so that the output sees the whole signal from wherever it stands. **Predict:** does that close the gap?

# %% tags=["claim-C11"]
dilated = nn.Sequential(
    conv(1, channels), nn.ReLU(),
    conv(channels, channels, dilation=2), nn.ReLU(),
    conv(channels, channels, dilation=4), nn.ReLU(),
    conv(channels, channels, dilation=8), nn.ReLU(),
    conv(channels, channels, dilation=16), nn.ReLU(),
    conv(channels, 1, dilation=16),
)  # fmt: skip
reach = 4 * (1 + 2 + 4 + 8 + 16 + 16) // 2
dilated_error = height_error(train(dilated))
print(f"convolutions that see 12 positions to each side  error {convolutions_error:.3f}")
print(f"convolutions that see {reach} positions to each side  error {dilated_error:.3f}")
print(f"attention                                        error {attentive_error:.3f}")
assert reach > (test_centre.max() - test_centre.min()), "far enough from any bump to any other"
assert convolutions_error > 0.9 * blind, "a short reach does no better than not seeing the partner"
assert attentive_error < dilated_error < convolutions_error
assert attentive_error < 0.3 * blind and size(attentive) < size(convolutions)

# %% [markdown]
# Reach explains much of the difference, but not all. Why? One idea: the parameters of a convolution belong
# to distances, and a partner may stand at any distance. A query asks for contents, wherever they are. Let
# us look at what the queries really ask.
#
# ### Grade the attention
#
# We know the truth here: which positions belong to which bump. So we need not guess what the layer looks
# at. Take the queries inside each bump, and ask how much of their weight falls on the bump itself, on its
# partner, on the two of the other kind, and on the flat ground. **Predict** the four shares.

# %%
with torch.no_grad():
    attentive(test_inputs)
weights = attentive[6].weights  # (signal, query, key)
distance = (torch.arange(LENGTH) - test_centre[:, :, None]).abs()  # (signal, bump, position)
inside = (distance <= WIDTH // 2).float()
# Mean weight that a position of bump a gives to all of bump b.
between = torch.einsum("naq,nqk,nbk->nab", inside, weights, inside) / WIDTH
same_kind = test_kind[:, :, None] == test_kind[:, None, :]
itself = torch.eye(4, dtype=torch.bool)
shares = {
    "the bump itself": (between * itself).sum(dim=-1).mean().item(),
    "its partner": (between * (same_kind & ~itself)).sum(dim=-1).mean().item(),
    "the two others": (between * ~same_kind).sum(dim=-1).mean().item(),
}
shares["flat ground"] = 1 - sum(shares.values())
even = {
    "the bump itself": WIDTH,
    "its partner": WIDTH,
    "the two others": 2 * WIDTH,
    "flat ground": LENGTH - 4 * WIDTH,
}
print("share of the weight         measured   an even look")
for name, share in shares.items():
    print(f"{name:26}{share:10.2f}{even[name] / LENGTH:15.2f}")
on_same = shares["the bump itself"] + shares["its partner"]
assert shares["flat ground"] < 0.5 * even["flat ground"] / LENGTH, "it looks at bumps"
assert shares["the two others"] > 0.5 * on_same, "and at those of the other kind as well"

# Every second position of one signal: "t" stands on a triangle, "r" on a rectangle, a number on the ground.
labels = [str(position) for position in range(LENGTH)]
for centre, kind in zip(test_centre[0].tolist(), test_kind[0].tolist(), strict=True):
    for position in range(centre - WIDTH // 2, centre + WIDTH // 2 + 1):
        labels[position] = f"{'tr'[kind]} {position}"
seen = weights[0, ::2, ::2]  # (query, key)
attention_map(
    seen / seen.sum(dim=-1, keepdim=True),
    labels[::2],
    labels[::2],
    title="Where one signal looks (every 2nd position)",
)

# %% [markdown]
# *What to look at: the rows of the bumps, named t and r. Their strongest cells stand in the columns of
# bumps, those of the other kind among them. Rows on the ground look evenly at the ground. (Only every
# second position is shown, so the weights shown are about twice the real ones.)*
#
# If you predicted "nearly all on the same kind", so did we. It is not so. From a bump the layer looks at
# bumps much more than at the ground, but between the kinds it chooses little. How can it then tell the two
# means apart?
#
# A guess: the *values* do the sorting. If triangles write their height into some channels and rectangles
# into others, one look at everything brings both means home, and a later layer picks. A guess can be
# tested. Take what attention brings to the centre of a **triangle**, and see whether the mean height of the
# **rectangles** can be read off it by a linear map, fitted on one half of the signals and tested on the
# other.

# %%
with torch.no_grad():
    before = attentive[:6](test_inputs)  # (signal, channel, position): what goes into the attention layer
    brought = attentive[6](before)  # (signal, channel, position): what comes out of it
first_triangle = (test_kind == 0).float().argmax(dim=1)
first_rectangle = (test_kind == 1).float().argmax(dim=1)
rows = torch.arange(len(test_inputs))


def read_off(states, bump):
    """Share of the variance of a bump's right height that a linear map reads off at a triangle."""
    features = states[rows, :, test_centre[rows, first_triangle]]  # (signal, channel)
    features = torch.cat([features, torch.ones(len(features), 1)], dim=1)
    truth = test_height[rows, bump]
    fit = torch.linalg.lstsq(features[:500], truth[:500, None]).solution
    residual = truth[500:] - (features[500:] @ fit)[:, 0]
    return 1 - (residual.var() / truth[500:].var()).item()


print("read off at a triangle      before attention    after")
after = {}
for name, bump in (("mean of the triangles", first_triangle), ("mean of the rectangles", first_rectangle)):
    after[name] = read_off(brought, bump)
    print(f"{name:26}{read_off(before, bump):15.0%}{after[name]:12.0%}")
assert all(share > 0.7 for share in after.values())

# %% [markdown]
# Before the layer, about half of the triangles' mean can be read off, since a triangle knows its own
# height, and nothing of the rectangles'. (A share below zero: a little worse than always saying the
# average.) After it both means are there, which fits the guess: the layer need not choose, because a later
# one can. Keep this in mind for every map that you will see: weights tell **where** a position looked, not
# **what** it took from there. What is taken is $v_j$, and the map does not show it.
#
# ## 3.7 Break it
#
# Three ways to get it wrong. For each: predict the symptom, run, explain.
#
# **1. Softmax over the wrong axis.** `softmax(dim=-2)` in place of `dim=-1`.

# %%
q, k, v = torch.randn(5, 8), torch.randn(7, 8), torch.randn(7, 3)
wrong_axis = (q @ k.T / math.sqrt(8)).softmax(dim=-2)  # (query, key)
print("sums over the keys:   ", wrong_axis.sum(dim=-1))
print("sums over the queries:", wrong_axis.sum(dim=-2))
assert not torch.allclose(wrong_axis.sum(dim=-1), torch.ones(5), atol=0.05)

# %% [markdown]
# All shapes are right, nothing is raised, and the output is no longer a mean: a query that few others
# compete with gets too much. Tests of shapes do not find this. A test of the row sums does.
#
# **2. The mask after the softmax.** Multiply the finished weights by the mask. Nothing from the future gets
# in that way, does it?

# %%
x = torch.randn(6, 8)
late = (x @ x.T / math.sqrt(8)).softmax(dim=-1) * causal_mask(6)  # (query, key)
print("row sums:", late.sum(dim=-1))

later = x.clone()
later[5] *= 3  # change the last position alone
late_after = (later @ later.T / math.sqrt(8)).softmax(dim=-1) * causal_mask(6)
moved = (late_after @ later - late @ x)[:5].norm(dim=-1)
print("outputs 0 to 4 moved by", moved)
assert moved.max() > 1e-3

# %%
right = masked_softmax(x @ x.T / math.sqrt(8), causal_mask(6))
compare(late, right)

# %% [markdown]
# *What to look at: wherever a query may look, the late mask gives it too little, except in the last row.*
#
# Two symptoms. The rows no longer sum to one. And the future **does** leak: its scores have taken part in
# the sum that softmax divides by. A model could read from the size of its outputs what is to come.
#
# **3. No division.** Let a layer learn to look things up: each query is made from the same vector as one of
# 16 keys, and its output is to be that key's value. Queries and keys are 512 wide and start with entries of
# variance 1. **Predict:** without the division, will the layer not learn at all, learn more slowly, or do
# as well?


# %%
def learn_to_look_up(factor, width=512, num_keys=16, steps=200):
    """Mean weight on the right key at each step of training, with scores multiplied by factor."""
    torch.manual_seed(0)
    w_q, w_k = nn.Linear(64, width, bias=False), nn.Linear(64, width, bias=False)
    for layer in (w_q, w_k):
        nn.init.normal_(layer.weight, std=1 / math.sqrt(64))  # the entries' variance stays 1
    optimizer = torch.optim.Adam([*w_q.parameters(), *w_k.parameters()], lr=1e-3)
    on_right_key = []
    for _ in range(steps):
        x, value = torch.randn(64, num_keys, 64), torch.randn(64, num_keys, 4)  # (lookup, key, channel)
        rows, right = torch.arange(64), torch.randint(num_keys, (64,))
        query = w_q(x[rows, right])[:, None]  # (lookup, 1, width)
        weights = (query @ w_k(x).transpose(-2, -1) * factor).softmax(dim=-1)  # (lookup, 1, key)
        loss = ((weights @ value)[:, 0] - value[rows, right]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        on_right_key.append(weights[rows, 0, right].mean().item())
    return on_right_key


found = {"divided": learn_to_look_up(1 / math.sqrt(512)), "not divided": learn_to_look_up(1.0)}
print("mean weight on the right key after   25     50     100    200 steps")
for name, history in found.items():
    print(f"{name:34}", *(f"{sum(history[end - 5 : end]) / 5:6.2f}" for end in (25, 50, 100, 200)))
assert found["divided"][50] > 0.7 > 0.5 > found["not divided"][50]
assert found["not divided"][-1] > 0.9

# %% [markdown]
# It learns more slowly, and then catches up. A fresh layer without the division is sure of itself and
# mostly wrong: nearly all weight lies on one key, where softmax is flat, and only the queries that are
# still undecided teach it anything.
#
# Is the division always needed at the start? Take a fresh layer of section 3.6, whose vectors are narrow,
# and leave the division out:

# %%
fresh = stack_around(middle=AttentionLayer(channels))
with torch.no_grad():
    x = fresh[:6](test_inputs)  # (signal, channel, position)
    scores = torch.einsum("ncq,nck->nqk", fresh[6].query(x), fresh[6].key(x))  # (signal, query, key)
largest = scores.softmax(dim=-1).amax().item()
print(f"largest of all weights {largest:.4f}, an even look {1 / LENGTH:.4f}")
assert largest < 1.5 / LENGTH

# %% [markdown]
# Here it would change nothing: `nn.Conv1d` starts with parameters so small that every query looks evenly at
# everything. So the root saves time where vectors are wide and their entries large; and you need not know
# beforehand whether they will be.
#
# ## 3.8 Exercises
#
# Write into the cells in place of `...` and run them. `check` tries your function on small inputs, drawn
# anew each time, and says what is wrong, and which mistake it is, where it knows the mistake. Hints come
# in two steps, then the solution; all are folded. `progress()`, from the same module, lists what you have
# solved.

# %%
from course_lib.exercises import check

# %% [markdown]
# **3.1 One line.** Given `scores` of shape (batch, query, key), compute the weights so that each query's
# weights sum to one.


# %% tags=["exercise"]
def weights_from_scores(scores): ...


check("3.1", weights_from_scores)

# %% [markdown]
# <details><summary>Hint 1</summary>Which axis does one query's distribution run along?</details>
# <details><summary>Hint 2</summary>Count the axis from the end: then the batch does not
# matter.</details>
# <details><summary>Solution</summary>
#
# ```python
# def weights_from_scores(scores):
#     return scores.softmax(dim=-1)
# ```
#
# The last axis counts the keys. With `dim=-2` the queries would compete with each other, as in section
# 3.7.
# </details>
#
# **3.2 The causal mask by comparison.** Build the (query, key) mask without `tril`: compare the positions
# of queries with the positions of keys. Take `num_keys >= num_queries`; the queries are the last
# positions.


# %% tags=["exercise"]
def my_causal_mask(num_queries, num_keys): ...


check("3.2", my_causal_mask)

# %% [markdown]
# <details><summary>Hint 1</summary>A column of query positions against a row of key positions: <code>a[:,
# None]</code> and <code>b[None, :]</code>.</details>
# <details><summary>Hint 2</summary>With 3 queries and 5 keys the queries stand at 2, 3 and 4. At which
# position does the first query stand in general?</details>
# <details><summary>Solution</summary>
#
# ```python
# def my_causal_mask(num_queries, num_keys):
#     query_position = torch.arange(num_keys - num_queries, num_keys)
#     key_position = torch.arange(num_keys)
#     return key_position[None, :] <= query_position[:, None]
# ```
#
# If with (3, 5) your first query sees only the first key, you have counted from the front, as PyTorch's
# `is_causal` does. A decoder with a cache then hides from its newest word all words but the first.
# </details>
#
# **3.3 A mask that is added.** Much code masks by adding: `scores + bias`, with a bias of $-\infty$ where
# it is forbidden and 0 elsewhere. Write attention for a boolean mask (query, key) that way, and so that a
# row that is False everywhere gives an output of zeros and gradients without NaN. Queries are (query,
# d_k), keys (key, d_k), values (key, d_v).


# %% tags=["exercise"]
def attention_with_added_mask(query, key, value, mask): ...


check("3.3", attention_with_added_mask)

# %% [markdown]
# <details><summary>Hint 1</summary>Replacing NaN after the softmax mends the output. But in the backward
# pass the softmax multiplies by its NaN outputs, and zero times NaN is NaN. Better let none
# arise.</details>
# <details><summary>Hint 2</summary>Add a large finite number below zero. What does a row give in which it
# was added everywhere?</details>
# <details><summary>Solution</summary>
#
# ```python
# def attention_with_added_mask(query, key, value, mask):
#     scores = query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])
#     bias = torch.zeros(mask.shape, dtype=scores.dtype).masked_fill(~mask, -1e4)
#     weights = (scores + bias).softmax(dim=-1) * mask
#     return weights @ value
# ```
#
# The product with the mask clears the rows in which everything is forbidden. -1e4 is low enough as long
# as scores stay well above it, and it can be added in every floating-point type without overflow.
# </details>
#
# **3.4 Find the bug.** This function passes every test of shapes, and more. What is wrong with it? Mend
# it. With which width can no input show the mistake?


# %% tags=["exercise"]
def suspicious_attention(query, key, value):
    scores = query @ key.transpose(-2, -1) / query.shape[-1]
    weights = scores.softmax(dim=-1)
    return weights @ value


check("3.4", suspicious_attention)

# %% [markdown]
# <details><summary>Hint 1</summary>Compare its weights with those of <code>my_attention</code> at widths
# 1, 4 and 16.</details>
# <details><summary>Hint 2</summary>What is the variance of its scores, when queries and keys have entries
# of variance 1?</details>
# <details><summary>Solution</summary>
#
# ```python
# def suspicious_attention(query, key, value):
#     scores = query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])
#     weights = scores.softmax(dim=-1)
#     return weights @ value
# ```
#
# It divided by $d_k$, not by $\sqrt{d_k}$. The variance of its scores was $1/d_k$: the wider the vectors,
# the more evenly every query looked at everything. Width 1 cannot show it, since $\sqrt 1 = 1$. Any other
# does: with the numbers of section 3.2 the scores of the first query are $(0.5, 0, -0.5)$ instead of
# $(0.707, 0, -0.707)$.
# </details>
#
# **3.5 Who asks whom.** The positions of `x` (query, d_model) ask those of a `memory` (key, d_model). The
# matrices `w_q`, `w_k` and `w_v` (d_model, d_k) make queries, keys and values, by `@`. Return what each
# position of `x` brings home, (query, d_k).


# %% tags=["exercise"]
def cross_attention(x, memory, w_q, w_k, w_v): ...


check("3.5", cross_attention)

# %% [markdown]
# <details><summary>Hint 1</summary>Whoever asks gives the queries. Whoever is asked gives both keys and
# values.</details>
# <details><summary>Hint 2</summary>After the three products it is equation 1, and the width under its
# root is that of queries and keys, not that of <code>x</code>.</details>
# <details><summary>Solution</summary>
#
# ```python
# def cross_attention(x, memory, w_q, w_k, w_v):
#     query, key, value = x @ w_q, memory @ w_k, memory @ w_v
#     scores = query @ key.T / math.sqrt(key.shape[-1])  # (query, key)
#     return scores.softmax(dim=-1) @ value
# ```
#
# With `memory = x` it is self-attention. With keys and values exchanged the shapes would still be right:
# no error says that what is compared and what is brought home have changed places.
# </details>
#
# **3.6 Open end.** Bring the error of section 3.6 under half of `attentive_error` without adding
# parameters, and return the trained model. Ideas: more steps, another place for the layer, a narrower
# value, fewer convolutions. Write down what you expected before each run. The check measures on new
# signals.


# %% tags=["exercise"]
def better_model(): ...


check("3.6", better_model, make_signals=make_signals, parameters=size(attentive), error=attentive_error / 2)

# %% [markdown]
# <details><summary>Hint 1</summary>Begin with <code>stack_around</code> and <code>train</code>. The loss
# was still falling when training ended: look at the last hundred steps.</details>
# <details><summary>Hint 2</summary><code>train</code> has an argument for the number of steps.</details>
# <details><summary>Solution</summary>
#
# ```python
# def better_model():
#     torch.manual_seed(3)
#     model = stack_around(middle=AttentionLayer(channels))
#     train(model, steps=5400)
#     return model
# ```
#
# The same model, trained for longer: since the learning rate rises and falls over all the steps, more steps
# are also a slower fall. Did you expect a second layer of attention to do more? In one try of ours, with two
# of them in place of two convolutions, the error was nearly three times as large after the usual 1,200 steps.
# </details>
#
# ## 3.9 What we showed
#
# - Queries and keys share a width, keys and values a number; the output has a row per query and the width
#   of the values (C12).
# - `bmm`, `@` and `einsum` give the same outputs and gradients, also where one key serves all heads (C09).
# - The variance of dot products grows as $d_k$, and dividing by $\sqrt{d_k}$ restores one; without it
#   softmax saturates and its slopes vanish (C08).
# - With a padding mask a batch gives what each sentence gives alone, and a causal mask lets nothing through
#   from the future (C15).
# - A layer of 1×1 convolutions is the linear one, and it solves a task on which convolutions alone stay
#   behind: with a short reach they are as good as blind, with a long one they still make a multiple of its
#   error (C11).
# - One finding that we did not expect: the layer finds the bumps and chooses little between their kinds. A
#   map shows where a layer looks, not what it takes.
#
# **What the papers say.** Vaswani and others ([2017](https://arxiv.org/abs/1706.03762), section 3.2.1)
# *suspect* that large dot products push softmax into regions of small gradients; section 3.4 measures it.
# Luong and others ([2015](https://arxiv.org/abs/1508.04025)) compare the scores that they call dot, general
# and concat. Britz and others ([2017](https://arxiv.org/abs/1703.03906)) find that additive scores do
# slightly but consistently better than multiplicative ones on translation. Theirs are not divided by a
# root.
#
# **What comes next.** One attention gives each query one distribution. Chapter 4 shows what a single
# distribution cannot do, and lets several run side by side.
