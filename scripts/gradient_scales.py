"""The smallest and the largest gradients at which each rule of ours still takes the steps that it takes at size 1.

    python scripts/gradient_scales.py [--out results/reference/gradient_scales/README.md]

Every rule at its yaml's defaults, without decay, moves float32 parameters three steps along fixed random gradients with
entries of about 1, times every 2^k that float32 holds. Of the range around 1 in which the steps stay the same, the ends
are given. There is no clock in it, so that it gives the same table again.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from common import publish
from omegaconf import OmegaConf
from torch import Tensor

from bench.check.__main__ import compose_optimizer, make_subject
from bench.check.gradient_scale import TOLERANCE, movement
from bench.config.folders import find_conf_dir

SMALLEST, LARGEST = -126, 124  # beyond, a gradient of float32 is subnormal or infinite
HEADER = """\
# How large gradients may be

`python scripts/gradient_scales.py`: gradients with entries of about 1 times 2^k, float32, three steps, no decay. The
range of k around 0 in which a rule's steps are those of k = 0: within 1 %, and bit for bit. A dash: at k = 0 alone, as
the step grows with the gradient (`mars`: up to a norm of 1), or as eps has a part in every bit. The rule of a yaml's
`rest` is not in its row. Wrappers stand with their `base`, on a linear loss: both gradients of SAM are the same.

The lower end is where eps (Adam's, say) or the underflow of a square takes over, the upper end where a square
overflows. `madam` covers what its `scale_log2` lets it: at another scale the range is as wide and lies elsewhere. The
Muon family needs no such number: its matrices are divided by a power of two before they are squared. -126 and 124 are
the ends of what was tried: there gradients themselves become subnormal or infinite. What eps does to a training is
studied in [madam_vs_adam](../madam_vs_adam).

| `optimizer=` | eps | within 1 % from 2^ | to 2^ | bit for bit from 2^ | to 2^ |
| --- | --- | ---: | ---: | ---: | ---: |"""


def our_names() -> list[str]:
    files = sorted((find_conf_dir() / "optimizer").glob("*.yaml"))
    return [
        file.stem for file in files if str(OmegaConf.select(OmegaConf.load(file), "_target_")).startswith("optimizers.")
    ]


def reach(moves: dict[int, Tensor], is_same: Callable[[Tensor], bool]) -> tuple[int, int]:
    """The ends of the range around 0 in which every movement is the same as that at 0."""
    low, high = 0, 0
    while low > SMALLEST and is_same(moves[low - 1]):
        low -= 1
    while high < LARGEST and is_same(moves[high + 1]):
        high += 1
    return low, high


def describe(name: str) -> str:
    """The row of one optimizer."""
    config = compose_optimizer([f"optimizer={name}"], [])
    subject = make_subject(config)
    moves = {k: movement(subject, 2.0**k) for k in range(SMALLEST, LARGEST + 1)}
    size = moves[0].norm()
    ranges = (
        reach(moves, lambda move: bool((move - moves[0]).norm() <= TOLERANCE * size)),
        reach(moves, lambda move: torch.equal(move, moves[0])),
    )
    cells = ["-" if low == high else str(end) for low, high in ranges for end in (low, high)]
    options = (config.base or config).hyperparameters
    terms = ", ".join(f"{value:g}" for key, value in options.items() if key.split("_")[-1] == "eps") or "none"
    return f"| {' | '.join([f'`{name}`', terms, *cells])} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="file to write the table to")
    args = parser.parse_args()
    torch.set_num_threads(1)
    publish([HEADER, *map(describe, our_names())], args.out)


if __name__ == "__main__":
    main()
