"""Copying the parameters of our models into those of transformers, for tests of parity."""

import torch
import transformers
from torch import nn


def rotary_angles(positions, d_k, base=10000.0):
    """One angle for each position and pair of columns, in float64, which transformers does not offer."""
    exponents = torch.arange(0, d_k, 2, dtype=torch.float64) / d_k
    return positions.double()[..., None] / base**exponents


class RotaryCodes(nn.Module):
    """Cosines and sines that are rounded once; transformers' own come from angles in float32."""

    def __init__(self, d_k):
        super().__init__()
        self.d_k = d_k

    def forward(self, x, position_ids):
        angles = rotary_angles(position_ids, self.d_k).repeat(1, 1, 2)
        return angles.cos().to(x.dtype), angles.sin().to(x.dtype)


# ----------------------------------------------------------------------------------------------- GPT


def their_gpt2(config):
    """transformers' GPT-2 of the sizes of a GPTConfig."""
    return transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            vocab_size=config.vocab_size,
            n_positions=config.context_length,
            n_embd=config.d_model,
            n_head=config.num_heads,
            n_layer=config.num_blocks,
            n_inner=config.d_ff,
            activation_function={"gelu_tanh": "gelu_new"}.get(config.activation, config.activation),
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            bos_token_id=0,
            eos_token_id=0,
        )
    )


def copy_gpt2(ours, theirs):
    """Give GPT-2 the parameters of a GPT with learned positions; its maps are stored as (in, out)."""
    theirs.transformer.wte.load_state_dict(ours.embedding.state_dict())
    theirs.transformer.wpe.load_state_dict(ours.positions.state_dict())
    theirs.transformer.ln_f.load_state_dict(ours.norm.state_dict())
    for block, layer in zip(ours.blocks, theirs.transformer.h, strict=True):
        layer.ln_1.load_state_dict(block.attention_residual.norm.state_dict())
        layer.ln_2.load_state_dict(block.feed_forward_residual.norm.state_dict())
        attention, feed_forward = block.attention, block.feed_forward
        three = [attention.query_projection, attention.key_projection, attention.value_projection]
        for linears, conv in (
            (three, layer.attn.c_attn),
            ([attention.output_projection], layer.attn.c_proj),
            ([feed_forward.expand], layer.mlp.c_fc),
            ([feed_forward.contract], layer.mlp.c_proj),
        ):
            conv.weight.data = torch.cat([linear.weight.data for linear in linears]).T.contiguous()
            conv.bias.data = torch.cat([linear.bias.data for linear in linears])


def their_gpt_neox(config):
    """transformers' GPT-NeoX of the sizes of a GPTConfig, one sublayer after the other, its head tied."""
    theirs = transformers.GPTNeoXForCausalLM(
        transformers.GPTNeoXConfig(
            vocab_size=config.vocab_size,
            max_position_embeddings=config.context_length,
            hidden_size=config.d_model,
            num_attention_heads=config.num_heads,
            num_hidden_layers=config.num_blocks,
            intermediate_size=config.d_ff,
            hidden_act="gelu_new",
            rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 1.0},
            use_parallel_residual=False,
            hidden_dropout=0.0,
            attention_dropout=0.0,
            layer_norm_eps=1e-5,
            tie_word_embeddings=True,
        )
    )
    theirs.gpt_neox.rotary_emb = RotaryCodes(config.d_model // config.num_heads)
    return theirs


def copy_gpt_neox(ours, theirs):
    """Give GPT-NeoX the parameters of a GPT with rotary positions."""
    theirs.gpt_neox.embed_in.load_state_dict(ours.embedding.state_dict())
    theirs.gpt_neox.final_layer_norm.load_state_dict(ours.norm.state_dict())
    for mine, layer in zip(ours.blocks, theirs.gpt_neox.layers, strict=True):
        layer.input_layernorm.load_state_dict(mine.attention_residual.norm.state_dict())
        layer.post_attention_layernorm.load_state_dict(mine.feed_forward_residual.norm.state_dict())
        attention = mine.attention
        three = (attention.query_projection, attention.key_projection, attention.value_projection)
        for part in ("weight", "bias"):  # stacked head by head: query, key, value of the first, ...
            pieces = [getattr(linear, part).data.unflatten(0, (attention.num_heads, -1)) for linear in three]
            getattr(layer.attention.query_key_value, part).data = torch.stack(pieces, dim=1).flatten(0, 2)
        layer.attention.dense.load_state_dict(attention.output_projection.state_dict())
        layer.mlp.dense_h_to_4h.load_state_dict(mine.feed_forward.expand.state_dict())
        layer.mlp.dense_4h_to_h.load_state_dict(mine.feed_forward.contract.state_dict())


# ----------------------------------------------------------------------------------------------- ViT


def their_vit_config(config, **options):
    rows, columns = config.grid
    return transformers.ViTConfig(
        image_size=(rows * config.patch_size, columns * config.patch_size),
        patch_size=config.patch_size,
        num_channels=config.num_channels,
        hidden_size=config.d_model,
        num_attention_heads=config.num_heads,
        num_hidden_layers=config.num_blocks,
        intermediate_size=config.d_ff,
        layer_norm_eps=1e-5,  # PyTorch's default, and ours
        **options,
    )


def copy_vit(ours, theirs):
    """Give transformers' ViTModel the parameters of ours."""
    rows, columns, size = *ours.config.grid, ours.config.patch_size
    embeddings = theirs.embeddings
    with torch.no_grad():
        matrix = ours.patch_embedding.weight.unflatten(1, (ours.config.num_channels, size, size))
        embeddings.patch_embeddings.projection.weight.copy_(matrix)
        embeddings.patch_embeddings.projection.bias.copy_(ours.patch_embedding.bias)
        embeddings.cls_token.copy_(ours.class_vector)
        embeddings.position_embeddings.copy_(ours.positions.weight)
    assert len(ours.positions.weight) == 1 + rows * columns
    theirs.layernorm.load_state_dict(ours.norm.state_dict())
    for block, layer in zip(ours.blocks, theirs.layers, strict=True):
        copy_attention(block.attention, layer.attention)
        for mine, other in (
            (block.attention_residual.norm, layer.layernorm_before),
            (block.feed_forward_residual.norm, layer.layernorm_after),
            (block.feed_forward.expand, layer.mlp.fc1),
            (block.feed_forward.contract, layer.mlp.fc2),
        ):
            other.load_state_dict(mine.state_dict())


def copy_attention(ours, theirs):
    """Give the attention of transformers' ViT or Llama the parameters of ours."""
    for name in ("query", "key", "value", "output"):
        projection = getattr(theirs, f"{name[0]}_proj")
        projection.load_state_dict(getattr(ours, f"{name}_projection").state_dict())
