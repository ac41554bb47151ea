# %% [markdown]
# # 2 · Bahdanau attention
#
# **The question.** A translator reads a sentence, shuts its eyes, and writes the translation from memory.
# What happens when it may look back?
#
# **You will be able to**
# - show, with numbers, what a single vector between encoder and decoder costs, and more so the longer the
#   sentence;
# - write Bahdanau's attention, check every number of a small one by hand, and read the decoder around it;
# - train a translator in the notebook and read from its weights which word came from which;
# - grade those weights against the true alignment, and say what they do and do not explain.
#
# **You should know** PyTorch's tensors and modules, and roughly what a GRU does: it reads one vector after
# the other and keeps a state. Chapter 1 is about attention itself; its words query, key and value come back
# here.
#
# **Time.** The chapter runs in less than 90 seconds on a laptop's CPU, without a network.

# %%
import inspect
import json
from collections import Counter
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from torch.nn.utils.rnn import pad_sequence
from torch.testing import assert_close

from course_lib.attention import AdditiveAttention, record_attention
from course_lib.data.translation import load_translation
from course_lib.data.vocabulary import Vocabulary
from course_lib.decoding import greedy_decode
from course_lib.metrics import alignment_error_rate, alignment_from_weights, corpus_bleu
from course_lib.models.seq2seq import Seq2Seq, Seq2SeqConfig
from course_lib.training import PairBatches, fit, translation_loss
from course_lib.widgets import alignment_view

torch.set_printoptions(precision=3, sci_mode=False)
torch.set_num_threads(1)  # these tensors are small: more threads would mostly wait for one another

# %% [markdown]
# ## 2.1 Everything through one vector
#
# The sentences come from a small grammar of English and French that ships with the course. It is small
# enough to learn here and now, and it has what makes translation hard: words that change places, words that
# stand for two or for none, and whole phrases that turn inside out.

# %%
data = load_translation("grammar")
for pair in data.test[:4]:
    print(pair.source_text, "\n   ", pair.target_text)
print(f"\n{len(data.train):,} pairs to learn from, {len(data.test):,} to be tested on")

# %% [markdown]
# The test is not a random sample. Its sentences hold *combinations* that training never showed, such as a
# particular adjective with a particular noun, though each word by itself is known. A model that learns
# whole phrases by heart fails here.
#
# Because the grammar builds both sentences together, it also knows which word is whose translation. We set
# this **gold alignment** aside; nothing is trained on it.

# %%
source_vocab = Vocabulary.from_sentences(pair.source for pair in data.train)
target_vocab = Vocabulary.from_sentences(pair.target for pair in data.train)
print(len(source_vocab), "English words,", len(target_vocab), "French ones, special tokens among them")


def encode_pairs(pairs):
    sources = [source_vocab.encode(pair.source) for pair in pairs]
    targets = [target_vocab.encode(pair.target, bos=True, eos=True) for pair in pairs]
    return sources, targets


def pad(sentences):
    """Return token ids (sentence, position), filled up with <pad>, and the lengths."""
    rows = [torch.tensor(sentence) for sentence in sentences]
    return pad_sequence(rows, batch_first=True), torch.tensor([len(row) for row in rows])


print(encode_pairs(data.test[:1]))

# %% [markdown]
# The first neural translators ([Cho et al. 2014](https://arxiv.org/abs/1406.1078) with GRUs, [Sutskever et
# al. 2014](https://arxiv.org/abs/1409.3215) with LSTMs) worked like this. An **encoder** GRU reads the
# source $x_1 \dots x_m$. (Ours reads from both ends, with two GRUs, as you will see in section 2.2.) Its
# last state, one vector, is made into the first state $s_0$ of a **decoder** GRU, which writes the target
# $y_1 \dots y_n$ word by word. Before the first word it is told $y_0$, the token `<bos>` (begin of
# sentence), and it ends by writing `<eos>`:
#
# $$ s_i = \mathrm{GRU}(s_{i-1},\; y_{i-1}), \qquad
#    p(y_i \mid y_1 \dots y_{i-1}, x) = \mathrm{softmax}(\text{readout}(s_i, y_{i-1})) $$
#
# The *readout* is a layer that turns these two into one number, a **logit**, for each French word. Whatever
# the decoder knows of the source has passed through $s_0$. Its width stays the same whether the sentence
# has 3 words or 25. **Predict:** how will the quality of the translation depend on the length of the
# sentence?


# %%
def train_translator(attention=True, bidirectional=True):
    torch.manual_seed(2)
    model = Seq2Seq(
        Seq2SeqConfig(
            source_vocab_size=len(source_vocab),
            target_vocab_size=len(target_vocab),
            embedding_size=64,
            hidden_size=112,
            attention_size=64,
            attention=attention,
            bidirectional=bidirectional,
        )
    )
    batches = PairBatches(*encode_pairs(data.train), batch_size=32, seed=2)
    history = fit(model, batches, translation_loss, steps=1000, learning_rate=6e-3, decay="cosine")
    return model, history


def translate(model, sources):
    """Translate lists of words into lists of words, taking the likeliest next word each time."""
    ids, lengths = pad([source_vocab.encode(words) for words in sources])
    outputs = greedy_decode(model, ids, lengths, target_vocab.bos_id, target_vocab.eos_id, max_length=40)
    return [target_vocab.decode(output) for output in outputs]


one_vector, one_vector_history = train_translator(attention=False)

# %% [markdown]
# One setting for all models of this chapter: the same steps, the same batches, the same learning rate
# (`"cosine"`: it falls to zero by the last step, along half a cosine).
#
# We compare two things: **BLEU**, which counts the runs of one to four words that a translation shares with
# the right one (0 to 100, over all sentences together, by the sacrebleu library), and the share of
# sentences that are right to the last word. The first line, 3 to 25 words, is the whole test set.

