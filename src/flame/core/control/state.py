"""The state of the core, and the turn that collects what it decides."""

from collections.abc import Sequence

import msgspec

from flame.core.control.effects import Effect, SendToClient, SendToExecutor, SendToNode
from flame.core.control.entities import Application, Attachment, Binding, Block, Executor, Node, Session, Settings
from flame.kernel.deadlines import Deadlines
from flame.model.errors import NotFound
from flame.model.limits import MAX_CHUNK_BYTES, MAX_CHUNK_TASKS
from flame.model.messages import ManagerMessage
from flame.model.records import ChunkRecord, PutChunk, Write

DeadlineName = tuple[str, str | int]
"""What a deadline is for (`lease`, `idle`, ...) and of which entity."""


class State(msgspec.Struct, kw_only=True):
    """Everything the core knows.

    Args:
        epoch: of this start of the session manager; the upper half of every attempt.
        live: sessions that are open or have executors; the others only wait to be read or deleted.
        counter: of attempts and executors, within the epoch.
        turn: number of the turn that is being made; `durable` is the last one whose commit is stored.
        places: executors that all nodes with a link take together, roughly.
        dirty: sessions whose queue or executors changed in this turn.
        replan: executors have to be placed again.
        contended: the last plan could not give every session what it wants.
        links: attachments of each link of a client, by number: a link that ends is not looked for among all.
        resident_bytes: payloads of queued tasks in memory.
        low_space: the store is nearly full; new work is refused.
    """

    settings: Settings
    epoch: int
    started_ms: int
    counter: int = 0
    last_session: int = 0
    turn: int = 1
    durable: int = 0
    applications: dict[str, Application] = msgspec.field(default_factory=dict)
    sessions: dict[int, Session] = msgspec.field(default_factory=dict)
    live: dict[int, Session] = msgspec.field(default_factory=dict)
    sessions_by_name: dict[str, Session] = msgspec.field(default_factory=dict)
    blocks_by_key: dict[str, tuple[Session, Block]] = msgspec.field(default_factory=dict)
    executors: dict[str, Executor] = msgspec.field(default_factory=dict)
    nodes: dict[str, Node] = msgspec.field(default_factory=dict)
    attachments: dict[tuple[int, int], Attachment] = msgspec.field(default_factory=dict)
    links: dict[int, dict[int, Attachment]] = msgspec.field(default_factory=dict)
    watches: dict[int, tuple[Session, int]] = msgspec.field(default_factory=dict)
    deadlines: Deadlines[DeadlineName] = msgspec.field(default_factory=Deadlines)
    places: int = 0
    dirty: dict[int, Session] = msgspec.field(default_factory=dict)
    replan: bool = False
    contended: bool = False
    resident_bytes: int = 0
    free_bytes: int = 1 << 62
    low_space: bool = False
    purging: bool = False

    def next_attempt(self) -> int:
        """A number that is larger than every attempt before, also across restarts."""
        self.counter += 1
        return self.epoch << 32 | self.counter

    def session_named(self, name: str) -> Session:
        """The session with this name; raises `NotFound`."""
        session = self.sessions_by_name.get(name)
        if session is None:
            raise NotFound(f"session {name!r} does not exist", hint="`flmctl list` shows the sessions")
        return session

    def touch(self, session: Session, binding: Binding | None = None) -> None:
        """Note that tasks of this session may have to move; with `binding`, that only this executor may take more."""
        self.dirty[session.record.number] = session
        if binding is None:
            session.unsettled = True
        else:
            session.stirred[binding.executor.id] = binding

    def count_places(self) -> None:
        """Add up again what the nodes take; after each change of a node's link or capacity."""
        self.places = sum(node.places for node in self.nodes.values())


class Batch(msgspec.Struct, frozen=True):
    """What a turn decided.

    Args:
        writes: to be committed, all or none, in order.
        now: effects that depend on nothing in `writes`; done before or while they are committed.
        after: effects that follow once `writes` are stored.
        wake_at_ms: when the core wants `TimeReached`, or None.
    """

    turn: int
    writes: Sequence[Write]
    now: Sequence[Effect]
    after: Sequence[Effect]
    wake_at_ms: int | None


class _Row(msgspec.Struct):
    """Chunks of one submitter that arrive in one turn, on their way to becoming one row."""

    session: int
    first: int
    count: int
    created_ms: int
    attributes: bytes
    lengths: list[bytes]
    blobs: list[bytes]
    nbytes: int

    def write(self) -> PutChunk:
        record = ChunkRecord(
            session=self.session,
            first=self.first,
            count=self.count,
            created_ms=self.created_ms,
            lengths=b"".join(self.lengths),
            blob=b"".join(self.blobs),
            attributes=self.attributes,
        )
        return PutChunk(record)


class Turn:
    """Collects the writes and effects of one turn.

    Chunks that continue each other are merged into one row, or a million single submissions cost a million rows.
    """

    __slots__ = ("_rows", "after", "for_executors", "now", "now_ms", "nbytes", "writes")

    def __init__(self, now_ms: int) -> None:
        self.now_ms = now_ms
        self.writes: list[Write] = []
        self.now: list[Effect] = []
        self.for_executors: list[Effect] = []
        """What follows the commit before all of `after`: executors begin while clients are told."""
        self.after: list[Effect] = []
        self.nbytes = 0
        self._rows: dict[int, _Row] = {}

    @property
    def after_commit(self) -> list[Effect]:
        """All that follows the commit, in this order."""
        return self.for_executors + self.after

    def store_chunk(self, session: int, first: int, count: int, lengths: bytes, blob: bytes, attributes: bytes) -> None:
        """Add submitted tasks to the row of their session, or begin a new row."""
        self.nbytes += len(blob)
        row = self._rows.get(session)
        if row is not None:
            if (
                row.first + row.count == first
                and row.count + count <= MAX_CHUNK_TASKS
                and row.nbytes + len(blob) <= MAX_CHUNK_BYTES
                and row.attributes == attributes
            ):
                row.count += count
                row.nbytes += len(blob)
                row.lengths.append(lengths)
                row.blobs.append(blob)
                return
            self.writes.append(row.write())
        self._rows[session] = _Row(session, first, count, self.now_ms, attributes, [lengths], [blob], len(blob))

    def finish_rows(self) -> None:
        """Move the rows that are still growing to the writes; before anything that refers to them."""
        for row in self._rows.values():
            self.writes.append(row.write())
        self._rows.clear()

    def client(self, link: int, message: ManagerMessage, *, lazy: bool = False) -> None:
        """Tell a client, once this turn is stored."""
        self.after.append(SendToClient(link, message, lazy))

    def executor(self, binding: Binding, message: ManagerMessage, *, stored: bool, lazy: bool = False) -> None:
        """Tell an executor, if it has a link: at once if all that it depends on is `stored` already."""
        if binding.link:
            effect = SendToExecutor(binding.executor.id, binding.number, message, binding.link, lazy)
            (self.now if stored else self.for_executors).append(effect)

    def node(self, node: Node, message: ManagerMessage, *, stored: bool = False) -> None:
        """Tell a node, if it has a link: at once if all that it depends on is `stored` already."""
        if node.link:
            (self.now if stored else self.after).append(SendToNode(node.name, message, node.link))
