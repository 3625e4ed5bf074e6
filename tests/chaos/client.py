"""A client of a chaos run: `python -m tests.chaos.client load|read|unary NAME ENDPOINT DIRECTORY SEED [FORMER]`.

A client that loads opens one session after the other, and in each runs tasks one by one or maps them, cancels some, and
closes it, until there is a file `stop` in the directory. One that takes the place of a `FORMER` first goes on in the
sessions which that one has left open. A client that reads follows the results of sessions of others. The unary one is
in `unary`.
"""

import signal
import sys
import threading
from collections import deque
from pathlib import Path
from random import Random
from typing import Literal

import flame
from flame.sandbox.host import die_with_parent
from tests.chaos.facts import INDEXES, Log, facts_so_far, input_of, outcome_of
from tests.support import wait_until_true

APPLICATION = "chaos"
_PATIENCE_S = 240.0
_MOST_OUTSTANDING = 600


class Load:
    """What a client that submits does."""

    def __init__(self, connection: flame.Connection, name: str, directory: Path, seed: int) -> None:
        self._connection = connection
        self._name = name
        self._directory = directory
        self._chance = Random(seed)
        self._log = Log(directory, name)
        self._number = int(name[1:])
        self._index = 0
        self._submitted = 0
        self._done: deque[flame.Future] = deque()
        self._futures: dict[int, flame.Future] = {}
        self._broken: list[str] = []

    def run(self, former: str) -> None:
        """Go on in the sessions of a former client, then in own ones, until it is told to stop."""
        for session_id in self._left_open(former) if former else ():
            try:
                self._use(session_id, own=False)
            except flame.FailedPrecondition:
                if not self._stopping():
                    raise  # else whoever ends the run has closed it, before this client said that it goes on in it
        count = 0
        while not self._stopping():
            count += 1
            self._use(f"{self._name}-{count}", own=True)
            self._close_broken()

    def _use(self, session_id: str, *, own: bool) -> None:
        """All that is done with one session. Where the disk is full it is left open, for somebody else to close."""
        self._index = self._number * INDEXES
        self._submitted = 0
        self._futures.clear()
        self._done.clear()
        try:
            session = self._create(session_id) if own else self._open(session_id)
            if own and self._chance.random() < 0.25:
                self._map(session)
            else:
                self._run_tasks(session, bursts=self._chance.randrange(1, 12) if own else 1)
            self._finish(session)
            if own and self._chance.random() < 0.1:
                self._log.write("delete", session_id)
                self._connection.delete_session(session_id, timeout=_PATIENCE_S)
        except flame.ResourceExhausted as error:
            self._log.write("broken", session_id, str(error).replace(" ", "_"))
            self._broken.append(session_id)
            threading.Event().wait(0.2)

    def _left_open(self, former: str) -> list[str]:
        known = {view.id for view in self._connection.list_sessions(timeout=_PATIENCE_S)}
        return [session_id for session_id in left_open(self._directory, former) if session_id in known]

    def _close_broken(self) -> None:
        """Close what a full disk has left open, so that it keeps no executor from others."""
        while self._broken:
            self._log.write("close", self._broken[-1])
            try:
                self._connection.close_session(self._broken[-1], timeout=_PATIENCE_S)
            except flame.ResourceExhausted:
                return
            except flame.NotFound:
                pass  # it could not be created
            self._broken.pop()

    def _stopping(self) -> bool:
        return (self._directory / "stop").exists()

    def _open(self, session_id: str) -> flame.Session:
        self._log.write("open", session_id)
        return self._connection.open_session(session_id, timeout=_PATIENCE_S)

    def _create(self, session_id: str) -> flame.Session:
        least = self._chance.choice((0, 0, 0, 0, 0, 1))
        most = self._chance.choice((None, 1, 2, 3))
        self._log.write("create", session_id, most or 0)
        return self._connection.create_session(
            APPLICATION,
            session_id=session_id,
            common_data=str(self._directory).encode(),
            min_instances=least,
            max_instances=most,
            timeout=_PATIENCE_S,
        )

    # --- tasks one by one --------------------------------------------------------------------------------------------

    def _run_tasks(self, session: flame.Session, bursts: int) -> None:
        for _ in range(bursts):
            if self._stopping():
                break
            self._burst(session, self._chance.choice((1, 20, 100, 250)))
            what = self._chance.random()
            if what < 0.3 and self._futures:
                self._cancel(session)
            elif what < 0.4:
                threading.Event().wait(self._chance.random() / 4)
            self._drain(session)
            while len(self._futures) > _MOST_OUTSTANDING:
                self._wait_one(session)

    def _burst(self, session: flame.Session, count: int) -> None:
        """Submit tasks: what is meant stands in the log before, the ids after."""
        first = self._index
        self._index += count
        self._log.write("intent", session.id, first, count)
        begun: list[tuple[int, int]] = []
        for index in range(first, first + count):
            try:
                future = session.run(input_of(session.id, index), timeout=_PATIENCE_S)
            except flame.FlameError:
                break
            begun.append((future.task_id, index))
            self._futures[future.task_id] = future
            future.add_done_callback(self._done.append)
        self._submitted += len(begun)
        for task, length in _runs([task for task, _ in begun]):
            at = next(index for known, index in begun if known == task)
            self._log.write("sub", session.id, task, at, length)
        if self._chance.random() < 0.6:
            self._flush(session, [task for task, _ in begun])

    def _flush(self, session: flame.Session, tasks: list[int]) -> None:
        try:
            session.flush(timeout=_PATIENCE_S)
        except flame.FlameError:
            return  # refused: its futures say so
        for first, count in _runs(tasks):
            self._log.write("ack", session.id, first, count)

    def _cancel(self, session: flame.Session) -> None:
        for task in self._chance.sample(sorted(self._futures), min(len(self._futures), 5)):
            self._log.write("ask", session.id, task, 1)
            if self._futures[task].cancel(timeout=_PATIENCE_S):
                self._log.write("cancelled", session.id, task, 1)

    def _wait_one(self, session: flame.Session) -> None:
        next(iter(self._futures.values())).exception(timeout=_PATIENCE_S)
        self._drain(session)

    def _drain(self, session: flame.Session) -> None:
        """Log what has become of tasks since the last time."""
        outcomes: dict[int, int] = {}
        refused: list[int] = []
        done = self._done
        while done:
            future = done.popleft()
            if self._futures.pop(future.task_id, None) is None:
                continue
            error = future.exception(timeout=0)
            if error is not None and not isinstance(error, flame.TaskError):
                refused.append(future.task_id)
            else:
                outcomes[future.task_id] = outcome_of(error if error is not None else future.result(timeout=0))
        for first, count in _runs(sorted(outcomes)):
            values = ",".join(str(outcomes[task]) for task in range(first, first + count))
            self._log.write("saw", session.id, first, values, 0)
        for first, count in _runs(sorted(refused)):
            self._log.write("refused", session.id, first, count)

    def _finish(self, session: flame.Session) -> None:
        early = self._chance.random() < 0.2
        if early:
            self._log.write("close", session.id)
            session.close(wait=False, timeout=_PATIENCE_S)
        while self._futures:
            self._wait_one(session)
        self._log.write("finish", session.id, self._submitted)
        if not early:
            self._log.write("close", session.id)
            session.close(timeout=_PATIENCE_S)
        self._log.write("closed", session.id)

    # --- map ---------------------------------------------------------------------------------------------------------

    def _map(self, session: flame.Session) -> None:
        """Map over a session of its own, in which the first task is 1."""
        count = self._chance.choice((50, 400, 1_000))
        first = self._index
        self._log.write("intent", session.id, first, count)
        self._log.write("sub", session.id, 1, first, count)
        self._submitted = count
        inputs = (input_of(session.id, index) for index in range(first, first + count))
        outcomes = session.map(inputs, window=300, return_exceptions=True, timeout=_PATIENCE_S)
        seen: list[str] = []
        self._log.write("ask", session.id, 1, count)  # what a map that breaks off does
        for task, outcome in enumerate(outcomes, 1):
            seen.append(str(outcome_of(outcome)))
            if len(seen) >= 20 or task == count:
                self._log.write("saw", session.id, task - len(seen) + 1, ",".join(seen), 0)
                seen.clear()


