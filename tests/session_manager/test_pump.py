"""The pump: what has piled up becomes one turn, within bounds."""

import pytest

from flame.core.control.entities import Settings
from flame.core.control.events import ApplicationPutRequested, ClientSaid, TimeReached
from flame.core.control.recovery import recover
from flame.model.client_messages import AttachSession, SubmitChunk
from flame.model.records import PutChunk, Snapshot
from flame.model.resources import Resources
from flame.model.specs import ApplicationSpec, SessionSpec
from flame.session_manager import pump as module
from flame.session_manager.pump import Pump

SETTINGS = Settings(
    max_task_bytes=1 << 22,
    lease_ms=30_000,
    start_timeout_ms=1,
    enter_timeout_ms=1,
    delay_release_ms=1,
    low_space_bytes=0,
    default_resources=Resources(cpu=1),
    resident_input_bytes=1 << 30,
    result_window_bytes=1 << 20,
)


def attached() -> Pump:
    pump = Pump(recover(Snapshot(), SETTINGS, epoch=1, now_ms=1))
    pump.offer(ApplicationPutRequested(request=1, name="app", spec=ApplicationSpec()))
    create = SessionSpec(application="app")
    pump.offer(ClientSaid(1, AttachSession(attachment=1, session_id="", key="k", create=create, submit=True)))
    pump.committed(pump.turn(1).turn)
    return pump


def submit(pump: Pump, first: int, blob: bytes = b"") -> None:
    lengths = len(blob).to_bytes(4, "little")
    pump.offer(ClientSaid(1, SubmitChunk(attachment=1, first=first, count=1, lengths=lengths, blob=blob)))


def test_what_has_piled_up_is_stored_by_one_commit() -> None:
    pump = attached()
    for first in range(1, 101):
        submit(pump, first)
    assert len(pump) == 100
    batch = pump.turn(2)
    assert len(pump) == 0
    assert [write.record.count for write in batch.writes if isinstance(write, PutChunk)] == [100]
    assert len(batch.after) == 100, "each is acknowledged"


def test_a_turn_is_bounded_in_events_and_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    pump = attached()
    monkeypatch.setattr(module, "TURN_EVENTS", 10)
    monkeypatch.setattr(module, "TURN_BYTES", 1_000)
    for first in range(1, 16):
        submit(pump, first)
    pump.committed(pump.turn(2).turn)
    assert len(pump) == 5
    pump.committed(pump.turn(2).turn)
    for first in range(16, 20):
        submit(pump, first, bytes(600))
    pump.committed(pump.turn(3).turn)
    assert len(pump) == 2


def test_turns_are_numbered_and_the_state_knows_which_is_stored() -> None:
    pump = attached()
    first = pump.turn(2)
    second = pump.turn(2)
    assert second.turn == first.turn + 1
    pump.committed(second.turn)
    assert pump.state.durable == second.turn


def test_deadlines_are_looked_at_in_every_turn() -> None:
    pump = attached()
    wake_ms = pump.turn(2).wake_at_ms
    assert wake_ms is not None
    pump.offer(TimeReached())
    later = pump.turn(wake_ms)
    assert later.wake_at_ms is None or later.wake_at_ms > wake_ms
