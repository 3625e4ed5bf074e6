"""What a run measures, in groups: within a group, yardsticks and figures take turns, round after round."""

import socket
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from benchmarks import rows, yardsticks
from benchmarks.cluster import cluster
from benchmarks.commits import commit_ms
from benchmarks.measure import percentile
from benchmarks.table import Figure, number


class Sizes(msgspec.Struct, frozen=True, kw_only=True):
    """How much a run measures."""

    rounds: int = 5
    seconds: float = 10.0
    yardstick_seconds: float = 5.0
    round_trips: int = 2_000
    spins: int = 10_000
    sessions: int = 50
    queued: int = 1_000_000
    long_run: int = 5_000_000
    payload_bytes: int = 256 << 20


QUICK: Final = Sizes(
    rounds=1,
    seconds=3.0,
    yardstick_seconds=1.0,
    round_trips=300,
    spins=1_000,
    sessions=10,
    queued=100_000,
    long_run=2_000_000,
    payload_bytes=32 << 20,
)


class Samples:
    """Measured values by name; says each on stderr as it comes."""

    def __init__(self) -> None:
        self._values: dict[str, list[float]] = {}

    def add(self, name: str, *values: float) -> None:
        """Record measured values."""
        self._values.setdefault(name, []).extend(values)
        shown = ", ".join(number(value) for value in values[:4])
        print(f"  {name}: {shown}{', ...' if len(values) > 4 else ''}", file=sys.stderr, flush=True)

    def names(self) -> list[str]:
        """Every name, in order of its first value."""
        return list(self._values)

    def of(self, name: str) -> list[float]:
        """What was recorded under a name."""
        return self._values[name]

    def median(self, name: str) -> float:
        """The median of what was recorded under a name."""
        return statistics.median(self._values[name])


def throughput(sizes: Sizes, disk: Path) -> list[Figure]:
    """No-op tasks per second by `map`, by futures and over gRPC, with CPU per task, against a process pool."""
    samples = Samples()
    with cluster(disk, port=free_port()) as running:
        for last in [False] * (sizes.rounds - 1) + [True]:
            samples.add("pool submit, tasks/s", yardsticks.pool_submit(sizes.yardstick_seconds))
            samples.add("pool map, tasks/s", yardsticks.pool_map(sizes.yardstick_seconds))
            result, session_id = rows.map_throughput(running, running.endpoint, seconds=sizes.seconds)
            samples.add("map, tasks/s", result.rate.per_second)
            samples.add("map, slowest second", result.rate.slowest_second())
            samples.add("map, CPU us/task", result.cpu_us_per_task)
            for component, cpu_us in result.cpu_by_component.items():
                samples.add(f"map, CPU us/task of {component}", cpu_us)
            futures = rows.futures_throughput(running, running.endpoint, seconds=sizes.seconds)
            samples.add("futures, tasks/s", futures.rate.per_second)
            samples.add("futures, slowest second", futures.rate.slowest_second())
            samples.add("futures, CPU us/task", futures.cpu_us_per_task)
            over_grpc, _ = rows.map_throughput(running, running.grpc_endpoint, seconds=sizes.seconds)
            samples.add("grpc, tasks/s", over_grpc.rate.per_second)
            samples.add("grpc, slowest second", over_grpc.rate.slowest_second())
            if last:
                read = rows.readable_after_kill(running, session_id, result.rate.total + rows.WARM_UP_TASKS)
                samples.add("results read after kill -9", read)
    return _throughput_figures(samples)


