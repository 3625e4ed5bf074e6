"""The state tables: what sessions, tasks, executors and nodes go through, and when; each change is checked here.

Entities change by their own methods (`Session.close`, `Session.move`, `Executor.move`, `Node.move`), and these ask the
table. Tasks are moved by ranges, never one by one. `docs/concepts/states.md` is drawn from these tables.
"""

from collections.abc import Mapping
from enum import IntEnum
from typing import Generic, TypeVar

from flame.model.states import ExecutorState, SessionState

State = TypeVar("State", bound=IntEnum)


class TaskPlace(IntEnum):
    """Where a task is for the core, which knows ranges: not which task of a range runs just now."""

    QUEUED = 0
    HELD = 1
    SUCCEED = 2
    FAILED = 3
    CANCELLED = 4


class NodeLife(IntEnum):
    """What is known of a node."""

    AWAITED = 0
    READY = 1
    SILENT = 2
    EXPIRED = 3


class Table(Generic[State]):
    """The states of a kind of entity, and its moves: from, to and when. None is before the first and after the last.

    Example:
        >>> EXECUTORS.check(ExecutorState.BINDING, ExecutorState.BOUND, "1-1")
        >>> EXECUTORS.check(ExecutorState.RELEASED, ExecutorState.BOUND, "1-1")
        Traceback (most recent call last):
        AssertionError: executor 1-1: RELEASED -> BOUND is not in the table
    """

    __slots__ = ("_ways", "entity", "moves", "states")

    def __init__(
        self, entity: str, states: Mapping[State, str], moves: Mapping[tuple[State | None, State | None], str]
    ) -> None:
        self.entity = entity
        self.states = states
        self.moves = moves
        self._ways = _ways(moves)

    def check(self, old: State | None, new: State | None, name: str = "") -> None:
        """Say that the entity called `name` goes from one state to another; raises `AssertionError` if it may not."""
        if (old, new) not in self.moves:
            raise AssertionError(f"{self.entity} {name}: {title(old)} -> {title(new)} is not in the table")

    def leads(self, old: State | None, new: State | None) -> bool:
        """Whether any number of moves, none included, leads from one state to another."""
        return old is new or (old, new) in self._ways


def title(state: IntEnum | None) -> str:
    """A state's name, as in messages and counts."""
    return "nothing" if state is None else state.name


def _ways(
    moves: Mapping[tuple[State | None, State | None], str],
) -> dict[tuple[State | None, State | None], None]:
    """The pairs of states that one or more moves connect, in one life of an entity."""
    ways = dict.fromkeys(moves)
    while True:
        more = [(a, d) for a, b in ways for c, d in moves if b is c is not None and (a, d) not in ways]
        if not more:
            return ways
        ways.update(dict.fromkeys(more))


SESSIONS = Table(
    "session",
    {
        SessionState.OPEN: "It takes tasks.",
        SessionState.CLOSED: "It takes no more tasks, and finishes what runs. Its results can be read.",
    },
    {
        (None, SessionState.OPEN): "A client creates it; or a session manager that starts finds it in the store.",
        (None, SessionState.CLOSED): "A session manager that starts finds it in the store.",
        (SessionState.OPEN, SessionState.CLOSED): "Somebody closes it.",
        (SessionState.CLOSED, None): "Somebody deletes it; all its tasks are terminal and its executors have left.",
    },
)

TASKS = Table(
    "task",
    {
        TaskPlace.QUEUED: "It waits in its session's queue. Published as Pending.",
        TaskPlace.HELD: "It was handed to an executor. Published as Running where it is the first that the executor "
        "holds, else as Pending.",
        TaskPlace.SUCCEED: "Its output is stored.",
        TaskPlace.FAILED: "Why it failed is stored.",
        TaskPlace.CANCELLED: "It did not run to its end, and will not.",
    },
    {
        (None, TaskPlace.QUEUED): "Its chunk is accepted; or a session manager that starts finds it in the store "
        "without an outcome.",
        (TaskPlace.QUEUED, TaskPlace.HELD): "It is handed out; or, after a restart of the session manager, an executor "
        "says that it holds it, or has died of it.",
        (TaskPlace.QUEUED, TaskPlace.FAILED): "No executor of its session could start, five times in a row.",
        (TaskPlace.QUEUED, TaskPlace.CANCELLED): "It is cancelled, or its session closed.",
        (TaskPlace.HELD, TaskPlace.QUEUED): "Its executor gave it back unstarted, never got it, or is gone.",
        (TaskPlace.HELD, TaskPlace.SUCCEED): "Its executor reports its output.",
        (TaskPlace.HELD, TaskPlace.FAILED): "Its executor reports that it raised; or an executor died while it ran, "
        "for the third time (for the tenth, if its node's fork server ended).",
        (TaskPlace.HELD, TaskPlace.CANCELLED): "It comes back as above, and is cancelled or its session is closed.",
    },
)

