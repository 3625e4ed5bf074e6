"""The connection's link: it opens one, and another whenever it is lost, and carries what the pure half says.

One lock guards everything of a connection. The user's threads and the link's I/O thread take it for a short time;
whatever is to be sent is sent under it, which keeps the order, and `ThreadLink.send` does not block. Callbacks of users
run without it.
"""

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from flame.carriers.pauses import Pauses
from flame.model.errors import FailedPrecondition, FlameError, Internal, Unavailable
from flame.model.messages import Message, Welcome
from flame.protocol.client import ClientStream

if TYPE_CHECKING:
    from flame.carriers.port import ThreadLink
    from flame.sdk.futures import Future

HANDSHAKE_TIMEOUT_S = 10.0
SHORTEST_PAUSE_S = 0.005
FIRST_PATIENCE_S = 0.5
"""How long a first link is tried for where nobody takes connections, unless the caller says how long."""


class Answer(NamedTuple):
    """What became of a unary call."""

    payload: bytes
    error: FlameError | None
    repeated: bool
    """Whether it was sent again over another link: it may have been done before it was answered."""


class _Thread(threading.local):
    """What a thread does for a connection."""

    calls_back = False
    """It is inside done callbacks."""


class StreamOwner:
    """A `ClientStream` with its lock and its link.

    Args:
        endpoint: of the session manager.
        software: name and version of this peer.
    """

    def __init__(self, endpoint: str, software: str) -> None:
        self.endpoint = endpoint
        self.stream = ClientStream(software, os.urandom(16).hex())
        self.lock = threading.Lock()
        self.changed = threading.Condition(self.lock)
        """Notified whenever something but a future may have changed."""
        self.ready: list[Future] = []
        """Futures that are done and watched, to be told once the lock is released."""
        self.leaving: deque[Callable[[], None]] = deque()
        """What to call, with the lock held, for maps that have ended."""
        self.notes: list[str] = []
        """Warnings to log, once the lock is released."""
        self.alive: Callable[[], str] = str
        """Returns why there can be no cluster any more, or an empty text."""
        self._link: ThreadLink | None = None
        self._attempt = 0
        self._ended_attempt = 0
        self._ended_reason = ""
        self._establishing = False
        """Whether a thread opens a link: there is only one that does."""
        self._pauses = Pauses(endpoint)
        self._reached = False
        """Whether somebody took the last connection that was tried."""
        self._foreign = False
        """Whether what answered there speaks something else."""
        self._down = False
        """Whether the link was lost, and is not back."""
        self._broken_off = ""
        """Why this side has closed the link, or empty."""
        self._thread = _Thread()

    # --- for callers, with the lock held -----------------------------------------------------------------------------

    def send(self) -> None:
        """Send what stands ready."""
        outbox = self.stream.outbox
        if outbox:
            try:
                if self._link is not None:
                    for message in outbox:
                        self._link.send(message)
            except BaseException:
                self.broken_off()
                raise
            outbox.clear()

    def broken_off(self) -> None:
        """An exception that is none of ours (Ctrl-C, a signal's handler) came in the middle of a call.

        What was submitted is made whole again. Nobody knows what was sent of it, so the next link begins with all.
        """
        for attachment in self.stream.attachments.values():
            attachment.mend()
        if self._link is not None:
            self._broken_off = "a call was broken off by an exception"
            self._link.close()

    def let_leave(self) -> None:
        """Let maps leave that have ended."""
        while self.leaving:
            self.leaving.popleft()()

    def wait_for(
        self, condition: Callable[[], object], timeout: float | None, what: str, *, results: bool = False
    ) -> None:
        """Wait until `condition` is true.

        Args:
            condition: checked with the lock held.
            timeout: longest wait in seconds.
            what: is waited for; for the message of a `TimeoutError`.
            results: whether it takes results. They are acknowledged as they come then, since what one map holds back
                could stand before those that are waited for; all other answers pass by what is held.

        Raises:
            TimeoutError: not within `timeout` seconds; `what` says what was waited for.
            FlameError: the connection is closed or over.
        """
        if condition():
            return
        self._check_thread()
        deadline = None if timeout is None else time.monotonic() + timeout
        if results:
            self.stream.begin_wait()
        try:
            self.send()
            while not condition():
                self.check()
                left_s = None if deadline is None else deadline - time.monotonic()
                if left_s is not None and left_s <= 0:
                    link = "" if self.stream.welcome else f"; there is no link to {self.endpoint}: {self._why_down()}"
                    raise TimeoutError(f"{what}: not within {timeout:g} s{link}")
                self.changed.wait(left_s)
        finally:
            if results:
                self.stream.end_wait()

    def check(self) -> None:
        """Raise what makes the connection unusable.

        Raises:
            FlameError: it was closed, lost for good, or belongs to the parent of this forked process.
        """
        if self.stream.error is not None:
            raise type(self.stream.error)(self.stream.error.message, self.stream.error.hint)

    # --- for callers, without the lock -------------------------------------------------------------------------------

    def check_can_wait(self) -> None:
        """Raise if this thread cannot wait: the connection is over, or it is the one that brings the results.

        Raises:
            FlameError: see `check`.
            FailedPrecondition: called from a done callback.
        """
        self._check_thread()
        if self.stream.error is not None:
            with self.lock:  # whoever ends the stream completes its futures under the lock
                if self.forked():
                    self.check()

    def call(self, method: str, payload: bytes, timeout: float | None) -> Answer:
        """Make a unary call of the published frontend over the stream; it is repeated after a reconnect.

        Raises:
            FlameError: the connection is closed or over.
            TimeoutError: no answer within `timeout` seconds.
        """
        with self.lock:
            self.check()
            number = self.stream.call(method, payload)
            try:
                self.send()
                self.wait_for(lambda: number in self.stream.replies, timeout, method.rpartition("/")[2])
                reply, repeated = self.stream.replies[number], number in self.stream.repeated
            finally:
                self.stream.abandon(number)
        if isinstance(reply, FlameError):
            raise reply
        return Answer(reply.payload, None if reply.error is None else reply.error.to_error(), repeated)

    def forked(self) -> bool:
        """Whether this process is a forked child of the one that connected."""
        return False

    @contextmanager
    def awaited(self) -> Iterator[None]:
        """While inside, results are acknowledged as they come."""
        with self.lock:
            self.stream.begin_wait()
            self.send()
        try:
            yield
        finally:
            with self.lock:
                self.stream.end_wait()

    def _check_thread(self) -> None:
        if self._thread.calls_back:
            raise FailedPrecondition(
                "a done callback waits for the connection that has called it",
                hint="let the callback hand over to another thread",
            )

    # --- the link ----------------------------------------------------------------------------------------------------

    def establish(self, timeout: float | None, patience_s: float | None = None) -> Welcome:
        """Open a link and shake hands, with growing pauses between attempts. One thread at a time does it.

        Args:
            timeout: longest wait in seconds; None for one without end.
            patience_s: longest wait where nobody takes connections, if it is shorter.

        Raises:
            Unavailable: not within `timeout` seconds, or what answers there is no session manager.
            FlameError: refused for good.
        """
        with self.lock:
            self._establishing = True
        try:
            return self._establish(timeout, patience_s)
        except BaseException:
            with self.lock:
                self._establishing = False
            raise

    def _establish(self, timeout: float | None, patience_s: float | None) -> Welcome:
        started = time.monotonic()
        deadline = None if timeout is None else started + timeout
        first_pause_s = self._pauses.before_first()
        if timeout is None:
            with self.changed:
                self._pause(first_pause_s)
        while True:
            left_s = HANDSHAKE_TIMEOUT_S if deadline is None else max(deadline - time.monotonic(), 0.001)
            try:
                return self._try_once(min(left_s, HANDSHAKE_TIMEOUT_S), started)
            except Unavailable as error:
                failure = error
            if timeout is not None and self._foreign:  # one that was a session manager before may be one again
                raise failure
            if deadline is not None and patience_s is not None and not self._reached:
                deadline = min(deadline, started + patience_s)
            pause_s = self._pauses.next()
            if deadline is not None:  # the last attempts come close to the end
                pause_s = min(pause_s, (deadline - time.monotonic()) / 2)
            with self.changed:
                self.check()
                if pause_s < SHORTEST_PAUSE_S:
                    raise failure
                self._pause(pause_s)

    def _pause(self, pause_s: float) -> None:
        until = time.monotonic() + pause_s
        while self.stream.error is None and (left_s := until - time.monotonic()) > 0:
            self.changed.wait(left_s)
        self.check()

    def _try_once(self, timeout_s: float, started: float) -> Welcome:
        from flame.carriers.port import Foreign
        from flame.carriers.threads import open_link

        deadline = time.monotonic() + timeout_s
        with self.lock:
            self.check()
            self._attempt += 1
            attempt = self._attempt
        if reason := self.alive():
            with self.lock:
                self.stream.fail(Unavailable(reason))
                self.changed.notify_all()
            self.tell()
            raise Unavailable(reason)
        self._reached = self._foreign = False
        try:
            link = open_link(
                self.endpoint,
                partial(self._received, attempt),
                partial(self._link_closed, attempt),
                timeout_s=timeout_s,
                name="flame-link",
            )
        except Foreign:
            self._foreign = True
            raise
        self._reached = True
        try:
            with self.lock:
                self.check()
                self._link = link
                self.stream.opened()
                self.send()
                while (welcome := self.stream.welcome) is None and self._ended_attempt != attempt:
                    left_s = deadline - time.monotonic()
                    if left_s <= 0:
                        raise self._silence(time.monotonic() - started)
                    self.changed.wait(left_s)
                    self.check()
                if welcome is None:
                    self._foreign = link.foreign
                    raise Unavailable(f"{self.endpoint}: {self._why_down()}")
                self._establishing = False  # under the lock that saw the link: whoever loses it from now on reconnects
                self._pauses.linked()
                if self._down:
                    self._down = False
                    self.notes.append(f"the link to {self.endpoint} is back")
                return welcome
        except BaseException:
            with self.lock:
                if self._attempt == attempt:
                    self._link = None
                    self._attempt += 1  # nothing that still comes from this link counts
                    self.stream.lost()
            link.close()
            raise

    def _silence(self, waited_s: float) -> Unavailable:
        return Unavailable(
            f"{self.endpoint}: no answer to the handshake within {waited_s:.1f} s",
            hint="something takes connections there and says nothing: check the endpoint, and that the cluster runs",
        )

    def _why_down(self) -> str:
        if self.stream.refusal is not None:
            return str(self.stream.refusal)
        return self._ended_reason or "the link was closed by the other side"

    def drop_link(self) -> "ThreadLink | None":
        """Take the link away, with the lock held; the caller closes it."""
        link, self._link = self._link, None
        self._attempt += 1
        return link

    # --- called by the link's I/O thread -----------------------------------------------------------------------------

    def _received(self, attempt: int, message: Message) -> None:
        with self.lock:
            if attempt != self._attempt:
                return
            goes_on = self.stream.received(message)  # type: ignore[arg-type]
            self.after_message()
            self.let_leave()
            self.send()
            self.changed.notify_all()
            link = None if goes_on else self._link
        if self.ready or self.notes:
            self.tell()
        if link is not None:
            link.close()

    def after_message(self) -> None:
        """Called with the lock held after each message."""

    def _link_closed(self, attempt: int, reason: str) -> None:
        with self.lock:
            if attempt != self._attempt:
                return
            had_welcome = self.stream.welcome is not None
            self._ended_attempt, self._ended_reason = attempt, reason or self._broken_off
            self._broken_off = ""
            self._link = None
            self.stream.lost()
            self.changed.notify_all()
            if not had_welcome or self._establishing or self.stream.error is not None:
                return
            self._establishing = self._down = True
            self.notes.append(f"the link to {self.endpoint} is lost, reconnecting: {self._why_down()}")
        self.tell()
        try:
            threading.Thread(target=self._reconnect, name="flame-reconnect", daemon=True).start()
        except RuntimeError:  # no more threads can be had; this one has nothing else to do
            self._reconnect()

    def _reconnect(self) -> None:
        try:
            self.establish(None)
        except Exception as error:
            failure = error if isinstance(error, FlameError) else Internal(f"reconnecting failed: {error!r}")
            with self.lock:
                self.stream.fail(failure)
                self.changed.notify_all()
        self.tell()

    def tell(self) -> None:
        """Tell who watches futures that are done, and log warnings; without the lock."""
        while self.notes:
            import logging

            with self.lock:
                notes, self.notes = self.notes, []
            for note in notes:
                logging.getLogger("flame").warning("%s", note)
        while self.ready:
            with self.lock:
                futures, self.ready = self.ready, []
                calls = [(future, future._watchers or ()) for future in futures]
                for future in futures:
                    future._watchers = None
            outer, self._thread.calls_back = self._thread.calls_back, True
            try:
                for future, watchers in calls:
                    for watcher in watchers:
                        _call(watcher, future)
            finally:
                self._thread.calls_back = outer

    def fail(self, error: FlameError) -> "ThreadLink | None":
        """End the stream; whatever is unfinished fails. Returns the link, which the caller closes."""
        with self.lock:
            self.stream.fail(error)
            link = self.drop_link()
            self.changed.notify_all()
        self.tell()
        return link


def _call(watcher: "Callable[[Future], object]", future: "Future") -> None:
    try:
        watcher(future)
    except Exception:
        import logging

        logging.getLogger("flame").exception("a done callback of %r raised", future)
