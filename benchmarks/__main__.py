"""`python -m benchmarks`: measure, print one table, write JSON into benchmarks/results."""

import argparse
import sys
import time
from pathlib import Path

from benchmarks.plan import GROUPS, QUICK, Sizes
from benchmarks.table import Figure, render, write

RESULTS = Path(__file__).resolve().parent / "results"


def main() -> int:
    """Run what was asked for; 1 where a figure missed what it must reach."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="short runs, one round; marked as quick in the output")
    parser.add_argument("--only", metavar="GROUP,...", default=",".join(GROUPS), help=f"some of {', '.join(GROUPS)}")
    parser.add_argument("--disk", metavar="DIR", type=Path, default=RESULTS, help="where the data directories go")
    options = parser.parse_args()
    names = options.only.split(",")
    unknown = [name for name in names if name not in GROUPS]
    if unknown:
        parser.error(f"no group {', '.join(unknown)}: there are {', '.join(GROUPS)}")
    options.disk.mkdir(parents=True, exist_ok=True)
    sizes = QUICK if options.quick else Sizes()
    figures: list[Figure] = []
    for name in names:
        started = time.monotonic()
        print(f"{name} ...", file=sys.stderr, flush=True)
        figures.extend(GROUPS[name](sizes, options.disk.resolve()))
        print(f"{name}: {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    print(render(figures, quick=options.quick))
    print(f"\nwritten to {write(figures, RESULTS, quick=options.quick)}")
    return 1 if any(figure.verdict() == "MISSED" for figure in figures) else 0


if __name__ == "__main__":
    sys.exit(main())