EXECUTORS = Table(
    "executor",
    {
        ExecutorState.VOID: "It has a place on a node; no process was ever asked for.",
        ExecutorState.BINDING: "Its process starts and enters the session.",
        ExecutorState.BOUND: "Session enter has returned: it can be given tasks.",
        ExecutorState.UNBINDING: "It leaves the session after the task that it runs.",
        ExecutorState.IDLE: "It keeps its place on the node, without a process.",
        ExecutorState.RELEASED: "Its place is free.",
    },
    {
        (None, ExecutorState.VOID): "The scheduler has found a place for it.",
        (None, ExecutorState.BINDING): "A session manager that starts finds it bound to an open session in the store.",
        (None, ExecutorState.UNBINDING): "A session manager that starts finds it bound to a closed session in the "
        "store.",
        (ExecutorState.VOID, ExecutorState.BINDING): "It is bound to a session.",
        (ExecutorState.BINDING, ExecutorState.BOUND): "Session enter has returned.",
        (ExecutorState.BINDING, ExecutorState.UNBINDING): "Its session is closed, or somebody else has a better right "
        "to its place, before it has entered.",
        (ExecutorState.BINDING, ExecutorState.IDLE): "Its process could not start or enter, or its node is lost.",
        (ExecutorState.BOUND, ExecutorState.UNBINDING): "Its session is closed or has no use for it, or somebody else "
        "has a better right to its place.",
        (ExecutorState.BOUND, ExecutorState.IDLE): "Its process has ended, or its node is lost.",
        (ExecutorState.UNBINDING, ExecutorState.IDLE): "Its process has ended, or its node is lost.",
        (ExecutorState.IDLE, ExecutorState.BINDING): "It is bound to another session.",
        (ExecutorState.IDLE, ExecutorState.RELEASED): "Nobody needs it for a while; at once, unless it has left a "
        "closed session in order.",
    },
)

NODES = Table(
    "node",
    {
        NodeLife.AWAITED: "It is known by name only. Published as NotReady.",
        NodeLife.READY: "It has a link, and takes executors. Published as Ready.",
        NodeLife.SILENT: "Its link is lost: its executors may go on until its lease is over. Published as NotReady.",
        NodeLife.EXPIRED: "Its lease is over: its executors are dead. Published as NotReady.",
    },
    {
        (None, NodeLife.AWAITED): "It joins for the first time; or a session manager that starts finds executors on it "
        "in the store.",
        (NodeLife.AWAITED, NodeLife.READY): "It joins.",
        (NodeLife.AWAITED, NodeLife.EXPIRED): "It has not joined for as long as a lease since the session manager "
        "started.",
        (NodeLife.READY, NodeLife.READY): "It joins on a new link, and the end of the former one was not seen.",
        (NodeLife.READY, NodeLife.SILENT): "Its link is lost.",
        (NodeLife.READY, NodeLife.EXPIRED): "It has sent no ping for as long as a lease; its link is cut.",
        (NodeLife.SILENT, NodeLife.READY): "It joins again.",
        (NodeLife.SILENT, NodeLife.EXPIRED): "Its lease is over.",
        (NodeLife.EXPIRED, NodeLife.READY): "It joins again.",
        (NodeLife.EXPIRED, None): "It has been silent for ten minutes more.",
    },
)

TABLES: tuple[Table[SessionState] | Table[TaskPlace] | Table[ExecutorState] | Table[NodeLife], ...] = (
    SESSIONS,
    TASKS,
    EXECUTORS,
    NODES,
)
"""All tables."""
