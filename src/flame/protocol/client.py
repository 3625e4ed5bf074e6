"""The client's half of a stream, without I/O: handshake, calls, attachments, and resuming after a lost link.

Whoever owns a `ClientStream` calls it under one lock and sends what stands in `outbox`, in order, over the link:

    opened()            a link is there          -> Hello
    received(message)   a message came           -> whatever follows from it
    lost()              the link is over         -> everything unanswered stands ready for the next one
    fail(error)         there will be no other   -> everything unfinished fails

A message on the wire is repeated after a reconnect until it is answered: attachments with their key and the last
result seen, chunks with their cuts, cancels, calls. The session manager recognizes what it has already.
"""

from collections.abc import Callable
from typing import Any, TypeVar

from flame.model.client_messages import (
    AttachmentEnded,
    ChunkAcknowledged,
    ChunkRefused,
    DetachSession,
    Segment,
    SessionAttached,
    SessionChanged,
    TasksCancelled,
)
from flame.model.errors import Aborted, FlameError, Unavailable
from flame.model.limits import MAX_TASK_BYTES, RESULT_WINDOW_BYTES
from flame.model.messages import Call, Hello, ManagerMessage, PeerMessage, Refused, Reply, Role, Welcome
from flame.protocol.client_attachment import Attachment
from flame.protocol.client_submission import Submission

ACKNOWLEDGE_BYTES = RESULT_WINDOW_BYTES // 8
"""Result bytes after which an acknowledgement is sent: often enough to keep the window open, rarely enough to cost
nothing."""

AnyAttachment = TypeVar("AnyAttachment", bound=Attachment)


