"""The section on translation, from what tests/benchmarks/translation.py wrote."""

from collections import defaultdict
from pathlib import Path
from statistics import mean

import matplotlib
import matplotlib.figure

from book.generate.markdown import code, escape, fenced, join, on_machine, table

NAMES = {
    "without attention": "recurrent, without attention",
    "with attention": "recurrent, with attention",
    "transformer": "Transformer",
}
# BLEU as https://github.com/bentrevett/pytorch-seq2seq reports it for its own three models.
REFERENCES = {"without attention": 20.6, "with attention": 28.3, "transformer": 36.5}
DECODINGS = {"greedy": "greedy decoding", "beam": "beam search"}
FORMS = ("tokenized", "detokenized")
LIGHT = {"text": "#1c2320", "ground": "#ffffff", "greedy": "#0a6660", "beam": "#b45309"}
DARK = {"text": "#e8ecef", "ground": "#14181e", "greedy": "#5cc8bd", "beam": "#ffb454"}


def section(results: dict, images: Path) -> str:
    """Return the section, and draw its picture into `images`, once for light pages and once for dark ones."""
    runs = sorted(results["runs"], key=lambda run: (run["minutes"], order(run["model"]), run["seed"]))
    if not runs:
        raise ValueError("it holds no runs")
    for theme, colours in (("light", LIGHT), ("dark", DARK)):
        save_plot(runs, colours, images / f"translation-{theme}.svg")
    return "\n".join(
        [
            f"## Translation: {escape(results['task'])}\n",
            INTRODUCTION,
            leaders(runs),
            means_table(runs),
            references_note(runs),
            figure(runs),
            "### Each run\n",
            runs_table(runs),
            signatures(runs),
            examples(runs),
            provenance(runs),
        ]
    )


INTRODUCTION = """\
The translators of chapters 2 and 6, trained on real sentences: the recurrent one with and without attention,
and the Transformer. Data, split, vocabulary and minutes of training are the same for all.
"""


def order(model: str) -> int:
    return list(NAMES).index(model) if model in NAMES else len(NAMES)


def name(model: str) -> str:
    return NAMES.get(model, escape(model))


def score(run: dict, decoding: str, form: str = "tokenized") -> float | None:
    """The BLEU of a run, or None where it was not decoded in this way."""
    return float(run[decoding][form]["score"]) if decoding in run else None


def by_model(runs: list[dict], minutes: float, decoding: str) -> dict[str, list[float]]:
    """The scores of all seeds, for each model that was trained so long and decoded in this way."""
    found = defaultdict(list)
    for run in runs:
        if run["minutes"] == minutes and score(run, decoding) is not None:
            found[run["model"]].append(score(run, decoding))
    return dict(found)


def leaders(runs: list[dict]) -> str:
    """Say for each training time which model leads, by how much, and whether seeds matter as much."""
    sentences = []
    for minutes in sorted({run["minutes"] for run in runs}):
        for decoding in DECODINGS:
            if scores := by_model(runs, minutes, decoding):
                sentences.append(f"- {leader(scores, minutes, DECODINGS[decoding])}")
    return "**Which leads?**\n\n" + "\n".join(sentences) + "\n"


def leader(scores: dict[str, list[float]], minutes: float, decoding: str) -> str:
    means = {model: mean(values) for model, values in scores.items()}
    ranked = sorted(means, key=means.__getitem__, reverse=True)
    when = f"{minutes:g} minutes, {decoding}"
    if len(ranked) == 1:
        return f"{when}: only one model was trained, **{name(ranked[0])}**, with BLEU {means[ranked[0]]:.1f}."
    others = join([f"{name(model)} ({means[model]:.1f})" for model in ranked[1:]])
    lead = means[ranked[0]] - means[ranked[1]]
    first = f"{when}: **{name(ranked[0])}** ({means[ranked[0]]:.1f}) leads by {lead:.1f} before {others}."
    if min(len(values) for values in scores.values()) < 2:
        return f"{first} Not every model was trained with two seeds, so a small lead may be chance."
    spread = max(max(values) - min(values) for values in scores.values())
    verdict = "more than" if lead > spread else "no more than"
    return f"{first} That is {verdict} two seeds of one model differ ({spread:.1f} at most)."


