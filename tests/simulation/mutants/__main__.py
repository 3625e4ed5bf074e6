"""`python -m tests.simulation.mutants [NAME...]`: after how many seeds is each mutant caught, and by what?

Each is applied to a copy of `src/`, and seeds are simulated there until one fails. That seed has to go well without the
mutation. Mutants that the history checker has to catch alone are run once more, with all invariants off.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from tests.simulation.mutants.catalogue import SOURCES, Mutant, copy_sources, read_mutants
from tests.simulation.mutants.trial import Verdict

SEEDS = 300
_PARALLEL = 2


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a mutant.

    Args:
        mutant: which.
        all: with everything that may catch it.
        alone: with the history checker alone; None where that is not asked for.
        control: the seeds that fail without the mutation too.
    """

    mutant: Mutant
    all: Verdict
    alone: Verdict | None
    control: tuple[int, ...]

    @property
    def caught(self) -> bool:
        """Whether everything caught it that has to."""
        alone = self.alone is None or bool(self.alone.by)
        return bool(self.all.by) and alone and not self.control

    def __str__(self) -> str:
        by = self.all.by or "NOT CAUGHT"
        if by == "history":
            by = self.all.text.partition(":")[0]
        alone = "" if self.alone is None else str(self.alone.seeds) if self.alone.by else "NOT CAUGHT"
        lines = [f"{self.mutant.name:<36} {self.all.seeds:>5}  {by:<23} {alone:>10}"]
        lines += [f"    seed {seed} fails without the mutation too" for seed in self.control]
        return "\n".join(lines)


def try_mutant(mutant: Mutant, clean: Path, *, first: int = 0, seeds: int = SEEDS) -> Row:
    """Simulate a mutant.

    Args:
        mutant: which.
        clean: sources without a mutation.
        first: the first seed.
        seeds: how many at most.
    """
    with tempfile.TemporaryDirectory(prefix="flame-mutant-") as directory:
        sources = copy_sources(Path(directory))
        mutant.apply(sources)
        everything = run_trial(sources, first, seeds)
        alone = _alone(sources, first, seeds, everything) if mutant.history else None
    failing = sorted(
        {first + verdict.seeds - 1 for verdict in (everything, alone) if verdict is not None and verdict.by}
    )
    control = tuple(seed for seed in failing if run_trial(clean, seed, 1).by)
    return Row(mutant=mutant, all=everything, alone=alone, control=control)


def _alone(sources: Path, first: int, seeds: int, everything: Verdict) -> Verdict:
    """What the history says alone: of the seeds that went well before, it has said nothing either."""
    if everything.by in ("", "history"):
        return everything
    before = everything.seeds - 1
    verdict = run_trial(sources, first + before, seeds - before, "--history")
    return msgspec.structs.replace(verdict, seeds=before + verdict.seeds)


def run_trial(sources: Path, first: int, seeds: int, *options: str) -> Verdict:
    """Simulate seeds on these sources, in a process of its own."""
    command = [sys.executable, "-m", "tests.simulation.mutants.trial", str(first), str(seeds), *options]
    environment = {**os.environ, "PYTHONPATH": str(sources), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, cwd=SOURCES.parent, env=environment, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} with PYTHONPATH={sources} ended with {done.returncode}")
    return msgspec.json.decode(done.stdout, type=Verdict)


def main(arguments: list[str] | None = None) -> int:
    """Try all mutants or those that are named, and print a table.

    Returns:
        0 if all are caught, else 1.
    """
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.mutants", description=__doc__)
    parser.add_argument("names", nargs="*", help="mutants; without any, all that have to be caught")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="how many seeds at most")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--texts", action="store_true", help="print what each failure said")
    options = parser.parse_args(arguments)
    mutants = read_mutants()
    if unknown := [name for name in options.names if name not in [mutant.name for mutant in mutants]]:
        parser.error(f"there is no mutant {', '.join(unknown)}")
    chosen = [mutant for mutant in mutants if mutant.name in options.names or not (options.names or mutant.missing)]
    write, began = sys.stdout.write, time.monotonic()
    write(f"{'mutant':<36} {'seeds':>5}  {'caught by':<23} {'by history':>10}\n")
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="flame-mutant-") as directory, ThreadPoolExecutor(_PARALLEL) as pool:
        clean = copy_sources(Path(directory))
        for row in pool.map(lambda one: try_mutant(one, clean, first=options.first, seeds=options.seeds), chosen):
            rows.append(row)
            texts = [verdict.text for verdict in (row.all, row.alone) if options.texts and verdict and verdict.by]
            write("".join(f"{line}\n" for line in (str(row), *(f"    {text}" for text in texts))))
            sys.stdout.flush()
    caught = sum(row.caught for row in rows)
    alone = sum(bool(row.alone and row.alone.by) for row in rows)
    seconds = time.monotonic() - began
    write(f"{len(rows)} mutants, {caught} caught, {alone} by the history checker alone; {seconds:.0f} s\n")
    return 0 if caught == len(rows) else 1


if __name__ == "__main__":
    sys.exit(main())
