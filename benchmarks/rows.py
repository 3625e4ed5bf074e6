"""One function per figure: it runs real tasks through the public SDK, checks every output, and returns numbers."""

import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import flame
from benchmarks.cluster import FLMPING, Cluster, connected
from benchmarks.measure import Rate, cpu_seconds, peak_memory_mb
from benchmarks.services import spin
from benchmarks.yardsticks import small_inputs
from flame.model.states import ExecutorState

STEP = 1_024
WARM_UP_TASKS = 5_000


class Counts:
    """Where the services leave their counts (`folder`, as common data), and how many invocations they shall be."""

    def __init__(self, folder: str) -> None:
        self.folder = folder.encode()
        self.expected = 0


@contextmanager
def counted(cluster: Cluster) -> Iterator[Counts]:
    """Afterwards every task was invoked exactly once, or it raises."""
    with tempfile.TemporaryDirectory(prefix="flame-counts-") as folder:
        counts = Counts(folder)
        yield counts
        found = cluster.counted_invocations(Path(folder), counts.expected)
        if found != counts.expected:
            raise RuntimeError(f"{counts.expected} tasks were submitted, but the services counted {found} invocations")


class Run:
    """A session of a row, warm; `tasks` is how many were submitted so far."""

    def __init__(self, session: flame.Session) -> None:
        self.session = session
        self.tasks = 0


@contextmanager
def warm_session(
    cluster: Cluster, endpoint: str, application: str = "bench-reverse", *, warm_up: bool = True
) -> Iterator[Run]:
    """A session with two executors, warm; afterwards every task was invoked exactly once, or it raises."""
    with counted(cluster) as counts, connected(endpoint) as connection:
        with connection.create_session(application, common_data=counts.folder, min_instances=2) as session:
            run = Run(session)
            _wait_for_executors(connection, session.id)
            if warm_up:
                _warm_up(run)
            yield run
        counts.expected = run.tasks


def _wait_for_executors(connection: flame.Connection, session_id: str) -> None:
    deadline = time.monotonic() + 30
    while True:
        mine = [executor for executor in connection.list_executors() if executor.session_id == session_id]
        if [executor.state for executor in mine] == [ExecutorState.BOUND] * 2:
            return
        if time.monotonic() > deadline:
            raise RuntimeError(f"session {session_id} has {mine} instead of two bound executors")
        time.sleep(0.01)


def _warm_up(run: Run) -> None:
    for data, output in zip(
        small_inputs(0, WARM_UP_TASKS), run.session.map(small_inputs(0, WARM_UP_TASKS)), strict=True
    ):
        check(output, data[::-1])
    run.tasks += WARM_UP_TASKS


def check(found: object, expected: object) -> None:
    """Stop the run at the first wrong output."""
    if found != expected:
        raise RuntimeError(f"a wrong output: {found!r} instead of {expected!r}")


class Throughput:
    """Result of a throughput row."""

    def __init__(self, rate: Rate, cpu_us_per_task: float, cpu_by_component: dict[str, float]) -> None:
        self.rate = rate
        self.cpu_us_per_task = cpu_us_per_task
        self.cpu_by_component = cpu_by_component


def map_throughput(cluster: Cluster, endpoint: str, *, seconds: float = 0, tasks: int = 0) -> tuple[Throughput, str]:
    """`session.map` of 30-byte tasks for `seconds` (or a number of `tasks`); also the id of the closed session."""
    with warm_session(cluster, endpoint) as run:
        start = run.tasks

        def inputs() -> Iterator[bytes]:
            first = start
            deadline = time.perf_counter() + seconds
            while (first - start < tasks) if tasks else (time.perf_counter() < deadline):
                yield from small_inputs(first, STEP)
                first += STEP

        with cpu_of(cluster) as used:
            rate, number = Rate(), start
            for output in run.session.map(inputs()):
                if output != (b"%030d" % number)[::-1]:
                    check(output, (b"%030d" % number)[::-1])
                number += 1
                if not number % STEP:
                    rate.add(number - start - rate.total)
            rate.add(number - start - rate.total)
        run.tasks = number
        session_id = run.session.id
    return _throughput(rate, used), session_id


def futures_throughput(cluster: Cluster, endpoint: str, *, seconds: float, batch: int = 20_000) -> Throughput:
    """One future per task: `session.run`, then `flame.wait` on a batch while the next one is on its way."""
    with warm_session(cluster, endpoint) as run, cpu_of(cluster) as used:
        rate, first = Rate(), run.tasks
        waiting: tuple[int, list[flame.Future]] | None = None
        while waiting is not None or time.perf_counter() - rate.started < seconds:
            submitted = None
            if time.perf_counter() - rate.started < seconds:
                submitted = (first, [run.session.run(data) for data in small_inputs(first, batch)])
                first += batch
            if waiting is not None:
                done, pending = flame.wait(waiting[1])
                check((len(done), len(pending)), (batch, 0))
                for number, future in enumerate(waiting[1], waiting[0]):
                    check(future.result(), (b"%030d" % number)[::-1])
                rate.add(batch)
            waiting = submitted
        run.tasks = first
    return _throughput(rate, used)


@contextmanager
def cpu_of(cluster: Cluster) -> Iterator[dict[str, float]]:
    """Fills a dict with the CPU seconds used inside, by component, this process as `client`."""
    before = _cpu_by_pid(cluster)
    used: dict[str, float] = {}
    yield used
    for (component, pid), seconds in _cpu_by_pid(cluster).items():
        used[component] = used.get(component, 0.0) + seconds - before.get((component, pid), 0.0)


def _cpu_by_pid(cluster: Cluster) -> dict[tuple[str, int], float]:
    components = ("session-manager", "executor-manager", "fork-server", "executor")
    pids = [(component, pid) for component in components for pid in cluster.pids(component)]
    return {(component, pid): cpu_seconds([pid]) for component, pid in [*pids, ("client", os.getpid())]}


