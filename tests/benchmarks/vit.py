"""Train a Vision Transformer on Fashion-MNIST, and time its step beside the same model of PyTorch's parts.

    python tests/benchmarks/vit.py --minutes 5 --check
    python tests/benchmarks/vit.py --minutes 1 --validate

The model learns from all 60,000 training images for the given minutes and is tested once on the 10,000 test
images. Its recipe was chosen with --validate: the last 5,000 training images are then held out and tested on
instead, and nothing is written. The step is timed on equal parameters, in turns in one run, so that whatever
else the machine does meets both alike; of each the median counts. --check fails below an accuracy of 0.88, or
when a step takes more than 1.05 times as long as PyTorch's.
"""

import argparse
import datetime
import json
import statistics
import sys
import time
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F
from translation import describe_machine, write_json

from course_lib.data.images import LabeledImages, load_images
from course_lib.models.vit import ViT, ViTConfig
from course_lib.training import learning_rate_factor

# The parameters are copied as the tests do it.
sys.path.append(str(Path(__file__).parents[1]))
from mixed_precision import multiply_in_bfloat16
from torch_twins import copy_block

TASK = "Fashion-MNIST, 60,000 training images, 10,000 test images"
RESULTS = Path(__file__).parents[2] / "book" / "results" / "vit.json"
RECIPE = {
    "sizes": {"patch_size": 7, "d_model": 128, "num_heads": 4, "num_blocks": 4, "d_ff": 256},
    "readout": "linear",
    "batch_size": 128,
    "matrices_learning_rate": 0.02,  # by Muon: the matrices of the blocks
    "learning_rate": 2e-3,  # by AdamW: all other parameters
    "weight_decay": 0.01,
    "warmup": 0.1,
    "decay": "linear",
    "label_smoothing": 0.1,
    "flips": True,
}
LOWEST_ACCURACY, LARGEST_RATIO = 0.88, 1.05


class TorchViT(nn.Module):
    """The same model of PyTorch's own parts, with the parameters of ours."""

    def __init__(self, ours: ViT):
        super().__init__()
        config = ours.config
        size, channels = config.patch_size, config.num_channels
        self.patches = nn.Conv2d(channels, config.d_model, size, stride=size)
        layer = nn.TransformerEncoderLayer(
            config.d_model,
            config.num_heads,
            config.d_ff,
            config.dropout,
            "gelu",
            batch_first=True,
            norm_first=True,
        )
        norm = nn.LayerNorm(config.d_model)
        self.encoder = nn.TransformerEncoder(layer, config.num_blocks, norm, enable_nested_tensor=False)
        self.class_vector = nn.Parameter(ours.class_vector.detach().clone())
        self.positions = nn.Parameter(ours.positions.weight.detach().clone())
        self.readout = nn.Linear(config.d_model, config.num_classes)
        with torch.no_grad():
            self.patches.weight.copy_(ours.patch_embedding.weight.view_as(self.patches.weight))
            self.patches.bias.copy_(ours.patch_embedding.bias)
        for mine, theirs in zip(ours.blocks, self.encoder.layers, strict=True):
            copy_block(mine, theirs)
        self.encoder.norm.load_state_dict(ours.norm.state_dict())
        self.readout.load_state_dict(ours.readout[0].state_dict())

    def forward(self, images):
        patches = self.patches(images).flatten(2).transpose(1, 2)
        first = self.class_vector.expand(len(images), 1, -1)
        return self.readout(self.encoder(torch.cat([first, patches], dim=1) + self.positions)[:, 0])


def make(seed: int) -> ViT:
    torch.manual_seed(seed)
    return ViT(ViTConfig(28, num_classes=10, num_channels=1, readout=RECIPE["readout"], **RECIPE["sizes"]))


def standardise(splits: list[LabeledImages]) -> list[LabeledImages]:
    """Pixels of mean 0 and deviation 1 over the first split."""
    mean, deviation = splits[0].images.mean(), splits[0].images.std()
    return [LabeledImages((split.images - mean) / deviation, split.labels) for split in splits]


