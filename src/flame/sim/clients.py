"""Clients in simulation: the real half of the client's stream, a plan of what to ask, a memory of every answer."""

from collections import deque
from random import Random
from typing import Protocol

import msgspec

from flame.model.errors import FlameError, TaskCancelled, TaskFailed
from flame.model.messages import Message
from flame.model.specs import SessionSpec
from flame.protocol.client import ClientStream
from flame.protocol.client_attachment import Outcome, Part
from flame.protocol.client_submission import Submission
from flame.sim.nodes import TaskKind
from flame.sim.session_manager import CLOSE, DELETE
from flame.sim.virtual import NS_PER_MS, End, SimLink, VirtualTime


class Cluster(Protocol):
    """What clients need of the world around them."""

    time: VirtualTime
    random: Random

    def connect(self, peer: End) -> SimLink:
        """A new link to the session manager."""

    def note(self, text: str) -> None:
        """A line of the trace."""

    def make_kind(self, number: int) -> TaskKind:
        """What the next task is to do."""


class SessionPlan(msgspec.Struct, kw_only=True):
    """What a client does with one session.

    Args:
        tasks: how many it submits.
        burst: how many at a time, about.
        pause_ms: the longest pause between two bursts.
        cancels: how many ranges it asks to cancel.
        close_early: it closes the session with tasks in it.
        slow_ms: it takes results this much later than they come; 0 at once.
        delete: it deletes the session in the end.
    """

    spec: SessionSpec
    tasks: int
    burst: int
    pause_ms: int
    cancels: int = 0
    close_early: bool = False
    slow_ms: int = 0
    delete: bool = False


