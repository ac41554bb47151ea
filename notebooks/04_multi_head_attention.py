# %% [markdown]
# # 4 · Multi-head attention
#
# **The question.** One attention gives each query one set of weights, and so one mean of the values. What
# if a query has two things to ask? And when eight attentions run side by side, what do they cost, and do
# they really do different things?
#
# **You will be able to**
# - show a task that one head cannot solve, and say by how much it must fail;
# - split a width into heads, and say what each axis counts at every step;
# - copy parameters between your layer, the library's and PyTorch's, and get the same values and gradients;
# - say exactly what attention does to a set whose order changes;
# - grade heads against a known truth, take them out one by one, and not be fooled by maps that differ.
#
# **You should know** chapter 3 (queries, keys, values, $\sqrt{d_k}$, masks).
#
# **Time.** The chapter runs in less than 90 seconds on a laptop's CPU, without a network.

# %%
import copy
import math
import time
from collections import Counter

import matplotlib.pyplot as plt
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence
from torch.testing import assert_close
from torch.utils.flop_counter import FlopCounterMode

from course_lib.attention import (
    MultiHeadAttention,
    causal_mask,
    padding_mask,
    record_attention,
    scaled_dot_product_attention,
)
from course_lib.data import lexicon
from course_lib.data.translation import load_translation
from course_lib.data.vocabulary import Vocabulary
from course_lib.training import PairBatches, fit
from course_lib.widgets import head_view, model_view

torch.manual_seed(4)
torch.set_printoptions(precision=3, sci_mode=False)
torch.set_num_threads(1)  # these tensors are small: more threads would mostly wait for one another

# %% [markdown]
# ## 4.1 Two questions at once
#
# Eight guests sit at a round table. Each has a **name**, a **number** known to nobody else, and a **note**
# that says who sits on the left and who on the right. We meet the guests in any order, so the place in the
# list says nothing.
#
# The task: every guest reports two numbers, the left neighbour's and the right neighbour's, **in this
# order**.

# %%
GUESTS = 8


def make_tables(count, generator):
    """Return notes, names, numbers and the wanted pairs of numbers, each (table, guest, width)."""
    name = torch.rand(count, GUESTS, generator=generator).argsort(dim=1)  # seat by seat, round the table
    number = torch.randn(count, GUESTS, generator=generator)
    # Names, those on the left and those on the right; then the same for the numbers.
    columns = [neighbour for c in (name, number) for neighbour in (c, c.roll(1, dims=1), c.roll(-1, dims=1))]

    order = torch.rand(count, GUESTS, generator=generator).argsort(dim=1)  # they come in any order
    columns = [column.gather(1, order) for column in columns]
    name, left, right, number, left_number, right_number = columns
    notes = torch.cat([F.one_hot(left, GUESTS), F.one_hot(right, GUESTS)], dim=-1).float()
    names = F.one_hot(name, GUESTS).float()
    return notes, names, number[:, :, None], torch.stack([left_number, right_number], dim=-1)


test_notes, test_names, test_numbers, test_wanted = make_tables(2000, torch.Generator().manual_seed(0))
for axes, tensor in (
    ("notes   (table, guest, left + right)", test_notes),
    ("names   (table, guest, name)", test_names),
    ("numbers (table, guest, 1)", test_numbers),
    ("wanted  (table, guest, side)", test_wanted),
):
    print(f"{axes:38}{tuple(tensor.shape)}")

print("\nthe first table\nname  left  right   number     wanted: left   right")
for guest in range(GUESTS):
    left, right = test_notes[0, guest].view(2, GUESTS).argmax(dim=1).tolist()
    left_number, right_number = test_wanted[0, guest].tolist()
    print(
        f"{test_names[0, guest].argmax():4}{left:6}{right:7}{test_numbers[0, guest, 0]:9.2f}"
        f"{left_number:17.2f}{right_number:8.2f}"
    )

# %% [markdown]
# Take the guest in the first line and find its two numbers yourself: look up its left and its right
# neighbour in the column of names.
#
# You have just attended twice. Your **queries** came from the note, you compared them with **keys**, the
# names, and what you took home were **values**, the numbers. An attention layer can do the same. Here is
# the one of chapter 3, with a fourth matrix for what comes out.


# %%
class OneHead(nn.Module):
    """Attention of full width: output = Attention(x_q W^Q, x_k W^K, x_v W^V) W^O."""

    def __init__(self, d_model):
        super().__init__()
        self.query_projection = nn.Linear(d_model, d_model)
        self.key_projection = nn.Linear(d_model, d_model)
        self.value_projection = nn.Linear(d_model, d_model)
        self.output_projection = nn.Linear(d_model, d_model)

    def forward(self, query, key, value, mask=None):
        q, k, v = self.query_projection(query), self.key_projection(key), self.value_projection(value)
        output, self.weights = scaled_dot_product_attention(q, k, v, mask)  # weights (batch, query, key)
        return self.output_projection(output)


class RoundTable(nn.Module):
    """Queries from the notes, keys from the names, values from the numbers; two numbers are read out."""

    def __init__(self, attention, read_out, d_model=32):
        super().__init__()
        self.note_input = nn.Linear(2 * GUESTS, d_model)
        self.name_input = nn.Linear(GUESTS, d_model)
        self.number_input = nn.Linear(1, d_model)
        self.attention = attention
        self.read_out = read_out

    def forward(self, notes, names, numbers):
        output = self.attention(self.note_input(notes), self.name_input(names), self.number_input(numbers))
        return self.read_out(output)  # (table, guest, d_model) -> (table, guest, side)


generator = torch.Generator().manual_seed(1)
tables = [make_tables(64, generator) for _ in range(600)]  # the same for every model


def table_loss(model, batch):
    notes, names, numbers, wanted = batch
    return F.mse_loss(model(notes, names, numbers), wanted), len(wanted)


def table_error(model):
    """Mean squared error of the left and of the right number. Always answering 0 makes an error of 1."""
    with torch.no_grad():
        output = model(test_notes, test_names, test_numbers)
    return (output - test_wanted).square().mean(dim=(0, 1)).tolist()


def train_at_table(model):
    fit(model, tables, table_loss, epochs=1, learning_rate=1e-2, progress=False)
    return table_error(model)


def size(model):
    return sum(parameter.numel() for parameter in model.parameters())


# %% [markdown]
# The numbers are drawn with mean 0 and variance 1, so whoever always answers 0 makes a mean squared error
# of 1. **Predict:** what will the head do with its one set of weights? What will the error of the left
# number be, and what that of the right?

# %%
torch.manual_seed(0)
one_head = RoundTable(OneHead(32), nn.Linear(32, 2))
one_head_error = train_at_table(one_head)
print(f"always 0:  error left 1.00, right 1.00, mean 1.00    (measured {test_wanted.square().mean():.2f})")
left, right = one_head_error
print(f"one head:  error left {left:.2f}, right {right:.2f}, mean {(left + right) / 2:.2f}")

# %% [markdown]
# It reports the number of one neighbour without a fault, and knows nothing of the other. More training
# would not help. Let us see why not.
#
# A query's weights are the same for everything that it takes home. Say it puts the weight $\alpha$ on the
# left neighbour and $\beta$ on the right. What arrives of their numbers $l$ and $r$ is one message,
#
# $$ m = \alpha\, l + \beta\, r . $$
#
# The output is 32 channels wide, but all of them are made from the same $m$. Two numbers are wanted, one
# came. With $\alpha = \beta = \tfrac12$ the pairs $(3, 5)$ and $(5, 3)$ both arrive as 4. With unequal
# weights other pairs collide: $\tfrac34 \cdot 4 + \tfrac14 \cdot 0 = 3$ and $\tfrac34 \cdot 3 + \tfrac14
# \cdot 3 = 3$.
#
# How good can an answer be? The weights are made from notes and names, so they know nothing of the numbers,
# which are independent, of mean 0 and variance 1. Guess $l$ by a multiple of the message, $c\,m$. The error
# $l - c\,m$ is $(1 - c\alpha)\, l - c\beta\, r$, so its mean square is
#
# $$ (1 - c\alpha)^2 + c^2 \beta^2 = 1 - 2c\,\alpha + c^2 (\alpha^2 + \beta^2) . $$
#
# This is smallest at $c = \frac{\alpha}{\alpha^2 + \beta^2}$, where it is $1 - \frac{\alpha^2}{\alpha^2 +
# \beta^2}$. For $r$ it is $1 - \frac{\beta^2}{\alpha^2 + \beta^2}$. Add the two:
#
# $$ \text{error}_l + \text{error}_r = 2 - \frac{\alpha^2 + \beta^2}{\alpha^2 + \beta^2} = 1 . $$
#
# (Weight on anybody else only adds noise.) Whatever the weights, **half of what is wanted is lost**: a mean
# error of 0.5 at least. This holds for any read-out, however clever, since for normal numbers the best
# guess is a linear one. Three checks: the sum for some weights, the trained head, and a trained head whose
# read-out is a network with a hidden layer.