def means_table(runs: list[dict]) -> str:
    rows = []
    for minutes in sorted({run["minutes"] for run in runs}):
        scores = {decoding: by_model(runs, minutes, decoding) for decoding in DECODINGS}
        for model in sorted({run["model"] for run in runs if run["minutes"] == minutes}, key=order):
            seeds = [run["seed"] for run in runs if (run["minutes"], run["model"]) == (minutes, model)]
            cells = [f"{mean(found[model]):.1f}" if model in found else "–" for found in scores.values()]
            reference = f"{REFERENCES[model]:.1f}" if model in REFERENCES else "–"
            rows.append([name(model), f"{minutes:g}", str(len(seeds)), *cells, reference])
    head = ["model", "minutes", "seeds", "BLEU, greedy", "BLEU, beam", "tutorial's BLEU"]
    return "Mean over the seeds, tokenized BLEU:\n\n" + table(head, rows, right=1)


def references_note(runs: list[dict]) -> str:
    cores = join(sorted({str(run["machine"]["cores"]) for run in runs}))
    return (
        "*The tutorial's BLEU* is what a widely read tutorial, "
        "[bentrevett/pytorch-seq2seq](https://github.com/bentrevett/pytorch-seq2seq), reports for its own "
        f"three models, trained on a GPU. Ours are trained on {cores} CPU cores, in the minutes given. "
        "It too scores lower-cased tokens of the same test set, but it cuts words with another tokenizer. "
        "So the figures say where one should land, and small differences from them mean nothing.\n"
    )


def runs_table(runs: list[dict]) -> str:
    columns = [(decoding, form) for decoding in DECODINGS for form in FORMS]
    head = ["model", "minutes", "seed", "parameters", "tokens/s", "epochs"]
    rows = []
    for run in runs:
        scores = [score(run, *column) for column in columns]
        rows.append(
            [
                name(run["model"]),
                f"{run['minutes']:g}",
                str(run["seed"]),
                f"{run['parameters']:,}",
                f"{run['tokens_per_second']:,.0f}",
                f"{run['training_epochs']:.1f}",
                *("–" if value is None else f"{value:.1f}" for value in scores),
            ]
        )
    return table([*head, *(f"{decoding}, {form}" for decoding, form in columns)], rows, right=1)


def signatures(runs: list[dict]) -> str:
    """Say how the scores were computed, in sacrebleu's own words, and how the beam searched."""
    found = {form: set() for form in FORMS}
    beams = set()
    for run in runs:
        for decoding in DECODINGS:
            if decoding in run:
                for form in FORMS:
                    found[form].add(run[decoding][form]["signature"])
        if "beam" in run:
            beams.add(f"{run['beam']['beam_size']} with a length penalty of {run['beam']['alpha']:g}")
    lines = [
        "The last columns are BLEU. *Tokenized* compares lower-cased tokens as the course's tokenizer cuts "
        "them, the form in which the tutorial gives its figures. *Detokenized* is sacrebleu's standard on "
        "plain text, lower-cased too, since the models write no capitals. The signatures:\n",
        *(f"- {form}: {join([code(text) for text in sorted(found[form])])}" for form in FORMS),
    ]
    if beams:
        lines.append(f"- beam: {join(sorted(beams))}")
    return "\n".join(lines) + "\n"


def examples(runs: list[dict]) -> str:
    """The first test sentences, as each model of the longest training and first seed translates them."""
    parts = ["````{dropdown} The first sentences of the test set, translated\n"]
    last = {}
    for run in runs:
        if run["seed"] == min(other["seed"] for other in runs if other["model"] == run["model"]):
            last[run["model"]] = run
    shown = {model: run.get("beam", run["greedy"])["examples"] for model, run in last.items()}
    for number, example in enumerate(next(iter(shown.values()))):
        rows = [["source", escape(example["source"])], ["reference", escape(example["reference"])]]
        for model in sorted(shown, key=order):
            label = f"{name(model)}, {last[model]['minutes']:g} minutes"
            rows.append([label, escape(shown[model][number]["translation"])])
        parts.append(table(["from", "sentence"], rows))
    return "\n".join([*parts, "````\n"])


