"""The main thread reads the link itself where it can; who is expected there must come."""

import threading

from flame.carriers.port import ThreadLink
from flame.executor.control import Control
from flame.model.executor_messages import AcknowledgeReport, LeaveSession
from flame.model.messages import Message
from tests.executor.test_control import control
from tests.executor_manager.rig import BINDING, ScriptedManager, assignment
from tests.support import wait_until_true

__all__ = ["control"]


class Refusing:
    """A link whose I/O thread reads just now: guests are refused, and counted."""

    def __init__(self, link: ThreadLink) -> None:
        self.visits = 0
        self.foreign = self.failed = False
        self._link = link

    def send(self, message: Message) -> None:
        self._link.send(message)

    def receive(self, timeout_s: float) -> bool:
        self.visits += 1
        return False

    def buffered_bytes(self) -> int:
        return self._link.buffered_bytes()

    def flush(self, timeout_s: float) -> bool:
        return self._link.flush(timeout_s)

    def close(self) -> None:
        self._link.close()


def wait_for_visit(link: Refusing, seen: int) -> None:
    wait_until_true(lambda: link.visits > seen)


def test_who_was_refused_as_a_guest_comes_again_after_every_message(manager: ScriptedManager, control: Control) -> None:
    """The I/O thread stops reading for a moment when somebody came for the link, and the next task waits meanwhile."""
    control.connect()
    control.wait_enter()
    control.entered()
    manager.send(("here", BINDING), assignment(1, [b"a"]))
    run = control.turn()
    assert run
    assert control._link
    link = control._link = Refusing(control._link)
    run.outputs.append(b"A")
    later = threading.Thread(target=control.turn, daemon=True)
    later.start()
    seen = 0
    for _ in range(5):
        wait_until_true(lambda: control._waits)
        assert link.visits > seen
        seen = link.visits
        control._received(AcknowledgeReport(report=1))  # it has nothing to run, and comes all the same
        wait_for_visit(link, seen)
    control._received(LeaveSession())
    later.join(30)
    assert not later.is_alive()
