"""All checks on one optimizer, and the table of what they found."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from rich.table import Table

from bench.check.checks import CHECKS
from bench.check.subject import CheckFailed, NotApplicable, Subject

PASS, FAIL, NOT_APPLICABLE = "pass", "fail", "not applicable"
STYLES = {PASS: "green", FAIL: "bold red", NOT_APPLICABLE: "dim"}


@dataclass(frozen=True)
class Finding:
    """What one check found: `status` is `pass`, `fail` or `not applicable`, `detail` says what was seen or why not."""

    check: str
    status: str
    detail: str


def run_checks(subject: Subject) -> list[Finding]:
    """Put an optimizer through every check. A check that raises is a failure and never stops the others."""
    with torch.compiler.set_stance("force_eager"):  # compiling for every shape and dtype here would take minutes
        return [_run_check(check, subject) for check in CHECKS]


def _run_check(check: Callable[[Subject], str], subject: Subject) -> Finding:
    name = check.__name__.removeprefix("check_").replace("_", " ")
    try:
        return Finding(name, PASS, check(subject))
    except NotApplicable as reason:
        return Finding(name, NOT_APPLICABLE, str(reason))
    except CheckFailed as reason:
        return Finding(name, FAIL, str(reason))
    except Exception as error:  # the optimizer may be anyone's code
        return Finding(name, FAIL, f"{type(error).__name__}: {error}")


def make_table(name: str, findings: Sequence[Finding]) -> Table:
    """One row per check."""
    counts = ", ".join(f"{sum(f.status == status for f in findings)} {status}" for status in STYLES)
    table = Table("check", "result", "what was seen", title=f"{name}: {counts}", title_justify="left")
    for finding in findings:
        style = STYLES[finding.status]
        table.add_row(finding.check, f"[{style}]{finding.status}[/]", " ".join(finding.detail.split()))
    return table