# %%
left, right = test_wanted.flatten(0, 1).unbind(dim=-1)  # each (table * guest)
print("weights left, right    error left   right   sum")
for alpha, beta in ((1.0, 0.0), (0.75, 0.25), (0.5, 0.5)):
    message = alpha * left + beta * right
    error_left = (left - alpha / (alpha**2 + beta**2) * message).square().mean().item()
    error_right = (right - beta / (alpha**2 + beta**2) * message).square().mean().item()
    print(f"{alpha:7.2f}{beta:9.2f}{error_left:18.2f}{error_right:8.2f}{error_left + error_right:7.2f}")

torch.manual_seed(0)
clever = RoundTable(OneHead(32), nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 2)))
clever_error = train_at_table(clever)
print(f"\none head, linear read-out: mean error {sum(one_head_error) / 2:.2f}")
print(f"one head, hidden layer:    mean error {sum(clever_error) / 2:.2f}")
assert 0.45 < sum(one_head_error) / 2 < 0.6 and 0.45 < sum(clever_error) / 2 < 0.6

# %% [markdown]
# (The sums stay a little below 1. By chance the test numbers vary a little less than they should, and
# neighbours are a little alike.) The head is not badly trained. It is as good as one set of weights allows.
# We need a second set.
#
# ## 4.2 Build: several small attentions side by side
#
# Make the attentions **narrower** and take several. With $H$ heads and the width $d_{\text{model}}$ each
# head gets $d_k = d_{\text{model}} / H$. Head $h$ has matrices of its own, $W^Q_h$, $W^K_h$ and $W^V_h$,
# each of shape $(d_{\text{model}}, d_k)$. What the heads bring home is laid side by side and mixed by a
# last matrix:
#
# $$ \text{head}_h = \mathrm{Attention}(x_q W^Q_h,\; x_k W^K_h,\; x_v W^V_h), \qquad
#    \text{output} = \mathrm{Concat}(\text{head}_1, \dots, \text{head}_H)\, W^O $$
#
# That is section 3.2.2 of [*Attention is all you need*](https://arxiv.org/abs/1706.03762). The formula
# counts heads from 1, as the paper does; the code counts from 0.
#
# Each head does its own softmax. That is the whole point, and numbers small enough for the back of an
# envelope show it: one query, two keys, a width of 2. Read the first three lines of the cell. **Predict**
# the weights of one head of width 2, then those of two heads of width 1. (You need $e^{\ln 3} = 3$.)

# %% tags=["nbval-check-output"]
query = torch.tensor([[1.0, 1.0]])  # (query, d_model)
key = torch.tensor([[math.log(3), 0.0], [0.0, math.log(3)]])  # (key, d_model)
value = torch.tensor([[10.0, 10.0], [20.0, 20.0]])  # (key, d_model)

output, weights = scaled_dot_product_attention(query, key, value)
print("one head of width 2:  weights", weights, " output", output)

for h in range(2):
    head, weights = scaled_dot_product_attention(query[:, [h]], key[:, [h]], value[:, [h]])  # width 1
    print(f"head {h} of width 1:    weights", weights, " output", head)

# %% [markdown]
# For the one head both scores are $\ln 3 / \sqrt 2$: equal, so it takes the mean of 10 and 20. Head 0 sees
# the first column only. Its scores are $(\ln 3, 0)$, divided by $\sqrt{1}$, its weights $3 : 1$, and it
# brings $\tfrac34 \cdot 10 + \tfrac14 \cdot 20$. Head 1 has it the other way round. Same numbers, two
# means.
#
# ### Heads are a reshape
#
# $H$ matrices of shape $(d_{\text{model}}, d_k)$ stand side by side in one of shape $(d_{\text{model}},
# d_{\text{model}})$. So one large product projects for all heads at once, and the result is cut into
# pieces. Follow the numbers: in the next cell the entry of position $p$ and channel $c$ is $10p + c$.
# **Predict:** which numbers will head 1 have?


# %% tags=["nbval-check-output"]
def split_heads(x, num_heads):
    x = x.unflatten(-1, (num_heads, -1))  # (batch, position, d_model) -> (batch, position, head, d_k)
    return x.transpose(1, 2)  # -> (batch, head, position, d_k)


def merge_heads(heads):
    heads = heads.transpose(1, 2)  # (batch, head, position, d_k) -> (batch, position, head, d_k)
    return heads.flatten(2)  # -> (batch, position, d_model)


position, channel = torch.arange(1, 4), torch.arange(4)
x = (10 * position[:, None] + channel)[None]  # (batch, position, d_model): 1, 3, 4
heads = split_heads(x, num_heads=2)  # (batch, head, position, d_k): 1, 2, 3, 2
print("x", tuple(x.shape), "\n", x[0])
print("head 0", tuple(heads[0, 0].shape), "\n", heads[0, 0])
print("head 1", tuple(heads[0, 1].shape), "\n", heads[0, 1])
assert (merge_heads(heads) == x).all()  # nothing is lost, nothing is moved

# %% [markdown]
# Every head has every position, and of each position its own channels. The `transpose` is there because
# attention multiplies the last two axes, (position, d_k), and carries all axes before them along. For the
# product a head is one more kind of batch.
#
# Now the layer. Compare it with `OneHead`: what is new?


# %%
class MyMultiHeadAttention(nn.Module):
    def __init__(self, d_model, num_heads):
        super().__init__()
        self.num_heads = num_heads
        self.query_projection = nn.Linear(d_model, d_model)  # W^Q: those of all heads, side by side
        self.key_projection = nn.Linear(d_model, d_model)  # W^K
        self.value_projection = nn.Linear(d_model, d_model)  # W^V
        self.output_projection = nn.Linear(d_model, d_model)  # W^O

    def forward(self, query, key, value, mask=None):
        q = split_heads(self.query_projection(query), self.num_heads)  # (batch, head, query, d_k)
        k = split_heads(self.key_projection(key), self.num_heads)  # (batch, head, key, d_k)
        v = split_heads(self.value_projection(value), self.num_heads)  # (batch, head, key, d_k)
        heads, self.weights = scaled_dot_product_attention(q, k, v, mask)  # weights (batch, head, query, key)
        return self.output_projection(merge_heads(heads))  # (batch, query, d_model)


# %% [markdown]
# Two functions that move numbers about, and a head axis on the weights. The four matrices have the same
# size as before.
#
# ## 4.3 Prove it
#
# Is the reshape the formula? Write the formula down as it stands, head by head, and compare. One thing
# becomes visible on the way. Pieces laid side by side in one row, times a matrix, make a **sum**: with
# $W^O_h$ for the $d_k$ rows of $W^O$ that meet head $h$,
#
# $$ \mathrm{Concat}(\text{head}_1, \dots, \text{head}_H)\, W^O = \sum_{h=1}^{H} \text{head}_h\, W^O_h . $$
#
# (`nn.Linear` keeps its matrix transposed, as (out, in). The rows of $W^O_h$ are *columns* of its `weight`.
# We leave the biases at zero here; the next cell has them.)


# %%
def head_by_head(layer, query, key, value, mask=None):
    """The formula, one head after the other. Biases must be zero."""
    d_k = layer.query_projection.in_features // layer.num_heads
    total = 0
    for h in range(layer.num_heads):
        part = slice(h * d_k, (h + 1) * d_k)
        q = query @ layer.query_projection.weight[part].T  # (batch, query, d_model) @ (d_model, d_k)
        k = key @ layer.key_projection.weight[part].T  # -> (batch, key, d_k)
        v = value @ layer.value_projection.weight[part].T  # -> (batch, key, d_k)
        head, _ = scaled_dot_product_attention(q, k, v, mask)  # (batch, query, d_k)
        total = total + head @ layer.output_projection.weight[:, part].T  # (batch, query, d_model)
    return total


d_model, num_heads = 12, 3
mine = MyMultiHeadAttention(d_model, num_heads).double()
for name, parameter in mine.named_parameters():
    if name.endswith("bias"):
        nn.init.zeros_(parameter)
query = torch.randn(2, 5, d_model, dtype=torch.float64, requires_grad=True)  # (batch, query, d_model)
memory = torch.randn(2, 7, d_model, dtype=torch.float64, requires_grad=True)  # (batch, key, d_model)
assert_close(mine(query, memory, memory), head_by_head(mine, query, memory, memory))

single, one = MyMultiHeadAttention(d_model, 1).double(), OneHead(d_model).double()
single.load_state_dict(one.state_dict())
assert_close(single(query, memory, memory), one(query, memory, memory))  # with one head nothing has changed

mine.num_heads = 4  # negative control: the same matrices, cut into other pieces
other = mine(query, memory, memory)
mine.num_heads = num_heads
assert not torch.allclose(other, mine(query, memory, memory))
print("the reshape is the formula; with one head it is OneHead; cut into 4 heads it is something else")

# %% [markdown]
# Now against the library and against PyTorch's own layer, with biases and a mask, values **and** gradients.
# Two traps are on the way to `nn.MultiheadAttention`:
# - it keeps the three input matrices stacked in one, `in_proj_weight`;
# - in its boolean masks True means **may not** attend. The mask must be inverted with `~`.

# %%
mine = MyMultiHeadAttention(d_model, num_heads).double()
library = MultiHeadAttention(d_model, num_heads).double()
library.load_state_dict(mine.state_dict())  # the same names, so the weights can be handed over

