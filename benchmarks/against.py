"""`python -m benchmarks.against REVISION`: this checkout and another one in turns, so that both have the same machine.

The other one's sources are taken from git; both run on the libraries of this environment. Reported are the medians of
all rounds, and the ratio of new to old.
"""

import argparse
import io
import json
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
import uuid
from pathlib import Path

from benchmarks.probe import MARK

ROOT = Path(__file__).resolve().parent.parent
WITHIN = 0.10
"""Throughput and CPU per task may be worse by so much."""
JUDGED = {"tasks/s": 1, "CPU us/task": -1}
"""What is judged, and whether more is better."""
Figures = dict[str, float]


def main() -> int:
    """Compare; 1 where throughput or CPU per task became worse by more than 10 %."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.against", description=__doc__)
    parser.add_argument("revision", help="what git calls the other checkout")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--tasks", type=int, default=1_000_000, help="in each run of throughput")
    parser.add_argument("--single", type=int, default=1_000, help="tasks that are run one after the other")
    options = parser.parse_args()
    packed = subprocess.run(["git", "archive", options.revision, "src"], cwd=ROOT, stdout=subprocess.PIPE, check=False)
    if packed.returncode:
        parser.error(f"git has no sources of {options.revision!r}")
    with tempfile.TemporaryDirectory(prefix="flame-against-") as folder:
        with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as archive:
            archive.extractall(folder, filter="data")
        old: list[Figures] = []
        new: list[Figures] = []
        for number in range(options.rounds):
            for sources, runs in ((Path(folder, "src"), old), (ROOT / "src", new)):
                runs.append(probe(sources, options.tasks, options.single))
            sys.stderr.write(f"round {number + 1} of {options.rounds}\n")
    sys.stdout.write(table(options.revision, old, new) + "\n")
    return 0 if not worse(old, new) else 1


def probe(sources: Path, tasks: int, single: int) -> Figures:
    """The figures of one run with these sources."""
    environment = os.environ | {"PYTHONPATH": f"{sources}:{ROOT}", MARK: uuid.uuid4().hex}
    command = [sys.executable, "-m", "benchmarks.probe", str(tasks), str(single)]
    run = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    figures: Figures = json.loads(run.stdout.splitlines()[-1])
    return figures


def medians(runs: list[Figures]) -> Figures:
    """Of each figure the median.

    Example:
        >>> medians([{"ms": 1.0}, {"ms": 9.0}, {"ms": 2.0}])
        {'ms': 2.0}
    """
    return {name: statistics.median([run[name] for run in runs]) for name in runs[0]}


def worse(old: list[Figures], new: list[Figures]) -> list[str]:
    """The judged figures that became worse by more than may be."""
    before, after = medians(old), medians(new)
    return [name for name, sign in JUDGED.items() if sign * (after[name] / before[name] - 1) < -WITHIN]


def table(revision: str, old: list[Figures], new: list[Figures]) -> str:
    """A Markdown table: medians, ranges and ratios."""
    before, after = medians(old), medians(new)
    lines = [f"| medians of {len(old)} runs each | {revision} | now | ratio |", "| --- | --- | --- | --- |"]
    for name in before:
        cells = [
            f"{middle[name]:,.2f} ({min(run[name] for run in runs):,.2f}-{max(run[name] for run in runs):,.2f})"
            for middle, runs in ((before, old), (after, new))
        ]
        lines.append(f"| {name} | {cells[0]} | {cells[1]} | {after[name] / before[name]:.2f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
