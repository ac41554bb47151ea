# %% [markdown]
# # 1 · Attention pooling
#
# **The question.** A dictionary answers for the keys that it holds, and for no others. What should it
# answer for a key that is *almost* one of them?
#
# **You will be able to**
# - say what a query, a key and a value are, and read a map of attention weights;
# - turn distances into weights in four ways, and call each by its right name;
# - show that a statistical method of 1964 is attention, to the last gradient;
# - learn the one number it has, its width, without fooling yourself;
# - say what a weighted mean can never answer.
#
# **You should know** Python and a little PyTorch: tensors, broadcasting, `backward()`. This is where the
# course begins; nothing of attention is assumed.
#
# **Time.** The chapter runs in less than half a minute on a laptop's CPU, without a network.

# %%
import torch

from course_lib.widgets import attention_map

# Every word as seven numbers: is it alive, furry, winged, long, shelled; does it roll; has it a motor?
entries = {
    "cat": [1, 1, 0, 0, 0, 0, 0],
    "sparrow": [1, 0, 1, 0, 0, 0, 0],
    "snake": [1, 0, 0, 1, 0, 0, 0],
    "spider": [1, 0, 0, 0, 1, 0, 0],
    "bicycle": [0, 0, 0, 0, 0, 1, 0],
    "car": [0, 0, 0, 0, 0, 1, 1],
}
questions = {
    "kitten": [1, 0.9, 0, 0, 0, 0, 0],
    "eagle": [1, 0, 1.2, 0, 0, 0, 0],
    "bat": [1, 0.8, 1, 0, 0, 0, 0],
    "worm": [0.9, 0, 0, 0.8, 0, 0, 0],
    "moped": [0, 0, 0, 0, 0, 1, 0.4],
    "centipede": [1, 0, 0, 0.6, 1, 0, 0],
}
query, key = (torch.tensor(list(table.values())) for table in (questions, entries))
squared_distance = (query[:, None] - key[None]).square().sum(dim=-1)  # (query, key)
word_weights = (-2 * squared_distance).softmax(dim=-1)  # the nearer the larger; every row sums to one
attention_map(word_weights, list(questions), list(entries), title="A soft dictionary")

# %% [markdown]
# *What to look at: a row is a word that we ask about, a column a word that the dictionary holds. The
# stronger a cell's colour, the more of the answer is taken from there. "Kitten" looks at "cat". Where does
# "bat" look? Point at a cell, or click into the map and walk with the arrow keys.*
#
# That is attention: a question, some things to look at, and weights that say how much of each. This chapter
# takes it apart. (That cell is the only one that you need not read yet. Every step of it comes back.)
# First, the tools for the rest of the chapter:

# %%
import math

import matplotlib.pyplot as plt
from torch.testing import assert_close

from course_lib.attention import masked_softmax, scaled_dot_product_attention
from course_lib.widgets import kernel_regression_view

torch.set_printoptions(precision=3, sci_mode=False)
torch.set_num_threads(1)  # these tensors are small: more threads would mostly wait for one another

# %% [markdown]
# ## 1.1 A dictionary that says no
#
# Suppose we have counted the legs and wheels of the six words. Then we ask about a kitten.

# %%
counted = {  # legs, wheels
    "cat": [4, 0],
    "sparrow": [2, 0],
    "snake": [0, 0],
    "spider": [8, 0],
    "bicycle": [0, 2],
    "car": [0, 4],
}
try:
    counted["kitten"]
except KeyError as error:
    print("KeyError:", error)

# %% [markdown]
# An ordinary dictionary compares the question with its keys, and the answer is *equal* or *not*. A **soft**
# dictionary asks *how near*, and answers with a mixture. Three words from here on:
#
# - the **query** $q$ is what we ask with (the seven numbers of "kitten"),
# - a **key** $k_j$ is what an entry is found by (the seven numbers of "cat"),
# - a **value** $v_j$ is what the entry gives when it is found (4 legs, 0 wheels).
#
# Multiply each value by its weight and add up. **Predict** before you run it: what will the dictionary say
# of a bat? And of a centipede?

# %% tags=["nbval-check-output"]
value = torch.tensor(list(counted.values()), dtype=torch.float)  # (key, 2)
answers = word_weights @ value  # (query, key) @ (key, 2) -> (query, 2)
for word, (legs, wheels) in zip(questions, answers, strict=True):
    print(f"{word:10} {legs:.1f} legs, {wheels:.1f} wheels")

# %% [markdown]
# The kitten is nearly right, and so is the worm. The bat, more sparrow than cat, gets a number of legs
# between theirs; the moped, more bicycle than car, nearly three wheels. The centipede has thirty legs or
# more, and gets fewer than the spider. That is a limit which no choice of weights can remove; section 1.3
# comes back to it.
#
# ### One number for a key
#
# Seven hand-made numbers are hard to argue about. So take the simplest keys there are. Somebody read a
# thermometer 40 times in one day, at odd moments, and the thermometer is a poor one. How warm was it at
# half past nine, when nobody looked?
#
# The hours are keys, the temperatures are values. We made the data ourselves, so the true curve is known
# and every answer can be graded.


# %%
def temperature(hour):
    """The true temperature, in degrees Celsius."""
    turn = 2 * math.pi * hour / 24
    return 12 - 5 * torch.cos(turn - 0.9) + 2 * torch.sin(3 * turn)


generator = torch.Generator().manual_seed(1)
hour = (24 * torch.rand(40, generator=generator)).sort().values  # (key)
degrees = temperature(hour) + 1.2 * torch.randn(40, generator=generator)  # (key)
asked = torch.linspace(0, 24, 97)  # (query), every quarter of an hour
truth = temperature(asked)