theirs = nn.MultiheadAttention(d_model, num_heads, batch_first=True).double()
inputs = (mine.query_projection, mine.key_projection, mine.value_projection)
theirs.load_state_dict(
    {
        "in_proj_weight": torch.cat([projection.weight for projection in inputs]),
        "in_proj_bias": torch.cat([projection.bias for projection in inputs]),
        "out_proj.weight": mine.output_projection.weight,
        "out_proj.bias": mine.output_projection.bias,
    }
)

mask = causal_mask(7)[:5]  # (query, key), True means may attend; query i sees the keys 0 to i


def with_gradients(output, layer_weights):
    """The output, and its gradients: of both inputs, of the matrices W^Q, W^K, W^V stacked, and of W^O."""
    *input_weights, output_weight = layer_weights
    found = torch.autograd.grad(output.square().sum(), (query, memory, *input_weights, output_weight))
    return output, found[0], found[1], torch.cat(found[2:-1]), found[-1]


def weights_of(layer):
    inputs = (layer.query_projection, layer.key_projection, layer.value_projection)
    return *(projection.weight for projection in inputs), layer.output_projection.weight


by_hand = with_gradients(mine(query, memory, memory, mask), weights_of(mine))
by_library = with_gradients(library(query, memory, mask=mask), weights_of(library))
their_output, their_weights = theirs(query, memory, memory, attn_mask=~mask)  # inverted
by_torch = with_gradients(their_output, (theirs.in_proj_weight, theirs.out_proj.weight))
for a, b, c in zip(by_hand, by_library, by_torch, strict=True):
    assert_close(a, b)
    assert_close(a, c)
print("mine, course_lib and torch agree: the output and four kinds of gradients")

not_inverted, _ = theirs(query, memory, memory, attn_mask=mask)  # negative control
assert not torch.allclose(not_inverted, by_hand[0])
print(f"without the ~ the output is off by up to {(not_inverted - by_hand[0]).abs().max():.2f}")

# %% [markdown]
# A third trap lies in the second thing that PyTorch's layer returns. **Predict** the shape of
# `their_weights`: batch 2, heads 3, queries 5, keys 7.

# %% tags=["nbval-check-output"]
print("their weights by default: ", tuple(their_weights.shape))
print("the weights in our layer: ", tuple(mine.weights.shape))
assert_close(their_weights, mine.weights.mean(dim=1))
_, their_weights = theirs(query, memory, memory, attn_mask=~mask, average_attn_weights=False)
assert_close(their_weights, mine.weights)

# %% [markdown]
# By default it returns the **mean over the heads**. Each row still sums to one, so it looks like an
# attention map, but it need not be the map of any head. In this course we read weights with
# `record_attention`, which keeps the head axis.
#
# ## 4.4 Two heads at the table
#
# Back to the guests, with two heads of width 16 in place of one of width 32. Nothing else changes: the same
# tables, steps and read-out. **Predict:** the number of parameters, and the two errors.

# %%
torch.manual_seed(0)
two_heads = RoundTable(MyMultiHeadAttention(32, num_heads=2), nn.Linear(32, 2))
two_heads_error = train_at_table(two_heads)
for name, model, (left, right) in (
    ("one head of width 32 ", one_head, one_head_error),
    ("two heads of width 16", two_heads, two_heads_error),
):
    print(f"{name}  {size(model):,} parameters   error left {left:.5f}, right {right:.5f}")
assert size(one_head) == size(two_heads)
assert sum(two_heads_error) / 2 < 0.05

# %% [markdown]
# Not one parameter more, and the task is solved. We know the truth, so grade the heads: how much of its
# weight does a guest's query put on the left neighbour, and how much on the right? And what happens to each
# answer if we take one head out? The sum of section 4.3 tells how to do that: set its $W^O_h$ to zero.
# **Predict** all eight numbers, as far as you can.


# %%
def without_heads(model, heads):
    """A copy of the model in which some heads, each (name of the layer, head), add nothing to the output."""
    model = copy.deepcopy(model)
    for name, h in heads:
        layer = model.get_submodule(name)
        d_k = layer.output_projection.in_features // layer.num_heads
        with torch.no_grad():
            layer.output_projection.weight[:, h * d_k : (h + 1) * d_k] = 0  # W^O_h
    return model


weights = two_heads.attention.weights  # (table, head, query, key), from the test tables
neighbour = torch.stack(test_notes.split(GUESTS, dim=-1), dim=1)  # (table, side, query, name)
neighbour = neighbour @ test_names[:, None].transpose(-2, -1)  # -> (table, side, query, key), 1 at the truth
on_side = torch.einsum("thqk,tsqk->hs", weights, neighbour) / (len(weights) * GUESTS)  # (head, side)

print("        weight on left   right     without it: error left   right")
cost = torch.zeros(2, 2)  # (head, side)
for h in range(2):
    cost[h] = torch.tensor(table_error(without_heads(two_heads, [("attention", h)])))
    print(f"head {h}{on_side[h, 0]:16.3f}{on_side[h, 1]:8.3f}{cost[h, 0]:27.3f}{cost[h, 1]:8.3f}")
assert on_side.amax(dim=1).min() > 0.9 and on_side[0].argmax() != on_side[1].argmax()
assert (cost > 0.5).equal(on_side > 0.5), "each head is needed for its own side, and for no other"

# %%
guests = [f"guest {name}" for name in test_names[0].argmax(dim=-1).tolist()]
head_view(weights[0], guests, guests, title="One table, two heads")

# %% [markdown]
# *What to look at: queries on the left, keys on the right, one colour for each head. Every guest has one
# strong line of each colour. Switch a head off, and check with the table printed in section 4.1: do the
# lines that are left go to left neighbours?*
#
# Nobody told head 0 to take one side and head 1 the other. Which of them takes which side is chance: with
# another seed they may swap.
#
# ### Be fair to the one head
#
# "One head cannot do it" is true of *this* one, and you should know why. The floor of section 4.1 came from
# a sum in which the two numbers could not be told apart. If the **values** keep them apart, one look is
# enough. Let each guest hand over its number in the column of its own name, 8 columns wide, and let one
# head look evenly at both neighbours. We need no training for that:

# %%
values = test_names * test_numbers  # (table, key, name): the number, in the column of the guest's name
left_note, right_note = test_notes.split(GUESTS, dim=-1)  # each (table, query, name)
even = (left_note + right_note) / 2 @ test_names.transpose(-2, -1)  # (table, query, key): 1/2 and 1/2
brought = even @ values  # (table, query, name): half of each number, in its own column
answer = 2 * torch.stack([(brought * left_note).sum(-1), (brought * right_note).sum(-1)], dim=-1)
assert_close(answer, test_wanted)
print(f"one set of weights, wider values: largest error {(answer - test_wanted).abs().max():g}")

# %% [markdown]
# One head, no error at all. What did it take? Values in which name and number were multiplied beforehand, a
# width that grows with the number of guests, and a read-out that holds the note against what came. The
# layer of chapter 3 had found such a way: its values did the sorting. So be exact: **one head gives one
# mean of its values, and what two relations need must then fit into that mean.** A second head is the
# cheaper way out.
#
# ## 4.5 What do heads cost?
#
# Count first. Let $n$ be the number of positions. Each of the four projections takes $n \cdot
# d_{\text{model}}^2$ multiplications. The scores take $n^2 d_k$ for each of $H$ heads, and the means of the
# values as many:
#
# $$ \underbrace{4\, n\, d_{\text{model}}^2}_{\text{projections}} + \underbrace{2\, H\, n^2 d_k}_{\text{scores
#    and means}} \;=\; 4\, n\, d_{\text{model}}^2 + 2\, n^2 d_{\text{model}}, \qquad \text{since } H d_k =
#    d_{\text{model}} . $$
#
# $H$ has dropped out. **Predict:** is there any work left that does depend on $H$? Then count with
# PyTorch's own counter (it counts a multiplication and its addition as two), and measure the time of a
# forward and backward pass.


# %%
def best_time(models, x, rounds=20):
    """The shortest of several forward and backward passes of each model, in milliseconds."""
    seconds = {name: math.inf for name in models}
    for _ in range(rounds):  # in turns, so that whatever else the machine does meets them all
        for name, model in models.items():
            start = time.perf_counter()
            model(x, x, x).sum().backward()
            seconds[name] = min(seconds[name], time.perf_counter() - start)
    return {name: 1000 * best for name, best in seconds.items()}


def multiplications(model, x):
    with FlopCounterMode(display=False) as counter:
        model(x, x, x)
    return counter.get_total_flops() // 2


class FullWidthHeads(nn.Module):
    """For comparison: heads that are not narrowed, each of full width."""

    def __init__(self, d_model, num_heads):
        super().__init__()
        self.heads = nn.ModuleList(OneHead(d_model) for _ in range(num_heads))

    def forward(self, query, key, value):
        return sum(head(query, key, value) for head in self.heads)


