"""The entities of the core: applications, sessions, executors, nodes, attachments.

States change in methods here, along the tables of `transitions`, and nowhere else. What the user wants (a session open
or closed) is kept apart from what was observed (which executors live). Entities refer to each other directly;
dictionaries in `State` are keyed by number, id or name.
"""

from collections import deque

import msgspec

from flame.core.control.queue import Chunk, Span, TaskQueue
from flame.core.control.transitions import EXECUTORS, NODES, SESSIONS, TASKS, NodeLife, TaskPlace
from flame.model.client_messages import CancelTasks
from flame.model.limits import BLOCK_TASKS, MAX_PROCESSES_PER_NODE
from flame.model.node_messages import ExecutorExited
from flame.model.ranges import Range
from flame.model.records import ApplicationRecord, SessionRecord
from flame.model.resources import Resources
from flame.model.states import ExecutorState, NodeState, SessionState


class Block(msgspec.Struct, kw_only=True):
    """Task ids [first, first + 2^32) granted to one submitter.

    Args:
        next_id: the next chunk has to begin here; everything before is stored or about to be.
        ended: a chunk was refused; nothing more is accepted.
        attachment: the live stream of its submitter, or None.
    """

    first: int
    key: str
    next_id: int
    ended: bool = False
    attachment: "Attachment | None" = None

    @property
    def end(self) -> int:
        """The id after the block."""
        return self.first + BLOCK_TASKS


class Attachment(msgspec.Struct, kw_only=True):
    """A client attached to a session, and the window of results sent to it.

    Args:
        block: the submitter's block; None for a reader, who gets all results.
        sent: sequence of the last segment sent.
        due: sequence of the newest segment it has to get.
        unseen: (sequence, bytes) of segments sent and not acknowledged.
        behind: results are read from the store until it has caught up.
        reading: a read is under way.
    """

    link: int
    number: int
    session: "Session"
    block: Block | None
    sent: int
    due: int = 0
    unseen: deque[tuple[int, int]] = msgspec.field(default_factory=deque)
    unseen_bytes: int = 0
    behind: bool = False
    reading: bool = False


class PendingCancel(msgspec.Struct, kw_only=True):
    """A cancel that waits for executors to give tasks back."""

    attachment: Attachment
    request: int
    first: int
    end: int
    waiting: list[str]
    cancelled: list[Range]