def error(estimate):
    """Root of the mean squared distance from the true curve, in degrees."""
    return (estimate - truth).square().mean().sqrt().item()


average = degrees.mean().expand(len(asked))
nearest = degrees[(asked[:, None] - hour[None, :]).abs().argmin(dim=1)]  # (query, key) -> (query)
print(f"always the average:   error {error(average):.2f} degrees")
print(f"the nearest reading:  error {error(nearest):.2f} degrees")


# %%
def plot_day(ax, curve, name):
    ax.plot(hour, degrees, "o", color="0.6", markersize=3.5, label="readings")
    ax.plot(asked, truth, color="black", linestyle="--", label="true curve")
    ax.plot(asked, curve, color="tab:red", label=name)
    ax.set(xlabel="hour", ylabel="degrees", xticks=range(0, 25, 6))
    ax.legend(fontsize="small")
    return ax


figure, axes = plt.subplots(1, 2, figsize=(9, 2.6), layout="constrained", sharey=True)
plot_day(axes[0], average, "average")
plot_day(axes[1], nearest, "nearest")
plt.show()

# %% [markdown]
# *What to look at: on the left the answer ignores the question. On the right it takes every error of the
# thermometer for the truth, and jumps half way between two readings.*
#
# The average listens to all readings alike, the nearest one to a single reading. Both fail, in opposite
# ways. What we want lies between: listen to all, and more to the near ones.
#
# ## 1.2 Build: weights from a kernel
#
# In 1964 Nadaraya and Watson, independently, wrote down the same answer ([Nadaraya
# 1964](https://doi.org/10.1137/1109020), [Watson 1964](https://www.jstor.org/stable/25049340)):
#
# $$ f(q) = \sum_j w_j\, v_j, \qquad w_j = \frac{K\!\left(\frac{q - k_j}{h}\right)}{\sum_l
#    K\!\left(\frac{q - k_l}{h}\right)} $$
#
# $K$ is a **kernel**: a function that is large near zero and never negative. $h$ is its **width**: how far
# "near" reaches, in hours here. Four kernels are in common use, with $u = (q - k) / h$:
#
# | name | $K(u)$ | it says |
# |---|---|---|
# | Gaussian | $e^{-u^2/2}$ | less and less, never quite nothing |
# | boxcar | $1$ if $\lvert u\rvert \le 1$, else $0$ | all that are near enough, alike |
# | triangular | $\max(0,\, 1 - \lvert u\rvert)$ | falls in a straight line |
# | Epanechnikov | $\max(0,\, 1 - u^2)$ | falls as a parabola |
#
# They are four different functions. Their names get mixed up: in widely read course material the
# *triangular* kernel goes under the name of Epanechnikov, whose kernel is the parabola ([Epanechnikov
# 1969](https://doi.org/10.1137/1114019)). The factors in front that one finds in books (such as $\frac34$)
# make the area one. Here they cancel.
#
# In the code, `query[:, None] - key[None, :]` sets every query against every key at once: queries go down,
# keys across, and the result has the shape (query, key).


# %%
def gaussian(u):
    return torch.exp(-(u**2) / 2)


def boxcar(u):
    return (u.abs() <= 1).to(u.dtype)


def triangular(u):
    return (1 - u.abs()).clamp(min=0)


def epanechnikov(u):
    return (1 - u**2).clamp(min=0)


def nadaraya_watson(query, key, value, kernel, width):
    closeness = kernel((query[:, None] - key[None, :]) / width)  # (query, key)
    weights = closeness / closeness.sum(dim=-1, keepdim=True)
    return weights @ value, weights  # (query, key) @ (key) -> (query)


# %%
kernels = {"Gaussian": gaussian, "boxcar": boxcar, "triangular": triangular, "Epanechnikov": epanechnikov}
u = torch.linspace(-2.5, 2.5, 501)
figure, axes = plt.subplots(1, 4, figsize=(9, 1.7), layout="constrained", sharey=True)
for (name, kernel), ax in zip(kernels.items(), axes, strict=True):
    ax.fill_between(u, kernel(u), color="0.85")
    ax.plot(u, kernel(u), color="tab:blue")
    ax.set(title=name, xlabel="$u$", xticks=[-2, -1, 0, 1, 2])
plt.show()

# %% [markdown]
# *What to look at: all are 1 in the middle. Three of them are zero outside of −1 to 1; the Gaussian is zero
# nowhere.*
#
# Small enough to check by hand: three readings, at 8, 10 and 13 o'clock, of 10, 14 and 20 degrees. The
# question is 8.5, the width is 2 hours.

# %% tags=["nbval-check-output"]
three_hours, three_degrees = torch.tensor([8.0, 10.0, 13.0]), torch.tensor([10.0, 14.0, 20.0])
for name, kernel in kernels.items():
    estimate, w = nadaraya_watson(torch.tensor([8.5]), three_hours, three_degrees, kernel, width=2.0)
    print(f"{name:13} weights {w[0, 0]:.3f} {w[0, 1]:.3f} {w[0, 2]:.3f}   estimate {estimate[0]:.3f}")

# %% [markdown]
# The distances are 0.5, 1.5 and 4.5 hours, so $u$ is 0.25, 0.75 and 2.25. The triangular kernel makes 0.75,
# 0.25 and 0 of them, which sum to one already, and $0.75 \cdot 10 + 0.25 \cdot 14 = 11$. The boxcar lets
# the first two in, alike. Do the Epanechnikov row yourself: $1 - 0.25^2 = 0.9375$, and so on.
#
# Now the whole day:

