"""How far a layer is from the reference that it must equal: in values, and in the gradient of every number.

A configuration is made in float64 with random weights, copied into the reference by the code that tests use
everywhere, and rounded to the dtype that is compared. Gradients of parameters are compared in the reference's
layout: our gradients are carried there by the very code that carried the weights.

What is asked differs by dtype, because what can be asked does:

    float64             each tensor agrees to EXACT of its largest number. A wrong formula shows here.
    float32, bfloat16   over all configurations, ours is at most TIMES as far from the exact result as the
                        reference is, plus ROUNDINGS of the result. The exact result is the reference's own,
                        computed in float64 from the same rounded numbers.

A fixed tolerance would not do for bfloat16. Each side rounds to 8 bits after every step, so two right
answers differ by a percent after one layer and by a tenth after a deep model: what lets the model pass lets
a broken layer pass too. The reference's own error says how much is right for this very layer.

The errors of a layer's configurations are taken together, by their root mean square, since one by one they
are a matter of luck: rounding pushes a ReLU over its edge on one side and not on the other, and the gradient
of that number is gone. That may put one tensor CAP further off than the reference's, but no more.
"""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import product

import torch
from torch import Tensor, nn

DTYPES = (torch.float64, torch.float32, torch.bfloat16)
EXACT = 1e-11
TIMES, ROUNDINGS = 2.0, 2.0
CAP = {torch.float32: 1e-3, torch.bfloat16: 0.3}


class Call(nn.Module):
    """A function of a module and of tensors, so that the two together can be copied and cast."""

    def __init__(self, function: Callable, module: nn.Module | None = None):
        super().__init__()
        self.function = function
        self.module = module

    def forward(self, *inputs: Tensor) -> list[Tensor]:
        outputs = self.function(*inputs) if self.module is None else self.function(self.module, *inputs)
        return [outputs] if isinstance(outputs, Tensor) else list(outputs)


@dataclass
class Pair:
    """The same computed twice from the same inputs; `copy_weights(ours, theirs)` makes it the same."""

    ours: Call
    theirs: Call
    inputs: tuple[Tensor, ...]
    copy_weights: Callable[[nn.Module, nn.Module], None] | None = None


@dataclass
class Parity:
    """A layer, the reference it must equal, and the configurations in which it is tried."""

    layer: str
    reference: str
    make: Callable[..., Pair]
    configurations: list[dict] = field(repr=False)


@dataclass
class Distance:
    """How far ours and theirs are apart, and how far each is from the exact result, for one tensor.

    apart: the largest difference, as a share of the largest number expected.
    ours, theirs: the length of the error, as a share of the length of what is expected.
    """

    name: str
    apart: float
    ours: float
    theirs: float


def faults(distances: list[Distance], dtype: torch.dtype) -> list[str]:
    """Say what is too far apart. Comparisons are written so that NaN is too far as well."""
    if dtype == torch.float64:
        return [f"{d.name}: {d.apart:.1e} apart" for d in distances if not d.apart <= EXACT]
    beyond = [d for d in distances if not d.ours <= TIMES * d.theirs + CAP[dtype]]
    found = [f"{d.name}: error {d.ours:.1e}, the reference's {d.theirs:.1e}" for d in beyond]
    ours, theirs = mean_errors(distances)
    allowed = TIMES * theirs + ROUNDINGS * torch.finfo(dtype).eps
    if not ours <= allowed:
        found.append(f"error {ours:.1e}, allowed {allowed:.1e}, the reference's {theirs:.1e}")
    return found


def mean_errors(distances: list[Distance]) -> tuple[float, float]:
    """The root mean square of our errors, and of the reference's."""
    errors = torch.tensor([[d.ours, d.theirs] for d in distances], dtype=torch.float64)
    return tuple(errors.square().mean(dim=0).sqrt().tolist())


def grid(**axes: list) -> list[dict]:
    """Every combination of the values of each axis."""
    return [dict(zip(axes, values, strict=True)) for values in product(*axes.values())]


