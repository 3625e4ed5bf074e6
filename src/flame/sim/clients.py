"""Clients in simulation: the real half of the client's stream, and a plan of what to ask; the history hears it all."""

from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Protocol

import msgspec

from flame.core.control.effects import Answer
from flame.kernel.ranges import RangeSet
from flame.model.client_messages import SessionAttached
from flame.model.errors import EXECUTOR_DIED, NO_EXECUTOR, FlameError, Rejection, TaskCancelled, TaskFailed, TooLarge
from flame.model.limits import MAX_TASK_BYTES
from flame.model.messages import Message
from flame.model.records import SegmentRecord
from flame.protocol.client import ClientStream
from flame.protocol.client_attachment import Attachment, Outcome, Part
from flame.protocol.client_submission import Feed, Submission
from flame.sim.history import CANCELLED, DIED, NOT_STARTED, RAISED, History, digest
from flame.sim.session_manager import CLOSE, DELETE
from flame.sim.stored import Listener
from flame.sim.virtual import NS_PER_MS, RECONNECT_MS, End, Process, SimLink, VirtualTime
from flame.sim.workload import SessionPlan, TaskKind

_RETRY_MS = 50
_FAILURES = {EXECUTOR_DIED: DIED, NO_EXECUTOR: NOT_STARTED}
TOO_LARGE = "refused as too large"


class Cluster(Protocol):
    """What clients need of the world around them."""

    time: VirtualTime
    random: Random
    counts: Counter[str]
    history: History

    def connect(self, peer: End) -> SimLink:
        """A new link to the session manager."""

    def make_kind(self, *, alone: bool = False) -> TaskKind:
        """What the next task is to do; `alone` if no other suffers where it is refused."""

    def opened(self, owner: "SimClient", plan: SessionPlan, number: int) -> None:
        """The owner of a session knows its number: others may come."""

    def call(self, method: str, name: str, answered: Callable[[Answer | None], None]) -> None:
        """A unary call; `answered` with None where the session manager ended before it could say anything."""


def too_large(inputs: list[bytes]) -> list[int]:
    """The places of the inputs that have to be refused."""
    if max(map(len, inputs), default=0) <= MAX_TASK_BYTES:
        return []
    return [place for place, task_input in enumerate(inputs) if len(task_input) > MAX_TASK_BYTES]


def outcome_digest(outcome: Outcome) -> int:
    """What became of a task, as one number for the history."""
    if isinstance(outcome, TaskCancelled):
        return CANCELLED
    if isinstance(outcome, TaskFailed):
        return _FAILURES.get(outcome.type, RAISED)
    assert not isinstance(outcome, FlameError), f"a task ended with {outcome!r}"
    return digest(outcome)


def stored_outcomes(segment: SegmentRecord) -> list[int]:
    """The outcomes of a segment as it is stored, each as one number."""
    part = Part(None, segment, segment.first, segment.count)  # type: ignore[arg-type]  # it has the same fields
    return [outcome_digest(outcome) for outcome in part.outcomes()]


class SimReader:
    """Somebody who attaches to a session and reads its results from the first."""

    def __init__(self, cluster: Cluster, client: "SimClient", name: str, key: str) -> None:
        self._cluster = cluster
        self.name = f"{client.name} reading {key}"
        self.failed = False
        self.delivered = 0
        stream = client.stream
        attachment = Attachment(stream, stream.next_attachment(), session_id=name, key=key, sink=self)
        self.attachment = stream.attach(attachment)

    def deliver(self, part: Part) -> bool:
        """Take results."""
        attached = self.attachment.attached
        assert attached is not None
        outcomes = [outcome_digest(outcome) for outcome in part.outcomes()]
        self.delivered += len(outcomes)
        self._cluster.history.saw(
            self._cluster.time.now_ns,
            str(attached.session),
            self.name,
            part.first,
            outcomes,
            sequence=part.segment.sequence,
        )
        return True

    def fail(self, first: int, count: int, error: FlameError) -> None:
        """It is over: the session was deleted, or did not exist any more."""
        self.failed = True

    @property
    def session(self) -> str:
        """The number of its session, or empty where it gets nothing: it is not attached, or not any more."""
        attached = self.attachment.attached
        return str(attached.session) if attached is not None and not self.failed else ""


