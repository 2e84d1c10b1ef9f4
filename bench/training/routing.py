"""From an optimizer's configuration to torch optimizers over one model: which rule gets which parameter.

A rule with `labels` gets the parameters of these labels as matrices (convolution weights seen as [out, in * kh * kw]),
its `rest` gets all others. Vectors (biases, gains) are never decayed; `groups` multiply the lr and the decay of what
their patterns match, whichever rule takes it.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import StateDict
from torch.utils._pytree import tree_flatten

from bench.config.optimizer import GroupConfig, OptimizerConfig
from bench.config.targets import bind_options, locate, signature_text
from bench.errors import ConfigError, OptionError
from bench.training.param_groups import check_groups, make_param_groups
from bench.training.probes import Probe, find_second_moment


@dataclass(frozen=True)
class Route:
    """One torch optimizer and the names of its parameters, by the id of the tensor that it was given."""

    optimizer: torch.optim.Optimizer
    names: Mapping[int, str]


class RoutedOptimizer:
    """All optimizers of one model, stepped together.

    Args:
        config: the optimizer and, where it has labels, its `rest`.
        params: the model's parameters by name.
        labels: the label of every parameter, by name.

    Raises:
        ConfigError: a class that cannot be imported, an option that it refuses, a pattern that matches no parameter.
    """

    def __init__(self, config: OptimizerConfig, params: Mapping[str, nn.Parameter], labels: Mapping[str, str]) -> None:
        self.needs_closure = any(part.needs_closure for part in config.parts)
        self._matrices: list[tuple[nn.Parameter, nn.Parameter]] = []
        self.routes: list[Route] = []
        check_groups(config.groups, params)
        left = dict(params)
        current: OptimizerConfig | None = config.base or config
        while current is not None and left:
            mine = {name: p for name, p in left.items() if not current.labels or labels[name] in current.labels}
            left = {name: p for name, p in left.items() if name not in mine}
            if mine:
                as_matrices = {name: self._as_matrix(p) if current.labels else p for name, p in mine.items()}
                self.routes.append(_build_route(current, as_matrices, labels, config.groups))
            current = current.rest
        self._steppers = [route.optimizer for route in self.routes]
        if config.base is not None:
            self._steppers = [wrap(config, self._steppers)]
        self._base_lrs = [[float(group["lr"]) for group in route.optimizer.param_groups] for route in self.routes]

    def _as_matrix(self, param: nn.Parameter) -> nn.Parameter:
        """A 2-D parameter for the optimizer, a view where memory allows; `_pull` and `_push` stand around a step."""
        if param.ndim <= 2:
            return param
        matrix = nn.Parameter(param.detach().reshape(param.shape[0], -1))
        self._matrices.append((param, matrix))
        return matrix

    def compile_rules(self) -> None:
        """Compile the rules of those optimizers that are built on some."""
        for route in self.routes:
            if hasattr(route.optimizer, "compile_rules"):
                route.optimizer.compile_rules()

    def set_lr_factor(self, factor: float) -> None:
        """Set every group's lr to `factor` times its configured value."""
        for route, lrs in zip(self.routes, self._base_lrs, strict=True):
            for group, lr in zip(route.optimizer.param_groups, lrs, strict=True):
                group["lr"] = lr * factor

    def step(self, closure: Callable[[], Any] | None = None) -> None:
        def reevaluate() -> Any:
            assert closure is not None
            self._push()
            loss = closure()
            self._pull()
            return loss

        self._pull()
        for stepper in self._steppers:
            stepper.step(reevaluate) if self.needs_closure else stepper.step()
        self._push()

    def set_mode(self, mode: str) -> None:
        """Tell optimizers that keep two sets of weights (schedule-free) whether they `train` or `eval`."""
        self._pull()
        for stepper in self._steppers:
            switch = getattr(stepper, mode, None)
            if callable(switch):
                switch()
        self._push()

    @torch.no_grad()
    def _pull(self) -> None:
        """Give every matrix the gradient of its weight, and the values where it is no view (`channels_last`)."""
        for param, matrix in self._matrices:
            matrix.grad = None if param.grad is None else param.grad.reshape(matrix.shape)
            if param.data_ptr() != matrix.data_ptr():
                matrix.copy_(param.reshape(matrix.shape))

    @torch.no_grad()
    def _push(self) -> None:
        """Give every weight the values of its matrix."""
        for param, matrix in self._matrices:
            if param.data_ptr() != matrix.data_ptr():
                param.copy_(matrix.view(param.shape))

    def probes(self, labels: Mapping[str, str], before: Mapping[str, Tensor]) -> Iterator[Probe]:
        """Every parameter around the last step, from `before` to now, as an ensemble of one."""
        for route in self.routes:
            for group in route.optimizer.param_groups:
                for param in group["params"]:
                    name, state = route.names[id(param)], route.optimizer.state.get(param, {})
                    second = state.get("exp_avg_sq")
                    same_shape = isinstance(second, Tensor) and second.shape == param.shape
                    num_steps = state.get("step", group.get("step"))
                    yield Probe(
                        label=labels[name],
                        change=(param.detach().flatten() - before[name].flatten())[None],
                        lr=torch.tensor([float(group["lr"])], dtype=torch.float64, device=param.device),
                        second=find_second_moment(second[None], group, num_steps) if same_shape else None,
                    )

    def state(self) -> list[StateDict]:
        """The `state_dict` of every optimizer."""
        return [stepper.state_dict() for stepper in self._steppers]

    def restore(self, states: Sequence[StateDict]) -> None:
        for stepper, state in zip(self._steppers, states, strict=True):
            stepper.load_state_dict(state)

    def state_bytes(self) -> int:
        """Bytes of all state tensors."""
        optimizers = {id(one): one for one in (*self._steppers, *(route.optimizer for route in self.routes))}
        leaves, _ = tree_flatten([dict(one.state) for one in optimizers.values()])
        tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def check_optimizer(config: OptimizerConfig) -> None:
    """Build the optimizer on a throw-away matrix, so that what it refuses is told before any training."""
    params, labels = {"param": nn.Parameter(torch.zeros(2, 2))}, {"param": "matrix"}
    for part in config.parts:
        if part.base is None:
            _build_route(part, params, labels)
        else:
            wrap(part, [_build_route(part.base, params, labels).optimizer])


