# %% [markdown]
# # 3 · Scaled dot-product attention
#
# **The question.** Chapter 2 let a decoder look back with a small network that scores one pair of states at
# a time. Can a plain dot product do the same, for all pairs at once? And why does everybody divide it by
# $\sqrt{d_k}$?
#
# **You will be able to**
# - write attention in four lines, and say what each axis of each tensor counts;
# - explain with a measurement what the root of $d_k$ is for;
# - mask padding and the future, and *prove* that nothing leaks;
# - recognise attention in three notations, and as a layer of 1×1 convolutions;
# - solve a task with one attention layer that convolutions alone do not solve.
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
# height. The task: give every bump the **mean height of its kind**. Both triangles must come out equally
# high, and both rectangles. (The task is François Fleuret's, from the lecture on attention in his [deep
# learning course](https://fleuret.org/dlc/).)
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
    ax.set(xlabel="position", ylabel="height", ylim=(-0.1, 1.1))
    ax.legend(loc="upper right", ncols=3, fontsize="small")
    return ax


figure, axes = plt.subplots(1, 2, figsize=(9, 2), layout="constrained")
for index, ax in zip(examples, axes, strict=True):
    plot_signal(ax, index)

# %% [markdown]
# *What to look at: grey is what the model gets, the dashed line is what it must give. Within a kind the
# dashed bumps are equally high.*
#
# We measure one number: how far the output is from the right height at the centre of a bump, on average. A
# model that simply copies its input makes an error too. That error is our yardstick.


# %%
def height_error(output):
    """Mean distance between output and right height at the centres of the bumps."""
    return (output[:, 0].gather(1, test_centre) - test_height).abs().mean().item()


copying = height_error(test_inputs)
print(f"error of copying the input: {copying:.3f}")

# %% [markdown]
# Now the usual tool for signals, a stack of convolutions. Each layer sees 5 neighbouring positions, so six
# of them see $6 \cdot 4 + 1 = 25$ of the 100. **Predict:** will it do better than copying? By much?


# %%
def conv(in_channels, out_channels, dilation=1):
    return nn.Conv1d(in_channels, out_channels, kernel_size=5, padding=2 * dilation, dilation=dilation)


def train(model, steps=1200, learning_rate=6e-3):
    generator = torch.Generator().manual_seed(1)  # the same signals for every model
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate)
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
print(f"error of copying:      {copying:.3f}")
print(f"error of convolutions: {convolutions_error:.3f}")

# %%
figure, axes = plt.subplots(1, 2, figsize=(9, 2), layout="constrained")
for index, ax in zip(examples, axes, strict=True):
    plot_signal(ax, index, convolutions_output)

# %% [markdown]
# *What to look at: the red bumps have the right shape and the right place, but not the right height.*
#
# The convolutions know what a triangle is. They cannot know how high the other one is: when it lies outside
# their 25 positions they guess the average height. We need a layer with which a position can ask the whole
# signal a question.
#
# ## 3.2 Build: a score that is only a dot product
#
# Three vectors for every position, as in chapter 2:
# - a **query** $q_i$, what position $i$ asks for,
# - a **key** $k_j$, what position $j$ offers itself under,
# - a **value** $v_j$, what position $j$ hands over when asked.
#
# Bahdanau's score is a network, $v^\top \tanh(W q_i + U k_j)$. The simplest score of two vectors has no
# weights at all:
#
# $$ s_{ij} = q_i \cdot k_j = \sum_{c=1}^{d_k} q_{ic}\, k_{jc} $$
#
# It is large when the two point the same way, zero when they are at right angles, negative when they oppose
# each other. Take numbers that you can check by hand: two queries, three keys, width $d_k = 2$.

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
# Check one: $q_2 \cdot k_1 = 1 \cdot 1 + 1 \cdot 0 = 1$. Then check the last column. Why is it negative?
#
# The double loop is a matrix product. With the queries as the rows of $Q$ and the keys as the rows of $K$
# it is $S = Q K^\top$. A softmax over each **row** turns one query's scores into weights, and the output is
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
# is written out. **Try this, and predict each time:** double the first query. Make two keys equal. Switch
# the division off.

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
# two: a batch of sentences, and soon several heads. Are the three the same, values and gradients?

