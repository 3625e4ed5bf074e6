"""A session as its client sees it: tasks go in, results come out."""

import time
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Literal, overload

from flame.model.errors import FailedPrecondition, FlameError, TaskError
from flame.model.limits import BLOCK_TASKS
from flame.model.specs import SessionSpec
from flame.model.states import SessionState
from flame.protocol.client_submission import Submission, check_input
from flame.sdk.futures import Future, FutureTable
from flame.sdk.mapping import Mapping

if TYPE_CHECKING:
    from flame.sdk.connection import Connection

HURRIED_CLOSE_S = 5.0
"""Longest wait for the close of a session that is left by an exception."""


class Session:
    """An open session. Made by `Connection.create_session` and `Connection.open_session`; safe to use from threads.

    Used in a `with` statement, leaving it normally waits for what was submitted and closes the session; an exception
    or Ctrl-C closes it at once, which cancels what is queued and lets running tasks finish. A session that was opened
    by `open_session` is only detached.

    Attributes:
        connection: what it was made by.
    """

    def __init__(self, connection: "Connection", *, owned: bool) -> None:
        self.connection = connection
        self._owned = owned
        self._table = FutureTable(connection)
        self._blocks: list[Submission] = []
        self._opening = False
        self._closing = False
        self._closed = False

    # --- what it is --------------------------------------------------------------------------------------------------

    @property
    def id(self) -> str:
        """The session's name."""
        return self._blocks[-1].session_id if self._blocks else ""

    @property
    def application(self) -> str:
        """The application's name."""
        return self._spec.application

    @property
    def warning(self) -> str:
        """Why the session cannot run now (e.g. it fits no node), or empty."""
        return self._blocks[-1].warning

    @property
    def state(self) -> SessionState:
        """Whether it takes tasks."""
        return SessionState.CLOSED if self._closed else self._blocks[-1].state

    def __repr__(self) -> str:
        return f"<flame.Session {self.id!r} of application {self.application!r}: {self.state.name.lower()}>"

    def __enter__(self) -> "Session":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            self.close() if self._owned else self.detach()
            return
        try:
            if self._owned:
                self.close(wait=False, timeout=HURRIED_CLOSE_S)
            else:
                self.detach(wait=False)
        except (FlameError, TimeoutError):
            pass  # the error that is on its way says more

    # --- tasks -------------------------------------------------------------------------------------------------------

    def run(self, input: bytes, timeout: float | None = None) -> Future:
        """Submit one task and return at once, before it is acknowledged.

        It waits only while more than 8 MiB of inputs are unacknowledged, or after a refusal for fresh task ids.

        Args:
            input: the task's input.
            timeout: longest of these waits in seconds; then nothing is submitted.

        Raises:
            TypeError: the input is not bytes.
            TooLarge: it is over the cluster's limit (4 MiB unless configured).
            FailedPrecondition: the session is closed.
            TimeoutError: it cannot be submitted in time.
        """
        connection = self.connection
        if type(input) is not bytes or len(input) > connection.stream.max_task_bytes:
            check_input(input, connection.stream.max_task_bytes)
        with connection.lock:
            block = self._blocks[-1]
            if self._closing or block.refusal is not None or not block.accepts(len(input)):
                block = self._ready_block(len(input), timeout)
            try:
                task = block.add(input)
                future = self._table.pending[task] = Future(self, task)
                if connection.stream.outbox:
                    connection.send()
            except BaseException as error:
                if not isinstance(error, FlameError):
                    connection.broken_off()
                raise
        return future

    def invoke(self, input: bytes, timeout: float | None = None) -> bytes | None:
        """Run one task and return its output.

        Args:
            input: the task's input.
            timeout: longest wait in seconds; then the task is cancelled if it has not started.

        Raises:
            TaskFailed: the task failed.
            TimeoutError: it is not done in time.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        future = self.run(input, timeout)
        try:
            return future.result(timeout if deadline is None else max(0, deadline - time.monotonic()))
        except TaskError:
            raise
        except BaseException:  # also Ctrl-C: nobody else can have the result
            self._abandon(future)
            raise

    @overload
    def map(
        self,
        inputs: Iterable[bytes],
        *,
        ordered: bool = True,
        window: int = 100_000,
        return_exceptions: Literal[False] = False,
        timeout: float | None = None,
    ) -> Iterator[bytes | None]: ...

    @overload
    def map(
        self,
        inputs: Iterable[bytes],
        *,
        ordered: bool = True,
        window: int = 100_000,
        return_exceptions: Literal[True],
        timeout: float | None = None,
    ) -> Iterator[bytes | TaskError | None]: ...

    def map(
        self,
        inputs: Iterable[bytes],
        *,
        ordered: bool = True,
        window: int = 100_000,
        return_exceptions: bool = False,
        timeout: float | None = None,
    ) -> Iterator[bytes | TaskError | None]:
        """Run a task for each input and yield the outputs, in bounded memory whatever the number of inputs.

        Nothing is submitted before the first output is asked for. Breaking out, or an exception in `inputs`, cancels
        what is queued of it.

        Args:
            inputs: any iterable of bytes; a generator is read in the thread that iterates.
            ordered: yield in the order of inputs; False yields as results come, which needs less memory.
            window: most tasks that are submitted beyond what was yielded.
            return_exceptions: yield `TaskFailed` and `TaskCancelled` in the place of an output instead of raising.
            timeout: longest wait in seconds for the next output.

        Raises:
            TaskFailed: in the failed task's place; the rest is cancelled.
            TimeoutError: no output came in time.

        Example:
            for output in session.map((str(i).encode() for i in range(1_000_000)), ordered=False):
                ...
        """
        if window < 1:
            raise ValueError(f"window is {window}, but has to be at least 1")
        mapping = Mapping(self, iter(inputs), ordered=ordered, window=window, timeout=timeout)
        return mapping.outcomes() if return_exceptions else mapping.outputs()

    def flush(self, timeout: float | None = None) -> None:
        """Wait until everything that was submitted is acknowledged: stored, and safe from any crash.

        Raises:
            TimeoutError: not within `timeout` seconds.
            FlameError: a task was refused.
        """
        connection = self.connection
        with connection.lock:
            connection.check()
            block = self._blocks[-1]
            try:
                block.flush()
                connection.send()
            except BaseException:
                connection.broken_off()
                raise
            target = block.next_id
            connection.wait_for(
                lambda: block.stored >= target or block.refusal is not None, timeout, f"flush of session {self.id}"
            )
            if block.stored < target and block.refusal is not None:
                raise block.refusal

    # --- ending ------------------------------------------------------------------------------------------------------

    def close(self, wait: bool = True, timeout: float | None = None) -> None:
        """Close the session: it takes no more tasks. Repeating it does nothing.

        Args:
            wait: first wait for everything that was submitted here. If False, what is queued becomes Cancelled and
                running tasks finish; futures stay valid.
            timeout: longest wait in seconds.

        Raises:
            TimeoutError: not done in time; the session may be open still.
        """
        if self._closed:
            return
        if wait:
            self._wait_finished(timeout)
        with self.connection.lock:
            for block in self._blocks:
                block.flush()
            self.connection.send()
            self._closing = self._table.closing = True
        try:
            self.connection.close_session(self.id, timeout=timeout)
        except BaseException:
            self._closing = self._table.closing = False
            raise
        self._closed = True
        self.connection._retire(self)

    def detach(self, wait: bool = True, timeout: float | None = None) -> None:
        """Leave the session open, and have nothing to do with it any more.

        Args:
            wait: first wait for everything that was submitted here. If False, what is queued of it is cancelled.
            timeout: longest wait in seconds.
        """
        if self._closing:
            return
        if wait:
            self._wait_finished(timeout)
        with self.connection.lock:
            self._closing = True
            error = FailedPrecondition(f"session {self.id} was detached before this task was done")
            for block in self._blocks:
                if block.outstanding and block.error is None:
                    block.cancel(block.first, block.next_id - block.first, answered=False)
                self.connection.stream.detach(block)
                block.end(error)
            self.connection.send()
            self.connection.changed.notify_all()
        self.connection.tell()

    # --- inside ------------------------------------------------------------------------------------------------------

    def _attach(self, session_id: str, create: SessionSpec | None, timeout: float | None) -> Submission:
        """Take a block of task ids, with the lock held."""
        from secrets import token_hex

        connection = self.connection
        stream = connection.stream
        block = Submission(
            stream,
            stream.next_attachment(),
            session_id=session_id,
            key=token_hex(16),
            create=create,
            sink=self._table,
        )
        stream.attach(block)
        connection.send()
        try:
            what = f"session {session_id!r}" if create is None else f"new session of application {create.application!r}"
            connection.wait_for(lambda: block.attached or block.error, timeout, what)
        except BaseException:
            stream.detach(block)
            connection.send()
            raise
        if block.error is not None:
            raise block.error
        assert block.attached is not None
        self._spec = block.attached.spec
        self._blocks.append(block)
        return block

    def _ready_block(self, nbytes: int, timeout: float | None) -> Submission:
        """The block to submit to, once it has room for `nbytes`; with the lock held."""
        connection = self.connection
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            left_s = None if deadline is None else max(0, deadline - time.monotonic())
            connection.check()
            block = self._blocks[-1]
            if self._closing:
                raise FailedPrecondition(f"session {self.id} is closed", hint="create another one")
            if self._opening:
                connection.wait_for(lambda: not self._opening, left_s, "another thread's block of task ids")
            elif block.refusal is not None:
                self._renew(block, left_s)
            elif block.accepts(nbytes):
                return block
            else:
                connection.wait_for(
                    lambda block=block: block.accepts(nbytes) or block.refusal is not None or self._closing,  # type: ignore[misc]
                    left_s,
                    f"room for a task of {nbytes} bytes in session {self.id}",
                )

    def _renew(self, block: Submission, timeout: float | None) -> None:
        """Go on in a fresh block after a refusal; with the lock held."""
        if block.error is not None:
            raise type(block.error)(block.error.message, block.error.hint)
        if block.state is SessionState.CLOSED:
            raise FailedPrecondition(f"session {self.id} is closed", hint="create another one")
        self._opening = True
        try:
            self._attach(self.id, None, timeout)
            for old in [old for old in self._blocks[:-1] if not old.outstanding]:
                self._blocks.remove(old)
                self.connection.stream.detach(old)
            self.connection.send()
        finally:
            self._opening = False
            self.connection.changed.notify_all()

    def _block_of(self, task: int) -> Submission | None:
        for block in self._blocks:
            if block.first <= task < block.first + BLOCK_TASKS:
                return block
        return None

    def _cancel(self, future: Future, timeout: float | None) -> bool:
        """Ask to cancel a task; return whether it is cancelled now, even if that result is still to come."""
        if future.done():
            return future.cancelled()
        connection = self.connection
        with connection.lock:
            connection.check()
            block = self._block_of(future.task_id)
            if block is None or future.done():
                return future.cancelled()
            request = block.cancel(future.task_id, 1)
            connection.send()
            try:
                connection.wait_for(lambda: request in block.answers or future.done(), timeout, "cancel")
            except TimeoutError:
                return False
            else:
                return future.cancelled() or bool(block.answers.get(request))
            finally:
                block.forget(request)

    def _abandon(self, future: Future) -> None:
        with self.connection.lock:
            block = self._block_of(future.task_id)
            if block is not None and not future.done() and block.error is None:
                block.cancel(future.task_id, 1, answered=False)
                self.connection.send()

    def _acknowledged(self, future: Future, timeout: float | None) -> bool:
        connection = self.connection
        task = future.task_id
        with connection.lock:
            block = self._block_of(task)
            if block is None:
                return True
            try:
                connection.wait_for(lambda: block.stored > task or future.done(), timeout, f"task {task}")
            except TimeoutError:
                return False
            if block.stored > task or future._value is None or not isinstance(future._value, FlameError):
                return True
            if isinstance(future._value, TaskError):
                return True
            raise future._value

    def _wait_finished(self, timeout: float | None) -> None:
        connection = self.connection
        with connection.lock:
            for block in self._blocks:
                block.flush()
            connection.send()
            connection.wait_for(
                lambda: not any(block.outstanding or block.buffered for block in self._blocks if block.error is None),
                timeout,
                f"the tasks of session {self.id}",
                results=True,
            )

    def _finished(self) -> bool:
        return not any(block.outstanding for block in self._blocks)