class ClientStream:
    """The client's half of a stream.

    Args:
        software: name and version of this peer, for the session manager's log.
        client: a random id: with a new connection of the same client, the session manager reads no former one.
    """

    def __init__(self, software: str = "", client: str = "") -> None:
        self.outbox: list[PeerMessage] = []
        """What is to be sent, in order; the owner empties it."""
        self.attachments: dict[int, Attachment] = {}
        self.holding: dict[int, Attachment] = {}
        """Attachments that have results which are not consumed."""
        self.replies: dict[int, Reply | FlameError] = {}
        self.warnings: list[tuple[str, str]] = []
        """New warnings, as session and text; the owner empties it."""
        self.store_id = ""
        self.epoch = 0
        self.max_task_bytes = MAX_TASK_BYTES
        self.welcome: Welcome | None = None
        """The handshake of the link that is there now."""
        self.error: FlameError | None = None
        """Why the stream is over for good."""
        self.refusal: FlameError | None = None
        """Why the last link was refused, where another try may help."""
        self.waiting = 0
        """How many of the owner's callers wait for results."""
        self._software = software
        self._client = client
        self.repeated: set[int] = set()
        """Calls that were sent over more than one link: the session manager may have done them twice."""
        self._calls: dict[int, Call] = {}
        self._sent: set[int] = set()
        self._ids = 0
        self._unacknowledged_bytes = 0

    # --- the link ----------------------------------------------------------------------------------------------------

    def opened(self) -> None:
        """A link is there."""
        self.outbox.clear()
        self.refusal = None
        hello = Hello(
            role=Role.CLIENT,
            software=self._software,
            store_id=self.store_id,
            epoch=self.epoch,
            client=self._client,
        )
        self.outbox.append(hello)

    def lost(self) -> None:
        """The link is over."""
        self.welcome = None
        self.outbox.clear()
        for attachment in self.attachments.values():
            attachment.lost()

    def fail(self, error: FlameError) -> None:
        """The stream is over for good: whatever is unfinished fails with `error`."""
        if self.error is not None:
            return
        self.error = error
        self.lost()
        for attachment in list(self.attachments.values()):
            attachment.end(error)
        for call in self._calls:
            self.replies[call] = error
        self._calls.clear()

    def received(self, message: ManagerMessage) -> bool:
        """Take a message of the session manager; return whether the link is to go on."""
        handler = _HANDLERS.get(type(message))
        if handler is not None and self.error is None:
            handler(self, message)
        return self.error is None and self.refusal is None

    # --- requests ----------------------------------------------------------------------------------------------------

    def call(self, method: str, payload: bytes) -> int:
        """Make a unary call; its answer will stand in `replies` under the number returned."""
        self._ids += 1
        message = Call(id=self._ids, method=method, payload=payload)
        self._calls[message.id] = message
        if self.welcome is not None:
            self._send_call(message)
        return message.id

    def abandon(self, call: int) -> None:
        """Nobody waits for the answer of a call any more."""
        self._calls.pop(call, None)
        self.replies.pop(call, None)
        self._sent.discard(call)
        self.repeated.discard(call)

    def next_attachment(self) -> int:
        """A number for a new attachment."""
        self._ids += 1
        return self._ids

    def attach(self, attachment: AnyAttachment) -> AnyAttachment:
        """Add an attachment and ask for it."""
        self.attachments[attachment.number] = attachment
        self._send(attachment.request())
        return attachment

    def detach(self, attachment: Attachment) -> None:
        """End an attachment; nothing more is heard of it."""
        if self.attachments.pop(attachment.number, None) is not None:
            self.holding.pop(attachment.number, None)
            self._send(DetachSession(attachment=attachment.number))
            attachment.live = False

    # --- acknowledging results ---------------------------------------------------------------------------------------

    def begin_wait(self) -> None:
        """Somebody waits for results: they are acknowledged as they come until `end_wait`."""
        self.waiting += 1
        if self.holding:
            holding = list(self.holding.values())
            self.holding.clear()
            for attachment in holding:
                attachment.release()

    def end_wait(self) -> None:
        """That wait is over."""
        self.waiting -= 1

    def credit(self, nbytes: int) -> None:
        """Results of `nbytes` can be acknowledged."""
        self._unacknowledged_bytes += nbytes
        if self._unacknowledged_bytes >= ACKNOWLEDGE_BYTES:
            self._unacknowledged_bytes = 0
            for attachment in self.attachments.values():
                attachment.acknowledge()

    # --- inside ------------------------------------------------------------------------------------------------------

    def _send(self, message: PeerMessage) -> None:
        if self.welcome is not None:
            self.outbox.append(message)

    def _send_call(self, message: Call) -> None:
        (self.repeated if message.id in self._sent else self._sent).add(message.id)
        self.outbox.append(message)

    def _on_welcome(self, message: Welcome) -> None:
        if self.store_id and message.store_id != self.store_id:
            self.fail(
                Aborted(
                    f"the session manager now has another store ({message.store_id}, was {self.store_id})",
                    hint="the sessions of this connection do not exist there; connect anew",
                )
            )
            return
        if message.epoch < self.epoch:
            self.refusal = Unavailable(
                f"the session manager has epoch {message.epoch}, but one with {self.epoch} was there already",
                hint="two session managers seem to run; the older one should be ended",
            )
            return
        self.welcome = message
        self.store_id, self.epoch = message.store_id, message.epoch
        self.max_task_bytes = message.max_task_bytes or MAX_TASK_BYTES
        for attachment in self.attachments.values():
            if attachment.error is None:
                self.outbox.append(attachment.request())
        for call in self._calls.values():
            self._send_call(call)

    def _on_refused(self, message: Refused) -> None:
        error = message.error.to_error()
        if error.retryable:
            self.refusal = error
        elif isinstance(error, Aborted) and self.store_id:
            hint = error.hint or "its sessions are not those of this connection; connect anew"
            self.fail(Aborted(f"the session manager has another store: {error.message}", hint=hint))
        else:
            self.fail(error)

    def _on_reply(self, message: Reply) -> None:
        if self._calls.pop(message.id, None) is not None:
            self.replies[message.id] = message

    def _on_ended(self, message: AttachmentEnded) -> None:
        attachment = self.attachments.pop(message.attachment, None)
        if attachment is not None:
            self.holding.pop(attachment.number, None)
            attachment.end(message.error.to_error())

    def _on_attached(self, message: SessionAttached) -> None:
        if attachment := self.attachments.get(message.attachment):
            attachment.on_attached(message)

    def _on_changed(self, message: SessionChanged) -> None:
        if attachment := self.attachments.get(message.attachment):
            attachment.on_changed(message)

    def _on_segment(self, message: Segment) -> None:
        if attachment := self.attachments.get(message.attachment):
            attachment.on_segment(message)

    def _on_acknowledged(self, message: ChunkAcknowledged) -> None:
        attachment = self.attachments.get(message.attachment)
        if isinstance(attachment, Submission):
            attachment.on_acknowledged(message)

    def _on_chunk_refused(self, message: ChunkRefused) -> None:
        attachment = self.attachments.get(message.attachment)
        if isinstance(attachment, Submission):
            attachment.on_refused(message)

    def _on_cancelled(self, message: TasksCancelled) -> None:
        attachment = self.attachments.get(message.attachment)
        if isinstance(attachment, Submission):
            attachment.on_cancelled(message)


_HANDLERS: dict[type, Callable[[ClientStream, Any], None]] = {
    Welcome: ClientStream._on_welcome,
    Refused: ClientStream._on_refused,
    Reply: ClientStream._on_reply,
    SessionAttached: ClientStream._on_attached,
    AttachmentEnded: ClientStream._on_ended,
    ChunkAcknowledged: ClientStream._on_acknowledged,
    ChunkRefused: ClientStream._on_chunk_refused,
    Segment: ClientStream._on_segment,
    TasksCancelled: ClientStream._on_cancelled,
    SessionChanged: ClientStream._on_changed,
}