# %%
BINS = [(3, 6), (7, 10), (11, 14), (15, 18), (19, 25)]


def score_by_length(model, pairs=data.test):
    """BLEU and share of exact translations, over all pairs and for each range of source lengths."""
    hypotheses = translate(model, [pair.source for pair in pairs])
    scores = {}
    for low, high in [(3, 25), *BINS]:
        chosen = [row for row, pair in enumerate(pairs) if low <= len(pair.source) <= high]
        references = [" ".join(pairs[row].target) for row in chosen]
        outputs = [" ".join(hypotheses[row]) for row in chosen]
        exact = sum(a == b for a, b in zip(outputs, references, strict=True)) / len(chosen)
        scores[low, high] = corpus_bleu(outputs, references, tokenized=True).score, exact
    return scores


one_vector_scores = score_by_length(one_vector)
for (low, high), (bleu, exact) in one_vector_scores.items():
    print(f"{low:2} to {high} words: BLEU {bleu:5.1f}, exactly right {exact:4.0%}")

# %%
for pair in data.test[:4]:
    print(pair.source_text, "\n   right:", " ".join(pair.target))
    print("   model:", " ".join(translate(one_vector, [pair.source])[0]))

# %% [markdown]
# *What to look at: most of what the model says reads like French. It is about something else.*
#
# Much of the grammar of French has been learnt. What is lost is what this sentence was about, and by the
# table above the more is lost, the more there was to remember.
#
# ## 2.2 Build: look back
#
# [Bahdanau, Cho and Bengio (2015)](https://arxiv.org/abs/1409.0473) let the decoder look at **all** states
# of the encoder, $h_1 \dots h_m$, one for each source word, before it writes the next word. To look at all
# is not to look at all equally. So, with the decoder's previous state $s_{i-1}$ as the question:
#
# 1. **score** each $h_j$, by a small network with one hidden layer: $\; e_{ij} = v^\top \tanh(W s_{i-1} + U
#    h_j)$
# 2. turn scores into **weights** that sum to one: $\; \alpha_{ij} = \dfrac{\exp(e_{ij})}{\sum_{k=1}^{m}
#    \exp(e_{ik})}$
# 3. take the **context**, the weighted sum: $\; c_i = \sum_{j=1}^{m} \alpha_{ij}\, h_j$
#
# The matrices $W$ and $U$ and the vector $v$ are learned with everything else. (This $v$ is no value, as
# $v_j$ was in chapter 1; the letter is the paper's.)
#
# In the words of today: $s_{i-1}$ is the **query**, each $h_j$ is a **key** (what it is scored by) and a
# **value** (what it contributes) at once. In the code, `query` is $s_{i-1}$, row $j$ of `keys` is $h_j$,
# `e` and `weights` are the rows $e_i$ and $\alpha_i$, and `context` is $c_i$:


# %%
def my_attention(query, keys, W, U, v):
    """One query (query_size), all keys (key, key_size): return context (key_size) and weights (key)."""
    e = torch.tanh(query @ W.T + keys @ U.T) @ v  # (key, hidden) @ (hidden) -> (key)
    weights = e.exp() / e.exp().sum()  # (key)
    return weights @ keys, weights  # (key) @ (key, key_size) -> (key_size)


# %% [markdown]
# Small enough to check by hand: a query of width 1, three keys of width 2, a hidden layer of width 2.

# %%
query = torch.tensor([1.0])
keys = torch.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, 2.0]])
W = torch.tensor([[0.0], [1.0]])  # (hidden, query_size)
U = torch.tensor([[1.0, 0.0], [0.0, -1.0]])  # (hidden, key_size)
v = torch.tensor([1.0, 1.0])  # (hidden)

context, weights = my_attention(query, keys, W, U, v)
print("inside tanh\n", query @ W.T + keys @ U.T)
print("scores ", torch.tanh(query @ W.T + keys @ U.T) @ v)
print("weights", weights, "sum", weights.sum())
print("context", context)

# %% [markdown]
# Before you believe the printed numbers, take the first key: inside tanh stand $(0 + 1,\; 1 - 0) = (1, 1)$.
# With $\tanh(1) = 0.762$ its score is $0.762 + 0.762$. The second key: $(0 + 0,\; 1 - 1) = (0, 0)$, score
# 0. Do the third yourself, then the three weights.
#
# ### Prove it
#
# The library's `AdditiveAttention` does the same for a batch of queries. Take the layer's own $W$, $U$ and
# $v$ and put them into our function: outputs **and** gradients must agree. The negative control changes a
# single entry of $U$, by 0.01, and must be noticed.

# %% tags=["claim-C04"]
torch.manual_seed(0)
layer = AdditiveAttention(query_size=5, key_size=7, hidden_size=11).double()
W, U, v = (projection.weight for projection in layer.children())
v = v[0]
query = torch.randn(2, 3, 5, dtype=torch.float64, requires_grad=True)  # (batch, query, query_size)
keys = torch.randn(2, 13, 7, dtype=torch.float64, requires_grad=True)  # (batch, key, key_size)


def my_batched_attention(query, keys, W, U, v):
    contexts = [
        torch.stack([my_attention(query[b, i], keys[b], W, U, v)[0] for i in range(query.shape[1])])
        for b in range(query.shape[0])
    ]
    return torch.stack(contexts)  # (batch, query, key_size)


def with_gradients(output):
    return output, *torch.autograd.grad(output.square().sum(), (query, keys, *layer.parameters()))


mine = with_gradients(my_batched_attention(query, keys, W, U, v))
theirs = with_gradients(layer(query, keys, keys)[0])
for a, b in zip(mine, theirs, strict=True):
    assert_close(a, b)

output, weights = layer(query, keys, keys)
by_hand = torch.stack(
    [torch.stack([sum(weights[b, i, j] * keys[b, j] for j in range(13)) for i in range(3)]) for b in range(2)]
)
assert_close(output, by_hand)  # the context is the weighted sum of the values