# %% tags=["claim-C09"]
batch, heads, num_queries, num_keys, d_k = 2, 3, 5, 7, 11
q = torch.randn(batch, heads, num_queries, d_k, dtype=torch.float64, requires_grad=True)
k = torch.randn(batch, heads, num_keys, d_k, dtype=torch.float64, requires_grad=True)


def scores_with_bmm(q, k):  # bmm knows one batch axis only, so batch and head are folded into one
    folded = torch.bmm(q.flatten(0, 1), k.flatten(0, 1).transpose(1, 2))  # (batch*head, query, key)
    return folded.unflatten(0, (batch, heads))  # (batch, head, query, key)


def scores_with_matmul(q, k):  # @ multiplies the last two axes and carries the others along
    return q @ k.transpose(-2, -1)  # (batch, head, query, key)


def scores_with_einsum(q, k):  # the axis that is missing after the arrow is summed over
    return torch.einsum("bhqd,bhkd->bhqk", q, k)  # (batch, head, query, key)


def values_and_gradients(function):
    scores = function(q, k)
    return scores, *torch.autograd.grad(scores.square().sum(), (q, k))


reference = values_and_gradients(scores_with_matmul)
for function in (scores_with_bmm, scores_with_einsum):
    for mine, theirs in zip(values_and_gradients(function), reference, strict=True):
        assert_close(mine, theirs)
    largest = (function(q, k) - reference[0]).abs().max().item()
    print(f"{function.__name__}: largest difference from @ is {largest:.0e}")

# %% [markdown]
# They are. `einsum` names the axes, which is worth a lot when you read it a month later. `@` is shortest,
# and the library uses it. `bmm` is what older code has.
#
# ## 3.3 Masks: who may look at whom
#
# A **mask** is a table of booleans with a row for each query and a column for each key. In this course, as
# in `torch.nn.functional.scaled_dot_product_attention`, **True means may attend**.
# (`torch.nn.MultiheadAttention` has it the other way round. Many a bug lives there.)
#
# Two masks do most of the work. The **causal** mask lets position $i$ see positions $j \le i$. The
# **padding** mask hides the filler words after the end of a short sentence.

# %% tags=["nbval-check-output"]
print("causal_mask(4)\n", causal_mask(4).int())
print("padding_mask([4, 2]), one row for each sentence\n", padding_mask([4, 2])[:, 0].int())

# %% [markdown]
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
changed = x.clone()
changed[:, 6] += 1.0
before, _ = scaled_dot_product_attention(x, x, x, causal_mask(7))
after, _ = scaled_dot_product_attention(changed, changed, changed, causal_mask(7))
moved = (after - before).abs().amax(dim=(0, 2))
print("how far the output moves at each position:", moved)
assert moved[:6].max() == 0 and moved[6] > 0

# %% [markdown]
# Read the last line: the six earlier outputs did not move at all, and the last one did. The second half
# matters as much as the first. A mask that hides *everything* would pass a test which only looks for leaks.
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
# One such NaN, and in the next step of training every weight of the model is NaN. The library's
# `masked_softmax` gives zeros instead. Here is the whole of it:

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
# Our function, the library's and PyTorch's own fused kernel must agree, values and gradients, with a mask.

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
# Let every entry of a query and of a key be random with mean 0 and variance 1. Their dot product is a sum
# of $d_k$ products, each with mean 0 and variance 1. Variances of independent terms add up, so
#
# $$ \operatorname{Var}(q \cdot k) = d_k, \qquad
#    \operatorname{Var}\!\left(\frac{q \cdot k}{\sqrt{d_k}}\right) = \frac{d_k}{d_k} = 1. $$
#
# **Predict** two things before you run the cell. With $d_k = 512$, how large is a typical score without the
# division? And what does a softmax make of scores that large?

