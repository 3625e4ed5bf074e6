"""What clients were told stays true, and what they could not rely on is no promise."""

import pytest

from flame.model.client_messages import AttachmentEnded, AttachSession, SessionAttached, SessionChanged
from flame.model.errors import Rejection
from flame.model.records import (
    DeleteSession,
    PutSegment,
    PutSession,
    SegmentHeader,
    SegmentRecord,
    SessionRecord,
    Snapshot,
    Write,
)
from flame.model.specs import SessionSpec
from flame.model.states import SessionState, TaskState
from flame.sim.history import History, digest
from flame.sim.stored import Listener, Promises, became, lost

SPEC = SessionSpec(application="sim")
MS = 1_000_000


class Broken:
    """What was broken."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.promises = Promises(self._broken)

    def _broken(self, at_ns: int, session: str, task: int, text: str) -> None:
        self.texts.append(f"{session}/{task} {text}")


def record(state: SessionState, number: int = 1) -> SessionRecord:
    return SessionRecord(number=number, name=f"s{number}", spec=SPEC, created_ms=1, state=state)


def store(state: SessionState, ended: int = 0) -> Snapshot:
    segment = SegmentHeader(session=1, sequence=1, first=1, count=ended, state=TaskState.SUCCEED)
    return Snapshot(sessions=(record(state),), segments=(segment,) if ended else ())


def attached(state: SessionState, attachment: int = 1, session: int = 1) -> SessionAttached:
    return SessionAttached(attachment=attachment, session=session, session_id="s", state=state, spec=SPEC)


# --- closed ----------------------------------------------------------------------------------------------------------


def test_a_session_that_is_closed_is_never_open_again() -> None:
    broken = Broken()
    broken.promises.close_answered(5 * MS, "1")
    broken.promises.found(9 * MS, store(SessionState.CLOSED))
    broken.promises.shown(6 * MS, 7 * MS, "1", open=False)
    broken.promises.shown(4 * MS, 7 * MS, "1", open=True)
    broken.promises.shown(6 * MS, 7 * MS, "2", open=True)
    assert not broken.texts
    broken.promises.shown(6 * MS, 7 * MS, "1", open=True)
    broken.promises.close_answered(8 * MS, "1")
    broken.promises.found(9 * MS, store(SessionState.OPEN))
    closed = "at 5.000 ms somebody was told that it is closed"
    assert broken.texts == [f"1/0 it is shown open, and {closed}", f"1/0 it is open in the store, and {closed}"]


def test_a_session_that_is_closed_takes_no_tasks() -> None:
    broken = Broken()
    promises = broken.promises
    promises.submitted(1, "1", 1, 4)
    promises.close_answered(5, "1")
    promises.submitted(6, "1", 5, 4)
    promises.acknowledged(7, "1", 1, 4)
    assert not broken.texts
    promises.acknowledged(8, "1", 7, 2)
    assert len(broken.texts) == 1
    assert broken.texts[0].startswith("1/7 it was taken, and before it was submitted, at ")


# --- deleted ---------------------------------------------------------------------------------------------------------


def test_a_session_that_is_deleted_never_comes_back_but_another_one_of_its_name_may() -> None:
    broken = Broken()
    promises = broken.promises
    promises.delete_asked("1")
    promises.deleted_answered(5 * MS, "1")
    promises.found(6, Snapshot(sessions=(record(SessionState.OPEN, 2),)))
    promises.shown(4 * MS, 6 * MS, "1", open=False)
    assert not broken.texts
    promises.shown(6 * MS, 7 * MS, "1", open=False)
    promises.found(9 * MS, store(SessionState.CLOSED))
    deleted = "at 5.000 ms somebody was told that it is deleted"
    assert broken.texts == [f"1/0 it is shown, and {deleted}", f"1/0 it is in the store, and {deleted}"]


def test_a_session_that_nobody_deletes_stays() -> None:
    broken = Broken()
    broken.promises.close_answered(5, "1")
    broken.promises.found(6, Snapshot())
    assert broken.texts == ["1/0 it is not in the store, and nobody asked to delete it"]
    broken.promises.delete_asked("1")
    broken.promises.found(7, Snapshot())
    assert len(broken.texts) == 1


# --- ended -----------------------------------------------------------------------------------------------------------


def test_a_task_that_has_ended_for_a_watcher_has_an_outcome_in_every_store_from_then_on() -> None:
    broken = Broken()
    broken.promises.told_ended(5, "1", 3)
    broken.promises.found(6, store(SessionState.OPEN, ended=3))
    assert not broken.texts
    broken.promises.found(7, store(SessionState.OPEN, ended=2))
    assert broken.texts == ["1/3 a watcher was told that it has ended, and the store has no outcome"]


def test_a_task_that_has_ended_for_a_watcher_is_shown_with_an_outcome() -> None:
    broken = Broken()
    broken.promises.unfinished(4, "1", 3)
    broken.promises.told_ended(5, "1", 3)
    broken.promises.unfinished(6, "1", 4)
    assert not broken.texts
    broken.promises.unfinished(6, "1", 3)
    assert broken.texts == ["1/3 a watcher was told that it has ended, and it is shown without an outcome"]


# --- what a client hears ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("closed", ["attached", "changed"])
def test_a_client_hears_that_a_session_is_closed(closed: str) -> None:
    broken = Broken()
    listener = Listener(broken.promises)
    listener.said(1, AttachSession(attachment=1, session_id="s", key="k"))
    if closed == "attached":
        listener.heard(2, attached(SessionState.CLOSED))
    else:
        listener.heard(2, attached(SessionState.OPEN))
        broken.promises.found(2, store(SessionState.OPEN))
        listener.heard(3, SessionChanged(attachment=1, state=SessionState.CLOSED))
    assert not broken.texts
    broken.promises.found(4, store(SessionState.OPEN))
    assert len(broken.texts) == 1


def test_a_client_is_shown_what_was_true_when_it_asked_or_later() -> None:
    broken = Broken()
    listener = Listener(broken.promises)
    listener.said(1, AttachSession(attachment=1, session_id="s", key="k"))
    broken.promises.close_answered(2, "1")
    listener.heard(3, attached(SessionState.OPEN))
    assert not broken.texts
    listener.connected()
    listener.said(4, AttachSession(attachment=1, session_id="s", key="k"))
    listener.heard(5, attached(SessionState.OPEN))
    assert len(broken.texts) == 1


def test_a_client_hears_that_a_session_is_deleted_and_not_what_only_ends_for_itself() -> None:
    broken = Broken()
    listener = Listener(broken.promises)
    for number, code in ((1, "ABORTED"), (2, "NOT_FOUND"), (3, "NOT_FOUND")):
        listener.said(1, AttachSession(attachment=number, session_id="s", key="k"))
        if number < 3:
            listener.heard(2, attached(SessionState.CLOSED, number, number))
        listener.heard(3, AttachmentEnded(attachment=number, error=Rejection(code, "it is over")))
    broken.promises.found(4, Snapshot(sessions=(record(SessionState.CLOSED), record(SessionState.CLOSED, 2))))
    assert [text[:30] for text in broken.texts] == ["2/0 it is in the store, and at"]


# --- in the history --------------------------------------------------------------------------------------------------


def test_the_history_judges_by_promises() -> None:
    history = History()
    history.promises.close_answered(1, "1")
    history.submitted(2, "1", "c", 1, [digest(b"")])
    history.acknowledged(3, "1", "c", 1, 1)
    history.deleted("1")
    history.promises.found(4, Snapshot())
    assert [violation.rule for violation in history.check(5)] == ["taken back"]


def test_what_is_acknowledged_and_has_no_outcome_is_lost() -> None:
    history = History()
    history.submitted(1, "1", "c", 1, [digest(b"")] * 4)
    history.acknowledged(2, "1", "c", 1, 4)
    history.saw(3, "1", "c", 1, [digest(b"")] * 2)
    assert list(lost(history._session("1"))) == [
        (3, "acknowledged, but it has no outcome at the end (nor have the ones to 4)")
    ]


def test_what_becomes_of_sessions_and_tasks_by_a_commit() -> None:
    states = bytes([TaskState.SUCCEED, TaskState.FAILED])
    segment = SegmentRecord(
        session=1, sequence=1, first=1, count=2, state=TaskState.SUCCEED, states=states, finished_ms=1
    )
    writes: list[Write] = [PutSession(record(SessionState.OPEN)), PutSegment(segment), DeleteSession(1)]
    assert list(became(writes)) == ["session OPEN", "task SUCCEED", "task FAILED", "session deleted"]
