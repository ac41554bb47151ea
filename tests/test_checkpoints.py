"""Weights in files."""

import os

import pytest
import torch

from course_lib import checkpoints
from course_lib.checkpoints import load_checkpoint, save_checkpoint
from course_lib.models.seq2seq import Seq2Seq, Seq2SeqConfig


def weights_of(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def make_translator(seed, **options):
    torch.manual_seed(seed)
    return Seq2Seq(Seq2SeqConfig(13, 11, embedding_size=17, hidden_size=38, attention_size=23, **options))


def test_a_checkpoint_brings_all_weights_back_tied_ones_too(tmp_path):
    saved, loaded = make_translator(0), make_translator(1)
    save_checkpoint(saved, tmp_path / "deep" / "model.safetensors")
    assert not torch.equal(saved.output.weight, loaded.output.weight)
    load_checkpoint(loaded, tmp_path / "deep" / "model.safetensors")
    torch.testing.assert_close(loaded.state_dict(), saved.state_dict(), atol=0, rtol=0)
    assert loaded.output.weight is loaded.target_embedding.weight
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["model.safetensors"]


def test_a_save_that_fails_leaves_the_old_file_and_no_rest(tmp_path, monkeypatch):
    path = tmp_path / "model.safetensors"
    save_checkpoint(make_translator(0), path)
    before = path.read_bytes()

    def fail(weights, filename):
        with open(filename, "wb") as file:
            file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(checkpoints, "save_file", fail)
    with pytest.raises(OSError, match="disk full"):
        save_checkpoint(make_translator(1), path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["model.safetensors"]


def test_a_second_save_puts_a_new_file_in_the_old_ones_place(tmp_path):
    path = tmp_path / "model.safetensors"
    save_checkpoint(make_translator(0), path)
    before = path.read_bytes()
    with path.open("rb") as reader:
        save_checkpoint(make_translator(1), path)
        # Written over, the file would change under who is reading it.
        assert reader.read() == before
    assert path.read_bytes() != before


@pytest.mark.parametrize("damage", ["cut short", "empty", "foreign"])
def test_a_damaged_file_is_refused_and_the_model_untouched(tmp_path, damage):
    path, model = tmp_path / "model.safetensors", make_translator(1)
    save_checkpoint(make_translator(0), path)
    content = path.read_bytes()
    path.write_bytes(
        {"cut short": content[:-100], "empty": b"", "foreign": b"PK\x03\x04 a zip file" * 20}[damage]
    )
    before = weights_of(model)
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        load_checkpoint(model, path)
    torch.testing.assert_close(weights_of(model), before, atol=0, rtol=0)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (lambda: make_translator(0, attention=False), r"lacks \['attention"),
        (lambda: make_translator(0, bidirectional=False), "adds|lacks"),
        (lambda: Seq2Seq(Seq2SeqConfig(13, 11, 17, 38, 29)), r"\(29, 38\).*\(23, 38\)"),
        (lambda: make_translator(0).double(), "float64.*float32"),
    ],
)
def test_another_models_checkpoint_is_refused_and_the_model_untouched(tmp_path, other, message):
    save_checkpoint(other(), tmp_path / "model.safetensors")
    model = make_translator(1)
    before = weights_of(model)
    with pytest.raises(ValueError, match=message):
        load_checkpoint(model, tmp_path / "model.safetensors")
    torch.testing.assert_close(weights_of(model), before, atol=0, rtol=0)


def test_a_missing_checkpoint_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no checkpoint"):
        load_checkpoint(make_translator(0), tmp_path / "nothing.safetensors")


@pytest.mark.usefixtures("unchecked_shapes")
def test_model_and_path_in_the_wrong_order_are_told_so(tmp_path):
    for function in (save_checkpoint, load_checkpoint):
        with pytest.raises(TypeError, match=r"model comes first .* got (Posix|Windows)Path"):
            function(tmp_path / "model.safetensors", make_translator(0))
    assert list(tmp_path.iterdir()) == []