# %% tags=["claim-C08"]
widths = [2, 8, 32, 128, 512, 2048]
generator = torch.Generator().manual_seed(0)
found = {"plain": [], "scaled": []}
for d_k in widths:
    q = torch.randn(400, 16, d_k, generator=generator)
    k = torch.randn(400, 16, d_k, generator=generator)
    plain = q @ k.transpose(-2, -1)  # (trial, query, key): 400 trials of 16 queries and 16 keys
    for name, scores in (("plain", plain), ("scaled", plain / math.sqrt(d_k))):
        scores = scores.detach().requires_grad_()
        weights = scores.softmax(dim=-1)
        # How far the weight of the first key moves when the scores move.
        (gradient,) = torch.autograd.grad(weights[..., 0].sum(), scores)
        found[name].append(
            (scores.var().item(), weights.amax(dim=-1).mean().item(), gradient.norm(dim=-1).median().item())
        )

print("d_k        variance         largest weight     gradient (median)")
print("        plain   scaled      plain  scaled      plain    scaled")
for row, d_k in enumerate(widths):
    (var_p, top_p, grad_p), (var_s, top_s, grad_s) = found["plain"][row], found["scaled"][row]
    print(f"{d_k:5}{var_p:9.1f}{var_s:9.2f}{top_p:11.2f}{top_s:8.2f}{grad_p:11.0e}{grad_s:10.0e}")

for row, d_k in enumerate(widths):
    assert 0.9 < found["plain"][row][0] / d_k < 1.1, "without scaling the variance is d_k"
    assert 0.9 < found["scaled"][row][0] < 1.1, "with scaling it is one"
assert found["plain"][-1][1] > 0.95 > 0.5 > found["scaled"][-1][1], "without scaling softmax saturates"
assert found["plain"][-1][2] < 1e-6 < 1e-2 < found["scaled"][-1][2], "and its gradients vanish"

# %%
figure, axes = plt.subplots(1, 3, figsize=(9, 2.6), layout="constrained")
titles = ("variance of the scores", "largest weight of a query", "gradient through softmax")
for column, (ax, title) in enumerate(zip(axes, titles, strict=True)):
    for name, style in (("plain", "o--"), ("scaled", "s-")):
        ax.plot(widths, [row[column] for row in found[name]], style, label=name)
    ax.set(xscale="log", xlabel="width $d_k$", title=title)
    ax.set_yscale("linear" if column == 1 else "symlog" if column == 2 else "log")
axes[1].axhline(1 / 16, color="0.6", linewidth=1)
axes[2].set_yscale("log")
axes[2].set_ylim(1e-8, 1)
axes[0].legend()
None

# %% [markdown]
# *What to look at: on the left the plain variance climbs with $d_k$ and the scaled one stays at 1. In the
# middle the plain weights close in on 1: the query looks at a single key. On the right its gradient falls
# away.*
#
# When one weight is all but 1 and the others all but 0, a small change of the scores changes nothing, so
# there is no gradient and nothing to learn from. A model that starts there stays there. Dividing by
# $\sqrt{d_k}$ makes the start the same for every width. (The thin grey line is $1/16$, what an even look at
# 16 keys would give.)
#
# Be exact about what this shows. It holds for entries that are independent with variance 1, as they are in
# a freshly initialised layer. Training may make the scores as large as it likes, and often does.
#
# ## 3.5 See: attention on real vectors
#
# One map to learn to read: six positions with random vectors, from which one random matrix makes the
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
# A layer needs weights of its own: three matrices that make the query, the key and the value out of a
# position's channels. Signals are usually stored as (signal, channel, position), and there a linear map of
# the channels at every position has a name: a **convolution with a kernel of size 1**.


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
        scores = torch.einsum("ncq,nck->nqk", query, key) / math.sqrt(query.shape[1])
        self.weights = scores.softmax(dim=-1)  # (signal, query, key)
        return torch.einsum("nqk,nck->ncq", self.weights, value)


