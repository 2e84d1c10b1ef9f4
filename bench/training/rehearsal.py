"""What a trial's parts refuse, told before any training: by building them, and by one step that is thrown away."""

import torch

from bench.config.schema import TrialConfig
from bench.errors import ConfigError
from bench.training.clock import StepClock
from bench.training.compiling import check_compile, eagerly
from bench.training.components import Task, build_schedule
from bench.training.memory import is_out_of_memory
from bench.training.routing import check_optimizer
from bench.training.train import make_learner


def check_once(config: TrialConfig, checked: set[str]) -> None:
    """Build the optimizer and the schedule of a trial, unless an equal pair is among those `checked`; it joins them.

    Raises:
        ConfigError: an option that is refused.
    """
    key = repr((config.mapping["optimizer"], config.mapping["schedule"]))
    if key not in checked:
        check_optimizer(config.optimizer)
        build_schedule(config.schedule, config.task.steps)
        checked.add(key)


def rehearse(task: Task, config: TrialConfig) -> None:
    """Build the trial's model and optimizer, and take one step.

    What does not fit into memory passes: that is for the training to find, which stores it.

    Raises:
        ConfigError: an option, a parameter or a gradient that is refused.
    """
    check_compile(config)
    plain = config if config.compile == "step" else config.model_copy(update={"compile": "none"})
    try:
        with eagerly(compiles=config.compile == "step"):
            make_learner(task, [plain], is_pack=False).step(1.0, StepClock(torch.device(config.device)))
    except ConfigError:
        raise
    except Exception as error:  # the task and the optimizer may be anyone's code
        if not is_out_of_memory(error):
            text = f"cannot take a step on task={config.task.name}: {type(error).__name__}: {error}"
            raise ConfigError("optimizer", config.optimizer.name, text) from error
