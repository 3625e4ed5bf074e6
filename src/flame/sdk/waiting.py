"""Waiting for several futures."""

import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from queue import Empty, SimpleQueue
from typing import Literal, NamedTuple

from flame.sdk.futures import ERROR, Future

ReturnWhen = Literal["FIRST_COMPLETED", "FIRST_EXCEPTION", "ALL_COMPLETED"]
FIRST_COMPLETED: ReturnWhen = "FIRST_COMPLETED"
FIRST_EXCEPTION: ReturnWhen = "FIRST_EXCEPTION"
ALL_COMPLETED: ReturnWhen = "ALL_COMPLETED"


class DoneAndPending(NamedTuple):
    """What `wait` returns."""

    done: set[Future]
    pending: set[Future]


def wait(
    futures: Iterable[Future], timeout: float | None = None, return_when: ReturnWhen = ALL_COMPLETED
) -> DoneAndPending:
    """Wait for futures, of one session or several.

    Args:
        futures: what to wait for.
        timeout: longest wait in seconds. When it is over the rest is pending; nothing is raised.
        return_when: `ALL_COMPLETED`, `FIRST_COMPLETED`, or `FIRST_EXCEPTION`: the first that failed or was cancelled,
            or all.

    Example:
        done, pending = flame.wait([session.run(b"one"), session.run(b"two")], timeout=5)
    """
    awaited = list(futures)
    deadline = None if timeout is None else time.monotonic() + timeout
    if return_when == ALL_COMPLETED:
        # Backwards: when the last one is done most are, so that there are few waits and no bookkeeping per future.
        for future in reversed(awaited):
            if not future._state and not future._wait_done(deadline):
                break
    elif return_when in (FIRST_COMPLETED, FIRST_EXCEPTION):
        for future in _arrivals(awaited, deadline):
            if return_when == FIRST_COMPLETED or future._state == ERROR:
                break
    else:
        raise ValueError(f"return_when is {return_when!r}; use ALL_COMPLETED, FIRST_COMPLETED or FIRST_EXCEPTION")
    done = {future for future in awaited if future._state}
    return DoneAndPending(done, {future for future in awaited if future not in done})


def as_completed(futures: Iterable[Future], timeout: float | None = None) -> Iterator[Future]:
    """Yield futures as they are done, each once.

    Args:
        futures: what to wait for.
        timeout: seconds from this call until all have to be done.

    Raises:
        TimeoutError: some are not done in time.
    """
    awaited = dict.fromkeys(futures)
    deadline = None if timeout is None else time.monotonic() + timeout
    return _completed(list(awaited), deadline, timeout)


def _completed(awaited: list[Future], deadline: float | None, timeout: float | None) -> Iterator[Future]:
    left = len(awaited)
    for future in _arrivals(awaited, deadline):
        left -= 1
        yield future
    if left:
        raise TimeoutError(f"{left} of {len(awaited)} tasks are not done after {timeout:g} s")


def _arrivals(awaited: list[Future], deadline: float | None) -> Iterator[Future]:
    """The futures as they are done, until all are or `deadline` has come."""
    arrived: SimpleQueue[Future] = SimpleQueue()
    connections = {id(future._session.connection): future._session.connection for future in awaited}.values()
    for connection in connections:
        connection.check_can_wait()
    for future in awaited:
        if not future._watch(arrived.put):
            arrived.put(future)
    try:
        for _ in awaited:
            try:
                future = arrived.get_nowait()
            except Empty:
                left_s = None if deadline is None else deadline - time.monotonic()
                if left_s is not None and left_s <= 0:
                    return
                with ExitStack() as waits:
                    for connection in connections:
                        waits.enter_context(connection.awaited())
                    try:
                        future = arrived.get(timeout=left_s)
                    except Empty:
                        return
            yield future
    finally:
        for future in awaited:
            if not future._state:
                future._unwatch(arrived.put)
