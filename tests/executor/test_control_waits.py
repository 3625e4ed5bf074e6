"""How the main thread of an executor waits: what wakes it, what does not, and what it finds then."""

import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from flame.carriers.pauses import Pauses
from flame.executor import control as control_module
from flame.executor.control import Control
from flame.model.executor_messages import AcknowledgeReport, LeaveSession, ReportOutcomes
from flame.model.messages import Message
from flame.protocol.executor import MAX_UNACKNOWLEDGED_BYTES, ExecutorHalf
from flame.protocol.runs import Run
from flame.protocol.shared_table import PAGE_BYTES, TABLE_BYTES, SharedTable
from tests.executor.test_control import control
from tests.executor_manager.rig import BINDING, ScriptedManager, assignment
from tests.support import wait_until_true

__all__ = ["control"]

KEY = ("here", BINDING)


class StandInLink:
    """A link whose guests wait until the test lets them go; what `meanwhile` does happens before they leave."""

    def __init__(self, meanwhile: Callable[[], bool]) -> None:
        self.foreign = self.failed = False
        self.sent: list[Message] = []
        self.guest = threading.Event()
        self.leave = threading.Event()
        self._meanwhile = meanwhile

    def send(self, message: Message) -> None:
        self.sent.append(message)

    def receive(self, timeout_s: float) -> bool:
        self.guest.set()
        assert self.leave.wait(30)
        return self._meanwhile()

    def buffered_bytes(self) -> int:
        return 0

    def flush(self, timeout_s: float) -> bool:
        return True

    def close(self) -> None:
        pass


class LateBell:
    """A bell that rings just after a bounded wait for it has ended, before the waiter has the lock again."""

    def __init__(self, control: Control) -> None:
        self.missed = 0
        self._control = control
        self._bell = threading.Lock()
        self._bell.acquire()

    def acquire(self, timeout: float = -1) -> bool:
        if timeout < 0 or self.missed:
            return self._bell.acquire(timeout=timeout)
        self.missed += 1
        with self._control._lock:
            self._control._ring()
        return False

    def release(self) -> None:
        self._bell.release()

    def locked(self) -> bool:
        return self._bell.locked()


class Later:
    """Something of the main thread's, in a thread of its own."""

    def __init__(self, target: Callable[[], Run | None]) -> None:
        self._answer: list[Run | None] = []
        self._thread = threading.Thread(target=lambda: self._answer.append(target()), daemon=True)
        self._thread.start()

    @property
    def done(self) -> bool:
        return bool(self._answer)

    def answer(self) -> Run | None:
        self._thread.join(30)
        assert self._answer, "it waits still"
        return self._answer[0]


def enter(manager: ScriptedManager, control: Control) -> None:
    manager.acknowledge = False
    control.connect()
    control.wait_enter()
    control.entered()


def next_run(manager: ScriptedManager, control: Control, task: int) -> Run:
    manager.send(KEY, assignment(task, [b"a"]))
    run = control.turn()
    assert run
    return run


def wait_once(control: Control) -> None:
    with control._lock:
        control._wait()


def test_leaving_lasts_until_the_last_report_is_acknowledged(manager: ScriptedManager, control: Control) -> None:
    enter(manager, control)
    for task in (1, 2):
        next_run(manager, control, task).outputs.append(b"A")
    control.dismiss()
    assert control.turn() is None
    manager.wait(ReportOutcomes, count=2)
    later = Later(lambda: control.left(b""))
    wait_until_true(lambda: control._waits)
    control._received(AcknowledgeReport(report=1))
    wait_until_true(lambda: control._waits or later.done)
    assert not later.done
    control._received(AcknowledgeReport(report=2))
    assert later.answer() is None


