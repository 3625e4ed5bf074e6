"""The executor's connection to the session manager, and the one lock around its half of the protocol."""

import os
import sys
import threading
import time
from contextlib import suppress
from typing import Final

from flame.carriers.pauses import Pauses
from flame.carriers.port import ThreadLink
from flame.carriers.threads import open_link
from flame.model.errors import Aborted, FlameError
from flame.model.executor_messages import EnterSession
from flame.model.messages import Message
from flame.protocol.executor import ExecutorHalf
from flame.protocol.runs import Run
from flame.protocol.shared_table import LEASE_END

EXIT_DISMISSED: Final = 75
"""Exit code of an executor that the session manager has no use for any more."""
EXIT_UNUSABLE: Final = 1
"""Exit code of an executor that cannot be one: its service does not start, or something has broken its process."""

_LEASE_POLL_S: Final = 0.05
_CONNECT_TIMEOUT_S: Final = 10.0
_GUEST_S: Final = 0.005
"""How long the main thread reads from the link itself; for longer waits it sleeps until the control thread wakes it."""


class Control:
    """Carries messages between a stream and an `ExecutorHalf`, and the main thread's turns with them.

    The stream's I/O thread is the control thread: it answers the session manager while user code runs.

    Args:
        half: the protocol; used under this object's lock from now on.
        endpoint: frame endpoint of the session manager.
        page: the node's page, where the lease ends.
    """

    def __init__(self, half: ExecutorHalf, endpoint: str, page: memoryview) -> None:
        self._half = half
        self._endpoint = endpoint
        self._page = page
        self._lock = threading.Lock()
        # A condition for the one thread that waits, at a fraction of the cost: this is the way of every single task.
        self._bell = threading.Lock()
        self._bell.acquire()
        self._waits = False
        self._link: ThreadLink | None = None
        self._dismissed = False
        self._closing = threading.Event()
        self._trying: threading.Thread | None = None
        self._pauses = Pauses(endpoint)

    # --- the stream ------------------------------------------------------------------------------------------------

    def connect(self) -> None:
        """Connect now or, where nobody answers, in the background, again and again."""
        if not self._open():
            self._reconnect()

    def _open(self) -> bool:
        ready = threading.Event()

        def received(message: Message) -> None:
            ready.wait()
            self._received(message)

        def closed(reason: str) -> None:
            ready.wait()
            self._lost(reason)

        try:
            link = open_link(self._endpoint, received, closed, timeout_s=_CONNECT_TIMEOUT_S, name="flame-control")
        except FlameError:
            return False
        with self._lock:
            self._link = link
            self._pauses.linked()
            link.send(self._half.hello())
            if self._closing.is_set():
                link.close()
        ready.set()
        return True

    def _reconnect(self) -> None:
        with self._lock:
            if self._closing.is_set():
                return
            trying = threading.Thread(target=self._keep_trying, name="flame-reconnect", daemon=True)
            try:
                trying.start()
                self._trying = trying
                return
            except RuntimeError:  # user code took all threads there may be; this one has nothing else to do
                pass
        self._keep_trying()

    def _keep_trying(self) -> None:
        pause_s = self._pauses.before_first()
        while not self._closing.wait(pause_s) and not self._open():
            pause_s = self._pauses.next()

    def _lost(self, reason: str) -> None:
        if self._link and self._link.failed:
            # As the main thread does when it cannot send: what has broken this process is charged to the task it runs.
            _log(f"this executor ends: its link has broken: {reason}")
            os._exit(EXIT_UNUSABLE)
        if reason:
            _log(f"lost the session manager: {reason}; connecting again")
        with self._lock:
            self._half.disconnected()
            self._link = None
            self._ring()
        self._reconnect()

    def _received(self, message: Message) -> None:
        with self._lock:
            try:
                answers = self._half.received(message)
            except Aborted as error:
                _log(f"this executor ends: {error}")
                os._exit(EXIT_DISMISSED)
            except FlameError as error:
                _log(f"bad stream: {error}")
                self._half.disconnected()
                if self._link:
                    self._link.close()
                return
            self._send(answers)
            # Whatever it was: the link expects the main thread to come and read, and nobody reads until then.
            ring, self._waits = self._waits, False
        if ring:
            self._bell.release()

    def _send(self, messages: list[Message]) -> None:
        for message in messages:
            if self._link:
                self._link.send(message)

    # --- waiting, with the lock held -------------------------------------------------------------------------------

    def _wait(self, timeout_s: float = -1) -> None:
        """The main thread waits until something may have changed; it may be woken up for nothing."""
        self._waits = True
        self._lock.release()
        try:
            rung = self._bell.acquire(timeout=timeout_s)
        finally:
            self._lock.acquire()
        if not rung:
            if not self._waits:
                self._bell.acquire()  # it was rung after the time was over
            self._waits = False

    def _ring(self) -> None:
        if self._waits:
            self._waits = False
            self._bell.release()

    # --- the main thread -------------------------------------------------------------------------------------------

    def wait_enter(self) -> EnterSession:
        """Wait for what session enter needs."""
        with self._lock:
            while self._half.enter is None:
                self._wait()
            return self._half.enter

    def entered(self) -> None:
        """Tell that session enter succeeded."""
        with self._lock:
            self._send(self._half.succeeded())

    def enter_failed(self, failure: bytes) -> None:
        """Tell that it failed."""
        with self._lock:
            self._send(self._half.enter_failed(failure))

    def turn(self) -> Run | None:
        """Report what is due and wait for tasks to run; None when it is time to leave the session.

        What was given to it and not started is not run after `dismiss`: the session manager takes it back when this
        process has ended.
        """
        half = self._half
        may_receive = True
        with self._lock:
            while True:
                now_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
                self._send(half.turn(now_ns))
                if self._dismissed:
                    return None
                if half.active and now_ns >= self._page[LEASE_END]:
                    self._wait(_LEASE_POLL_S)
                elif half.active:
                    return half.active
                elif half.leaving and half.idle:
                    return None
                elif may_receive:
                    may_receive = self._receive()
                else:
                    self._wait()
                    may_receive = True

    def _receive(self) -> bool:
        """Take the next message in this thread, if the link lets it; what came meanwhile has to be looked at."""
        link = self._link
        if link is None:
            return False
        self._lock.release()
        try:
            return link.receive(_GUEST_S)
        finally:
            self._lock.acquire()

    def dismiss(self) -> None:
        """From any thread: the node ends, so leave the session after the task that runs."""
        with self._lock:
            self._dismissed = True
            self._half.limit[0] = 0
            self._ring()

    def left(self, failure: bytes) -> None:
        """Tell that session leave returned, and wait until every report is acknowledged.

        There is no other bound than the lease, at whose end the executor manager kills this process: results that are
        not stored would have to be computed again.
        """
        with self._lock:
            self._send(self._half.left(failure))
            while not self._half.drained:
                self._wait()

    def close(self, timeout_s: float) -> None:
        """Hand everything to the operating system and connect no more; waits for `timeout_s` at most for either.

        The link's own thread ends when the session manager has closed its side too.
        """
        with self._lock:
            self._closing.set()
            link, trying = self._link, self._trying
        if link:
            link.flush(timeout_s)
            link.close()
        if trying:
            trying.join(timeout_s)


def _log(text: str) -> None:
    with suppress(OSError, ValueError):  # a service may close or break what is not its own; the link goes on
        print(f"flame: {text}", file=sys.stderr, flush=True)  # noqa: T201
