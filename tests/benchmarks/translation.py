"""Train both recurrent translators on Multi30k, German to English, and print what they reach as JSON.

    python tests/benchmarks/translation.py --minutes 10 --seed 0 --output result.json

The model with Bahdanau's attention and the one without follow the same recipe, one after the other, each for
the given minutes of training on all cores. The recipe was chosen on the validation split. BLEU is of
test_2016_flickr, by greedy decoding with each <unk> left out, in two ways: "tokenized" compares lower-cased
tokens as the course's tokenizer cuts them, "detokenized" is sacrebleu's standard 13a on text, lower-cased too
since the models write no capitals.
"""

import argparse
import datetime
import functools
import json
import os
import platform
import sys
import time
from pathlib import Path

import torch
from torch.nn.utils.rnn import pad_sequence

from course_lib.data import UNK, Vocabulary, detokenize, load_translation
from course_lib.decoding import greedy_decode
from course_lib.metrics import corpus_bleu
from course_lib.models.seq2seq import Seq2Seq, Seq2SeqConfig
from course_lib.training import PairBatches, fit, translation_loss

RECIPE = {
    "min_count": 2,
    "embedding_size": 256,
    "hidden_size": 512,
    "attention_size": 256,
    "dropout": 0.3,
    "batch_size": 64,
    "learning_rate": 2e-3,
    "label_smoothing": 0.1,
    "warmup": 0.05,
    "decay": "linear",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--minutes", type=float, default=10.0, help="training time of each model (default 10)"
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of weights, dropout and shuffling (default 0)"
    )
    parser.add_argument("--output", type=Path, help="also write the JSON to this file")
    arguments = parser.parse_args()

    data = load_translation("multi30k", source="de", target="en")
    vocabularies = [
        Vocabulary.from_sentences(sentences, min_count=RECIPE["min_count"])
        for sentences in zip(*((pair.source, pair.target) for pair in data.train), strict=True)
    ]
    autocast = torch.bfloat16 if bfloat16_is_faster() else None
    result = {
        "task": "Multi30k German to English, test_2016_flickr, greedy decoding",
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": " ".join(["python", *sys.argv]),
        "machine": describe_machine(),
        "seed": arguments.seed,
        "minutes": arguments.minutes,
        "matrix_products": str(autocast or torch.float32),
        "recipe": RECIPE,
        "with_attention": train_and_test(True, data, vocabularies, autocast, arguments),
        "without_attention": train_and_test(False, data, vocabularies, autocast, arguments),
    }
    text = json.dumps(result, indent=2, ensure_ascii=False)
    print(text)
    if arguments.output is not None:
        temporary = arguments.output.with_name(arguments.output.name + ".part")
        temporary.write_text(text + "\n", encoding="utf-8")
        os.replace(temporary, arguments.output)


def train_and_test(attention: bool, data, vocabularies, autocast, arguments) -> dict:
    source_vocabulary, target_vocabulary = vocabularies

    def batches(pairs, seed):
        return PairBatches(
            [source_vocabulary.encode(pair.source, eos=True) for pair in pairs],
            [target_vocabulary.encode(pair.target, bos=True, eos=True) for pair in pairs],
            batch_size=RECIPE["batch_size"],
            seed=seed,
            pad_id=target_vocabulary.pad_id,
        )

    torch.manual_seed(arguments.seed)
    model = Seq2Seq(
        Seq2SeqConfig(
            len(source_vocabulary),
            len(target_vocabulary),
            embedding_size=RECIPE["embedding_size"],
            hidden_size=RECIPE["hidden_size"],
            attention_size=RECIPE["attention_size"],
            attention=attention,
            dropout=RECIPE["dropout"],
        )
    )
    started = time.perf_counter()
    history = fit(
        model,
        batches(data.train, arguments.seed),
        functools.partial(translation_loss, label_smoothing=RECIPE["label_smoothing"]),
        seconds=60 * arguments.minutes,
        validation=batches(data.validation, None),
        learning_rate=RECIPE["learning_rate"],
        warmup=RECIPE["warmup"],
        decay=RECIPE["decay"],
        autocast=autocast,
    )
    seconds = time.perf_counter() - started
    if history.interrupted:
        sys.exit("the benchmark was interrupted; a part of the training says nothing about the whole")

    started = time.perf_counter()
    translations = translate(model, [pair.source for pair in data.test], source_vocabulary, target_vocabulary)
    decoding_seconds = time.perf_counter() - started
    tokenized = corpus_bleu(
        [" ".join(tokens) for tokens in translations],
        [" ".join(pair.target) for pair in data.test],
        tokenized=True,
    )
    detokenized = corpus_bleu(
        [detokenize(tokens) for tokens in translations],
        [pair.target_text for pair in data.test],
        lowercase=True,
    )
    return {
        "tokenized": tokenized._asdict(),
        "detokenized": detokenized._asdict(),
        "validation_loss": min(history.validation_losses),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "training_seconds": seconds,
        "training_steps": len(history.losses),
        "training_epochs": len(history.losses) * RECIPE["batch_size"] / len(data.train),
        "tokens_per_second": sum(history.tokens) / seconds,
        "decoding_seconds": decoding_seconds,
        "examples": [
            {"source": pair.source_text, "translation": detokenize(tokens), "reference": pair.target_text}
            for pair, tokens in list(zip(data.test, translations, strict=True))[:3]
        ],
    }


def translate(model, sentences, source_vocabulary, target_vocabulary) -> list[list[str]]:
    """Translate tokenized sentences, those of like length together; give them back in the order they came."""
    order = sorted(range(len(sentences)), key=lambda row: len(sentences[row]))
    translations = {}
    for first in range(0, len(order), 100):
        rows = order[first : first + 100]
        encoded = [torch.tensor(source_vocabulary.encode(sentences[row], eos=True)) for row in rows]
        decoded = greedy_decode(
            model,
            pad_sequence(encoded, batch_first=True, padding_value=source_vocabulary.pad_id),
            torch.tensor([len(ids) for ids in encoded]),
            target_vocabulary.bos_id,
            target_vocabulary.eos_id,
        )
        for row, ids in zip(rows, decoded, strict=True):
            # <unk> says "here stands a rare word" and is no word itself: good to feed back, not to read.
            translations[row] = [token for token in target_vocabulary.decode(ids) if token != UNK]
    return [translations[row] for row in range(len(sentences))]


def bfloat16_is_faster() -> bool:
    """Time a matrix product of the decoder's size in both types; only some processors have bfloat16."""
    times = {}
    for dtype in (torch.float32, torch.bfloat16):
        states = torch.ones(RECIPE["batch_size"], RECIPE["hidden_size"], dtype=dtype)
        weights = torch.ones(RECIPE["hidden_size"], 3 * RECIPE["hidden_size"], dtype=dtype)
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
