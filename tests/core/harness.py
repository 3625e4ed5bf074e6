"""The core on a store in memory, with peers that say what a test tells them to."""

from collections.abc import Sequence
from typing import Any

import msgspec

from flame.core.control import invariants
from flame.core.control.effects import (
    Effect,
    LoadInputs,
    PurgeRows,
    ReadSegments,
    SendToClient,
    SendToExecutor,
    SendToNode,
)
from flame.core.control.entities import Binding, Session, Settings
from flame.core.control.events import (
    ApplicationPutRequested,
    ClientLost,
    ClientSaid,
    Event,
    ExecutorLost,
    ExecutorSaid,
    InputsLoaded,
    NodeLost,
    NodeSaid,
    RowsPurged,
    SegmentsRead,
    SessionCloseRequested,
    TimeReached,
)
from flame.core.control.recovery import recover
from flame.core.control.state import Batch, State
from flame.model.chunk import pack
from flame.model.client_messages import AttachSession, SubmitChunk
from flame.model.executor_messages import (
    AssignTasks,
    AttachExecutor,
    Outcome,
    ReportOutcomes,
    SessionEntered,
    TasksRetracted,
)
from flame.model.limits import BLOCK_TASKS
from flame.model.messages import ManagerMessage, PeerMessage
from flame.model.node_messages import ExecutorExited, ExecutorReport, JoinNode
from flame.model.ranges import HeldRange
from flame.model.resources import Resources
from flame.model.specs import ApplicationSpec, SessionSpec
from flame.model.states import TaskState
from flame.session_manager.pump import Pump
from flame.stores.memory import MemoryStore

SETTINGS = Settings(
    store_id="test",
    max_task_bytes=1000,
    lease_ms=30_000,
    start_timeout_ms=30_000,
    enter_timeout_ms=60_000,
    delay_release_ms=60_000,
    low_space_bytes=1000,
    default_resources=Resources(cpu=1),
    resident_input_bytes=1 << 24,
    result_window_bytes=8 << 20,
)


