"""GPT-2's weights in their published layout: read from all places, and refused where they are damaged."""

import hashlib
import json
import pickle

import pytest
import torch
import transformers
from safetensors.torch import save_file
from torch.testing import assert_close

from course_lib import pretrained
from course_lib.data import download, load_text
from course_lib.data.download import DataUnavailable
from course_lib.data.text import train_byte_pairs
from course_lib.models.gpt import GPT
from course_lib.pretrained import load_gpt2, load_gpt2_tokenizer
from tests.bad_calls import assert_refused, each_bad_call
from tests.torch_twins import shake

VOCAB, CONTEXT, HEADS, D_K, D_FF, BLOCKS = 17, 13, 3, 11, 23, 5
D_MODEL = HEADS * D_K


def make_gpt2(seed=0, **options):
    torch.manual_seed(seed)
    sizes = {"vocab_size": VOCAB, "n_positions": CONTEXT, "n_embd": D_MODEL, "n_head": HEADS}
    sizes |= {"n_layer": BLOCKS, "n_inner": D_FF, "bos_token_id": 0, "eos_token_id": 0}
    return shake(transformers.GPT2LMHeadModel(transformers.GPT2Config(**(sizes | options)))).eval()


THEIRS = make_gpt2()
TOKENS = torch.randint(VOCAB, (2, 7), generator=torch.Generator().manual_seed(1))


def weights(**changes):
    """The weights as published: without prefix and head. A change puts a tensor in, None takes it out."""
    found = {name: value.clone() for name, value in THEIRS.transformer.state_dict().items()}
    found |= {name.replace("__", "."): value for name, value in changes.items()}
    return {name: value for name, value in found.items() if value is not None}


def assert_is_theirs(model, theirs=THEIRS):
    assert isinstance(model, GPT) and not model.training
    with torch.no_grad():
        assert_close(model(TOKENS), theirs(TOKENS).logits, atol=1e-5, rtol=1e-5)


def test_with_the_prefix_and_without():
    with_head = THEIRS.state_dict()
    assert "transformer.wte.weight" in with_head and "lm_head.weight" in with_head
    assert_is_theirs(load_gpt2(with_head, num_heads=HEADS))
    assert "wte.weight" in weights()
    assert_is_theirs(load_gpt2(weights(), num_heads=HEADS))


def test_stored_masks_are_left_out():
    """Older files hold each block's causal mask beside its weights."""
    masks = {f"h.{n}.attn.bias": torch.ones(1, 1, CONTEXT, CONTEXT).tril() for n in range(BLOCKS)}
    masks |= {f"h.{n}.attn.masked_bias": torch.tensor(-1e4) for n in range(BLOCKS)}
    assert_is_theirs(load_gpt2(weights() | masks, num_heads=HEADS))


def test_the_model_does_not_share_memory_with_the_weights():
    given = weights()
    model = load_gpt2(given, num_heads=HEADS)
    given["wte.weight"].zero_()
    assert_is_theirs(model)


def test_a_folder_says_its_number_of_heads(tmp_path):
    THEIRS.save_pretrained(tmp_path)
    assert_is_theirs(load_gpt2(tmp_path))
    assert_is_theirs(load_gpt2(str(tmp_path / "model.safetensors")))
    (tmp_path / "config.json").unlink()
    assert_is_theirs(load_gpt2(tmp_path, num_heads=HEADS))
    with pytest.raises(ValueError, match="do not say how many heads"):
        load_gpt2(tmp_path)
    assert load_gpt2(tmp_path, num_heads=1).config.num_heads == 1


def test_without_a_config_heads_are_64_wide():
    theirs = make_gpt2(n_embd=128, n_head=2)
    assert_is_theirs(load_gpt2(theirs.state_dict()), theirs)


@pytest.mark.parametrize("activation", ["gelu_new", "gelu_pytorch_tanh", "gelu", "relu"])
def test_a_folder_says_its_activation(tmp_path, activation):
    theirs = make_gpt2(activation_function=activation)
    theirs.save_pretrained(tmp_path)
    assert_is_theirs(load_gpt2(tmp_path), theirs)


