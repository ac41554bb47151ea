"""Copying the parameters of our blocks into PyTorch's own, for tests of parity."""

import torch

from course_lib.layers import DecoderBlock


def copy_attention(ours, theirs):
    """Give nn.MultiheadAttention the parameters of MultiHeadAttention."""
    projections = (ours.query_projection, ours.key_projection, ours.value_projection)
    theirs.in_proj_weight.data = torch.cat([projection.weight.data for projection in projections])
    if theirs.in_proj_bias is not None:
        theirs.in_proj_bias.data = torch.cat([projection.bias.data for projection in projections])
    theirs.out_proj.load_state_dict(ours.output_projection.state_dict())


def copy_block(ours, theirs):
    """Give PyTorch's layer the parameters of ours."""
    if isinstance(ours, DecoderBlock):
        copy_attention(ours.self_attention, theirs.self_attn)
        copy_attention(ours.cross_attention, theirs.multihead_attn)
        norms = (ours.self_attention_residual, ours.cross_attention_residual, ours.feed_forward_residual)
    else:
        copy_attention(ours.attention, theirs.self_attn)
        norms = (ours.attention_residual, ours.feed_forward_residual)
    for number, residual in enumerate(norms, start=1):
        getattr(theirs, f"norm{number}").load_state_dict(residual.norm.state_dict())
    theirs.linear1.load_state_dict(ours.feed_forward.expand.state_dict())
    theirs.linear2.load_state_dict(ours.feed_forward.contract.state_dict())


def shake(module):
    """Random parameters everywhere, so that biases and norms count."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(std=0.3)
    return module
