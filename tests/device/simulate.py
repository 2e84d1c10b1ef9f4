"""A device without a device: trials on simulated tensors, in a process of its own.

torch's fake tensors have a device and no data, so that an operation on tensors of two devices fails as on a GPU. A
dispatch mode around it sees every call: those that would launch a kernel, those that would wait for the device, and
copies from one device to another.

    python -m tests.device.simulate '[["task=mlp", "optimizer=adam"]]'     # prints a JSON list of what each case did
"""

import json
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from bench.config.schema import TrialConfig
from bench.jobs.plan import make_plan
from bench.training.clock import StepClock
from bench.training.ensemble import Ensemble
from bench.training.interrupt import StopSignal
from bench.training.learner import Learner, PlainLearner
from bench.training.loop import TrainingLoop
from bench.training.record import Record
from tests.fuzzing.configurations import compose_mapping

DEVICE = "sim"
NO_KERNEL = ("aten.empty", "aten.detach", "aten._unsafe_view", "aten.lift_fresh", "aten.set_", "prim.", "aten.sym_")
WAITS = ("aten._local_scalar_dense", "aten.nonzero", "aten.unique", "aten.masked_select", "aten.equal.")


def _places(frames: traceback.StackSummary) -> list[str]:
    """File and line of the frames that are neither torch's nor of this file."""
    return [
        f"{frame.filename.rpartition('/')[2]}:{frame.lineno}"
        for frame in frames
        if "/torch/" not in frame.filename and frame.filename != __file__
    ]


class Observer(TorchDispatchMode):
    """Counts launches, waits and copies between devices since the last `reset`; `places` says where they came from."""

    def __init__(self) -> None:
        super().__init__()
        self.reset()

    def reset(self) -> None:
        self.counts: Counter[str] = Counter()
        self.places: list[str] = []

    def note(self, kind: str, name: str) -> None:
        self.counts[kind] += 1
        if kind != "launches":
            self.places.append(f"{kind}: {name} at {_places(traceback.extract_stack())[-1]}")

    def read(self, tensor: Tensor) -> Any:
        """A fake tensor as a list, at the price of one wait; the numbers are made up."""
        if tensor.device.type == DEVICE:
            self.note("waits", "tolist")
        value: Any = 1.0 if tensor.is_floating_point() else 1
        for size in reversed(tensor.shape):
            value = [value] * size
        return value

    def report(self) -> dict[str, Any]:
        return {**self.counts, "places": list(self.places)}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        name, options = str(func), dict(kwargs or {})
        inputs = [arg for arg in _flatten([*args, *options.values()]) if isinstance(arg, Tensor)]
        on_device = any(tensor.device.type == DEVICE for tensor in inputs)
        if name.startswith(WAITS) and on_device:
            self.note("waits", name)
        if name.startswith("aten._local_scalar_dense"):
            return 1.0 if inputs[0].is_floating_point() else 1
        result = func(*args, **options)
        outputs = [value for value in _flatten([result]) if isinstance(value, Tensor)]
        devices = {tensor.device.type for tensor in (*inputs, *outputs)}
        if len(devices) > 1 and name.startswith(("aten._to_copy", "aten.copy_")):
            blocking = not (options.get("non_blocking") or args[2:3] == (True,))
            self.note("blocking copies" if blocking else "copies", name)
        elif DEVICE in devices and not func.is_view and not name.startswith(NO_KERNEL):
            self.note("launches", name)
        return result


class OneKernel(torch.autograd.Function):
    """What a GPU runs as one kernel forward and one backward, and what torch would take apart on other devices."""

    observer: Observer

    @staticmethod
    def forward(ctx: Any, first: Tensor, *others: Any) -> Tensor:
        tensors = [first, *(other for other in others if isinstance(other, Tensor))]
        ctx.save_for_backward(*tensors)
        ctx.num_others = len(others) + 1 - len(tensors)
        OneKernel.observer.note("launches", "fused forward")
        return torch.empty_like(first)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        OneKernel.observer.note("launches", "fused backward")
        return *map(torch.empty_like, ctx.saved_tensors), *[None] * ctx.num_others


class Numbers(TorchFunctionMode):
    """Making a tensor on the device of numbers is a copy."""

    def __init__(self, observer: Observer) -> None:
        super().__init__()
        self.observer = observer

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        options = dict(kwargs or {})
        is_number = func in (torch.tensor, torch.as_tensor) and not isinstance(args[0], Tensor)
        if is_number and str(options.get("device", "")).startswith(DEVICE):
            device = options.pop("device")
            self.observer.note("blocking copies", func.__name__)
            value = func(*args, **options)
            return torch.empty(value.shape, dtype=value.dtype, device=device)
        return func(*args, **options)


