"""Train a GPT on the characters of tiny-shakespeare, and time its step and its cache.

    python tests/benchmarks/gpt.py --check
    python tests/benchmarks/gpt.py --only training --seconds 60 --validate

The first 90 % of the text are learned from, for 60 seconds and again, with a larger model, for 300; the loss
is the mean over all of the last 10 %, cut into windows of the model's context one after another, so that the
first characters of each are guessed with little to go by. The recipes were chosen with --validate: the last
ninth of the training text is then held out and graded on instead, and nothing is written.

The model is put together from the course's blocks: rotary positions, queries and keys brought to one length,
squared ReLU, zeros in the matrices whose results are added, Muon for the matrices of the blocks, and their
products in bfloat16. What is timed is the chapter's own, GPT-2's: a training step beside the same model from
PyTorch's parts, with equal parameters, and writing 256 characters behind 256 with the cache beside without
it; in turns in one run, and of each the median counts. --check fails when the loss after 60 seconds is above
1.60, a step takes more than 1.05 times as long as PyTorch's, or the cache makes writing less than 8 times as
fast.

Sources: Jordan et al. 2024 (Muon and the recipe, https://github.com/KellerJordan/modded-nanogpt); So et al.
2021 (squared ReLU); Henry et al. 2020 (normalised queries and keys).
"""

import argparse
import datetime
import functools
import json
import statistics
import sys
import time
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F
from translation import describe_machine, write_json

from course_lib.attention import causal_mask
from course_lib.data.text import CharacterVocabulary, load_text
from course_lib.generation import generate
from course_lib.models.gpt import GPT, GPTConfig
from course_lib.positions import RotaryAttention
from course_lib.training import WindowBatches, learning_rate_factor, mean_loss, next_token_loss

# The parameters are copied as the tests do it.
sys.path.append(str(Path(__file__).parents[1]))
from mixed_precision import multiply_in_bfloat16
from torch_twins import copy_block

TASK = "tiny-shakespeare, next character, split 90 to 10"
RESULTS = Path(__file__).parents[2] / "book" / "results" / "gpt.json"
RECIPES = {
    60: {
        "sizes": {"context_length": 96, "d_model": 128, "num_heads": 4, "num_blocks": 3, "d_ff": 512},
        "batch_size": 16,
        "matrices_learning_rate": 0.03,  # by Muon: the matrices of the blocks
        "learning_rate": 5e-3,  # by AdamW: all other parameters
        "warmup": 0.05,
        "decay": "linear",
    },
    300: {
        "sizes": {"context_length": 128, "d_model": 192, "num_heads": 6, "num_blocks": 4, "d_ff": 768},
        "batch_size": 24,
        "matrices_learning_rate": 0.03,
        "learning_rate": 5e-3,
        "warmup": 0.05,
        "decay": "linear",
    },
}
LARGEST_LOSS, LARGEST_RATIO, LEAST_SPEEDUP = 1.60, 1.05, 8.0
BATCH, LENGTH, VOCAB = 16, 128, 65  # of the step that is timed
PROMPT, NEW = 256, 256  # of the writing that is timed


# -------------------------------------------------------------------------------------------- training


class NormalizedRotaryAttention(RotaryAttention):
    """Rotary attention of queries and keys of one length: scores then depend on directions alone."""

    def _mark_positions(self, query, key):
        query, key = (F.rms_norm(x, (self.d_k,)) for x in (query, key))
        return super()._mark_positions(query, key)


class SquaredReLU(nn.Module):
    def forward(self, x):
        return F.relu(x).square()


def make(recipe: dict, vocab_size: int, seed: int) -> GPT:
    torch.manual_seed(seed)
    model = GPT(GPTConfig(vocab_size, dropout=0.0, positions="rotary", **recipe["sizes"]))
    for block in model.blocks:
        block.attention = NormalizedRotaryAttention(model.config.d_model, model.config.num_heads)
        block.feed_forward.activation = SquaredReLU()
        for added in (block.attention.output_projection, block.feed_forward.contract):
            nn.init.zeros_(added.weight)
    multiply_in_bfloat16(model.blocks)
    return model


