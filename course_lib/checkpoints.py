"""A model's weights in a file: written whole or not at all, and compared before they are used."""

import os
import tempfile
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn


def save_checkpoint(model: nn.Module, path: str | os.PathLike) -> None:
    """Write a model's weights to a safetensors file; the file appears whole or not at all."""
    _check_model(model)
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; give the path of a file in it")
    # Clones, since safetensors refuses weights that share memory, as tied embeddings do.
    weights = {name: value.detach().cpu().clone().contiguous() for name, value in model.state_dict().items()}
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
        os.close(handle)
        save_file(weights, temporary)
        os.replace(temporary, path)
    except (OSError, SafetensorError) as error:  # safetensors reports a full disk in an error of its own
        raise OSError(
            f"{path} cannot be written: is the disk full or read-only? ({error}) What was there is as it was"
        ) from error
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)


def load_checkpoint(model: nn.Module, path: str | os.PathLike) -> None:
    """Read weights written by save_checkpoint into a model of the same configuration.

    Names, shapes and types are all compared before the model is touched.
    Raises FileNotFoundError, or ValueError for a file that is damaged or belongs to another model.
    """
    _check_model(model)
    if not Path(path).is_file():
        raise FileNotFoundError(
            f"there is no checkpoint at {path}; train the model and save_checkpoint it first"
        )
    found = read_weights(path)
    expected = model.state_dict()
    missing, unknown = sorted(expected.keys() - found.keys()), sorted(found.keys() - expected.keys())
    if missing or unknown:
        raise ValueError(
            f"{path} belongs to another model: it lacks {missing or 'nothing'} and adds "
            f"{unknown or 'nothing'}; build the model with the configuration it was saved with"
        )
    for name, value in expected.items():
        if found[name].shape != value.shape or found[name].dtype != value.dtype:
            raise ValueError(
                f"{name} is {tuple(found[name].shape)} {found[name].dtype} in {path}, but "
                f"{tuple(value.shape)} {value.dtype} in the model; build the model with the configuration it "
                f"was saved with"
            )
    model.load_state_dict(found)


def read_weights(path: str | os.PathLike) -> dict[str, Tensor]:
    """Read all tensors of a safetensors file; nothing in such a file can be executed.

    Raises FileNotFoundError, PermissionError, or ValueError for a file that is damaged or of another kind.
    """
    with open(path, "rb"):  # safetensors says of a file that may not be read that there is none
        pass
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (a safe_open cannot be iterated over)
    except SafetensorError as error:
        raise ValueError(
            f"{path} is not a whole safetensors file ({error}); it was cut short or is something else: "
            f"save or download it again"
        ) from error


def _check_model(model: nn.Module) -> None:
    if not isinstance(model, nn.Module):
        raise TypeError(f"the model comes first and then the path; got {type(model).__name__} for the model")