def left_open(directory: Path, name: str) -> list[str]:
    """Sessions that a client has begun to create or open, and not to close."""
    facts = facts_so_far(directory, name)
    closed = {fact.words[1] for fact in facts if fact.words[0] == "close"}
    return [fact.words[1] for fact in facts if fact.words[0] in ("create", "open") and fact.words[1] not in closed]


def _runs(tasks: list[int]) -> list[tuple[int, int]]:
    """First and count of the runs of numbers that follow each other."""
    runs: list[tuple[int, int]] = []
    for task in tasks:
        if runs and task == runs[-1][0] + runs[-1][1]:
            runs[-1] = (runs[-1][0], runs[-1][1] + 1)
        else:
            runs.append((task, 1))
    return runs


def read(connection: flame.Connection, name: str, directory: Path, seed: int) -> None:
    """Follow the results of sessions, one after the other, until none comes any more."""
    chance, log = Random(seed), Log(directory, name)
    followed: set[str] = set()

    def fresh_ones() -> list[str]:
        views = connection.list_sessions(timeout=_PATIENCE_S)
        return [view.id for view in views if view.id not in followed]

    while True:
        fresh = wait_until_true(lambda: fresh_ones() or (directory / "stop").exists(), 600.0, "a session or the end")
        if not isinstance(fresh, list):
            return
        session_id = chance.choice(fresh[-5:])
        followed.add(session_id)
        try:
            for result in connection.results(session_id, follow=True, timeout=_PATIENCE_S):
                value = result.output if result.error is None else result.error
                log.write("saw", session_id, result.task_id, outcome_of(value), result.sequence)
        except flame.NotFound:
            continue  # it was deleted meanwhile
        log.write("finish", session_id, 1)


def _main(role: str, name: str, endpoint: str, directory: Path, seed: int, former: str) -> None:
    if role == "unary":
        from tests.chaos.unary import Unary  # the others need no grpc

        Unary(endpoint.removeprefix("http://"), name, directory, seed).run()
        return
    carrier: Literal["grpc"] | None = "grpc" if endpoint.startswith("http:") else None
    with flame.connect(endpoint, timeout=_PATIENCE_S, carrier=carrier) as connection:
        if role == "read":
            read(connection, name, directory, seed)
        else:
            Load(connection, name, directory, seed).run(former)


if __name__ == "__main__":
    die_with_parent(signal.SIGKILL)
    _main(sys.argv[1], sys.argv[2], sys.argv[3], Path(sys.argv[4]), int(sys.argv[5]), "".join(sys.argv[6:]))