class SimSession:
    """One session of a client, and everything that it was told."""

    def __init__(self, cluster: Cluster, client: "SimClient", plan: SessionPlan, key: str) -> None:
        self.plan = plan
        self.kinds: dict[int, TaskKind] = {}
        self.outcomes: dict[int, Outcome] = {}
        self.cancelled: set[int] = set()
        self.failures: list[FlameError] = []
        self.stage = "attaching"
        self._cluster = cluster
        self._client = client
        self._last_sequence = 0
        self._submitted = 0
        self._cancels_left = plan.cancels
        self._cancels: list[int] = []
        self._held: deque[Part] = deque()
        self._call = 0
        stream = client.stream
        self.submission = Submission(
            stream, stream.next_attachment(), session_id="", key=key, create=plan.spec, sink=self
        )
        stream.attach(self.submission)

    @property
    def done(self) -> bool:
        """Whether it has done all it planned."""
        return self.stage == "done"

    @property
    def acknowledged(self) -> int:
        """Tasks that the session manager has acknowledged."""
        return self.submission.stored - self.submission.first

    # --- results -----------------------------------------------------------------------------------------------------

    def deliver(self, part: Part) -> bool:
        """Take results; each task's once, in the order of the segments."""
        sequence = part.segment.sequence
        assert sequence >= self._last_sequence, f"segment {sequence} after {self._last_sequence}"
        self._last_sequence = sequence
        for task, outcome in zip(range(part.first, part.first + part.count), part.outcomes(), strict=True):
            assert task in self.kinds, f"a result of task {task}, which was never submitted"
            assert task not in self.outcomes, f"task {task} has a second result"
            self.outcomes[task] = outcome
        if self.plan.slow_ms:
            self._held.append(part)
            if len(self._held) == 1:
                self._consume_later()
            return False
        return True

    def _consume_later(self) -> None:
        delay_ms = self._cluster.random.randrange(1, self.plan.slow_ms + 1)
        self._cluster.time.after(delay_ms * NS_PER_MS, self._consume)

    def _consume(self) -> None:
        part = self._held.popleft()
        part.source.consumed(part)
        if self._held:
            self._consume_later()
        self._client.flush()

    def fail(self, first: int, count: int, error: FlameError) -> None:
        """No results come for these tasks."""
        self.failures.append(error)
        for task in range(first, first + count):
            self.outcomes.setdefault(task, TaskFailed(f"refused: {error.message}", task_id=task))

    # --- what it does ------------------------------------------------------------------------------------------------

    def act(self) -> None:
        """Do the next thing, if it is time for it."""
        submission = self.submission
        if submission.error is not None and self.stage != "done":
            self.stage = "done"
        if self.stage == "attaching" and submission.attached is not None:
            self.stage = "submitting"
            self._burst()
        for request in [request for request in self._cancels if request in submission.answers]:
            self._cancels.remove(request)
            for part in submission.answers.pop(request):
                self.cancelled.update(range(part.first, part.end))
        if self.stage == "submitting" and self._submitted >= self.plan.tasks and not submission.buffered:
            self.stage = "waiting"
        everything = submission.outstanding == 0 or self.plan.close_early
        if self.stage == "waiting" and everything and not self._cancels:
            self.stage = "closing"
            self._call = self._client.stream.call(CLOSE, submission.session_id.encode())
        if self.stage == "closing" and self._call in self._client.stream.replies:
            self.stage = "closed"
        if self.stage == "closed" and submission.outstanding == 0:
            self.stage = "deleting" if self.plan.delete else "done"
            if self.plan.delete:
                self._call = self._client.stream.call(DELETE, submission.session_id.encode())
        if self.stage == "deleting" and self._call in self._client.stream.replies:
            self._deleted()

    def _deleted(self) -> None:
        reply = self._client.stream.replies.pop(self._call)
        error = None if isinstance(reply, FlameError) else reply.error
        if error is not None and error.code == "FAILED_PRECONDITION":
            self._call = self._client.stream.call(DELETE, self.submission.session_id.encode())
        else:
            self.stage = "done"

    def _burst(self) -> None:
        submission, random = self.submission, self._cluster.random
        if submission.error is not None or submission.refusal is not None:
            self._submitted = self.plan.tasks
        count = min(random.randrange(1, 2 * self.plan.burst), self.plan.tasks - self._submitted)
        for _ in range(count):
            kind = self._cluster.make_kind(self._submitted)
            self.kinds[submission.next_id] = kind
            submission.add(msgspec.json.encode(kind))
            self._submitted += 1
        if self._cancels_left and random.random() < 0.5 and submission.next_id > submission.first:
            self._cancels_left -= 1
            first = random.randrange(submission.first, submission.next_id)
            self._cancels.append(submission.cancel(first, random.randrange(1, 40)))
        if self._submitted < self.plan.tasks:
            self._cluster.time.after(random.randrange(1, self.plan.pause_ms + 1) * NS_PER_MS, self._burst)
        self._client.flush()

    # --- what is to be seen in the end -------------------------------------------------------------------------------

    def check(self, deaths: dict[int, int], start_failures: int) -> None:
        """Every task has the outcome that fits what it does and what happened to it."""
        name = self.submission.session_id
        for task, kind in self.kinds.items():
            assert task in self.outcomes, f"session {name}: task {task} has no result"
            outcome = self.outcomes[task]
            if task in self.cancelled:
                assert isinstance(outcome, TaskCancelled), f"session {name}: task {task} was cancelled, got {outcome!r}"
            if isinstance(outcome, TaskCancelled):
                assert self.plan.cancels or self.plan.close_early, f"session {name}: nobody cancelled task {task}"
            elif isinstance(outcome, TaskFailed):
                self._check_failure(task, kind, outcome, deaths.get(task, 0), start_failures)
            else:
                assert kind.behavior in ("ok", "abort once"), f"session {name}: task {task} should have failed"
                assert outcome == kind.output(), f"session {name}: task {task} has another task's output"

    def _check_failure(self, task: int, kind: TaskKind, failed: TaskFailed, deaths: int, start_failures: int) -> None:
        where = f"session {self.submission.session_id}: task {task} failed: {failed.message}"
        if failed.message.startswith("no executor could start"):
            assert start_failures >= 5, where
        elif "while it ran this task" in failed.message:
            assert deaths >= 3, where
        else:
            assert kind.behavior == "fail" or failed.message.startswith("refused"), where


class SimClient:
    """A client with a connection that comes back."""

    def __init__(self, cluster: Cluster, name: str, plans: list[SessionPlan]) -> None:
        self.name = name
        self.stream = ClientStream()
        self._cluster = cluster
        self._link: SimLink | None = None
        self._connect()
        self.sessions = [SimSession(cluster, self, plan, f"{name}/{number}") for number, plan in enumerate(plans)]

    @property
    def done(self) -> bool:
        """Whether all its sessions are done."""
        return all(session.done for session in self.sessions)

    def cut(self) -> None:
        """Its connection breaks."""
        if self._link:
            self._link.cut()

    def _connect(self) -> None:
        self._link = self._cluster.connect(self)
        self.stream.opened()
        self._send()

    def received(self, link: SimLink, message: Message) -> None:
        """A message of the session manager."""
        if link is not self._link:
            return
        if not self.stream.received(message):  # type: ignore[arg-type]
            link.end_by_peer()
            self.closed(link)
            return
        self.flush()

    def closed(self, link: SimLink) -> None:
        """The connection is over."""
        if link is self._link:
            self._link = None
            self.stream.lost()
            self._cluster.time.after(self._cluster.random.randrange(5, 300) * NS_PER_MS, self._connect)

    def flush(self) -> None:
        """Do what can be done now, and send what stands ready."""
        for session in self.sessions:
            session.act()
        self._send()

    def _send(self) -> None:
        if self._link:
            outbox, self.stream.outbox[:] = self.stream.outbox[:], []
            for message in outbox:
                self._link.send_up(message)
