"""Random and mutated input through everything that reads input: configurations, run folders, data files.

    python scripts/fuzz.py --cases 10000

The properties stand in tests/fuzzing; the tests put a few hundred cases through them. A case that breaks one is shrunk
and told, and the exit code is 1. It needs the extra [dev].
"""

import argparse
import sys
import time
import traceback

from bench.errors import how_to_install, tell_error

try:
    from tests.fuzzing.everything import PROPERTIES
    from tests.fuzzing.properties import Property, run_property, share_out
except ModuleNotFoundError as error:
    text = f"{error.name} is not installed; it is of the extra [dev]: {how_to_install('dev')}"
    raise SystemExit(tell_error(text, 2)) from error


def fuzz(name: str, prop: Property, num_cases: int) -> tuple[str, int]:
    """A row of the table, and the number of failures."""
    started = time.perf_counter()
    try:
        outcomes = run_property(prop, num_cases)
    except Exception:
        traceback.print_exc()
        return f"| {name} | {num_cases} | {time.perf_counter() - started:.0f} | FAILED |", 1
    counts = ", ".join(f"{count} {outcome}" for outcome, count in outcomes.most_common())
    return f"| {name} | {outcomes.total()} | {time.perf_counter() - started:.0f} | {counts} |", 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=10_000)
    num_cases = parser.parse_args().cases
    print("| property | cases | seconds | outcome |\n|---|---:|---:|---|")
    num_failures = 0
    shares = share_out(PROPERTIES, num_cases)
    for name, count in shares.items():
        row, failures = fuzz(name, PROPERTIES[name], count)
        num_failures += failures
        print(row, flush=True)
    print(f"\n{sum(shares.values())} cases, {num_failures} of {len(PROPERTIES)} properties failed")
    return 1 if num_failures else 0


if __name__ == "__main__":
    sys.exit(main())
