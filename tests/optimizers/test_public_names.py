"""Programs and stored configurations name optimizers by module and class: neither moves."""

from importlib import import_module
from pathlib import Path

import pytest

import optimizers.rule

PUBLIC = {
    "adam": ("calculate_adam_update", "Adam", "AdamW"),
    "adaptive_muon": ("AdaptiveMuon",),
    "ademamix": ("calculate_ademamix_update", "calculate_sim_ademamix_update", "AdEMAMix", "SimplifiedAdEMAMix"),
    "adopt": ("calculate_adopt_update", "ADOPT"),
    "deepmd_adamuon": ("AdaMuonOptimizer", "zeropower_via_newtonschulz5", "_prepare_muon_momentum"),
    "lamb": ("calculate_lamb_update", "LAMB"),
    "laprop": ("calculate_laprop_update", "LaProp"),
    "lion": ("calculate_lion_update", "Lion"),
    "lookahead": ("Lookahead",),
    "madam": ("calculate_madam_update", "MAdam"),
    "mars": ("calculate_mars_update", "MARS"),
    "modifiers": ("cautious", "hyperball"),
    "muon": ("Muon",),
    "newton_schulz": ("newton_schulz",),
    "polargrad": ("calculate_polargrad_update", "PolarGrad"),
    "prodigy": ("calculate_prodigy_update", "Prodigy"),
    "qhadamw": ("calculate_qhadam_update", "QHAdamW"),
    "rule": ("Rule", "ema_", "zeros_state"),
    "rule_optimizer": ("RuleOptimizer",),
    "sam": ("SAM",),
    "schedule_free_adamw": ("calculate_schedule_free_adamw_update", "ScheduleFreeAdamW"),
    "scion": ("calculate_scion_update", "Scion"),
    "signum": ("calculate_signum_update", "Signum"),
    "soap": ("calculate_soap_update", "SOAP"),
    "wrapper": ("Wrapper",),
}
INTERNAL = {"__init__", "buckets", "compiled"}


@pytest.mark.parametrize("module", PUBLIC)
def test_public_names_stand_where_programs_import_them_from(module: str) -> None:
    found = import_module(f"optimizers.{module}")
    for name in PUBLIC[module]:
        assert getattr(found, name).__module__ == found.__name__, name


def test_every_module_has_public_names_or_is_internal() -> None:
    assert {path.stem for path in Path(optimizers.rule.__file__).parent.glob("*.py")} - INTERNAL == set(PUBLIC)
