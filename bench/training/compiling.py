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
from bench.training.proof import optimizer_classes


def check_compile(config: TrialConfig) -> None:
    """Raises ConfigError where the optimizer has no rules to compile, or the machine no compiler for them."""
    if config.compile == "none":
        return
    if not any(hasattr(owner, "compile_rules") for owner in optimizer_classes(config.optimizer)):
        text = (
            f"expected none: {config.optimizer.class_path} is not built on an update rule (optimizers.rule_optimizer)"
        )
        raise ConfigError("compile", config.compile, text)
    if torch.device(config.device).type == "cuda":
        if find_spec("triton") is None:
            raise ConfigError("compile", config.compile, "needs Triton on a GPU: pip install triton, or use none")
        return
    compiler = os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++")
    if shutil.which(compiler) is None:
        text = f"needs a C++ compiler, and there is no {compiler}: install it, name another in CXX, or use none"
        raise ConfigError("compile", config.compile, text)


def eagerly() -> AbstractContextManager[Any]:
    """Call what is decorated with `torch.compile` as it stands: a few steps do not pay for compiling."""
    is_imported = "torch._dynamo" in sys.modules  # by whoever compiles
    return torch.compiler.set_stance("force_eager") if is_imported else nullcontext()
