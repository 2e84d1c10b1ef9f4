"""Every configured optimizer passes the conformance checks, and optimizers with a fault do not."""

import pytest
import torch

from bench.check.__main__ import main, make_subject
from bench.check.checks import CHECKS
from bench.check.subject import Subject
from bench.check.suite import FAIL, NOT_APPLICABLE, PASS, run_checks
from tests.configured import NAMES, configured, one_of_each_kind_first


def findings_of(build, **options):
    return {finding.check: finding for finding in run_checks(Subject(build, **options))}


@pytest.mark.parametrize("name", one_of_each_kind_first(NAMES))
def test_configured_optimizers_reach_every_check_and_ours_pass_them(name):
    config = configured(name)
    package, _, _ = config.class_path.partition(".")
    pytest.importorskip(package)
    findings = run_checks(make_subject(config))
    assert len(findings) == len(CHECKS)
    assert all(finding.detail for finding in findings)
    assert package != "optimizers" or [finding for finding in findings if finding.status == FAIL] == []


class Plain(torch.optim.Optimizer):
    """Gradient descent, to be spoiled in one way each."""

    def __init__(self, params, lr=0.01):
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for param in group["params"]:
                if param.grad is not None:
                    self.update(param, group["lr"])

    def update(self, param, lr):
        param -= lr * param.grad


class Uphill(Plain):
    def update(self, param, lr):
        param += lr * param.grad


class IgnoresLr(Plain):
    def update(self, param, lr):
        param -= 0.01 * param.grad


class ForgetsStep(Plain):
    """Its step size depends on a count outside of the state."""

    num_steps = 0

    def update(self, param, lr):
        self.num_steps += 1
        param -= lr / self.num_steps * param.grad


class NeedsGradients(Plain):
    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for param in group["params"]:
                param -= group["lr"] * param.grad


class DividesByNorm(Plain):
    def update(self, param, lr):
        param -= lr * param.grad / param.grad.norm()


class ScalesAllByOneNorm(Plain):
    @torch.no_grad()
    def step(self, closure=None):
        params = [param for group in self.param_groups for param in group["params"] if param.grad is not None]
        total = sum(param.grad.norm() for param in params)
        for group in self.param_groups:
            for param in group["params"]:
                if param.grad is not None:
                    param -= group["lr"] * param.grad / (total + 1e-6)


class Random(Plain):
    noise = torch.Generator().manual_seed(0)

    def update(self, param, lr):
        param -= lr * (param.grad + torch.randn(param.shape, generator=self.noise).to(param.dtype))


class ReadsMemory(Plain):
    """Takes the gradient's memory for its values."""

    def update(self, param, lr):
        param -= lr * param.grad.as_strided(param.shape, torch.empty(param.shape).stride())


class UpcastsParameters(Plain):
    def update(self, param, lr):
        param.data = param.data.float() - lr * param.grad.float()


class WronglyDeclared(Plain):
    @staticmethod
    def first_update(grad, group):
        return 2 * grad


FAULTS = {
    Uphill: {"quadratic", "matrix target"},
    IgnoresLr: {"group lr", "lr of zero"},
    ForgetsStep: {"state round trip"},
    NeedsGradients: {"none gradients"},
    DividesByNorm: {"zero gradients"},
    ScalesAllByOneNorm: {"nan stays local"},
    Random: {"deterministic"},
    ReadsMemory: {"strided gradients"},
    UpcastsParameters: {"bfloat16", "float64"},
    WronglyDeclared: {"first step"},
}


@pytest.mark.parametrize("optimizer_class", FAULTS)
def test_each_fault_is_found(optimizer_class):
    failed = {name for name, finding in findings_of(optimizer_class).items() if finding.status == FAIL}
    assert failed >= FAULTS[optimizer_class]


def test_a_sound_optimizer_without_a_declared_first_step_passes_all_else():
    findings = findings_of(Plain)
    assert findings.pop("first step").status == NOT_APPLICABLE
    assert findings.pop("packs").status == NOT_APPLICABLE  # a class without a yaml
    assert {finding.status for finding in findings.values()} == {PASS}
    assert "changes with the size of the gradients" in findings["gradient scale"].detail


class NeedsAxes(Plain):
    def update(self, param, lr):
        param -= lr * param.grad / param.shape[0]


def test_a_shape_that_it_cannot_train_fails_once_and_is_left_out_of_the_other_checks():
    findings = findings_of(NeedsAxes)
    assert "shape (): IndexError" in findings["parameter shapes"].detail
    assert [name for name, finding in findings.items() if finding.status == FAIL] == ["parameter shapes"]


def test_gradient_scale_names_the_eps():
    finding = findings_of(lambda params: torch.optim.Adam(params, eps=1e-5))["gradient scale"]
    assert finding.status == PASS
    assert "sink below eps=1e-05" in finding.detail


@pytest.mark.slow
def test_what_an_optimizer_refuses_is_not_applicable_with_its_reason():
    findings = findings_of(lambda params: torch.optim.LBFGS(params, lr=0.1), needs_closure=True)
    assert findings["group lr"].status == NOT_APPLICABLE
    assert "LBFGS" in findings["group lr"].detail
    assert findings["quadratic"].status == PASS


MINE = """
import torch


class Mine(torch.optim.Optimizer):
    def __init__(self, params, lr=0.01):
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for param in group["params"]:
                if param.grad is not None:
                    param SIGN group["lr"] * param.grad.sign()
"""


@pytest.mark.parametrize(("sign", "code"), [("-=", 0), ("+=", 1)])
@pytest.mark.slow
def test_an_optimizer_of_ones_own_is_checked_from_its_folder(start, tmp_path, sign, code):
    (tmp_path / "optimizers").mkdir()
    (tmp_path / "optimizers" / "mine.py").write_text(MINE.replace("SIGN", sign))
    (tmp_path / "conf" / "optimizer").mkdir(parents=True)
    yaml = "# mine\nname: mine\n_target_: optimizers.mine.Mine\nlr: 0.01\n"
    (tmp_path / "conf" / "optimizer" / "mine.yaml").write_text(yaml)
    result = start("bench.check", "--config-dir", "conf", "optimizer=mine").finish()
    assert result.returncode == code, result.stderr
    assert "mine: " in result.stdout


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["optimizer=adma"], ["adma", "'adam'"]),
        (["optimzer=lion"], ["optimzer=lion: no such key, did you mean 'optimizer'?"]),
        (["lion"], ["lion: expected KEY=VALUE"]),
        (["optimizer=adam", "optimizer.epss=1"], ["epss", "'eps'"]),
        (["optimizer=adam", "optimizer.eps=-1"], ["eps=-1"]),
        (["optimizer=sgd", "optimizer._target_=torch.nn.Linear"], ["torch.nn.Linear"]),
        (["optimizer=sgd", "optimizer._target_=no.such.Thing"], ["no.such.Thing"]),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_two(args, words, capsys):
    assert main(args) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert len(output.err.splitlines()) == 1
    assert all(word in output.err for word in words)


def test_exit_code_tells_success(capsys):
    assert main(["optimizer=lion"]) == 0
    assert "lion: 18 pass, 0 fail" in capsys.readouterr().out
