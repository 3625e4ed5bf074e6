"""What peers say to each other on a stream, as data.

One message is one value of these structs; `flame.wire` turns it into MessagePack for frames or a protobuf envelope of
package `flame.v1` for gRPC, and back; the field with the large payload comes last. A stream is a long-lived,
bidirectional, ordered sequence of messages between a peer (client, executor or node) and the session manager. It starts
with `Hello` from the peer and `Welcome` (or `Refused`) from the manager.

`lengths` columns and blobs are as in `flame.model.records`. Attempts and bindings are integers:
`epoch << 32 | counter`, so that a larger one is newer.
"""

from enum import IntEnum
from typing import Annotated

import msgspec

from flame.model.client_messages import (
    AcknowledgeSegments,
    AttachmentEnded,
    AttachSession,
    CancelTasks,
    ChunkAcknowledged,
    ChunkRefused,
    DetachSession,
    Segment,
    SessionAttached,
    SessionChanged,
    SubmitChunk,
    TasksCancelled,
)
from flame.model.errors import Rejection
from flame.model.executor_messages import (
    AcknowledgeReport,
    AssignTasks,
    AttachExecutor,
    EnterSession,
    LeaveSession,
    ReportOutcomes,
    RetractTasks,
    SessionEntered,
    SessionLeft,
    TasksRetracted,
)
from flame.model.limits import MAX_CAPABILITIES
from flame.model.node_messages import (
    AcknowledgeExit,
    BindExecutor,
    EndExecutor,
    ExecutorExited,
    ExecutorStarted,
    JoinNode,
    NodeJoined,
    PingNode,
    PongNode,
)
from flame.model.ranges import Number

PROTOCOL_VERSION = 1


class Role(IntEnum):
    """What a peer is."""

    CLIENT = 0
    EXECUTOR = 1
    NODE = 2


class Hello(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """First message of a peer.

    Args:
        version: `PROTOCOL_VERSION` of the peer.
        software: name and version of the peer's software, for logs.
        store_id: the store it talked to before, or empty. With another id the manager answers `Refused`
            (code ABORTED): an executor ends itself and a client fails its futures.
        epoch: the highest epoch it has seen, or 0. A manager with a lower one is refused by the peer.
        client: of a client, a random id, the same on all its connections, or empty: it has one connection at a time,
            so a new one ends the former, and what is still to be read there counts no more.
    """

    role: Role
    version: Number = PROTOCOL_VERSION
    software: str = ""
    capabilities: Annotated[tuple[str, ...], msgspec.Meta(max_length=MAX_CAPABILITIES)] = ()
    store_id: str = ""
    epoch: Number = 0
    client: str = ""


class Welcome(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """First message of the session manager.

    Args:
        frames_endpoint: where the frame carrier listens (`unix:///...` or `frames://host:port`), or empty.
        max_task_bytes: largest input and output of one task.
    """

    version: Number = PROTOCOL_VERSION
    software: str = ""
    capabilities: tuple[str, ...] = ()
    store_id: str = ""
    epoch: Number = 0
    frames_endpoint: str = ""
    max_task_bytes: Number = 0


class Refused(msgspec.Struct, frozen=True, tag=True):
    """The manager ends the stream, and says why. Always the last message."""

    error: Rejection


class Call(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A unary request on the stream: `method` is the full gRPC name, e.g. `/flame.v1.Frontend/GetSession`;
    `payload` its protobuf request. `id` is chosen by the client, unique on its stream."""

    id: Number
    method: str
    payload: bytes


class Reply(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The answer to `Call` with the same id: a protobuf response, or an error."""

    id: Number
    error: Rejection | None = None
    payload: bytes = b""


PeerMessage = (
    Hello
    | Call
    | AttachSession
    | SubmitChunk
    | CancelTasks
    | AcknowledgeSegments
    | DetachSession
    | AttachExecutor
    | SessionEntered
    | ReportOutcomes
    | TasksRetracted
    | SessionLeft
    | JoinNode
    | PingNode
    | ExecutorStarted
    | ExecutorExited
)
"""What a peer sends to the session manager."""


ManagerMessage = (
    Welcome
    | Refused
    | Reply
    | SessionAttached
    | AttachmentEnded
    | ChunkAcknowledged
    | ChunkRefused
    | Segment
    | TasksCancelled
    | SessionChanged
    | EnterSession
    | AssignTasks
    | RetractTasks
    | AcknowledgeReport
    | LeaveSession
    | NodeJoined
    | PongNode
    | BindExecutor
    | EndExecutor
    | AcknowledgeExit
)
"""What the session manager sends to a peer."""


Message = PeerMessage | ManagerMessage
