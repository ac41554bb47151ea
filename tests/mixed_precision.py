"""Training with matrix products in bfloat16, which take about half as long on processors that know it."""

import torch
from torch import nn


def multiply_in_bfloat16(blocks: nn.ModuleList) -> None:
    """Let the blocks' linear layers work in bfloat16, and all between them, attention included, in float32.

    torch.autocast alone would also give attention bfloat16, for which PyTorch's fused kernel takes several
    times as long on a CPU, backwards above all.
    """
    autocast = torch.autocast("cpu", torch.bfloat16)
    for block in blocks:
        for part in (block.feed_forward, *block.attention.children()):
            part.forward = autocast(part.forward)
        split_heads = block.attention._split_heads
        block.attention._split_heads = lambda projected, split=split_heads: split(projected.float())