# %% tags=["claim-C13"]
n, d_model = 64, 256
x = torch.randn(8, n, d_model)  # (batch, position, d_model)
layers = {f"{h} heads" if h > 1 else "1 head": MyMultiHeadAttention(d_model, h) for h in (1, 2, 4, 8, 16)}
layers["8 of full width"] = FullWidthHeads(d_model, 8)
milliseconds = best_time(layers, x)

print("                  parameters   multiplications     time   softmax entries")
for name, layer in layers.items():
    heads = 8 if "full" in name else layer.num_heads
    print(
        f"{name:16}{size(layer):12,}{multiplications(layer, x):18,}{milliseconds[name]:6.1f} ms"
        f"{8 * heads * n * n:18,}"
    )

by_formula = 8 * (4 * n * d_model**2 + 2 * n**2 * d_model)  # a batch of 8
one, many, wide = layers["1 head"], layers["8 heads"], layers["8 of full width"]
assert size(one) == size(many) and 8 * size(one) == size(wide)
assert multiplications(one, x) == multiplications(many, x) == by_formula
assert multiplications(wide, x) == 8 * by_formula
slower = milliseconds["8 heads"] / milliseconds["1 head"]
slower_wide = milliseconds["8 of full width"] / milliseconds["1 head"]
print(f"\n8 heads take {slower:.2f} times as long as one, 8 heads of full width {slower_wide:.1f} times")
assert slower < 2.5 < slower_wide

# %% [markdown]
# Parameters and multiplications are **equal**, to the last one. The time is nearly so. What does grow with
# $H$ is the last column: each head has a softmax of its own, with $n^2$ entries. With few positions that
# hardly shows. With many it does. The next cell also times `course_lib`'s layer, which hands the work to
# PyTorch's **fused kernel**: one function for scores, softmax and mean, piece by piece, so that the whole
# table of weights never stands in memory.

# %%
x = torch.randn(1, 1024, d_model)
layers = {}
for name, kind in (("weights stored", MyMultiHeadAttention), ("fused kernel", MultiHeadAttention)):
    layers[f"{name},  1 head"], layers[f"{name}, 16 heads"] = kind(d_model, 1), kind(d_model, 16)
milliseconds = best_time(layers, x, rounds=8)
print("1024 positions")
for name, best in milliseconds.items():
    print(f"{name:26}{best:6.0f} ms")
stored, fused = (milliseconds[f"{kind}, 16 heads"] for kind in ("weights stored", "fused kernel"))
assert stored > milliseconds["weights stored,  1 head"] and stored > fused

# %% [markdown]
# So the paper is exact when it calls the total cost *similar* to that of one head of full width: what is
# multiplied is equal, the table of weights is $H$ times as large. Without that table, in the fused kernel,
# more heads cost far less extra time.
#
# ## 4.6 Who asks?
#
# The layer takes three inputs. Where do they come from? There are two usual answers:
# - **self-attention**: one sequence gives all three. Every position asks its own sequence.
# - **cross-attention**: one sequence gives the queries, another one, often called the **memory**, gives
#   keys and values. Bahdanau's decoder of chapter 2 did that, one query at a time.
#
# The layer is the same, and so are its parameters. Here are two sentences of 5 words, two memories of 7,
# and a layer with 3 heads and a width of 12. **Predict** the six shapes.

# %% tags=["nbval-check-output"]
layer = MultiHeadAttention(d_model=12, num_heads=3).double()
sentence = torch.randn(2, 5, 12, dtype=torch.float64)  # (batch, position, d_model)
memory = torch.randn(2, 7, 12, dtype=torch.float64)

for name, query, key in (
    ("self ", sentence, sentence),
    ("cross, the sentence asks", sentence, memory),
    ("cross, the memory asks", memory, sentence),
):
    with torch.no_grad(), record_attention(layer) as maps:
        output = layer(query, key)  # maps are recorded by module; the layer itself has the name ""
    print(f"{name:26} output {tuple(output.shape)}   weights {tuple(maps[''].shape)}")
    assert output.shape == query.shape and maps[""].shape == (2, 3, query.shape[1], key.shape[1])

assert_close(layer(sentence), layer(sentence, sentence, sentence))  # one argument means self-attention

# %% [markdown]
# Who gives the queries decides how many rows come out: as many as there are questions. How long the memory
# is can be seen in the weights only. The table of section 4.1 is neither of the two in its pure form:
# notes, names and numbers are three different inputs about the same guests.
#
# ## 4.7 "The order does not matter"
#
# One often reads that self-attention "ignores the order", that it is "permutation-invariant", or that
# shuffling the words "changes nothing". Is it so? Take seven vectors, shuffle them, and compare.
# **Predict:** will the two outputs be equal?

# %% tags=["claim-C10"]
x = torch.randn(2, 7, 12, dtype=torch.float64)  # (batch, position, d_model)
order = torch.tensor([3, 0, 6, 1, 5, 2, 4])  # the new first is the old number 3, ...


def weights_for(x, key=None, mask=None):
    with record_attention(layer) as maps:
        layer(x, key, mask=mask)
    return maps[""]  # (batch, head, query, key)


def gap(a, b):
    """The largest difference."""
    return (a - b).abs().max().item()


with torch.no_grad():
    output, shuffled = layer(x), layer(x[:, order])
    changed, alike = gap(shuffled, output), gap(shuffled, output[:, order])
    assert changed > 0.1  # something does change: not invariant
    assert_close(shuffled, output[:, order])  # it changes exactly as the input did: equivariant
    assert_close(weights_for(x[:, order]), weights_for(x)[:, :, order][:, :, :, order])  # rows and columns
    assert_close(shuffled.mean(dim=1), output.mean(dim=1))  # the mean over positions is invariant

    asked = layer(sentence, x)
    assert_close(layer(sentence, x[:, order]), asked)  # cross-attention: the memory's order does not matter
    other = [4, 2, 0, 1, 3]
    assert_close(layer(sentence[:, other], x), asked[:, other])  # and that of the queries does

    # Negative controls: with a causal mask, or with a vector for each place, it no longer holds.
    mask, place = causal_mask(7), torch.randn(7, 12, dtype=torch.float64)
    masked = gap(layer(x[:, order], mask=mask), layer(x, mask=mask)[:, order])
    placed = gap(layer(x[:, order] + place), layer(x + place)[:, order])
    assert masked > 0.01 and placed > 0.01

print("largest difference between the output for the shuffled input and")
print(f"  the old output:                                          {changed:.1g}")
print(f"  the old output, shuffled alike:                          {alike:.1g}")
print(f"  the old output, shuffled alike, with a causal mask:      {masked:.1g}")
print(f"  the old output, shuffled alike, with marks for places:   {placed:.1g}")

# %% [markdown]
# The outputs are *not* equal. They are the old outputs **in the new order**. With $P$ for the matrix that
# shuffles the rows of $X$:
#
# $$ f(P X) = P f(X) \quad \text{(permutation-equivariant)}, \qquad \text{not} \quad f(P X) = f(X) \quad
#    \text{(permutation-invariant)}. $$
#
# Exactly, then:
# - Self-attention is **equivariant**: every word gets what it would have got in any other order. What a
#   word brings home depends on *which* words are there, not on *where* they are.
# - It becomes **invariant** if its outputs are averaged over the positions.
# - In cross-attention the output is invariant to the order of the **memory**, and equivariant in that of
#   the **queries**.
# - A causal mask breaks this, since it says who is before whom. So does a vector added at each place. That
#   is how order gets in, and chapter 5 is about it.
#
# Why does it hold? The score of a pair depends on the two vectors alone, softmax does not care in which
# order it sums, and neither does the mean of the values.
#
# ## 4.8 Heads on sentences
#
# Two heads at a table had two relations to find. What will eight heads do with sentences, where nobody has
# counted the relations? We need a task that needs several, and a truth to grade against.
#
# A **gloss** writes under each word its translation *in this sentence*. The grammar of chapter 2 has gold
# links from English to French, so we can write it down:

# %%
data = load_translation("grammar")


def gloss(pair):
    """For each English word the French words that are linked to it, or a dash where there are none."""
    french = [[] for _ in pair.source]
    for target_index, source_index in sorted(pair.alignment):
        french[source_index].append(pair.target[target_index])
    return [" ".join(words) or "–" for words in french]


glosses = [gloss(pair) for pair in data.train]
for pair in (data.test[0], data.test[6]):
    for line in (pair.source, gloss(pair)):
        print("  ".join(f"{word:9}" for word in line))
    print()

gloss_counts = {}
for pair, french in zip(data.train, glosses, strict=True):
    for word, translation in zip(pair.source, french, strict=True):
        gloss_counts.setdefault(word, Counter())[translation] += 1
several = sum(len(counts) > 1 for counts in gloss_counts.values())
print(f"{several} of {len(gloss_counts)} English words have several glosses")
print("the:", ", ".join(f"{french} {count:,}" for french, count in gloss_counts["the"].most_common(6)))

