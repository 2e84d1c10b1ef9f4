"""Which optimizer classes of torch.optim and pytorch_optimizer train in packs, and why the others do not.

    python scripts/packable_classes.py --out results/reference/packable/table.md

Every class is put through the proof that a sweep of it would be put through: some steps in float64, at four learning
rates, packed and alone. What the proof admits is then compared over 100 steps, of which the largest difference is
relative to the largest value of a parameter. Exit code 1: an admitted class differs by more than 1e-9.
"""

import argparse
import inspect
import logging
import math
import sys
import warnings
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path

import torch
from common import publish

from bench.config.optimizer import OptimizerConfig
from bench.errors import ConfigError, how_to_install, one_line, tell_error
from bench.training.proof import NotPackableError, follow, prove_optimizer

LRS = (1e-3, 3e-3, 1e-2, 2e-2)
SHAPES = {name: torch.Size(size) for name, size in {"a": (5, 3), "b": (5, 3), "c": (4,), "d": (3, 2, 2, 2)}.items()}
LABELS = {name: "vector" if len(shape) < 2 else "matrix" for name, shape in SHAPES.items()}
MATRICES = {name: shape for name, shape in SHAPES.items() if len(shape) == 2}
NUM_STEPS = 100
TOLERANCE = 1e-9


def find_classes() -> Iterator[tuple[str, str]]:
    """Library and import path of every class. Raises ModuleNotFoundError without pytorch_optimizer."""
    import pytorch_optimizer

    for name, member in sorted(vars(torch.optim).items()):
        if (
            inspect.isclass(member)
            and issubclass(member, torch.optim.Optimizer)
            and member is not torch.optim.Optimizer
        ):
            yield "torch.optim", f"torch.optim.{name}"
    for name in sorted(pytorch_optimizer.get_supported_optimizers()):
        try:
            owner = pytorch_optimizer.load_optimizer(name)
        except ImportError:  # bitsandbytes, torchao: other packages
            continue
        if owner.__module__.startswith("pytorch_optimizer"):
            yield "pytorch_optimizer", f"{owner.__module__}.{owner.__qualname__}"


def largest_difference(configs: list[OptimizerConfig], shapes: Mapping[str, torch.Size]) -> float:
    """Of packed and alone after `NUM_STEPS`, relative to the largest value of a parameter."""
    paths = follow(configs, shapes, LABELS, NUM_STEPS)
    pairs = [(paths.packed[name][k], param) for k, own in enumerate(paths.alone) for name, param in own.items()]
    return max(((packed - alone).abs().max() / alone.abs().max()).item() for packed, alone in pairs)


def examine(path: str) -> tuple[float, str]:
    """The largest difference of a class that packs, else NaN and the reason. On matrices, if it takes nothing else."""
    configs = [OptimizerConfig.model_validate({"name": "tried", "_target_": path, "lr": lr}) for lr in LRS]
    reason = ""
    for shapes, remark in ((SHAPES, ""), (MATRICES, "matrices only")):
        try:
            prove_optimizer(configs, shapes, LABELS)
            return largest_difference(configs, shapes), remark
        except NotPackableError as error:
            return math.nan, str(error)
        except ConfigError as error:
            reason = reason or f"refuses its options: {str(error).partition('refuses its options: ')[2] or error}"
        except Exception as error:  # anyone's code, alone
            reason = reason or f"cannot take a step alone: {type(error).__name__}: {error}"
    return math.nan, reason


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="also write the table here")
    options = parser.parse_args()
    try:
        classes = list(find_classes())
    except ModuleNotFoundError as error:
        text = f"{error.name} is not installed; it is of the extra [integrations]: {how_to_install('integrations')}"
        return tell_error(text, 2)
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    rows, differences = [], []
    for library, path in classes:
        difference, text = examine(path)
        differences.append(difference)
        packs = not math.isnan(difference)
        shown = one_line(text.partition("; signature")[0])[:120].replace("|", "/")
        print(path, f"{difference:.1e}" if packs else shown, file=sys.stderr, flush=True)
        rows.append((not packs, library, path.rpartition(".")[2], f"{difference:.1e}" if packs else "", shown))
    packed = [difference for difference in differences if not math.isnan(difference)]
    lines = [
        f"torch {torch.__version__}, pytorch_optimizer {version('pytorch_optimizer')}: {len(packed)} of "
        f"{len(differences)} classes train in packs; the largest difference of one after {NUM_STEPS} steps in float64, "
        f"4 trials at lr {', '.join(f'{lr:g}' for lr in LRS)}, is {max(packed):.1e}.",
        "",
        "| class | of | trains | difference from alone | remark, or why alone |",
        "|---|---|---|---:|---|",
    ]
    lines += [
        f"| {name} | {library} | {'alone' if alone else 'packed'} | {difference} | {text} |"
        for alone, library, name, difference, text in sorted(set(rows))
    ]
    publish(lines, options.out)
    return int(max(packed) > TOLERANCE)


if __name__ == "__main__":
    sys.exit(main())
