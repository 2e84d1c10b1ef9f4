"""Run folders to a report: `python -m bench.report results/...`, or `write_report` from code."""

from bench.report.write import write_report

__all__ = ["write_report"]