# %% [markdown]
# "The" is *le*, *la*, *l'* or *les*, and only its noun can tell. (*Du* and *au* are *le* again, run
# together with *de* and *à*.) Adjectives agree with their noun, verbs with their subject. A word has to ask
# around.
#
# The model is nothing but this chapter: vectors for words, two layers of attention with four heads each, a
# linear read-out for each word. Two things are borrowed from later chapters. A trained vector for each
# *place* is added to the word's (chapter 5), since "her cat" is not "cat her". And each layer's output is
# *added* to its input, `x = x + layer(x)`, so that a word does not forget what it is (chapter 6).

# %%
source_vocab = Vocabulary.from_sentences(pair.source for pair in data.train)
gloss_vocab = Vocabulary.from_sentences(glosses)
LONGEST = max(len(pair.source) for pair in data.train)
NUM_LAYERS, NUM_HEADS = 2, 4


class Glosser(nn.Module):
    def __init__(self, d_model=64):
        super().__init__()
        self.word = nn.Embedding(len(source_vocab), d_model)
        self.place = nn.Embedding(LONGEST, d_model)
        self.layers = nn.ModuleList(MultiHeadAttention(d_model, NUM_HEADS) for _ in range(NUM_LAYERS))
        self.read_out = nn.Linear(d_model, len(gloss_vocab))

    def forward(self, words, lengths):
        x = self.word(words) + self.place.weight[: words.shape[1]]  # (sentence, position, d_model)
        mask = padding_mask(lengths, words.shape[1])
        for layer in self.layers:
            x = x + layer(x, mask=mask)
        return self.read_out(x)  # (sentence, position, gloss)


def gloss_loss(model, batch):
    logits = model(batch.source, batch.source_lengths)
    loss = F.cross_entropy(logits.flatten(0, 1), batch.target.flatten(), ignore_index=gloss_vocab.pad_id)
    return loss, int(batch.source_lengths.sum())


def train_glosser(seed):
    torch.manual_seed(seed)
    model = Glosser()
    batches = PairBatches(
        [source_vocab.encode(pair.source) for pair in data.train],
        [gloss_vocab.encode(french) for french in glosses],
        batch_size=64,
        seed=seed,
    )
    fit(model, batches, gloss_loss, steps=800, learning_rate=1e-2)
    return model


glosser = train_glosser(seed=1)
torch.manual_seed(1)
untrained = Glosser().eval()  # the same start, without the training

# %%
test_words = pad_sequence([torch.tensor(source_vocab.encode(p.source)) for p in data.test], batch_first=True)
test_gloss = pad_sequence([torch.tensor(gloss_vocab.encode(gloss(p))) for p in data.test], batch_first=True)
test_lengths = torch.tensor([len(pair.source) for pair in data.test])
real = test_words != source_vocab.pad_id  # (sentence, position)


def is_right(model):
    with torch.no_grad():
        return model(test_words, test_lengths).argmax(dim=-1) == test_gloss  # (sentence, position)


def accuracy(model):
    return is_right(model)[real].float().mean().item()


usual = [gloss_counts[word].most_common(1)[0][0] for pair in data.test for word in pair.source]
wanted = [french for pair in data.test for french in gloss(pair)]
without_context = sum(a == b for a, b in zip(usual, wanted, strict=True)) / len(wanted)
print(f"each word's most frequent gloss: {without_context:.1%} of the test words right")
print(f"two layers of four heads:        {accuracy(glosser):.1%}")
assert without_context < 0.8 and accuracy(glosser) > 0.94

# %% [markdown]
# It works, on sentences with combinations that training never showed. Now look inside. All layers and heads
# at once, with one sentence; a click opens a head. The gold cells are known from grammar: for a determiner
# or an adjective its noun, for a verb after *I*, *we* or *they* its subject. The model was never told about
# them.

# %%
NOUNS = {form for noun in (*lexicon.NOUNS, *lexicon.BODY_PARTS) for form in noun.english}
NOUNS |= {place[0] for place in lexicon.PLACES}
ADJECTIVES = {adjective.english for adjective in lexicon.ADJECTIVES}
DETERMINERS = {"the", "a", "an", "this", "these", "some", "any", "two", "three", *lexicon.POSSESSIVES}


def relations(words):
    """Yield (kind, query, key): the positions of a word, and of the word that decides its French form."""
    for i, word in enumerate(words):
        if word in DETERMINERS | ADJECTIVES:
            j = i + 1
            while j < len(words) and words[j] in ADJECTIVES:
                j += 1
            if j < len(words) and words[j] in NOUNS:  # not so in "loves her ." and "is tired ."
                yield ("determiner" if word in DETERMINERS else "adjective"), i, j
        before = words[i - 1] if i else None
        if before in ("i", "we", "they") and len(gloss_counts[word]) > 1:
            yield "verb", i, i - 1


def maps_of(model):
    with torch.no_grad(), record_attention(model) as maps:
        model(test_words, test_lengths)
    # -> (layer, sentence, head, query, key)
    return torch.stack([maps[f"layers.{layer}"] for layer in range(NUM_LAYERS)])


maps = maps_of(glosser)
rich = [
    row
    for row, pair in enumerate(data.test)
    if len(pair.source) <= 11
    and {kind for kind, _, _ in relations(pair.source)} == {"determiner", "adjective", "verb"}
]
# Of the short sentences with relations of all three kinds, the one that has most of them.
shown = max(rich, key=lambda row: len(list(relations(data.test[row].source))))
words = data.test[shown].source
gold = {(query, key) for _, query, key in relations(words)}
model_view(maps[:, shown, :, : len(words), : len(words)], words, gold=gold, title="Two layers of four heads")

# %%
head_view(maps[:, shown, :, : len(words), : len(words)], words, layer=0, title="The same sentence, as lines")

# %% [markdown]
# *What to look at: each small picture is one head, layers from top to bottom. Look for short upright bars:
# they are neighbouring words that all look at one and the same word. Open such a head, and see whether the
# gold cells lie in the bars. In the second view switch the heads off one by one: which one draws the lines
# from articles and adjectives to their nouns?*
#
# ### Grade them
#
# One sentence is an anecdote. Take all test sentences, and three relations in which we know the answer:
# determiner to noun, adjective to noun, and verb to subject where the subject is *I*, *we* or *they*. For
# each head: how often does the largest weight fall on the right word?
#
# A number alone says little. "The noun is the next word" is a good guess too, and a head that always looks
# one place to the right would score well without knowing what a noun is. So print that guess, the best
# fixed distance, beside the heads; and the best head of the untrained model. **Predict:** will any head
# beat the fixed distance?

# %%
KINDS = ("determiner", "adjective", "verb")
places = {kind: [] for kind in KINDS}
for row, pair in enumerate(data.test):
    for kind, query, key in relations(pair.source):
        places[kind].append((row, query, key))
places = {kind: torch.tensor(rows).T for kind, rows in places.items()}  # (sentence, query, key) by occurrence


def pointing(maps):
    """How often each head's largest weight falls on the right word: (kind, layer, head)."""
    shares = []
    for sentence, query, key in places.values():
        looked_at = maps[:, sentence, :, query].argmax(dim=-1)  # (occurrence, layer, head)
        shares.append((looked_at == key[:, None, None]).float().mean(dim=0))
    return torch.stack(shares)


found_truth = pointing(maps)
print("                    " + "".join(f"{kind:>12}" for kind in KINDS))
for layer in range(NUM_LAYERS):
    for h in range(NUM_HEADS):
        row = found_truth[:, layer, h].tolist()
        print(f"layer {layer}, head {h}     " + "".join(f"{share:12.0%}" for share in row))
fixed = [Counter((key - query).tolist()).most_common(1)[0] for _, query, key in places.values()]
counts = [rows.shape[1] for rows in places.values()]
best_fixed = [times / count for (_, times), count in zip(fixed, counts, strict=True)]
print("best fixed distance " + "".join(f"{share:12.0%}" for share in best_fixed))
best_untrained = pointing(maps_of(untrained)).flatten(1).amax(dim=1).tolist()
print("untrained, best head" + "".join(f"{share:12.0%}" for share in best_untrained))
print("occurrences         " + "".join(f"{count:12,}" for count in counts))

noun_finder, subject_finder = found_truth[0].argmax(), found_truth[2].argmax()
assert noun_finder != subject_finder, "nouns and subjects are found by different heads"
assert all(f > 2 * u for f, u in zip(found_truth.flatten(1).amax(dim=1), best_untrained, strict=True))

# %% [markdown]
# In the run that is stored here one head of the first layer has learnt to find the noun. For determiners it
# beats any fixed distance by far: it steps over the adjectives between, and nobody told it what a noun is.
# (For adjectives the next word is already a good guess. For verbs the fixed distance is right by
# construction, since we count only subjects that stand right before.) The subject is found by another head,
# and some heads find none of the three.
#
# ### Do the heads differ?
#
# It is tempting to show that heads "specialise" by measuring how different their maps are. Let us do it.
# The **Jensen-Shannon divergence** of two distributions $p$ and $q$ is
#
# $$ \mathrm{JS}(p, q) = \mathrm{entropy}\!\left(\frac{p + q}{2}\right) - \frac{\mathrm{entropy}(p) +
#    \mathrm{entropy}(q)}{2}, \qquad \mathrm{entropy}(p) = -\sum_j p_j \log_2 p_j . $$
#
# It is 0 bits for equal distributions and 1 bit for those with nothing in common. Take it between the
# weights of two heads for the same query, on average over all queries. **Predict** twice: how large is it
# between heads of the trained model? And of the untrained one?