# %%
smooth, _ = nadaraya_watson(asked, hour, degrees, gaussian, width=1.0)
print(f"Gaussian kernel of width 1 hour: error {error(smooth):.2f} degrees")
print(f"average {error(average):.2f}, nearest reading {error(nearest):.2f}")
estimate, right = (curve[asked == 9.5].item() for curve in (smooth, truth))
print(f"at half past nine: {estimate:.1f} degrees, truly {right:.1f}")
assert error(smooth) < error(nearest) < error(average)

figure, ax = plt.subplots(figsize=(5.5, 2.6), layout="constrained")
plot_day(ax, smooth, "Gaussian kernel, width 1 hour")
plt.show()

# %% [markdown]
# *What to look at: the red curve no longer follows single readings, and still follows the day.*
#
# ### From kernels to scores
#
# A softmax turns any row of numbers, called **scores** $s_j$, into weights that are positive and sum to
# one:
#
# $$ \mathrm{softmax}(s)_j = \frac{e^{s_j}}{\sum_l e^{s_l}} $$
#
# Put that beside the formula of Nadaraya and Watson. They are the same as soon as $e^{s_j} = K(u_j)$. So
# the score is the **logarithm of the kernel**. For the Gaussian it is a negative squared distance:
#
# $$ s_j = \log K\!\left(\frac{q - k_j}{h}\right) = -\frac{(q - k_j)^2}{2h^2} $$
#
# The other three have a window, outside of which the kernel is zero. Its logarithm is $-\infty$: the key is
# not far, it is *excluded*. Attention has a name for that, a **mask**: a table of booleans, where True
# means *may attend*. The library's `masked_softmax(scores, mask)` gives excluded keys the weight zero, and
# shares the rest by softmax.
#
# Try it with all four kernels. The second loop is a **negative control**, which you will meet all over this
# course: it checks that the test above it could have failed.

# %%
by_kernel, by_scores = {}, {}
for name, kernel in kernels.items():
    closeness = kernel((asked[:, None] - hour[None, :]) / 2.5)  # (query, key)
    _, by_kernel[name] = nadaraya_watson(asked, hour, degrees, kernel, width=2.5)
    by_scores[name] = masked_softmax(closeness.log(), mask=closeness > 0)
    assert_close(by_scores[name], by_kernel[name])

for name in kernels:  # no kernel passes for another
    for other in kernels:
        assert torch.allclose(by_scores[name], by_kernel[other], atol=1e-3) == (name == other)
print("all four kernels are a softmax of their logarithm, masked to their window")

# %% [markdown]
# ## 1.3 Prove it
#
# ### It is scaled dot-product attention
#
# Chapter 3 is about the attention of today's models, in which a score is a **dot product**: multiply query
# and key number by number, and add up. Can a squared distance be one? Multiply it out, for vectors $q$ and
# $k_j$:
#
# $$ -\frac{\lVert q - k_j\rVert^2}{2h^2} = \frac{q \cdot k_j}{h^2} \;-\; \frac{\lVert k_j\rVert^2}{2h^2}
#    \;-\; \frac{\lVert q\rVert^2}{2h^2} $$
#
# The last term is the same for every key, and softmax does not notice what is the same for all: it cancels.
# The term before it cancels too **if all keys have one length**, that is, one norm $\lVert k_j\rVert$. Then
# what is left is a dot product, scaled by $1/h^2$.
#
# Hours have such keys. Put them on the face of a clock with 24 hours, where every hour is a point at the
# same distance from the middle, and half past eleven at night lies next to midnight:


# %%
def clock(hour):
    """The point of each hour on a face so large that one hour along its rim has the length 1."""
    turn = 2 * math.pi * hour / 24
    return 24 / (2 * math.pi) * torch.stack([turn.sin(), turn.cos()], dim=-1)  # (..., 2)


print("lengths:", clock(torch.tensor([0.0, 7.5, 23.5])).norm(dim=-1))
print("from 23:30 to midnight:", (clock(torch.tensor(23.5)) - clock(torch.tensor(0.0))).norm())

# %% [markdown]
# Now three ways to the same estimate: the formula of 1964, a softmax of scores, and the library's
# `scaled_dot_product_attention`, which knows nothing of kernels. (It has a scaling of its own, which
# chapter 3 explains; `scale=1.0` turns it off, since we divide by $h^2$ ourselves.) Not only the values
# must agree, but the **gradients** too, that of the width among them. (A gradient that differs would show
# two functions that merely meet at one point.)

# %% tags=["claim-C03"]
generator = torch.Generator().manual_seed(2)
query = (24 * torch.rand(5, generator=generator, dtype=torch.float64)).requires_grad_()
key = (24 * torch.rand(7, generator=generator, dtype=torch.float64)).requires_grad_()
value = torch.randn(7, 3, generator=generator, dtype=torch.float64, requires_grad=True)  # (key, 3)
width = torch.tensor(3.0, dtype=torch.float64, requires_grad=True)


def by_formula(q, k, width):
    distance = (q[:, None] - k[None]).norm(dim=-1)  # (query, key)
    closeness = gaussian(distance / width)
    return closeness / closeness.sum(dim=-1, keepdim=True) @ value


def by_softmax(q, k, width):
    scores = -(q[:, None] - k[None]).square().sum(dim=-1) / (2 * width**2)  # (query, key)
    return masked_softmax(scores) @ value


