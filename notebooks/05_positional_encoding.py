# %% [markdown]
# # 5 · Positional encoding
#
# **The question.** "Dog bites man" and "man bites dog" have the same words. Attention compares every word
# with every other: what does it know of their order, and how can it be told?
#
# **You will be able to**
# - show that attention by itself reads a bag of words;
# - build sinusoids from binary counting, and prove that one matrix moves all of them by the same shift;
# - build the five other ways in use (learned, Shaw's, T5's, rotary, ALiBi), each with a check;
# - measure which of them still work in texts longer than those of training, and say why;
# - count and time what attention costs, beside convolution and recurrence.
#
# **You should know** chapter 3. From chapter 4 only this: attention can run in several **heads** side by
# side, each in its own slice of the width.
#
# **Time.** The chapter runs in less than 90 seconds on a laptop's CPU, without a network.

# %%
import math
import time

import matplotlib.pyplot as plt
import torch
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close
from torch.utils.flop_counter import FlopCounterMode

from course_lib.attention import causal_mask, dot_score, masked_softmax, scaled_dot_product_attention
from course_lib.positions import (
    LearnedPositions,
    RelativeAttention,
    RelativePositionBias,
    alibi_bias,
    apply_rotary,
    binary_positions,
    relative_position_bucket,
    relative_positions,
    sinusoidal_positions,
)
from course_lib.widgets import attention_map, positions_view

torch.set_printoptions(precision=3, sci_mode=False)
torch.set_num_threads(1)  # these tensors are small: more threads would mostly wait for one another

# %% [markdown]
# ## 5.1 A bag of words
#
# Three words, each with a vector. A layer of self-attention makes queries, keys and values of them and
# gives each word an output. **Predict:** the word "bites" stands second in both sentences. Will its output
# differ?

# %%
generator = torch.Generator().manual_seed(0)
vectors = {word: torch.randn(8, generator=generator) for word in ("dog", "bites", "man")}
W_query, W_key, W_value = torch.randn(3, 8, 8, generator=generator) / math.sqrt(8)


def self_attention(x, mask=None):
    output, _ = scaled_dot_product_attention(x @ W_query, x @ W_key, x @ W_value, mask)
    return output  # (position, width)


def embed(sentence):
    return torch.stack([vectors[word] for word in sentence.split()])  # (position, width)


one, other = self_attention(embed("dog bites man")), self_attention(embed("man bites dog"))
print("bites, in dog bites man:", one[1])
print("bites, in man bites dog:", other[1])
assert_close(other, one.flip(0))
print("\nThe outputs of the second sentence are those of the first, in another order.")

# %% [markdown]
# Not one number differs. Look at the formula and it is no surprise. The output is a sum over the keys, and
# a sum does not care for the order of its terms. Who bites whom is lost, and no training of such layers can
# bring it back.
#
# The way out is to let each position leave a trace. Add to each word a vector that depends on **where** it
# stands, $x_p + \text{code}(p)$. Any vectors will do for a start, so let us take random ones:

# %%
code = torch.randn(3, 8, generator=generator)  # one vector for each position
one = self_attention(embed("dog bites man") + code)
other = self_attention(embed("man bites dog") + code)
moved = (one[1] - other[1]).abs().max().item()
print(f"with a code, the output of 'bites' differs by up to {moved:.2f}")
assert moved > 0.01

masked_one, masked_other = (
    self_attention(embed(s), causal_mask(3)) for s in ("dog bites man", "man bites dog")
)
moved = (masked_one[1] - masked_other[1]).abs().max().item()
print(f"without a code but with a causal mask, by up to {moved:.2f}")
assert moved > 0.01

# %% [markdown]
# The second line is worth a thought. A causal mask is a trace of order too: "bites" sees only what came
# before it. But it sees that as a bag again. Section 5.8 will measure how far this carries.
#
# So which codes are good ones? Random vectors tell positions apart, and nothing more: position 7 is no
# nearer to 8 than to 800. We want more than names. We want numbers, with neighbours and distances.
#
# ## 5.2 Build: from counting to waves
#
# We already have a way to write numbers as vectors of a fixed width: binary.

# %% tags=["nbval-check-output"]
for position in range(9):
    print(position, binary_positions(9, num_bits=4)[position].int().tolist())

# %% [markdown]
# The units stand first, the other way round from writing: 6 is 0, 1, 1, 0. Read the columns from top to
# bottom: the first changes at every step, the second at every other, the third at every fourth. Each column
# is a square wave, with twice the period of the one before.
#
# Now round off the corners of a square wave, and it is a sine. **Predict:** can you get the bits back from
# the sines exactly?

# %% tags=["claim-C16"]
positions = torch.arange(256).double()
bits = binary_positions(256, num_bits=8)
periods = 2.0 ** torch.arange(1, 9)  # 2, 4, 8, ... 256
# The 0.5 keeps every position away from the zeros of the sines, where there is no sign.
waves = torch.sin(2 * math.pi * (positions[:, None] + 0.5) / periods)  # (position, bit)
assert torch.equal(bits, (waves < 0).float())
print("the sign of a sine of period 2, 4, 8, ... is the bit, at all of", len(positions), "positions")

# What one step changes: from p to p + 1.
flips = (bits[1:] - bits[:-1]).abs().sum(dim=1)
print(f"\none step flips between {flips.min():.0f} and {flips.max():.0f} bits")
sines_and_cosines = torch.cat([(2 * math.pi * positions[:, None] / periods).sin(),
                               (2 * math.pi * positions[:, None] / periods).cos()], dim=1)  # fmt: skip
steps = (sines_and_cosines[1:] - sines_and_cosines[:-1]).norm(dim=1)
print(f"one step moves the waves by {steps.min():.3f} to {steps.max():.3f}")
assert flips.max() == 8 and flips.min() == 1
assert_close(steps, steps[:1].expand(255))

# %%
figure, axes = plt.subplots(1, 4, figsize=(9, 1.9), sharey=True, layout="constrained")
fine = torch.linspace(0, 15, 301)
for j, ax in enumerate(axes):
    ax.plot(fine, (1 - torch.sin(2 * math.pi * (fine + 0.5) / periods[j])) / 2, color="tab:orange")
    ax.plot(bits[:16, j], "o", color="black", markersize=4)
    ax.axhline(0.5, color="0.7", linewidth=1)
    ax.set(title=f"bit {j}", xlabel="position")
axes[0].set_ylabel("value")
None

# %% [markdown]
# *What to look at: black dots are the bits of the positions 0 to 15. The orange wave is above the grey line
# where the bit is one, and below it where the bit is zero. (It is drawn upside down: a sine starts upwards,
# and the bits start with zeros.)*
#
# So a sine is a smooth bit. What is gained by the smoothness? Neighbours. From 7 to 8 four bits flip, and
# from 127 to 128 all eight: next to each other in the text, and as far apart as two codes can be. The
# waves, taken all together, move by exactly the same amount at every step. (For that each sine needs its
# cosine. A sine alone slows down at its turning points; the pair runs round a circle, at one speed.)
#
# ### The formula
#
# The code of [Vaswani and others](https://arxiv.org/abs/1706.03762) (2017, section 3.5) is such a set of
# pairs. Column pair $i$ turns by $\omega_i$ at every step, so at position $p$ it stands at the angle
# $p\,\omega_i$:
#
# $$ \text{code}(p)_{2i} = \sin(p\, \omega_i), \qquad \text{code}(p)_{2i+1} = \cos(p\, \omega_i), \qquad
#    \omega_i = 10000^{-2i/d_\text{model}}, \qquad i = 0, 1, \dots, \tfrac{d_\text{model}}{2} - 1 $$
#
# The periods do not double from pair to pair, they grow by a factor of $10000^{2/d_\text{model}}$. The
# first pair goes once round in $2\pi \approx 6.3$ positions. Think of it as a clock with many hands.