nearly_u = U.detach().clone()
nearly_u[3, 2] += 0.01
other = my_batched_attention(query, keys, W, nearly_u, v)
assert not torch.allclose(other, theirs[0])  # a slightly different network would have been noticed
print("context and five gradients agree with course_lib.AdditiveAttention; so does the weighted sum")

# %% [markdown]
# ### The decoder's step
#
# The context joins the previous word as input of the GRU, and joins the new state when the next word is
# chosen. $[a; b]$ means that one vector is put behind the other:
#
# $$ s_i = \mathrm{GRU}(s_{i-1},\; [y_{i-1}; c_i]), \qquad
#    \text{logits}_i = E \tanh(R\,[s_i; y_{i-1}; c_i]) $$
#
# Here $y_{i-1}$ stands for the embedding of that word, $R$ is the readout's matrix, and $E$ holds one row
# for each French word (the same rows that embed it). Here is the step in the library, the very code that we
# train below, and the readout after it. (`Float[Tensor, "batch hidden"]` says no more than a shape, and
# `memory` is what the encoder left: its states and their mask.) A GRU is written out in it: `reset` and
# `update` are its gates, `new` is the state that it proposes. Find the three parts: look, remember, choose.

# %%
print(inspect.getsource(Seq2Seq.decoder_step))
print(inspect.getsource(Seq2Seq.logits))

# %% [markdown]
# Two things to notice. The keys' part of the score, $U h_j$, does not depend on the step. It is computed
# once a sentence (`projected_states`), not once a word. And there is a **mask**: sentences of a batch are
# filled up to one length, and nobody may look at the filling. Does the mask do its work? A sentence must
# get the same logits alone and in company:

# %%
torch.manual_seed(0)
small = Seq2Seq(Seq2SeqConfig(len(source_vocab), len(target_vocab), 16, 32, 16)).double().eval()
short, long = sorted(data.test[:2], key=lambda pair: len(pair.source))
sources, targets = encode_pairs([short, long])
source, lengths = pad(sources)
target, _ = pad(targets)


class UnmaskedAttention(AdditiveAttention):
    """The same attention, with the mask forgotten."""

    def forward(self, query, key, value, mask=None, projected_key=None):
        return super().forward(query, key, value, None, projected_key)


def with_attention(model, kind):
    """A copy of the model, with the same parameters and another kind of attention."""
    config = model.config
    copy = Seq2Seq(config)
    copy.attention = kind(config.hidden_size, config.hidden_size, config.attention_size)
    copy.to(next(model.parameters()).dtype).load_state_dict(model.state_dict())
    return copy.eval()


together = small(source, target, lengths)[0, : len(targets[0])]
alone = small(source[:1, : lengths[0]], target[:1, : len(targets[0])], lengths[:1])[0]
assert_close(together, alone)

unmasked = with_attention(small, UnmaskedAttention)(source, target, lengths)[0, : len(targets[0])]
assert (unmasked - alone).abs().max() > 1e-3
print(f"with the mask: largest difference {(together - alone).abs().max():.0e}")
print(f"without:       largest difference {(unmasked - alone).abs().max():.0e}")

# %% [markdown]
# ### Why the encoder reads both ways
#
# A GRU that reads from left to right knows, at a word, only what came before it. For *kings* in "my sick
# kings" that will do. For "my" it will not: whether it is *mon*, *ma* or *mes* is decided by a word that
# comes later. A **bidirectional** encoder runs two GRUs, one from each end, and joins their states, half
# the width each.
#
# Test it: change the **last** word of a sentence. Does the state of the **first** word notice?

# %%
sentence, other = source[1:], source[1:].clone()
other[0, lengths[1] - 2] = source_vocab.encode(["cat"])[0]  # the last word, before the full stop
for bidirectional in (False, True):
    torch.manual_seed(0)
    model = Seq2Seq(
        Seq2SeqConfig(len(source_vocab), len(target_vocab), 16, 32, 16, bidirectional=bidirectional)
    ).double()
    before = model.encode(sentence, lengths[1:]).states[0, 0]
    after = model.encode(other, lengths[1:]).states[0, 0]
    moved = (after - before).abs().max().item()
    print(f"bidirectional={bidirectional!s:5}  first state moved by {moved:.0e}")
    assert (moved > 0) == bidirectional

# %% [markdown]
# ## 2.3 Train it
#
# Same data, same steps, same learning rate as before. The only change: `attention=True`. Look up what the
# model with one vector reached on the longest sentences, in the last row of its table. **Predict** what
# this one will reach there.

# %%
attentive, attentive_history = train_translator(attention=True)
attentive_scores = score_by_length(attentive)

# %% tags=["claim-C01"]
print("source words    one vector          attention")
print("                BLEU  exact         BLEU  exact")
for low, high in attentive_scores:
    (bleu_1, exact_1), (bleu_2, exact_2) = one_vector_scores[low, high], attentive_scores[low, high]
    print(f"{low:2} to {high:2}{bleu_1:13.1f}{exact_1:7.0%}{bleu_2:13.1f}{exact_2:7.0%}")

overall = attentive_scores[3, 25][0]
shortest, longest = BINS[0], BINS[-1]
kept_one_vector = one_vector_scores[longest][0] / one_vector_scores[shortest][0]
kept_attentive = attentive_scores[longest][0] / attentive_scores[shortest][0]
print("\nBLEU of the longest as a share of the BLEU of the shortest:")
print(f"one vector {kept_one_vector:.0%}, attention {kept_attentive:.0%}")
assert overall >= 90
assert kept_one_vector < 0.7 and kept_attentive > 0.85
assert one_vector_scores[longest][0] < 0.5 * attentive_scores[longest][0]


