"""The task loop: one call per task, and what sends it back for a turn."""

import sys
import threading
import time
from array import array
from collections.abc import Callable

import pytest

from flame.executor.tasks import TaskLoop
from flame.model.executor_messages import AcknowledgeReport, AssignTasks, ReportOutcomes, RetractTasks, TasksRetracted
from flame.model.messages import Welcome
from flame.model.ranges import HeldRange
from flame.protocol.executor import ExecutorHalf
from flame.protocol.runs import Run
from flame.protocol.shared_table import LEASE_END, PAGE_BYTES, TABLE_BYTES, SharedTable
from flame.service import FlameService, TaskContext
from tests.support import wait_until_true


class Calls(FlameService):
    def __init__(self, function: Callable[[TaskContext], object]) -> None:
        self.function = function
        self.contexts: list[TaskContext] = []

    def on_task_invoke(self, context: TaskContext) -> bytes | None:
        self.contexts.append(context)
        return self.function(context)  # type: ignore[return-value]


class Bench:
    """A loop over a few tasks, without a stream: every turn's reports are kept."""

    def __init__(self, function: Callable[[TaskContext], object]) -> None:
        table = SharedTable(memoryview(bytearray(TABLE_BYTES)))
        self.table = table
        self.half = ExecutorHalf(executor="e", binding=1, session=1, pid=1, table=table)
        self.half.received(Welcome(store_id="s", epoch=1, max_task_bytes=5000))
        self.page = memoryview(bytearray(PAGE_BYTES)).cast("Q")
        self.page[LEASE_END] = (1 << 64) - 1
        self.service = Calls(function)
        self.loop = TaskLoop(self.service, "s-1", self.half, table.words, self.page)
        self.reports: list[ReportOutcomes] = []

    def assign(self, inputs: list[bytes], first: int = 1) -> None:
        lengths = array("I", map(len, inputs)).tobytes()
        self.half.received(
            AssignTasks(attempt=1, first=first, count=len(inputs), lengths=lengths, blob=b"".join(inputs))
        )

    def turn(self) -> Run | None:
        self.reports += self.half.turn(time.clock_gettime_ns(time.CLOCK_BOOTTIME))  # type: ignore[arg-type]
        return self.half.active

    def run_all(self) -> None:
        while run := self.turn():
            self.loop.run(run)

    def outputs(self) -> list[tuple[int, bytes]]:
        return [(outcome.state, outcome.blob) for report in self.reports for outcome in report.outcomes]


def test_each_task_gets_its_input() -> None:
    bench = Bench(lambda context: context.input)
    bench.assign([b"a", b"", b"ccc"], first=4)
    bench.run_all()
    assert [(c.session_id, c.task_id, c.input) for c in bench.service.contexts] == [
        ("s-1", 4, b"a"), ("s-1", 5, b""), ("s-1", 6, b"ccc"),
    ]  # fmt: skip
    assert b"".join(blob for _, blob in bench.outputs()) == b"accc"


class NoBytes(bytes):
    def __bytes__(self) -> bytes:
        raise RuntimeError("no bytes")


def released() -> memoryview:
    view = memoryview(b"ab")
    view.release()
    return view


@pytest.mark.parametrize(
    ("output", "succeeds"),
    [
        (b"x" * 5000, True),
        (b"x" * 5001, False),
        (bytearray(b"ab"), True),
        (memoryview(b"ab"), True),
        (NoBytes(b"ab"), False),
        (released(), False),
        ("ab", False),
        (5, False),
    ],
)
def test_outputs(output: object, succeeds: bool) -> None:
    bench = Bench(lambda _: output)
    bench.assign([b"1"])
    bench.run_all()
    ((state, blob),) = bench.outputs()
    assert state == (2 if succeeds else 3)
    if succeeds:
        assert blob == bytes(output)  # type: ignore[call-overload]


@pytest.mark.parametrize("error", [ValueError("a"), SystemExit(3), KeyboardInterrupt(), GeneratorExit()])
def test_exceptions_fail_their_task_alone(error: BaseException) -> None:
    def invoke(context: TaskContext) -> bytes:
        if context.task_id == 2:
            raise error
        return b"."

    bench = Bench(invoke)
    bench.assign([b""] * 4)
    bench.run_all()
    failed = [
        task
        for report in bench.reports
        for outcome in report.outcomes
        for task in range(outcome.first, outcome.first + outcome.count)
        if (outcome.states[task - outcome.first] if outcome.states else outcome.state) == 3
    ]
    assert failed == [2]
    assert len(bench.service.contexts) == 4


def test_no_task_starts_after_the_lease() -> None:
    bench = Bench(lambda context: context.input)

    def over(context: TaskContext) -> bytes:
        if context.task_id == 3:
            bench.page[LEASE_END] = 1
        return b""

    bench.service.function = over
    bench.assign([b""] * 6)
    for _ in range(20):
        run = bench.turn()
        assert run
        bench.loop.run(run)
    assert [context.task_id for context in bench.service.contexts] == [1, 2, 3]
    bench.page[LEASE_END] = (1 << 64) - 1
    bench.run_all()
    assert len(bench.service.contexts) == 6


def test_the_current_task_is_shared() -> None:
    seen: list[int] = []
    bench = Bench(lambda _: seen.append(bench.table.current))
    bench.assign([b""] * 3)
    bench.run_all()
    assert seen == [1, 2, 3]
    assert bench.table.current == 0


def test_a_task_is_run_or_given_back_never_both() -> None:
    """Two real threads: this one takes tasks away while the other runs them."""
    bench = Bench(lambda context: context.input)
    lock = threading.Lock()
    over = threading.Event()
    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)

    def run() -> None:
        while not over.is_set():
            with lock:
                active = bench.turn()
            if active:
                bench.loop.run(active)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    given: list[int] = []
    count = 300
    try:
        for round_ in range(300):
            first = 1 + round_ * count
            with lock:
                bench.assign([b"x"] * count, first=first)
            for place in (count * 2 // 3, count // 3, 1):
                with lock:
                    (answer,) = bench.half.received(
                        RetractTasks(request=1, ranges=(HeldRange(1, first + place, count // 4),))
                    )
                    bench.reports += bench.half.received(AcknowledgeReport(1 << 30))  # type: ignore[arg-type]
                assert isinstance(answer, TasksRetracted)
                for held in answer.ranges:
                    given += range(held.first, held.first + held.count)
            wait_until_true(lambda: bench.half.idle)
    finally:
        over.set()
        thread.join(30)
        sys.setswitchinterval(interval_s)
    with lock:
        bench.half.received(AcknowledgeReport(1 << 30))
        bench.turn()
    ran = [context.task_id for context in bench.service.contexts]
    assert sorted(ran + given) == list(range(1, 300 * count + 1))
    assert given
    assert sum(outcome.count for report in bench.reports for outcome in report.outcomes) == len(ran)