# %% [markdown]
# **Is that really the same attention?** Put its weights into three `nn.Linear` and compare.

# %% tags=["claim-C11"]
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

attentive = stack_around(middle=AttentionLayer(channels))
attentive_output = train(attentive)
attentive_error = height_error(attentive_output)


def size(model):
    return sum(parameter.numel() for parameter in model.parameters())


print(f"copying               error {copying:.3f}")
print(f"convolutions alone    error {convolutions_error:.3f}   {size(convolutions):6,} weights")
print(f"one layer attends     error {attentive_error:.3f}   {size(attentive):6,} weights")
assert attentive_error < 0.3 * copying and convolutions_error > 0.6 * copying
assert size(attentive) < size(convolutions)

# %%
figure, axes = plt.subplots(1, 2, figsize=(9, 2), layout="constrained")
for index, ax in zip(examples, axes, strict=True):
    plot_signal(ax, index, attentive_output)

# %% [markdown]
# *What to look at: the same two signals as before. Now the red bumps come close to the dashed line.*
#
# With one layer exchanged, and with fewer weights, the heights are all but right. But is the comparison
# fair? The convolutions saw only 25 positions. Let us give them **dilated** kernels, which skip positions,
# so that the last layers see the whole signal. **Predict:** does that close the gap?

# %%
dilated = nn.Sequential(
    conv(1, channels), nn.ReLU(),
    conv(channels, channels, dilation=2), nn.ReLU(),
    conv(channels, channels, dilation=4), nn.ReLU(),
    conv(channels, channels, dilation=8), nn.ReLU(),
    conv(channels, channels, dilation=16), nn.ReLU(),
    conv(channels, 1),
)  # fmt: skip
reach = 1 + 4 * (1 + 2 + 4 + 8 + 16 + 1)
dilated_error = height_error(train(dilated))
print(f"dilated convolutions, which see {reach} positions: error {dilated_error:.3f}")
print(f"attention:                                        error {attentive_error:.3f}")
assert attentive_error < dilated_error < convolutions_error

# %% [markdown]
# Reach explains much of the difference, and not all of it. A dilated kernel has a weight for each
# *distance*: it must learn "a triangle 37 to the left" and "a triangle 52 to the right" one by one. A query
# has one question for all distances: *where are the triangles?*
#
# ### Grade the attention
#
# We know the truth here: which positions belong to which bump. So we need not guess what the layer looks
# at. Take the queries inside each bump, and ask how much of their weight falls on bumps of the same kind,
# on bumps of the other kind, and on the flat ground. **Predict** the three shares.

# %%
with torch.no_grad():
    attentive(test_inputs)