class Session(msgspec.Struct, kw_only=True):
    """A session with its queue.

    Args:
        bindings: its executors, by id.
        unaccounted: executors that were bound before this start and have not said yet what they hold. Until then
            nothing of the queue is handed out or cancelled: it may be running.
        postponed: cancels that wait for that.
        loading: chunks that are being read back, by first id.
        succeeded, failed, cancelled: tasks that are terminal.
        task_ns: measured time of a task; 0 before the first report.
        start_failures: failures to start or to enter, in a row; the next start is not before `start_after_ms`.
        unexplained_ends: of executors that held tasks, where nobody knows what they ran; in a row, without an outcome.
        used_ms: time of executors in reach, used until the last plan, as far as it counts against others.
        unbilled_ms: what it has used since then, until `unbilled_since_ms`.
        active: it has use for executors, and takes part in the rotation.
        wanted: executors it could use when it was last looked at.
        spilled: some queued payloads are not in memory.
        deleting: requests to delete it, answered when its last executor has left.
        ready: executors that could be given tasks when it was last dispatched as a whole.
        stirred: executors that reported since, by id; `unsettled`: more than that changed, all have to be looked at.
    """

    record: SessionRecord
    resources: Resources
    queue: TaskQueue = msgspec.field(default_factory=TaskQueue)
    blocks: dict[int, Block] = msgspec.field(default_factory=dict)
    own_block: Block | None = None
    bindings: dict[str, "Binding"] = msgspec.field(default_factory=dict)
    attachments: list[Attachment] = msgspec.field(default_factory=list)
    cancels: list[PendingCancel] = msgspec.field(default_factory=list)
    watches: dict[int, list[int]] = msgspec.field(default_factory=dict)
    deaths: dict[int, int] = msgspec.field(default_factory=dict)
    host_ends: dict[int, int] = msgspec.field(default_factory=dict)
    unaccounted: dict[str, None] = msgspec.field(default_factory=dict)
    postponed: list[tuple[Attachment, CancelTasks]] = msgspec.field(default_factory=list)
    loading: dict[int, Chunk] = msgspec.field(default_factory=dict)
    held_tasks: int = 0
    last_sequence: int = 0
    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0
    task_ns: float = 0.0
    start_failures: int = 0
    start_after_ms: int = 0
    unexplained_ends: int = 0
    used_ms: int = 0
    unbilled_ms: int = 0
    unbilled_since_ms: int = 0
    active: bool = False
    wanted: int = 0
    warning: str = ""
    spilled: bool = False
    deleting: list[int] = msgspec.field(default_factory=list)
    ready: int = 0
    stirred: dict[str, "Binding"] = msgspec.field(default_factory=dict)
    unsettled: bool = True

    def __post_init__(self) -> None:
        SESSIONS.check(None, self.record.state, self.record.name)

    @property
    def number(self) -> int:
        """Its number, never used again."""
        return self.record.number

    @property
    def open(self) -> bool:
        """Whether it takes tasks."""
        return self.record.state is SessionState.OPEN

    @property
    def unfinished(self) -> int:
        """Tasks that are not terminal."""
        return self.queue.tasks + self.held_tasks

    @property
    def staying(self) -> int:
        """Executors that are not on their way out."""
        return sum(binding.stays for binding in self.bindings.values())

    def account(self, now_ms: int) -> None:
        """Add up the executor time used; before each change of its executors, and of what serves of them."""
        if now_ms != self.unbilled_since_ms:
            serving = sum(binding.serves for binding in self.bindings.values())
            self.unbilled_ms += serving * (now_ms - self.unbilled_since_ms)
            self.unbilled_since_ms = now_ms

    def bill(self, now_ms: int) -> None:
        """Count what it has used until now against others: for all sessions at the same time, before a plan."""
        self.account(now_ms)
        self.used_ms += self.unbilled_ms
        self.unbilled_ms = 0

    def move(self, old: TaskPlace | None, new: TaskPlace, count: int) -> None:
        """Some of its tasks change their place: along the table, and counted. The queue counts what is in it."""
        TASKS.check(old, new, f"of session {self.record.number}")
        if old is TaskPlace.HELD:
            self.held_tasks -= count
        if new is TaskPlace.HELD:
            self.held_tasks += count
        elif new is TaskPlace.SUCCEED:
            self.succeeded += count
        elif new is TaskPlace.FAILED:
            self.failed += count
        elif new is TaskPlace.CANCELLED:
            self.cancelled += count

    def close(self, now_ms: int) -> None:
        """It takes no more tasks."""
        SESSIONS.check(self.record.state, SessionState.CLOSED, self.record.name)
        self.record = msgspec.structs.replace(self.record, state=SessionState.CLOSED, closed_ms=now_ms)


class Held(msgspec.Struct):
    """What is left of one assignment: spans, and the bytes it was given with."""

    spans: list[Span]
    nbytes: int