# %%
def plot_by_length(ax, column, label):
    names = [f"{low}–{high}" for low, high in BINS]
    ax.plot(names, [attentive_scores[b][column] for b in BINS], "o-", label="attention")
    ax.plot(names, [one_vector_scores[b][column] for b in BINS], "s--", label="one vector")
    ax.set(xlabel="words in the source", ylabel=label, ylim=(0, None))
    return ax


figure, axes = plt.subplots(1, 2, figsize=(8, 2.6), layout="constrained")
plot_by_length(axes[0], 0, "BLEU").legend()
plot_by_length(axes[1], 1, "share exactly right")
None

# %% [markdown]
# *What to look at: on the left, BLEU with attention is nearly flat, and without it low and falling. On the
# right, the share of sentences without a single error falls with attention too: a longer sentence has more
# places for one. Without attention there is hardly a share to lose.*
#
# Be fair to the model with one vector: it has not finished learning, not even short sentences. Look at the
# training itself.


# %%
def smooth(values, width=50):
    return torch.tensor(values).unfold(0, width, 1).mean(dim=1)


def plot_training(ax):
    ax.plot(smooth(attentive_history.losses), label="attention")
    ax.plot(smooth(one_vector_history.losses), "--", label="one vector")
    ax.set(xlabel="step", ylabel="training loss, mean of 50 steps", ylim=(0, None))
    ax.legend()
    return ax


figure, ax = plt.subplots(figsize=(5, 2.6), layout="constrained")
plot_training(ax)
for name, history in (("attention", attentive_history), ("one vector", one_vector_history)):
    quarter = len(history.losses) // 4
    late, last = sum(history.losses[-2 * quarter : -quarter]), sum(history.losses[-quarter:])
    print(f"{name:10}  mean loss in the third quarter {late / quarter:.2f}, in the last {last / quarter:.2f}")

# %% [markdown]
# *What to look at: with attention the loss is soon small. The dashed curve wavers and comes down slowly;
# its last quarter still lies below the one before, as the numbers above the figure say.*
#
# So what we measured is not the limit of one vector. It is how much harder the one-vector model has to
# work: it must learn to press any sentence into one vector and to unpack it again, where the other learns
# to look. On real sentences, with ten minutes of training for each, a difference remains. Here is what the
# course's benchmark measured (`make bench` repeats it):

# %%
results = json.loads(Path("../book/results/translation.json").read_text(encoding="utf-8"))
print(results["task"])
for run in results["runs"]:
    if run["minutes"] == 10 and run["seed"] == 0 and run["model"] in ("without attention", "with attention"):
        score, seconds = run["greedy"]["tokenized"]["score"], run["training_seconds"]
        print(f"{run['model']:18} BLEU {score:.1f} after {seconds:.0f} seconds of training")

# %% [markdown]
# ## 2.4 See where it looks
#
# `record_attention` collects the weights while the model runs. Before each word the decoder is told the
# right previous word, whatever it would have written itself. That is called **teacher forcing**, and
# training did the same. So row $i$ shows where the decoder looks when it is about to write the $i$-th word.


# %%
def attention_weights(model, pairs):
    """For each pair the weights (target word, source word), with teacher forcing."""
    sources, targets = encode_pairs(pairs)
    source, lengths = pad(sources)
    target, _ = pad(targets)
    with torch.no_grad(), record_attention(model) as maps:
        model(source, target[:, :-1], lengths)
    weights = torch.cat(maps["attention"], dim=2)[:, 0]  # one map a step -> (pair, target, source)
    return [w[: len(pair.target), : len(pair.source)] for w, pair in zip(weights, pairs, strict=True)]


def plot_alignment(ax, weights, pair):
    """Weights as shades, gold links as orange frames."""
    ax.imshow(weights, vmin=0, vmax=1, cmap="Greys")
    for target_index, source_index in pair.alignment:
        frame = (source_index - 0.5, target_index - 0.5)
        ax.add_patch(plt.Rectangle(frame, 1, 1, fill=False, edgecolor="tab:orange", linewidth=2))
    ax.set_xticks(range(len(pair.source)), pair.source, rotation=60, ha="right")
    ax.set_yticks(range(len(pair.target)), pair.target)
    return ax


feet = min(
    (pair for pair in data.test if pair.source[:3] == ("my", "feet", "hurt")), key=lambda p: len(p.source)
)
miss = next(pair for pair in data.test if "misses" in pair.source and 6 <= len(pair.source) <= 9)
print(feet.source_text, "->", " ".join(translate(attentive, [feet.source])[0]))
print(miss.source_text, "->", " ".join(translate(attentive, [miss.source])[0]))
print("training pairs with 'my feet':", sum("my feet" in " ".join(pair.source) for pair in data.train))

figure, axes = plt.subplots(1, 2, figsize=(8, 3.6), layout="constrained")
for ax, pair in zip(axes, (feet, miss), strict=True):
    plot_alignment(ax, attention_weights(attentive, [pair])[0], pair)

# %% [markdown]
# *What to look at: a row is a French word, a column an English one. The darker the cell, the more the
# decoder looked there. Orange frames are the gold links.*
#
# "My feet hurt" is *j'ai mal aux pieds*, "I have ache at the feet". No training sentence says it; others
# with other persons and other parts of the body do. Follow *pieds* to its column, and *mal* to its own. In
# the second map the sentence turns round: who is missed becomes the subject in French.
#
# Now step through a translation yourself, word by word. Click into the view, or reach it with Tab, and use
# the arrow keys. Before each step, guess where the decoder will look.

# %%
long = next(pair for pair in data.test if len(pair.source) == 13)
alignment_view(attention_weights(attentive, [long])[0], long.source, long.target, gold=long.alignment)

