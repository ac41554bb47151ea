"""The blocks that Transformers are stacked from: attention, a network for each position, and what ties them.

Every sublayer, whether it attends or not, is tied in the same way: it is added to what it was given (a
residual connection), and LayerNorm stands either before it (pre-norm) or after the sum (post-norm).
"""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from course_lib.attention import (
    MultiHeadAttention,
    _check_axes,
    _check_dropout,
    _check_dtypes,
    _check_flags,
    _check_projection,
    _check_sizes,
)
from course_lib.positions import RotaryAttention

Past = Float[Tensor, "2 batch head _ d_k"]  # the keys, and the values, of positions already seen


class FeedForward(nn.Module):
    """Two linear maps with a bend between them, applied to each position by itself.

    FFN(x) = W_2 activation(W_1 x + b_1) + b_2

    Shapes: (..., d_model) to (..., d_model), with d_ff numbers in between. `dropout` is applied to those.

    activation: "relu", "gelu", or "gelu_tanh", which is GELU with tanh in the place of the exact erf:

        0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))

    Raises ValueError for a size below 1 and for any other activation.
    Sources: Vaswani et al. 2017, section 3.3, with ReLU; Hendrycks and Gimpel 2016, section 2, for both kinds
    of GELU. The Vision Transformer uses the exact one, GPT the other.
    """

    def __init__(self, d_model: int, d_ff: int, dropout: float = 0.0, activation: str = "relu"):
        super().__init__()
        _check_sizes(1, d_model=d_model, d_ff=d_ff)
        _check_dropout(dropout)
        activations = {"relu": nn.ReLU(), "gelu": nn.GELU(), "gelu_tanh": nn.GELU(approximate="tanh")}
        if activation not in list(activations):  # a list can be asked for anything, a dict not
            raise ValueError(f"activation is {activation!r}; choose 'relu', 'gelu' or 'gelu_tanh'")
        self.expand = nn.Linear(d_model, d_ff)
        self.activation = activations[activation]
        self.dropout = nn.Dropout(dropout)
        self.contract = nn.Linear(d_ff, d_model)
        for linear in (self.expand, self.contract):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(self, x: Float[Tensor, "*batch d_model"]) -> Float[Tensor, "*batch d_model"]:
        """Raises ValueError for input of another width, TypeError for another dtype than the weights'."""
        _check_dtypes(x=x, weight=self.expand.weight)
        if x.dim() == 0 or x.shape[-1] != self.expand.in_features:
            raise ValueError(
                f"x must have the axes (..., d_model), d_model being {self.expand.in_features}, got shape "
                f"{tuple(x.shape)}"
            )
        return self.contract(self.dropout(self.activation(self.expand(x))))


class ResidualConnection(nn.Module):
    """Add a sublayer to its input, with LayerNorm before the sublayer or after the sum.

        pre-norm    x + dropout(sublayer(LayerNorm(x)))
        post-norm   LayerNorm(x + dropout(sublayer(x)))

    Sources: Vaswani et al. 2017, section 5.4 (post-norm); Xiong et al. 2020 compare the two.
    """

    def __init__(self, d_model: int, dropout: float = 0.0, norm_first: bool = True):
        super().__init__()
        _check_sizes(1, d_model=d_model)
        _check_dropout(dropout)
        _check_flags(norm_first=norm_first)
        self.norm_first = norm_first
        self.norm = nn.LayerNorm(d_model)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, x: Float[Tensor, "batch position d_model"], sublayer: Callable[[Tensor], Tensor]
    ) -> Float[Tensor, "batch position d_model"]:
        """Raises ValueError if shapes do not fit, TypeError for dtypes and for a sublayer that is none."""
        _check_dtypes(x=x, weight=self.norm.weight)
        if x.shape[-1:] != self.norm.weight.shape:
            raise ValueError(f"x must be {len(self.norm.weight)} wide, got shape {tuple(x.shape)}")
        if not callable(sublayer):
            raise TypeError(f"sublayer must be a function of x, got {type(sublayer).__name__}")
        result = sublayer(self.norm(x) if self.norm_first else x)
        if not isinstance(result, Tensor) or result.shape != x.shape:
            got = tuple(result.shape) if isinstance(result, Tensor) else type(result).__name__
            raise ValueError(
                f"a sublayer is added to its input, so it must return the shape {tuple(x.shape)}; got {got}"
            )
        if self.norm_first:
            return x + self.dropout(result)
        return self.norm(x + self.dropout(result))

    def extra_repr(self) -> str:
        return f"norm_first={self.norm_first}"


class EncoderBlock(nn.Module):
    """Attend to all positions that the mask allows, then work on each position by itself.

    x = residual(x, self-attention),    x = residual(x, feed-forward)

    With a causal mask this is the block of a decoder-only model such as GPT. With `rotary` its attention
    knows positions by itself.

    Raises ValueError if num_heads does not divide d_model, and for input without three axes.
    Source: Vaswani et al. 2017, section 3.1.
    """

    def __init__(
        self,
        d_model: int,
        num_heads: int,
        d_ff: int,
        dropout: float = 0.0,
        norm_first: bool = True,
        activation: str = "relu",
        rotary: bool = False,
    ):
        super().__init__()
        _check_flags(rotary=rotary)
        attention = RotaryAttention if rotary else MultiHeadAttention
        self.attention = attention(d_model, num_heads, dropout)
        self.attention_residual = ResidualConnection(d_model, dropout, norm_first)
        self.feed_forward = FeedForward(d_model, d_ff, dropout, activation)
        self.feed_forward_residual = ResidualConnection(d_model, dropout, norm_first)

    def forward(
        self, x: Float[Tensor, "batch position d_model"], mask: Bool[Tensor, "..."] | None = None
    ) -> Float[Tensor, "batch position d_model"]:
        """Raises ValueError if shapes do not fit, TypeError for a mask that is not boolean."""
        _check_input(x, self.attention)
        x = self.attention_residual(x, lambda x: self.attention(x, mask=mask))
        return self.feed_forward_residual(x, self.feed_forward)

    def step(
        self, x: Float[Tensor, "batch new d_model"], past: Past, mask: Bool[Tensor, "..."] | None = None
    ) -> tuple[Float[Tensor, "batch new d_model"], Past]:
        """Go on from positions seen before: return the new ones' outputs, and the past with them in it.

        mask: (new, past and new); without one the new positions see all, as a single newest one may.
        """
        x, past = _attend_with_past(self.attention, self.attention_residual, x, past, mask)
        return self.feed_forward_residual(x, self.feed_forward), past