def find_optimizer_class(config: OptimizerConfig) -> type[torch.optim.Optimizer]:
    """The class that a configuration names. Raises ConfigError if there is none, or if it lacks one of the options."""
    optimizer_class = locate(config.class_path, f"{config.path}._target_")
    if not (inspect.isclass(optimizer_class) and issubclass(optimizer_class, torch.optim.Optimizer)):
        raise ConfigError(f"{config.path}._target_", config.class_path, "expected a subclass of torch.optim.Optimizer")
    if config.base is None and next(iter(inspect.signature(optimizer_class).parameters)) == "base":
        text = f"{optimizer_class.__name__} goes around another optimizer, whose configuration stands here"
        raise ConfigError(f"{config.path}.base", None, text)
    bind_options(optimizer_class, _options_of(config), config.path)
    closure = inspect.signature(optimizer_class.step).parameters.get("closure")
    if closure is not None and closure.default is closure.empty and not config.needs_closure:
        text = f"{optimizer_class.__name__} steps through a closure: set {config.path}.needs_closure=true"
        raise ConfigError(f"{config.path}._target_", config.class_path, text)
    return _modify(optimizer_class, config) if config.modifiers else optimizer_class


def optimizer_classes(config: OptimizerConfig) -> list[type]:
    """The class of an optimizer, and those of all optimizers inside of it."""
    return [locate(part.class_path, f"{part.path}._target_") for part in config.parts]


def _options_of(config: OptimizerConfig) -> Mapping[str, Any]:
    """What its class is called with: a wrapper has no lr of its own."""
    return {name: value for name, value in config.hyperparameters.items() if config.base is None or name != "lr"}


def wrap(config: OptimizerConfig, bases: Sequence[torch.optim.Optimizer]) -> torch.optim.Optimizer:
    """The wrapper that a configuration names around optimizers. Raises ConfigError."""
    wrapper_class: Any = find_optimizer_class(config)
    try:
        wrapper: torch.optim.Optimizer = wrapper_class(bases[0] if len(bases) == 1 else bases, **_options_of(config))
    except OptionError as error:
        raise ConfigError(f"{config.path}.{error.name}", error.value, error.allowed) from error
    except Exception as error:  # foreign code: whatever it raises is told in one line
        raise _refusal(config, wrapper_class, str(error)) from error
    return wrapper


def _modify(optimizer_class: type[torch.optim.Optimizer], config: OptimizerConfig) -> type[torch.optim.Optimizer]:
    key, names = f"{config.path}.modifiers", list(config.modifiers)
    if not hasattr(optimizer_class, "with_modifiers"):
        text = f"{optimizer_class.__name__} is not built on an update rule (optimizers.rule_optimizer)"
        raise ConfigError(key, names, text)
    try:
        modified: type[torch.optim.Optimizer] = optimizer_class.with_modifiers(names)
    except OptionError as error:
        raise ConfigError(key, names, error.allowed) from error
    return modified


def _build_route(
    config: OptimizerConfig,
    params: Mapping[str, nn.Parameter],
    labels: Mapping[str, str],
    groups: Sequence[GroupConfig] = (),
) -> Route:
    optimizer_class = find_optimizer_class(config)
    param_groups = make_param_groups(config, optimizer_class, groups, params, labels)
    try:
        optimizer = optimizer_class(param_groups, **config.hyperparameters)
    except OptionError as error:
        raise ConfigError(f"{config.path}.{error.name}", error.value, error.allowed) from error
    except Exception as error:  # foreign code: whatever it raises is told in one line
        hint = _hint_at_labels(config, optimizer_class, params)
        raise _refusal(config, optimizer_class, f"{error}{hint}") from error
    if any("lr" not in group for group in optimizer.param_groups):
        raise ConfigError(f"{config.path}._target_", config.class_path, "expected an lr in its parameter groups")
    return Route(optimizer, {id(param): name for name, param in params.items()})


def _hint_at_labels(config: OptimizerConfig, optimizer_class: type, params: Mapping[str, nn.Parameter]) -> str:
    """What to do where the class takes matrices and was given other parameters too."""
    matrices = [param for param in params.values() if param.ndim == 2]
    if config.labels or len(matrices) in (0, len(params)):
        return ""
    try:
        optimizer_class(matrices, **config.hyperparameters)
    except Exception:  # matrices are not what it misses
        return ""
    return f"; it takes matrices: set {config.path}.labels=[matrix] and {config.path}.rest for all other parameters"


def _refusal(config: OptimizerConfig, optimizer_class: type, text: str) -> ConfigError:
    """What a class says of its options, with its signature."""
    allowed = f"{optimizer_class.__name__} refuses its options: {text}; signature: {signature_text(optimizer_class)}"
    return ConfigError(config.path, config.name or config.class_path, allowed)