# %%
def entropy(p):
    return -(p * p.clamp(min=1e-9).log2()).sum(dim=-1)


def distances(maps):
    """Mean Jensen-Shannon divergence between heads, in bits: (head, head), layer by layer."""
    rows = maps.transpose(2, 3)[:, real]  # (layer, query, head, key), the real queries of all sentences
    rows = rows.transpose(1, 2).flatten(0, 1)  # (layer * head, query, key)
    table = torch.zeros(len(rows), len(rows))
    for a in range(len(rows)):
        for b in range(a):
            middle = entropy((rows[a] + rows[b]) / 2)
            table[a, b] = table[b, a] = (middle - (entropy(rows[a]) + entropy(rows[b])) / 2).mean()
    return table


calm = copy.deepcopy(untrained)  # once more untrained, with word and place vectors a tenth as long
with torch.no_grad():
    calm.word.weight *= 0.1
    calm.place.weight *= 0.1

divergence = {
    name: distances(maps_of(m))
    for name, m in (("trained", glosser), ("untrained", untrained), ("calm", calm))
}
pairs = torch.ones(8, 8).tril(-1).bool()
mean_distance = {name: table[pairs].mean().item() for name, table in divergence.items()}
print("mean divergence between two heads, in bits")
print(f"trained                             {mean_distance['trained']:.2f}")
print(f"untrained                           {mean_distance['untrained']:.2f}")
print(f"untrained, vectors a tenth as long  {mean_distance['calm']:.2f}")
assert mean_distance["trained"] < mean_distance["untrained"] + 0.1
assert mean_distance["calm"] < 0.1 < 0.4 < mean_distance["untrained"]

names = [f"{layer}.{h}" for layer in range(NUM_LAYERS) for h in range(NUM_HEADS)]
figure, axes = plt.subplots(1, 2, figsize=(7.5, 3.2), layout="constrained")
for ax, title in zip(axes, ("trained", "untrained"), strict=True):
    image = ax.imshow(divergence[title], vmin=0, vmax=1, cmap="viridis")
    ax.set_xticks(range(8), names)
    ax.set_yticks(range(8), names)
    ax.set(title=title, xlabel="layer.head")
axes[0].set_ylabel("layer.head")
figure.colorbar(image, ax=axes, label="divergence in bits")
None
# %% [markdown]
# *What to look at: on the right all fields off the diagonal have about the same colour. On the left some
# pairs have moved apart and others together; the mean is about the same.*
#
# This surprised us. Before any training the heads already look at different words, because their matrices
# were drawn at random, and they are about as far apart as afterwards. And the number hangs on the *scale*
# of the start: with short vectors all scores are near zero, all heads look evenly at everything, and the
# divergence is next to nothing. **That heads differ proves nothing.** Nor would a rise during training,
# since the scale of the start decides whether there is room for one. What training did is seen in the
# grades above: now the differences *mean* something.
#
# ### What does each head do for the answer?
#
# A map shows where a head looks, not whether anybody needs it (chapter 3). So take the heads out, one at a
# time, as in section 4.4: zero in the place of what they add, without training again. How many points of
# accuracy does each cost, on determiners, adjectives, verbs, and on all words? **Predict** which one is
# missed most.

# %% tags=["claim-C14"]
heads = [(f"layers.{layer}", h) for layer in range(NUM_LAYERS) for h in range(NUM_HEADS)]


def accuracies(model):
    """The share of right words, by kind, and then over all words."""
    right = is_right(model).float()
    by_kind = [right[sentence, query].mean() for sentence, query, _ in places.values()]
    return torch.stack([*by_kind, right[real].mean()])


def costs_of(model):
    """What each head costs when it is taken out: (head, kind), the last kind being all words."""
    whole = accuracies(model)
    return torch.stack([whole - accuracies(without_heads(model, [head])) for head in heads])


costs = costs_of(glosser)
print("points lost without   " + "".join(f"{kind:>12}" for kind in (*KINDS, "all words")))
for (name, h), row in zip(heads, costs.tolist(), strict=True):
    print(f"layer {name[-1]}, head {h}       " + "".join(f"{100 * cost:12.1f}" for cost in row))

for_nouns, for_verbs = costs[:, 0].argmax(), costs[:, 2].argmax()  # the heads that are missed most
assert divergence["trained"][for_nouns, for_verbs] > 0.3, "they look at different words"
assert costs[for_nouns, 0] > 2 * costs[for_nouns, 2], "without the one determiners suffer, not verbs"
assert costs[for_verbs, 2] > 2 * costs[for_verbs, 0], "without the other verbs suffer, not determiners"
assert costs[:, 3].max() > 2 * costs[:, 3].min(), "some heads are missed much more than others"

# %% [markdown]
# (A number below zero: without that head a few more words were right.) The head that determiners miss most
# is missed far less by verbs, and the other way round. This is what one may call doing different things:
# **different words found, different answers lost**. And notice how small most of the numbers are.
#
# Is this division of labour a law, or an accident of one start? Train a second model, from other random
# numbers, and put where its heads look beside what they are missed for. **Predict:** which rows will look
# like the first model's?

# %%
second = train_glosser(seed=2)
second_maps = maps_of(second)
second_truth, second_costs = pointing(second_maps).flatten(1).T, costs_of(second)  # each (head, kind)
sentence, query, _ = places["determiner"]
at_itself = second_maps[:, sentence, :, query].argmax(dim=-1) == query[:, None, None]
at_itself = at_itself.float().mean(dim=0).flatten().tolist()  # by head

print(f"{accuracy(second):.1%} of the words right\n")
print("                 largest weight on the truth            at itself    points lost without the head")
print("                determiner  adjective       verb   determiner   determiner  adjective       verb")
rows = zip(heads, second_truth.tolist(), at_itself, second_costs.tolist(), strict=True)
for (name, h), shares, itself, lost in rows:
    looks = "".join(f"{share:11.0%}" for share in shares)
    print(
        f"layer {name[-1]}, head {h}{looks}{itself:13.0%}  "
        + "".join(f"{100 * cost:11.1f}" for cost in lost[:3])
    )

# %% [markdown]
# The second model is about as good, and divides the work in another way. Here several heads share the way
# to the noun, and no single one is missed as much as before. In some heads of the second layer determiners
# look mostly at *themselves*, and still miss the head when it is gone. Such a head works on what the first
# layer brought to the determiner, and its map, a mere diagonal, does not show that.
#
# So the *relations* came back with the second start, since the task needs them. Which head does which, and
# whether one does it alone, changed. "Head 1 of layer 0 finds nouns" is a fact about one trained model, not
# about attention.
#
# ### How many heads can go?
#
# Back to the first model. Take out the cheapest head first, then the next, in the order of the column for
# all words. (Order and result come from the same sentences, so the result flatters a little.) **Predict**
# the accuracy with half the heads gone.

# %%
cheapest_first = costs[:, 3].argsort().tolist()
left_over = [accuracy(glosser)]
for count in range(1, len(heads) + 1):
    left_over.append(accuracy(without_heads(glosser, [heads[i] for i in cheapest_first[:count]])))

figure, ax = plt.subplots(figsize=(5.5, 2.8), layout="constrained")
ax.plot(range(len(heads) + 1), left_over, "o-", label="heads taken out, not retrained")
ax.axhline(without_context, color="0.4", linestyle="--", label="most frequent gloss of each word")
ax.set(xlabel="heads taken out, the cheapest first", ylabel="words right", ylim=(0.6, 1.0))
ax.legend(loc="lower left", fontsize="small")
added = costs[cheapest_first, 3].cumsum(dim=0).tolist()  # what they cost one at a time, added up
print("heads gone   words right   points lost   their single costs, added up")
for count, share in enumerate(left_over):
    single = 100 * added[count - 1] if count else 0.0
    print(f"{count:10}{share:14.1%}{100 * (left_over[0] - share):14.1f}{single:18.1f}")
assert left_over[0] - left_over[2] < 0.06 and left_over[0] - left_over[-1] > 0.15
assert left_over[0] - left_over[-1] > 1.3 * added[-1], "together they are missed more than one by one"

# %% [markdown]
# *What to look at: the first heads cost little and the last one most. With all heads gone the model is
# about where a dictionary without context is.*
#
# Compare the last two columns: the costs **do not add up**. Two heads may stand in for one another, so that
# each is cheap to lose and both together are not. And "little" needs a measure: in points the first losses
# are small, but few words were wrong to begin with, and two points more can double them.
#
# [Michel, Levy and Neubig (2019)](https://arxiv.org/abs/1905.10650) found the same in trained translators
# and in BERT: most heads can be taken out one at a time with hardly any loss, and a good part of them
# together, though not most of them together. [Voita and others (2019)](https://arxiv.org/abs/1905.09418)
# say which ones stay when a translator is made to give heads up: those whose work can be named, such as
# looking at a neighbour or following a syntactic relation. Does it follow that the other heads were
# useless? No: that a trained model can spare a head does not show that it could have been *trained* without
# it.
#
# ## 4.9 Break it
#
# Four changes. For each: predict the symptom, run, explain.
#
# **1. Reshape without the transpose.** `(batch, position, d_model)` has as many numbers as `(batch, head,
# position, d_k)`, so one may go straight from one to the other. No error is raised. Change position 0 of
# eight, without any mask. **Predict:** which positions notice?


