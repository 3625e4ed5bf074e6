"""Running simulations: one, many in several processes, and a failing one made as small as possible."""

import multiprocessing
import os
import subprocess
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from itertools import islice
from pathlib import Path

import msgspec

from flame.sim.coverage import moves_counted
from flame.sim.faults import FAULTS
from flame.sim.workload import DEFAULT, Size
from flame.sim.world import World


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """What decides a simulation.

    Args:
        kinds: of the faults that may happen, `most` of them.
    """

    seed: int
    size: Size = DEFAULT
    kinds: tuple[str, ...] = tuple(FAULTS)
    most: int = 15

    def command(self) -> str:
        """How to run it again."""
        size = self.size
        faults = "none" if not self.kinds else "all" if self.kinds == tuple(FAULTS) else ",".join(self.kinds)
        return (
            f"python -m flame.sim --seed {self.seed} --nodes {size.nodes} --sessions {size.sessions} "
            f"--tasks {size.tasks} --faults {faults} --most {self.most}"
        )


class Result(msgspec.Struct, kw_only=True):
    """What came of one.

    Args:
        error: why it failed, or empty.
        counts: how often what happened.
        events: that the core handled, in `core_s` of the `seconds` of processor time that everything took.
        digest: of the trace, where there is one.
    """

    case: Case
    error: str
    counts: Counter[str]
    seconds: float
    events: int = 0
    core_s: float = 0.0
    digest: str = ""
    trace: list[str] = []


def run(case: Case, *, tracing: bool = False) -> Result:
    """Run one simulation."""
    counts: Counter[str] = Counter()
    began = time.process_time()
    error = ""
    world: World | None = None
    with moves_counted(counts):
        try:
            world = World(case.seed, case.size, kinds=case.kinds, faults=case.most, tracing=tracing)
            world.run()
        except Exception as failure:
            error = f"{type(failure).__name__}: {failure}\n{traceback.format_exc()}"
    if world is None:
        return Result(case=case, error=error, counts=counts, seconds=time.process_time() - began)
    counts += world.counts + world.session_manager.counts
    counts["task run again"] += world.history.again.total()
    counts["task started"] += world.history.counts["started"]
    return Result(
        case=case,
        error=error,
        counts=counts,
        events=world.session_manager.events,
        seconds=time.process_time() - began,
        core_s=world.session_manager.core_s,
        digest=world.digest() if tracing else "",
        trace=world.trace,
    )


def commit_of(directory: Path) -> str:
    """The commit of the checkout that a directory is in, or `unknown`."""
    command = ["git", "-C", str(directory), "rev-parse", "HEAD"]
    try:
        commit = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:  # there is no git
        commit = ""
    return commit or "unknown"


def run_many(cases: Iterable[Case], processes: int) -> Iterator[Result]:
    """Run simulations in several processes; results come as they are ready."""
    if processes < 2:
        yield from map(run, cases)
        return
    left = iter(cases)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context, initializer=_end_with_parent) as pool:
        running: set[Future[Result]] = {pool.submit(run, case) for case in islice(left, 2 * processes)}
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()
            running |= {pool.submit(run, case) for case in islice(left, len(done))}


def _end_with_parent() -> None:
    """Processes of a pool do not notice that whoever started them was killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def shrink(case: Case, fails: Callable[[Case], bool], *, tries: int = 60) -> Case:
    """A smaller case that fails too: with fewer kinds of faults, fewer of them, fewer tasks, sessions and nodes.

    Args:
        fails: whether a case fails.
        tries: how many cases are tried.
    """
    smaller = True
    while smaller and tries > 0:
        smaller = False
        for candidate in _smaller(case):
            tries -= 1
            if tries >= 0 and fails(candidate):
                case, smaller = candidate, True
                break
    return case


def _smaller(case: Case) -> Iterator[Case]:
    size, replace = case.size, msgspec.structs.replace
    if case.kinds:
        yield replace(case, kinds=(), most=0)
    for kind in case.kinds if len(case.kinds) > 1 else ():
        yield replace(case, kinds=(kind,))
    for field in ("tasks", "sessions", "nodes"):
        have = getattr(size, field)
        for fewer in (have // 4, have // 2, have - 1 if have < 8 else 0):
            if 0 < fewer < have:
                yield replace(case, size=replace(size, **{field: fewer}))
    for kind in case.kinds if len(case.kinds) > 2 else ():
        yield replace(case, kinds=tuple(other for other in case.kinds if other != kind))
    if case.most > 1:
        yield replace(case, most=case.most // 2)
        yield replace(case, most=case.most - 1)