def _throughput(rate: Rate, used: dict[str, float]) -> Throughput:
    by_component = {component: seconds / rate.total * 1e6 for component, seconds in used.items()}
    return Throughput(rate, sum(by_component.values()), by_component)


def readable_after_kill(cluster: Cluster, session_id: str, tasks: int) -> int:
    """`kill -9` of the whole cluster, a new start on the same data: read and check every result."""
    cluster.kill()
    cluster.start_session_manager()
    with flame.connect(cluster.endpoint) as connection:
        found = 0
        for result in connection.results(session_id, after=0):
            number = result.task_id - 1
            check(result.output, (b"%030d" % number)[::-1])
            found += 1
    check(found, tasks)
    cluster.start_executor_manager()
    return found


def one_at_a_time(cluster: Cluster, tasks: int) -> list[float]:
    """Milliseconds of each of `tasks` invocations, one after the other, in a warm session."""
    samples = []
    with warm_session(cluster, cluster.endpoint) as run:
        for data in small_inputs(run.tasks, tasks):
            started = time.perf_counter()
            output = run.session.invoke(data)
            samples.append((time.perf_counter() - started) * 1e3)
            check(output, data[::-1])
        run.tasks += tasks
    return samples


def spinning(cluster: Cluster, turns: int, tasks: int) -> float:
    """Seconds for `tasks` tasks that each run the loop of `turns`."""
    with warm_session(cluster, cluster.endpoint, "bench-spin", warm_up=False) as run:
        expected = b"%d" % spin(turns)
        for output in run.session.map([b"%d" % 1] * 100):
            check(output, b"%d" % spin(1))
        started = time.perf_counter()
        for output in run.session.map(b"%d" % turns for _ in range(tasks)):
            check(output, expected)
        seconds = time.perf_counter() - started
        run.tasks = tasks + 100
    return seconds


def new_sessions(cluster: Cluster, count: int) -> list[float]:
    """Milliseconds from asking for a new session to its first result, on a warm cluster."""
    samples = []
    with counted(cluster) as counts, connected(cluster.endpoint) as connection:
        for number in range(count + 1):
            data = b"%030d" % number
            started = time.perf_counter()
            with connection.create_session("bench-reverse", common_data=counts.folder) as session:
                output = session.invoke(data)
                samples.append((time.perf_counter() - started) * 1e3)
            check(output, data[::-1])
        counts.expected = count + 1
    return samples[1:]


def from_nothing() -> float:
    """Milliseconds from the start of `flmping -t 1 --embedded` to its result."""
    started = time.perf_counter()
    with subprocess.Popen(
        [FLMPING, "-t", "1", "--embedded"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as ping:
        if ping.stdout is None:
            raise RuntimeError("flmping has no output")
        for line in ping.stdout:
            if b"was completed in" in line:
                elapsed_ms = (time.perf_counter() - started) * 1e3
        if ping.wait() != 0:
            raise RuntimeError(f"flmping ended with {ping.returncode}")
    return elapsed_ms


Submit = Callable[[flame.Session, Iterator[bytes]], Iterator[bytes | None]]


def by_map(session: flame.Session, inputs: Iterator[bytes]) -> Iterator[bytes | None]:
    """Submit everything by one `map`."""
    return session.map(inputs, window=1_000_000)


def by_run(session: flame.Session, inputs: Iterator[bytes]) -> Iterator[bytes | None]:
    """Submit everything one by one."""
    futures = [session.run(data) for data in inputs]
    return (future.result() for future in futures)


def queue_memory(cluster: Cluster, submit: Submit, tasks: int) -> tuple[float, float]:
    """Peak MB of the session manager with `tasks` of 64 bytes queued before any executor runs, and after all ran."""
    session_manager_pid = cluster.pids("session-manager")[0]
    with (
        counted(cluster) as counts,
        connected(cluster.endpoint) as connection,
        connection.create_session("bench-reverse", common_data=counts.folder) as session,
    ):
        counts.expected = tasks
        failures: list[BaseException] = []

        def consume() -> None:
            try:
                inputs = (b"%064d" % number for number in range(tasks))
                for number, output in enumerate(submit(session, inputs)):
                    check(output, (b"%064d" % number)[::-1])
            except BaseException as error:
                failures.append(error)

        thread = threading.Thread(target=consume)
        thread.start()
        deadline = time.monotonic() + 300
        while connection.get_session(session.id).pending < tasks:
            if failures or time.monotonic() > deadline:
                break
            time.sleep(0.1)
        queued = peak_memory_mb(session_manager_pid)
        cluster.start_executor_manager()
        thread.join()
        if failures:
            raise failures[0]
        done = peak_memory_mb(session_manager_pid)
    return queued, done


def payload_rate(cluster: Cluster, task_bytes: int, total_bytes: int) -> float:
    """MB/s of inputs and outputs together, with tasks of `task_bytes` that answer as much."""
    count = max(2, total_bytes // (2 * task_bytes))
    filler = os.urandom(task_bytes - 8)
    with warm_session(cluster, cluster.endpoint, "bench-rotate", warm_up=False) as run:
        started = time.perf_counter()
        inputs = (number.to_bytes(8, "big") + filler for number in range(count))
        for number, output in enumerate(run.session.map(inputs)):
            if (
                output is None
                or len(output) != task_bytes
                or not output.startswith(filler)
                or not output.endswith(number.to_bytes(8, "big"))
            ):
                raise RuntimeError(f"a wrong output of task {number}")
        seconds = time.perf_counter() - started
        run.tasks += count
    return 2 * count * task_bytes / 1e6 / seconds