# %% [markdown]
# *What to look at: the source words are shaded by their weight, and the gold links are outlined. Watch the
# places where French puts a word elsewhere than English does.*
#
# ## 2.5 Grade it
#
# A pretty map is not a proof. We have the truth, so let us count. Link each target word to the source word
# with the largest weight and compare these links $A$ with the gold links $S$ by the **alignment error
# rate** ([Och and Ney 2003](https://aclanthology.org/J03-1002/)):
#
# $$ \mathrm{AER} = 1 - \frac{|A \cap S| + |A \cap S|}{|A| + |S|} $$
#
# 0 is perfect, 1 means that no link is right. (In their formula the second term counts links that are
# *possible* but not sure. Our gold links are all sure, so both terms are the same.) We link each French
# word to one English word, but some French words have two gold links, so 0 cannot be reached here.
#
# To know what a number is worth, grade three others the same way: a model before training, a guess along
# the diagonal (the $i$-th of $n$ French words comes from the place that lies equally far along the English
# sentence), and the trained weights with their rows shifted by one. **Predict** their order.

# %% tags=["claim-C06"]
gold = [pair.alignment for pair in data.test]


def error_rate(list_of_weights):
    return alignment_error_rate([alignment_from_weights(weights) for weights in list_of_weights], gold)


torch.manual_seed(0)
untrained = Seq2Seq(attentive.config).eval()
trained_weights = attention_weights(attentive, data.test)
diagonal = [
    frozenset(
        (i, min(len(pair.source) - 1, round(i * len(pair.source) / len(pair.target))))
        for i in range(len(pair.target))
    )
    for pair in data.test
]
attentive_error = error_rate(trained_weights)
# One gold link for each target word: a dict keeps the last.
within_reach = [frozenset(dict(sorted(links)).items()) for links in gold]
errors = {
    "best that one link a word can do": alignment_error_rate(within_reach, gold),
    "trained": attentive_error,
    "diagonal guess": alignment_error_rate(diagonal, gold),
    "trained, rows shifted by one": error_rate([weights.roll(1, dims=0) for weights in trained_weights]),
    "untrained": error_rate(attention_weights(untrained, data.test)),
}
for name, value in errors.items():
    print(f"{name:33} alignment error rate {value:.3f}")
assert errors["trained"] <= 0.15
assert all(errors[name] > 0.4 for name in ("diagonal guess", "trained, rows shifted by one", "untrained"))

# %% [markdown]
# Nobody told the model which word translates which. It was told the right translation only. To get that
# right it helps to look at the right word, and so the alignment came with it.
#
# What are its errors? A word is wrong when the most weight lies on no word that is linked to it. Look at
# the commonest such cases, and at where the weight lay instead:

# %%
wrong, seen = Counter(), Counter()
for weights, pair in zip(trained_weights, data.test, strict=True):
    for target_index, word in enumerate(pair.target):
        linked = {source for target, source in pair.alignment if target == target_index}
        looked_at = weights[target_index].argmax().item()
        seen[word] += 1
        if linked and looked_at not in linked:
            right = " or ".join(pair.source[source] for source in sorted(linked))
            wrong[word, right, pair.source[looked_at]] += 1
print("French word   comes from      looked at       times   of so many of that word")
for (word, right, looked_at), count in wrong.most_common(10):
    print(f"{word:14}{right:16}{looked_at:14}{count:7}{seen[word]:10}")
print(f"in all {sum(wrong.values())} wrong of {sum(seen.values())} words")

# %% [markdown]
# Read the second and the third column together. Where the right word and the one looked at are neighbours,
# remember what the weights are about: *states* of the encoder. A state has heard the words around it, so it
# may know this word as well. (Where they are far apart, this explains nothing.) That is a first warning
# that weights over states are not weights over words.
#
# ### Does reading both ways help?
#
# Train once more with an encoder that reads from left to right only. Its states are as wide as the others.

# %% tags=["claim-C05"]
one_way, _ = train_translator(attention=True, bidirectional=False)
one_way_bleu = score_by_length(one_way)[3, 25][0]
one_way_weights = attention_weights(one_way, data.test)
one_way_error = error_rate(one_way_weights)
print(f"both ways: BLEU {overall:.1f}, alignment error rate {attentive_error:.3f}")
print(f"one way:   BLEU {one_way_bleu:.1f}, alignment error rate {one_way_error:.3f}")
assert one_way_bleu < overall and one_way_error > attentive_error

# %% [markdown]
# In this run it helps the translation somewhat and the alignment a lot. Why the second more? Here is a
# guess: a state of the one-way encoder knows only what came before, so the decoder must often look at a
# *later* word, whose state has heard enough. If that is so, the wrong looks of the one-way model go to the
# right of the gold word. **Predict** the share for both models.


# %%
def share_to_the_right(list_of_weights):
    """Of the looks that miss all gold words, the share that fall to the right of the last of them."""
    later = missed = 0
    for weights, pair in zip(list_of_weights, data.test, strict=True):
        for target_index, looked_at in enumerate(weights.argmax(dim=1).tolist()):
            linked = [source for target, source in pair.alignment if target == target_index]
            if linked and looked_at not in linked:
                missed += 1
                later += looked_at > max(linked)
    return later / missed, missed


for name, weights in (("both ways", trained_weights), ("one way", one_way_weights)):
    share, missed = share_to_the_right(weights)
    print(f"{name:10} {missed:5} wrong looks, {share:.0%} of them at a later word")
one_way_later, both_ways_later = (share_to_the_right(w)[0] for w in (one_way_weights, trained_weights))
assert one_way_later > 0.75 and one_way_later > both_ways_later + 0.1

