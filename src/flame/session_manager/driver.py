"""The driver: the only place where the core meets an event loop, a clock and the store.

It has no `if` on the state of a session, task or executor. A turn runs when events wait: effects that depend on
nothing new go out, the writes are committed, the other effects follow. Commits run inline; where the disk turns out
to be slow, in one thread, while events pile up for the next turn.
"""

import asyncio
import os
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from flame.carriers.port import Link
from flame.core.control.effects import (
    Answer,
    DropExecutorLink,
    DropNodeLink,
    Effect,
    LoadInputs,
    PurgeRows,
    ReadSegments,
    SendToClient,
    SendToExecutor,
    SendToNode,
    TellWatch,
)
from flame.core.control.events import Event, InputsLoaded, RowsPurged, SegmentsRead, SpaceMeasured, TimeReached
from flame.core.control.state import Batch, State
from flame.model.errors import FlameError, ResourceExhausted
from flame.model.limits import BLOCK_TASKS, MAX_UNARY_PER_TURN, MAX_WAITING_BYTES
from flame.model.messages import Message, Refused
from flame.session_manager.pump import Pump
from flame.session_manager.turnstile import Turnstile
from flame.stores.port import Store

SLOW_COMMIT_S = 0.002
"""Median commit above which commits move to a thread."""
GATHER_S = 0.008
"""How long results of an executor that has more to do may wait for others, to be stored with them."""
SPACE_INTERVAL_S = 1.0
BUSY_SPACE_INTERVAL_S = 0.02
"""How often free space is measured while something is written: a fast client fills hundreds of MB in a second."""
PURGE_BYTES = 4 * 1024 * 1024
_QUERY_S = 0.0001
"""What a query takes, about."""
_EXIT_STORE_BROKEN = 74


class Clock:
    """Milliseconds since 1970 that never decrease: the stored or the wall clock at start, then monotonic time."""

    def __init__(self, stored_ms: int) -> None:
        self._offset_ns = max(stored_ms * 1_000_000, time.time_ns()) - time.monotonic_ns()

    def now_ms(self) -> int:
        """The present time."""
        return (time.monotonic_ns() + self._offset_ns) // 1_000_000