def by_dot_product(q, k, width):
    output, _ = scaled_dot_product_attention(q / width**2, k, value, scale=1.0)
    return output


def with_gradients(function):
    output = function(clock(query), clock(key), width)
    return output, *torch.autograd.grad(output.square().sum(), (query, key, value, width))


reference = with_gradients(by_formula)
for function in (by_softmax, by_dot_product):
    for mine, theirs in zip(with_gradients(function), reference, strict=True):
        assert_close(mine, theirs)
    largest = (function(clock(query), clock(key), width) - reference[0]).abs().max().item()
    print(f"{function.__name__}: output and four gradients agree; largest difference {largest:.0e}")

# Two negative controls: one per cent more width, and keys of many lengths, would have been noticed.
assert not torch.allclose(by_dot_product(clock(query), clock(key), width * 1.01), reference[0], atol=1e-4)
uneven = clock(key) * torch.linspace(0.5, 1.5, 7)[:, None]
difference = by_dot_product(clock(query), uneven, width) - by_formula(clock(query), uneven, width)
assert difference.abs().max() > 0.1
print(f"keys of many lengths: outputs differ by up to {difference.abs().max():.2f}")

# %% [markdown]
# So a dot product asks for two things at once: *near* and *long*. A long key gets more weight than its
# distance deserves. Where that is not wanted, keys can be brought to one length, or a number be added to
# each that makes up for it (exercise 1.3).

# %% [markdown]
# ### It is a mean: the Kelvin test
#
# If weights sum to one, then it cannot matter whether we turn degrees Celsius into kelvins before taking
# the mean or after it. If they sum to anything else, it does. That makes a test that a wrong version fails,
# whatever the shapes:


# %%
def passes_kelvin_test(weights):
    return torch.allclose(weights @ (degrees + 273.15), weights @ degrees + 273.15, atol=1e-2)


closeness = gaussian((asked[:, None] - hour[None, :]) / 1.0)  # (query, key)
forgotten = closeness / closeness.sum()  # divided by the sum of the whole table, not of each row
assert passes_kelvin_test(closeness / closeness.sum(dim=-1, keepdim=True))
assert not passes_kelvin_test(forgotten)
print("weights that sum to one pass the Kelvin test, others do not")

# %% [markdown]
# ### The convex hull, in two dimensions
#
# Stretch a rubber band around some points on a board: what lies inside is their **convex hull**. A mean
# with weights that are non-negative and sum to one always lies in the hull of what it averages. In one
# dimension that says: no estimate is warmer than the warmest reading. In two dimensions you can see it.
#
# Back to the dictionary, whose values are pairs: legs and wheels. Ask it two thousand random questions,
# sensible or not, with kernels of many widths. **Predict:** where can the answers lie? What can never come
# out?

# %% tags=["claim-C02"]
key = torch.tensor(list(entries.values()), dtype=torch.float)  # (key, 7)
value = torch.tensor(list(counted.values()), dtype=torch.float)  # (key, 2)
generator = torch.Generator().manual_seed(3)
query = 1.5 * torch.randn(2000, 7, generator=generator)
width = 10 ** (1.5 * torch.rand(2000, 1, generator=generator) - 0.5)  # from 0.3 to 10
squared_distance = (query[:, None] - key[None]).square().sum(dim=-1)  # (query, key)
weights = masked_softmax(-squared_distance / (2 * width**2))
answers = weights @ value  # (query, key) @ (key, 2) -> (query, 2)

assert (weights >= 0).all()
assert_close(weights.sum(dim=-1), torch.ones(2000))

angle = torch.linspace(0, 2 * math.pi, 721)
direction = torch.stack([angle.cos(), angle.sin()])  # (2, direction)


def furthest_outside(points):
    """How far the worst point lies beyond the values, in the direction in which it shows most."""
    return (points @ direction - (value @ direction).amax(dim=0)).amax().item()


print(f"smallest weight {weights.min():.3f}, every row sums to one")
print(f"furthest that an answer lies outside of the hull: {max(0, furthest_outside(answers)):.5f}")
print(f"most legs in an answer: {answers[:, 0].max():.1f}; most in the dictionary: {value[:, 0].max():.1f}")
assert furthest_outside(answers) < 1e-4

# Two negative controls: weights that sum to 1.3, and weights that sum to one with some below zero.
signed = 1.6 * weights - 0.6 / len(entries)
assert_close(signed.sum(dim=-1), torch.ones(2000))
assert furthest_outside(1.3 * weights @ value) > 0.5
assert (signed < 0).any() and furthest_outside(signed @ value) > 0.5


# %%
def plot_hull(ax, points, title):
    ax.fill([0, 8, 0], [0, 0, 4], color="0.92")
    ax.plot(points[:, 0], points[:, 1], ".", color="tab:blue", markersize=2, alpha=0.5)
    ax.plot(value[:, 0], value[:, 1], "o", color="tab:orange")
    for word, place in zip(entries, value.tolist(), strict=True):
        ax.annotate(word, place, xytext=(4, 5), textcoords="offset points", fontsize=8)
    ax.set(xlabel="legs", ylabel="wheels", title=title)
    return ax


figure, ax = plt.subplots(figsize=(5.5, 2.9), layout="constrained")
plot_hull(ax, answers, "2000 answers")
plt.show()

