"""Who takes part in `scripts/step_cost.py`, and the models whose parameters they step."""

from collections.abc import Callable, Iterator
from functools import partial, reduce
from operator import add
from typing import Any

import torch
from torch import Tensor, nn

from optimizers.adam import AdamW
from optimizers.adaptive_muon import AdaptiveMuon
from optimizers.ademamix import AdEMAMix, SimplifiedAdEMAMix
from optimizers.adopt import ADOPT
from optimizers.lamb import LAMB
from optimizers.laprop import LaProp
from optimizers.lion import Lion
from optimizers.madam import MAdam
from optimizers.mars import MARS
from optimizers.muon import Muon
from optimizers.polargrad import PolarGrad
from optimizers.prodigy import Prodigy
from optimizers.qhadamw import QHAdamW
from optimizers.rule import Rule, zeros_state
from optimizers.rule_optimizer import RuleOptimizer
from optimizers.schedule_free_adamw import ScheduleFreeAdamW
from optimizers.scion import Scion
from optimizers.signum import Signum
from optimizers.soap import SOAP
from tasks.gpt_nano import GPT

Params = list[nn.Parameter]
Build = Callable[[Params], torch.optim.Optimizer]
Shape = tuple[int, ...]
GPT2_BLOCKS = 2
COMPILED, FUSED, RECENT = "compiled rules", "torch fused AdamW", "recent rules"
ELEMENTWISE: tuple[type[RuleOptimizer], ...] = (
    AdamW,
    MAdam,
    LaProp,
    Lion,
    Signum,
    QHAdamW,
    ADOPT,
    AdEMAMix,
    SimplifiedAdEMAMix,
    ScheduleFreeAdamW,
)
RECENT_RULES: tuple[type[RuleOptimizer], ...] = (
    SOAP, Scion, PolarGrad, ADOPT, MARS, Prodigy, LAMB, ScheduleFreeAdamW,
)  # fmt: skip
GPT2_BLOCK: list[Shape] = [
    (2304, 768),
    (2304,),
    (768, 768),
    (768,),
    (3072, 768),
    (3072,),
    (768, 3072),
    (768,),
    *[(768,)] * 4,
]


def _add_up(grad: Tensor, *state: Tensor) -> Tensor:
    """As little as a rule that reads and writes its state can compute."""
    for buffer in state:
        buffer.add_(grad)
    return reduce(add, state)


class SevenPasses(AdamW):
    """What memory alone takes of a rule with two states."""

    rule = Rule(_add_up, zeros_state("first", "second"), "flat")


class NinePasses(AdamW):
    """What memory alone takes of a rule with three states."""

    rule = Rule(_add_up, zeros_state("first", "second", "third"), "flat")


def models() -> dict[str, tuple[list[Shape], list[Shape]]]:
    """By model, the shapes of all parameters and those of its hidden matrices, which Muon takes."""
    with torch.device("meta"):
        nano = GPT(103, num_layers=3, num_heads=4, width=64, context=64, tied_head=False)
    named: list[tuple[str, Shape]] = [(name, tuple(param.shape)) for name, param in nano.named_parameters()]
    nano_matrices: list[Shape] = [shape for name, shape in named if name.startswith("blocks") and len(shape) == 2]
    gpt2 = GPT2_BLOCK * GPT2_BLOCKS
    return {
        "gpt_nano": ([shape for _, shape in named], nano_matrices),
        f"{GPT2_BLOCKS} blocks of GPT-2 small": (gpt2, [shape for shape in gpt2 if len(shape) == 2]),
    }


def candidates() -> Iterator[tuple[str, str, Build]]:
    """(algorithm, name, factory); the first of an algorithm is ours, to which all others are compared."""
    yield "AdamW", "ours", AdamW
    yield "AdamW", "torch for-loop", partial(torch.optim.AdamW, foreach=False)
    yield "AdamW", "torch foreach", partial(torch.optim.AdamW, foreach=True)
    yield "AdamW", "torch fused", partial(torch.optim.AdamW, fused=True)
    yield COMPILED, "ours", AdamW  # uncompiled
    yield COMPILED, FUSED, partial(torch.optim.AdamW, fused=True)
    for rule in (*ELEMENTWISE, SevenPasses, NinePasses):
        yield COMPILED, rule.__name__, partial(_compiled, rule)
    yield RECENT, "ours", AdamW
    for rule in RECENT_RULES:
        yield RECENT, rule.__name__, rule
    muon: dict[str, Any] = {"lr": 0.01, "momentum": 0.95, "nesterov": True}
    yield "Muon", "ours", partial(Muon, coefficient_type="simple", **muon)
    yield "Muon", "torch", partial(torch.optim.Muon, **muon)
    yield "AdaMuon", "ours", partial(AdaptiveMuon, coefficient_type="simple", **muon)
    yield from _pytorch_optimizer(muon)
    yield from _heavyball()


def _compiled(build: Callable[..., RuleOptimizer], params: Params) -> RuleOptimizer:
    optimizer = build(params)
    optimizer.compile_rules()
    return optimizer


def _pytorch_optimizer(muon: dict[str, Any]) -> Iterator[tuple[str, str, Build]]:
    try:
        import pytorch_optimizer as peers
    except ImportError:
        return

    def of_matrices(params: Params) -> list[dict[str, object]]:
        return [{"params": params, "use_muon": True}]

    yield "Muon", "pytorch_optimizer", lambda params: peers.Muon(of_matrices(params), **muon)
    yield "AdaMuon", "pytorch_optimizer", lambda params: peers.AdaMuon(of_matrices(params), lr=0.01)


def _heavyball() -> Iterator[tuple[str, str, Build]]:
    try:
        import heavyball
    except ImportError:
        return
    yield "AdamW", "heavyball", partial(heavyball.AdamW, weight_decay=0.01)
    yield "Muon", "heavyball", partial(heavyball.Muon, nesterov=True)
