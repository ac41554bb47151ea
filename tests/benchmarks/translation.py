"""Train translators on Multi30k, German to English, and keep what they reach as JSON.

    python tests/benchmarks/translation.py --minutes 10 --seeds 0 1
    python tests/benchmarks/translation.py --models transformer --minutes 30 --seeds 0

Three models, each with the recipe that served it best on the validation split: a recurrent one without
attention, one with Bahdanau's, and the Transformer. Data, split, vocabulary and minutes of training are the
same for all; they are trained one after another on all cores. BLEU is of test_2016_flickr, by greedy decoding
and by beam search, with each <unk> left out, in two ways: "tokenized" compares lower-cased tokens as the
course's tokenizer cuts them, "detokenized" is sacrebleu's standard 13a on text, lower-cased too since the
models write no capitals. Each run is added to the file of results as soon as it is done, in place of an older
one of the same model, minutes and seed.
"""

import argparse
import datetime
import functools
import json
import os
import platform
import sys
import time
from contextlib import suppress
from pathlib import Path

import torch
from torch.nn.utils.rnn import pad_sequence

from course_lib.data import UNK, Vocabulary, detokenize, load_translation
from course_lib.decoding import beam_search, greedy_decode
from course_lib.metrics import corpus_bleu
from course_lib.models.seq2seq import Seq2Seq, Seq2SeqConfig
from course_lib.models.transformer import Transformer, TransformerConfig
from course_lib.training import PairBatches, fit, translation_loss

TASK = "Multi30k German to English, test_2016_flickr"
RESULTS = Path(__file__).parents[2] / "book" / "results" / "translation.json"
MIN_COUNT, BEAM_SIZE, ALPHA = 2, 5, 0.6
RECURRENT = {
    "sizes": {"embedding_size": 256, "hidden_size": 512, "attention_size": 256, "dropout": 0.3},
    "training": {"learning_rate": 2e-3, "warmup": 0.05, "decay": "linear"},
    "batch_size": 64,
    "label_smoothing": 0.1,
}
RECIPES = {
    "without attention": RECURRENT,
    "with attention": RECURRENT,
    "transformer": {
        # On two cores a width of 256 saw 5 epochs in ten minutes, and small batches waited for the optimizer.
        "sizes": {"d_model": 192, "num_heads": 4, "num_blocks": 3, "d_ff": 384, "dropout": 0.15},
        "training": {"learning_rate": 2.5e-3, "warmup": 0.1, "decay": "linear"},
        "batch_size": 128,
        "label_smoothing": 0.1,
    },
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--models", nargs="+", choices=RECIPES, default=list(RECIPES), help="which to train (default all)"
    )
    parser.add_argument("--minutes", type=float, default=10.0, help="training time of each run (default 10)")
    parser.add_argument(
        "--seeds",
        type=int,
        nargs="+",
        default=[0],
        help="seeds of weights, dropout and shuffling (default 0)",
    )
    parser.add_argument("--output", type=Path, default=RESULTS, help="the file of results to add to")
    arguments = parser.parse_args()

    data = load_translation("multi30k", source="de", target="en")
    vocabularies = [
        Vocabulary.from_sentences(sentences, min_count=MIN_COUNT)
        for sentences in zip(*((pair.source, pair.target) for pair in data.train), strict=True)
    ]
    autocast = torch.bfloat16 if bfloat16_is_faster() else None
    for seed in arguments.seeds:
        for model in arguments.models:
            run = {
                "model": model,
                "minutes": arguments.minutes,
                "seed": seed,
                "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
                "command": f"python tests/benchmarks/translation.py --models {model!r} "
                f"--minutes {arguments.minutes:g} --seeds {seed}",
                "machine": describe_machine(),
                "matrix_products": str(autocast or torch.float32),
                "recipe": RECIPES[model] | {"min_count": MIN_COUNT},
                **train_and_test(model, seed, arguments.minutes, data, vocabularies, autocast),
            }
            print(json.dumps(run, indent=2, ensure_ascii=False), flush=True)
            keep(run, arguments.output)


def keep(run: dict, path: Path) -> None:
    """Add a run to the file, in place of an older one of the same kind."""
    results = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"task": TASK, "runs": []}
    kind = run["model"], run["minutes"], run["seed"]
    others = [other for other in results["runs"] if (other["model"], other["minutes"], other["seed"]) != kind]
    results["runs"] = sorted(
        [*others, run], key=lambda run: (run["minutes"], list(RECIPES).index(run["model"]), run["seed"])
    )
    write_json(results, path)


