"""The executor's half of its stream: what it was given, runs, has finished and has to say again.

Two threads use one `ExecutorHalf` under one lock: the control thread passes in what the session manager says
(`connected`, `received`, `disconnected`), the main thread asks for tasks between tasks (`turn`). Where the main thread
has no task it reads the link itself, and passes in what it `received`. It runs the tasks of `active` *without* the
lock, and claims each of them like this:

    table.words[CURRENT] = task              # I am going to run it
    if task >= half.limit[0]: ...            # may I? else it goes back to `turn`

The control thread takes tasks away in the opposite order: it sets `limit[0]` to 0, then looks at the current task.
Whichever order the two interleave in, a task is either given back or run, never both: if the control thread has not
seen the task as the current one, the main thread has not yet looked at the limit, and will find it lowered. (This needs
the two stores and loads of each thread to be seen in order, which the interpreter's lock guarantees.)

`limit[0]` is also how the main thread is asked to come back after the task that it runs for any other reason.
"""

from collections import deque
from collections.abc import Iterator
from typing import Final

from flame.model.errors import Aborted, InvalidArgument, Unavailable
from flame.model.executor_messages import (
    AcknowledgeReport,
    AssignTasks,
    AttachExecutor,
    EnterSession,
    LeaveSession,
    Outcome,
    ReportOutcomes,
    RetractTasks,
    SessionEntered,
    SessionLeft,
    TasksRetracted,
)
from flame.model.limits import MAX_CHUNK_BYTES, MAX_CHUNK_TASKS, MAX_TASK_BYTES, MIB
from flame.model.messages import Hello, Message, Refused, Role, Welcome
from flame.model.ranges import HeldRange
from flame.protocol.runs import Run, merged
from flame.protocol.shared_table import CURRENT, SharedTable

MAX_UNACKNOWLEDGED_BYTES: Final = 8 * MIB
"""Outputs an executor keeps for the session manager; above it no task is started until some are acknowledged."""
SMALL_OUTPUT_BYTES: Final = 1024
"""Outputs up to this size are not counted one by one: `MAX_CHUNK_TASKS` of them are no more than one report holds."""