# %% [markdown]
# In the one-way model nearly all wrong looks fall on a later word, in the other far fewer, as the guess has
# it. They are wrong by the gold links, which are about words. The model can translate from them all the
# same.
#
# ## 2.6 Do the weights explain the translation?
#
# One often reads "the model attended to this word, *so* this word made it say that". [Jain and Wallace
# (2019)](https://arxiv.org/abs/1902.10186) say that attention is not explanation, from models that classify
# texts, answer questions and judge whether one sentence follows from another; [Wiegreffe and Pinter
# (2019)](https://arxiv.org/abs/1908.04626) answer that it depends on what you ask. We have a translator.
# Ask two things.
#
# **Occlusion.** Replace one source word by `<unk>`, the token for unknown words. How much less likely does
# the right next word become? The word whose loss hurts most is the one that mattered. Is it the one with
# the most weight? (A caution: training never showed an `<unk>`, so its embedding is as random as on the
# first day. We ask what happens when a word is replaced by noise, which is not quite what happens when it
# is taken away.)


# %%
def log_probabilities(model, pair):
    """Log-probability of each right target word: for the whole source, and without each source word."""
    (source,), (target,) = encode_pairs([pair])
    sources = torch.tensor([source] * (len(pair.source) + 1))
    for j in range(len(pair.source)):
        sources[j + 1, j] = source_vocab.unk_id  # row 0 stays whole
    targets = torch.tensor([target] * len(sources))
    with torch.no_grad():
        logits = model(sources, targets[:, :-1], torch.tensor([len(source)] * len(sources)))
    found = logits.log_softmax(dim=-1).gather(2, targets[:, 1:, None])[:, :-1, 0]
    return found[0], found[1:]  # (target word), (occluded source word, target word)


sample = data.test[:150]
by_occlusion, agree, words = [], 0, 0
for pair, weights in zip(sample, trained_weights, strict=False):
    whole, occluded = log_probabilities(attentive, pair)
    loss = (whole - occluded).T  # (target word, source word): how much is lost without this source word
    by_occlusion.append(loss - loss.min() + 1e-6)  # shifted to be positive; its largest entry stays largest
    agree += (loss.argmax(dim=1) == weights.argmax(dim=1)).sum().item()
    words += len(pair.target)

sample_gold = gold[: len(sample)]
occlusion_error = alignment_error_rate([alignment_from_weights(w) for w in by_occlusion], sample_gold)
weight_error = alignment_error_rate(
    [alignment_from_weights(w) for w in trained_weights[: len(sample)]], sample_gold
)
print(f"most weight and greatest loss fall on the same word for {agree / words:.0%} of {words:,} words")
print(f"alignment error rate by weight {weight_error:.3f}, by occlusion {occlusion_error:.3f}")

# %% [markdown]
# They agree on most words and not on all, and occlusion strays further from the gold links: the word that
# hurts most when it is lost is less often the one that is translated.
#
# **Permutation.** Keep the weights, but give them to the wrong words: shift each row, round and round, by a
# random number of words, so that every word gets the weight of another. If the prediction hardly moves, the
# map has nothing to do with it. We measure the **total variation** between the two predictions, half the
# sum of absolute differences: 0 for equal, 1 for nothing in common.


# %% tags=["claim-C07"]
class ShiftedAttention(AdditiveAttention):
    """The same weights, given to other keys: each row rolled by 1 to m - 1 places (m keys)."""

    def forward(self, query, key, value, mask=None, projected_key=None):
        _, weights = super().forward(query, key, value, mask, projected_key)  # (batch, 1, key)
        lengths = mask[:, 0].sum(dim=-1, keepdim=True)  # (batch, 1, 1): m
        shift = 1 + (torch.rand(lengths.shape) * (lengths - 1)).long()  # (batch, 1, 1), from 1 to m - 1
        places = torch.arange(weights.shape[-1])
        origin = torch.where(places < lengths, (places - shift) % lengths, places)  # (batch, 1, key)
        shifted = weights.gather(-1, origin)
        return shifted @ value, shifted


shifted = with_attention(attentive, ShiftedAttention)
torch.manual_seed(0)
sources, targets = encode_pairs(sample)
(source, lengths), (target, _) = pad(sources), pad(targets)
with torch.no_grad():
    usual = attentive(source, target[:, :-1], lengths).softmax(dim=-1)
    other = shifted(source, target[:, :-1], lengths).softmax(dim=-1)
real_words = (target[:, 1:] != target_vocab.pad_id) & (target[:, 1:] != target_vocab.eos_id)
distance = (usual - other).abs().sum(dim=-1)[real_words] / 2
usual_bleu, shifted_bleu = (score_by_length(model, sample)[3, 25][0] for model in (attentive, shifted))
print(f"total variation when all looks go wrong: mean {distance.mean():.2f}")
print(f"words whose prediction hardly moves (below 0.1): {(distance < 0.1).float().mean():.0%}")
print(f"BLEU on the sample {usual_bleu:.1f}, with all looks gone wrong {shifted_bleu:.1f}")
assert shifted_bleu < 0.3 * usual_bleu, "where a translator looks matters for what it says"
assert (distance < 0.1).float().mean() > 0.02, "and yet for some words it does not"
assert agree / words < 0.95, "weights and occlusion do not tell quite the same story"

# %% [markdown]
# So both sides have a point. Taken as a whole the weights matter: with all looks gone wrong next to nothing
# is left of the translation. And yet for a few words the prediction hardly moves, though the model looks
# elsewhere, and their map explains nothing. Which ones?

# %%
by_word = {}
for token, moved in zip(target[:, 1:][real_words].tolist(), distance.tolist(), strict=True):
    by_word.setdefault(target_vocab.decode([token])[0], []).append(moved)
shares = sorted(
    (sum(move < 0.1 for move in moves) / len(moves), word)
    for word, moves in by_word.items()
    if len(moves) >= 15
)
print("how often the prediction of a word hardly moves, of words that occur 15 times or more")
print("most often:", ", ".join(f"« {word} » {share:.0%}" for share, word in shares[:-7:-1]))
print("never:     ", ", ".join(f"« {word} »" for share, word in shares if share == 0))

