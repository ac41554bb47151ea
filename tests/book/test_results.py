"""The page of results says what the benchmarks' files say, and draws its conclusions from them."""

import copy
import json
from pathlib import Path

import pytest

from book.generate import gpt, results, translation, vit
from book.generate.markdown import escape

STORED = Path(__file__).parents[2] / "book" / "results"


def make_run(model, greedy, beam=None, minutes=10.0, seed=0):
    """A run as the benchmark writes it; the detokenized scores are 1 lower."""

    def scores(value):
        return {
            "tokenized": {"score": value, "signature": "tok:none"},
            "detokenized": {"score": value - 1, "signature": "tok:13a"},
            "seconds": 1.5,
            "examples": [{"source": "Ein Hut.", "translation": f"a hat by {model}", "reference": "A hat."}],
        }

    run = {
        "model": model,
        "minutes": minutes,
        "seed": seed,
        "date": "2026-11-21T04:57:49+00:00",
        "command": f"python bench.py --models {model!r} --seeds {seed}",
        "machine": {"processor": "Abacus", "cores": 2, "threads": 2, "torch": "2.13.0", "python": "3.11.7"},
        "matrix_products": "torch.bfloat16",
        "greedy": scores(greedy),
        "parameters": 1_234_567,
        "training_epochs": 12.94,
        "tokens_per_second": 8765.4,
    }
    return run | ({"beam": {"beam_size": 5, "alpha": 0.6} | scores(beam)} if beam is not None else {})


LADDER = [
    make_run("without attention", 20.0, 21.0, seed=0),
    make_run("without attention", 22.0, 23.0, seed=1),
    make_run("with attention", 40.0, 41.0, seed=0),
    make_run("with attention", 41.0, 42.0, seed=1),
    make_run("transformer", 34.0, 43.0, seed=0),
    make_run("transformer", 35.0, 42.5, seed=1),
    make_run("transformer", 44.0, 45.0, minutes=30.0, seed=0),
]


@pytest.fixture
def render(tmp_path):
    return lambda runs: translation.section({"task": "German to English", "runs": runs}, tmp_path / "images")


@pytest.fixture(scope="module")
def ladder(tmp_path_factory):
    return translation.section(
        {"task": "German to English", "runs": LADDER}, tmp_path_factory.mktemp("images")
    )


def cells(page, *beginning):
    """The cells of the one table row that begins with these."""
    rows = [[cell.strip() for cell in line.strip("| ").split("|")] for line in page.splitlines()]
    (row,) = [row for row in rows if row[: len(beginning)] == list(beginning)]
    return row


def test_each_run_is_a_row(ladder):
    row = cells(ladder, "Transformer", "10", "1", "1,234,567")
    assert row[4:] == ["8,765", "12.9", "35.0", "34.0", "42.5", "41.5"]
    assert cells(ladder, "Transformer", "30", "0", "1,234,567")[-2:] == ["45.0", "44.0"]


def test_the_mean_is_over_the_seeds_and_stands_beside_the_reference(ladder):
    assert cells(ladder, "recurrent, without attention", "10", "2", "21.0")[3:] == ["21.0", "22.0", "20.6"]
    assert cells(ladder, "recurrent, with attention", "10", "2", "40.5")[3:] == ["40.5", "41.5", "28.3"]
    assert cells(ladder, "Transformer", "10", "2", "34.5")[3:] == ["34.5", "42.8", "36.5"]
    assert cells(ladder, "Transformer", "30", "1", "44.0")[3:] == ["44.0", "45.0", "36.5"]


def test_who_leads_is_computed_for_each_training_time_and_decoding(render, ladder):
    assert "10 minutes, greedy decoding: **recurrent, with attention** (40.5) leads by 6.0 before" in ladder
    assert "10 minutes, beam search: **Transformer** (42.8) leads by 1.2 before" in ladder
    assert "30 minutes, beam search: only one model was trained, **Transformer**, with BLEU 45.0." in ladder
    turned = copy.deepcopy(LADDER)
    turned[4]["greedy"]["tokenized"]["score"] = 70.0
    assert "greedy decoding: **Transformer** (52.5) leads by 12.0 before" in render(turned)


def test_a_lead_is_held_against_what_seeds_change(render, ladder):
    greedy, beam = (line for line in ladder.splitlines() if line.startswith("- 10 minutes"))
    assert "more than two seeds of one model differ (2.0 at most)" in greedy
    assert "no more than two seeds of one model differ (2.0 at most)" in beam
    one_seed = render([run for run in LADDER if run["seed"] == 0])
    assert "so a small lead may be chance" in one_seed and "two seeds of one model differ" not in one_seed


def test_a_run_without_beam_search_has_no_number_for_it(render):
    page = render([make_run("transformer", 34.0), make_run("with attention", 33.0)])
    assert cells(page, "Transformer", "10", "0")[-2:] == ["–", "–"]
    assert "beam search" not in page


def test_machine_date_command_and_signatures_are_told(ladder):
    assert (
        "Abacus, 2 threads on 2 cores, Python 3.11.7, PyTorch 2.13.0, matrix products in bfloat16" in ladder
    )
    assert "2026-11-21  python bench.py --models 'with attention' --seeds 1\n" in ladder
    assert (
        "- tokenized: `tok:none`\n- detokenized: `tok:13a`\n- beam: 5 with a length penalty of 0.6" in ladder
    )


def test_translations_are_shown_as_text(render):
    hostile = "a <script>alert(1)</script> | **bold** $x$ [a](b) `c`"
    run = make_run("transformer", 34.0)
    run["greedy"]["examples"][0]["translation"] = hostile
    page = render([run])
    assert escape(hostile) in page and "<script" not in page.replace("\\<script", "")
    assert escape("a\n| b") == "a \\| b"


