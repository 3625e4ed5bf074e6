"""Events: facts that the core is told, and requests of callers that may be refused.

Messages of peers come as they are (`ClientSaid`, `ExecutorSaid`, `NodeSaid`); the core dispatches on the type of the
message. `caller` is the identity behind a request; there is one built-in identity until security arrives.
"""

from collections.abc import Sequence

import msgspec

from flame.model.messages import PeerMessage
from flame.model.records import SegmentRecord
from flame.model.specs import ApplicationSpec, SessionSpec

LOCAL_CALLER = "local"


class ClientSaid(msgspec.Struct, frozen=True):
    """A client sent a message on its link."""

    link: int
    message: PeerMessage
    caller: str = LOCAL_CALLER


class ClientLost(msgspec.Struct, frozen=True):
    """A client's link is over."""

    link: int


class ExecutorSaid(msgspec.Struct, frozen=True):
    """An executor's process sent a message; its first one is `AttachExecutor`."""

    executor: str
    binding: int
    link: int
    message: PeerMessage


class ExecutorLost(msgspec.Struct, frozen=True):
    """An executor's link is over. Its process may live on."""

    executor: str
    binding: int
    link: int


class NodeSaid(msgspec.Struct, frozen=True):
    """A node's executor manager sent a message; its first one is `JoinNode`."""

    node: str
    link: int
    message: PeerMessage


class NodeLost(msgspec.Struct, frozen=True):
    """A node's link is over. Its lease runs on."""

    node: str
    link: int


class ApplicationPutRequested(msgspec.Struct, frozen=True, kw_only=True):
    """Register an application, or with `update` change one."""

    request: int
    name: str
    spec: ApplicationSpec
    update: bool = False
    caller: str = LOCAL_CALLER


class ApplicationDeleteRequested(msgspec.Struct, frozen=True, kw_only=True):
    """Unregister an application."""

    request: int
    name: str
    caller: str = LOCAL_CALLER


class SessionCreateRequested(msgspec.Struct, frozen=True, kw_only=True):
    """Create a session; with `open_existing` an open one with an equal spec is as good (`spec` None: only that)."""

    request: int
    name: str
    spec: SessionSpec | None
    open_existing: bool = False
    caller: str = LOCAL_CALLER


class SessionCloseRequested(msgspec.Struct, frozen=True, kw_only=True):
    """Close a session: pending tasks become Cancelled, running ones finish."""

    request: int
    name: str
    caller: str = LOCAL_CALLER


class SessionDeleteRequested(msgspec.Struct, frozen=True, kw_only=True):
    """Delete a closed session with its tasks and results."""

    request: int
    name: str
    caller: str = LOCAL_CALLER


class TaskCreateRequested(msgspec.Struct, frozen=True, kw_only=True):
    """Create one task in the session manager's own block."""

    request: int
    session: str
    input: bytes
    caller: str = LOCAL_CALLER


class TaskWatchRequested(msgspec.Struct, frozen=True, kw_only=True):
    """Tell `watch` whenever the state of a task changes, and once at the start."""

    watch: int
    session: str
    task: int
    caller: str = LOCAL_CALLER


class TaskWatchEnded(msgspec.Struct, frozen=True):
    """Nobody is interested in a watch any more."""

    watch: int


class InputsLoaded(msgspec.Struct, frozen=True):
    """The answer to `LoadInputs`."""

    session: int
    first: int
    count: int
    lengths: bytes
    blob: bytes


class SegmentsRead(msgspec.Struct, frozen=True):
    """The answer to `ReadSegments`; no segments means that there is none up to the effect's `through`."""

    link: int
    attachment: int
    segments: Sequence[SegmentRecord]
    through: int


class RowsPurged(msgspec.Struct, frozen=True):
    """The answer to `PurgeRows`."""

    more: bool


class SpaceMeasured(msgspec.Struct, frozen=True):
    """How much room the store has."""

    free_bytes: int


class TimeReached(msgspec.Struct, frozen=True):
    """The time the core asked to be woken at has come."""


Event = (
    ClientSaid
    | ClientLost
    | ExecutorSaid
    | ExecutorLost
    | NodeSaid
    | NodeLost
    | ApplicationPutRequested
    | ApplicationDeleteRequested
    | SessionCreateRequested
    | SessionCloseRequested
    | SessionDeleteRequested
    | TaskCreateRequested
    | TaskWatchRequested
    | TaskWatchEnded
    | InputsLoaded
    | SegmentsRead
    | RowsPurged
    | SpaceMeasured
    | TimeReached
)