# %% [markdown]
# *What to look at: what sets the words of the first row apart from those of the second?* We would say: a
# comma, a definite article or the *ne* of a negation is often likely whatever the source says. A noun or a
# name seldom is. Where the prediction hardly moves, ask the decoder's state, and not the map, why this word
# came.
#
# ## 2.7 Break it
#
# **1. Look evenly.** Replace the trained weights by equal ones: the context becomes the mean of all states.
# Nothing is retrained. **Predict:** worse than the model with one vector, or better?


# %%
class EvenAttention(AdditiveAttention):
    def forward(self, query, key, value, mask=None, projected_key=None):
        weights = mask[:, 0].float() / mask[:, 0].sum(dim=-1, keepdim=True)  # (batch, 1, key)
        return weights @ value, weights


even = with_attention(attentive, EvenAttention)
even_bleu = score_by_length(even, sample)[3, 25][0]
one_vector_bleu = score_by_length(one_vector, sample)[3, 25][0]
print(f"BLEU on the sample: attention {usual_bleu:.1f}, the same model looking evenly {even_bleu:.1f},")
print(f"the model with one vector, trained that way, {one_vector_bleu:.1f}")
assert even_bleu < 0.5 * usual_bleu

# %% [markdown]
# The decoder was trained to be told about *one* word at a time. A mean of all of them tells it about none.
#
# **2. Let it look at the filling.** Forget the mask. The encoder still knows each sentence's length; only
# attention may look at the filling behind it, where the encoder's states are zeros. **Predict:** how many
# of 200 translations change when each is followed by 0, 8 or 40 pads?

# %%
unmasked = with_attention(attentive, UnmaskedAttention)
sources = [source_vocab.encode(pair.source) for pair in data.test[:200]]
wanted = [" ".join(pair.target) for pair in data.test[:200]]
by_filling = {}
for model, filling in ((attentive, 40), (unmasked, 0), (unmasked, 8), (unmasked, 40)):
    outputs = []
    for source in sources:  # one by one: in company the shorter ones would get more filling
        ids = torch.tensor([source + [source_vocab.pad_id] * filling])
        size = torch.tensor([len(source)])
        outputs += greedy_decode(model, ids, size, target_vocab.bos_id, target_vocab.eos_id, max_length=40)
    by_filling[model, filling] = [" ".join(target_vocab.decode(output)) for output in outputs]
untouched = by_filling[unmasked, 0]
for (model, filling), words in by_filling.items():
    changed = sum(a != b for a, b in zip(words, untouched, strict=True))
    bleu = corpus_bleu(words, wanted, tokenized=True).score
    name = "with the mask" if model is attentive else "mask forgotten"
    print(f"{name:14} {filling:3} pads: {changed:3} of 200 translations change, BLEU {bleu:.1f}")
assert by_filling[attentive, 40] == untouched

# %% [markdown]
# Nothing is raised, and with little filling most translations are as before. That is what makes this bug
# live long: a forgotten mask shows as a slightly worse score, and as translations that depend on who shares
# the batch. Only a test like the one in section 2.2, alone against in company, finds it for sure.
#
# ## 2.8 Exercises
#
# Write into the cells in place of `...` and run them. `check` tries your function on small inputs, drawn
# anew each time, and says what is wrong, and which mistake it is, where it knows the mistake. Hints come
# in two steps, then the solution; all are folded. `progress()`, from the same module, lists what you have
# solved.

# %%
from course_lib.exercises import check

# %% [markdown]
# **2.1 One line.** Given weights (query, key) and values (key, width), return the contexts (query,
# width).


# %% tags=["exercise"]
def contexts(weights, values): ...


check("2.1", contexts)

# %% [markdown]
# <details><summary>Hint 1</summary>A weighted sum over the keys, for each query: which axis is
# summed?</details>
# <details><summary>Hint 2</summary>Which product of (query, key) and (key, width) gives (query,
# width)?</details>
# <details><summary>Solution</summary>
#
# ```python
# def contexts(weights, values):
#     return weights @ values
# ```
#
# The product of matrices sums over the inner axis, and that is the keys.
# </details>
#
# **2.2 The additive score, without a loop.** For projected queries $W q_i$ (query, hidden), projected
# keys $U k_j$ (key, hidden) and $v$ (hidden) return the scores (query, key).


# %% tags=["exercise"]
def additive_scores(projected_queries, projected_keys, v): ...


check("2.2", additive_scores)

# %% [markdown]
# <details><summary>Hint 1</summary>Every query meets every key: give each its own axis.</details>
# <details><summary>Hint 2</summary>Shapes (query, 1, hidden) and (1, key, hidden) add up to (query, key,
# hidden).</details>
# <details><summary>Solution</summary>
#
# ```python
# def additive_scores(projected_queries, projected_keys, v):
#     hidden = torch.tanh(projected_queries[:, None, :] + projected_keys[None, :, :])
#     return hidden @ v
# ```
#
# An axis of size one is stretched, so all pairs are added at once. `@ v` sums over the hidden axis and
# leaves (query, key).
# </details>
#
# **2.3 A softmax that survives.** `my_attention` computes `e.exp() / e.exp().sum()`. Try it on the scores
# (1000, 999, 0). What comes out? Mend it without `softmax`, for one row of scores (key).


# %% tags=["exercise"]
def safe_weights(e): ...


check("2.3", safe_weights)

# %% [markdown]
# <details><summary>Hint 1</summary>What is <code>torch.tensor(1000.0).exp()</code>? Adding one number to
# all scores changes no weight.</details>
# <details><summary>Hint 2</summary>Which number must be subtracted so that no exponent is above zero, and
# one of them is zero?</details>
# <details><summary>Solution</summary>
#
# ```python
# def safe_weights(e):
#     shifted = (e - e.max()).exp()
#     return shifted / shifted.sum()
# ```
#
# Infinity divided by infinity is NaN. Now the largest exponent is 0, so nothing overflows. With additive
# attention scores cannot grow beyond $\sum_c |v_c|$, since tanh stays between -1 and 1. Dot products have
# no such bound.
# </details>
#
# **2.4 Find the bug.** This function takes links from the weights (target, source) of one sentence. It
# does not do what `alignment_from_weights` does. Mend it. How much worse did it grade the trained model?


