"""`python -m flame.sim`: run a simulation from a seed, or many, or until told; tell what fails, and how to see it."""

import argparse
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

from flame.sim.coverage import missing
from flame.sim.faults import FAULTS, kinds_of
from flame.sim.run import Case, Result, commit_of, run, run_many, shrink
from flame.sim.story import explain
from flame.sim.workload import DEFAULT, Size

_PROGRESS_S = 10


def main(arguments: list[str] | None = None) -> int:
    """Run one seed, `--seeds` of them, or all from one on.

    Returns:
        Exit code: 0 if all went well, 1 otherwise.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.seeds or options.until_told:
        return _many(options)
    result = run(_case(options, options.seed), tracing=True)
    if options.trace:
        try:
            options.trace.write_text("\n".join(result.trace) + "\n")
        except OSError as error:
            parser.error(f"argument --trace: {error}")
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
    some, any_number = _number(1), _number(0)
    parser.add_argument("--seed", type=any_number, default=0, help="the seed, or the first of them")
    parser.add_argument("--nodes", type=some, default=DEFAULT.nodes)
    parser.add_argument("--sessions", type=some, default=DEFAULT.sessions)
    parser.add_argument("--tasks", type=some, default=DEFAULT.tasks, help="over all sessions")
    parser.add_argument(
        "--faults", type=_kinds, default=tuple(FAULTS), help=f"all, none, or a list of: {', '.join(FAULTS)}"
    )
    parser.add_argument("--most", type=any_number, default=15, help="the most faults of a run")
    parser.add_argument("--trace", type=Path, metavar="FILE", help="write what happened, a line each")
    parser.add_argument(
        "--explain",
        type=_story,
        metavar="SESSION[:TASK]",
        help="tell the story of a session, or of a task in it, by their numbers",
    )
    parser.add_argument("--digest", action="store_true", help="print a fingerprint of the trace")
    parser.add_argument("--seeds", type=some, default=0, help="run this many seeds")
    parser.add_argument("--until-told", action="store_true", help="run seeds without end")
    parser.add_argument("--processes", type=some, default=1)
    parser.add_argument(
        "--failures", type=_directory, metavar="DIR", help="shrink what fails and write its trace there; takes a while"
    )
    return parser


def _number(least: int) -> Callable[[str], int]:
    """Reads a number of at least so much."""

    def read(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r} is no number of at least {least}")
        return int(text)

    return read


def _kinds(text: str) -> tuple[str, ...]:
    try:
        return kinds_of(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _story(text: str) -> str:
    if not re.fullmatch(r"\d+(:\d+)?", text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not like 3 or 3:17, the numbers of a session and of a task in it"
        )
    return text


def _directory(text: str) -> Path:
    if not Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"there is no directory {text}")
    return Path(text)


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


def _write_down(result: Result, directory: Path) -> str:
    """Make a failing case small, and write how to repeat it and what happened in it."""
    small = shrink(result.case, lambda case: bool(run(case).error))
    again = run(small, tracing=True)
    commit = commit_of(Path(__file__).parent)
    path = directory / f"sim-{result.case.seed}.txt"
    lines = [f"commit {commit}", result.case.command(), "shrunk:", small.command(), again.error]
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
        width = max(map(len, self._counts), default=0)
        for what, times in sorted(self._counts.items()):
            yield f"  {what:<{width}} {times:>9}"
        never = missing(self._counts)
        if never and self.seeds > 1:
            yield f"never happened: {', '.join(never)}"


def _say(*lines: str) -> None:
    for line in lines:
        sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