# %% [markdown]
# *What to look at: the grey triangle is the hull of the six values, in orange. Every blue answer lies in
# it, also where no word does: two legs and one wheel, half way between cat and bicycle.*
#
# So there is the limit that the centipede met. However near it comes to the spider, it gets eight legs at
# most, since nobody in the dictionary has more. Attention *mixes* what it is shown. It cannot go beyond it.
# (Models can: after attention they apply layers that are not means.)
#
# ## 1.4 See: the width under your hand
#
# The view below computes the whole day again in the page each time you move something. Drag the query, or
# walk with the arrow keys. Then move the slider. **Predict first:** what becomes of the curve when the
# width goes to its smallest, and what when it goes to its largest? What becomes of the map beside it?

# %%
kernel_regression_view(
    hour, degrees, asked[::2], truth=truth[::2], width=1.0, xlabel="hour", ylabel="degrees",
    title="How warm was it?",
)  # fmt: skip

# %% [markdown]
# *What to look at: below the curve stands the kernel, around the query. Its height at each reading, divided
# by the sum of all those heights, is the weight: one row of the map. Narrow kernels make the map a thin
# diagonal: each query looks at one reading. Wide ones make it even and pale. The line at the bottom tells
# the error.*
#
# Try the boxcar at a width below half an hour. The curve has holes, where no reading is near enough, and
# the error shown leaves those queries out: do not take it for a good one. Section 1.6 is about what a
# program does there.
#
# ## 1.5 Use: learn the width
#
# You can find a good width by looking at the error. But that error needs the true curve, which in earnest
# nobody has. What we do have is the readings. So hide one reading, estimate it from the others, and see how
# far off you are. Do so with each in turn. This is **leave-one-out** validation, and in attention it is a
# mask: every reading is a query, every reading is a key, and *no query may attend to itself*.
#
# The width sits in the score, $s_{ij} = -(q_i - k_j)^2 / (2h^2)$, and everything after it can be
# differentiated. So gradient descent can learn $h$ (we learn $\log h$, so that it stays positive):


# %%
def reading_loss(log_width, mask=None):
    """Mean squared error of the readings, each estimated from those that it may attend to."""
    distance = hour[:, None] - hour[None, :]  # (query, key): the readings ask each other
    scores = -(distance**2) / (2 * (2 * log_width).exp())  # exp(2 log h) is h squared
    return (masked_softmax(scores, mask) @ degrees - degrees).square().mean()


def learn_width(mask=None, steps=400):
    """Start at 6 hours; return the widths and losses of all steps."""
    log_width = torch.tensor(math.log(6.0), requires_grad=True)
    optimizer = torch.optim.Adam([log_width], lr=0.03)
    widths, losses = [], []
    for _ in range(steps):
        loss = reading_loss(log_width, mask)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        widths.append(log_width.exp().item())
        losses.append(loss.item())
    return widths, losses


def grade(width):
    """Error against the true curve of a Gaussian kernel of this width."""
    scores = -((asked[:, None] - hour[None, :]) ** 2) / (2 * width**2)  # (query, key)
    return error(masked_softmax(scores) @ degrees)


others = ~torch.eye(len(hour), dtype=torch.bool)  # (query, key): all but oneself
widths, losses = learn_width(others)
learned = widths[-1]
for step in (0, 20, 40, 80, 399):
    print(f"step {step:3}: width {widths[step]:.2f} hours, leave-one-out error {math.sqrt(losses[step]):.2f}")

# %% [markdown]
# Is it any good? Now, and only now, take out the true curve. The best width of all is found by trying many
# against it, which is cheating, and shows how much was to be had.

# %% tags=["claim-C03"]
tried = torch.logspace(-2.5, 1.5, 200)
best = min(tried.tolist(), key=grade)
print(f"learned without the truth: width {learned:.2f} hours, error {grade(learned):.2f} degrees")
print(f"best, found by cheating:   width {best:.2f} hours, error {grade(best):.2f} degrees")
print(f"nearest reading {error(nearest):.2f}, average {error(average):.2f}")
assert 0.3 < learned < 3
assert grade(learned) < 1.3 * grade(best)
assert grade(learned) < 0.8 * error(nearest) and grade(learned) < 0.5 * error(average)

# %% [markdown]
# One number was learned, and it is part of the score. This is the step from a regression of 1964 to the
# attention of today: **learning the width is learning the score.** Later chapters keep the softmax and the
# mean, and put whole matrices where the width was.
#
# ### Why not look at yourself?
#
# The mask `others` may seem a detail. **Predict:** if we leave it out, so that each reading may attend to
# itself too, which width wins?

# %%
selfish_widths, selfish_losses = learn_width(mask=None)
collapsed = selfish_widths[-1]
print(f"width after 400 steps: {60 * collapsed:.0f} minutes, and still shrinking")
print(f"error on the readings {math.sqrt(selfish_losses[-1]):.2f} degrees")
print(f"error against the true curve {grade(collapsed):.2f} degrees")
assert collapsed < 0.25 * learned and selfish_widths[-1] < selfish_widths[-50]
assert selfish_losses[-1] < 0.25 * losses[-1] and grade(collapsed) > 1.2 * grade(learned)


# %%
figure, axes = plt.subplots(1, 2, figsize=(9, 2.7), layout="constrained")
for name, mask, style in (("from the others", others, "-"), ("oneself included", None, ":")):
    curve = [reading_loss(width.log(), mask).sqrt().item() for width in tried]
    axes[0].plot(tried, curve, style, color="tab:blue", label=f"error on readings, {name}")
against_truth = [grade(width) for width in tried]
axes[0].plot(tried, against_truth, color="black", linestyle="--", label="error against truth")
axes[0].axvline(learned, color="tab:red", linewidth=1)
axes[0].set(xscale="log", xlabel="width (hours)", ylabel="degrees")
axes[0].legend(fontsize="x-small")
learned_curve, _ = nadaraya_watson(asked, hour, degrees, gaussian, learned)
plot_day(axes[1], learned_curve, "learned width")
plt.show()

