"""`python -m tests.chaos --faults N --seconds S --seed X`: break a real cluster under load, and judge what came of it.

The first third of the faults must not make any task run twice: only the session manager, the supervisor, clients and
their connections are broken. Then everything is. In the end all is healed, all sessions are closed, and a `History`
judges the logs of clients and services, the results that any reader gets, and the store. Which faults come follows
from the seed, which is printed (FLAME_CHAOS_SEED sets it); whom they hit depends on who is there.
"""

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from random import SystemRandom

import msgspec

import flame
from flame.model.states import SessionState
from tests.chaos import faults, verdict
from tests.chaos.client import left_open
from tests.chaos.cluster import LETTERS, ChaosCluster
from tests.chaos.facts import Log, outcome_of, read_facts
from tests.support import wait_until_true

SEED = "FLAME_CHAOS_SEED"
PATIENCE_S = 120.0
"""Everything has to be finished so long after it was healed."""
_CLIENTS = ("load", "load", "grpc load", "unary", "read")


class Report(msgspec.Struct):
    """What a run has come to."""

    seed: int
    directory: Path
    counts: dict[str, int]
    seconds: float
    verdict: verdict.Verdict
    skipped: str

    def __str__(self) -> str:
        found = self.verdict
        load = f"{found.sessions} sessions, {found.tasks} tasks, {found.runs} runs"
        lines = [
            f"seed {self.seed}: {sum(self.counts.values())} faults in {self.seconds:.0f} s, {load}",
            "faults: " + ", ".join(f"{kind} {count}" for kind, count in sorted(self.counts.items())),
            f"from a kill of the session manager to the next result: {found.recovery}",
            f"tasks run more than once, by cause: {dict(sorted(found.again.items())) or 'none'}",
            *([f"no full disk: {self.skipped}"] if self.skipped else []),
            *(f"VIOLATION {violation}" for violation in found.violations[:50]),
        ]
        if found.violations:
            lines.append(f"{len(found.violations)} violations; logs are in {self.directory}, again: {SEED}={self.seed}")
        return "\n".join(lines)


@contextmanager
def _cluster(seed: int) -> Iterator[ChaosCluster]:
    directory = Path(tempfile.mkdtemp(prefix="fc-", dir="/tmp"))
    cluster = ChaosCluster(directory, seed)
    try:
        cluster.start()
        yield cluster
    except BaseException:
        sys.stderr.write(f"chaos: seed {seed}, logs are in {directory}\n")
        raise
    finally:
        for name in ("log", "store"):  # the disk they are on is given back
            with suppress(OSError):
                shutil.copytree(f"{cluster.data_dir}/{name}", directory / name)
        cluster.end()


def seed_or(default: int) -> int:
    """The seed of the environment, or this one.

    Raises:
        ValueError: it is no number.
    """
    text = os.environ.get(SEED, "") or str(default)
    if not text.isdecimal():
        raise ValueError(f"{SEED} is {text!r}, which is no seed: give a whole number, such as 7, or unset it")
    return int(text)


def run(count: int, seconds: float, seed: int, *, keep: bool = False, only: str = "") -> Report:
    """Break a cluster `count` times within about so many seconds.

    Args:
        count: faults.
        seconds: over how long they are spread, if that can be.
        seed: what they follow from.
        keep: keep the logs also where nothing is violated.
        only: the one fault to use, of `faults.WILD`; or empty.

    Raises:
        AssertionError: it did not come to an end.
    """
    started_s = time.monotonic()
    with _cluster(seed) as cluster:
        for role in _CLIENTS:
            cluster.start_client(role)
        broken = faults.Faults(cluster, seed)
        _break(cluster, broken, count, seconds, only)
        _heal(cluster, broken)
        _close_all(cluster)
        cluster.down()
        store = verdict.open_store(cluster.data_dir)
        try:
            found = verdict.judge(read_facts(cluster.facts), store, int(PATIENCE_S * 1e9))
        finally:
            store.close()
    report = Report(
        seed=seed,
        directory=cluster.directory,
        counts=dict(broken.counts),
        seconds=time.monotonic() - started_s,
        verdict=found,
        skipped=cluster.no_disk,
    )
    if not found.violations and not keep:
        shutil.rmtree(cluster.directory, ignore_errors=True)
    return report