def _throughput_figures(samples: Samples) -> list[Figure]:
    submit = samples.median("pool submit, tasks/s")

    def figure(name: str, key: str, must: float | None, worth: float | None) -> Figure:
        rate = samples.median(f"{key}, tasks/s")
        note = f"{rate / submit:.1f} x submit; slowest second {number(min(samples.of(f'{key}, slowest second')))}"
        return Figure(
            name=name,
            value=rate,
            unit="tasks/s",
            must=must and must * submit,
            worth=worth and worth * submit,
            larger_is_better=True,
            note=note,
            samples=samples.of(f"{key}, tasks/s"),
        )

    shares = [name for name in samples.names() if name.startswith("map, CPU us/task of ")]
    return [
        _yardstick("ProcessPoolExecutor(2), submit per task", samples, "pool submit, tasks/s", "tasks/s"),
        _yardstick("ProcessPoolExecutor(2), map(chunksize=100)", samples, "pool map, tasks/s", "tasks/s"),
        figure("no-op tasks, session.map, frames", "map", 20, 60),
        figure("no-op tasks, one future per task", "futures", 10, 25),
        figure("no-op tasks, session.map, gRPC carrier", "grpc", 5, None),
        Figure(
            name="CPU per task, all processes (map)",
            value=samples.median("map, CPU us/task"),
            unit="us",
            must=10,
            worth=4,
            note=", ".join(f"{name.rpartition(' ')[2]} {number(samples.median(name))}" for name in shares),
            samples=samples.of("map, CPU us/task"),
        ),
        Figure(
            name="results read after kill -9 and a new start",
            value=samples.median("results read after kill -9"),
            unit="tasks",
            note="every one, each checked",
        ),
    ]


def latency(sizes: Sizes, disk: Path) -> list[Figure]:
    """One task at a time in a warm session, against the commits of this disk."""
    samples = Samples()
    with cluster(disk) as running:
        for _ in range(sizes.rounds):
            commits = commit_ms(disk, sizes.round_trips)
            samples.add("commit p50, ms", percentile(commits, 50))
            samples.add("commit p99, ms", percentile(commits, 99))
            trips = rows.one_at_a_time(running, sizes.round_trips)
            samples.add("one at a time p50, ms", percentile(trips, 50))
            samples.add("one at a time p99, ms", percentile(trips, 99))
    commit, p50 = samples.median("commit p50, ms"), samples.median("one at a time p50, ms")
    return [
        _yardstick("commit of one task, p50", samples, "commit p50, ms", "ms"),
        _yardstick("commit of one task, p99", samples, "commit p99, ms", "ms"),
        Figure(
            name="one task at a time, p50",
            value=p50,
            unit="ms",
            must=2 * commit + 0.7,
            worth=2 * commit + 0.3,
            samples=samples.of("one at a time p50, ms"),
        ),
        Figure(
            name="one task at a time, p99",
            value=samples.median("one at a time p99, ms"),
            unit="ms",
            must=5 * p50,
            worth=3 * p50,
            samples=samples.of("one at a time p99, ms"),
        ),
    ]


def memory(sizes: Sizes, disk: Path) -> list[Figure]:
    """Peak memory of the session manager with a long queue and no executor."""
    figures = []
    for name, submit in (("map(window=1,000,000)", rows.by_map), ("run, one by one", rows.by_run)):
        with cluster(disk, executors=False) as running:
            queued, done = rows.queue_memory(running, submit, sizes.queued)
        figures.append(
            Figure(
                name=f"{sizes.queued:,} tasks queued by {name}",
                value=queued,
                unit="MB",
                must=300,
                worth=150,
                note=f"{number(done)} MB after all of them ran",
            )
        )
    return figures


def long_run(sizes: Sizes, disk: Path) -> list[Figure]:
    """Whether a session becomes slower the more it keeps; the median of rounds, since the machine drifts too."""
    samples = Samples()
    seconds: dict[str, list[float]] = {}
    for round_number in range(1, sizes.rounds + 1):
        with cluster(disk) as running:
            result, _ = rows.map_throughput(running, running.endpoint, tasks=sizes.long_run)
        seconds[f"tasks in each second, round {round_number}"] = result.rate.each_second()
        samples.add("change of the rate, %", result.rate.drift() * 100)
        samples.add("tasks/s", result.rate.per_second)
        samples.add("slowest second", result.rate.slowest_second())
    drift = samples.median("change of the rate, %")
    return [
        Figure(
            name=f"{sizes.long_run:,} tasks in one session, change of the rate",
            value=abs(drift),
            unit="%",
            must=10,
            worth=3,
            note=f"{drift:+.1f} %; {number(samples.median('tasks/s'))} tasks/s, "
            f"slowest second {number(min(samples.of('slowest second')))}",
            samples=samples.of("change of the rate, %"),
            series=seconds,
        )
    ]


