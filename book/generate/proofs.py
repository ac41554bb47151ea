"""The page of proofs: each layer beside its reference, from what tests/trust/test_parity.py wrote."""

import json
from pathlib import Path

from book.generate.markdown import escape, join, provenance, table

HEAD = """\
# Proofs

Is the attention that you build here the attention that others use? Every layer and model of the course's
library stands here beside one that others wrote: PyTorch's own, or that of transformers. Both were given the
same random weights and the same inputs. What came out was compared, and so was the gradient of every input
and of every parameter. No number of ours on this page was typed by hand.
"""
READING = """\
These are the largest differences found over all configurations, in float64, as a share of the largest number
expected. "0" means that not one bit differed; "–" that there is nothing to take a gradient of.

## Types that round

float64 shows whether two formulas are the same. Smaller types round after every step, and two right layers
round in different orders: a large number in a column of bfloat16 is bfloat16's own. How far each side is from
the exact result stands below: ours must not be further from it than the reference, but for a small factor.
"""
ERRORS = """\
The exact result is the reference's own in float64, from the same rounded numbers. An error is the length of
the difference from it, as a share of its length: the root mean square over values and gradients of all
configurations.
"""


def page(file: Path) -> str:
    """Return the page as Markdown.

    Raises ValueError for a file that cannot be read, or that lacks something.
    """
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        return "\n".join(
            [
                HEAD,
                summary(found["rows"]),
                proofs_table(found["rows"]),
                READING,
                rounding_table(found["rows"]),
                errors_table(found["rows"]),
                "## Where, when and how\n",
                provenance(found["machine"], found["date"], found["command"]),
                f"The references are those of PyTorch {escape(found['machine']['torch'])} and transformers "
                f"{escape(found['machine']['transformers'])}.\n",
            ]
        )
    except (ValueError, KeyError, TypeError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else error
        raise ValueError(f"{file} cannot be shown: {reason}") from error


def by_layer(rows: list[dict]) -> dict[tuple[str, str], dict[str, dict]]:
    """The rows of each layer and reference, by dtype."""
    layers: dict[tuple[str, str], dict[str, dict]] = {}
    for row in rows:
        layers.setdefault((row["layer"], row["reference"]), {})[row["dtype"]] = row
    if not layers:
        raise ValueError("it holds no rows")
    return layers


def summary(rows: list[dict]) -> str:
    layers = by_layer(rows)
    count = sum(max(row["configurations"] for row in found.values()) for found in layers.values())
    dtypes = join(list(dict.fromkeys(row["dtype"] for row in rows)))
    exact = [
        number
        for row in rows
        if row["dtype"] == "float64"
        for number in (row["values"], row["gradients"])
        if number is not None
    ]
    return (
        f"**{len(layers)} comparisons in {count:,} configurations, each in {dtypes}.** In float64 nothing "
        f"differs by more than {share(max(exact))} of the largest number.\n"
    )


def proofs_table(rows: list[dict]) -> str:
    lines = []
    for (layer, reference), found in by_layer(rows).items():
        count = max(row["configurations"] for row in found.values())
        exact = found["float64"]
        brief = escape(reference.replace("torch.nn.functional.", "F."))  # as the chapters write it
        shares = [share(exact[part]) for part in ("values", "gradients")]
        lines.append([escape(layer), brief, f"{count:,}", *shares])
    return table(["layer", "must equal", "tried", "values", "gradients"], lines, right=2)


def rounding_dtypes(rows: list[dict]) -> list[str]:
    return [dtype for dtype in dict.fromkeys(row["dtype"] for row in rows) if dtype != "float64"]


def rounding_table(rows: list[dict]) -> str:
    dtypes, parts = rounding_dtypes(rows), ("values", "gradients")
    head = ["layer", *(f"{part}, {dtype}" for dtype in dtypes for part in parts)]
    lines = [
        [escape(layer), *(share(found[dtype][part]) for dtype in dtypes for part in parts)]
        for (layer, _), found in by_layer(rows).items()
    ]
    return table(head, lines, right=1)


def errors_table(rows: list[dict]) -> str:
    """How far we and the reference are from the exact result, in the dtypes that round."""
    dtypes = rounding_dtypes(rows)
    head = ["layer"] + [f"{whose}, {dtype}" for dtype in dtypes for whose in ("ours", "theirs")]
    lines = [
        [escape(layer), *(share(error) for dtype in dtypes for error in found[dtype]["errors"])]
        for (layer, _), found in by_layer(rows).items()
    ]
    body = table(head, lines, right=1)
    return f"````{{dropdown}} How far each side is from the exact result\n\n{ERRORS}\n{body}\n````\n"


def share(number: float | None) -> str:
    if number is None:
        return "–"
    return "0" if number == 0 else f"{number:.0e}"