def train(model: GPT, tokens: torch.Tensor, seconds: float, recipe: dict, seed: int) -> dict:
    """Train for that long; the learning rates follow the share of the time that has gone by."""
    matrices = [p for p in model.blocks.parameters() if p.dim() == 2]
    others = [p for p in model.parameters() if all(p is not matrix for matrix in matrices)]
    optimizers = {
        torch.optim.Muon(matrices, weight_decay=0.0): recipe["matrices_learning_rate"],
        torch.optim.AdamW(others, betas=(0.9, 0.95), weight_decay=0.0, fused=True): recipe["learning_rate"],
    }
    context_length = model.config.context_length
    batches = WindowBatches(tokens, context_length, recipe["batch_size"], seed)
    seen, losses, started = 0, [], time.perf_counter()
    model.train()
    while True:
        for batch in batches:
            share = (time.perf_counter() - started) / seconds
            if share >= 1:
                model.eval()
                return {
                    "training_seconds": time.perf_counter() - started,
                    "training_steps": len(losses),
                    "training_epochs": seen / len(tokens),
                    "characters_per_second": seen / (time.perf_counter() - started),
                    "training_loss": statistics.mean(losses[-100:]),
                }
            factor = learning_rate_factor(share, recipe["warmup"], recipe["decay"])
            for optimizer, rate in optimizers.items():
                optimizer.param_groups[0]["lr"] = rate * factor
            loss, count = next_token_loss(model, batch)
            loss.backward()
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad()
            losses.append(loss.item())
            seen += count