# %% tags=["exercise"]
def suspicious_links(weights):
    return frozenset((query, key) for key, query in enumerate(weights.argmax(dim=0).tolist()))


check("2.4", suspicious_links)

# %% [markdown]
# <details><summary>Hint 1</summary>How many links does it give for 5 target words and 7 source
# words?</details>
# <details><summary>Hint 2</summary>Each target word, each row, gets one link. Along which axis is the
# largest weight of a row looked for?</details>
# <details><summary>Solution</summary>
#
# ```python
# def suspicious_links(weights):
#     return frozenset((query, key) for query, key in enumerate(weights.argmax(dim=1).tolist()))
# ```
#
# It took the largest entry of each **column**: for each source word, the target word that looks at it
# most. Columns do not sum to one and are not distributions. A source word that nobody needs got a link
# all the same, and a target word may have got none. Grade both versions with `alignment_error_rate`, over
# all of `trained_weights`, against `gold`.
# </details>
#
# **2.5 Nobody looks at the filling.** Given scores (sentence, query, key) and the `lengths` (sentence) of
# the sentences, each at least 1, return the weights. Padding at the end of a sentence gets none.


# %% tags=["exercise"]
def padded_weights(scores, lengths): ...


check("2.5", padded_weights)

# %% [markdown]
# <details><summary>Hint 1</summary>Which positions are real? A row of positions against a column of
# lengths gives a table (sentence, key).</details>
# <details><summary>Hint 2</summary>A score that gives a weight of zero must be set <i>before</i> the
# softmax. And the table needs an axis for the queries.</details>
# <details><summary>Solution</summary>
#
# ```python
# def padded_weights(scores, lengths):
#     real = torch.arange(scores.shape[-1]) < lengths[:, None]  # (sentence, key)
#     return scores.masked_fill(~real[:, None, :], -torch.inf).softmax(dim=-1)
# ```
#
# $e^{-\infty} = 0$, so the padding gets nothing and the rest still sums to one. Multiplying the finished
# weights by the mask leaves rows that sum to less than one, and by how much depends on the padding.
# </details>
#
# **2.6 Open end.** Reach BLEU 87 with a smaller model, in the same number of steps: at most half the
# parameters of `attentive`. Return the trained model. Choose on `data.validation`, with
# `score_by_length`, and run the check, which looks at the test, once, at the end. Why not choose on the
# test? (Training takes half a minute or more.)


# %% tags=["exercise"]
def smaller_translator(): ...


check(
    "2.6",
    smaller_translator,
    bleu=lambda model: score_by_length(model)[3, 25][0],
    parameters=sum(parameter.numel() for parameter in attentive.parameters()) // 2,
)

# %% [markdown]
# <details><summary>Hint 1</summary>Print the size of each parameter. Most of them sit in the matrices
# that grow with the square of <code>hidden_size</code>.</details>
# <details><summary>Hint 2</summary>Copy <code>train_translator</code>, and shrink the three sizes, the
# hidden one most. A smaller model learns less in a step, so raise the learning rate.</details>
# <details><summary>Solution</summary>
#
# ```python
# def smaller_translator():
#     torch.manual_seed(2)
#     sizes = {"embedding_size": 56, "hidden_size": 64, "attention_size": 48}
#     model = Seq2Seq(Seq2SeqConfig(len(source_vocab), len(target_vocab), **sizes))
#     batches = PairBatches(*encode_pairs(data.train), batch_size=32, seed=2)
#     fit(model, batches, translation_loss, steps=1000, learning_rate=1e-2, decay="cosine")
#     return model
# ```
#
# The matrices of a GRU and the readout shrink with `hidden_size`, most of them by the square. The
# embeddings are spared, since each word needs its own. Who chooses among many models by their test score
# reports the luck of the best one: the next 1,500 sentences will be kinder to none of them.
# </details>
#
# ## 2.9 What we showed
#
# - Through one vector quality falls with length, in a model that had not finished learning. With attention,
#   in the same number of steps, BLEU hardly falls; the share of flawless sentences still does, since a
#   longer sentence has more places for an error (C01).
# - Bahdanau's score is a tanh network with one hidden layer over decoder state and encoder state, and the
#   context is the weighted sum of the states (C04). We built it, and it equals the library's, values and
#   gradients.
# - A bidirectional encoder gives each position both sides of the sentence. Here it helps the translation
#   somewhat and the alignment a lot (C05).
# - Trained attention falls mostly on the words that translate one another, though nobody asked for it
#   (C06).
# - Whether weights explain a prediction depends on the question: give them to the wrong words and the
#   translation is ruined, yet some predictions hardly move, and for some words the one that mattered is not
#   the one with the most weight (C07).
#
# **What the papers say.** [Bahdanau et al.](https://arxiv.org/abs/1409.0473) (section 3.1 and appendix A)
# choose the next word from the *previous* state $s_{i-1}$, with a maxout layer where we use tanh and $s_i$,
# and compute the decoder's first state from the backward GRU alone. [Cho et al.
# 2014](https://arxiv.org/abs/1409.1259) had measured the fall with length before; [Sutskever et
# al.](https://arxiv.org/abs/1409.3215) reported next to none, with four layers of LSTM, a state of 8,000
# numbers and reversed sources. [Luong et al. 2015](https://arxiv.org/abs/1508.04025) query with the *new*
# state $s_i$ and compare other scores.
#
# **What comes next.** The additive score needs a hidden layer for each pair of query and key. Chapter 3
# replaces it by a dot product, which is one large matrix product for all pairs at once.
