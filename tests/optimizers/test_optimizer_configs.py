"""What every yaml in conf/optimizer/ must hold, so that a comparison is fair and a user finds each key explained."""

import inspect
import math
from pathlib import Path
from typing import Any

import pytest
from hydra.utils import get_class
from omegaconf import OmegaConf

FOLDER = Path(__file__).parents[2] / "conf" / "optimizer"
FILES = sorted(file for file in FOLDER.glob("*.yaml") if file.stem != "custom")
HARNESS_KEYS = {"name", "_target_", "paper", "eps_convention", "search_space", "labels", "rest", "divergence_hint"}
HARNESS_KEYS |= {"needs_closure", "modifiers", "base"}
WIDTHS = {"lr": 3, "rest.lr": 3, "weight_decay": 3, "eps": 8}  # decades
FIRST_MOMENT = (0.8, 0.99)
SECOND_MOMENT = (0.9, 0.999)
OURS = {"adam", "adamw", "madam", "ademamix", "sim_ademamix", "laprop", "lion", "signum", "qhadamw"}
OURS |= {"muon", "adamuon", "normuon", "namo", "deepmd_adamuon", "soap", "scion", "polargrad", "adopt", "mars"}
OURS |= {"prodigy", "lamb", "schedule_free_adamw"}
TORCHS = {"sgd", "nadam", "radam", "rmsprop", "adafactor"}


def load(file: Path) -> dict[str, Any]:
    return OmegaConf.to_container(OmegaConf.load(file))


def value_at(config: Any, dotted: str) -> Any:
    for key in dotted.split("."):
        config = config[int(key) if isinstance(config, list) else key]
    return config


def decades(bounds: dict[str, Any]) -> float:
    assert bounds["scale"] == "log"
    return math.log10(bounds["high"] / bounds["low"])


def test_every_optimizer_of_the_design_is_configured():
    assert {file.stem for file in FILES} >= OURS | TORCHS


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_first_line_describes_it_and_every_hyperparameter_is_commented(file):
    first, *lines = file.read_text().splitlines()
    assert first.startswith("# ")
    options = [line for line in lines if line.strip() and not line.lstrip().startswith("#")]
    options = [line for line in options if line.split(":")[0].strip() not in {*HARNESS_KEYS - {"labels"}, "_target_"}]
    space = options.index(next(line for line in lines if line.startswith("  lr: {low")))
    assert [line for line in options[:space] if " # " not in line] == []


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_name_source_and_eps_convention_are_given(file):
    config = load(file)
    assert config["name"] == file.stem
    assert config["paper"]
    assert config["eps_convention"]
    assert bool(config.get("labels")) == bool(config.get("rest"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_hyperparameters_are_arguments_of_the_class_and_of_ours_none_is_left_out(file):
    config = load(file)
    pytest.importorskip(config["_target_"].split(".")[0])
    optimizer_class = get_class(config["_target_"])
    known = set(list(inspect.signature(optimizer_class).parameters)[1:])
    given = set(config) - HARNESS_KEYS - ({"lr"} if "base" in config else set())  # a wrapper's lr is its base's
    assert given <= known
    if config["_target_"].startswith("optimizers."):
        assert given == known


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_search_space_is_as_wide_as_for_every_other_and_holds_the_default(file):
    config = load(file)
    space = config["search_space"]
    assert "lr" in space
    for name, bounds in space.items():
        default = value_at(config, name)
        if name in WIDTHS:
            assert decades(bounds) == pytest.approx(WIDTHS[name])
        if name in ("betas.0", "momentum"):
            assert (bounds["low"], bounds["high"]) == FIRST_MOMENT
        is_second = name in ("betas.1", "beta2", "alpha") and "base" not in config  # Lookahead's alpha is none
        if is_second and bounds["scale"] == "linear":
            assert (bounds["low"], bounds["high"]) == (SECOND_MOMENT[0], max(SECOND_MOMENT[1], default))
        assert default == 0.0 or bounds["low"] <= default <= bounds["high"], name