class Driver:
    """Runs the pump on the running event loop.

    Args:
        state: of the core, recovered.
        store: opened.
        clock: the core's time.
    """

    def __init__(self, state: State, store: Store, clock: Clock) -> None:
        self.state = state
        self.store = store
        self.links: dict[int, Link] = {}
        self._clock = clock
        self._pump = Pump(state)
        self._loop = asyncio.get_running_loop()
        self._scheduled = False
        self._stored = False
        """Whether a commit is under way in the thread."""
        self._queries: deque[asyncio.Future[None]] = deque()
        self._letting = False
        self._put_off: asyncio.TimerHandle | None = None
        self._wake: asyncio.TimerHandle | None = None
        self._wake_at_ms: int | None = None
        self._answers: dict[int, asyncio.Future[Answer]] = {}
        self._watches: dict[int, Callable[[TellWatch], None]] = {}
        self._requests = 0
        self.turnstile = Turnstile()
        """Unary calls pass it before they do anything."""
        self.after_turn: Callable[[], None] | None = None
        """Called when a turn has ended, to offer what was held back."""
        self._lazy: dict[int, list[Message]] = {}
        self._lazy_sends: asyncio.Handle | None = None
        self.commit_s = 0.0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="flame-commit")
        self._effects: dict[type, Callable[[Any], None]] = {
            SendToClient: self._send,
            SendToExecutor: self._send,
            SendToNode: self._send_at_once,
            DropExecutorLink: self._drop,
            DropNodeLink: self._drop,
            Answer: self._answer,
            TellWatch: self._tell_watch,
            LoadInputs: self._load_inputs,
            ReadSegments: self._read_segments,
            PurgeRows: self._purge_rows,
        }
        self._watch_space()

    def close(self) -> None:
        """End the thread for commits, if it was needed."""
        self._thread.shutdown()

    def offer(self, event: Event) -> None:
        """Give the core an event; it is handled with all that arrives in this pass of the event loop."""
        self._pump.offer(event)
        if not self._pump.can_wait(event):
            self._schedule()
        elif self._put_off is None:
            self._put_off = self._loop.call_later(GATHER_S, self._schedule)

    def is_full(self) -> bool:
        """Whether more events wait than the next turn takes: whoever can hold something back should."""
        return self._pump.is_full()

    def check_room(self) -> None:
        """Raise unless there is room for another event.

        Raises:
            ResourceExhausted: so much waits for a slow disk that more would only fill the memory.
        """
        if self._pump.waiting_bytes > MAX_WAITING_BYTES:
            raise ResourceExhausted(
                f"{self._pump.waiting_bytes} bytes wait to be stored, more than {MAX_WAITING_BYTES}",
                hint="the disk of the session manager is slow or its clients many: try again",
            )

    def request(self) -> tuple[int, asyncio.Future[Answer]]:
        """A request number, and the future of its answer."""
        self._requests += 1
        future: asyncio.Future[Answer] = self._loop.create_future()
        self._answers[self._requests] = future
        return self._requests, future

    def watch(self, tell: Callable[[TellWatch], None]) -> int:
        """A watch number; `tell` is called with what happens to it."""
        self._requests += 1
        self._watches[self._requests] = tell
        return self._requests

    def unwatch(self, watch: int) -> None:
        """Forget a watch."""
        self._watches.pop(watch, None)

    async def settled(self) -> State:
        """The state while nothing in it is unstored: for queries.

        Those that waited for a slow commit are answered in the order in which they came, and not all at once when it
        ends, or the streams would wait for them: they get about a quarter of the time.
        """
        if self._stored or self._queries:
            place: asyncio.Future[None] = self._loop.create_future()
            self._queries.append(place)
            await place  # a turn that is scheduled from now on begins behind all that are let go on
        return self.state

    def _let_queries(self) -> None:
        """Let some go on that wait, unless something is unstored or is about to be: then the end of that does it."""
        self._letting = False
        if self._stored or self._scheduled:
            return
        places = max(MAX_UNARY_PER_TURN, int(self.commit_s / 4 / _QUERY_S))
        while self._queries and places:
            place = self._queries.popleft()
            if not place.done():  # it may have been cancelled meanwhile
                place.set_result(None)
                places -= 1
        if self._queries and not self._letting:
            self._letting = True
            self._loop.call_soon(self._let_queries)

    # --- turns -------------------------------------------------------------------------------------------------------

    def _schedule(self) -> None:
        if not self._scheduled and not self._stored:
            self._scheduled = True
            self._loop.call_soon(self._guarded, self._turn)

    def _guarded(self, step: Callable[[], None]) -> None:
        """Do a part of a turn. After a failure the state is ahead of the store: to go on would be to lie."""
        try:
            step()
        except BaseException:
            end_process(f"a defect of Flame ended a turn half-way:\n{traceback.format_exc()}")

    def _turn(self) -> None:
        self._scheduled = False
        if self._put_off is not None:
            self._put_off.cancel()
            self._put_off = None
        batch = self._pump.turn(self._clock.now_ms())
        self._do(batch.now)
        if not batch.writes:
            self._finish(batch)
        elif self.commit_s > SLOW_COMMIT_S:
            self._stored = True
            done = self._loop.run_in_executor(self._thread, self._commit, batch)
            done.add_done_callback(lambda _: self._guarded(lambda: self._committed(batch)))
        else:
            self._commit(batch)
            self._finish(batch)

    def _commit(self, batch: Batch) -> None:
        start = time.perf_counter()
        try:
            self.store.commit(self.state.epoch, batch.writes)
        except BaseException as error:
            # What was acknowledged is stored; of this batch nothing is known. Only a new start can tell.
            end_process(f"the store failed to commit turn {batch.turn} ({len(batch.writes)} writes): {error}")
        taken = time.perf_counter() - start
        # A running median: it moves by a step towards each sample, however far away that is.
        self.commit_s += (taken > self.commit_s or -1) * max(self.commit_s, 0.0001) * 0.05

    def _committed(self, batch: Batch) -> None:
        self._stored = False
        self._finish(batch)

    def _finish(self, batch: Batch) -> None:
        self._let_queries()  # first: they wake up before the next turn leaves something unstored again
        self._pump.committed(batch.turn)
        self._do(batch.after)
        self._read(self.store.maintain)
        if batch.writes and self._loop.time() - self._space_measured_s > BUSY_SPACE_INTERVAL_S:
            self._measure_space()
        self._set_wake(batch.wake_at_ms)
        if self.after_turn is not None:
            self.after_turn()
        if len(self._pump):
            self._schedule()

    def _do(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            self._effects[type(effect)](effect)

    def _set_wake(self, wake_at_ms: int | None) -> None:
        if wake_at_ms == self._wake_at_ms and (wake_at_ms is None or self._wake is not None):
            return
        if self._wake is not None:
            self._wake.cancel()
            self._wake = None
        self._wake_at_ms = wake_at_ms
        if wake_at_ms is not None:
            delay_s = max(0, wake_at_ms - self._clock.now_ms()) / 1000
            self._wake = self._loop.call_later(delay_s, self._wake_up)

    def _wake_up(self) -> None:
        self._wake = None
        self.offer(TimeReached())

    def _watch_space(self) -> None:
        if not self._stored:  # else the store is busy in its thread, and is measured when that has finished
            self._guarded(self._measure_space)
        self._loop.call_later(SPACE_INTERVAL_S, self._watch_space)

    def _measure_space(self) -> None:
        self._space_measured_s = self._loop.time()
        self.offer(SpaceMeasured(self._read(self.store.free_bytes)))

    # --- effects -----------------------------------------------------------------------------------------------------

    def _send_at_once(self, effect: SendToNode) -> None:
        link = self.links.get(effect.link)
        if link is not None:
            link.send(effect.message)

    def _send(self, effect: SendToClient | SendToExecutor) -> None:
        if effect.lazy:
            if self._lazy_sends is None:  # after all else of this pass: to wake a process up costs more than to send
                self._lazy_sends = self._loop.call_soon(self._send_lazy)
            self._lazy.setdefault(effect.link, []).append(effect.message)
            return
        link = self.links.get(effect.link)
        if link is not None:
            for message in self._lazy.pop(effect.link, ()):
                link.send(message)
            link.send(effect.message)

    def _send_lazy(self) -> None:
        self._lazy_sends = None
        lazy, self._lazy = self._lazy, {}
        for number, messages in lazy.items():
            link = self.links.get(number)
            if link is not None:
                for message in messages:
                    link.send(message)

    def _drop(self, effect: DropExecutorLink | DropNodeLink) -> None:
        link = self.links.get(effect.link)
        if link is not None:
            link.send(Refused(effect.error))
            link.close()

    def _answer(self, effect: Answer) -> None:
        future = self._answers.pop(effect.request, None)
        if future is not None and not future.done():
            future.set_result(effect)

    def _tell_watch(self, effect: TellWatch) -> None:
        tell = self._watches.get(effect.watch)
        if tell is not None:
            tell(effect)

    def _load_inputs(self, effect: LoadInputs) -> None:
        lengths, blob = self._read(lambda: self.store.read_inputs(effect.session, effect.first, effect.count))
        self.offer(InputsLoaded(effect.session, effect.first, effect.count, lengths, blob))

    def _read_segments(self, effect: ReadSegments) -> None:
        block = range(effect.block, effect.block + BLOCK_TASKS) if effect.block else None
        segments = self._read(lambda: self.store.read_segments(effect.session, effect.after, effect.limit_bytes, block))
        self.offer(SegmentsRead(effect.link, effect.attachment, segments, effect.through))

    def _purge_rows(self, effect: PurgeRows) -> None:
        self.offer(RowsPurged(self._read(lambda: self.store.purge(PURGE_BYTES))))

    def _read(self, read: Callable[[], Any]) -> Any:
        try:
            return read()
        except FlameError as error:
            end_process(f"the store cannot be used: {error}")


def end_process(reason: str) -> None:
    """End at once, saying why: going on would acknowledge what may not be stored."""
    try:
        sys.stderr.write(f"error: {reason}\n")
        sys.stderr.flush()
    finally:  # also where the log is on the disk that is full, or nobody reads it any more
        os._exit(_EXIT_STORE_BROKEN)