def training_run(seconds: float, recipe: dict, seed: int, validate: bool) -> dict:
    text = load_text("tiny-shakespeare")
    vocabulary = CharacterVocabulary.from_text(text)
    tokens = torch.tensor(vocabulary.encode(text))
    learn, graded = tokens.tensor_split([9 * len(tokens) // 10])
    if validate:
        learn, graded = learn.tensor_split([8 * len(learn) // 9])
    model = make(recipe, len(vocabulary), seed)
    found = train(model, learn, seconds, recipe, seed)
    windows = WindowBatches(graded, model.config.context_length, 64)
    sample = generate(
        model,
        torch.tensor([vocabulary.encode("\n")]),
        300,
        top_p=0.9,
        slide=model.config.context_length // 2,
        generator=torch.Generator().manual_seed(seed),
    )
    return {
        "seconds": seconds,
        "seed": seed,
        "validation_loss" if not validate else "held_out_training_loss": mean_loss(
            model, windows, next_token_loss
        ),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        **found,
        "recipe": recipe,
        "sample": vocabulary.decode(sample[0]),
    }


# ------------------------------------------------------------------------------------------------ speed


class TorchGPT(nn.Module):
    """The same model of PyTorch's own parts, with the parameters of ours."""

    def __init__(self, ours: GPT):
        super().__init__()
        config = ours.config
        layer = nn.TransformerEncoderLayer(
            config.d_model,
            config.num_heads,
            config.d_ff,
            config.dropout,
            functools.partial(F.gelu, approximate="tanh"),
            batch_first=True,
            norm_first=True,
        )
        norm = nn.LayerNorm(config.d_model)
        self.stack = nn.TransformerEncoder(layer, config.num_blocks, norm, enable_nested_tensor=False)
        self.embedding = nn.Embedding(config.vocab_size, config.d_model)
        self.positions = nn.Embedding(config.context_length, config.d_model)
        with torch.no_grad():
            self.embedding.weight.copy_(ours.embedding.weight)
            self.positions.weight.copy_(ours.positions.weight)
        for mine, theirs in zip(ours.blocks, self.stack.layers, strict=True):
            copy_block(mine, theirs)
        self.stack.norm.load_state_dict(ours.norm.state_dict())

    def forward(self, tokens):
        x = self.embedding(tokens) + self.positions.weight[: tokens.shape[1]]
        blocked = ~causal_mask(tokens.shape[1])
        return self.stack(x, mask=blocked, is_causal=True) @ self.embedding.weight.T


def compare_steps(rounds: int) -> dict:
    torch.manual_seed(0)
    ours = GPT(GPTConfig(VOCAB, LENGTH, d_model=256, num_heads=4, num_blocks=4, d_ff=1024, dropout=0.0))
    models = {"course_lib": ours, "torch.nn": TorchGPT(ours)}
    batch = torch.randint(VOCAB, (BATCH, LENGTH + 1))
    torch.testing.assert_close(*(m(batch[:2, :-1]) for m in models.values()), atol=1e-4, rtol=1e-3)
    optimizers = {name: torch.optim.AdamW(m.parameters(), lr=1e-5, fused=True) for name, m in models.items()}
    seconds = {name: [] for name in models}
    for round_number in range(rounds + 2):
        for name, model in models.items():
            model.train()
            started = time.perf_counter()
            next_token_loss(model, batch)[0].backward()
            optimizers[name].step()
            optimizers[name].zero_grad()
            if round_number >= 2:  # the first ones warm up
                seconds[name].append(time.perf_counter() - started)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    return {
        "sizes": f"d_model 256, 4 blocks, batch {BATCH} by {LENGTH} tokens",
        "seconds": medians,
        "ratio": medians["course_lib"] / medians["torch.nn"],
    }


def compare_writing(rounds: int) -> dict:
    torch.manual_seed(0)
    sizes = {"d_model": 384, "num_heads": 6, "num_blocks": 6, "d_ff": 1536}
    model = GPT(GPTConfig(VOCAB, PROMPT + NEW, dropout=0.0, **sizes)).eval()
    prompt = torch.randint(VOCAB, (1, PROMPT))
    seconds, texts = {"cached": [], "uncached": []}, []
    for _ in range(rounds):
        for name in seconds:
            started = time.perf_counter()
            texts.append(generate(model, prompt, NEW, greedy=True, use_cache=name == "cached"))
            seconds[name].append(time.perf_counter() - started)
    if any(text != texts[0] for text in texts):
        sys.exit("with and without the cache the model wrote different texts: do not trust these times")
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    return {
        "sizes": f"d_model 384, 6 blocks, {NEW} tokens behind {PROMPT}",
        "seconds": medians,
        "speedup": medians["uncached"] / medians["cached"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=["training", "speed"], help="do one part, and write nothing")
    parser.add_argument(
        "--seconds", type=int, nargs="+", choices=RECIPES, default=list(RECIPES), help="training times"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of weights and windows (default 0)")
    parser.add_argument("--rounds", type=int, default=20, help="timed steps of each model (default 20)")
    parser.add_argument(
        "--validate", action="store_true", help="grade on held-out training text, write nothing"
    )
    parser.add_argument("--check", action="store_true", help="fail when a bound is missed")
    parser.add_argument("--output", type=Path, default=RESULTS, help="the file of results to write")
    arguments = parser.parse_args()

    result = {
        "task": TASK,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": f"python tests/benchmarks/gpt.py --seed {arguments.seed} --rounds {arguments.rounds}",
        "machine": describe_machine(),
    }
    if arguments.only != "speed":
        result["training"] = [
            training_run(seconds, RECIPES[seconds], arguments.seed, arguments.validate)
            for seconds in arguments.seconds
        ]
    if arguments.only != "training":
        result["step"] = compare_steps(arguments.rounds)
        result["writing"] = compare_writing(max(1, arguments.rounds // 10))
    print(json.dumps(result, indent=2, ensure_ascii=False))
    if arguments.only is None and not arguments.validate:
        write_json(result, arguments.output)
    missed = [
        *(run for run in result.get("training", []) if run.get("validation_loss", 0) > LARGEST_LOSS),
        *(True for part in [result.get("step")] if part and part["ratio"] > LARGEST_RATIO),
        *(True for part in [result.get("writing")] if part and part["speedup"] < LEAST_SPEEDUP),
    ]
    if arguments.check and missed:
        sys.exit("a bound was missed")


if __name__ == "__main__":
    main()