def test_the_picture_is_drawn_once_for_each_theme_and_the_same_each_time(tmp_path, render):
    page = render(LADDER)
    files = sorted((tmp_path / "images").iterdir())
    assert [file.name for file in files] == ["translation-dark.svg", "translation-light.svg"]
    assert all(f"images/{file.name}" in page for file in files)
    before = [file.read_bytes() for file in files]
    assert before[0] != before[1]
    render(LADDER)
    assert [file.read_bytes() for file in files] == before
    render(LADDER[:-1])
    assert [file.read_bytes() for file in files] != before


def test_the_plot_has_a_dot_for_each_run_and_decoding():
    from matplotlib.figure import Figure

    ax = translation.plot(Figure().add_subplot(), LADDER, translation.LIGHT)
    greedy, beam, marks = ([x for x, _ in group.get_offsets()] for group in ax.collections)
    assert sorted(greedy) == sorted(run["greedy"]["tokenized"]["score"] for run in LADDER)
    assert sorted(beam) == sorted(run["beam"]["tokenized"]["score"] for run in LADDER)
    assert sorted(marks) == [20.6, 28.3, 36.5, 36.5]  # the last kind of model was trained twice as well
    assert [label.get_text() for label in ax.get_yticklabels()][-1] == "Transformer\n30 minutes"


def write(folder, content, name="translation"):
    (folder / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")


def test_a_page_without_results_says_so(tmp_path):
    assert "No benchmark has been run yet" in results.page(tmp_path, tmp_path)
    write(tmp_path, {"task": "t", "runs": LADDER})
    assert "No benchmark has been run yet" not in results.page(tmp_path, tmp_path)


def test_a_broken_file_is_named_with_what_it_lacks(tmp_path):
    broken = copy.deepcopy(LADDER)
    del broken[2]["greedy"]["tokenized"]
    write(tmp_path, {"task": "t", "runs": broken})
    with pytest.raises(ValueError, match=r"translation\.json cannot be shown: 'tokenized' is missing"):
        results.page(tmp_path, tmp_path)
    write(tmp_path, {"task": "t", "runs": []})
    with pytest.raises(ValueError, match="it holds no runs"):
        results.page(tmp_path, tmp_path)
    (tmp_path / "translation.json").write_text('{"runs": [', encoding="utf-8")
    with pytest.raises(ValueError, match=r"translation\.json cannot be shown"):
        results.page(tmp_path, tmp_path)


def test_a_file_without_a_renderer_is_named(tmp_path):
    write(tmp_path, {}, "llama")
    with pytest.raises(ValueError, match=r"llama\.json, and no renderer for it: add one to SECTIONS"):
        results.page(tmp_path, tmp_path)


def test_the_stored_results_are_shown(tmp_path):
    page = results.page(STORED, tmp_path)
    runs = json.loads((STORED / "translation.json").read_text(encoding="utf-8"))["runs"]
    assert runs and all(run["command"] in page and f"{run['parameters']:,}" in page for run in runs)


MACHINE = {"processor": "Abacus", "cores": 2, "threads": 1, "torch": "2.13.0", "python": "3.11.7"}
GPT = {
    "task": "next character",
    "date": "2026-11-21T04:57:49+00:00",
    "command": "python tests/benchmarks/gpt.py --seed 0",
    "machine": MACHINE,
    "training": [
        {
            "seconds": 60,
            "parameters": 612_345,
            "recipe": {"sizes": {"context_length": 64}},
            "characters_per_second": 45678.9,
            "training_epochs": 2.51,
            "training_loss": 1.4321,
            "validation_loss": 1.5987,
            "sample": "KING:\n<b>What</b> ``` say you?",
        }
    ],
    "step": {"sizes": "d_model 256", "seconds": {}, "ratio": 1.014},
    "writing": {"sizes": "256 tokens", "seconds": {"cached": 1.26, "uncached": 20.04}, "speedup": 15.9},
}


def test_the_section_on_gpt(tmp_path):
    page = gpt.section(GPT, tmp_path)
    assert cells(page, "60") == ["60", "612,345", "64", "45,679", "2.5", "1.432", "1.599"]
    assert "takes 1.01 times as long" in page and "15.9 times as fast as without: 1.3 seconds" in page
    assert "\n    KING:\n    <b>What</b> ``` say you?\n" in page, "indented: a block of code"
    assert "Abacus, 1 thread on 2 cores" in page and "2026-11-21  python tests/benchmarks/gpt.py" in page


def test_the_section_on_the_vision_transformer(tmp_path):
    run = {
        "task": "clothes",
        "date": "2026-11-21T04:57:49+00:00",
        "command": "python tests/benchmarks/vit.py",
        "machine": MACHINE,
        "test_accuracy": 0.90123,
        "minutes": 5.0,
        "training_epochs": 9.87,
        "images_per_second": 1987.6,
        "parameters": 567_890,
        "step": {"seconds": {}, "ratio": 0.987},
    }
    page = vit.section(run, tmp_path)
    assert cells(page, "accuracy on the test images")[1] == "0.9012"
    assert cells(page, "images/s")[1] == "1,988" and "| 0.99 |" in page


def test_what_is_missing_in_a_file_is_named(tmp_path):
    (tmp_path / "gpt.json").write_text(json.dumps(GPT | {"training": [{"seconds": 60}]}), encoding="utf-8")
    with pytest.raises(ValueError, match="cannot be shown"):
        results.page(tmp_path, tmp_path)
