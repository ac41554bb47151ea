"""The section on the Vision Transformer, from what tests/benchmarks/vit.py wrote."""

from pathlib import Path

from book.generate.markdown import escape, provenance, table

D2L = "https://d2l.ai/chapter_attention-mechanisms-and-transformers/vision-transformer.html"


def section(results: dict, images: Path) -> str:
    """Return the section; it has no pictures."""
    rows = [
        ["accuracy on the test images", f"{results['test_accuracy']:.4f}"],
        ["minutes of training", f"{results['minutes']:g}"],
        ["epochs", f"{results['training_epochs']:.1f}"],
        ["images/s", f"{results['images_per_second']:,.0f}"],
        ["parameters", f"{results['parameters']:,}"],
        ["a training step, times as long as of PyTorch's own parts", f"{results['step']['ratio']:.2f}"],
    ]
    return "\n".join(
        [
            f"## Vision Transformer: {escape(results['task'])}\n",
            INTRODUCTION,
            table(["what", "found"], rows, right=1),
            provenance(results["machine"], results["date"], results["command"]),
        ]
    )


INTRODUCTION = f"""\
The model of chapter 8 on small grey pictures of clothes. Its recipe was chosen on held-out training images;
the test images are looked at once, at the end. [Dive into Deep Learning]({D2L}) reports an accuracy of 0.861
for its own, at 96 by 96 pixels.
"""
