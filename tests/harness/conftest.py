"""Plans composed from the shipped configuration, over tasks small enough for a test."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import OverrideType
from omegaconf import DictConfig, OmegaConf

from bench.cli.compose import admit_optional, compose, resolve
from bench.cli.folders import GROUPS
from bench.errors import ConfigError
from bench.jobs.plan import Plan, make_plan
from tests.configured import FOLDER, NAMES

SMALL = {
    "quadratic": ["task=quadratic", "task.steps=100", "task.eval_every=50"],
    "rosenbrock": ["task=rosenbrock", "task.steps=100", "task.eval_every=50"],
    "mlp": ["task=mlp", "task.steps=100", "task.eval_every=50", "task.batch_size=16", "task.width=16"],
    "gpt_nano": [
        "task=gpt_nano",
        "task.steps=100",
        "task.eval_every=50",
        "task.batch_size=2",
        "task.num_layers=1",
        "task.width=16",
        "task.context=8",
        "task.data=text",
    ],
}
TEXT = "the quick brown fox jumps over the lazy dog; pack my box with five dozen liquor jugs.\n" * 40


@pytest.fixture
def small(tmp_path: Path) -> Callable[[str], list[str]]:
    """`small("mlp")` are the overrides that make a task small."""
    text = tmp_path / "text.txt"
    text.write_text(TEXT)
    return lambda task: [*SMALL[task], *([f"task.path={text}"] if task == "gpt_nano" else [])]


@cache
def composed(*choices: str) -> DictConfig:
    return compose(choices)


def configure(overrides: Sequence[str]) -> dict[str, Any]:
    """What Hydra makes of these overrides, which composes each choice of groups once for all optimizers and values."""
    if any(text.startswith("~") for text in overrides):
        return resolve(compose(overrides))
    parsed = OverridesParser.create().parse_overrides(admit_optional(overrides))
    optimizers = [part for part in parsed if part.key_or_group == "optimizer" and part.value() in NAMES]
    values = [part for part in parsed if part.key_or_group not in GROUPS]
    config = deepcopy(composed(*(part.input_line for part in parsed if part not in [*optimizers, *values])))
    for part in optimizers:
        config.optimizer = OmegaConf.load(FOLDER / f"{part.value()}.yaml")
    for part in values:
        is_new = part.type is not OverrideType.CHANGE
        OmegaConf.update(config, part.key_or_group, part.value(), merge=True, force_add=is_new)
    return resolve(config)


@pytest.fixture
def mapping(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """`mapping("optimizer=adam", ...)` is the resolved configuration, with results below a temporary folder."""

    defaults = ["tracker=none", "device=cpu", f"results_dir={tmp_path / 'results'}"]
    return lambda *overrides: configure([*defaults, *overrides])


@pytest.fixture
def plan(mapping: Callable[..., dict[str, Any]]) -> Callable[..., Plan]:
    """`plan("optimizer=adam", ...)` is the checked plan of these overrides."""
    return lambda *overrides: make_plan(mapping(*overrides))


@pytest.fixture
def refusal() -> Callable[[str], str]:
    """`refusal("task=mlp task.steps=0")` is the line in which a plan is refused for the value of a key that it has."""

    def refuse(words: str) -> str:
        with pytest.raises(ConfigError) as error:
            make_plan(configure(words.split()))
        assert str(error.value).isprintable()
        assert len(str(error.value)) < 1100
        return str(error.value)

    return refuse