class Binding(msgspec.Struct, kw_only=True):
    """An executor bound to a session: one process, and what it holds.

    Args:
        number: the attempt under which it was bound.
        turn: number of the turn whose commit stores it.
        link: its process's link, or 0.
        newest_link: the last one it attached on. What it said on an earlier one and comes later is out of date.
        held: what it was given and has not reported, by attempt, oldest first.
        credit: tasks it may hold; doubles with each report up to what its time allows.
        retracting: request number of the retract that is not answered yet, or 0.
        giving_back: it was told to leave, and has not given back yet what it has not started.
        retract_empty: the last retract gave nothing back; none follows before the next report or assignment.
        changed_ms: when it was last given tasks or reported some.
        exit: its process is gone, and the end of its link is awaited.
    """

    executor: "Executor"
    session: Session
    number: int
    turn: int
    since_ms: int
    link: int = 0
    newest_link: int = 0
    entered: bool = False
    leaving: bool = False
    held: dict[int, Held] = msgspec.field(default_factory=dict)
    held_tasks: int = 0
    held_bytes: int = 0
    credit: int = 2
    retracting: int = 0
    retract_empty: bool = False
    giving_back: bool = False
    changed_ms: int = 0
    idle_since_ms: int = 0
    exit: ExecutorExited | None = None
    log_path: str = ""
    pid: int = 0

    @property
    def serves(self) -> bool:
        """Whether anybody hears of it: one that is out of reach, as its node is, is not counted as used."""
        return self.link != 0 or self.executor.node.link != 0

    @property
    def stays(self) -> bool:
        """Whether it is not on its way out."""
        return not self.leaving and self.exit is None

    @property
    def ready(self) -> bool:
        """Whether it can be given tasks."""
        return self.entered and self.link != 0 and self.stays


class Executor(msgspec.Struct, kw_only=True):
    """An executor: a place on a node, bound to at most one session at a time."""

    id: str
    node: "Node"
    resources: Resources
    state: ExecutorState
    since_ms: int
    binding: Binding | None = None
    application: str = ""
    log_path: str = ""

    def __post_init__(self) -> None:
        EXECUTORS.check(None, self.state, self.id)

    def move(self, state: ExecutorState, now_ms: int) -> None:
        """Change the state; only along the table."""
        EXECUTORS.check(self.state, state, self.id)
        self.state = state
        self.since_ms = now_ms


class Node(msgspec.Struct, kw_only=True):
    """A node: what it offers, and until when it may be trusted to run its executors.

    Args:
        life: what is known of it; it has a link while that is `READY`.
        link: its link, or 0; `newest_link`: the last one it joined on.
        lease_end_ms: after this all its executors are dead: the end of its lease, and `LEASE_MARGIN_MS` to kill them.
    """

    name: str
    life: NodeLife = NodeLife.AWAITED
    instance: str = ""
    link: int = 0
    newest_link: int = 0
    capacity: Resources = Resources()
    max_executors: int = 0
    lease_end_ms: int = 0
    last_seen_ms: int = 0
    host: str = ""
    arch: str = ""
    os: str = ""
    executors: dict[str, Executor] = msgspec.field(default_factory=dict)

    def __post_init__(self) -> None:
        NODES.check(None, self.life, self.name)

    def move(self, life: NodeLife, link: int = 0) -> None:
        """Change what is known of it, along the table; with its link, if it has one from now on."""
        NODES.check(self.life, life, self.name)
        self.life = life
        self.link = link

    @property
    def most_executors(self) -> int:
        """How many executors it takes at most, whatever they need: its limit, and what it can list when it joins."""
        return min(self.max_executors or MAX_PROCESSES_PER_NODE, MAX_PROCESSES_PER_NODE)

    @property
    def places(self) -> int:
        """How many executors it takes, roughly; 0 while it is silent."""
        return min(self.max_executors or self.capacity.cpu or 1, self.most_executors) if self.link else 0

    @property
    def state(self) -> NodeState:
        """As shown to users."""
        return NodeState.READY if self.link else NodeState.NOT_READY


class Application(msgspec.Struct, kw_only=True):
    """A registered application and how many open sessions use it."""

    record: ApplicationRecord
    open_sessions: int = 0


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What the configuration says, as far as the core needs it."""

    store_id: str = ""
    max_task_bytes: int
    lease_ms: int
    start_timeout_ms: int
    enter_timeout_ms: int
    delay_release_ms: int
    low_space_bytes: int
    default_resources: Resources
    resident_input_bytes: int
    result_window_bytes: int
