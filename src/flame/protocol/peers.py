"""The session manager's end of a stream: who is there, and what it may say.

Pure: it takes messages and answers with events for the core, calls for the frontend, and messages for the peer.
"""

from collections.abc import Callable
from typing import Generic, TypeVar

import msgspec

from flame.model.client_messages import AcknowledgeSegments, AttachSession, CancelTasks, DetachSession, SubmitChunk
from flame.model.errors import Rejection
from flame.model.executor_messages import AttachExecutor, ReportOutcomes, SessionEntered, SessionLeft, TasksRetracted
from flame.model.limits import MAX_CLIENT_ID_CHARS
from flame.model.messages import PROTOCOL_VERSION, Call, Hello, Message, Refused, Role, Welcome
from flame.model.node_messages import ExecutorExited, ExecutorStarted, JoinNode, PingNode

_MAY_SAY: dict[Role, tuple[type[msgspec.Struct], ...]] = {
    Role.CLIENT: (AttachSession, SubmitChunk, CancelTasks, AcknowledgeSegments, DetachSession, Call),
    Role.EXECUTOR: (AttachExecutor, SessionEntered, ReportOutcomes, TasksRetracted, SessionLeft),
    Role.NODE: (JoinNode, PingNode, ExecutorStarted, ExecutorExited),
}


AnyLink = TypeVar("AnyLink")


class ClientLinks(Generic[AnyLink]):
    """The link of each client that says who it is.

    A client has one connection at a time. On a former one, of which only the client knows that it is over, there may
    still be something to read: it would come after what the client has said since on its new one. An attach that
    creates a session would make it anew after its delete.
    """

    def __init__(self) -> None:
        self._links: dict[str, tuple[int, AnyLink]] = {}

    def came(self, client: str, number: int, link: AnyLink) -> AnyLink | None:
        """A client has said Hello on a link.

        Args:
            client: its id; nothing follows from an empty one.
            number: of the link; the larger one is newer.

        Returns:
            The link that is to be closed at once and not read any more: its former one, or this one if it is older.
        """
        if not client:
            return None
        former = self._links.get(client)
        if former is not None and former[0] > number:
            return link
        self._links[client] = (number, link)
        return former[1] if former is not None else None

    def left(self, client: str, number: int) -> None:
        """A link is over."""
        if self._links.get(client, (0,))[0] == number:
            del self._links[client]


class PeerEnd:
    """One peer, from its Hello on.

    Args:
        welcome: makes the answer to a Hello.

    Attributes:
        role: what it is; None before its Hello.
        client: of a client, the id that it says, or empty.
        executor, binding: set by its `AttachExecutor`.
        node: set by its `JoinNode`.
    """

    __slots__ = ("_welcome", "binding", "client", "executor", "node", "role")

    def __init__(self, welcome: Callable[[Hello], Welcome]) -> None:
        self._welcome = welcome
        self.role: Role | None = None
        self.client = ""
        self.executor = ""
        self.binding = 0
        self.node = ""

    def greet(self, message: Message) -> Welcome | Refused:
        """Answer the first message."""
        if not isinstance(message, Hello):
            return _refuse("FAILED_PRECONDITION", f"the first message is {type(message).__name__}, expected Hello")
        if message.version != PROTOCOL_VERSION:
            return _refuse(
                "FAILED_PRECONDITION",
                f"the peer ({message.software or 'unknown'}) speaks protocol version {message.version}, "
                f"this session manager {PROTOCOL_VERSION}",
                "install the same version of flame-engine on both sides",
            )
        if len(message.client) > MAX_CLIENT_ID_CHARS:
            return _refuse("INVALID_ARGUMENT", f"the id of a client has at most {MAX_CLIENT_ID_CHARS} characters")
        welcome = self._welcome(message)
        if message.store_id and message.store_id != welcome.store_id:
            return _refuse(
                "ABORTED",
                f"this cluster has the store {welcome.store_id}, the peer came for {message.store_id}",
                "the data directory was replaced: start anew",
            )
        self.role = message.role
        if message.role is Role.CLIENT:
            self.client = message.client
        return welcome

    def check(self, message: Message) -> Refused | None:
        """Take note of who speaks; return a refusal if it may not say this."""
        role = self.role
        if role is None or not isinstance(message, _MAY_SAY[role]):
            name = role.name.lower() if role is not None else "unknown peer"
            return _refuse("INVALID_ARGUMENT", f"a {name} may not send {type(message).__name__}")
        if role is Role.EXECUTOR:
            return self._check_executor(message)
        if role is Role.NODE:
            return self._check_node(message)
        return None

    def _check_executor(self, message: Message) -> Refused | None:
        if isinstance(message, AttachExecutor):
            if self.executor and (self.executor, self.binding) != (message.executor, message.binding):
                return _refuse("INVALID_ARGUMENT", f"this link belongs to executor {self.executor}")
            self.executor, self.binding = message.executor, message.binding
        elif not self.executor:
            return _refuse("INVALID_ARGUMENT", f"{type(message).__name__} before AttachExecutor")
        return None

    def _check_node(self, message: Message) -> Refused | None:
        if isinstance(message, JoinNode):
            if self.node and self.node != message.node:
                return _refuse("INVALID_ARGUMENT", f"this link belongs to node {self.node}")
            self.node = message.node
        elif not self.node:
            return _refuse("INVALID_ARGUMENT", f"{type(message).__name__} before JoinNode")
        return None


def _refuse(code: str, message: str, hint: str = "") -> Refused:
    return Refused(Rejection(code, message, hint))
