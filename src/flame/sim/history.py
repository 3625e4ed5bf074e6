"""The history of a cluster as clients and services saw it, and a judge over it that knows nothing else.

A `History` is told facts: a client submitted these tasks, was told that they are stored, saw this outcome; a process of
a service started that task, and ended. It knows no state of the session manager, so an error in the engine's own idea
of things cannot hide from it. Facts come from virtual time or from the logs of real processes, in the order of their
times (nanoseconds of one clock). Broken rules stand in `History.check()` as text that names what, whose and when.

Sessions are named by whoever tells the facts, each by a key of its own; a name that is used again needs another key.
What is known per task stands in columns of numbers, so that millions of tasks cost about 60 bytes each.

Example:
    >>> history = History()
    >>> history.submitted(1, "s", "client", 1, [digest(b"in")])
    >>> history.acknowledged(2, "s", "client", 1, 1)
    >>> [str(violation) for violation in history.check(9)]
    ['lost: session s, task 1, at 0.000 ms: acknowledged, but it has no outcome at the end']
"""

from collections import Counter
from collections.abc import Sequence
from enum import StrEnum
from functools import partial
from hashlib import blake2b

import msgspec

from flame.model.limits import MAX_START_FAILURES, MAX_TASK_DEATHS
from flame.sim.history_facts import Process, Reader, SessionFacts
from flame.sim.stored import Promises, lost

CANCELLED, RAISED, DIED, NOT_STARTED = range(1, 5)
"""Outcomes without an output: cancelled; the service raised; died with its process too often; no executor started."""
SESSION_MANAGER = "session manager"
HARMLESS = frozenset({SESSION_MANAGER, "supervisor", "client", "connection of a client", "disk"})
"""Kinds of faults that must never make a task run twice."""
_SMALLEST_DIGEST = 16
_MOST_VIOLATIONS = 1_000
_MS = 1_000_000


def digest(payload: bytes | None) -> int:
    """An input or output as one number, which is the outcome of a task that succeeded."""
    if payload is None:
        return _SMALLEST_DIGEST
    return _SMALLEST_DIGEST + 1 + int.from_bytes(blake2b(payload, digest_size=7).digest(), "little")


class Rule(StrEnum):
    """What is broken."""

    LOST = "lost"
    UNKNOWN_TASK = "unknown task"
    TWO_RESULTS = "two results"
    ORDER = "order of results"
    TAKEN_BACK = "taken back"
    RESULT_DIFFERS = "result differs"
    WRONG_OUTCOME = "wrong outcome"
    WRONG_INPUT = "wrong input"
    RAN_TWICE = "ran twice"
    RAN_AFTER_RESULT = "ran after its result"
    RAN_AFTER_LEASE = "ran after the lease"
    RAN_AFTER_END = "ran after its end"
    OUTLIVED = "outlived its lease"
    RAN_AND_CANCELLED = "ran and cancelled"
    ATTEMPT = "attempt"
    DIED_TOO_OFTEN = "died too often"
    CAPACITY = "capacity"
    PROGRESS = "progress"


class Violation(msgspec.Struct, frozen=True):
    """One broken rule; `task` is 0 where it is about no single one."""

    rule: Rule
    at_ns: int
    session: str
    task: int
    text: str

    def __str__(self) -> str:
        where = f"session {self.session}, " if self.session else ""
        task = f"task {self.task}, " if self.task else ""
        return f"{self.rule}: {where}{task}at {self.at_ns / _MS:.3f} ms: {self.text}"