class RepeatingSubmission(Submission):
    """As of a client that does not look at what it is told to be stored: it repeats all that it saw no answer to."""

    def on_attached(self, message: SessionAttached) -> None:
        """Attached once more: nothing is stored but what was acknowledged."""
        again = self.attached is not None
        super().on_attached(msgspec.structs.replace(message, next_id=self.stored) if again else message)


class SimFeed(Feed):
    """The inputs of a `map`: they are numbered when they are sent, and then the history hears of them."""

    __slots__ = ("_session",)

    def __init__(self, session: "SimSession") -> None:
        super().__init__(session)
        self._session = session

    def numbered(self, first: int, count: int) -> None:
        """Its next inputs have these ids."""
        super().numbered(first, count)
        self._session.tell_submitted(first, self.items[:count])


class SimSession:
    """One session of a client, and what it was told.

    Args:
        create: whether it creates the session; otherwise it is another submitter.
    """

    def __init__(
        self, cluster: Cluster, client: "SimClient", plan: SessionPlan, key: str, *, create: bool = True
    ) -> None:
        self.plan = plan
        self.key = key
        self.owns = create
        self.stage = "attaching"
        self._cluster = cluster
        self._client = client
        self._submitted = 0
        self._seen = RangeSet()
        self._told = 0
        self._cancels_left = plan.cancels
        self._cancels: list[int] = []
        self._held: list[Part] = []
        self._too_large = 0
        self._call = 0
        self._replies: list[Rejection | None] = []
        """The answer to the call under way."""
        stream = client.stream
        spec = plan.spec if create else None
        submission = RepeatingSubmission if plan.repeats else Submission
        self.submission = submission(
            stream, stream.next_attachment(), session_id=plan.name, key=key, create=spec, sink=self
        )
        self._feed = SimFeed(self) if plan.mapped else None
        if self._feed is not None:
            self.submission.feeds.append(self._feed)
        stream.attach(self.submission)

    @property
    def done(self) -> bool:
        """Whether it has done all it planned."""
        return self.stage == "done"

    @property
    def name(self) -> str:
        """The session, as the history knows it."""
        attached = self.submission.attached
        return str(attached.session) if attached else ""

    def __str__(self) -> str:
        submission = self.submission
        return f"{self.key} in session {self.name}: {self.stage}, {submission.outstanding} of {self._submitted} missing"

    def holds(self, session: int, task: int) -> bool:
        """Whether a task is one of its own, which it may still cancel."""
        submission = self.submission
        return (
            self.stage in ("submitting", "waiting")
            and submission.attached is not None
            and submission.attached.session == session
            and submission.first <= task < submission.next_id
        )

    def cancel(self, first: int, count: int) -> None:
        """Ask to cancel some tasks."""
        self._cluster.history.cancel_asked(self.name, first, count)
        self._cancels.append(self.submission.cancel(first, count))

    # --- results -----------------------------------------------------------------------------------------------------

    def deliver(self, part: Part) -> bool:
        """Take results, at once or a while later."""
        outcomes = [outcome_digest(outcome) for outcome in part.outcomes()]
        self._seen.add(part.first, part.first + part.count)
        self._cluster.history.saw(
            self._cluster.time.now_ns, self.name, self.key, part.first, outcomes, sequence=part.segment.sequence
        )
        if not self.plan.slow_ms:
            return True
        self._held.append(part)
        if len(self._held) == 1:
            self._consume_later()
        return False

    def _consume_later(self) -> None:
        delay_ms = self._cluster.random.randrange(1, self.plan.slow_ms + 1)
        self._client.later(delay_ms, self._consume)

    def _consume(self) -> None:
        part = self._held.pop(self._cluster.random.randrange(len(self._held)))
        part.source.consumed(part)
        if self._held:
            self._consume_later()
        self._client.flush()

    def fail(self, first: int, count: int, error: FlameError) -> None:
        """No results come for these tasks."""
        history, now_ns = self._cluster.history, self._cluster.time.now_ns
        not_stored = self.submission.error is None
        if isinstance(error, TooLarge):
            assert self._too_large, f"{self.key}: {error.message}, and no task was"
            self._cluster.counts[TOO_LARGE] += 1
        end = min(first + count, self.submission.next_id)  # what has no number yet was never submitted
        for low, high in list(self._seen.missing(first, end)):
            self._seen.add(low, high)
            history.refused(now_ns, self.name, self.key, low, high - low, not_stored=not_stored)

    # --- what it does ------------------------------------------------------------------------------------------------

    def act(self) -> None:
        """Do the next thing, if it is time for it."""
        submission = self.submission
        if self.stage == "done":
            return
        if self.stage == "attaching" and submission.attached is not None:
            self.stage = "submitting"
            self._told = submission.first
            self._cluster.history.session(self.name, max_instances=self.plan.spec.max_instances)
            if self.owns:
                self._cluster.opened(self._client, self.plan, submission.attached.session)
            self._burst()
        self._listen()
        if submission.error is not None:
            self._finish()
        elif self.stage == "submitting" and self._submitted >= self.plan.tasks and not submission.buffered:
            self.stage = "waiting"
        everything = submission.outstanding == 0 or (self.plan.close_early and self.owns)
        if self.stage == "waiting" and everything and not self._cancels:
            if self.owns:
                self._cluster.history.close_asked(self.name)
                self._ask("closing", CLOSE)
            else:
                self._finish()
        self._follow_up()

    def _listen(self) -> None:
        """Note what was acknowledged and cancelled."""
        submission, history, now_ns = self.submission, self._cluster.history, self._cluster.time.now_ns
        if submission.attached is not None and submission.stored > self._told:
            history.acknowledged(now_ns, self.name, self.key, self._told, submission.stored - self._told)
            self._told = submission.stored
        for request in [request for request in self._cancels if request in submission.answers]:
            self._cancels.remove(request)
            for part in submission.answers.pop(request):
                history.cancelled(now_ns, self.name, part.first, part.end - part.first)

    def _ask(self, stage: str, method: str) -> None:
        self.stage = stage
        if self.plan.unary:
            self._cluster.call(
                method, self.plan.name, lambda answer: self._client.later(0, lambda: self._answered(answer))
            )
        else:
            self._call = self._client.stream.call(method, self.plan.name.encode())

    def _answered(self, answer: Answer | None) -> None:
        """A unary call is answered, or has to be made again."""
        if answer is None:
            again = (self.stage, CLOSE if self.stage == "closing" else DELETE)
            self._client.later(_RETRY_MS, lambda: self._ask(*again))
        else:
            self._replies.append(answer.error)
            self._client.flush()

    def _follow_up(self) -> None:
        """What comes after a call is answered: the rest of the results, a delete, the next round."""
        promises, now_ns = self._cluster.history.promises, self._cluster.time.now_ns
        reply = self._client.stream.replies.pop(self._call, None)
        if reply is not None:
            self._replies.append(Rejection.of(reply) if isinstance(reply, FlameError) else reply.error)
        if self.stage == "closing" and self._replies:
            if self._replies.pop() is None:
                promises.close_answered(now_ns, self.name)
            self.stage = "closed"
        if self.stage == "closed" and self.submission.outstanding == 0:
            self._finish()
            if self.plan.delete:
                self._cluster.history.deleted(self.name)
                self._ask("deleting", DELETE)
        if self.stage == "deleting" and self._replies:
            error = self._replies.pop()
            if error is None or error.code == "NOT_FOUND":
                promises.deleted_answered(now_ns, self.name)
            if error is not None and error.code == "FAILED_PRECONDITION":
                self.stage = "retrying"
                self._client.later(_RETRY_MS, self._delete_again)
            else:
                self.stage = "done"
                if self.plan.again:
                    self._client.open(msgspec.structs.replace(self.plan, again=False), f"{self.key}+")

    def _delete_again(self) -> None:
        self._ask("deleting", DELETE)
        self._client.flush()

    def _finish(self) -> None:
        self.stage = "done"
        if self.name:
            self._cluster.history.finished(self.name, self.key)

    def tell_submitted(self, first: int, inputs: list[bytes]) -> None:
        """These inputs have ids now, and are about to be sent. Of one that is too large nobody may ever hear."""
        digests = [digest(task_input) for task_input in inputs]
        start, now_ns, refused = 0, self._cluster.time.now_ns, too_large(inputs)
        self._too_large += len(refused)
        for end in (*refused, len(inputs)):
            self._cluster.history.submitted(now_ns, self.name, self.key, first + start, digests[start:end])
            start = end + 1

    def _burst(self) -> None:
        submission, random = self.submission, self._cluster.random
        if submission.error is not None or submission.refusal is not None:
            self._submitted = self.plan.tasks
        count = min(random.randrange(1, 2 * self.plan.burst), self.plan.tasks - self._submitted)
        inputs = [self._cluster.make_kind().input() for _ in range(count)]
        self._submitted += count
        if self._feed is not None:
            self._feed.items += inputs
            submission.draw(self._feed)
        elif inputs:
            self.tell_submitted(submission.next_id, inputs)
            for task_input in inputs:
                submission.add(task_input)
        if self._cancels_left and random.random() < 0.5 and submission.next_id > submission.first:
            self._cancels_left -= 1
            self.cancel(random.randrange(submission.first, submission.next_id), random.randrange(1, 40))
        if self._submitted < self.plan.tasks:
            self._client.later(random.randrange(1, self.plan.pause_ms + 1), self._burst)
        self._client.flush()


