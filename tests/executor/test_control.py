"""The control thread: it connects, connects again, and ends what has no business any more."""

import os
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from flame.executor.control import EXIT_DISMISSED, EXIT_UNUSABLE, Control, _log
from flame.model.errors import Rejection
from flame.model.executor_messages import AttachExecutor, LeaveSession, ReportOutcomes, SessionEntered
from flame.model.messages import Refused
from flame.model.node_messages import ExecutorExited, ExecutorStarted
from flame.protocol.executor import ExecutorHalf
from flame.protocol.shared_table import LEASE_END, PAGE_BYTES, TABLE_BYTES, SharedTable
from tests.executor_manager.conftest import StartNode
from tests.executor_manager.rig import BINDING, ScriptedManager, alive, assignment
from tests.support import wait_until_true


def control_threads() -> set[threading.Thread]:
    """Those of controls in this process."""
    return {one for one in threading.enumerate() if one.name in ("flame-control", "flame-reconnect")}


@pytest.fixture
def control(manager: ScriptedManager) -> Iterator[Control]:
    """The control of an executor in this process, not connected yet. Its threads are gone at the end."""
    before = control_threads()
    table = SharedTable(memoryview(bytearray(TABLE_BYTES)))
    half = ExecutorHalf(executor="here", binding=BINDING, session=7, pid=1, table=table)
    page = memoryview(bytearray(PAGE_BYTES)).cast("Q")
    page[LEASE_END] = (1 << 64) - 1
    made = Control(half, manager.endpoint, page)
    yield made
    made.close(10)
    wait_until_true(lambda: control_threads() <= before)


def test_it_waits_for_a_session_manager(manager: ScriptedManager, control: Control) -> None:
    manager.vanish()
    control.connect()
    manager.listen()
    assert control.wait_enter().session_id == "s-7"


def test_it_connects_no_more_once_it_is_closed(manager: ScriptedManager, control: Control) -> None:
    manager.vanish()
    control.connect()
    trying = control._trying
    assert trying
    control.close(30)
    assert not trying.is_alive()
    control._reconnect()
    assert control._trying is trying


def test_a_link_that_comes_while_it_closes_is_closed(manager: ScriptedManager, control: Control) -> None:
    control._closing.set()
    assert control._open()
    wait_until_true(lambda: control._link is None)


def test_a_log_that_cannot_be_written_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would end the link's thread before that connects again."""
    full = os.open("/dev/full", os.O_WRONLY)
    with suppress(OSError), os.fdopen(full, "w") as stream:
        monkeypatch.setattr("sys.stderr", stream)
        _log("the link is lost")
        monkeypatch.undo()
        _log("the link is back")
    assert stream.closed


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_an_executor_whose_link_was_broken_by_its_own_process_ends(
    manager: ScriptedManager, control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody would ever hear of the task that did it: here the link's thread is the first that sees it."""
    codes: list[int] = []

    def leave(code: int) -> None:
        codes.append(code)
        raise SystemExit

    control.connect()
    control.wait_enter()
    monkeypatch.setattr("os._exit", leave)
    monkeypatch.setattr(control._half, "received", None)
    manager.send(("here", BINDING), LeaveSession())
    wait_until_true(lambda: codes)
    assert codes == [EXIT_UNUSABLE]


def test_a_result_is_kept_for_the_next_stream(manager: ScriptedManager, control: Control) -> None:
    control.connect()
    control.wait_enter()
    control.entered()
    manager.send(("here", BINDING), assignment(1, [b"a", b"b"]))
    run = control.turn()
    assert run
    manager.vanish()
    wait_until_true(lambda: control._link is None)
    run.outputs += [b"A", b"B"]
    later = threading.Thread(target=control.turn, daemon=True)
    later.start()
    manager.messages.clear()
    manager.listen()
    assert set(manager.wait_outputs(2)) == {1, 2}
    manager.send(("here", BINDING), LeaveSession())
    later.join(30)
    assert not later.is_alive()
    control.left(b"")
    assert len(manager.all(ReportOutcomes)) == 1


def test_a_dismissed_executor_starts_nothing_more(manager: ScriptedManager, control: Control) -> None:
    control.connect()
    control.wait_enter()
    control.entered()
    manager.send(("here", BINDING), assignment(1, [b"a", b"b"]))
    run = control.turn()
    assert run
    run.outputs.append(b"A")
    control.dismiss()
    assert control._half.limit == [0]
    assert control.turn() is None
    control.left(b"")
    assert set(manager.wait_outputs(1)) == {1}


def test_a_waiting_executor_is_dismissed(manager: ScriptedManager, control: Control) -> None:
    control.connect()
    control.wait_enter()
    control.entered()
    waiting = threading.Thread(target=control.turn, daemon=True)
    waiting.start()
    control.dismiss()
    waiting.join(30)
    assert not waiting.is_alive()


def test_an_executor_without_business_ends(manager: ScriptedManager, start_node: StartNode) -> None:
    start_node()
    key = manager.bind("flame.service.flmping:Ping")
    manager.wait(SessionEntered)
    manager.send(key, Refused(Rejection("ABORTED", "you were replaced")))
    assert manager.wait(ExecutorExited).exit_code == EXIT_DISMISSED
    log = Path(manager.wait(ExecutorStarted).log_path)
    wait_until_true(lambda: "you were replaced" in log.read_text())


def test_an_executor_refuses_an_older_session_manager(manager: ScriptedManager, start_node: StartNode) -> None:
    manager.epoch = 5
    start_node()
    manager.bind("flame.service.flmping:Ping")
    manager.wait(SessionEntered)
    started = manager.wait(ExecutorStarted)
    manager.vanish()
    manager.messages.clear()
    manager.epoch = 4
    manager.listen()
    wait_until_true(lambda: "has epoch 4" in Path(started.log_path).read_text())
    assert not manager.all(AttachExecutor)
    assert alive(started.pid)