def test_a_link_lost_does_not_end_the_leaving(manager: ScriptedManager, control: Control) -> None:
    enter(manager, control)
    next_run(manager, control, 1).outputs.append(b"A")
    control.dismiss()
    control.turn()
    later = Later(lambda: control.left(b""))
    wait_until_true(lambda: control._waits)
    manager.vanish()
    wait_until_true(lambda: control._link is None)
    wait_until_true(lambda: control._waits or later.done)
    assert not later.done
    manager.acknowledge = True
    manager.listen()
    assert later.answer() is None


def test_who_keeps_too_many_outputs_goes_on_at_an_acknowledgement(manager: ScriptedManager, control: Control) -> None:
    """It has something to run and may not: nothing but the acknowledgement will wake it up."""
    enter(manager, control)
    run = next_run(manager, control, 1)
    output = bytes(MAX_UNACKNOWLEDGED_BYTES + 1)
    run.outputs.append(output)
    run.large_bytes += len(output)
    control._received(assignment(2, [b"b"]))
    later = Later(control.turn)
    wait_until_true(lambda: control._waits)
    assert not later.done
    control._received(AcknowledgeReport(report=1))
    run = later.answer() or pytest.fail("it was not given what it has to run")
    assert (run.first, run.end) == (2, 3)


@pytest.mark.parametrize(
    "message",
    [assignment(2, [b"b"]), LeaveSession()],
    ids=["tasks", "an end"],
)
def test_a_waiting_one_finds_what_came(manager: ScriptedManager, control: Control, message: Message) -> None:
    enter(manager, control)
    link = control._link
    control._link = None  # it has nowhere to be a guest
    later = Later(control.turn)
    wait_until_true(lambda: control._waits)
    control._link = link
    control._received(message)
    run = later.answer()
    assert (run is None) == isinstance(message, LeaveSession)


def test_a_bell_that_rings_after_the_time_is_heard_once(manager: ScriptedManager, control: Control) -> None:
    """Else the next ring would find the bell rung and fail, or the next wait would end for nothing, again and again."""
    enter(manager, control)
    bell = LateBell(control)
    control._bell = bell  # type: ignore[assignment]
    with control._lock:
        control._wait(0.001)
        assert bell.missed == 1
        assert bell.locked()
        assert not control._waits
    for _ in range(3):
        later = Later(lambda: wait_once(control))
        wait_until_true(lambda: control._waits)
        with control._lock:
            control._ring()
        later.answer()
    assert bell.locked()


@pytest.mark.parametrize("came", [False, True], ids=["nothing came", "tasks came"])
def test_one_is_dismissed_while_it_reads_the_link_itself(
    manager: ScriptedManager, control: Control, came: bool
) -> None:
    """Nobody rings: it does not wait for the bell. It must look when it comes back, and start nothing of what came."""
    enter(manager, control)

    def meanwhile() -> bool:
        if came:
            control._received(assignment(1, [b"a"]))
        return came

    real, link = control._link, StandInLink(meanwhile)
    control._link = link
    later = Later(control.turn)
    assert link.guest.wait(30)
    control.dismiss()
    link.leave.set()
    run = later.answer()
    control._link = real
    assert run is None
    assert control._half.idle is not came
    assert control._bell.locked()


def test_who_takes_links_and_drops_them_is_not_asked_without_a_pause(
    short_tmp: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses_taken = 0

    class Counted(Pauses):
        def next(self) -> float:
            nonlocal pauses_taken
            pauses_taken += 1
            return 0.001

    monkeypatch.setattr(control_module, "Pauses", Counted)
    table = SharedTable(memoryview(bytearray(TABLE_BYTES)))
    half = ExecutorHalf(executor="here", binding=1, session=7, pid=1, table=table)
    control = Control(half, f"unix://{short_tmp}/manager", memoryview(bytearray(PAGE_BYTES)).cast("Q"))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{short_tmp}/manager")
        listener.listen()
        control.connect()
        for _ in range(6):
            listener.accept()[0].close()
    control.close(10)
    assert pauses_taken >= 5
