"""What a trial asks to be compiled: whether it can be, told before any training, and doing without for a few steps."""

import os
import shutil
import sys
from contextlib import AbstractContextManager, nullcontext
from importlib.util import find_spec
from typing import Any

import torch

from bench.config.schema import TrialConfig
from bench.errors import ConfigError
from bench.training.routing import optimizer_classes


def check_compile(config: TrialConfig) -> None:
    """Raises ConfigError where the trial has nothing to compile, or the machine no compiler for it."""
    if config.compile == "none":
        return
    have_rules = [hasattr(owner, "compile_rules") for owner in optimizer_classes(config.optimizer)]
    if not any(have_rules) or (config.compile == "step" and not all(have_rules)):
        text = "expected none: an optimizer that is not built on update rules (optimizers.rule_optimizer)"
        raise ConfigError("compile", config.compile, text)
    if config.compile == "step" and config.task.accumulate > 1:
        raise ConfigError("compile", config.compile, "expected none or rules with task.accumulate above 1")
    if torch.device(config.device).type == "cuda":
        if find_spec("triton") is None:
            raise ConfigError("compile", config.compile, "needs Triton on a GPU: pip install triton, or use none")
        return
    compiler = os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++")
    if shutil.which(compiler) is None:
        text = f"needs a C++ compiler, and there is no {compiler}: install it, name another in CXX, or use none"
        raise ConfigError("compile", config.compile, text)


def eagerly(*, compiles: bool = False) -> AbstractContextManager[Any]:
    """Call what is decorated with `torch.compile` as it stands: a few steps do not pay for compiling.

    Args:
        compiles: whether it is known that something is compiled; else that is only so where the compiler is imported.
    """
    compiles = compiles or "torch._dynamo" in sys.modules
    return torch.compiler.set_stance("force_eager") if compiles else nullcontext()