def flipped(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Each image as it is or mirrored, by the toss of a coin."""
    mirror = torch.rand(len(images), 1, 1, 1, generator=generator) < 0.5
    return torch.where(mirror, images.flip(3), images)


def make_optimizers(model: ViT) -> list[torch.optim.Optimizer]:
    matrices = [p for p in model.blocks.parameters() if p.dim() == 2]
    others = [p for p in model.parameters() if all(p is not matrix for matrix in matrices)]
    decay = RECIPE["weight_decay"]
    return [
        torch.optim.Muon(matrices, lr=RECIPE["matrices_learning_rate"], weight_decay=decay),
        torch.optim.AdamW(others, lr=RECIPE["learning_rate"], weight_decay=decay, fused=True),
    ]


def train(model: ViT, data: LabeledImages, minutes: float, seed: int) -> dict:
    """Train for that long; the learning rates follow the share of the time that has gone by."""
    optimizers = make_optimizers(model)
    highest = [optimizer.param_groups[0]["lr"] for optimizer in optimizers]
    generator = torch.Generator().manual_seed(seed)
    losses, started = [], time.perf_counter()
    model.train()
    while True:
        for rows in torch.randperm(len(data), generator=generator).split(RECIPE["batch_size"]):
            share = (time.perf_counter() - started) / (60 * minutes)
            if share >= 1:
                seconds = time.perf_counter() - started
                return {
                    "training_seconds": seconds,
                    "training_steps": len(losses),
                    "training_epochs": len(losses) * RECIPE["batch_size"] / len(data),
                    "images_per_second": len(losses) * RECIPE["batch_size"] / seconds,
                    "last_losses": statistics.mean(losses[-100:]),
                }
            factor = learning_rate_factor(share, RECIPE["warmup"], RECIPE["decay"])
            for optimizer, rate in zip(optimizers, highest, strict=True):
                optimizer.param_groups[0]["lr"] = rate * factor
            images = data.images[rows]
            if RECIPE["flips"]:
                images = flipped(images, generator)
            loss = F.cross_entropy(
                model(images), data.labels[rows], label_smoothing=RECIPE["label_smoothing"]
            )
            if not loss.isfinite():
                sys.exit(f"the loss of step {len(losses)} is {loss.item()}: the learning rates are too high")
            loss.backward()
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad()
            losses.append(loss.item())


@torch.no_grad()
def test_accuracy(model: ViT, data: LabeledImages) -> float:
    model.eval()
    right = sum(
        (model(data.images[rows]).argmax(dim=1) == data.labels[rows]).sum().item()
        for rows in torch.arange(len(data)).split(1000)
    )
    return right / len(data)


def step_seconds(models: dict, rounds: int) -> dict[str, float]:
    """The median seconds of a training step of each model, taken in turns."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(RECIPE["batch_size"], 1, 28, 28, generator=generator)
    labels = torch.randint(10, (RECIPE["batch_size"],), generator=generator)
    optimizers = {name: torch.optim.AdamW(m.parameters(), lr=1e-5, fused=True) for name, m in models.items()}
    seconds = {name: [] for name in models}
    for round_number in range(rounds + 2):
        for name, model in models.items():
            model.train()
            started = time.perf_counter()
            F.cross_entropy(model(images), labels).backward()
            optimizers[name].step()
            optimizers[name].zero_grad()
            if round_number >= 2:  # the first ones warm up
                seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(times) for name, times in seconds.items()}


def compare_steps(rounds: int) -> dict:
    ours = make(0)
    twin = TorchViT(ours)
    images = torch.rand(2, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(ours(images), twin(images), atol=1e-5, rtol=1e-4)
    names = "course_lib", "torch.nn"
    seconds = step_seconds(dict(zip(names, (ours, twin), strict=True)), rounds)
    return {"seconds": seconds, "ratio": seconds["course_lib"] / seconds["torch.nn"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=5.0, help="training time (default 5)")
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of weights, shuffling and flips (default 0)"
    )
    parser.add_argument("--rounds", type=int, default=30, help="timed steps of each model (default 30)")
    parser.add_argument("--validate", action="store_true", help="test on held-out training images")
    parser.add_argument("--check", action="store_true", help="fail when a bound is missed")
    parser.add_argument("--output", type=Path, default=RESULTS, help="the file of results to write")
    arguments = parser.parse_args()

    data = load_images("fashion-mnist")
    learn, graded = data.train, data.validation
    if not arguments.validate:
        learn = LabeledImages(
            torch.cat([data.train.images, data.validation.images]),
            torch.cat([data.train.labels, data.validation.labels]),
        )
        graded = data.test
    learn, graded = standardise([learn, graded])
    model = make(arguments.seed)
    multiply_in_bfloat16(model.blocks)
    training = train(model, learn, arguments.minutes, arguments.seed)
    accuracy = test_accuracy(model, graded)
    if arguments.validate:
        print(json.dumps({"validation_accuracy": accuracy, **training}, indent=2))
        return
    result = {
        "task": TASK,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": f"python tests/benchmarks/vit.py --minutes {arguments.minutes:g} --seed {arguments.seed}",
        "machine": describe_machine(),
        "matrix_products": "torch.bfloat16",
        "recipe": RECIPE,
        "minutes": arguments.minutes,
        "seed": arguments.seed,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "test_accuracy": accuracy,
        **training,
        "step": compare_steps(arguments.rounds),
    }
    print(json.dumps(result, indent=2, ensure_ascii=False))
    write_json(result, arguments.output)
    if arguments.check and (accuracy < LOWEST_ACCURACY or result["step"]["ratio"] > LARGEST_RATIO):
        sys.exit("a bound was missed")


if __name__ == "__main__":
    main()