def spinning(sizes: Sizes, disk: Path) -> list[Figure]:
    """Tasks of 1 ms against the same loop in two bare processes."""
    samples = Samples()
    turns = yardsticks.turns_per_ms()
    with cluster(disk) as running:
        for _ in range(sizes.rounds):
            samples.add("bare loop, s", yardsticks.bare_loop(turns, sizes.spins))
            samples.add("spinning tasks, s", rows.spinning(running, turns, sizes.spins))
    bare, tasks = samples.of("bare loop, s"), samples.of("spinning tasks, s")
    ratios = [task / loop for task, loop in zip(tasks, bare, strict=True)]
    return [
        Figure(
            name=f"{sizes.spins:,} tasks that spin 1 ms, against two bare processes",
            value=statistics.median(ratios),
            unit="x",
            must=1.15,
            worth=1.05,
            note=f"{number(statistics.median(tasks))} s against {number(statistics.median(bare))} s",
            samples=ratios,
        )
    ]


def sessions(sizes: Sizes, disk: Path) -> list[Figure]:
    """From a new session to its first result."""
    with cluster(disk) as running:
        samples = rows.new_sessions(running, sizes.sessions)
    return [
        Figure(
            name=f"new session to its first result, p50 of {sizes.sessions}",
            value=percentile(samples, 50),
            unit="ms",
            must=60,
            worth=15,
            note=f"p90 {number(percentile(samples, 90))} ms",
            samples=samples,
        )
    ]


def from_nothing(sizes: Sizes, disk: Path) -> list[Figure]:
    """`flmping -t 1 --embedded`."""
    samples = [rows.from_nothing() for _ in range(sizes.rounds)]
    return [
        Figure(
            name="from nothing: flmping -t 1 --embedded",
            value=statistics.median(samples),
            unit="ms",
            must=2_000,
            worth=1_000,
            samples=samples,
        )
    ]


def payloads(sizes: Sizes, disk: Path) -> list[Figure]:
    """Large inputs and outputs against a synced write and a loopback copy of the same bytes."""
    figures = []
    for mode in ("durable", "memory"):
        samples = Samples()
        with cluster(disk, mode=mode) as running:
            for _ in range(min(3, sizes.rounds)):
                if mode == "durable":
                    samples.add("synced write, MB/s", yardsticks.synced_write(sizes.payload_bytes, disk))
                else:
                    samples.add("loopback copy, MB/s", yardsticks.loopback_copy(sizes.payload_bytes))
                for size, name in ((16 << 10, "16 KiB"), (1 << 20, "1 MiB")):
                    samples.add(f"{name}, MB/s", rows.payload_rate(running, size, sizes.payload_bytes))
        key, share = ("synced write", 0.35) if mode == "durable" else ("loopback copy", 0.25)
        figures.append(_yardstick(f"{key}, the same bytes", samples, f"{key}, MB/s", "MB/s"))
        for name in ("16 KiB", "1 MiB"):
            rate, best = samples.median(f"{name}, MB/s"), samples.median(f"{key}, MB/s")
            figures.append(
                Figure(
                    name=f"inputs and outputs of {name}, {mode}",
                    value=rate,
                    unit="MB/s",
                    worth=share * best,
                    larger_is_better=True,
                    note=f"{100 * rate / best:.0f} % of the {key}",
                    samples=samples.of(f"{name}, MB/s"),
                )
            )
    return figures


Group = Callable[[Sizes, Path], list[Figure]]

GROUPS: Final[dict[str, Group]] = {
    "throughput": throughput,
    "latency": latency,
    "memory": memory,
    "long-run": long_run,
    "spinning": spinning,
    "sessions": sessions,
    "from-nothing": from_nothing,
    "payloads": payloads,
}


def free_port() -> int:
    """A TCP port that is free now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def _yardstick(name: str, samples: Samples, key: str, unit: str) -> Figure:
    return Figure(name=name, value=samples.median(key), unit=unit, note="yardstick", samples=samples.of(key))