def test_the_dtype_is_that_of_the_weights():
    doubles = {name: value.double() for name, value in weights().items()}
    model = load_gpt2(doubles, num_heads=HEADS)
    assert all(parameter.dtype == torch.float64 for parameter in model.parameters())


def test_a_published_name_is_fetched_and_checked(tmp_path, monkeypatch):
    theirs = make_gpt2(n_embd=64, n_head=1)
    (tmp_path / "gpt2").mkdir()
    theirs.transformer.save_pretrained(tmp_path / "gpt2")
    monkeypatch.setenv(download.FOLDER_VARIABLE, str(tmp_path))
    monkeypatch.chdir(tmp_path.parent)  # where no folder of that name is
    with pytest.raises(DataUnavailable, match=r"gpt2/model.safetensors.*not the expected|holds|damaged"):
        load_gpt2("gpt2")
    content = (tmp_path / "gpt2" / "model.safetensors").read_bytes()
    path = "gpt2/model.safetensors"
    record = download.DataFile(path, "https://e.org", len(content), hashlib.sha256(content).hexdigest())
    monkeypatch.setitem(download.FILES, path, record)
    assert_is_theirs(load_gpt2("gpt2"), theirs)


def test_published_names_have_their_files():
    for name in pretrained.PUBLISHED:
        for file in ("model.safetensors", "vocab.json", "merges.txt"):
            assert f"{name}/{file}" in download.FILES


def put(monkeypatch, folder, path, content):
    """Make the folder serve this content for a pinned file."""
    (folder / path).parent.mkdir(exist_ok=True)
    (folder / path).write_bytes(content)
    record = download.DataFile(path, "https://e.org", len(content), hashlib.sha256(content).hexdigest())
    monkeypatch.setitem(download.FILES, path, record)
    monkeypatch.setenv(download.FOLDER_VARIABLE, str(folder))


def test_the_tokenizer_cuts_as_transformers_does_from_the_same_files(tmp_path, monkeypatch):
    trained = json.loads(train_byte_pairs(load_text("python-docs")[:50_000], 500).to_str())["model"]
    merges = [" ".join(pair) for pair in trained["merges"]]
    put(monkeypatch, tmp_path, "gpt2/vocab.json", json.dumps(trained["vocab"]).encode())
    put(monkeypatch, tmp_path, "gpt2/merges.txt", "\n".join(["#version: 0.2", *merges, ""]).encode())
    theirs = transformers.GPT2Tokenizer(
        vocab=trained["vocab"], merges=[tuple(pair) for pair in trained["merges"]]
    )
    ours = load_gpt2_tokenizer()
    for text in (
        load_text("python-docs")[60_000:70_000],
        "it's  naïve: 你好, don't\n\n\tstop __init__ 12345",
    ):
        ids = ours.encode(text).ids
        assert ids == theirs(text)["input_ids"] and len(ids) < 0.9 * len(text.encode())
        assert ours.decode(ids) == text