def _break(cluster: ChaosCluster, broken: faults.Faults, count: int, seconds: float, only: str) -> None:
    """Faults in even steps; between them what they ended is started again, and what they stopped goes on."""
    began_s = time.monotonic()
    step_s = seconds / count
    while (done := broken.counts.total()) < count:
        if time.monotonic() - began_s >= done * step_s:
            calm = only in faults.CALM if only else done < count / 3
            # Whatever chance has left out comes towards the end.
            broken.one(faults.CALM if calm else faults.WILD, only or (broken.missing() if done > count * 0.8 else ""))
        broken.mend()
        cluster.nurse(broken.stopped)
        time.sleep(min(step_s, 0.05))


def _heal(cluster: ChaosCluster, broken: faults.Faults) -> None:
    """Break nothing more, and wait until the clients have ended."""
    broken.mend(all_of_it=True)
    cluster.log.write("healed")
    (cluster.facts / "stop").touch()

    wait_until_true(lambda: cluster.nurse(broken.stopped), PATIENCE_S, "the session manager answers")
    with cluster.connect() as connection:
        _close(cluster, connection, [name for client in cluster.clients for name in left_open(cluster.facts, client)])

    def no_load_is_left() -> bool:
        cluster.nurse(broken.stopped)
        return all(name.startswith(LETTERS["read"]) for name in cluster.clients)

    wait_until_true(no_load_is_left, PATIENCE_S, "the clients end once everything is healed")


def _close_all(cluster: ChaosCluster) -> None:
    """Close what clients have left open, wait for the readers, and read all results once more."""
    log = Log(cluster.facts, "end")
    with cluster.connect() as connection:
        _close(cluster, connection, [])
        names = [view.id for view in connection.list_sessions()]
        for name in names:
            wait_until_true(lambda name=name: _finished(connection, name), PATIENCE_S, f"{name} is finished")  # type: ignore[misc]
        for name in names:
            for result in connection.results(name, timeout=PATIENCE_S):
                value = result.output if result.error is None else result.error
                log.write("saw", name, result.task_id, outcome_of(value), result.sequence)
            log.write("finish", name, 1)
    wait_until_true(lambda: all(p.poll() is not None for p in cluster.clients.values()), PATIENCE_S, "readers end")


def _close(cluster: ChaosCluster, connection: flame.Connection, but: list[str]) -> None:
    """Close all sessions `but` those that a client is still to close: they might keep the executors for themselves."""
    log = Log(cluster.facts, "end")
    for view in connection.list_sessions():
        if view.state is SessionState.OPEN and view.id not in but:
            log.write("close", view.id)
            connection.close_session(view.id)


def _finished(connection: flame.Connection, session_id: str) -> bool:
    return connection.get_session(session_id).unfinished == 0


def _ended(*_: object) -> None:
    """SIGTERM: end as an exception does, so that no process of the cluster is left."""
    raise SystemExit(143)


def main() -> int:
    """The command line; exit code 1 where something was violated."""
    signal.signal(signal.SIGTERM, _ended)
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--faults", type=int, default=1_000, help="how many")
    parser.add_argument("--seconds", type=float, default=0.0, help="over how long; 0 takes three a second")
    parser.add_argument("--seed", type=int, default=None, help="0 takes any")
    parser.add_argument(
        "--only", choices=list(faults.WILD), default="", help="no other faults, to measure what it costs"
    )
    parser.add_argument("--keep", action="store_true", help="keep the logs of a run without violations too")
    arguments = parser.parse_args()
    try:
        seed = seed_or(0) if arguments.seed is None else arguments.seed
    except ValueError as error:
        parser.error(str(error))
    seed = seed or SystemRandom().randrange(1, 1 << 20)
    seconds = arguments.seconds or arguments.faults / 3
    report = run(arguments.faults, seconds, seed, keep=arguments.keep, only=arguments.only)
    sys.stdout.write(f"{report}\n")
    if arguments.keep:
        sys.stdout.write(f"logs are in {report.directory}\n")
    return 1 if report.verdict.violations else 0


if __name__ == "__main__":
    sys.exit(main())
