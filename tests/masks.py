"""Masks of every kind, for tests that try them all."""

import torch

from course_lib.attention import causal_mask, padding_mask

MASKS = ["none", "causal", "padding", "random", "empty rows"]


def mask_of(kind, batch, num_queries, num_keys):
    """A mask that broadcasts to (*batch, query, key); `batch` is (sentences, heads) or shorter."""
    if kind == "none":
        return None
    if kind == "causal":
        return causal_mask(num_queries, num_keys)
    if kind == "padding":
        lengths = [1 + (5 * sentence + 3) % num_keys for sentence in range(batch[0])]
        return padding_mask(lengths, num_keys)
    mask = torch.rand(*batch, num_queries, num_keys) < 0.6
    mask[..., torch.arange(num_queries), torch.arange(num_queries) % num_keys] = True
    if kind == "empty rows":
        mask[..., : (num_queries + 1) // 2, :] = False
    return mask