class Core:
    """A session manager without I/O, in time that a test moves.

    Every event is a turn of its own; its writes are committed at once. What the store is asked for is answered in the
    next turn. The invariants are checked after each.

    Attributes:
        effects: of the turns since the last `take`, in order.
        writes: as `effects`.
    """

    def __init__(self, spec: ApplicationSpec | None = None, **settings: Any) -> None:
        self.settings = msgspec.structs.replace(SETTINGS, **settings)
        self.store = MemoryStore()
        self.store.store_id = "test"
        self.now_ms = 1_000
        self.links: dict[str, int] = {}
        self.effects: list[Effect] = []
        self.writes: list[Any] = []
        self._last_link = 0
        self._reports = 0
        self.restart()
        self.turn(ApplicationPutRequested(request=1, name="app", spec=spec or ApplicationSpec(service="m:C")))

    def restart(self) -> None:
        """A new session manager on the same store; nobody is connected."""
        epoch = self.store.open()
        self.state: State = recover(self.store.recover(), self.settings, epoch, self.now_ms)
        self.pump = Pump(self.state)
        self.links.clear()
        self.turn(TimeReached())

    def turn(self, *events: Event) -> Batch:
        """Handle events in one turn, commit, and answer what was asked of the store."""
        for event in events:
            self.pump.offer(event)
        batch = self.pump.turn(self.now_ms)
        self.store.commit(self.state.epoch, batch.writes)
        self.pump.committed(batch.turn)
        self.writes.extend(batch.writes)
        self.effects.extend((*batch.now, *batch.after))
        invariants.check(self.state)
        invariants.check_settled(self.state, self.now_ms)
        answers = [answer for effect in batch.after if (answer := self._answer(effect)) is not None]
        if answers:
            self.turn(*answers)
        return batch

    def _answer(self, effect: Effect) -> Event | None:
        match effect:
            case LoadInputs(session=session, first=first, count=count):
                return InputsLoaded(session, first, count, *self.store.read_inputs(session, first, count))
            case ReadSegments(session=session, after=after, block=first):
                block = range(first, first + BLOCK_TASKS) if first else None
                segments = self.store.read_segments(session, after, effect.limit_bytes, block)
                return SegmentsRead(effect.link, effect.attachment, segments, effect.through)
            case PurgeRows():
                return RowsPurged(self.store.purge(1000))
        return None

    def take(self) -> list[Effect]:
        """The effects since the last time."""
        effects, self.effects = self.effects, []
        self.writes = []
        return effects

    def advance(self, milliseconds: int) -> None:
        """Let time pass, waking the core when it asked for it."""
        end_ms = self.now_ms + milliseconds
        while (wake_ms := self.state.deadlines.next_ms()) is not None and wake_ms <= end_ms:
            self.now_ms = max(self.now_ms, wake_ms)
            self.turn(TimeReached())
        self.now_ms = end_ms

    def sent(self, kind: type[Any]) -> list[Any]:
        """Messages of a kind among the effects since the last `take`."""
        sends = (SendToClient, SendToExecutor, SendToNode)
        messages = [effect.message for effect in self.effects if isinstance(effect, sends)]
        return [message for message in messages if isinstance(message, kind)]

    # --- peers -------------------------------------------------------------------------------------------------------

    def link(self, name: str) -> int:
        """The link of a peer; a new one if it has none."""
        if name not in self.links:
            self._last_link += 1
            self.links[name] = self._last_link
        return self.links[name]

    def client(self, name: str, message: PeerMessage) -> None:
        """A client says something."""
        self.turn(ClientSaid(self.link(name), message))

    def attach(self, name: str, session: str = "", **fields: Any) -> None:
        """A client creates a session, or attaches to one if `create=None`; as attachment 1, with its name as key."""
        defaults: dict[str, Any] = {
            "create": SessionSpec(application="app"),
            "submit": True,
            "key": name,
            "attachment": 1,
        }
        self.client(name, AttachSession(session_id=session, **(defaults | fields)))

    def submit(self, name: str, first: int, count: int, nbytes: int = 1, **fields: Any) -> None:
        """A client submits a chunk of tasks; each input is its id, cut and filled to `nbytes`."""
        lengths, blob = pack([str(task).encode().ljust(nbytes, b".")[:nbytes] for task in range(first, first + count)])
        message = SubmitChunk(attachment=1, first=first, count=count, lengths=lengths, blob=blob, **fields)
        self.client(name, message)

    def lose_client(self, name: str) -> None:
        """A client's link ends."""
        self.turn(ClientLost(self.links.pop(name)))

    def join(self, name: str = "n1", cpu: int = 2, **fields: Any) -> None:
        """A node joins, on a link of its own; what it reports is in `fields`."""
        self.links.pop(name, None)
        defaults: dict[str, Any] = {"capacity": Resources(cpu=cpu), "instance": "one"}
        self.turn(NodeSaid(name, self.link(name), JoinNode(node=name, **(defaults | fields))))

    def lose_node(self, name: str) -> None:
        """A node's link ends."""
        self.turn(NodeLost(name, self.links.pop(name)))

    def node(self, name: str, message: PeerMessage) -> None:
        """A node says something."""
        self.turn(NodeSaid(name, self.link(name), message))

    def binding(self, executor: str) -> Binding:
        """The binding of an executor."""
        binding = self.state.executors[executor].binding
        assert binding is not None
        return binding

    def executor(self, executor: str, message: PeerMessage) -> None:
        """An executor's process says something."""
        self.turn(ExecutorSaid(executor, self.binding(executor).number, self.link(executor), message))

    def start(
        self, executor: str, *, held: Sequence[HeldRange] = (), entered: bool = False, enter: bool = True
    ) -> None:
        """An executor's process attaches on a new link, and enters."""
        binding = self.binding(executor)
        self.links.pop(executor, None)
        message = AttachExecutor(
            executor=executor,
            binding=binding.number,
            session=binding.session.record.number,
            held=tuple(held),
            entered=entered,
        )
        self.executor(executor, message)
        if enter and not entered and executor in self.state.executors:
            self.executor(executor, SessionEntered())

    def start_all(self) -> list[str]:
        """Start every executor that is bound and has no link yet; returns their ids."""
        started = []
        for executor in list(self.state.executors.values()):
            if executor.binding is not None and not executor.binding.link and not executor.binding.leaving:
                self.start(executor.id)
                started.append(executor.id)
        return started

    def held(self, executor: str) -> list[HeldRange]:
        """What the core thinks an executor holds."""
        binding = self.binding(executor)
        return [HeldRange(attempt, span.first, span.count) for attempt, h in binding.held.items() for span in h.spans]

    def report(
        self, executor: str, count: int = 1 << 30, state: TaskState = TaskState.SUCCEED, each_us: int = 100
    ) -> None:
        """An executor finishes the first `count` tasks that it holds; each output is the task's id."""
        outcomes = []
        for part in self.held(executor):
            taken = min(count, part.count)
            if not taken:
                break
            count -= taken
            outcomes.append(outcome(part.attempt, part.first, taken, state, each_us))
        self._reports += 1
        self.executor(executor, ReportOutcomes(report=self._reports, outcomes=tuple(outcomes)))

    def give_back(self, executor: str, request: int, *ranges: HeldRange) -> None:
        """An executor answers a retract."""
        self.executor(executor, TasksRetracted(request=request, ranges=ranges))

    def lose_executor(self, executor: str) -> None:
        """The link of an executor's process ends."""
        self.turn(ExecutorLost(executor, self.binding(executor).number, self.links.pop(executor)))

    def exit(self, executor: str, **fields: Any) -> None:
        """An executor's process ends, and its link with it."""
        binding = self.binding(executor)
        node = binding.executor.node.name
        fields = {"entered": binding.entered} | fields
        message = ExecutorExited(executor=executor, binding=binding.number, session=binding.session.number, **fields)
        self.node(node, message)
        if executor in self.links:
            self.turn(ExecutorLost(executor, binding.number, self.links.pop(executor)))

    def listed(self, executor: str, held: Sequence[HeldRange] | None = (), *, entered: bool = True) -> ExecutorReport:
        """What a node says about an executor that lives."""
        binding = self.binding(executor)
        return ExecutorReport(
            executor=executor,
            binding=binding.number,
            session=binding.session.number,
            held=None if held is None else tuple(held),
            entered=entered,
        )

    def close(self, session: str) -> None:
        """Somebody closes a session."""
        self.turn(SessionCloseRequested(request=1, name=session))

    def session(self, name: str) -> Session:
        """A session by name."""
        return self.state.session_named(name)

    def assigned(self) -> dict[str, int]:
        """How many tasks each executor holds."""
        return {
            executor.id: executor.binding.held_tasks
            for executor in self.state.executors.values()
            if executor.binding is not None
        }


def outcome(attempt: int, first: int, count: int, state: TaskState = TaskState.SUCCEED, each_us: int = 100) -> Outcome:
    """The outcome of a run of tasks; each output is the task's id."""
    lengths, blob = pack([str(task).encode() for task in range(first, first + count)])
    return Outcome(
        attempt=attempt,
        first=first,
        count=count,
        state=state,
        lengths=lengths,
        blob=blob,
        busy_ns=count * each_us * 1_000,
    )


def one_session(cpu: int = 2, tasks: int = 0, **settings: Any) -> Core:
    """A node, and client `a` with a session `app-000001` and some tasks; nothing is started yet."""
    core = Core(**settings)
    core.join(cpu=cpu)
    core.attach("a")
    if tasks:
        core.submit("a", 1, tasks)
    return core


def assigned_ranges(messages: Sequence[ManagerMessage]) -> list[tuple[int, int]]:
    """First and count of each assignment."""
    return [(message.first, message.count) for message in messages if isinstance(message, AssignTasks)]