@pytest.mark.parametrize(
    "load", [lambda: load_gpt2("gpt2", download=False), lambda: load_gpt2_tokenizer(False)]
)
def test_nothing_is_fetched_when_told_not_to(tmp_path, monkeypatch, load):
    monkeypatch.delenv(download.FOLDER_VARIABLE, raising=False)
    monkeypatch.setattr(download, "cache_folder", lambda: tmp_path / "cache")
    monkeypatch.setattr(download, "_transfer", lambda *_: pytest.fail("it asked the network"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataUnavailable, match="not on this machine"):
        load()


def test_nothing_pickled_is_read(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (print, ("code from the file was run",))

    for name in ("pytorch_model.bin", "model.safetensors"):
        (tmp_path / name).write_bytes(pickle.dumps(Bomb()))
        with pytest.raises(ValueError, match="not a whole safetensors file"):
            load_gpt2(tmp_path / name)
    torch.save({"x": Bomb()}, tmp_path / "model.pt")
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        load_gpt2(tmp_path / "model.pt")
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="may hold code"):
        load_gpt2(tmp_path)


def test_a_file_cut_short_is_refused(tmp_path):
    THEIRS.save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        load_gpt2(tmp_path)


def zeros(*shape):
    return torch.zeros(shape)


NAN = zeros(D_MODEL).index_fill(0, torch.tensor([3]), float("nan"))
V, T = ValueError, TypeError

# What is changed in the weights, the error, and what that must say.
DAMAGED = [
    ("wte__weight=None", V, ["wte.weight is missing"]),
    ("wpe__weight=zeros(13)", V, ["wpe.weight must be a matrix", "(13,)"]),
    ("wte__weight=zeros(0, 33)", V, ["wte.weight must be a matrix", "(0, 33)"]),
    ("wpe__weight=zeros(13, 31)", V, ["wpe.weight has shape (13, 31)", "(13, 33)"]),
    ("h__3__ln_2__bias=None", V, ["lack ['h.3.ln_2.bias']"]),
    ("h__7__ln_2__bias=zeros(33)", V, ["h.5.ln_1.bias"]),
    ("h__2__attn__c_attn__weight=zeros(99, 33)", V, ["h.2.attn.c_attn.weight", "(33, 99)", "transposed"]),
    ("h__2__attn__c_attn__bias=zeros(33)", V, ["h.2.attn.c_attn.bias has shape (33,)", "(99,)"]),
    ("h__4__mlp__c_proj__weight=zeros(33, 23)", V, ["h.4.mlp.c_proj.weight has shape (33, 23)", "(23, 33)"]),
    ("h__1__mlp__c_fc__weight=zeros(33, 29)", V, ["h.1.mlp.c_fc.weight has shape (33, 29)", "(33, 23)"]),
    ("ln_f__weight=NAN", V, ["ln_f.weight holds NaN"]),
    ("ln_f__weight=zeros(33).half()", V, ["ln_f.weight is torch.float16", "torch.float32"]),
    ("wte__weight=zeros(17, 33).int()", V, ["wte.weight is torch.int32", "floating-point"]),
    ("lm_head__weight=zeros(17, 33)", V, ["lm_head.weight differs", "tied"]),
    ("score__weight=zeros(2, 33)", V, ["add ['score.weight']"]),
    ("transformer__wte__weight=zeros(17, 33)", V, ["given twice"]),
    ("wte__weight=[[1.0]]", T, ["'wte.weight': list"]),
]


@pytest.mark.usefixtures("unchecked_shapes")
@each_bad_call(DAMAGED)
def test_damaged_weights_are_refused(call, error, words):
    assert_refused(f"load_gpt2(weights({call}), HEADS)", error, words, globals(), "pretrained.py")


BAD_CALLS = [
    ("load_gpt2(weights(), num_heads=5)", V, ["num_heads is 5, which does not divide d_model=33"]),
    ("load_gpt2(weights(), num_heads=3.0)", V, ["num_heads is 3.0"]),
    ("load_gpt2('gpt5')", FileNotFoundError, ["no published model of that name", "one of gpt2"]),
    ("load_gpt2(THEIRS)", T, ["model.state_dict()"]),
    ("load_gpt2(None)", T, ["NoneType"]),
    ("load_gpt2({})", V, ["wte.weight is missing"]),
]


@pytest.mark.usefixtures("unchecked_shapes")
@each_bad_call(BAD_CALLS)
def test_bad_calls_speak_to_a_learner(call, error, words):
    assert_refused(call, error, words, globals(), "pretrained.py")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"n_head": 3', "is not JSON"),
        ("[3]", r"holds no settings, but \[3\]"),
        ('{"n_head": 11}', r"num_heads is 3, but config.json has n_head=11"),
        ('{"layer_norm_epsilon": 1e-6}', "layer_norm_epsilon=1e-06, but GPT is made for 1e-05"),
        ('{"scale_attn_by_inverse_layer_idx": true}', "scale_attn_by_inverse_layer_idx=True"),
        ('{"activation_function": "silu"}', "'silu'; GPT knows gelu_new"),
        ('{"activation_function": ["silu"]}', "silu"),
    ],
)
def test_a_config_that_gpt_cannot_follow_is_refused(tmp_path, text, words):
    save_file(weights(), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError, match=words):
        load_gpt2(tmp_path, num_heads=HEADS)
    (tmp_path / "config.json").write_text(json.dumps({"n_head": HEADS}))
    assert_is_theirs(load_gpt2(tmp_path, num_heads=HEADS))
