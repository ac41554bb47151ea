"""The section on GPT, from what tests/benchmarks/gpt.py wrote."""

from pathlib import Path

from book.generate.markdown import escape, provenance, table

# What others report for the same text and split, with the source of each figure.
REFERENCES = [
    ["[nanoGPT](https://github.com/karpathy/nanoGPT), on a CPU, 3 minutes", "1.88"],
    ["[nanoGPT](https://github.com/karpathy/nanoGPT), on an A100 GPU, 3 minutes", "1.47"],
]


def section(results: dict, images: Path) -> str:
    """Return the section; it has no pictures."""
    return "\n".join(
        [
            f"## GPT: {escape(results['task'])}\n",
            INTRODUCTION,
            runs_table(results["training"]),
            OTHERS,
            table(["model and machine", "validation loss"], REFERENCES, right=1),
            speed(results["step"], results["writing"]),
            samples(results["training"]),
            provenance(results["machine"], results["date"], results["command"]),
        ]
    )


INTRODUCTION = """\
The blocks of chapter 7, put together for a fast start: rotary positions, normalised queries and keys,
squared ReLU, and Muon for the matrices. The loss is for each character, in nats, over the whole last tenth of
the text.
"""
OTHERS = """\
Others report, for the same text and split, with their own models:
"""


def runs_table(runs: list[dict]) -> str:
    head = [
        "seconds of training",
        "parameters",
        "context",
        "characters/s",
        "epochs",
        "loss",
        "validation loss",
    ]
    rows = [
        [
            f"{run['seconds']:g}",
            f"{run['parameters']:,}",
            f"{run['recipe']['sizes']['context_length']}",
            f"{run['characters_per_second']:,.0f}",
            f"{run['training_epochs']:.1f}",
            f"{run['training_loss']:.3f}",
            f"{run['validation_loss']:.3f}",
        ]
        for run in runs
    ]
    return table(head, rows, right=0)


def speed(step: dict, writing: dict) -> str:
    return (
        f"A training step of GPT-2's own design ({escape(step['sizes'])}) takes {step['ratio']:.2f} times as "
        "long as the same step of a model from PyTorch's own parts, with equal parameters. Writing with the "
        f"cache ({escape(writing['sizes'])}) is {writing['speedup']:.1f} times as fast as without: "
        f"{writing['seconds']['cached']:.1f} seconds in place of {writing['seconds']['uncached']:.1f}.\n"
    )


def samples(runs: list[dict]) -> str:
    parts = ["````{dropdown} What they write\n"]
    for run in runs:
        # Indented, so that it is a block of code whatever it holds.
        lines = "\n".join("    " + line for line in run["sample"].strip().splitlines())
        parts.append(f"After {run['seconds']:g} seconds:\n\n{lines}\n")
    return "\n".join([*parts, "````\n"])
