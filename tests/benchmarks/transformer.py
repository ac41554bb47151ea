"""Time the course's Transformer beside torch.nn.Transformer, and cached beside uncached decoding.

    python tests/benchmarks/transformer.py --check

Both models have the same parameters and take turns in one run, so that whatever else the machine does meets
them alike; of each the median of the rounds is printed, as JSON. --check fails when a training step takes
more than 1.05 times as long as PyTorch's, or the cache is less than 5 times as fast as no cache.
"""

import argparse
import json
import math
import statistics
import sys
import time
from pathlib import Path

import torch
from torch import nn

from course_lib.attention import causal_mask
from course_lib.models.transformer import Transformer, TransformerConfig

# The parameters are copied as the tests do it.
sys.path.append(str(Path(__file__).parents[1]))
from torch_twins import copy_block

D_MODEL, HEADS, BLOCKS, D_FF, VOCAB = 256, 4, 3, 1024, 6000
BATCH, LENGTH, SENTENCES, DECODED = 64, 32, 64, 64


class TorchTransformer(nn.Module):
    """PyTorch's blocks between the same embeddings, codes and output as ours."""

    def __init__(self, ours: Transformer):
        super().__init__()
        self.ours = ours
        self.blocks = nn.Transformer(
            D_MODEL, HEADS, BLOCKS, BLOCKS, D_FF, 0.1, batch_first=True, norm_first=True
        )
        for mine, theirs in zip(ours.encoder_blocks, self.blocks.encoder.layers, strict=True):
            copy_block(mine, theirs)
        for mine, theirs in zip(ours.decoder_blocks, self.blocks.decoder.layers, strict=True):
            copy_block(mine, theirs)

    def forward(self, source, target, lengths):
        blocked = torch.arange(source.shape[1]) >= lengths[:, None]
        states = self.blocks(
            self.ours._embed(source, "source"),
            self.ours._embed(target, "target"),
            tgt_mask=~causal_mask(target.shape[1]),
            src_key_padding_mask=blocked,
            memory_key_padding_mask=blocked,
        )
        return self.ours.output(states)


def training_steps(rounds: int) -> dict:
    torch.manual_seed(0)
    ours = Transformer(TransformerConfig(VOCAB, VOCAB, D_MODEL, HEADS, BLOCKS, D_FF, 0.1))
    models = {"course_lib": ours, "torch.nn.Transformer": TorchTransformer(ours)}
    source = torch.randint(3, VOCAB, (BATCH, LENGTH))
    target = torch.randint(3, VOCAB, (BATCH, LENGTH + 1))
    lengths = torch.randint(LENGTH // 2, LENGTH + 1, (BATCH,))
    lengths[0] = LENGTH
    optimizers = {}
    for name, model in models.items():
        used = [p for key, p in model.named_parameters() if not key.startswith(("ours.enc", "ours.dec"))]
        optimizers[name] = torch.optim.AdamW(used, lr=1e-5, fused=True)
    seconds = {name: [] for name in models}
    for round_number in range(rounds + 2):
        for name, model in models.items():
            model.train()
            started = time.perf_counter()
            logits = model(source, target[:, :-1], lengths)
            nn.functional.cross_entropy(logits.flatten(0, 1), target[:, 1:].flatten()).backward()
            optimizers[name].step()
            optimizers[name].zero_grad()
            if round_number >= 2:  # the first ones warm up
                seconds[name].append(time.perf_counter() - started)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    ratio = medians["course_lib"] / medians["torch.nn.Transformer"]
    return {"seconds_a_step": medians, "ratio": ratio}


@torch.no_grad()
def decoding(rounds: int) -> dict:
    torch.manual_seed(0)
    model = Transformer(TransformerConfig(VOCAB, VOCAB, D_MODEL, HEADS, BLOCKS, D_FF)).eval()
    source = torch.randint(3, VOCAB, (SENTENCES, LENGTH))
    lengths = torch.full((SENTENCES,), LENGTH)

    def cached() -> torch.Tensor:
        memory = model.encode(source, lengths)
        state, tokens = memory.initial_state, torch.ones(SENTENCES, 1, dtype=torch.long)
        for _ in range(DECODED):
            logits, state = model.step(tokens[:, -1], state, memory)
            tokens = torch.cat([tokens, logits.argmax(dim=-1, keepdim=True)], dim=1)
        return tokens

    def uncached() -> torch.Tensor:
        memory, tokens = model.encode(source, lengths), torch.ones(SENTENCES, 1, dtype=torch.long)
        for _ in range(DECODED):
            logits = model.decode(tokens, memory)[:, -1]
            tokens = torch.cat([tokens, logits.argmax(dim=-1, keepdim=True)], dim=1)
        return tokens

    seconds, found = {"cached": [], "uncached": []}, []
    for _ in range(rounds):
        for function in (cached, uncached):
            started = time.perf_counter()
            found.append(function())
            seconds[function.__name__].append(time.perf_counter() - started)
    if not all(torch.equal(tokens, found[0]) for tokens in found):
        sys.exit("cached and uncached decoding wrote different tokens: do not trust these times")
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    return {"seconds": medians, "speedup": medians["uncached"] / medians["cached"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20, help="training steps of each model (default 20)")
    parser.add_argument("--check", action="store_true", help="fail when a bound is missed")
    arguments = parser.parse_args()
    result = {
        "sizes": f"d_model {D_MODEL}, {BLOCKS}+{BLOCKS} blocks, batch {BATCH} by {LENGTH} tokens",
        "threads": torch.get_num_threads(),
        "training": training_steps(arguments.rounds),
        "decoding": decoding(max(2, math.ceil(arguments.rounds / 10))),
    }
    print(json.dumps(result, indent=2))
    if arguments.check and (result["training"]["ratio"] > 1.05 or result["decoding"]["speedup"] < 5):
        sys.exit("a bound was missed")


if __name__ == "__main__":
    main()
