"""Published weights, read into the course's own models."""

import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors.torch import load
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor

from course_lib.checkpoints import read_weights
from course_lib.data.download import fetch
from course_lib.models.gpt import GPT, GPTConfig

PUBLISHED = ("gpt2",)

_ACTIVATIONS = {"gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "gelu": "gelu", "relu": "relu"}
# What config.json may say and GPT cannot do otherwise; each with what it means when it is left out.
_FIXED = {
    "layer_norm_epsilon": 1e-5,
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "add_cross_attention": False,
    "tie_word_embeddings": True,
}


def load_gpt2(
    weights: str | os.PathLike | Mapping[str, Tensor], num_heads: int | None = None, download: bool = True
) -> GPT:
    """Build a GPT with weights of GPT-2's published layout, that of Hugging Face.

    weights: a file model.safetensors, a folder that holds one, a name to download ("gpt2": 548 MB, once), or
        the tensors themselves by name, as `GPT2LMHeadModel(...).state_dict()` gives them.
    num_heads: the tensors do not say it. If left out, it is what config.json beside the file says, and
        otherwise d_model / 64, since all published GPT-2 have heads of width 64.
    download: whether a published model may be fetched if it is not on this machine yet.

    There a linear map is stored as (in, out), the transpose of nn.Linear's matrix, and one map makes queries,
    keys and values, in this order. Names, shapes and values are checked before a model is built.
    Returns the model in eval mode, without dropout, of the weights' dtype.
    Raises FileNotFoundError; ValueError for weights that are damaged or of another model; TypeError for what
    holds no weights; DataUnavailable where a download fails.
    Source: Radford et al. 2019; https://huggingface.co/openai-community/gpt2
    """
    said = {}
    if not isinstance(weights, Mapping):
        weights, said = _find(weights, download)
    for name, value in weights.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise TypeError(f"weights go from names to tensors, got {name!r:.80}: {type(value).__name__}")
    weights = _without_extras(weights)
    config = _infer_config(weights, said, num_heads)
    renamed = dict(_rename(weights, config))
    model = GPT(config).to(weights["wte.weight"].dtype)
    model.load_state_dict(renamed)
    return model.eval()


def load_gpt2_tokenizer(download: bool = True) -> Tokenizer:
    """Build the byte-pair encoder that GPT-2's published weights were trained with: 50,257 tokens.

    download: whether its two files (1.5 MB) may be fetched if they are not on this machine yet.
    Raises DataUnavailable where they cannot be had.
    Source: Radford et al. 2019, section 2.2.
    """
    vocabulary = json.loads(fetch("gpt2/vocab.json", download))
    # The first line names the format's version; each other one is a pair, with a blank between its parts.
    lines = fetch("gpt2/merges.txt", download).decode("utf-8").rstrip("\n").split("\n")[1:]
    tokenizer = Tokenizer(models.BPE(vocabulary, [tuple(line.split(" ")) for line in lines]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _find(place: str | os.PathLike, download: bool) -> tuple[dict[str, Tensor], dict]:
    """Read the tensors of a file, a folder or a published model, and what config.json says beside them."""
    if not isinstance(place, str | os.PathLike):
        raise TypeError(
            f"weights must be a file, a folder, a name or tensors by name, got {type(place).__name__}; "
            f"of a model give model.state_dict()"
        )
    path = Path(place)
    if path.is_dir():
        file = path / "model.safetensors"
        if not file.is_file():
            raise FileNotFoundError(
                f"{path} holds no model.safetensors; other files, such as pytorch_model.bin, are not read, "
                f"since they may hold code. Save the model with save_pretrained, which writes it"
            )
        return read_weights(file), _read_config(path / "config.json")
    if path.is_file():
        return read_weights(path), _read_config(path.with_name("config.json"))
    if place in PUBLISHED:
        return load(fetch(f"{place}/model.safetensors", download)), {}
    raise FileNotFoundError(
        f"there is no file or folder {place}, and no published model of that name; give a path to "
        f"model.safetensors, or one of {', '.join(PUBLISHED)}"
    )


def _read_config(path: Path) -> dict:
    if not path.is_file():
        return {}
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}); download it again") from error
    if not isinstance(said, dict):
        raise ValueError(f"{path} holds no settings, but {said!r:.80}; download it again")
    for name, value in _FIXED.items():
        if said.get(name, value) != value:
            raise ValueError(f"{path} has {name}={said[name]!r}, but GPT is made for {value!r}")
    if said.get("activation_function", "gelu_new") not in tuple(_ACTIVATIONS):
        raise ValueError(
            f"{path} has activation_function={said['activation_function']!r}; GPT knows "
            f"{', '.join(_ACTIVATIONS)}"
        )
    return said


def _without_extras(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Leave out the prefix of the model with a head, the stored causal masks, and the head if it is tied."""
    kept = {name.removeprefix("transformer."): value for name, value in weights.items()}
    if len(kept) < len(weights):
        raise ValueError("some weights are given twice, with the prefix 'transformer.' and without")
    kept = {
        name: value for name, value in kept.items() if not re.fullmatch(r"h\.\d+\.attn\.(masked_)?bias", name)
    }
    head = kept.pop("lm_head.weight", None)
    if head is not None and "wte.weight" in kept and not torch.equal(head, kept["wte.weight"]):
        raise ValueError(
            "lm_head.weight differs from wte.weight, but GPT's head is tied: it is the embedding itself"
        )
    return kept


def _infer_config(weights: dict[str, Tensor], said: dict, num_heads: int | None) -> GPTConfig:
    """Read the sizes off the shapes."""
    sizes = {}
    for name in ("wte.weight", "wpe.weight", "h.0.mlp.c_fc.weight"):
        if name not in weights:
            raise ValueError(f"these are no weights of a GPT-2: {name} is missing")
        if weights[name].ndim != 2 or weights[name].numel() == 0:
            raise ValueError(f"{name} must be a matrix, but has shape {tuple(weights[name].shape)}")
        sizes[name] = weights[name].shape
    (vocab_size, d_model), d_ff = sizes["wte.weight"], sizes["h.0.mlp.c_fc.weight"][1]
    stated = said.get("n_head")
    if num_heads is not None and stated is not None and num_heads != stated:
        raise ValueError(
            f"num_heads is {num_heads}, but config.json has n_head={stated!r}; leave num_heads out"
        )
    num_heads = stated if num_heads is None else num_heads
    if num_heads is None:
        if d_model % 64:
            raise ValueError(
                f"the weights do not say how many heads there are, and d_model={d_model} is no multiple of "
                f"64, the width of a head in the published models; give num_heads"
            )
        num_heads = d_model // 64
    if type(num_heads) is not int or num_heads < 1 or d_model % num_heads:
        raise ValueError(f"num_heads is {num_heads!r}, which does not divide d_model={d_model}")
    return GPTConfig(
        vocab_size=vocab_size,
        context_length=sizes["wpe.weight"][0],
        d_model=d_model,
        num_heads=num_heads,
        num_blocks=len({match[1] for name in weights if (match := re.match(r"h\.(\d+)\.", name))}),
        d_ff=d_ff,
        dropout=0.0,
        activation=_ACTIVATIONS[said.get("activation_function", "gelu_new")],
    )


def _rename(weights: dict[str, Tensor], config: GPTConfig) -> Iterator[tuple[str, Tensor]]:
    """Give each weight under its name in GPT, after checking names, shapes and values."""
    d_model, d_ff = config.d_model, config.d_ff
    shapes = {"wte.weight": (config.vocab_size, d_model), "wpe.weight": (config.context_length, d_model)}
    shapes |= {"ln_f.weight": (d_model,), "ln_f.bias": (d_model,)}
    linears = {
        "attn.c_attn": (d_model, 3 * d_model),
        "attn.c_proj": (d_model, d_model),
        "mlp.c_fc": (d_model, d_ff),
        "mlp.c_proj": (d_ff, d_model),
    }
    for n in range(config.num_blocks):
        shapes |= {
            f"h.{n}.{norm}.{part}": (d_model,) for norm in ("ln_1", "ln_2") for part in ("weight", "bias")
        }
        shapes |= {f"h.{n}.{linear}.weight": shape for linear, shape in linears.items()}
        shapes |= {f"h.{n}.{linear}.bias": shape[1:] for linear, shape in linears.items()}
    _check_weights(weights, shapes)

    yield "embedding.weight", weights["wte.weight"]
    yield "output.weight", weights["wte.weight"]
    yield "positions.weight", weights["wpe.weight"]
    renamed = {"ln_f": "norm"}
    for n in range(config.num_blocks):
        renamed |= {
            f"h.{n}.ln_1": f"blocks.{n}.attention_residual.norm",
            f"h.{n}.attn.c_proj": f"blocks.{n}.attention.output_projection",
            f"h.{n}.ln_2": f"blocks.{n}.feed_forward_residual.norm",
            f"h.{n}.mlp.c_fc": f"blocks.{n}.feed_forward.expand",
            f"h.{n}.mlp.c_proj": f"blocks.{n}.feed_forward.contract",
        }
        for part in ("weight", "bias"):
            stacked = weights[f"h.{n}.attn.c_attn.{part}"].chunk(3, dim=-1)
            for kind, piece in zip(("query", "key", "value"), stacked, strict=True):
                yield f"blocks.{n}.attention.{kind}_projection.{part}", piece.T if part == "weight" else piece
    for theirs, ours in renamed.items():
        weight = weights[f"{theirs}.weight"]
        yield f"{ours}.weight", weight.T if weight.ndim == 2 else weight
        yield f"{ours}.bias", weights[f"{theirs}.bias"]


def _check_weights(weights: dict[str, Tensor], shapes: dict[str, tuple[int, ...]]) -> None:
    missing, unknown = sorted(shapes.keys() - weights.keys()), sorted(weights.keys() - shapes.keys())
    if missing or unknown:
        raise ValueError(
            f"these are no weights of a GPT-2: they lack {missing[:5] or 'nothing'} and add "
            f"{unknown[:5] or 'nothing'}"
        )
    dtype = weights["wte.weight"].dtype
    for name, shape in shapes.items():
        weight = weights[name]
        if weight.shape != shape:
            raise ValueError(
                f"{name} has shape {tuple(weight.shape)}, but by the shapes of wte, wpe and h.0.mlp.c_fc it "
                f"must be {shape}; the weights are of different models, or a matrix is transposed"
            )
        if weight.dtype != dtype or not dtype.is_floating_point:
            raise ValueError(
                f"{name} is {weight.dtype} and wte.weight {dtype}; give one floating-point dtype"
            )
        if not weight.isfinite().all():
            raise ValueError(f"{name} holds NaN or infinity; the weights are damaged, download them again")