class History:
    """Facts, and what is wrong with them.

    Args:
        once: while all faults were `HARMLESS`, no uncertainty excuses a second run.

    Attributes:
        again: how often a task was started once more, by the reason why the earlier run did not count.
        counts: how many facts of each kind there are.
        promises: what clients were told that has to stay true.
    """

    def __init__(self, *, once: bool = True) -> None:
        self.again: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()
        self._once = once
        self._sessions: dict[str, SessionFacts] = {}
        self._processes: dict[tuple[str, int], Process] = {}
        self._numbered: list[Process] = []
        self._nodes: dict[str, int] = {}
        self._faults: dict[str, int] = {}
        self._healed_ns: int | None = None
        self._violations: list[Violation] = []
        self._dropped = 0
        self.promises = Promises(partial(self._broken, Rule.TAKEN_BACK))

    def _session(self, name: str) -> SessionFacts:
        session = self._sessions.get(name)
        if session is None:
            session = self._sessions[name] = SessionFacts(name)
        return session

    def _broken(self, rule: Rule, at_ns: int, session: str, task: int, text: str) -> None:
        if len(self._violations) < _MOST_VIOLATIONS:
            self._violations.append(Violation(rule, at_ns, session, task, text))
        else:
            self._dropped += 1

    # --- facts of clients --------------------------------------------------------------------------------------------

    def session(self, name: str, *, max_instances: int | None = None) -> None:
        """A session that has bounds; any other is known by its first fact."""
        self._session(name).max_instances = max_instances

    def submitted(self, at_ns: int, name: str, client: str, first: int, inputs: Sequence[int]) -> None:
        """A client is about to submit these tasks, whose inputs have these digests."""
        end = first + len(inputs)
        self.counts["submitted"] += len(inputs)
        session = self._session(name)
        for low, high in session.submitted.overlap(first, end):
            self._broken(Rule.UNKNOWN_TASK, at_ns, name, low, f"{client} submits {low}..{high - 1} a second time")
        session.submitted.add(first, end)
        session.reader(client).submitted.add(first, end)
        session.add(first, inputs)
        self.promises.submitted(at_ns, name, first, len(inputs))

    def acknowledged(self, at_ns: int, name: str, client: str, first: int, count: int) -> None:
        """A client was told that these tasks are stored."""
        self.counts["acknowledged"] += count
        session = self._session(name)
        self._known(at_ns, session, first, count, f"{client} was told that it is stored")
        session.acknowledged.add(first, first + count)
        self.promises.acknowledged(at_ns, name, first, count)

    def refused(self, at_ns: int, name: str, client: str, first: int, count: int, *, not_stored: bool = False) -> None:
        """A client was told that no results come for these tasks; `not_stored` if none of them is there or will be."""
        self.counts["refused"] += count
        session = self._session(name)
        if not_stored:
            session.not_stored.add(first, first + count)
        session.reader(client).refused.add(first, first + count)
        for low, _ in [] if session.deleted else session.acknowledged.overlap(first, first + count):
            self._broken(Rule.LOST, at_ns, name, low, f"acknowledged, and then {client} was told that no result comes")

    def cancel_asked(self, name: str, first: int, count: int) -> None:
        """Somebody is about to ask that these tasks are cancelled."""
        self._session(name).cancel_asked.add(first, first + count)

    def cancelled(self, at_ns: int, name: str, first: int, count: int) -> None:
        """Somebody was told that these tasks are cancelled."""
        self.counts["cancelled"] += count
        session = self._session(name)
        if self._known(at_ns, session, first, count, "somebody was told that it is cancelled"):
            session.cancelled.add(first, first + count)

    def close_asked(self, name: str) -> None:
        """Somebody is about to ask that the session is closed, which cancels what waits."""
        self._session(name).close_asked = True

    def deleted(self, name: str) -> None:
        """Somebody is about to ask that the session is deleted: what is not read yet may be gone."""
        self._session(name).deleted = True
        self.promises.delete_asked(name)

    def saw(
        self, at_ns: int, name: str, reader: str, first: int, outcomes: Sequence[int], *, sequence: int = 0
    ) -> None:
        """Somebody was given the outcomes of tasks that follow each other; `sequence` of the segment, 0 if unknown."""
        self.counts["seen"] += len(outcomes)
        session = self._session(name)
        view = session.reader(reader)
        self._view(at_ns, session, view, first, outcomes, sequence)

    def finished(self, name: str, reader: str) -> None:
        """Somebody has all results that it will ever get: a submitter of its own tasks, a reader of all."""
        self._session(name).reader(reader).finished = True

    def stored(self, at_ns: int, name: str, sequence: int, first: int, outcomes: Sequence[int]) -> None:
        """A segment of outcomes as it stands in the store; all of them are told, each session's in their order."""
        session = self._session(name)
        if sequence != session.store.sequence + 1:
            text = f"segment {sequence} of the store follows {session.store.sequence}"
            self._broken(Rule.ORDER, at_ns, name, first, text)
        session.store.finished = True
        self._view(at_ns, session, session.store, first, outcomes, sequence)

    def _known(self, at_ns: int, session: SessionFacts, first: int, count: int, what: str) -> bool:
        unknown = next(session.submitted.missing(first, first + count), None)
        if unknown:
            self._broken(Rule.UNKNOWN_TASK, at_ns, session.name, unknown[0], f"{what}, but nobody submitted it")
        return not unknown

    def _view(
        self, at_ns: int, session: SessionFacts, view: Reader, first: int, outcomes: Sequence[int], sequence: int
    ) -> None:
        count = len(outcomes)
        if not self._known(at_ns, session, first, count, f"{view.name} was given an outcome"):
            return
        for low, _ in view.seen.overlap(first, first + count):
            self._broken(Rule.TWO_RESULTS, at_ns, session.name, low, f"{view.name} was given a second outcome")
        if sequence:
            if sequence < view.sequence:
                text = f"{view.name} was given segment {sequence} after {view.sequence}"
                self._broken(Rule.ORDER, at_ns, session.name, first, text)
            view.sequence = sequence
        view.seen.add(first, first + count)
        for task, column, old, new in session.record(at_ns, first, outcomes, sequence):
            text = f"{view.name} was given {column} {new}, others {old}"
            self._broken(Rule.RESULT_DIFFERS, at_ns, session.name, task, text)

    # --- facts of services and nodes ---------------------------------------------------------------------------------

    def node(self, name: str, executors: int) -> None:
        """A node has room for so many executors at a time."""
        self._nodes[name] = executors

    def bound(self, at_ns: int, name: str, executor: str, binding: int, *, node: str = "", places: int = 1) -> None:
        """A process was started for a session; it takes so many places of its node."""
        self.counts["bound"] += 1
        process = self._process(at_ns, name, executor, binding)
        process.node, process.places = node, places

    def _process(self, at_ns: int, name: str, executor: str, binding: int) -> Process:
        process = self._processes.get((executor, binding))
        if process is None:
            process = Process(executor, binding, name, at_ns, number=len(self._numbered))
            self._processes[executor, binding] = process
            self._numbered.append(process)
        elif at_ns > process.last_ns:
            process.last_ns = at_ns
        return process

    def start_failed(self, name: str) -> None:
        """A process for this session ended before it had entered it, or could not be started."""
        self._session(name).start_failures += 1

    def started(
        self,
        at_ns: int,
        name: str,
        task: int,
        executor: str,
        binding: int,
        *,
        input: int = 0,
        attempt: int = 0,
        lease_end_ns: int | None = None,
    ) -> None:
        """A process starts a task.

        Args:
            input: digest of its input as the service got it; 0 if unknown.
            attempt: 0 if unknown.
            lease_end_ns: of its node, as the process knows it.
        """
        self.counts["started"] += 1
        session = self._session(name)
        process = self._process(at_ns, name, executor, binding)
        if task not in session.submitted:
            self._known(at_ns, session, task, 1, f"{process} starts it")
            return
        self._check_start(at_ns, session, process, task, lease_end_ns)
        place, columns = session.place(task)
        if input and columns.inputs[place] and input != columns.inputs[place]:
            self._broken(Rule.WRONG_INPUT, at_ns, name, task, f"{process} got another input than was submitted")
        if attempt:
            before = columns.attempts[place]
            if attempt == before or (attempt < before and process.unsure_ns is None):
                text = f"{process} starts attempt {attempt} after attempt {before}"
                self._broken(Rule.ATTEMPT, at_ns, name, task, text)
            columns.attempts[place] = max(before, attempt)
        for earlier in session.runs_of(task):
            session.reruns.append((at_ns, task, earlier, process.number))
        session.ran(task, process.number)
        process.running = task

    def _check_start(
        self, at_ns: int, session: SessionFacts, process: Process, task: int, lease_end_ns: int | None
    ) -> None:
        if process.session != session.name:
            text = f"{process} is bound to session {process.session}"
            self._broken(Rule.RAN_TWICE, at_ns, session.name, task, text)
        if process.ended_ns is not None and process.ended_ns < at_ns:
            text = f"{process} ended at {process.ended_ns / _MS:.3f} ms"
            self._broken(Rule.RAN_AFTER_END, at_ns, session.name, task, text)
        ends_ns = min((end for end in (lease_end_ns, process.lease_end_ns) if end is not None), default=None)
        if ends_ns is not None and ends_ns <= at_ns:
            text = f"{process} starts it, and its lease ended at {ends_ns / _MS:.3f} ms"
            self._broken(Rule.RAN_AFTER_LEASE, at_ns, session.name, task, text)
        recorded_ns = session.recorded_ns(task)
        if recorded_ns and recorded_ns < at_ns and (process.first_ns > recorded_ns or not process.unsure(at_ns)):
            text = f"{process} starts it, and its result was seen at {recorded_ns / _MS:.3f} ms"
            self._broken(Rule.RAN_AFTER_RESULT, at_ns, session.name, task, text)

    def ended(self, at_ns: int, name: str, task: int, executor: str, binding: int, outcome: int) -> None:
        """A process is done with a task; `outcome` is the digest of its output, or `RAISED`."""
        self.counts["ended"] += 1
        process = self._process(at_ns, name, executor, binding)
        if process.running != task:
            text = f"{process} ends it, but what it started last is {process.running}"
            self._broken(Rule.WRONG_OUTCOME, at_ns, name, task, text)
            return
        process.running = 0
        self._session(name).computed(task, outcome)

    def died(
        self,
        at_ns: int,
        executor: str,
        binding: int,
        *,
        cause: str = "died",
        well: bool = False,
        killed: bool = False,
        charged: int = 0,
        or_charged: int = 0,
    ) -> None:
        """A process has ended by now; `well` if it did so after all it had finished was acknowledged.

        Args:
            killed: its node has ended it, which is charged to no task.
            charged: the task that is charged where it ran none: the first one that it held, if it never reported any.
            or_charged: another one that may be charged instead, where it cannot be known which.
        """
        process = self._processes.get((executor, binding))
        if process is not None and process.ended_ns is None:
            process.ended_ns, process.cause, process.well = at_ns, cause, well
            process.charged = 0 if killed else process.running or charged
            process.or_charged = 0 if killed else process.running or or_charged

    def lease_ended(self, at_ns: int, executor: str, binding: int, *, gone: bool = False) -> None:
        """The lease that a process runs under is over: it may start nothing more, and counts no longer.

        Args:
            gone: it has to be gone, since its node was there to end it.
        """
        process = self._processes.get((executor, binding))
        if gone and process is not None and process.ended_ns is None:
            text = f"the lease of {process} is over, and its node has not ended it"
            self._broken(Rule.OUTLIVED, at_ns, process.session, process.running, text)
        if process is not None and process.lease_end_ns is None:
            process.lease_end_ns = at_ns

    def uncounted(self, at_ns: int, executor: str, binding: int) -> None:
        """From now on the lease of a process may be over: the places it takes do not count, but it may go on."""
        process = self._processes.get((executor, binding))
        if process is not None:
            process.uncounted_ns = min(at_ns, process.uncounted_ns or at_ns)

    def unsure(self, at_ns: int, executor: str, binding: int, cause: str) -> None:
        """From now on nobody can know what this process holds: its tasks may run beside, within its lease."""
        process = self._processes.get((executor, binding))
        if process is not None and process.unsure_ns is None:
            process.unsure_ns, process.unsure_cause = at_ns, cause

    def fault(self, at_ns: int, kind: str) -> None:
        """Something was broken on purpose."""
        self._faults.setdefault(kind, at_ns)
        self.counts[f"fault: {kind}"] += 1

    def healed(self, at_ns: int) -> None:
        """Nothing is broken any more, nor will be."""
        self._healed_ns = at_ns

    # --- judgement ---------------------------------------------------------------------------------------------------

    def check(self, at_ns: int, *, patience_ns: int | None = None) -> list[Violation]:
        """All that is wrong, once everything is over; call it once.

        Args:
            at_ns: the end of the history.
            patience_ns: all outcomes have to be there so long after `healed`.
        """
        for session in self._sessions.values():
            for task, text in lost(session):
                self._broken(Rule.LOST, session.last_recorded_ns, session.name, task, text)
            self._check_outcomes(session)
            self._check_reruns(session)
            late_ns = session.last_recorded_ns
            if patience_ns is not None and self._healed_ns is not None and late_ns > self._healed_ns + patience_ns:
                text = f"an outcome came {(late_ns - self._healed_ns) / _MS:.0f} ms after everything was healed"
                self._broken(Rule.PROGRESS, late_ns, session.name, 0, text)
            if session.max_instances is not None:
                mine = [process for process in self._numbered if process.session == session.name]
                self._check_places(mine, session.max_instances, session.name, "max_instances")
        for node, executors in self._nodes.items():
            here = [process for process in self._numbered if process.node == node]
            self._check_places(here, executors, "", f"the capacity of node {node}")
        if self._dropped:
            text = f"and {self._dropped} more of all kinds"
            self._violations.append(Violation(self._violations[-1].rule, at_ns, "", 0, text))
            self._dropped = 0
        return self._violations

    def _check_outcomes(self, session: SessionFacts) -> None:
        for task, outcome, at_ns in session.odd_outcomes():
            problem = self._problem(session, task, outcome)
            if problem:
                self._broken(Rule.WRONG_OUTCOME, at_ns, session.name, task, problem)
            elif outcome == CANCELLED:
                self._check_cancelled(session, task, at_ns)
        for first, end in session.not_stored:
            for task, _, at_ns in session.outcomes(first, end):
                text = "its client was told that it is not stored, and it has an outcome"
                self._broken(Rule.WRONG_OUTCOME, at_ns, session.name, task, text)
        for first, end in session.cancelled:
            for task, outcome, at_ns in session.outcomes(first, end):
                if outcome != CANCELLED:
                    text = "somebody was told that it is cancelled, and it has another outcome"
                    self._broken(Rule.WRONG_OUTCOME, at_ns, session.name, task, text)

    def _problem(self, session: SessionFacts, task: int, outcome: int) -> str:
        """What is wrong with an outcome that no process has computed just so."""
        if outcome == CANCELLED:
            return "" if session.close_asked or task in session.cancel_asked else "cancelled, and nobody asked for it"
        if outcome == DIED:
            mine = [process for process in self._numbered if process.session == session.name]
            deaths = sum(task in process.suspects for process in mine)
            return "" if deaths >= MAX_TASK_DEATHS else f"failed for its deaths, and {deaths} processes died with it"
        if outcome == NOT_STARTED:
            failures = session.start_failures
            return "" if failures >= MAX_START_FAILURES else f"no executor could start, after {failures} failures"
        what = "failed" if outcome == RAISED else "an output"
        return f"its outcome is {what}, which no process answered"

    def _check_cancelled(self, session: SessionFacts, task: int, at_ns: int) -> None:
        for number in session.runs_of(task):
            process = self._numbered[number]
            if not self._excuse(process, None, at_ns):
                text = f"cancelled, and {process} ran it, which was there and known"
                self._broken(Rule.RAN_AND_CANCELLED, at_ns, session.name, task, text)

    def _check_reruns(self, session: SessionFacts) -> None:
        for at_ns, task, earlier_number, number in session.reruns:
            earlier, process = self._numbered[earlier_number], self._numbered[number]
            excuse = self._excuse(earlier, process, at_ns)
            if excuse:
                self.again[excuse] += 1
                continue
            text = f"{earlier} had started it, now {process} does, and the first was there and known"
            self._broken(Rule.RAN_TWICE, at_ns, session.name, task, text)

    def _excuse(self, earlier: Process, process: Process | None, at_ns: int) -> str:
        """Why what `earlier` had started did not count at a time, or empty."""
        ended = earlier.ended_ns is not None and earlier.ended_ns <= at_ns
        if ended and not earlier.well:
            return earlier.cause
        if not ended and earlier.lease_end_ns is not None and earlier.lease_end_ns <= at_ns:
            return "the lease was over"
        others = any(kind not in HARMLESS and since_ns <= at_ns for kind, since_ns in self._faults.items())
        if self._once and self._faults and not others:
            return ""
        if earlier.unsure(at_ns):
            return earlier.unsure_cause
        if process is not None and process.unsure(at_ns):
            return process.unsure_cause
        gone = earlier is not process and earlier.ended_ns is None and earlier.last_ns <= at_ns and others
        return "it was never heard of again" if gone else ""

    def _check_places(self, processes: list[Process], most: int, session: str, what: str) -> None:
        """No more places are taken at a time than there are; each is, from a process's start to its end."""
        changes = sorted(change for process in processes for change in process.changes())
        taken = 0
        for at_ns, places, number in changes:
            taken += places
            if taken > most:
                text = f"{taken} executors at a time, {what} is {most}; the last is {self._numbered[number]}"
                self._broken(Rule.CAPACITY, at_ns, session, 0, text)
                return