weights = attentive[6].weights  # (signal, query, key)
distance = (torch.arange(LENGTH) - test_centre[:, :, None]).abs()  # (signal, bump, position)
inside = (distance <= WIDTH // 2).float()
# Mean weight that a position of bump a gives to all of bump b.
between = torch.einsum("naq,nqk,nbk->nab", inside, weights, inside) / WIDTH
same_kind = test_kind[:, :, None] == test_kind[:, None, :]
on_same = (between * same_kind).sum(dim=-1).mean().item()
on_other = (between * ~same_kind).sum(dim=-1).mean().item()
by_chance = 2 * WIDTH / LENGTH
print(f"weight on bumps of the same kind: {on_same:.2f}")
print(f"weight on bumps of the other:     {on_other:.2f}")
print(f"weight on flat ground:            {1 - on_same - on_other:.2f}")
print(
    f"a layer that looks evenly at everything: {by_chance:.2f}, {by_chance:.2f} and {1 - 2 * by_chance:.2f}"
)
assert on_same + on_other > 1.5 * 2 * by_chance

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
# If you predicted "nearly all on the same kind", so did we. It is not so. The layer looks at bumps and not
# at the ground, but it does not choose between the kinds as the story says. How can it then tell the two
# means apart?
#
# A guess: the *values* do the sorting. If triangles write their height into some channels and rectangles
# into others, one look at everything brings both means home, and a later layer picks. A guess can be
# tested. Take what attention brings to the centre of a **triangle**, and see whether the mean height of the
# **rectangles** can be read off it by a linear map, fitted on one half of the signals and tested on the
# other.

# %%
with torch.no_grad():
    brought = attentive[:7](test_inputs)  # up to and with the attention layer: (signal, channel, position)
first_triangle = (test_kind == 0).float().argmax(dim=1)
first_rectangle = (test_kind == 1).float().argmax(dim=1)
rows = torch.arange(len(test_inputs))
features = brought[rows, :, test_centre[rows, first_triangle]]  # (signal, channel)
features = torch.cat([features, torch.ones(len(features), 1)], dim=1)

read_off = {}
for name, bump in (("triangles", first_triangle), ("rectangles", first_rectangle)):
    truth = test_height[rows, bump]
    fit = torch.linalg.lstsq(features[:500], truth[:500, None]).solution
    residual = truth[500:] - (features[500:] @ fit)[:, 0]
    read_off[name] = 1 - (residual.var() / truth[500:].var()).item()
    print(f"at a triangle, mean height of the {name}: {read_off[name]:.0%} of its variance can be read off")

# %% [markdown]
# Both means arrive together, so there is nothing to choose. Keep this in mind for every map that you will
# see: weights tell **where** a position looked, not **what** it took from there. What is taken is $W^V
# x_j$, and the map does not show it.
#
# ## 3.7 Break it
#
# Three changes to `my_attention`. For each: predict the symptom, run, explain.
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
# the sum that softmax divides by. In training such a model can read from the size of its outputs what is to
# come.
#
# **3. Scores that start too large.** Where the layer of section 3.6 divides by $\sqrt{32}$, multiply by
# 1000, so that each query begins with its whole weight on one key, as wide vectors do without the division.
# What will happen to the error?


# %%
class LoudAttentionLayer(AttentionLayer):
    def forward(self, x):
        query, key, value = self.query(x), self.key(x), self.value(x)
        scores = torch.einsum("ncq,nck->nqk", query, key) * 1000  # instead of a division
        self.weights = scores.softmax(dim=-1)
        return torch.einsum("nqk,nck->ncq", self.weights, value)


def largest_weight(model):
    with torch.no_grad():
        model(test_inputs)
        return model[6].weights.amax(dim=-1).mean().item()


calm, loud = stack_around(middle=AttentionLayer(channels)), stack_around(middle=LoudAttentionLayer(channels))
print("largest weight of a query before training:")
print(f"calm {largest_weight(calm):.2f}, loud {largest_weight(loud):.2f}")
loud_error = height_error(train(loud))
print(f"divided by the root of d: error {attentive_error:.3f}")
print(f"multiplied by 1000:       error {loud_error:.3f}")
assert loud_error > 2 * attentive_error

# %% [markdown]
# ## 3.8 Exercises
#
# Write into the cells in place of `...`. Hints and solutions are folded.
#
# **3.1 One line.** Given `scores` of shape (batch, query, key), compute the weights so that each query's
# weights sum to one.


# %% tags=["exercise"]
def weights_from_scores(scores): ...


# %% [markdown]
# <details><summary>Hint</summary>Which axis does one query's distribution run along? Count it from the
# end.</details>
# <details><summary>Solution</summary>
#
# ```python
# def weights_from_scores(scores):
#     return scores.softmax(dim=-1)
# ```
#
# The last axis counts the keys. With `dim=-2` the queries would compete with each other, as in section 3.7.
# </details>
#
# **3.2 The causal mask by comparison.** Build the (query, key) mask without `tril`: compare the positions
# of queries with the positions of keys. Take `num_keys >= num_queries`; the queries are the last positions.


# %% tags=["exercise"]
def my_causal_mask(num_queries, num_keys): ...


# %% [markdown]
# <details><summary>Hint</summary>A column of query positions against a row of key positions: <code>a[:,
# None]</code> and <code>b[None, :]</code>. At which position does the first query stand?</details>
# <details><summary>Solution</summary>
#
# ```python
# def my_causal_mask(num_queries, num_keys):
#     query_position = torch.arange(num_keys - num_queries, num_keys)
#     key_position = torch.arange(num_keys)
#     return key_position[None, :] <= query_position[:, None]
# ```
#
# Compare it with `causal_mask(3, 5)`. If your first query sees only the first key, you have counted from
# the front, as PyTorch's `is_causal` does. A decoder with a cache then hides from its newest word all words
# but the first.
# </details>
#
# **3.3 Attention with a mask.** Write the whole function, also for a mask with a row that is False
# everywhere: zeros, and no NaN in the gradients. Compare values and gradients with
# `scaled_dot_product_attention`.


# %% tags=["exercise"]
def attention_with_mask(query, key, value, mask): ...


# %% [markdown]
# <details><summary>Hint 1</summary>Repairing NaN after the softmax mends the output, and not the gradient:
# NaN times zero is NaN. It must not arise at all.</details>
# <details><summary>Hint 2</summary>Fill with the lowest finite number, then look at what an all-masked row
# gives.</details>
# <details><summary>Solution</summary>
#
# ```python
# def attention_with_mask(query, key, value, mask):
#     scores = query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])
#     scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
#     weights = scores.softmax(dim=-1).masked_fill(~mask, 0.0)
#     return weights @ value
# ```
# </details>
#
# **3.4 Find the bug.** This function passes every test of shapes. What is wrong with it, and which small
# input shows it?


# %% tags=["exercise"]
def suspicious_attention(query, key, value):
    scores = query @ key.transpose(-2, -1) / query.shape[-1]
    weights = scores.softmax(dim=-1)
    return weights @ value


# %% [markdown]
# <details><summary>Hint</summary>Compute the variance of its scores for several widths, as in section
# 3.4.</details>
# <details><summary>Solution</summary>
#
# It divides by $d_k$, not by $\sqrt{d_k}$. The variance of its scores is $1/d_k$: the wider the vectors,
# the more evenly every query looks at everything. Width 1 cannot show it, since $\sqrt 1 = 1$; width 4 or
# more does.
# </details>
#
# **3.5 Open end.** Bring the error of section 3.6 under half of `attentive_error` without adding weights.
# Ideas: more steps, another place for the layer, a narrower value, fewer convolutions. Write down what you
# expected before each run.
#
# ## 3.9 What we showed
#
# - Queries and keys share a width, keys and values a number; the output has a row per query and the width
#   of the values (C12).
# - `bmm`, `@` and `einsum` give the same scores and gradients (C09).
# - The variance of dot products grows as $d_k$, and dividing by $\sqrt{d_k}$ restores one; without it
#   softmax saturates and its gradients vanish (C08).
# - With a padding mask a batch gives what each sentence gives alone, and a causal mask lets nothing through
#   from the future (C15).
# - A layer of 1×1 convolutions is the linear one, and it solves a task on which convolutions alone stay far
#   behind (C11).
# - One finding that we did not expect: the layer found the bumps without choosing between their kinds. A
#   map shows where a layer looks, not what it takes.
#
# **What the papers say.** Vaswani and others ([2017](https://arxiv.org/abs/1706.03762), section 3.2.1)
# *suspect* that large dot products push softmax into regions of small gradients; section 3.4 measures it.
# Luong and others ([2015](https://arxiv.org/abs/1508.04025)) compare dot, general and additive scores.
# Britz and others ([2017](https://arxiv.org/abs/1703.03906)) find that additive scores do slightly but
# consistently better than dot products on translation; their dot products were not scaled.
#
# **What comes next.** One attention gives each query one distribution. Chapter 4 shows what a single
# distribution cannot do, and lets several run side by side.