def measure(parity: Parity, configuration: dict, dtype: torch.dtype) -> tuple[list[Distance], list[Distance]]:
    """Return how far values are, and how far gradients."""
    with torch.random.fork_rng():
        torch.manual_seed(parity.configurations.index(configuration))
        pair = parity.make(**configuration)
        for call in (pair.ours, pair.theirs):
            call.eval().to(dtype)
        if pair.copy_weights is not None:
            pair.copy_weights(pair.ours.module, pair.theirs.module)
        rounded = [x.to(dtype) if x.is_floating_point() else x for x in pair.inputs]
        exact = copy.deepcopy(pair.theirs).double()
        expected, exact_gradients = run(exact, [x.double() if x.is_floating_point() else x for x in rounded])
        theirs, their_gradients = run(pair.theirs, rounded)
        ours, our_gradients = run(pair.ours, rounded)
        if pair.copy_weights is not None:
            our_gradients = in_their_layout(pair, our_gradients)
    assert [(x.dtype, x.shape) for x in ours] == [(x.dtype, x.shape) for x in theirs]
    names = [f"value {number}" for number in range(len(ours))]
    values = distances(*(dict(zip(names, side, strict=True)) for side in (ours, theirs, expected)))
    return values, distances(our_gradients, their_gradients, exact_gradients)


def run(call: Call, inputs: list[Tensor]) -> tuple[list[Tensor], dict[str, Tensor]]:
    """Return what comes out, and the gradients of one weighted sum of it with respect to all that has one."""
    leaves = [x.clone().requires_grad_() if x.is_floating_point() else x for x in inputs]
    outputs = call(*leaves)
    wanted = {f"input {number}": x for number, x in enumerate(leaves) if x.requires_grad}
    wanted |= {name: x for name, x in call.named_parameters() if x.requires_grad}
    traced = [x for x in outputs if x.requires_grad]
    if not wanted or not traced:
        return outputs, {}
    generator = torch.Generator().manual_seed(0)
    directions = [torch.randn(x.shape, generator=generator, dtype=torch.float64).to(x) for x in traced]
    found = torch.autograd.grad(traced, list(wanted.values()), directions, allow_unused=True)
    gradients = zip(wanted, found, wanted.values(), strict=True)
    return [x.detach() for x in outputs], {
        name: torch.zeros_like(x) if gradient is None else gradient for name, gradient, x in gradients
    }


def in_their_layout(pair: Pair, gradients: dict[str, Tensor]) -> dict[str, Tensor]:
    """Carry our gradients into the reference's layout, by the code that carried our weights there."""
    carrier, frame = copy.deepcopy(pair.ours), copy.deepcopy(pair.theirs)
    for name, parameter in carrier.named_parameters():
        parameter.data = gradients[name]
    trained = {name: parameter for name, parameter in frame.named_parameters() if parameter.requires_grad}
    for parameter in trained.values():
        parameter.data = torch.full_like(parameter, torch.nan)  # whatever is not carried over shows
    pair.copy_weights(carrier.module, frame.module)
    inputs = {name: gradient for name, gradient in gradients.items() if name.startswith("input")}
    return inputs | {name: parameter.detach() for name, parameter in trained.items()}


def distances(ours: dict, theirs: dict, exact: dict) -> list[Distance]:
    assert list(ours) == list(theirs) == list(exact), f"{list(ours)} and {list(theirs)}"
    return list(_distances(ours, theirs, exact))


def _distances(ours: dict, theirs: dict, exact: dict) -> Iterator[Distance]:
    lengths = {name: x.double().norm() for name, x in exact.items()}
    for name, right in exact.items():
        # What is zero but for rounding is held against the greatest of its kind: a bias of the keys, say,
        # shifts all scores of a query alike, and has no gradient.
        nothing = lengths[name] <= 1e-9 * max(lengths.values())
        scale = max(exact, key=lengths.get) if nothing else name
        length, largest = lengths[scale].clamp(min=1e-300), exact[scale].abs().max().clamp(min=1e-300)
        mine, reference = ours[name].double(), theirs[name].double()
        yield Distance(
            name,
            float((mine - reference).abs().max() / largest),
            float((mine - right).norm() / length),
            float((reference - right).norm() / length),
        )