def write_json(content: dict, path: Path) -> None:
    """Write the file whole or not at all; end with a sentence where it cannot be written."""
    temporary = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        os.replace(temporary, path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        sys.exit(
            f"{path} cannot be written: is the disk full or read-only? ({error}) What was there is as it "
            f"was, and the result is printed above."
        )


def make(model: str, source_vocabulary: Vocabulary, target_vocabulary: Vocabulary) -> torch.nn.Module:
    sizes = len(source_vocabulary), len(target_vocabulary)
    if model == "transformer":
        return Transformer(TransformerConfig(*sizes, **RECIPES[model]["sizes"]))
    return Seq2Seq(Seq2SeqConfig(*sizes, **RECIPES[model]["sizes"], attention=model == "with attention"))


def train_and_test(name: str, seed: int, minutes: float, data, vocabularies, autocast) -> dict:
    source_vocabulary, target_vocabulary = vocabularies
    recipe = RECIPES[name]

    def batches(pairs, seed):
        return PairBatches(
            [source_vocabulary.encode(pair.source, eos=True) for pair in pairs],
            [target_vocabulary.encode(pair.target, bos=True, eos=True) for pair in pairs],
            batch_size=recipe["batch_size"],
            seed=seed,
            pad_id=target_vocabulary.pad_id,
        )

    torch.manual_seed(seed)
    model = make(name, *vocabularies)
    started = time.perf_counter()
    history = fit(
        model,
        batches(data.train, seed),
        functools.partial(translation_loss, label_smoothing=recipe["label_smoothing"]),
        seconds=60 * minutes,
        validation=batches(data.validation, None),
        autocast=autocast,
        **recipe["training"],
    )
    seconds = time.perf_counter() - started
    if history.interrupted:
        sys.exit("the benchmark was interrupted; a part of the training says nothing about the whole")
    return {
        "greedy": test(model, data.test, vocabularies),
        "beam": {"beam_size": BEAM_SIZE, "alpha": ALPHA} | test(model, data.test, vocabularies, BEAM_SIZE),
        "validation_loss": min(history.validation_losses),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "training_seconds": seconds,
        "training_steps": len(history.losses),
        "training_epochs": len(history.losses) * recipe["batch_size"] / len(data.train),
        "tokens_per_second": sum(history.tokens) / seconds,
    }


def test(model, pairs, vocabularies, beam_size: int | None = None) -> dict:
    started = time.perf_counter()
    translations = translate(model, [pair.source for pair in pairs], *vocabularies, beam_size)
    seconds = time.perf_counter() - started
    tokenized = corpus_bleu(
        [" ".join(tokens) for tokens in translations],
        [" ".join(pair.target) for pair in pairs],
        tokenized=True,
    )
    detokenized = corpus_bleu(
        [detokenize(tokens) for tokens in translations],
        [pair.target_text for pair in pairs],
        lowercase=True,
    )
    return {
        "tokenized": tokenized._asdict(),
        "detokenized": detokenized._asdict(),
        "seconds": seconds,
        "examples": [
            {"source": pair.source_text, "translation": detokenize(tokens), "reference": pair.target_text}
            for pair, tokens in list(zip(pairs, translations, strict=True))[:3]
        ],
    }


def translate(
    model, sentences, source_vocabulary, target_vocabulary, beam_size: int | None = None
) -> list[list[str]]:
    """Translate tokenized sentences, those of like length together; give them back in the order they came."""
    order = sorted(range(len(sentences)), key=lambda row: len(sentences[row]))
    translations = {}
    for first in range(0, len(order), 100):
        rows = order[first : first + 100]
        encoded = [torch.tensor(source_vocabulary.encode(sentences[row], eos=True)) for row in rows]
        inputs = (
            model,
            pad_sequence(encoded, batch_first=True, padding_value=source_vocabulary.pad_id),
            torch.tensor([len(ids) for ids in encoded]),
            target_vocabulary.bos_id,
            target_vocabulary.eos_id,
        )
        if beam_size is None:
            decoded = greedy_decode(*inputs)
        else:
            decoded = [found[0].tokens for found in beam_search(*inputs, beam_size, ALPHA, max_length=60)]
        for row, ids in zip(rows, decoded, strict=True):
            # <unk> says "here stands a rare word" and is no word itself: good to feed back, not to read.
            translations[row] = [token for token in target_vocabulary.decode(ids) if token != UNK]
    return [translations[row] for row in range(len(sentences))]


def bfloat16_is_faster() -> bool:
    """Time a matrix product of a decoder's size in both types; only some processors have bfloat16."""
    times = {}
    for dtype in (torch.float32, torch.bfloat16):
        states = torch.ones(64, 512, dtype=dtype)
        weights = torch.ones(512, 1536, dtype=dtype)
        runs = []
        for _ in range(50):
            started = time.perf_counter()
            states @ weights
            runs.append(time.perf_counter() - started)
        times[dtype] = sorted(runs)[len(runs) // 2]
    return times[torch.bfloat16] < times[torch.float32]


def describe_machine() -> dict:
    name = platform.processor()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), name)
    return {
        "processor": name or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


if __name__ == "__main__":
    main()