# %%
class NoTranspose(MyMultiHeadAttention):
    def split(self, x):
        return x.reshape(x.shape[0], self.num_heads, x.shape[1], -1)  # (batch, head, position, d_k)?

    def forward(self, query, key, value, mask=None):
        q, k, v = self.query_projection(query), self.key_projection(key), self.value_projection(value)
        heads, _ = scaled_dot_product_attention(self.split(q), self.split(k), self.split(v), mask)
        return self.output_projection(heads.reshape(query.shape))


right, wrong = MyMultiHeadAttention(12, 2), NoTranspose(12, 2)
wrong.load_state_dict(right.state_dict())
x = torch.randn(1, 8, 12)  # (batch, position, d_model)
changed = x.clone()
changed[0, 0] += 1.0
order = torch.tensor([1, 2, 3, 4, 5, 6, 7, 0])
moved, uneven = {}, {}
for name, layer in (("right", right), ("wrong", wrong)):
    with torch.no_grad():
        output = layer(x, x, x)
        moved[name] = (layer(changed, changed, changed) - output)[0].norm(dim=-1)  # (position)
        uneven[name] = gap(layer(x[:, order], x[:, order], x[:, order]), output[:, order])
    print(f"{name}: how far each output moves", moved[name])
    print(f"       shuffled alike, outputs differ by {uneven[name]:.1g}")
assert moved["right"].min() > 0 and uneven["right"] < 1e-5
assert moved["wrong"][:4].min() > 0 and moved["wrong"][4:].max() == 0 and uneven["wrong"] > 0.01

# %% [markdown]
# The last four positions do not notice at all. In memory the numbers lie position after position. Cut into
# two halves, they give the first half of the *sentence* to head 0 and the second to head 1, and each head
# sees its own half only. All shapes are right. The test of section 4.7 finds it, since positions are no
# longer treated alike. Print the numbers $10p + c$ of section 4.2 through the wrong reshape, and you see it
# at once:

# %% tags=["nbval-check-output"]
position, channel = torch.arange(1, 5), torch.arange(4)
numbers = (10 * position[:, None] + channel)[None]  # (batch, position, d_model): 1, 4, 4
print("right, head 0\n", split_heads(numbers, 2)[0, 0])
print("wrong, head 0\n", numbers.reshape(1, 2, 4, 2)[0, 0])

# %% [markdown]
# **2. A mask without a head axis.** Each sentence has its own mask, (batch, query, key), and it is handed
# to scores of the shape (batch, head, query, key). Broadcasting aligns axes from the right, so the batch
# axis of the mask meets the *head* axis. **Predict:** what happens with 3 sentences and 4 heads? And with 4
# sentences?

# %%
layer = MultiHeadAttention(d_model=12, num_heads=4)
refused = []
for lengths in ([6, 4, 3], [6, 4, 3, 2]):
    x = torch.randn(len(lengths), 6, 12)  # (batch, position, d_model)
    right_mask = padding_mask(lengths)  # (batch, 1, 1, key)
    wrong_mask = right_mask[:, 0].expand(-1, 6, -1)  # (batch, query, key)
    words = right_mask[:, 0, 0]  # (batch, position)
    with torch.no_grad():
        alone = torch.cat([layer(x[[b], :length])[0] for b, length in enumerate(lengths)])  # (word, d_model)
        assert_close(layer(x, mask=right_mask)[words], alone)
        try:
            off = gap(layer(x, mask=wrong_mask)[words], alone)
        except ValueError as error:
            refused.append(len(lengths))
            print(f"{len(lengths)} sentences: {error}\n")
        else:
            print(f"{len(lengths)} sentences: no error is raised; alone and together differ by {off:.1f}")
assert refused == [3] and off > 0.01

# %% [markdown]
# With 3 sentences the shapes clash, and you are told. With as many sentences as heads they fit by accident:
# head 0 gets the mask of sentence 0, *in every sentence*, head 1 that of sentence 1. It runs, and it fails
# when somebody changes the batch size. The test that finds it is the one of the cell: each sentence alone
# against the same sentence in the batch. Write `mask[:, None]`, and choose sizes in tests that all differ.
#
# **3. Divide by the wrong root.** $\sqrt{d_{\text{model}}}$ is at hand in the layer; the formula wants
# $\sqrt{d_k}$. With $d_{\text{model}} = 64$ and 16 heads: **predict** the variance of the scores of random
# vectors. Then: will the two-headed guests of section 4.4 still learn their task?


# %%
class WrongRoot(MyMultiHeadAttention):
    def forward(self, query, key, value, mask=None):
        wrong = math.sqrt(self.num_heads)  # sqrt(d_k) * sqrt(num_heads) = sqrt(d_model)
        q = split_heads(self.query_projection(query), self.num_heads) / wrong  # (batch, head, query, d_k)
        k = split_heads(self.key_projection(key), self.num_heads)  # (batch, head, key, d_k)
        v = split_heads(self.value_projection(value), self.num_heads)  # (batch, head, key, d_k)
        heads, self.weights = scaled_dot_product_attention(q, k, v, mask)
        return self.output_projection(merge_heads(heads))


q, k = split_heads(torch.randn(2, 200, 64), 16)  # each (head, position, d_k), entries of variance 1
scores = q @ k.transpose(-2, -1)  # (head, query, key)
variances = {root: (scores / math.sqrt(root)).var().item() for root in (4, 64)}
print(
    f"variance of the scores: divided by the root of d_k {variances[4]:.3f}, of d_model {variances[64]:.3f}"
)
assert 0.9 < variances[4] < 1.1 and 0.9 / 16 < variances[64] < 1.1 / 16

torch.manual_seed(0)
wrong_root_error = sum(train_at_table(RoundTable(WrongRoot(32, 2), nn.Linear(32, 2)))) / 2
print(f"error at the table: right root {sum(two_heads_error) / 2:.0e}, wrong root {wrong_root_error:.0e}")
assert wrong_root_error < 0.05

# %% [markdown]
# The variance is $1 / H$ in place of 1, so with many heads each starts by looking nearly evenly at
# everything. Training repairs it at the table, since it can make $W^Q$ larger. That is why nobody notices.
# The symptom appears elsewhere: the start depends on the number of heads, and parameters copied from
# another implementation give other outputs. The comparison with PyTorch in section 4.3 finds it.
#
# **4. Leave out $W^O$.** The heads are laid side by side anyway. **Predict:** will the guests still manage?
# And what can a layer no longer do?


# %%
torch.manual_seed(0)
no_mixing = MyMultiHeadAttention(32, 2)
no_mixing.output_projection = nn.Identity()
no_mixing_error = sum(train_at_table(RoundTable(no_mixing, nn.Linear(32, 2)))) / 2
print(f"error at the table: with W^O {sum(two_heads_error) / 2:.0e}, without {no_mixing_error:.0e}")
assert no_mixing_error < 0.05

x = torch.randn(1, 5, 12)
for name, mixing in (("with W^O", nn.Linear(12, 12)), ("without", nn.Identity())):
    layer = MyMultiHeadAttention(12, 3)
    layer.output_projection = mixing
    with torch.no_grad():
        before = layer(x, x, x)
        layer.value_projection.weight[4:8] += 1.0  # W^V of head 1: its channels are 4 to 7
        moved = (layer(x, x, x) - before).abs().amax(dim=(0, 1)) > 1e-6
    print(f"{name:8} head 1 reaches the channels {moved.nonzero()[:, 0].tolist()}")
assert moved.nonzero()[:, 0].tolist() == [4, 5, 6, 7]

# %% [markdown]
# The guests do not miss it. The read-out that follows is a matrix too, and two matrices in a row are one.
# What is lost shows in the second part: without $W^O$ each head writes into its own channels and nowhere
# else. Where the layer's output is *added* to its input, as in the glosser, this matters: with $W^O$ a head
# can write its finding into any channel.
#
# ## 4.10 Exercises
#
# Write into the cells in place of `...` and run them. `check` tries your function on small inputs, drawn
# anew each time, and says what is wrong, and which mistake it is, where it knows the mistake. Hints come
# in two steps, then the solution; all are folded. `progress()`, from the same module, lists what you have
# solved.

# %%
from course_lib.exercises import check

# %% [markdown]
# **4.1 Merge, and check that it undoes the split.** From (batch, head, position, d_k) to (batch,
# position, d_model), without `flatten`.


# %% tags=["exercise"]
def my_merge(heads): ...


check("4.1", my_merge)

