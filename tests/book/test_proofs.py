"""The page of proofs says what the tests of parity wrote, and nothing else."""

import json
from pathlib import Path

import pytest

from book.generate import proofs

STORED = Path(__file__).parents[2] / "book" / "results" / "parity.json"
MACHINE = {"processor": "Abacus", "cores": 2, "threads": 1, "torch": "2.13.0", "python": "3.11.7"}


def make_row(layer, dtype, values, gradients, configurations=7, reference="torch.nn.Layer"):
    return {
        "layer": layer,
        "reference": reference,
        "dtype": dtype,
        "configurations": configurations,
        "values": values,
        "gradients": gradients,
        "errors": [0.0071, 0.0089],
    }


ROWS = [
    make_row("first_layer", "float64", 3.14e-15, 2.7e-14),
    make_row("first_layer", "bfloat16", 0.0123, 0.0456),
    make_row("<b>Second</b>", "float64", 0.0, None, 1009, "somebody's | layer"),
    make_row("<b>Second</b>", "bfloat16", 0.0, None, 1009, "somebody's | layer"),
]


@pytest.fixture
def render(tmp_path):
    def page(rows, **changes):
        table = {
            "date": "2026-11-21T04:57:49+00:00",
            "command": "python -m pytest here",
            "machine": MACHINE | {"transformers": "5.23.0"},
            "rows": rows,
        }
        file = tmp_path / "parity.json"
        file.write_text(json.dumps(table | changes), encoding="utf-8")
        return proofs.page(file)

    return page


def cells(page, beginning):
    """The cells of the first row that begins with this, in the first table of what is given."""
    line = next(line for line in page.splitlines() if line.startswith(f"| {beginning}"))
    return [cell.strip() for cell in line.strip("| ").split(" | ")]


def test_each_layer_is_a_row_with_the_differences_of_each_dtype(render):
    page = render(ROWS)
    exact, _, rounding = page.partition("## Types that round")
    assert cells(exact, "layer") == ["layer", "must equal", "tried", "values", "gradients"]
    assert cells(exact, "first") == ["first\\_layer", "torch.nn.Layer", "7", "3e-15", "3e-14"]
    assert cells(rounding, "layer") == ["layer", "values, bfloat16", "gradients, bfloat16"]
    assert cells(rounding, "first") == ["first\\_layer", "1e-02", "5e-02"]


def test_both_errors_of_dtypes_that_round_are_told(render):
    page = render(ROWS)
    _, _, dropdown = page.partition("{dropdown}")
    assert cells(dropdown, "layer") == ["layer", "ours, bfloat16", "theirs, bfloat16"]
    assert cells(dropdown, "first") == ["first\\_layer", "7e-03", "9e-03"]


def test_names_are_shown_as_text(render):
    page = render(ROWS)
    assert "<b>" not in page.replace("\\<", "")
    assert cells(page, "\\<b")[1:] == ["somebody's \\| layer", "1,009", "0", "–"]


def test_the_summary_is_counted(render):
    page = render(ROWS)
    assert "**2 comparisons in 1,016 configurations, each in float64 and bfloat16.**" in page
    assert "differs by more than 3e-14 of the largest number" in page
    assert "**1 comparisons in 7 configurations" in render(ROWS[:2])


def test_machine_date_and_command_are_told(render):
    page = render(ROWS)
    assert "Abacus, 1 thread on 2 cores" in page and "2026-11-21  python -m pytest here" in page
    assert "PyTorch 2.13.0 and transformers 5.23.0" in page


def test_a_broken_file_is_named_with_what_it_lacks(render, tmp_path):
    with pytest.raises(ValueError, match=r"parity\.json cannot be shown: it holds no rows"):
        render([])
    with pytest.raises(ValueError, match=r"parity\.json cannot be shown: 'values' is missing"):
        render([{name: value for name, value in row.items() if name != "values"} for row in ROWS])
    with pytest.raises(ValueError, match=r"parity\.json cannot be shown: 'float64' is missing"):
        render(ROWS[1:])
    (tmp_path / "parity.json").write_text('{"rows": [', encoding="utf-8")
    with pytest.raises(ValueError, match=r"parity\.json cannot be shown"):
        proofs.page(tmp_path / "parity.json")


def test_the_stored_proofs_are_shown():
    page = proofs.page(STORED)
    rows = json.loads(STORED.read_text(encoding="utf-8"))["rows"]
    assert len(rows) > 60 and page.count("\n| ") == 3 * (len(rows) // 3 + 2)