class DecoderBlock(nn.Module):
    """Attend to the target so far, then to the source, then work on each position by itself.

    x = residual(x, self-attention),    x = residual(x, cross-attention),    x = residual(x, feed-forward)

    In the cross-attention queries come from x, keys and values from the memory, the encoder's output.

    Raises ValueError if num_heads does not divide d_model, and for input without three axes.
    Source: Vaswani et al. 2017, section 3.1.
    """

    def __init__(
        self,
        d_model: int,
        num_heads: int,
        d_ff: int,
        dropout: float = 0.0,
        norm_first: bool = True,
        activation: str = "relu",
    ):
        super().__init__()
        self.self_attention = MultiHeadAttention(d_model, num_heads, dropout)
        self.self_attention_residual = ResidualConnection(d_model, dropout, norm_first)
        self.cross_attention = MultiHeadAttention(d_model, num_heads, dropout)
        self.cross_attention_residual = ResidualConnection(d_model, dropout, norm_first)
        self.feed_forward = FeedForward(d_model, d_ff, dropout, activation)
        self.feed_forward_residual = ResidualConnection(d_model, dropout, norm_first)

    def forward(
        self,
        x: Float[Tensor, "batch target d_model"],
        memory: Float[Tensor, "batch source d_model"] | tuple[Tensor, Tensor],
        mask: Bool[Tensor, "..."] | None = None,
        memory_mask: Bool[Tensor, "..."] | None = None,
    ) -> Float[Tensor, "batch target d_model"]:
        """memory: the encoder's output, or its keys and values from cross_attention.project.
        mask: over (target, target), causal for a decoder; memory_mask: over (target, source).

        Raises ValueError if shapes do not fit, TypeError for a mask that is not boolean.
        """
        _check_input(x, self.self_attention)
        x = self.self_attention_residual(x, lambda x: self.self_attention(x, mask=mask))
        x = self._look_at(memory, x, memory_mask)
        return self.feed_forward_residual(x, self.feed_forward)

    def step(
        self,
        x: Float[Tensor, "batch new d_model"],
        past: Past,
        memory: Float[Tensor, "batch source d_model"] | tuple[Tensor, Tensor],
        mask: Bool[Tensor, "..."] | None = None,
        memory_mask: Bool[Tensor, "..."] | None = None,
    ) -> tuple[Float[Tensor, "batch new d_model"], Past]:
        """Go on from positions seen before: return the new ones' outputs, and the past with them in it.

        memory: as in forward; best its keys and values, so that they are projected once for all steps.
        mask: (new, past and new); without one the new positions see all, as a single newest one may.
        """
        x, past = _attend_with_past(self.self_attention, self.self_attention_residual, x, past, mask)
        x = self._look_at(memory, x, memory_mask)
        return self.feed_forward_residual(x, self.feed_forward), past

    def _look_at(self, memory: Tensor | tuple[Tensor, Tensor], x: Tensor, mask: Tensor | None) -> Tensor:
        if not isinstance(memory, Tensor | tuple):
            raise TypeError(
                f"memory must be the encoder's output, or the pair that cross_attention.project gives, got "
                f"{type(memory).__name__}"
            )
        keys_and_values = self.cross_attention.project(memory) if isinstance(memory, Tensor) else memory
        return self.cross_attention_residual(
            x, lambda x: self.cross_attention(x, mask=mask, projected=keys_and_values)
        )


def _attend_with_past(
    attention: MultiHeadAttention,
    residual: ResidualConnection,
    x: Tensor,
    past: Past,
    mask: Tensor | None,
) -> tuple[Tensor, Past]:
    """Self-attention of new positions to the past and to one another; return output and longer past."""
    _check_input(x, attention)
    expected = (2, len(x), attention.num_heads, attention.d_k)
    if not isinstance(past, Tensor) or past.dim() != 5 or (*past.shape[:3], past.shape[4]) != expected:
        got = tuple(past.shape) if isinstance(past, Tensor) else type(past).__name__
        raise ValueError(
            f"past must be of shape {(*expected[:3], 'seen', expected[3])}, the keys and the values of each "
            f"head, got {got}"
        )
    _check_dtypes(x=x, past=past)

    def attend(x):
        nonlocal past
        past = torch.cat([past, torch.stack(attention.project(x))], dim=-2)
        return attention(x, mask=mask, projected=(past[0], past[1]))

    return residual(x, attend), past


def _check_input(x: Tensor, attention: MultiHeadAttention) -> None:
    """LayerNorm sees x before attention does, and its complaint would come from inside PyTorch."""
    _check_axes(x=x)
    _check_projection("x", x, attention.query_projection.weight)
