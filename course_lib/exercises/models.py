"""Models in exercises: small ones to check answers with, and those that a learner has trained.

The parameters of the small ones are drawn anew, so that no bug hides behind them.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from course_lib.exercises.exercise import Unusable


def trained_model(answer: Callable) -> nn.Module:
    """The model that a learner's function returns, ready to be measured."""
    made = answer()
    if isinstance(made, tuple) and made and isinstance(made[0], nn.Module):
        made = made[0]  # the model and what it was trained with
    if not isinstance(made, nn.Module):
        raise Unusable(f"return the trained model itself, an nn.Module; got a {type(made).__name__}")
    return made.eval()


def score(model: nn.Module, inputs: tuple[Tensor, ...], read: Callable[[Any], Tensor]) -> float:
    """What `read` makes of the model's output, without gradients; an error also tells the shapes."""
    shapes = " and ".join(str(tuple(part.shape)) for part in inputs)
    said = f"Tried: your model on numbers of shape {shapes}."
    try:
        with torch.no_grad():
            output = model(*inputs)
            if isinstance(output, Tensor):
                said += f" It returned numbers of shape {tuple(output.shape)}."
            return read(output).item()
    except Exception as error:
        error.add_note(said)
        raise


def shaken(module: nn.Module, generator: torch.Generator, scale: float = 1.0) -> nn.Module:
    """Draw all parameters of a module from the generator, biases and LayerNorms' scales included."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(scale * torch.randn(parameter.shape, generator=generator))
    return module.requires_grad_(False).eval()


class Restless(nn.Module):
    """Logits that change wildly with each word and place. Others repeat one word, and no bug would show."""

    def __init__(self, linear: nn.Module):
        super().__init__()
        self.linear = linear

    def forward(self, x: Tensor) -> Tensor:
        return (30 * self.linear(x)).sin()