class ExecutorHalf:
    """The executor's half of a stream.

    Args:
        executor: its id.
        binding: the binding that its process was started for.
        session: number of the session it is bound to.
        pid: of its process.
        table: its shared table.
        software: name and version, for the session manager's log.
        store_id: of the session manager that bound it, or empty to take the first.
        epoch: of the session manager that bound it.

    Attributes:
        active: the run whose tasks the main thread may run, or None.
        limit: one item: the first task of `active` that the main thread must not run now.
        enter: what session enter needs, once the session manager said it.
        leaving: whether the session manager asked it to leave.
        entered: whether session enter succeeded.
        connected: whether there is a stream on which the session manager said welcome.
        max_task_bytes: largest output of one task.
    """

    def __init__(
        self,
        *,
        executor: str,
        binding: int,
        session: int,
        pid: int,
        table: SharedTable,
        software: str = "",
        store_id: str = "",
        epoch: int = 0,
    ) -> None:
        self._executor = executor
        self._binding = binding
        self._session = session
        self._pid = pid
        self._table = table
        self._software = software
        self._store_id = store_id
        self._epoch = epoch
        self._queue: deque[Run] = deque()
        self._piled: list[Run] = []
        self._unacknowledged: deque[ReportOutcomes] = deque()
        self._unacknowledged_bytes = 0
        self._report = 0
        self._enter_failure = b""
        self._left: SessionLeft | None = None
        self.active: Run | None = None
        self.limit = [0]
        self.enter: EnterSession | None = None
        self.leaving = False
        self.entered = False
        self.connected = False
        self.max_task_bytes = MAX_TASK_BYTES

    # --- the stream ------------------------------------------------------------------------------------------------

    def hello(self) -> Hello:
        """The first message of every stream."""
        return Hello(role=Role.EXECUTOR, software=self._software, store_id=self._store_id, epoch=self._epoch)

    def disconnected(self) -> None:
        """The stream is over; tasks go on, and reports are kept for the next one."""
        self.connected = False

    def received(self, message: Message) -> list[Message]:
        """Take a message of the session manager and return what to answer.

        Raises:
            Aborted: the executor has no business any more and must end its process.
            FlameError: any other means that this stream is of no use: close it and connect again.
        """
        match message:
            case AssignTasks():
                return self._assign(message)
            case AcknowledgeReport(report=report):
                return self._acknowledge(report)
            case RetractTasks(request=request, ranges=ranges):
                given = self._give_back(ranges)
                return [TasksRetracted(request=request, ranges=tuple(given))]
            case Welcome():
                return self._welcome(message)
            case EnterSession():
                self.enter = self.enter or message
                return []
            case LeaveSession():
                self.leaving = True
                given = self._give_back([HeldRange(run.attempt, run.first, run.end - run.first) for run in self._queue])
                return [TasksRetracted(request=0, ranges=tuple(given))]
            case Refused(error=error):
                if error.to_error().retryable:
                    raise Unavailable(error.message, hint=error.hint)
                # What it has sent is no message: something of the service has written there, in a task that has ended,
                # or the one that runs would not have been told of yet. Any other refusal is nobody's fault.
                spoiled = error.code == InvalidArgument.code
                raise self._dismissed(f"the session manager refused it: {error.message}", blame_oldest=spoiled)
        raise InvalidArgument(f"the session manager sent an executor {type(message).__name__}")

    def _welcome(self, welcome: Welcome) -> list[Message]:
        if self._store_id and welcome.store_id != self._store_id:
            raise self._dismissed(f"the session manager has store {welcome.store_id}, it belongs to {self._store_id}")
        if welcome.epoch < self._epoch:
            raise Unavailable(
                f"the session manager has epoch {welcome.epoch}, but there was one with {self._epoch}",
                hint="an older session manager still runs on this endpoint",
            )
        self._store_id = welcome.store_id
        self._epoch = welcome.epoch
        self.max_task_bytes = welcome.max_task_bytes or self.max_task_bytes
        self.connected = True
        held = self._share()
        self._table.set_attached()
        messages: list[Message] = [
            AttachExecutor(
                executor=self._executor,
                binding=self._binding,
                session=self._session,
                held=tuple(held),
                entered=self.entered,
                pid=self._pid,
            )
        ]
        if self._enter_failure:
            messages.append(SessionEntered(self._enter_failure))
        messages.extend(self._unacknowledged)
        messages.extend(self._flush())
        if self._left:
            messages.append(self._left)
        return messages

    def _dismissed(self, reason: str, *, blame_oldest: bool = False) -> Aborted:
        """It has to end, whatever runs: its end is charged to the first task that is not acknowledged, or to none."""
        self.limit[0] = 0
        held = self._share() if blame_oldest else []
        self._table.dismiss(held[0].first if held else 0)
        return Aborted(f"executor {self._executor}: {reason}")

    def _assign(self, message: AssignTasks) -> list[Message]:
        run = Run.of(message)
        if self.leaving:
            return [TasksRetracted(request=0, ranges=(HeldRange(run.attempt, run.first, message.count),))]
        self._queue.append(run)
        self._share()
        if self._table.spoiled(self._epoch):
            raise self._dismissed("something has written over the memory it shares with its node", blame_oldest=True)
        if self._table.sealed(self._epoch):
            # The node has told a later session manager what is held, and it may have looked before this was shared.
            # Should it have looked after, then the next `AttachExecutor` tells that this is not held.
            self._queue.pop()
            self._share()
        return []

    def _acknowledge(self, report: int) -> list[Message]:
        if not self._unacknowledged or self._unacknowledged[0].report > report:
            return []
        while self._unacknowledged and self._unacknowledged[0].report <= report:
            self._unacknowledged_bytes -= _size(self._unacknowledged.popleft())
        self._table.set_acknowledged()
        messages = self._flush()
        self._share()
        return messages

    def _flush(self) -> list[Message]:
        """Report what has piled up; if nothing has, and nothing is under way, the next task's output goes at once."""
        if self._answered():
            return self._collect()
        if not self._unacknowledged:
            self.limit[0] = 0
        return []

    # --- giving back -----------------------------------------------------------------------------------------------

    def _give_back(self, ranges: "tuple[HeldRange, ...] | list[HeldRange]") -> list[HeldRange]:
        limit, self.limit[0] = self.limit[0], 0
        given: list[HeldRange] = []
        for wanted in ranges:
            kept: deque[Run] = deque()
            for run in self._queue:
                tail = self._cut(run, wanted, given)
                if run is self.active or run.first < run.end:
                    kept.append(run)
                if tail:
                    kept.append(tail)
            self._queue = kept
        if self.active:
            self.limit[0] = min(limit, self.active.end)
        self._share()
        return given

    def _cut(self, run: Run, wanted: HeldRange, given: list[HeldRange]) -> Run | None:
        """Take the part of `run` out that is wanted and unstarted; return what is behind it."""
        if run.attempt != wanted.attempt:
            return None
        start = max(wanted.first, self._unclaimed(run))
        end = min(wanted.first + wanted.count, run.end)
        if start >= end:
            return None
        given.append(HeldRange(run.attempt, start, end - start))
        tail = run.split(end)
        run.end = start
        return tail

    def _unclaimed(self, run: Run) -> int:
        """The first task of a run that the main thread cannot start any more; `limit[0]` must be 0."""
        current = self._table.words[CURRENT]
        if run is self.active and current:
            return current + 1
        return run.next

    # --- the main thread -------------------------------------------------------------------------------------------

    def turn(self, now_ns: int) -> list[Message]:
        """Between two tasks: report what is due, and say in `active` and `limit` what to run next.

        Args:
            now_ns: the clock that `Run.started_ns` is taken from.
        """
        self._table.words[CURRENT] = 0
        if self.active:
            self.active.started_ns = now_ns
            self.active = None
        while self._queue and self._queue[0].next >= self._queue[0].end:
            self._piled.append(self._queue.popleft())
        messages: list[Message] = []
        count = self._answered()
        if count and self._due(count):
            messages = self._collect()
        self._piled = [run for run in self._piled if run.outputs]
        if self._queue and self._unacknowledged_bytes <= MAX_UNACKNOWLEDGED_BYTES:
            self._activate(self._queue[0], now_ns)
        return messages

    def _activate(self, run: Run, now_ns: int) -> None:
        if not run.outputs:
            run.since_ns = now_ns
        run.started_ns = now_ns
        eager = self.connected and not self._unacknowledged
        self.limit[0] = run.next + 1 if eager else run.end
        self.active = run

    def _due(self, count: int) -> bool:
        if count >= MAX_CHUNK_TASKS or self._large_bytes() >= MAX_CHUNK_BYTES:
            return True
        return self.connected and (not self._unacknowledged or not self._queue)

    def succeeded(self) -> list[Message]:
        """Session enter returned."""
        self.entered = True
        return [SessionEntered()] if self.connected else []

    def enter_failed(self, failure: bytes) -> list[Message]:
        """Session enter, or what comes before it, failed with this `FailureRecord` JSON."""
        self._enter_failure = failure
        return [SessionEntered(failure)] if self.connected else []

    def left(self, failure: bytes) -> list[Message]:
        """Session leave returned, or failed with this `FailureRecord` JSON."""
        self._left = SessionLeft(failure)
        messages = self._collect() if self._answered() else []
        return [*messages, self._left] if self.connected else []

    @property
    def drained(self) -> bool:
        """Whether every output was reported and acknowledged."""
        return not self._unacknowledged and not self._answered()

    @property
    def idle(self) -> bool:
        """Whether there is nothing to run."""
        return not self._queue

    # --- reports ---------------------------------------------------------------------------------------------------

    def _holding(self) -> Iterator[Run]:
        yield from self._piled
        if self._queue:
            yield self._queue[0]

    def _answered(self) -> int:
        return sum(len(run.outputs) for run in self._holding())

    def _large_bytes(self) -> int:
        return sum(run.large_bytes for run in self._holding())

    def _collect(self) -> list[Message]:
        """Cut a report. The last of its tasks ended when the one that runs was started, or at the latest turn."""
        outcomes = tuple(run.collect(run.started_ns) for run in self._holding() if run.outputs)
        self._report += 1
        report = ReportOutcomes(report=self._report, outcomes=outcomes)
        self._unacknowledged.append(report)
        self._unacknowledged_bytes += _size(report)
        return [report] if self.connected else []

    def _share(self) -> list[HeldRange]:
        """Write what is held to the shared table, and return it."""
        held = merged(self._held())
        self._table.hold(held)
        return held

    def _held(self) -> Iterator[HeldRange]:
        for report in self._unacknowledged:
            for outcome in report.outcomes:
                yield HeldRange(outcome.attempt, outcome.first, outcome.count)
        for run in (*self._piled, *self._queue):
            if run.unreported < run.end:
                yield HeldRange(run.attempt, run.unreported, run.end - run.unreported)


def _size(report: ReportOutcomes) -> int:
    return sum(_outcome_size(outcome) for outcome in report.outcomes)


def _outcome_size(outcome: Outcome) -> int:
    return len(outcome.blob) + len(outcome.lengths) + len(outcome.states)