# %% [markdown]
# *What to look at: on the left the dotted line, where each reading may look at itself, falls to zero with
# the width. The solid one turns back up, and its lowest point (red) lies close to that of the dashed line,
# which nobody could see while learning.*
#
# With itself in view, the best estimate of a reading is that reading. So the width goes on shrinking,
# towards a loss of zero, and what comes out is the nearest reading. Errors on the readings got smaller, and
# answers got worse. The mask takes the easy answer away. You will meet the same idea in chapter 7, where a
# word must be predicted and may not be seen.
#
# ### Does the kernel matter?
#
# **Predict:** with the best leave-one-out width for each kernel, which of the four comes closest to the
# true curve? By how much?


# %%
def leave_one_out(kernel, width):
    closeness = kernel((hour[:, None] - hour[None, :]) / width) * others  # (query, key)
    weights = masked_softmax(closeness.log(), closeness > 0)
    return (weights @ degrees - degrees).square().mean().item()


by_name = {}
for name, kernel in kernels.items():
    width = min(torch.logspace(-0.5, 1, 100).tolist(), key=lambda h, kernel=kernel: leave_one_out(kernel, h))
    closeness = kernel((asked[:, None] - hour[None, :]) / width)  # (query, key)
    by_name[name] = error(masked_softmax(closeness.log(), closeness > 0) @ degrees)
    print(f"{name:13} best width {width:.2f} hours, error {by_name[name]:.2f} degrees")
for width in (learned / 4, 4 * learned):
    print(f"{'Gaussian':13}      width {width:.2f} hours, error {grade(width):.2f} degrees")
assert max(by_name.values()) < min(grade(learned / 4), grade(4 * learned))

# %% [markdown]
# Look at both columns. The same number of hours means something else for each kernel, so widths of
# different kernels cannot be compared. And look at the errors: the worst kernel at its own width does
# better than the best kernel at a quarter of the width, or at four times. On this day, choosing the width
# matters more than choosing the kernel.
#
# ## 1.6 Break it
#
# For each: predict the symptom, run, explain.
#
# **1. The width goes to zero, and to infinity.** You have seen both ends of the slider. What exactly are
# they? And one trap: does `nadaraya_watson` of section 1.2, as we wrote it, survive a width of three
# seconds?

# %%
three_seconds, three_years = 3 / 3600, 3 * 365 * 24.0
distance = asked[:, None] - hour[None, :]  # (query, key)
at_zero = masked_softmax(-(distance**2) / (2 * three_seconds**2)) @ degrees
at_infinity = masked_softmax(-(distance**2) / (2 * three_years**2)) @ degrees
assert_close(at_zero, nearest)
assert_close(at_infinity, average)
print("by softmax: a tiny width is the nearest reading, a huge one the average")

naive, _ = nadaraya_watson(asked, hour, degrees, gaussian, three_seconds)
print(f"by the formula of section 1.2: {naive.isnan().sum()} of {len(naive)} estimates are NaN")
assert naive.isnan().sum() > len(naive) / 2

# %% [markdown]
# The two failures of section 1.1 are the two ends of one scale. And the formula breaks down where softmax
# does not: $e^{-u^2/2}$ of a large $u$ is smaller than the smallest number a computer has, so it becomes
# zero, and zero is divided by zero. Softmax first subtracts the largest score of the row, which changes no
# weight, and then the largest power is $e^0 = 1$. That is why code works with scores, and not with kernels.
#
# **2. A window with nothing in it.** A boxcar of ten minutes, in a day with 40 readings. What does the
# formula say where no reading is near? What does `masked_softmax`?

# %%
ten_minutes = 1 / 6
naive, _ = nadaraya_watson(asked, hour, degrees, boxcar, ten_minutes)
closeness = boxcar(distance / ten_minutes)  # (query, key)
weights = masked_softmax(closeness.log(), mask=closeness > 0)
empty = closeness.sum(dim=-1) == 0
print(f"{empty.sum()} of {len(asked)} queries have no reading within ten minutes")
print("formula:       ", naive[empty][:3])
print("masked_softmax:", (weights @ degrees)[empty][:3])
print(f"error over the day by the formula: {error(naive):.2f}")
assert empty.any() and naive[empty].isnan().all() and not naive[~empty].isnan().any()
assert (weights[empty] == 0).all() and ((weights @ degrees)[empty] == 0).all()

# %% [markdown]
# The formula gives NaN, and a single NaN spoils every mean that it enters: in training, all weights of a
# model. The library gives weights of zero, so the output is zero, and nothing spreads. But do not take that
# zero for an answer. It was not zero degrees. It means that nobody was asked, and you can tell by the sum
# of the weights, which is zero too.
#
# **3. Weights that do not sum to one, and weights below zero.** In section 1.3 both were caught. Where do
# the answers of the dictionary go if the weights sum to 1.3? Where, if they sum to one but some are
# negative? Sketch both clouds before you look.

# %%
squared_distance = (query[:, None] - key[None]).square().sum(dim=-1)  # (query, key): words, as in 1.3
weights = masked_softmax(-squared_distance / 2)
too_much = 1.3 * weights
negative = 1.6 * weights - 0.6 / len(entries)  # sums to one: 1.6 - 0.6
assert_close(negative.sum(dim=-1), torch.ones(2000))
assert (negative < 0).any()