def provenance(runs: list[dict]) -> str:
    """Say on which machine, when, and by which commands."""
    machines = defaultdict(list)
    for run in runs:
        products = run["matrix_products"].removeprefix("torch.")
        words = f"{on_machine(run['machine'])}, matrix products in {products}"
        machines[words].append(f"{run['date'][:10]}  {run['command']}")
    parts = ["### Where, when and how\n"]
    for words, commands in machines.items():
        lines = "\n".join(dict.fromkeys(commands))
        parts.append(f"{escape(words)}:\n\n{fenced(lines)}")
    return "\n".join(parts)


def figure(runs: list[dict]) -> str:
    described = [
        f"{name(run['model'])}, {run['minutes']:g} minutes, seed {run['seed']}: "
        + join([f"{score(run, d):.1f} by {words}" for d, words in DECODINGS.items() if d in run])
        for run in runs
    ]
    alt = "BLEU of each run as dots in one row a model. " + "; ".join(described) + "."
    return "".join(
        f"```{{image}} images/translation-{theme}.svg\n:class: only-{theme}\n:alt: {alt}\n```\n"
        for theme in ("light", "dark")
    ) + (
        "\n*What to look at: how far apart the rows are, and how far apart the dots of one colour in a row. "
        "The upright stroke is the tutorial's figure for this kind of model.*\n"
    )


def save_plot(runs: list[dict], colours: dict[str, str], path: Path) -> None:
    """Draw the scores into a file, always the same bytes for the same runs."""
    settings = {
        "svg.hashsalt": "attention-you-can-check",
        "svg.fonttype": "path",
        "text.color": colours["text"],
    }
    with matplotlib.rc_context(settings):
        canvas = matplotlib.figure.Figure(figsize=(7, 3.2), layout="constrained", facecolor=colours["ground"])
        plot(canvas.add_subplot(), runs, colours)
        path.parent.mkdir(parents=True, exist_ok=True)
        canvas.savefig(path, metadata={"Date": None})


def plot(ax, runs: list[dict], colours: dict[str, str]):
    """Draw a row for each model and training time: a dot for each seed, and the tutorial's figure."""
    kinds = list(dict.fromkeys((run["minutes"], run["model"]) for run in runs))
    rows = {kind: len(kinds) - 1 - number for number, kind in enumerate(kinds)}
    for decoding, shape, lift in (("greedy", "o", 0.12), ("beam", "D", -0.12)):
        dots = [
            (score(run, decoding), rows[run["minutes"], run["model"]] + lift)
            for run in runs
            if decoding in run
        ]
        if dots:
            ax.scatter(
                *zip(*dots, strict=True), marker=shape, color=colours[decoding], label=DECODINGS[decoding]
            )
    marks = [(REFERENCES[model], row) for (_, model), row in rows.items() if model in REFERENCES]
    if marks:
        x, y = zip(*marks, strict=True)
        ax.scatter(x, y, marker="|", s=260, color=colours["text"], label="the tutorial's figure")
    ax.set_yticks(list(rows.values()), [f"{name(model)}\n{minutes:g} minutes" for minutes, model in rows])
    ax.set_ylim(-0.6, len(kinds) - 0.4)
    ax.set_xlabel("BLEU, tokenized", color=colours["text"])
    ax.set_facecolor(colours["ground"])
    ax.tick_params(colors=colours["text"])
    ax.grid(axis="x", alpha=0.3)
    for side, spine in ax.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(colours["text"])
    ax.figure.legend(loc="outside upper center", ncols=3, frameon=False, labelcolor=colours["text"])
    return ax