def _flatten(values: Sequence[Any]) -> list[Any]:
    flat: list[Any] = []
    for value in values:
        flat += _flatten(value) if isinstance(value, list | tuple) else [value]
    return flat


def _on_device(value: Any, mode: FakeTensorMode) -> Any:
    if isinstance(value, Tensor):
        return mode.from_tensor(value).to(DEVICE)
    if isinstance(value, dict):
        return {key: _on_device(item, mode) for key, item in value.items()}
    if isinstance(value, partial):
        return partial(value.func, *_on_device(value.args, mode), **_on_device(value.keywords, mode))
    return type(value)(_on_device(item, mode) for item in value) if isinstance(value, list | tuple) else value


def _apply(module: nn.Module, function: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
    """`nn.Module._apply` without its swapping of tensors, which refuses fake ones."""
    for child in module.children() if recurse else ():
        _apply(child, function)
    for name, param in module._parameters.items():
        if param is not None:
            module._parameters[name] = nn.Parameter(function(param.detach()), param.requires_grad)
    for name, buffer in module._buffers.items():
        if buffer is not None:
            module._buffers[name] = function(buffer)
    return module


def _load(overrides: Sequence[str]) -> tuple[Any, list[TrialConfig]]:
    """The task on the CPU, and the configurations of its trials on the simulated device."""
    with tempfile.TemporaryDirectory() as folder, mock.patch("bench.jobs.plan.rehearse"):
        plan = make_plan({**compose_mapping(list(overrides)), "results_dir": folder})
    configs = [trial.config for trial in plan.trials]
    task = plan.tasks.get(configs[0].task, "cpu")
    return task, [config.model_copy(update={"device": DEVICE}) for config in configs]


def observe(overrides: Sequence[str]) -> dict[str, Any]:
    """Steps, an evaluation and a checkpoint of one case: what each counted, or the error that it raised."""
    task, configs = _load(overrides)
    observer = Observer()
    reads = mock.patch.object(FakeTensor, "tolist", lambda tensor: observer.read(tensor))
    eager = torch.compiler.set_stance("force_eager")
    fused = mock.patch.multiple("bench.training.joined", attend=OneKernel.apply, normalize=OneKernel.apply)
    OneKernel.observer = observer
    with eager, reads, fused, FakeTensorMode() as mode, Numbers(observer), observer:
        for name, value in vars(task).items():
            setattr(task, name, _on_device(value, mode))
        task.device = torch.device(DEVICE)
        try:
            return _observe(task, configs, observer)
        except Exception as error:
            places = _places(traceback.extract_tb(error.__traceback__))[-3:]
            return {"error": f"{type(error).__name__}: {str(error)[:200]} at {', '.join(places)}"}


def _observe(task: Any, configs: list[TrialConfig], observer: Observer) -> dict[str, Any]:
    def build(records: Sequence[Record]) -> TrainingLoop:
        trials = [record.trial for record in records]
        learner: Learner = Ensemble(task, trials) if len(trials) > 1 else PlainLearner(task, trials[0])
        return TrainingLoop(learner, records, lambda step: 1.0, [], StopSignal(), None, keep_weights=False)

    records = [Record(config) for config in configs]
    loop = build(records)
    loop.run()
    statuses = {record.status for record in records}
    assert statuses == {"completed"}, [record.message for record in records]
    counts = {}
    clock = StepClock(torch.device(DEVICE))
    observer.reset()
    loop.learner.step(1.0, clock)
    counts["step"] = observer.report()
    observer.reset()
    loop.living, loop.losses, loop.step = records, loop.losses or [torch.ones(len(configs), device=DEVICE)], 1
    loop._evaluate(dict.fromkeys(loop.parts, 0.0))
    counts["evaluation"] = observer.report()
    state = loop.learner.state()
    again = build([Record(config) for config in configs])
    again.learner.restore(state)
    observer.reset()
    again.learner.step(1.0, clock)
    counts["block"] = observer.report()
    again.learner.keep(list(range(0, len(configs), 2)))
    again.learner.step(1.0, clock)
    return counts


def main() -> None:
    try:
        from torch.utils.backend_registration import _setup_privateuseone_for_python_backend
    except ImportError:
        sys.exit(f"torch {torch.__version__} has no simulated device")
    _setup_privateuseone_for_python_backend(DEVICE)
    torch.get_device_module(DEVICE).get_amp_supported_dtype = lambda: [torch.bfloat16]
    torch._subclasses.fake_tensor.CONSTANT_NUMEL_LIMIT = 0  # or numbers made on the CPU would be real on the device
    nn.Module._apply = _apply  # type: ignore[assignment]
    print(json.dumps([observe(case) for case in json.loads(sys.argv[1])]))


if __name__ == "__main__":
    main()