figure, axes = plt.subplots(1, 2, figsize=(9, 2.9), layout="constrained", sharex=True, sharey=True)
plot_hull(axes[0], too_much @ value, "weights that sum to 1.3")
plot_hull(axes[1], negative @ value, "sum one, some negative")
print(f"furthest outside, sum 1.3:  {furthest_outside(too_much @ value):.2f}")
print(f"furthest outside, negative: {furthest_outside(negative @ value):.2f}")
assert furthest_outside(too_much @ value) > 0.5 and furthest_outside(negative @ value) > 0.5

# %% [markdown]
# *What to look at: on the left the cloud is blown up from the origin and leaves through the far side. On
# the right it is blown up around the middle of the six values, and leaves on all sides: fewer than no
# legs.*
#
# Both halves of the claim are needed. A sum of one alone does not keep you in the hull, and weights that
# are not negative alone do not either. The Kelvin test of section 1.3 finds the first mistake. It cannot
# find the second, where the sum is right.
#
# ## 1.7 Exercises
#
# Write into the cells in place of `...` and run them. `check` tries your function on small inputs, drawn
# anew each time. If something is wrong it says what, on which input, and which mistake it is, where it
# knows the mistake. Only what your function does counts, not how it is written. Hints come in two steps,
# then the solution; all are folded. `progress()`, from the same module, lists what you have solved in all
# chapters. It is kept on your machine alone.

# %%
from course_lib.exercises import check

# %% [markdown]
# **1.1 One line.** Given `scores` (query, key) and `values` (key, d), return the pooled values (query,
# d): for each query the mean of the values, weighted by the softmax of its scores.


# %% tags=["exercise"]
def pool(scores, values): ...


check("1.1", pool)

# %% [markdown]
# <details><summary>Hint 1</summary>Scores are not weights yet. Along which axis must they sum to
# one?</details>
# <details><summary>Hint 2</summary>The softmax runs over the keys, the last axis of the scores. A
# weighted mean for every query at once is a product of two matrices.</details>
# <details><summary>Solution</summary>
#
# ```python
# def pool(scores, values):
#     return scores.softmax(dim=-1) @ values
# ```
#
# The last axis counts the keys. With `dim=0` the queries would compete with one another. Equal scores
# then no longer give the plain mean.
# </details>
#
# **1.2 A kernel for vectors.** For queries (query, d) and keys (key, d) return the Gaussian weights
# (query, key) of a given width, without a loop. With a width of 0.5 it gives the map of the first cell.


# %% tags=["exercise"]
def gaussian_weights(query, key, width): ...


check("1.2", gaussian_weights)

# %% [markdown]
# <details><summary>Hint 1</summary>Every query meets every key: <code>query[:, None]</code> against
# <code>key[None]</code> has the shape (query, key, d).</details>
# <details><summary>Hint 2</summary>Sum the squares over the last axis, divide by minus twice the squared
# width, and take the softmax over the keys.</details>
# <details><summary>Solution</summary>
#
# ```python
# def gaussian_weights(query, key, width):
#     squared_distance = (query[:, None] - key[None]).square().sum(dim=-1)
#     return (-squared_distance / (2 * width**2)).softmax(dim=-1)
# ```
#
# In the first cell the squared distance is multiplied by $-2$, and $1 / (2 \cdot 0.5^2) = 2$. The softmax
# takes the kernel's logarithm, so far from all keys, where the kernel itself is rounded to zero, nothing
# is divided by zero.
# </details>
#
# **1.3 Keys of any length.** Section 1.3 needed keys of one length. Do without: give queries (query, d)
# and keys (key, d) one more number each, so that for *any* keys $q \cdot k_j$ alone yields the Gaussian
# weights of width 1. Return both, the queries first.


# %% tags=["exercise"]
def lengthen(query, key): ...


check("1.3", lengthen)

# %% [markdown]
# <details><summary>Hint 1</summary>Which term of the formula in section 1.3 is missing in the dot
# product? It depends on the key alone.</details>
# <details><summary>Hint 2</summary>A dot product adds up products. Give the key its missing term, and the
# query a 1 to multiply it by.</details>
# <details><summary>Solution</summary>
#
# ```python
# def lengthen(query, key):
#     ones = torch.ones(len(query), 1)
#     missing = -key.square().sum(dim=1, keepdim=True) / 2
#     return torch.cat([query, ones], dim=1), torch.cat([key, missing], dim=1)
# ```
#
# So a dot product can do whatever a Gaussian kernel can, if it may have one more number. (There are other
# right answers, and the check takes them: it looks at the weights alone.)
# </details>
#
# **1.4 Every reading twice.** By mistake all readings were entered twice: `hour.repeat(2)`,
# `degrees.repeat(2)`. What would leave-one-out learn with a mask that hides each reading from itself?
# Write the mask (query, key) that mends it. It is given the hours, repeated as said; all others differ.


# %% tags=["exercise"]
def honest_mask(hour): ...


check("1.4", honest_mask)

# %% [markdown]
# <details><summary>Hint 1</summary>Hiding a reading from itself is of no use if its twin stays in view.
# What do the two have in common, and with no other?</details>
# <details><summary>Hint 2</summary>The hours down against the hours across, and a comparison that is True
# where they differ.</details>
# <details><summary>Solution</summary>
#
# ```python
# def honest_mask(hour):
#     return hour[:, None] != hour[None, :]
# ```
#
# With `~torch.eye(80, dtype=torch.bool)` each reading sees its twin, whose value is the same: the width
# shrinks as if there were no mask. Duplicates that stand on both sides of a split between training and
# test do the same harm in any model.
# </details>
#
# **1.5 Find the bug.** With width 1 this function agrees with ours to the last digit. With any other it
# does not. Mend it.