# %%
def my_sinusoids(positions, d_model, base=10000.0, cosine_exponent="2i"):
    i = torch.arange(d_model // 2)
    sine_angles = positions[:, None] * base ** (-2 * i.double() / d_model)  # (position, pair)
    cosine_angles = sine_angles
    if cosine_exponent == "2i+1":  # for section 5.3
        cosine_angles = positions[:, None] * base ** (-(2 * i.double() + 1) / d_model)
    code = torch.stack([sine_angles.sin(), cosine_angles.cos()], dim=-1)  # (position, pair, 2)
    return code.flatten(-2)  # (position, d_model)


print(my_sinusoids(torch.arange(3), d_model=4, base=100.0))

# %% [markdown]
# Small enough to check: with $d_\text{model} = 4$ and a base of 100 the two pairs turn by $1$ and by
# $100^{-2/4} = 0.1$ radians a step. Row 1 is therefore $\sin 1, \cos 1, \sin 0.1, \cos 0.1$. What must row
# 0 be, for any width?
#
# ### Prove it
#
# Our code and the library's must agree, also when the positions do not begin at 0 (`offset`). And so must
# the gradients of a layer that reads words with the code added.

# %%
x = torch.randn(7, 14, dtype=torch.float64, generator=generator, requires_grad=True)
mine = my_sinusoids(torch.arange(100, 107), 14)
theirs = sinusoidal_positions(7, 14, offset=100, dtype=torch.float64)
assert_close(mine, theirs)


def output_and_gradient(code):
    output, _ = scaled_dot_product_attention(x + code, x + code, x + code)
    return output, torch.autograd.grad(output.square().sum(), x)[0]


for a, b in zip(output_and_gradient(mine), output_and_gradient(theirs), strict=True):
    assert_close(a, b)
forgotten = sinusoidal_positions(7, 14, dtype=torch.float64)
assert (output_and_gradient(forgotten)[0] - output_and_gradient(mine)[0]).abs().max() > 0.01
print("codes, outputs and gradients agree; without the offset they would not")

# %% [markdown]
# ## 5.3 Two formulas in circulation
#
# The formula is met in two forms. The paper's pairs share the exponent $2i/d$. Elsewhere each *column* has
# its own: the sine $2i/d$, the cosine $(2i+1)/d$. Is one of them wrong? Does it matter? The next cell asks
# six questions of both:
#
# 1. Which is the smallest number in the codes, and which the largest?
# 2. What is the code of position 0?
# 3. Do two positions share a code?
# 4. Are all codes, taken as vectors, of one length?
# 5. Does the dot product of two codes depend on anything but their distance?
# 6. Can one matrix turn the code of every position into the code five positions on? (Section 5.4 is about
#    this.)
#
# **Predict** where the two forms will differ.


# %% tags=["claim-C17"]
def worst_shift_error(code, shift=5):
    """How far the best matrix for a shift misses, at the worst position."""
    matrix = torch.linalg.lstsq(code[:-shift], code[shift:]).solution
    return (code[:-shift] @ matrix - code[shift:]).norm(dim=1).max().item()


def product_spread(code):
    """How much the dot product of two codes varies among pairs of the same distance."""
    products = code @ code.T
    return max(products.diagonal(distance).std().item() for distance in range(1, 20))


found = {}
for exponent in ("2i", "2i+1"):
    code = my_sinusoids(torch.arange(500), 16, cosine_exponent=exponent)
    found[exponent] = {
        "smallest and largest number": f"{code.min():.2f} and {code.max():.2f}",
        "code of position 0": f"{code[0].tolist()[:4]} ...",
        "two positions with one code": str((torch.cdist(code, code) + torch.eye(500)).min().item() < 1e-6),
        "shortest and longest code": f"{code.norm(dim=1).min():.2f} and {code.norm(dim=1).max():.2f}",
        "spread of products at one distance": f"{product_spread(code):.3f}",
        "error of the best matrix for a shift": f"{worst_shift_error(code):.3f}",
    }
print(f"{'':38}{'cosine 2i/d':28}cosine (2i+1)/d")
for line in found["2i"]:
    print(f"{line:38}{found['2i'][line]:28}{found['2i+1'][line]}")

shared, own = (my_sinusoids(torch.arange(500), 16, cosine_exponent=e) for e in ("2i", "2i+1"))
assert torch.equal(shared[:, 0::2], own[:, 0::2]) and torch.equal(shared[0], own[0])
assert torch.pdist(shared).min() > 0.1 and torch.pdist(own).min() > 0.1
assert product_spread(shared) < 1e-10 and product_spread(own) > 0.1
assert worst_shift_error(shared) < 1e-8 and worst_shift_error(own) > 0.01

# %% [markdown]
# The upper three lines agree: the same range, the same start, and no two positions share a code under
# either formula. The lower three do not. With the shared exponent a sine and its cosine are the two
# coordinates of one hand of the clock. With its own exponent the cosine runs a little slower than its sine.
# The hand no longer keeps its length, and the geometry is gone: the product of two codes depends on more
# than their distance, and no single matrix moves them all.
#
# Whether a *trained* model minds is another question. Section 5.8 trains one of each.
#
# ## 5.4 A shift is a rotation
#
# The paper gives a reason for sinusoids: for any fixed shift $k$, the code of $p + k$ is a **linear
# function** of the code of $p$. The same function for all $p$! If that is so, we need not know the formula
# to find it: fit a matrix to examples, and see whether it works for positions that it never saw.
#
# We fit on the positions 0 to 99 and test on 100 to 199. (The base is 100 here, so that in 200 positions
# even the slowest hand moves visibly.) For comparison the same with the other exponent, and with **random**
# codes. **Predict** the error of each: 0 is perfect, 1 is as bad as always answering zero.

# %%
shift, d_model = 7, 16
positions = torch.arange(200 + shift)
codes = {
    "sinusoids": my_sinusoids(positions, d_model, base=100.0),
    "sinusoids, cosine (2i+1)/d": my_sinusoids(positions, d_model, base=100.0, cosine_exponent="2i+1"),
    "random codes": torch.randn(len(positions), d_model, dtype=torch.float64, generator=generator),
}
errors = {}
for name, code in codes.items():
    here, there = code[:200], code[shift:]
    matrix = torch.linalg.lstsq(here[:100], there[:100]).solution  # here @ matrix = there
    miss = (here @ matrix - there).norm(dim=1)
    size = there.norm(dim=1)
    seen, errors[name] = (miss[part].norm() / size[part].norm() for part in (slice(100), slice(100, 200)))
    print(f"{name:28} error at seen positions {seen:.1g}, at unseen ones {errors[name]:.1g}")

# %% [markdown]
# For sinusoids the matrix exists: the error is nothing but rounding. With the other exponent no matrix fits
# even the positions that it was fitted to, and at the next hundred it is worse than useless. For random
# codes there is nothing to be found at all.
#
# Now find the matrix with pencil and paper. For one pair, the addition theorems say
#
# $$ \begin{pmatrix} \sin((p+k)\,\omega) \\ \cos((p+k)\,\omega) \end{pmatrix} =
#    \begin{pmatrix} \cos k\omega & \sin k\omega \\ -\sin k\omega & \cos k\omega \end{pmatrix}
#    \begin{pmatrix} \sin p\,\omega \\ \cos p\,\omega \end{pmatrix} $$
#
# and there is no $p$ in the matrix. It turns the hand by the angle $k\omega$. The whole code takes one such
# block for each pair.


# %% tags=["claim-C18"]
def my_shift_matrix(shift, d_model, base):
    blocks = []
    for i in range(d_model // 2):
        angle = shift * base ** (-2 * i / d_model)
        sin, cos = math.sin(angle), math.cos(angle)
        blocks.append(torch.tensor([[cos, sin], [-sin, cos]], dtype=torch.float64))
    return torch.block_diag(*blocks)  # (d_model, d_model)


M = my_shift_matrix(shift, d_model, base=100.0)
code = codes["sinusoids"]
assert_close(code[:200] @ M.T, code[shift:])  # it moves every code, by formula ...
fitted = torch.linalg.lstsq(code[:100], code[shift : 100 + shift]).solution.T
assert_close(fitted, M, rtol=0, atol=1e-7)  # ... and it is what least squares found
assert_close(M @ M.T, torch.eye(d_model, dtype=torch.float64))  # it is a rotation: its transpose turns back
assert_close(my_shift_matrix(3, d_model, 100.0) @ my_shift_matrix(4, d_model, 100.0), M)  # 3 + 4 = 7
assert errors["sinusoids"] < 1e-8
assert errors["random codes"] > 0.9 and errors["sinusoids, cosine (2i+1)/d"] > 1e-3
print(f"largest difference between the fitted matrix and the formula: {(fitted - M).abs().max():.0e}")

# %% [markdown]
# This is more than a curiosity. A layer of attention multiplies its inputs by matrices. So a query can
# learn to say "seven before me" once, for all positions. With random codes it would have to learn each pair
# of positions by heart.
#
# Be exact, though, about what was shown: such a matrix *exists*. Whether training finds it is measured in
# section 5.8.
#
# ### See
#
# The view below computes sinusoids in the page. On the left each row is a position and each column a
# dimension. On the right stands how alike two codes are, by their distance. **Try this, and predict each
# time:** lower the base to 10. Double the width. What happens to distant positions?

# %%
positions_view(length=64, width=32)

# %% [markdown]
# *What to look at: with the base 10000 the columns on the right hardly change in 64 positions. These slow
# hands are why even distant codes stay alike. With the base 10 all hands are fast: the curve is down at 0
# within a dozen positions, and then swings round it. Twice the width puts more hands between the fastest
# and the slowest. The curve keeps its course, with smaller wiggles.*
#
# ## 5.5 Or let it be learned
#
# Why design a code at all? Take a table with a row for each position, start with small random numbers, and
# train it like the table of words. BERT and GPT-2 do just that. It is one indexing operation. **Predict:**
# what happens at position 32 of a table with 32 rows?

# %%
learned = LearnedPositions(max_length=32, d_model=64)
print("codes:", tuple(learned(5).shape), "  numbers to train:", learned.weight.numel())
assert torch.equal(learned(2, offset=3), learned.weight[3:5])
refused = False
try:
    learned(1, offset=32)
except ValueError as error:
    refused = True
    print("position 32:", error)
assert refused

# %% [markdown]
# There is no code beyond the table, and rows that training seldom reached are hardly trained. Vaswani and
# others tried both kinds and found next to no difference on translation. They kept sinusoids in the hope
# that these would extend to longer texts. Hold that thought.
#
# ## 5.6 Tell the scores
#
# Does a word need to know that it stands at position 412? Mostly it needs to know that another word stands
# *three before it*. **Relative** methods leave the input alone. They go where words are compared, to the
# scores, and tell them the distance $j - i$ from query $i$ to key $j$. Three of them, from the richest to
# the plainest:
#
# - **Shaw** ([2018](https://arxiv.org/abs/1803.02155)) adds $q_i \cdot a_{j-i} / \sqrt{d_k}$. A vector is
#   trained for each distance from $-k$ to $k$; what is further shares the last one.
# - **T5** ([Raffel and others 2020](https://arxiv.org/abs/1910.10683)) adds $b_{\text{bucket}(j-i)}$. A
#   number $b$ is trained for each bucket of distances and each head.
# - **ALiBi** ([Press and others 2022](https://arxiv.org/abs/2108.12409)) adds $-m_h\,\lvert j - i\rvert$.
#   Nothing is trained; each head has its slope $m_h$.
#
# Shaw's term has the query in it, so a word may ask for "two before me" while another asks for "right
# behind me". T5 and ALiBi have no query in theirs: a head prefers certain distances whatever the word.
#
# **Shaw.** Besides the scores, the outputs too are told the distance, with a second table of vectors $a^V$.
# With $\alpha_{ij}$ for the weights, $\text{output}_i = \sum_j \alpha_{ij}\,(v_j + a^V_{j-i})$. Two loops,
# straight from equations 3 and 4 of the paper:


# %%
def my_shaw(query, key, value, key_embeddings, value_embeddings):
    n, d_k = query.shape
    k = len(key_embeddings) // 2  # rows 0 .. 2k stand for the distances -k .. k
    outputs = []
    for i in range(n):
        rows = [max(-k, min(k, j - i)) + k for j in range(n)]
        scores = torch.stack([query[i] @ (key[j] + key_embeddings[rows[j]]) for j in range(n)])  # (key)
        weights = (scores / math.sqrt(d_k)).softmax(dim=0)
        outputs.append(sum(weights[j] * (value[j] + value_embeddings[rows[j]]) for j in range(n)))
    return torch.stack(outputs)  # (query, d_v)


layer = RelativeAttention(d_k=5, max_distance=2, d_v=3).double()
tensors = [
    torch.randn(7, width, dtype=torch.float64, generator=generator, requires_grad=True) for width in (5, 5, 3)
]
leaves = [*tensors, *layer.parameters()]


def with_gradients(output):
    return output, *torch.autograd.grad(output.square().sum(), leaves)


mine = with_gradients(my_shaw(*tensors, *layer.parameters()))
theirs = with_gradients(layer(*[tensor[None, None] for tensor in tensors])[0][0, 0])
for a, b in zip(mine, theirs, strict=True):
    assert_close(a, b)
print("output and", len(leaves), "gradients agree with course_lib's RelativeAttention")

# %% [markdown]
# **T5.** Near distances matter one by one, far ones only roughly. So there is a bucket for each of the
# small distances, and ever wider ones after that. Here is the form for decoders, in which a query looks
# only back:


# %%
def my_bucket(distance, num_buckets=32, max_distance=128):  # distance = i - j, from 0
    exact = num_buckets // 2
    if distance < exact:
        return distance
    along = math.log(distance / exact) / math.log(max_distance / exact)  # 0 at `exact`, 1 at max_distance
    return min(exact + int(along * (num_buckets - exact)), num_buckets - 1)


mine = torch.tensor([my_bucket(distance) for distance in range(300)])
assert torch.equal(mine, relative_position_bucket(-torch.arange(300), bidirectional=False))
for distance in (3, 15, 16, 20, 40, 100, 200):
    together = (mine == mine[distance]).sum()
    print(f"distance {distance:3} -> bucket {mine[distance]:2}, which holds {together:3} of 300")

# %% [markdown]
# (A bucket's edges grow by a fixed factor, and distances are whole numbers. So bucket 17 may hold one
# distance fewer than bucket 16.)
#
# **ALiBi** is a ruler: the further away, the lower the score, in a straight line. With $H$ heads, head $h =
# 1 \dots H$ has the slope $m_h = 2^{-8h/H}$. Steep heads see what is near, flat heads see nearly
# everything.


# %%
def my_alibi(num_heads, n):
    distance = (torch.arange(n)[:, None] - torch.arange(n)[None, :]).abs()  # (query, key)
    slopes = 2.0 ** (-8 * torch.arange(1, num_heads + 1) / num_heads)  # (head)
    return slopes[:, None, None] * -distance  # (head, query, key)


assert_close(my_alibi(8, 13), alibi_bias(8, 13))
print("slopes of 8 heads:", (-my_alibi(8, 2)[:, 0, 1]).tolist())
print("head 1, four positions\n", my_alibi(8, 4)[0])

# %%
n = 24
distances = relative_positions(n)
pictures = [
    ("Shaw, k = 4", "which vector", distances.clamp(-4, 4)),
    ("T5, both sides", "which bucket", relative_position_bucket(distances)),
    ("ALiBi, head 1", "which bias", alibi_bias(8, n)[0]),
]
figure, axes = plt.subplots(1, 3, figsize=(9, 2.7), layout="constrained")
for ax, (title, label, picture) in zip(axes, pictures, strict=True):
    figure.colorbar(ax.imshow(picture, cmap="viridis"), ax=ax, label=label, shrink=0.9)
    ax.set(title=title, xlabel="key", ylabel="query")

# %% [markdown]
# *What to look at: every diagonal has one colour in all three, since nothing but the distance counts. On
# the left the colour stops changing four steps from the diagonal. In the middle the steps grow wider, and
# the two sides have different buckets. On the right it fades evenly.*
#
# ## 5.7 Turn the query and the key
#
# One more idea, and many large language models use it, Llama among them. Section 5.4 showed that a shift is
# a rotation. So do not add anything: **rotate** the query at position $m$ by the angles $m\,\omega_i$, pair
# by pair, and the key at position $n$ by $n\,\omega_i$ ([Su and others
# 2021](https://arxiv.org/abs/2104.09864)). The dot product of two pairs depends on their lengths, which a
# rotation keeps, and on the angle between them, which has now changed by $(m - n)\,\omega_i$. Each vector
# was told its *absolute* position, and the score sees the *relative* one.
#
# A pair $(a, b)$ rotated by the angle $p\,\omega$ is
#
# $$ (a \cos p\,\omega - b \sin p\,\omega, \quad a \sin p\,\omega + b \cos p\,\omega) . $$
#
# In code it is shorter to take the pair as the complex number $a + b\,\mathrm{i}$ and to multiply it by
# $e^{\mathrm{i}\,p\,\omega} = \cos p\,\omega + \mathrm{i} \sin p\,\omega$:


# %%
def my_rotary(x, positions, base=10000.0):
    d_k = x.shape[-1]
    angles = positions[:, None] * base ** (-torch.arange(0, d_k, 2).double() / d_k)  # (position, pair)
    pairs = torch.view_as_complex(x.unflatten(-1, (d_k // 2, 2)))  # (..., position, pair)
    turned = pairs * torch.polar(torch.ones_like(angles), angles)  # times e^(i angle)
    return torch.view_as_real(turned).flatten(-2)  # (..., position, d_k)


x = torch.randn(2, 3, 7, 10, dtype=torch.float64, generator=generator, requires_grad=True)
direction = torch.randn(2, 3, 7, 10, dtype=torch.float64, generator=generator)
mine = my_rotary(x, torch.arange(5, 12))
theirs = apply_rotary(x, offset=5, interleaved=True)
assert_close(mine, theirs)
assert_close(torch.autograd.grad(mine, x, direction), torch.autograd.grad(theirs, x, direction))

# A sinusoid is what becomes of the pair (1, 0) when it is turned, with its columns exchanged.
ones_and_zeros = torch.tensor([1.0, 0.0], dtype=torch.float64).repeat(7, 5)  # (position, d_k)
cos_sin = my_rotary(ones_and_zeros, torch.arange(7)).unflatten(-1, (5, 2))
assert_close(cos_sin.flip(-1).flatten(-2), my_sinusoids(torch.arange(7), 10))
print("values and gradients agree with course_lib's apply_rotary, and sinusoids are a special case")

# %% [markdown]
# Now the property that the method is there for. Put the *same* query and the *same* key at every position
# of a long text. **Predict** what the table of their scores looks like.

# %%
q, k = torch.randn(2, 1, 16, dtype=torch.float64, generator=generator).expand(2, 40, 16)
scores = {
    "rotary": dot_score(apply_rotary(q), apply_rotary(k)),
    "sinusoids added": dot_score(
        q + my_sinusoids(torch.arange(40), 16), k + my_sinusoids(torch.arange(40), 16)
    ),
}
figure, axes = plt.subplots(1, 2, figsize=(7, 2.8), layout="constrained")
for ax, (name, table) in zip(axes, scores.items(), strict=True):
    spread = max(table.diagonal(distance).std().item() for distance in range(-30, 31))
    print(f"{name:16} scores vary along a diagonal by {spread:.1e}, over the table by {table.std():.1f}")
    assert (spread < 1e-10) == (name == "rotary")
    figure.colorbar(ax.imshow(table, cmap="viridis"), ax=ax, shrink=0.8)
    ax.set(title=name, xlabel="key at", ylabel="query at")

assert_close(apply_rotary(q).norm(dim=-1), q.norm(dim=-1))  # turned, not stretched
later = dot_score(apply_rotary(q, offset=1000), apply_rotary(k, offset=1000))
assert_close(later, scores["rotary"])  # a thousand positions on, the same scores

# %% [markdown]
# *What to look at: on the left every diagonal has one colour. On the right there are columns and blotches:
# where the key stands counts by itself, whatever the distance.*
#
# ## 5.8 One task for all of them
#
# Time to measure. Here is a tiny programming language. `a=3` puts a value into a variable, `a?` asks for
# it. The answer is the **latest** value that was put in, and nothing but the order tells which one that is.

# %%
NAMES, NUM_VALUES = "abcdef", 6
NUM_TOKENS = len(NAMES) * NUM_VALUES + len(NAMES)  # a=0 .. f=5, then a? .. f?
TRAINED_LENGTH, LONGEST = 32, 256


def make_texts(count, length, generator, wanted="latest"):
    """Return tokens and answers (text, position), and where each answer stands; no question: answer -1."""
    name = torch.randint(len(NAMES), (count, length), generator=generator)
    value = torch.randint(NUM_VALUES, (count, length), generator=generator)
    asks = torch.rand(count, length, generator=generator) < 0.3
    tokens = torch.where(asks, len(NAMES) * NUM_VALUES + name, name * NUM_VALUES + value)

    place = torch.arange(length)
    earlier = place[None, :] < place[:, None]  # (question, assignment)
    fits = (
        (name[:, :, None] == name[:, None, :]) & ~asks[:, None, :] & earlier
    )  # (text, question, assignment)
    source = torch.where(fits, place, -1).amax(dim=-1)
    if wanted == "first":
        source = torch.where(fits, place, length).amin(dim=-1)
    answered = asks & fits.any(dim=-1)
    source = torch.where(answered, source, 0)
    return tokens, torch.where(answered, value.gather(1, source), -1), source, fits


def words(tokens):
    assignments = len(NAMES) * NUM_VALUES
    return [
        f"{NAMES[token - assignments]}?" if token >= assignments
        else f"{NAMES[token // NUM_VALUES]}={token % NUM_VALUES}"
        for token in tokens.tolist()
    ]  # fmt: skip


tokens, answers, _, _ = make_texts(1, 14, torch.Generator().manual_seed(3090))
print("text:   ", "  ".join(f"{word:3}" for word in words(tokens[0])))
print("answers:", "  ".join(f"{answer:<3}" if answer >= 0 else " . " for answer in answers[0].tolist()))

# %% [markdown]
# Follow one question back with your finger to its answer. A reader that knew no order could still do a
# little: name the commonest of the values that this variable ever had. We compute that as a yardstick.
#
# The model is one layer of causal attention with eight heads, between a table of words and a small network
# that answers. All the models are the same, with the same start, steps and texts. Only `code` differs. Find
# the three places at which a code comes in. (`nn.LayerNorm`, and the sum `x + ...` at the end, make
# training easier. They belong to chapter 6; you need not know them here.)

# %%
D_MODEL, NUM_HEADS = 64, 8
D_K = D_MODEL // NUM_HEADS


class Reader(nn.Module):
    def __init__(self, code):
        super().__init__()
        self.code = code
        self.embedding = nn.Embedding(NUM_TOKENS, D_MODEL)
        self.norm = nn.LayerNorm(D_MODEL)
        self.query_key_value = nn.Linear(D_MODEL, 3 * D_MODEL)
        self.mix = nn.Linear(D_MODEL, D_MODEL)
        self.answer = nn.Sequential(
            nn.LayerNorm(D_MODEL), nn.Linear(D_MODEL, 128), nn.ReLU(), nn.Linear(128, NUM_VALUES)
        )
        # Every model owns all of these, so that every model starts with the same numbers.
        self.learned = LearnedPositions(LONGEST, D_MODEL)
        self.shaw = RelativeAttention(D_K, max_distance=16)
        self.t5 = RelativePositionBias(NUM_HEADS, bidirectional=False)

    def codes(self, n, offset=0):
        if self.code == "binary":
            return binary_positions(n, 8, offset).repeat(1, D_MODEL // 8)  # (position, d_model)
        if self.code == "sinusoidal":
            return sinusoidal_positions(n, D_MODEL, offset=offset)
        if self.code == "sinusoidal, 2i+1":
            return my_sinusoids(torch.arange(n) + offset, D_MODEL, cosine_exponent="2i+1").float()
        if self.code == "learned":
            return self.learned(n, offset)
        return 0.0

    def split(self, x):
        """Return query, key and value, each (text, head, position, d_k)."""
        parts = self.query_key_value(self.norm(x)).unflatten(-1, (3, NUM_HEADS, D_K))
        return parts.permute(2, 0, 3, 1, 4)

    def forward(self, tokens):
        n = tokens.shape[1]
        x = self.embedding(tokens) + self.codes(n)  # 1: at the input
        query, key, value = self.split(x)
        if self.code == "rotary":  # 2: at the queries and keys
            query, key = apply_rotary(query), apply_rotary(key)
        if self.code == "Shaw":  # 3: at the scores
            heads, self.weights = self.shaw(query, key, value, causal_mask(n))
        else:
            scores = dot_score(query / math.sqrt(D_K), key)  # (text, head, query, key)
            if self.code == "T5":
                scores = scores + self.t5(n)
            if self.code == "ALiBi":
                scores = scores + alibi_bias(NUM_HEADS, n)
            self.weights = masked_softmax(scores, causal_mask(n))
            heads = self.weights @ value  # (text, head, position, d_k)
        return self.answer(x + self.mix(heads.transpose(1, 2).flatten(2)))  # (text, position, value)


def train(code, wanted="latest", reader=Reader, steps=300, learning_rate=1e-2):
    torch.manual_seed(0)
    model = reader(code)
    generator = torch.Generator().manual_seed(1)  # the same texts for every model
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=steps)
    for _ in range(steps):
        tokens, answers, *_ = make_texts(32, TRAINED_LENGTH, generator, wanted)
        loss = F.cross_entropy(model(tokens).flatten(0, 1), answers.flatten(), ignore_index=-1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model.eval()


CODES = ["none", "binary", "sinusoidal", "sinusoidal, 2i+1", "learned", "rotary", "Shaw", "T5", "ALiBi"]
models = {code: train(code) for code in CODES}

# %% [markdown]
# All were trained on texts of 32 words. They are tested on texts of 32, 64, 128 and 256, and graded on the
# questions in the **second half** of each. So from length 64 on, every graded question stands where no
# question stood in training. (The learned table was given 256 rows, so that it can be asked at all.)
#
# **Predict** three things. Which will answer at length 32? Which will fall from 32 to 64? And which, if
# any, will hold up to 256?


# %%
LENGTHS = [32, 64, 128, 256]


@torch.no_grad()
def grade(model, wanted="latest"):
    """For each length: share of right answers, and the weight that the best head puts on the right place."""
    right, looked = [], []
    for length in LENGTHS:
        tokens, answers, source, _ = make_texts(
            8192 // length, length, torch.Generator().manual_seed(2), wanted
        )
        graded = answers >= 0
        graded[:, : length // 2] = False
        right.append((model(tokens).argmax(dim=-1) == answers)[graded].float().mean().item())
        on_source = model.weights.gather(-1, source[:, None, :, None].expand(-1, NUM_HEADS, -1, 1))[..., 0]
        looked.append(max(on_source[:, head][graded].mean().item() for head in range(NUM_HEADS)))
    return right, looked


def order_blind(length, wanted="latest"):
    """How often the commonest earlier value of the variable is the right one."""
    tokens, answers, _, fits = make_texts(8192 // length, length, torch.Generator().manual_seed(2), wanted)
    graded = answers >= 0
    graded[:, : length // 2] = False
    value = F.one_hot(tokens % NUM_VALUES, NUM_VALUES).float()  # of assignments; fits leaves out questions
    counts = fits.float() @ value  # (text, position, value)
    commonest = (counts == counts.amax(dim=-1, keepdim=True)).float()
    chance = commonest / commonest.sum(dim=-1, keepdim=True)  # ties are guessed
    return chance.gather(-1, answers.clamp(min=0)[..., None])[..., 0][graded].mean().item()


grades = {code: grade(model) for code, model in models.items()}
blind = [order_blind(length) for length in LENGTHS]

print("                     right answers at length         weight on the right place, best head")
print("                      32     64    128    256            32     64    128    256")
for code, (right, looked) in grades.items():
    print(f"{code:18}" + "".join(f"{r:7.0%}" for r in right) + "     " + "".join(f"{w:7.2f}" for w in looked))
print(f"{'knows no order':18}" + "".join(f"{r:7.0%}" for r in blind))

right = {code: dict(zip(LENGTHS, values, strict=True)) for code, (values, _) in grades.items()}
for code in CODES[1:]:
    assert right[code][32] > 0.85
assert all(right["none"][length] < yardstick + 0.05 for length, yardstick in zip(LENGTHS, blind, strict=True))
assert right["none"][256] < blind[3]
for code in ("binary", "sinusoidal", "sinusoidal, 2i+1", "learned"):
    assert right[code][64] < 0.6 and right[code][128] < blind[2] and right[code][256] < blind[3]
assert right["ALiBi"][256] > 0.85 and right["Shaw"][256] > 0.75
assert max(right["rotary"][256], right["T5"][256]) < 0.7
assert abs(right["sinusoidal"][32] - right["sinusoidal, 2i+1"][32]) < 0.08

# %%
STYLES = {
    "none": ("0.5", "x:"), "learned": ("#d55e00", "^-"), "sinusoidal": ("#e69f00", "o-"),
    "rotary": ("#cc79a7", "s-"), "T5": ("#56b4e9", "v--"), "Shaw": ("#009e73", "D--"),
    "ALiBi": ("#0072b2", "P--"),
}  # fmt: skip


def plot_grades(ax, grades, title):
    for code, (color, style) in STYLES.items():
        if code in grades:
            ax.plot(LENGTHS, grades[code][0], style, color=color, label=code, markersize=5)
    ax.set_xscale("log", base=2)
    ax.set(title=title, xlabel="length of the text", ylabel="right answers", ylim=(0, 1.03))
    ax.set_xticks(LENGTHS, LENGTHS)
    return ax


figure, ax = plt.subplots(figsize=(6, 3), layout="constrained")
plot_grades(ax, grades, "trained on texts of 32 words")
ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))
None

# %% [markdown]
# *What to look at: at 32 all the codes stand together, far above "none". From 64 on they fan out. (The two
# rows that are left out, binary and 2i+1, lie close to the sinusoidal curve.) Solid lines are the methods
# that tell a word its absolute position (rotary among them), dashed lines those that tell the score a
# distance.*
#
# Read the table slowly; there is a story in each row.
#
# - **none** does no better than the yardstick, which knows no order, and in longer texts it does not even
#   keep up with it. With one layer the causal mask alone does not say which value came last.
# - **binary, sinusoidal, learned** all learn the task, and all lose it as soon as the text is longer. At
#   128 they are *below* the yardstick, and near the sixth that blind guessing gives. Where no training text
#   ever went, the rows of the learned table have learned nothing. But the sinusoids are as orderly there as
#   before, the shift of section 5.4 is the same matrix, and still they fail! A shift that *could* be used
#   is not a shift that *was* learned. The hope that sinusoids extend to longer texts does not come true
#   here.
# - **sinusoidal, 2i+1** does as well and fails as badly as its twin. What section 5.3 found in the geometry
#   makes no difference to this model.
# - **rotary** falls too, if later. Its scores depend on distance alone, but on distances of up to 31 in
#   training. What the angles of larger distances do to a score was never trained.
# - **Shaw** treats all that is 16 or more away alike, so it meets no distance that training did not show.
#   It loses only slowly, as one would expect where ever more old values share the last vector.
# - **ALiBi** hardly notices. "The nearer the better" was built in, and happens to be just what this task
#   needs.
#
# And **T5**? It also knows distances only. Before you read on, guess why it falls. Then look at its table.

# %%
bias = models["T5"].t5.weight.detach()  # (bucket, head)
buckets = relative_position_bucket(-torch.arange(LONGEST), bidirectional=False)  # by distance
last_trained = buckets[TRAINED_LENGTH - 1].item()
unreached = (buckets > last_trained).nonzero()[0].item()
print(
    f"texts of {TRAINED_LENGTH} words reach the buckets 0 to {last_trained}; the next begins at {unreached}"
)
head = bias[last_trained - 1].argmin().item()  # the one that pushes far words down most
print("what one head learned:")
for distance in (1, 4, 10, 28, 50, 100, 200):
    bucket = buckets[distance].item()
    print(f"   distance {distance:3}, bucket {bucket:2}, bias {bias[bucket, head]:6.2f}")
assert unreached == 35 and (bias[last_trained + 1 :] == 0).all() and bias[last_trained - 1, head] < -0.5

# %% [markdown]
# The head has learned to like what is near and to push down what is far. But the buckets from distance 35
# on were never reached, and there the bias is still 0, where it began. To this head a word 200 places back
# looks nearer than one 28 places back. Exercise 5.6 mends it with one number.
#
# ### Grade the attention
#
# The right half of the table says where the models looked. Compare it with the left half: where the answers
# fall, the weight on the right place falls too. Now watch the eight heads of ALiBi at work; frames mark the
# assignment that holds the answer.

# %%
tokens, answers, source, _ = make_texts(1, 24, torch.Generator().manual_seed(5))
with torch.no_grad():
    models["ALiBi"](tokens)
gold = {(row, source[0, row].item()) for row in range(24) if answers[0, row] >= 0}
weights = models["ALiBi"].weights[0]  # (head, query, key)
names = words(tokens[0])
older, latest = (place for place in range(23) if names[place] in ("d=3", "d=2"))
print(f"the last word is {names[23]}; weight by head, from the steepest slope to the flattest")
print(f"   on {names[latest]}, the latest, 3 places back:", weights[:, 23, latest])
print(f"   on {names[older]}, an older one, 20 back:    ", weights[:, 23, older])
assert weights[:2, 23, latest].max() > 0.5 > weights[4:, 23, latest].max()
attention_map(
    weights, names, names, mask=causal_mask(24), gold=gold, title="Where eight heads with ALiBi look"
)

# %% [markdown]
# *What to look at: the rows of questions, and in them the strong cells in columns of the same letter.
# Follow the last row from head to head. (The view counts from 0: head 0 has the steepest slope.)*
#
# Not every head serves every letter: on this row some hardly look at a `d` at all. Of those that do, the
# steep ones prefer the latest `d`, flat ones stay with the older one, and which of them to believe is left
# to the network behind.
#
# ### Is ALiBi the best, then?
#
# Ask the opposite question: the **first** value that was put into the variable, not the latest. The same
# texts, the same models, the same training. **Predict** the order of the curves now.

# %%
first_models = {code: train(code, "first") for code in ("sinusoidal", "rotary", "Shaw", "T5", "ALiBi")}
first_grades = {code: grade(model, "first") for code, model in first_models.items()}
first_blind = [order_blind(length, "first") for length in LENGTHS]

figure, axes = plt.subplots(1, 2, figsize=(9, 3), layout="constrained")
plot_grades(axes[0], {code: grades[code] for code in first_grades}, "which value is the latest?")
plot_grades(axes[1], first_grades, "which value was the first?")
axes[1].legend(loc="center left", bbox_to_anchor=(1, 0.5))

print("the first value       32     64    128    256")
for code, (values, _) in first_grades.items():
    print(f"{code:18}" + "".join(f"{r:7.0%}" for r in values))
print(f"{'knows no order':18}" + "".join(f"{r:7.0%}" for r in first_blind))
first = {code: dict(zip(LENGTHS, values, strict=True)) for code, (values, _) in first_grades.items()}
assert first["ALiBi"][32] < first_blind[0] + 0.05 and first["sinusoidal"][32] > 0.9
assert first["sinusoidal"][128] > max(first[code][128] for code in first if code != "sinusoidal")

# %% [markdown]
# *What to look at: the dark blue curve of ALiBi, at the top on the left, lies at the bottom on the right,
# already at the length of training. And in longer texts the sinusoidal one goes from the bottom to the
# top.*
#
# ALiBi cannot prefer what is far. Its slope has one sign, so with one layer it does no better than the
# yardstick that knows no order. Sinusoids, which were lost on the left, come out best: "near the beginning"
# is a matter of absolute position, and the beginning is where training has been.
#
# So beyond the length of training no code was best on both questions. Each brings a preference along, and
# does well where the task shares it. "X extrapolates" is a statement about X *and a task*. Be careful also
# with what this small experiment can carry: one layer, one seed, one training length. Kazemnejad and others
# ([2023](https://arxiv.org/abs/2305.19466)) compare larger models on many tasks and find ALiBi and rotary
# wanting, T5's bias better, and causal models without any code best of all.
#
# ## 5.9 What attention costs
#
# Why put up with a layer that must be told the order of its words? Because of what it gives in return.
# Table 1 of Vaswani and others compares three kinds of layer that map $n$ vectors of width $d$ to $n$
# vectors. A convolution makes each output from $k$ neighbouring inputs. A recurrence carries a state along,
# as the encoder of chapter 2 did.
#
# | | multiplications | steps one after the other | longest path between two positions |
# |---|---|---|---|
# | convolution, width $k$ | $k\,n\,d^2$ | $1$ | $\log_k n$ |
# | recurrence | $n\,d^2$ | $n$ | $n$ |
# | self-attention | $n^2 d$ | $1$ | $1$ |
#
# All up to a constant factor. We count all three columns, and time the first.


# %%
d, k = 64, 3
generator = torch.Generator().manual_seed(0)
W, U = torch.randn(2, d, d, generator=generator) / math.sqrt(d)
kernel = torch.randn(d, d, k, generator=generator) / math.sqrt(k * d)


def convolution(x):  # (position, d) -> (position, d)
    return F.conv1d(x.T[None], kernel, padding=k // 2)[0].T


def recurrence(x):
    state, states = torch.zeros(1, d), []
    for row in x.split(1):
        state = torch.tanh(row @ W + state @ U)  # needs the state before it
        states.append(state)
    return torch.cat(states)


def attention(x):  # queries, keys and values are x itself: we count what is attention's own
    return (x @ x.T / math.sqrt(d)).softmax(dim=-1) @ x


def multiplications(layer, x):
    with FlopCounterMode(display=False) as counter:  # PyTorch counts while the layer runs
        layer(x)
    return counter.get_total_flops() // 2  # it counts a multiplication and its addition as two


def longest_chain(tensor):
    """Operations that had to wait for one another: the longest chain in the graph that autograd has kept."""
    depth, stack = {}, [tensor.grad_fn]
    while stack:
        node = stack[-1]
        inputs = [source for source, _ in node.next_functions if source is not None]
        missing = [source for source in inputs if source not in depth]
        if missing:
            stack.extend(missing)
        else:
            depth[stack.pop()] = 1 + max((depth[source] for source in inputs), default=0)
    return depth[tensor.grad_fn]


LAYERS = [convolution, recurrence, attention]
SIZES = [128, 256, 512, 1024, 2048, 4096]
inputs = {n: torch.randn(n, d, generator=generator) for n in SIZES}
count = {layer: [multiplications(layer, inputs[n]) for n in SIZES] for layer in LAYERS}
chain = {layer: [longest_chain(layer(inputs[n].clone().requires_grad_())) for n in SIZES] for layer in LAYERS}

# %% [markdown]
# For the third column, poke the first position and count how many layers it takes until the last one
# notices. All weights are 1 here, so that nothing can cancel. For the recurrence a "layer" is one update of
# all states.


# %%
def steps_until_noticed(step, n):
    noticed = torch.zeros(1, 1, n)
    noticed[..., 0] = 1.0
    steps = 0
    while noticed[..., -1] == 0:
        steps += 1
        noticed = (step(noticed, steps) > 0).float()
    return steps


def convolve(x, steps):  # each position sees itself and the two before it: k = 3
    return F.conv1d(F.pad(x, (2, 0)), torch.ones(1, 1, 3))


def convolve_dilated(x, steps):  # the same in layer 1; then 3, 9, 27, ... positions apart
    dilation = 3 ** (steps - 1)
    return F.conv1d(F.pad(x, (2 * dilation, 0)), torch.ones(1, 1, 3), dilation=dilation)


def update(x, steps):  # a state sees its own input and the state before it
    return F.conv1d(F.pad(x, (1, 0)), torch.ones(1, 1, 2))


def attend(x, steps):
    return attention(x[0].T).T[None]


steps = {
    "convolution": convolve,
    "dilated convolution": convolve_dilated,
    "recurrence": update,
    "self-attention": attend,
}
path = {name: [steps_until_noticed(step, n) for n in SIZES] for name, step in steps.items()}
print("longest path at n =     " + "".join(f"{n:7}" for n in SIZES))
for name, values in path.items():
    print(f"{name:24}" + "".join(f"{value:7}" for value in values))
assert path["convolution"] == [math.ceil((n - 1) / 2) for n in SIZES]
assert path["dilated convolution"] == [math.ceil(math.log(n, 3)) for n in SIZES]
assert path["recurrence"] == [n - 1 for n in SIZES]
assert path["self-attention"] == [1] * len(SIZES)

# %% [markdown]
# Note the first two rows. The $\log_k n$ of the table holds for *dilated* convolutions, whose inputs stand
# further apart in each layer. An ordinary one reaches only $k - 1$ positions further (two, here), so a
# stack of them must grow in proportion to $n$. The paper says so in its text, and the table alone is often
# quoted.
#
# Now time. **Predict:** at 128 positions, which is fastest? At 4096, which is slowest? And how steep will
# the three lines be, if both axes are logarithmic?

# %% tags=["claim-C19"]
seconds = {layer: [math.inf] * len(SIZES) for layer in LAYERS}
with torch.no_grad():
    for _ in range(7):  # the best of seven: whatever disturbs a measurement makes it longer
        for place, n in enumerate(SIZES):
            for layer in LAYERS:
                layer(inputs[n])  # once for nothing, so that all find the caches alike
                start = time.perf_counter()
                layer(inputs[n])
                seconds[layer][place] = min(seconds[layer][place], time.perf_counter() - start)


def slope(values):
    """The exponent e of the best fit values ~ n^e."""
    log_n, log_values = (torch.tensor(v, dtype=torch.float64).log() for v in (SIZES, values))
    log_n = log_n - log_n.mean()
    return ((log_n * log_values).sum() / log_n.square().sum()).item()


print("grows as n to the power of    multiplications   time    steps in a row")
for layer in LAYERS:
    print(
        f"{layer.__name__:30}{slope(count[layer]):8.2f}{slope(seconds[layer]):13.2f}"
        f"{abs(slope(chain[layer])):12.2f}   (from {chain[layer][0]} to {chain[layer][-1]})"
    )
    assert abs(slope(count[layer]) - (2 if layer is attention else 1)) < 0.01
    assert abs(slope(chain[layer]) - (1 if layer is recurrence else 0)) < 0.02
print("\nmilliseconds  " + "".join(f"{n:9}" for n in SIZES))
for layer in LAYERS:
    print(f"{layer.__name__:14}" + "".join(f"{1000 * value:9.2f}" for value in seconds[layer]))

assert 1.6 < slope(seconds[attention]) < 3.2
assert 0.4 < slope(seconds[convolution]) < 1.6 and 0.7 < slope(seconds[recurrence]) < 1.6
assert count[attention][0] > count[recurrence][0] and seconds[attention][0] < seconds[recurrence][0]
assert seconds[attention][-1] > seconds[recurrence][-1]

# %%
figure, axes = plt.subplots(1, 2, figsize=(9, 3), layout="constrained")
for layer, style in zip(LAYERS, ("o-", "s-", "P--"), strict=True):
    axes[0].plot(SIZES, count[layer], style, label=layer.__name__)
    axes[1].plot(SIZES, [1000 * value for value in seconds[layer]], style)
axes[0].set(title="multiplications", xlabel="positions $n$", ylabel="number")
axes[1].set(title="time", xlabel="positions $n$", ylabel="milliseconds")
for ax in axes:
    ax.set(xscale="log", yscale="log")
    ax.set_xticks(SIZES, SIZES, fontsize="small")
    ax.minorticks_off()
axes[0].legend()
None

# %% [markdown]
# *What to look at: on both sides the dashed line of attention is the steepest. On the left it is above the
# recurrence everywhere. On the right it starts far below.*
#
# Convolution is cheap throughout, and sees three positions. The other two are the interesting pair. At 128
# positions attention does **more** multiplications than the recurrence and is much faster, on a single
# core. The recurrence does its work in small pieces, each of which waits for the one before. Attention does
# it in two large products. As $n$ grows the square wins, and in the end attention is the slowest. (In time
# its exponent may come out above 2. The table of scores takes 4 MB at 1024 positions and 64 MB at 4096, and
# has to leave the processor's caches on the way.)
#
# Two footnotes. A real layer also multiplies by $W^Q$, $W^K$, $W^V$ and $W^O$, which adds $4\,n\,d^2$ and
# shifts the crossing. And "one step" holds for reading and for training. A decoder that *writes* goes word
# by word with any of the three.
#
# ## 5.10 Break it
#
# Four mistakes that are easily made. All shapes are right in all four.
#
# **1. Forget the offset.** A decoder that writes word by word keeps the keys and values of the past in a
# **cache** and computes only the newest word. That word comes alone, a text of length 1. If nobody says
# otherwise, its position is 0. Take the trained sinusoidal model, feed it texts word by word, once with the
# right positions and once with 0 for all, and **predict** its score in both cases.


# %%
@torch.no_grad()
def read_word_by_word(model, tokens, offset_of):
    keys, values, answers = [], [], []
    for position in range(tokens.shape[1]):
        x = model.embedding(tokens[:, position : position + 1]) + model.codes(1, offset_of(position))
        query, key, value = model.split(x)  # (text, head, 1, d_k)
        keys.append(key)
        values.append(value)
        heads, _ = scaled_dot_product_attention(query, torch.cat(keys, dim=2), torch.cat(values, dim=2))
        answers.append(model.answer(x + model.mix(heads.transpose(1, 2).flatten(2))))
    return torch.cat(answers, dim=1)  # (text, position, value)


model = models["sinusoidal"]
tokens, answers, _, _ = make_texts(200, TRAINED_LENGTH, torch.Generator().manual_seed(6))
at_once = model(tokens).detach()
cached = read_word_by_word(model, tokens, offset_of=lambda position: position)
forgotten = read_word_by_word(model, tokens, offset_of=lambda position: 0)
assert_close(cached, at_once, rtol=0, atol=1e-3)
shares = {}
for name, logits in (("all at once", at_once), ("cached", cached), ("offset forgotten", forgotten)):
    shares[name] = (logits.argmax(dim=-1) == answers)[answers >= 0].float().mean().item()
    print(f"{name:17} {shares[name]:.0%} right; largest difference {(logits - at_once).abs().max():.1g}")
assert shares["offset forgotten"] < shares["cached"] - 0.15

# %% [markdown]
# Nothing is raised, and many answers are still right: one may well take it for a weak model. The test that
# finds it compares a cached step with the same column of the full pass. Exactly that test stands among the
# library's, for every code.
#
# **2. Drown the word.** Embeddings often start small, with a deviation of $1/\sqrt{d_\text{model}}$, so
# that a word has about length 1. The paper multiplies them by $\sqrt{d_\text{model}}$ before it adds the
# code. Leave that out: what does a layer see of the word?

# %%
d_model = 512
word_vectors = torch.randn(100, d_model, generator=generator) / math.sqrt(d_model)
code = sinusoidal_positions(100, d_model)
print(f"length of a word {word_vectors.norm(dim=1).mean():.1f}, of a code {code.norm(dim=1).mean():.1f}")
for name, scale in (("as they are", 1.0), ("times root of d_model", math.sqrt(d_model))):
    words_in_place = scale * word_vectors + code[7]  # 100 different words, all at position 7
    alike = F.cosine_similarity(words_in_place[:50], words_in_place[50:], dim=1).mean().item()
    print(f"{name:22} two different words at one place have cosine {alike:.3f}")
    assert (alike > 0.98) == (scale == 1.0)

# %% [markdown]
# Without the factor any two words at a place look the same to within a few thousandths.
#
# **3. Rotate the values too.** If it is good for queries and keys, why not for values? Shift a whole text
# by five positions. All distances are as before, so its outputs should be, too. **Predict:** are they, with
# and without rotated values?

# %%
q, k, v = torch.randn(3, 6, 10, dtype=torch.float64, generator=generator)


def rotary_attention(offset, rotate_values):
    turned = apply_rotary(v, offset=offset) if rotate_values else v
    return scaled_dot_product_attention(
        apply_rotary(q, offset=offset), apply_rotary(k, offset=offset), turned
    )[0]


for rotate_values in (False, True):
    change = (rotary_attention(5, rotate_values) - rotary_attention(0, rotate_values)).abs().max().item()
    print(f"rotate_values={rotate_values!s:5}  a shift by 5 changes outputs by {change:.1g}")
    assert (change > 0.1) == rotate_values

# %% [markdown]
# In the scores two rotations meet, and only their difference is left. A value meets nobody. Its rotation
# stays in the output, as an absolute position that the next layer has to undo.
#
# **4. Mix the two pairings.** Which columns form a pair is a convention. The paper pairs neighbours, 0 with
# 1, 2 with 3. Llama's code pairs column $i$ with $i + d_k/2$. Each is fine, as long as query and key keep
# to the same one. Now turn the query by one and the key by the other:

# %%
q, k = torch.randn(2, 1, 16, dtype=torch.float64, generator=generator).expand(2, 40, 16)
for name, pairings in (
    ("neighbours, both", (True, True)),
    ("halves, both", (False, False)),
    ("mixed", (True, False)),
):
    scores = dot_score(
        *[apply_rotary(x, interleaved=pairing) for x, pairing in zip((q, k), pairings, strict=True)]
    )
    spread = max(scores.diagonal(distance).std().item() for distance in range(-30, 31))
    print(f"{name:17} scores of one distance vary by {spread:.1g}")
    assert (spread > 0.1) == (name == "mixed")

# %% [markdown]
# Lengths are kept, shapes are right, position 0 is even exact. Only the property is gone. Test the
# property.
#
# ## 5.11 Exercises
#
# Write into the cells in place of `...` and run them. `check` tries your function on small inputs, drawn
# anew each time, and says what is wrong, and which mistake it is, where it knows the mistake. Hints come
# in two steps, then the solution; all are folded. `progress()`, from the same module, lists what you have
# solved.

# %%
from course_lib.exercises import check

# %% [markdown]
# **5.1 The slowest hand.** After how many positions has the slowest pair of a sinusoidal code gone once
# round? The paper says the wavelengths run up to $10000 \cdot 2\pi \approx 62{,}832$. Try `slowest(512)`:
# who is right?


# %% tags=["exercise"]
def slowest(d_model, base=10000.0): ...


check("5.1", slowest)

# %% [markdown]
# <details><summary>Hint 1</summary>The last pair has $i = d_\text{model}/2 - 1$.</details>
# <details><summary>Hint 2</summary>It turns by $\omega_i$ radians a position, and a full turn is
# $2\pi$.</details>
# <details><summary>Solution</summary>
#
# ```python
# def slowest(d_model, base=10000.0):
#     return 2 * math.pi * base ** ((d_model - 2) / d_model)
# ```
#
# The pair with $10000 \cdot 2\pi$ would be number $d_\text{model}/2$, one past the last. The paper's
# figure is the limit for great width.
# </details>
#
# **5.2 Alike by distance.** The dot product of two sinusoidal codes depends only on their distance. Give
# it by a formula, without making the codes.


# %% tags=["exercise"]
def similarity(distance, d_model, base=10000.0): ...


check("5.2", similarity)

# %% [markdown]
# <details><summary>Hint 1</summary>One pair contributes $\sin a \sin b + \cos a \cos b$. Which addition
# theorem is that?</details>
# <details><summary>Hint 2</summary>With $a = p\,\omega_i$ and $b = q\,\omega_i$ it depends on $p - q$.
# Then sum over the pairs.</details>
# <details><summary>Solution</summary>
#
# ```python
# def similarity(distance, d_model, base=10000.0):
#     return sum(math.cos(distance * base ** (-2 * i / d_model)) for i in range(d_model // 2))
# ```
#
# For distance 0 it is $d_\text{model}/2$, the square of a code's length. The cosine is even, so the
# product does not know forwards from backwards. A model must get the direction from its matrices.
# </details>
#
# **5.3 Distances for a cache.** There are `num_keys` keys, and the queries are the *last* `num_queries`
# of them. Give the table of distances $j - i$, a row for each query.


# %% tags=["exercise"]
def my_relative_positions(num_queries, num_keys): ...


check("5.3", my_relative_positions)

# %% [markdown]
# <details><summary>Hint 1</summary>At which position does the first query stand?</details>
# <details><summary>Hint 2</summary>A row of key positions against a column of query positions, as for the
# causal mask of chapter 3.</details>
# <details><summary>Solution</summary>
#
# ```python
# def my_relative_positions(num_queries, num_keys):
#     query_position = torch.arange(num_keys - num_queries, num_keys)
#     return torch.arange(num_keys)[None, :] - query_position[:, None]
# ```
#
# Counting queries from 0 passes every test with as many queries as keys, and fails with a cache.
# </details>
#
# **5.4 Find the bug.** This scores rotated queries against rotated keys. Shapes are right, lengths are
# kept, and the score of position 0 with position 0 is exact. Mend it.


# %% tags=["exercise"]
def suspicious_scores(query, key):  # (position, d_k) each
    positions = torch.arange(len(query))
    query = my_rotary(query, positions)
    key = my_rotary(key, -positions)
    return query @ key.T


check("5.4", suspicious_scores)

# %% [markdown]
# <details><summary>Hint 1</summary>Put the same vector at all positions and look along the diagonals, and
# across them.</details>
# <details><summary>Hint 2</summary>By which angle does the pair of query m and key n differ
# now?</details>
# <details><summary>Solution</summary>
#
# ```python
# def suspicious_scores(query, key):
#     positions = torch.arange(len(query))
#     return my_rotary(query, positions) @ my_rotary(key, positions).T
# ```
#
# The keys turned backwards, so the scores depended on $m + n$ and not on $m - n$: constant along the
# *anti*-diagonals, which a look at the table takes for a pattern of some sort.
# </details>
#
# **5.5 One step of ALiBi.** A decoder has a cache of `num_keys - 1` keys and adds the newest word. Give
# the bias of that one query: (head, 1, key).


# %% tags=["exercise"]
def alibi_step(num_heads, num_keys): ...


check("5.5", alibi_step)

# %% [markdown]
# <details><summary>Hint 1</summary>The newest word is at distance 0 of itself, and itself is the last
# key.</details>
# <details><summary>Hint 2</summary>The slopes of the heads down, the distances of the keys across, and an
# axis of size one between them.</details>
# <details><summary>Solution</summary>
#
# ```python
# def alibi_step(num_heads, num_keys):
#     distance = num_keys - 1 - torch.arange(num_keys)  # (key)
#     slopes = 2.0 ** (-8 * torch.arange(1, num_heads + 1) / num_heads)  # (head)
#     return -slopes[:, None, None] * distance
# ```
#
# It is the last row of `my_alibi`. Adding a constant to a row changes no softmax, so one may also count
# from the first key, $m_h\,j$: then no bias changes when a word is added. (The check compares the
# weights, so it takes both.)
# </details>
#
# **5.6 Open end, with one number: mend T5.** In section 5.8 the T5 model ran into buckets that training
# never filled. Return another `RelativePositionBias`, with **one number** changed, that brings its share
# of right answers at length 256 above 65%. The check trains the model with it, which takes some seconds.


# %% tags=["exercise"]
def mended_bias(): ...  # RelativePositionBias(NUM_HEADS, bidirectional=False) is what there was


check("5.6", mended_bias, train=train, grade=grade, reader=Reader)

# %% [markdown]
# <details><summary>Hint 1</summary>Which argument of <code>RelativePositionBias</code> says where the
# last bucket begins?</details>
# <details><summary>Hint 2</summary>What would it have to be, so that texts of 32 words fill the last
# bucket too?</details>
# <details><summary>Solution</summary>
#
# ```python
# def mended_bias():
#     return RelativePositionBias(NUM_HEADS, max_distance=24, bidirectional=False)
# ```
#
# With `max_distance=24` all distances from 24 on share the last bucket, which training has filled. Now
# far is far, as with Shaw. What is given up: beyond 24, distances can no longer be told apart.
# </details>
#
# **5.7 Open end.** Find a code that does well on *both* questions of section 5.8 at length 256, or make a
# case that with one layer there is none. Ideas: ALiBi with slopes of both signs; half of the heads with
# one code and half with another. Write down what you expect before each run.
#
# ## 5.12 What we showed
#
# - Without positions attention reads a bag of words. A causal mask alone does not mend that in one layer.
# - Binary counting is a code of positions, and the bits are the signs of sines whose period doubles. The
#   waves change evenly where bits jump (C16).
# - Of two exponents in circulation only the shared one gives codes of one length, products that depend on
#   distance alone, and a matrix for each shift. In our trained models it made next to no difference (C17).
# - A shift of sinusoids is one fixed rotation. Least squares finds the matrix, the formula gives the same
#   one, and random codes have none (C18).
# - All the codes learn a task of order at the length of training. How they do beyond it depends on the
#   task: ALiBi went from the best to the worst when the question was turned round.
# - Attention's work grows as $n^2$ and the others' as $n$; a recurrence needs $n$ steps in a row; a signal
#   crosses a text in one layer of attention, in about $\log n$ dilated convolutions, and in about $n$
#   ordinary ones or steps of a recurrence (C19).
#
# **What the papers say.** Gehring and others ([2017](https://arxiv.org/abs/1705.03122), section 3.1) add
# learned positions to a convolutional translator. Vaswani and others
# ([2017](https://arxiv.org/abs/1706.03762), sections 3.5 and 4) propose sinusoids, find learned codes about
# equal, and *hypothesise* that a fixed shift is easy to learn and that sinusoids extend to longer texts;
# sections 5.4 and 5.8 look at both. Press and others ([2022](https://arxiv.org/abs/2108.12409)) report for
# language models, too, that sinusoids fail soon beyond the trained length and ALiBi does not.
#
# **What comes next.** Now all parts are on the table. Chapter 6 puts them together: the Transformer.
