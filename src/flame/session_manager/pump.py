"""The pump: events in, batches out. Synchronous and without I/O; simulation drives the same one."""

from collections import deque

from flame.core.control.events import ClientSaid, Event, ExecutorSaid, TaskCreateRequested
from flame.core.control.reducer import can_wait, committed, settle, step
from flame.core.control.state import Batch, State, Turn
from flame.model.client_messages import SubmitChunk
from flame.model.executor_messages import ReportOutcomes

TURN_BYTES = 8 * 1024 * 1024
TURN_EVENTS = 1_024


class Pump:
    """Collects events and makes turns of them.

    A turn takes what has piled up, bounded in payload bytes and in events, so that one commit serves many and the
    peers behind a full turn are answered soon.
    """

    def __init__(self, state: State) -> None:
        self.state = state
        self._events: deque[Event] = deque()
        self.waiting_bytes = 0
        """Payload of the events that wait."""

    def __len__(self) -> int:
        return len(self._events)

    def is_full(self) -> bool:
        """Whether more waits than the next turn takes."""
        return len(self._events) >= TURN_EVENTS

    def offer(self, event: Event) -> None:
        """Add an event."""
        self._events.append(event)
        self.waiting_bytes += _payload_bytes(event)

    def can_wait(self, event: Event) -> bool:
        """Whether the turn for this event may be put off for a moment."""
        return can_wait(self.state, event)

    def turn(self, now_ms: int) -> Batch:
        """Make a turn of the events that wait (there may be none: deadlines are looked at in every turn)."""
        state, turn, events = self.state, Turn(now_ms), self._events
        for _ in range(min(len(events), TURN_EVENTS)):
            event = events.popleft()
            self.waiting_bytes -= _payload_bytes(event)
            step(state, turn, event)
            if turn.nbytes >= TURN_BYTES:
                break
        return settle(state, turn)

    def committed(self, turn: int) -> None:
        """The writes of a batch are stored: its `after` effects may be carried out."""
        committed(self.state, turn)


def _payload_bytes(event: Event) -> int:
    if isinstance(event, ClientSaid):
        return len(event.message.blob) if isinstance(event.message, SubmitChunk) else 0
    if isinstance(event, ExecutorSaid) and isinstance(event.message, ReportOutcomes):
        return sum(len(outcome.blob) for outcome in event.message.outcomes)
    return len(event.input) if isinstance(event, TaskCreateRequested) else 0