# %% tags=["exercise"]
def suspicious_weights(query, key, width):
    scores = -((query[:, None] - key[None, :]) ** 2) / 2 * width**2
    return scores.softmax(dim=-1)


check("1.5", suspicious_weights)

# %% [markdown]
# <details><summary>Hint 1</summary>Try a width of 100 hours. What should come out, and what
# does?</details>
# <details><summary>Hint 2</summary>In which order does Python divide and multiply?</details>
# <details><summary>Solution</summary>
#
# ```python
# def suspicious_weights(query, key, width):
#     scores = -((query[:, None] - key[None, :]) ** 2) / (2 * width**2)
#     return scores.softmax(dim=-1)
# ```
#
# The width stands under the fraction bar in the formula, but `x / 2 * width**2` is `(x / 2) * width**2`.
# A large "width" gave the nearest reading, not the average. Some models do put a learned number there on
# purpose. Then it is an inverse width: the larger, the sharper.
# </details>
#
# **1.6 Open end: what to look at, and what to ignore.** Let each reading have a second number that has
# nothing to do with the temperature. Give each of the two numbers a width of its own,
#
# $$ s_{ij} = -\frac{(q_{i1} - k_{j1})^2}{2h_1^2} - \frac{(q_{i2} - k_{j2})^2}{2h_2^2} $$
#
# and learn both by leave-one-out, each from 6. Which one should become large? Write down what you expect
# before you run it. Return the two widths, that of the hour first. The goal, measured on another day with
# 80 readings: the useless number gets ten times the width of the useful one.


# %% tags=["exercise"]
def learn_two_widths(hour, degrees, useless): ...


check("1.6", learn_two_widths)

# %% [markdown]
# <details><summary>Hint 1</summary>Begin with <code>reading_loss</code> and <code>learn_width</code> of
# section 1.5. What needs to change is one line of scores, and one tensor that holds two
# logarithms.</details>
# <details><summary>Hint 2</summary>Stack the two numbers of a reading, (reading, 2), and divide them by
# their widths. Half the squared distance of two such rows is minus the score. The mask has a row for each
# reading of <i>this</i> day.</details>
# <details><summary>Solution</summary>
#
# ```python
# def learn_two_widths(hour, degrees, useless):
#     keys = torch.stack([hour, useless], dim=-1)  # (key, 2)
#     others = ~torch.eye(len(hour), dtype=torch.bool)
#     log_width = torch.full((2,), math.log(6.0), requires_grad=True)
#     optimizer = torch.optim.Adam([log_width], lr=0.03)
#     for _ in range(400):
#         scaled = keys / log_width.exp()
#         scores = -(scaled[:, None] - scaled[None]).square().sum(dim=-1) / 2
#         loss = (masked_softmax(scores, others) @ degrees - degrees).square().mean()
#         optimizer.zero_grad()
#         loss.backward()
#         optimizer.step()
#     return log_width.exp().tolist()
# ```
#
# A large width makes all distances small: that number is ignored. You have taught a score what to look
# at. Run the check some times: every time the day is another one, and now and then the useless number's
# width falls short. Among few readings, chance alone can make a useless number look a little useful.
# </details>
#
# ## 1.8 What we showed
#
# - A soft dictionary answers any query with a mean of its values, weighted by how near their keys are.
# - The weights are non-negative and sum to one, so an answer lies in the convex hull of the values: seen in
#   two dimensions, with two thousand queries (C02). Take away either half, and answers leave it.
# - Nadaraya-Watson regression is attention: its weights are a softmax of the kernel's logarithm, masked to
#   the kernel's window. With a Gaussian kernel and keys of one length it equals scaled dot-product
#   attention, values and gradients. Its width sits in the score; we learned it by gradient descent, and on
#   our day it came close to the best there was (C03).
# - Where each query may see its own answer, learning goes astray: the width shrinks towards nothing.
# - Softmax survives where the plain formula divides zero by zero.
#
# **What the papers say.** [Nadaraya (1964)](https://doi.org/10.1137/1109020) and [Watson
# (1964)](https://www.jstor.org/stable/25049340) propose the weighted mean, with a kernel chosen by hand.
# [Epanechnikov (1969)](https://doi.org/10.1137/1114019) asks which kernel is best, for densities, and finds
# the parabola; the other three of this chapter are at most 7 per cent less efficient, for many data
# (Silverman, *Density Estimation*, 1986, table 3.1). On our forty readings the boxcar fell further behind.
# [Bahdanau et al. (2014)](https://arxiv.org/abs/1409.0473) let a network learn the score, and put the
# weighted mean into a translator. [Graves et al. (2014)](https://arxiv.org/abs/1410.5401) multiply their
# scores by a learned *key strength*: the inverse width of exercise 1.5. Separate keys and values are looked
# up softly in [Miller et al. (2016)](https://arxiv.org/abs/1606.03126); query, key and value became the
# usual three words with [Vaswani et al. (2017)](https://arxiv.org/abs/1706.03762); and [Tsai et al.
# (2019)](https://arxiv.org/abs/1908.11775) read the Transformer's attention as a kernel smoother, as we did
# here.
#
# **What comes next.** Here the keys were given: hours, or seven numbers that we made up. Chapter 2 gives
# the same weighted mean to a translator, where queries and keys are states of a network, and the score is
# learned with everything else.
