"""`python -m flame.sim`: run a simulation from a seed, or many, or until told; tell what fails, and how to see it."""

import argparse
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from itertools import count
from pathlib import Path

from flame.sim.coverage import missing
from flame.sim.faults import FAULTS, kinds_of
from flame.sim.run import Case, Result, run, run_many, shrink
from flame.sim.story import explain
from flame.sim.workload import DEFAULT, Size

_PROGRESS_S = 10


def main(arguments: list[str] | None = None) -> int:
    """Run one seed, `--seeds` of them, or all from one on.

    Returns:
        Exit code: 0 if all went well, 1 otherwise.
    """
    options = _parser().parse_args(arguments)
    if options.seeds or options.until_told:
        return _many(options)
    result = run(_case(options, options.seed), tracing=True)
    if options.trace:
        Path(options.trace).write_text("\n".join(result.trace) + "\n")
    if options.explain:
        _say(*explain(result.trace, options.explain))
    if options.digest:
        _say(f"{options.seed} {result.digest}")
    else:
        tally = Tally()
        tally.add(result)
        _say(*tally.summary(result.seconds))
    if result.error:
        _say(f"seed {options.seed} fails: {result.error}")
    return 1 if result.error else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m flame.sim", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="the seed, or the first of them")
    parser.add_argument("--nodes", type=int, default=DEFAULT.nodes)
    parser.add_argument("--sessions", type=int, default=DEFAULT.sessions)
    parser.add_argument("--tasks", type=int, default=DEFAULT.tasks, help="over all sessions")
    parser.add_argument(
        "--faults", type=kinds_of, default=tuple(FAULTS), help=f"all, none, or a list of: {', '.join(FAULTS)}"
    )
    parser.add_argument("--most", type=int, default=15, help="the most faults of a run")
    parser.add_argument("--trace", metavar="FILE", help="write what happened, a line each")
    parser.add_argument("--explain", metavar="SESSION[:TASK]", help="tell the story of a session, or of a task in it")
    parser.add_argument("--digest", action="store_true", help="print a fingerprint of the trace")
    parser.add_argument("--seeds", type=int, default=0, help="run this many seeds")
    parser.add_argument("--until-told", action="store_true", help="run seeds without end")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--failures", metavar="DIR", help="shrink what fails and write its trace there; takes a while")
    return parser


def _case(options: argparse.Namespace, seed: int) -> Case:
    size = Size(nodes=options.nodes, sessions=options.sessions, tasks=options.tasks)
    return Case(seed=seed, size=size, kinds=options.faults, most=options.most)


def _many(options: argparse.Namespace) -> int:
    seeds: Iterator[int] | range = (
        count(options.seed) if options.until_told else range(options.seed, options.seed + options.seeds)
    )
    tally = Tally()
    began = shown = time.monotonic()
    try:
        for result in run_many((_case(options, seed) for seed in seeds), options.processes):
            tally.add(result)
            if result.error:
                _say(f"seed {result.case.seed} fails: {result.error}", f"  {result.case.command()}")
                if options.failures:
                    _say(_write_down(result, options.failures))
            if time.monotonic() - shown > _PROGRESS_S:
                shown = time.monotonic()
                _say(f"{tally.seeds} seeds, {tally.failed} failed, {tally.seeds / (shown - began):.1f} seeds/s")
    except KeyboardInterrupt:
        _say("told to stop")
    _say(*tally.summary(time.monotonic() - began))
    return 1 if tally.failed else 0


def _write_down(result: Result, directory: str) -> str:
    """Make a failing case small, and write how to repeat it and what happened in it."""
    small = shrink(result.case, lambda case: bool(run(case).error))
    again = run(small, tracing=True)
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    path = Path(directory) / f"sim-{result.case.seed}.txt"
    lines = [f"commit {commit or 'unknown'}", result.case.command(), "shrunk:", small.command(), again.error]
    path.write_text("\n".join([*lines, *again.trace]) + "\n")
    return f"  shrunk: {small.command()}; its trace is in {path}"


class Tally:
    """What came of many simulations together."""

    def __init__(self) -> None:
        self.seeds = 0
        self.failed = 0
        self._counts: Counter[str] = Counter()
        self._events = 0
        self._busy_s = self._core_s = 0.0

    def add(self, result: Result) -> None:
        """Count one."""
        self.seeds += 1
        self.failed += bool(result.error)
        self._counts += result.counts
        self._events += result.events
        self._busy_s += result.seconds
        self._core_s += result.core_s

    def summary(self, seconds: float) -> Iterator[str]:
        """Lines that tell all of it; `seconds` is how long it took."""
        yield f"{self.seeds} seeds, {self.failed} failed, in {seconds:.1f} s"
        alone, whole = (self._events / max(s, 0.001) for s in (self._core_s, self._busy_s))
        yield f"{self._events} events of the core, {alone:.0f} per second of it alone, {whole:.0f} of all"
        yield f"{dict(sorted(self._counts.items()))}"
        never = missing(self._counts)
        if never and self.seeds > 1:
            yield f"never happened: {', '.join(never)}"


def _say(*lines: str) -> None:
    for line in lines:
        sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