# %% [markdown]
# <details><summary>Hint 1</summary>Which two axes must stand side by side before they can become
# one?</details>
# <details><summary>Hint 2</summary>After a <code>transpose</code> use <code>reshape</code>, since
# <code>view</code> wants the numbers in order.</details>
# <details><summary>Solution</summary>
#
# ```python
# def my_merge(heads):
#     batch, num_heads, position, d_k = heads.shape
#     return heads.transpose(1, 2).reshape(batch, position, num_heads * d_k)
# ```
#
# `heads.reshape(batch, position, num_heads * d_k)` alone has the right shape and the wrong numbers: that
# is the first bug of section 4.9, backwards.
# </details>
#
# **4.2 Heads by einsum.** The matrices of all heads come as one tensor `W` of shape (head, d_model, d_k).
# Compute all queries, (batch, head, position, d_k), from x (batch, position, d_model), in one line.


# %% tags=["exercise"]
def project_heads(x, W): ...


check("4.2", project_heads)

# %% [markdown]
# <details><summary>Hint 1</summary>Give each axis a letter: b, n and m for x; h, m and d for W.</details>
# <details><summary>Hint 2</summary>Which letter is missing on the right of the arrow, and in which order
# do the others stand there?</details>
# <details><summary>Solution</summary>
#
# ```python
# def project_heads(x, W):
#     return torch.einsum("bnm,hmd->bhnd", x, W)
# ```
#
# m, the width of the model, is summed over. The heads stand before the positions, so that the next
# product takes them along like a batch.
# </details>
#
# **4.3 Count.** Return the number of parameters of a `MyMultiHeadAttention`, biases included, and the
# number of multiplications for `n` queries and `m` keys (cross-attention, a batch of one).


# %% tags=["exercise"]
def count(d_model, num_heads, n, m): ...


check("4.3", count)

# %% [markdown]
# <details><summary>Hint 1</summary>Which of the four projections see queries, and which see
# keys?</details>
# <details><summary>Hint 2</summary>The scores are n times m, for each head, and each is a product of
# width d_k. Which other product is as large?</details>
# <details><summary>Solution</summary>
#
# ```python
# def count(d_model, num_heads, n, m):
#     parameters = 4 * (d_model**2 + d_model)
#     projections = 2 * n * d_model**2 + 2 * m * d_model**2
#     d_k = d_model // num_heads
#     return parameters, projections + 2 * num_heads * n * m * d_k
# ```
#
# $W^Q$ and $W^O$ act on the n queries, $W^K$ and $W^V$ on the m keys and values. Compare it with
# PyTorch's own count: `FlopCounterMode`, as in section 4.4.
# </details>
#
# **4.4 A test for equivariance.** Return True if `function` maps shuffled positions to shuffled outputs;
# x and what the function returns are (batch, position, width). It must say True of self-attention, and
# False with a causal mask.


# %% tags=["exercise"]
def is_equivariant(function, x): ...


check("4.4", is_equivariant)

# %% [markdown]
# <details><summary>Hint 1</summary>Choose an order that is sure to move every position:
# <code>torch.randperm</code> may leave some where they are.</details>
# <details><summary>Hint 2</summary>What must <code>function(x[:, order])</code> be equal to? Up to
# rounding: <code>torch.allclose</code>.</details>
# <details><summary>Solution</summary>
#
# ```python
# def is_equivariant(function, x):
#     order = torch.arange(x.shape[1]).roll(1)
#     return torch.allclose(function(x[:, order]), function(x)[:, order], atol=1e-5)
# ```
#
# One order and one x can find a fault; they prove nothing about all the others.
# </details>
#
# **4.5 Find the bug.** A layer with this split trains as well as ours, is equivariant, and passes every
# test of shapes. With parameters from `nn.MultiheadAttention` it gives other outputs. Why? Mend it.


# %% tags=["exercise"]
def suspicious_split(x, num_heads):
    x = x.unflatten(-1, (-1, num_heads))
    return x.permute(0, 3, 1, 2)  # (batch, head, position, d_k)


check("4.5", suspicious_split)

# %% [markdown]
# <details><summary>Hint 1</summary>Take <code>x = (10 * torch.arange(3)[:, None] +
# torch.arange(4))[None]</code> and two heads, and print what both splits give.</details>
# <details><summary>Hint 2</summary>Which channels does head 0 have, and which should it have? Look at the
# order of the two sizes in <code>unflatten</code>.</details>
# <details><summary>Solution</summary>
#
# ```python
# def suspicious_split(x, num_heads):
#     x = x.unflatten(-1, (num_heads, -1))
#     return x.permute(0, 2, 1, 3)
# ```
#
# The first version deals the channels out like cards: with two heads, head 0 gets channels 0, 2, ... and
# head 1 gets 1, 3, .... That is a multi-head attention as good as any, but its heads have other rows of
# the matrices. Trained from the start it does not matter. With copied parameters each head gets half of
# one head and half of another. Only a comparison with a reference finds it.
# </details>
#
# **4.6 One key for all.** In *multi-query attention* ([Shazeer 2019](https://arxiv.org/abs/1911.02150))
# each head has its own queries, and all share one key and one value of width $d_k$. A decoder stores the
# keys and values of all words so far; now they take $H$ times less room. Given q (batch, head, query,
# d_k), k and v (batch, key, d_k), return (batch, head, query, d_k) without copying k and v.


# %% tags=["exercise"]
def multi_query(q, k, v): ...


check("4.6", multi_query)

# %% [markdown]
# <details><summary>Hint 1</summary>An axis of size one broadcasts. Where must it stand?</details>
# <details><summary>Hint 2</summary>Shapes are matched from the right. What would happen with 2 heads and
# a batch of 2 if you forgot the axis?</details>
# <details><summary>Solution</summary>
#
# ```python
# def multi_query(q, k, v):
#     weights = (q @ k[:, None].transpose(-2, -1) / math.sqrt(q.shape[-1])).softmax(dim=-1)
#     return weights @ v[:, None]
# ```
#
# `k[:, None]` is (batch, 1, key, d_k), and the 1 is stretched to all heads without a copy. Without it, a
# batch of 2 is taken for 2 heads, and no error says so.
# </details>
#
# **4.7 Open end.** How narrow may a head be? (A head of width $d_k$ must tell all names apart with $d_k$
# numbers.) Solve the round table with an eighth of the parameters of `two_heads` and an error below
# 0.001, and return the trained model. Then train the table with 4, 8, 16 and 32 heads, and with 40 guests
# (set `GUESTS`, and make `tables` and the test tables anew). Write down what you expect before each run.


# %% tags=["exercise"]
def small_table(): ...


check("4.7", small_table, make_tables=make_tables, parameters=size(two_heads) // 8)

# %% [markdown]
# <details><summary>Hint 1</summary>Most of the parameters are those of the attention, and they grow with
# the square of <code>d_model</code>.</details>
# <details><summary>Hint 2</summary><code>RoundTable</code> has an argument for the width, and
# <code>train_at_table</code> trains.</details>
# <details><summary>Solution</summary>
#
# ```python
# def small_table():
#     torch.manual_seed(0)
#     model = RoundTable(MyMultiHeadAttention(8, num_heads=2), nn.Linear(8, 2), d_model=8)
#     train_at_table(model)
#     return model
# ```
#
# Eight names fit into four numbers: as eight directions that are far enough apart for a softmax, whose
# scores may grow as large as training likes.
# </details>
#
# ## 4.11 What we showed
#
# - One head gives one mean of its values. On a task with two relations it loses half of what is wanted,
#   whatever its weights, and two heads of half the width lose nothing. Where the values keep things apart,
#   one head is enough.
# - Heads are a reshape, from d_model to (num_heads, d_k), and a transpose. Our layer equals `course_lib`'s
#   and PyTorch's, values and gradients; PyTorch's masks are inverted, and its returned weights are a mean
#   over heads.
# - $H$ heads of width $d_{\text{model}} / H$ have the parameters and the multiplications of one head of
#   full width, and in short sequences nearly its time (C13). The number of softmax entries grows with $H$.
# - Self- and cross-attention are one layer; whoever gives the queries gets the answers.
# - Self-attention is permutation-*equivariant*. It is not true that shuffling changes nothing: the outputs
#   are shuffled alike (C10).
# - The heads of our trained model do different things: they find different known relations, and different
#   words suffer without them (C14). Which head does what changes with the start. That their maps differ is
#   no evidence: those of random heads may differ as much.
# - Some of its heads can be taken out at little cost, and the costs do not add up.
#
# **What the papers say.** Vaswani and others ([2017](https://arxiv.org/abs/1706.03762), section 3.2.2) give
# the reason for heads in half a sentence: with a single head, "averaging inhibits this", namely attending
# to several things at once. Section 4.1 measures it. In their table 3 a single head loses 0.9 BLEU, and too
# many heads lose as well. Michel and others ([2019](https://arxiv.org/abs/1905.10650)) and Voita and others
# ([2019](https://arxiv.org/abs/1905.09418)) take heads out of trained models. Clark and others
# ([2019](https://arxiv.org/abs/1906.04341)) grade BERT's heads against syntax, beside a guess of fixed
# distance as we did. Lee and others ([2019](https://arxiv.org/abs/1810.00825)) build on equivariance and
# invariance on purpose, for sets.
#
# **What comes next.** Self-attention does not know in which order its words came. "Dog bites man" and "man
# bites dog" give each word the same output. Chapter 5 gives every position a mark of its own.
