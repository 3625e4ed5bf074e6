"""What the session manager keeps of payloads for others, counted from the messages that pass it.

A client is sent results while its window is open, and an executor is given tasks while it holds less than its credit of
bytes: whoever is slow or silent must not fill the session manager's memory. This is counted here once more, from what
was sent and what came back alone. It is never more than the engine may count, which hears of what came back later.
"""

from flame.model.client_messages import AcknowledgeSegments, Segment, SessionAttached
from flame.model.executor_messages import AssignTasks, ReportOutcomes, TasksRetracted
from flame.model.limits import CREDIT_BYTES
from flame.model.messages import ManagerMessage, Message
from flame.session_manager.pump import Pump


class _Kept:
    """What a peer was sent and is not done with: bytes by segment or assignment, and tasks left of that."""

    __slots__ = ("nbytes", "parts")

    def __init__(self) -> None:
        self.nbytes = 0
        self.parts: dict[int, list[int]] = {}

    def add(self, number: int, tasks: int, nbytes: int) -> None:
        self.parts[number] = [tasks, nbytes]
        self.nbytes += nbytes

    def finish(self, number: int, tasks: int) -> None:
        part = self.parts.get(number)
        if part is not None:
            part[0] -= tasks
            if part[0] < 1:
                self.nbytes -= self.parts.pop(number)[1]


class Memory:
    """Counts, and raises `AssertionError` where more is kept than there is room for.

    Args:
        window_bytes: of results that a client may be sent before it has acknowledged any.
    """

    def __init__(self, window_bytes: int) -> None:
        self._window_bytes = window_bytes
        self._kept: dict[int, dict[int, _Kept]] = {}
        """By link and attachment; of an executor, 0 instead of that."""

    def check_waiting(self, pump: Pump) -> None:
        """The payload of events that wait is counted right: who is over the bound is turned away by that alone."""
        nbytes = pump.waiting_bytes
        assert nbytes >= 0 and (len(pump) or not nbytes), f"{nbytes} bytes wait in {len(pump)} events"

    def sent(self, link: int, message: ManagerMessage) -> None:
        """Something goes out on a link."""
        if isinstance(message, Segment):
            kept = self._peer(link, message.attachment)
            room = kept.nbytes < self._window_bytes
            assert room, f"attachment {message.attachment} has not seen {kept.nbytes} bytes, and is sent more"
            kept.add(message.sequence, 1, len(message.blob))
        elif isinstance(message, SessionAttached):
            self._kept.get(link, {}).pop(message.attachment, None)
        elif isinstance(message, AssignTasks):
            kept = self._peer(link, 0)
            assert kept.nbytes < CREDIT_BYTES, (
                f"the executor of link {link} holds {kept.nbytes} bytes, and is given more"
            )
            kept.add(message.attempt, message.count, len(message.blob))

    def received(self, link: int, message: Message) -> None:
        """Something has come in on a link."""
        if isinstance(message, AcknowledgeSegments):
            kept = self._peer(link, message.attachment)
            for sequence in [sequence for sequence in kept.parts if sequence <= message.sequence]:
                kept.finish(sequence, 1)
        elif isinstance(message, ReportOutcomes):
            for outcome in message.outcomes:
                self._peer(link, 0).finish(outcome.attempt, outcome.count)
        elif isinstance(message, TasksRetracted):
            for part in message.ranges:
                self._peer(link, 0).finish(part.attempt, part.count)

    def _peer(self, link: int, attachment: int) -> _Kept:
        return self._kept.setdefault(link, {}).setdefault(attachment, _Kept())

    def ended(self, link: int) -> None:
        """A link is over: what was sent on it is kept no more."""
        self._kept.pop(link, None)
