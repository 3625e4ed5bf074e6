"""Effects: what the core wants done. Imperative; each that starts an operation ends as exactly one event."""

import msgspec

from flame.model.errors import Rejection
from flame.model.messages import ManagerMessage


class SendToClient(msgspec.Struct, frozen=True):
    """Send a message on a client's link. Ends in no event: a lost link is the event.

    Args:
        lazy: nobody waits for it at once: what wakes up those who do goes first, on whatever link.
    """

    link: int
    message: ManagerMessage
    lazy: bool = False


class SendToExecutor(msgspec.Struct, frozen=True):
    """Send a message to the process of an executor's binding.

    It goes to the link on which the process presented itself and to no newer one: on that the process has said already
    what it holds, and what it gets afterwards would be given to somebody else as well.

    Args:
        lazy: as in `SendToClient`.
    """

    executor: str
    binding: int
    message: ManagerMessage
    link: int
    lazy: bool = False


class SendToNode(msgspec.Struct, frozen=True):
    """Send a message to a node's executor manager, on the link on which it joined and on no newer one."""

    node: str
    message: ManagerMessage
    link: int


class DropExecutorLink(msgspec.Struct, frozen=True):
    """Close the link of an executor's process that has no business here (any more)."""

    executor: str
    binding: int
    link: int
    error: Rejection


class DropNodeLink(msgspec.Struct, frozen=True):
    """Close a node's link, saying why."""

    node: str
    link: int
    error: Rejection


class Answer(msgspec.Struct, frozen=True):
    """Answer a request: with an error, or with what it made (a name of an application or session, or a task id)."""

    request: int
    error: Rejection | None = None
    session: int = 0
    task: int = 0


class TellWatch(msgspec.Struct, frozen=True):
    """A watched task changed, or the watch is refused; `last` ends it."""

    watch: int
    session: int
    task: int
    last: bool
    error: Rejection | None = None


class LoadInputs(msgspec.Struct, frozen=True):
    """Read payloads back from the store; ends as `InputsLoaded`."""

    session: int
    first: int
    count: int


class ReadSegments(msgspec.Struct, frozen=True):
    """Read results for a client that catches up; ends as `SegmentsRead`.

    Args:
        after: only segments with a sequence above.
        through: the session's last sequence when the effect was made.
        block: first id of the block to read, or 0 for all.
    """

    link: int
    attachment: int
    session: int
    after: int
    through: int
    block: int
    limit_bytes: int


class PurgeRows(msgspec.Struct, frozen=True):
    """Delete some rows of deleted sessions; ends as `RowsPurged`."""


Effect = (
    SendToClient
    | SendToExecutor
    | SendToNode
    | DropExecutorLink
    | DropNodeLink
    | Answer
    | TellWatch
    | LoadInputs
    | ReadSegments
    | PurgeRows
)