class SimClient(Process):
    """A client with a connection that comes back, until its process ends.

    Attributes:
        dead: its process has ended, whatever it had planned.
    """

    def __init__(self, cluster: Cluster, name: str) -> None:
        super().__init__(cluster.time)
        self.name = name
        self.dead = False
        self.stream = ClientStream(client=name)
        self.sessions: list[SimSession] = []
        self.readers: list[SimReader] = []
        self.away_until_ns = 0
        self._cluster = cluster
        self._link: SimLink | None = None
        self._listener = Listener(cluster.history.promises)
        self._connect()

    @property
    def done(self) -> bool:
        """Whether all its sessions are done, or it is gone."""
        return self.dead or all(session.done for session in self.sessions)

    def open(self, plan: SessionPlan, key: str, *, create: bool = True) -> None:
        """Begin with a session."""
        self.sessions.append(SimSession(self._cluster, self, plan, key, create=create))
        self._send()

    def read(self, name: str, key: str) -> None:
        """Begin to read a session."""
        self.readers.append(SimReader(self._cluster, self, name, key))
        self._send()

    def cut(self) -> None:
        """Its connection breaks."""
        if self._link:
            self._link.cut()

    def vanish(self, for_ns: int) -> None:
        """Its connection breaks, and it does not come back for a while."""
        self.away_until_ns = self._cluster.time.now_ns + for_ns
        self.cut()

    @property
    def connected(self) -> bool:
        """Whether it has a connection on which it was welcomed."""
        return not self.dead and self._link is not None and self.stream.welcome is not None

    def leave_behind(self, until_ns: int) -> None:
        """Its connection breaks, which the session manager learns only then, with what was said on it last."""
        link = self._link
        if link is not None:
            link.stall(until_ns, down=False)
            link.end_by_peer()
            self.closed(link)

    def die(self) -> None:
        """Its process ends."""
        self.dead = True
        if self._link:
            self._link.end_by_peer()
            self._link = None

    def later(self, delay_ms: int, do: Callable[[], None]) -> None:
        """Do something later, as long as it lives."""
        self._awake(delay_ms * NS_PER_MS, lambda: None if self.dead else do())

    def _connect(self) -> None:
        away_ns = self.away_until_ns - self._cluster.time.now_ns
        if away_ns > 0:
            self.later(1 + away_ns // NS_PER_MS, self._connect)
            return
        self._link = self._cluster.connect(self)
        self._listener.connected()
        self.stream.opened()
        self._send()

    def received(self, link: SimLink, message: Message) -> None:
        """A message of the session manager."""
        if link is not self._link:
            return
        self._listener.heard(self._cluster.time.now_ns, message)
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
            self.later(self._cluster.random.choice(RECONNECT_MS), self._connect)

    def flush(self) -> None:
        """Do what can be done now, and send what stands ready."""
        for session in self.sessions:
            session.act()
        self._send()

    def _send(self) -> None:
        if self._link and not self.dead:
            outbox, self.stream.outbox[:] = self.stream.outbox[:], []
            for message in outbox:
                self._listener.said(self._cluster.time.now_ns, message)
                self._link.send_up(message)
