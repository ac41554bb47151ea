"""Small models to check answers with: their parameters are drawn anew, so that no bug hides behind them."""

import torch
from torch import Tensor, nn


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
