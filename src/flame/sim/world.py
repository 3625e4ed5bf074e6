"""A whole simulated cluster, made from a seed, with everything that goes wrong in it."""

from collections import Counter
from hashlib import sha256
from random import Random

from flame.core.control.entities import Settings
from flame.kernel.ranges import RangeSet
from flame.model.errors import TaskCancelled
from flame.model.records import SegmentRecord
from flame.model.resources import Resources
from flame.model.specs import ApplicationSpec, SessionSpec
from flame.sim.clients import SessionPlan, SimClient, SimSession
from flame.sim.nodes import SIGKILL, SimExecutor, SimNode, TaskKind
from flame.sim.session_manager import POINTS, SimSessionManager
from flame.sim.virtual import NS_PER_MS, End, SimLink, VirtualTime

LONGEST_MS = 240_000
"""Virtual time after the last fault within which everything has to be finished."""
_LEASE_MS = 3_000


class Stuck(AssertionError):
    """Something was not finished in time."""


class World:
    """A cluster in virtual time.

    Args:
        seed: decides everything.

    Attributes:
        trace: what happened, a line each.
        counts: how often what happened.
    """

    def __init__(self, seed: int) -> None:
        self.random = random = Random(seed)
        self.time = VirtualTime()
        self.trace: list[str] = []
        self.counts: Counter[str] = Counter()
        self._links: list[SimLink] = []
        self._runs: dict[tuple[int, int], list[SimExecutor]] = {}
        self._deaths: dict[tuple[int, int], int] = {}
        self._start_failures: Counter[int] = Counter()
        self._start_failure_rate = random.choice((0, 0, 0, 0, 0, 0, 0.2, 0.9))
        self._behaviors = random.choices(("ok", "fail", "abort", "abort once"), (60, 2, 0.5, 1), k=200)
        self._longest_us = random.choice((50, 2_000, 100_000))
        self._output_bytes = random.choice((0, 0, 0, 0, 2_000, 400_000))
        self._link_ns = random.choice((200_000, 2 * NS_PER_MS, 40 * NS_PER_MS))
        settings = Settings(
            store_id="simulated",
            max_task_bytes=1 << 22,
            lease_ms=_LEASE_MS,
            start_timeout_ms=2_000,
            enter_timeout_ms=2_000,
            delay_release_ms=500,
            low_space_bytes=0,
            default_resources=Resources(cpu=1),
            resident_input_bytes=random.choice((1_000, 20_000, 1 << 24)),
            result_window_bytes=8 << 20,
        )
        spec = ApplicationSpec(service="sim", delay_release_ms=random.choice((0, 50, 2_000)))
        self.session_manager = SimSessionManager(self.time, random, settings, spec, self.note)
        self.session_manager.slowest_commit_ns = random.choice((100_000, 2 * NS_PER_MS, 30 * NS_PER_MS))
        self.session_manager.start()
        self.nodes = [
            SimNode(self, f"n{number}", Resources(cpu=random.randrange(1, 4)), random.choice((0, 0, 2)))
            for number in range(random.randrange(1, 4))
        ]
        self.clients = [SimClient(self, f"c{number}", self._plans()) for number in range(random.randrange(1, 4))]

    # --- what the parts ask for --------------------------------------------------------------------------------------

    def connect(self, peer: End) -> SimLink:
        """A new link of a peer."""
        number = len(self._links) + 1
        link = SimLink(
            self.time,
            self.random,
            number=number,
            peer=peer,
            server=self.session_manager,
            longest_ns=self._link_ns,
        )
        self._links.append(link)
        self.session_manager.connected(link)
        return link

    def present(self, link: SimLink) -> bool:
        """Whether the session manager at the other end of a link still lives."""
        return self.session_manager.has(link)

    def note(self, text: str) -> None:
        """A line of the trace."""
        self.trace.append(f"{self.time.now_ns / NS_PER_MS:.3f} {text}")

    def make_kind(self, number: int) -> TaskKind:
        """What the next task is to do."""
        random = self.random
        long = random.random() < 0.01
        return TaskKind(
            number,
            random.choice(self._behaviors),
            random.randrange(500_000, 3_000_000) if long else random.randrange(1, self._longest_us),
            random.random() < 0.05 or (long and random.random() < 0.5),
            self._output_bytes if random.random() < 0.3 else 0,
        )

    def task_started(self, process: SimExecutor, task: int) -> int:
        """A task starts: it must not have run elsewhere, unless that can be told by nobody."""
        runs = self._runs.setdefault((process.session, task), [])
        self.note(f"executor {process.key} runs {task} of session {process.session}")
        self.counts["runs"] += 1
        for earlier in runs:
            excused = earlier.dead or self._uncertain(earlier) or self._uncertain(process)
            assert excused, f"task {task} of session {process.session} runs twice: {earlier.key}, now {process.key}"
            self.counts["runs again"] += 1
        runs.append(process)
        return len(runs) - 1

    def _uncertain(self, process: SimExecutor) -> bool:
        """Whether nobody could know for certain what a process held."""
        return process.answered_for or process.key[0] in self.session_manager.silent

    def task_died(self, process: SimExecutor, task: int) -> None:
        """A process ended while it ran this task."""
        self.counts["deaths"] += 1
        key = (process.session, task)
        self._deaths[key] = self._deaths.get(key, 0) + 1

    def start_fails(self) -> bool:
        """Whether a process fails to start now."""
        return self.random.random() < self._start_failure_rate

    def start_failed(self, session: int) -> None:
        """A process of this session ended before it had entered it."""
        self._start_failures[session] += 1

    # --- running -----------------------------------------------------------------------------------------------------

    def run(self, faults: int = 12, span_ms: int = 6_000) -> None:
        """Let faults happen within a time span, then heal everything, and wait until all is done.

        Raises:
            AssertionError: something is wrong.
        """
        for _ in range(self.random.randrange(0, faults + 1)):
            at_ms = self.random.randrange(1, span_ms)
            self.time.after(at_ms * NS_PER_MS, self._fault)
        end_ms = span_ms + LONGEST_MS
        while self.time.now_ms < span_ms or not all(client.done for client in self.clients):
            self.time.step()
            if self.time.now_ms > end_ms:
                raise Stuck(self._who_is_stuck())
        # What is on its way out has time to go; then nothing may be left of it.
        quiet_ms = self.time.now_ms + 30_000
        while self.time.now_ms < quiet_ms:
            self.time.step()
        self._check()

    def _fault(self) -> None:
        random = self.random
        do = random.choice(
            (self._kill_session_manager,) * 4
            + (self._kill_executor, self._kill_executor, self._kill_node, self._stop_node)
            + (self._isolate_node, self._cut, self._cut)
        )
        do()

    def _kill_session_manager(self) -> None:
        session_manager = self.session_manager
        down_ns = self.random.choice((1, 50, 500, 2_500, 5_000)) * NS_PER_MS
        point = self.random.choice(("", *POINTS))
        self.note(f"fault: kill the session manager {point}")
        if point and session_manager.alive:
            session_manager.kill_at = point
            self.time.after(300 * NS_PER_MS, session_manager.kill)
            down_ns += 300 * NS_PER_MS
        else:
            session_manager.kill()
        self.time.after(down_ns, self._start_session_manager)

    def _start_session_manager(self) -> None:
        if not self.session_manager.alive:
            self.session_manager.start()
            self.counts["restarts"] += 1

    def _kill_executor(self) -> None:
        alive = [process for node in self.nodes for process in node.executors.values() if not process.dead]
        if alive:
            process = self.random.choice(alive)
            self.note(f"fault: kill executor {process.key}")
            process.exit(signal=SIGKILL)

    def _kill_node(self) -> None:
        node = self.random.choice(self.nodes)
        if not node.dead:
            self.note(f"fault: kill node {node.name}")
            node.kill()
            self._restart(node, self.random.choice((10, 1_000, 5_000)))

    def _stop_node(self) -> None:
        node = self.random.choice(self.nodes)
        if not node.dead:
            self.note(f"fault: stop node {node.name}")
            self.counts["stops"] += 1
            node.stop()
            self._restart(node, self.random.choice((150, 1_000, 5_000)))

    def _restart(self, node: SimNode, delay_ms: int) -> None:
        self.time.after(delay_ms * NS_PER_MS, lambda: node.start() if node.dead else None)

    def _isolate_node(self) -> None:
        node = self.random.choice(self.nodes)
        if not node.dead:
            self.note(f"fault: isolate node {node.name}")
            node.isolate(self.time.now_ns + self.random.choice((100, 2_500, 6_000)) * NS_PER_MS)

    def _cut(self) -> None:
        if self.random.random() < 0.5:
            self.random.choice(self.clients).cut()
        else:
            self.random.choice(self._links[-20:]).cut()

    def _plans(self) -> list[SessionPlan]:
        random = self.random
        plans = []
        for _ in range(random.randrange(1, 3)):
            least = random.choice((0, 0, 0, 1))
            spec = SessionSpec(
                application="sim",
                min_instances=least,
                max_instances=random.choice((None, None, least + 1)),
                priority=random.choice((0, 0, 0, 1)),
            )
            plan = SessionPlan(
                spec=spec,
                tasks=random.choice((1, 20, 100, 300)),
                burst=random.choice((1, 10, 60)),
                pause_ms=random.choice((1, 20, 200)),
                cancels=random.choice((0, 0, 1, 5)),
                close_early=random.random() < 0.2,
                slow_ms=random.choice((0, 0, 0, 50)),
                delete=random.random() < 0.2,
            )
            plans.append(plan)
        return plans

    # --- checking ----------------------------------------------------------------------------------------------------

    def _who_is_stuck(self) -> str:
        lines = [f"not finished at {self.time.now_ms} ms:"]
        for client in self.clients:
            for session in client.sessions:
                submission = session.submission
                state = f"{session.stage}, {len(session.outcomes)} of {len(session.kinds)} results"
                lines.append(f"  {client.name} {submission.session_id}: {state}, {submission.outstanding} outstanding")
        return "\n".join(lines)

    def _check(self) -> None:
        for client in self.clients:
            for session in client.sessions:
                attached = session.submission.attached
                number = attached.session if attached else 0
                deaths = {task: count for (owner, task), count in self._deaths.items() if owner == number}
                session.check(deaths, self._start_failures[number])
                self._check_cancelled(session, number)
                if not session.plan.delete:
                    self._check_store(session.submission.first, number, len(session.kinds))
        state = self.session_manager.state
        assert state is not None
        assert not state.executors, f"executors are left: {list(state.executors)}"
        assert not state.live, f"sessions are left: {list(state.live)}"
        assert state.resident_bytes == 0
        assert not self.session_manager.store.purge(0), "rows of deleted sessions are left"
        assert not any(node.executors for node in self.nodes), "processes are left"

    def _check_cancelled(self, session: SimSession, number: int) -> None:
        """What was cancelled did not run, except where the run was lost."""
        for task, outcome in session.outcomes.items():
            if isinstance(outcome, TaskCancelled):
                for process in self._runs.get((number, task), ()):
                    lost = not process.ended_well or self._uncertain(process)
                    assert lost, f"task {task} of session {number} was cancelled, and {process.key} ran it"

    def _check_store(self, first: int, number: int, tasks: int) -> None:
        """Every task has exactly one stored outcome."""
        seen = RangeSet()
        after = 0
        while segments := self.session_manager.store.read_segments(number, after, 1 << 30):
            for segment in segments:
                after = self._check_segment(seen, after, segment)
        if tasks:
            missing = list(seen.missing(first, first + tasks))
            assert not missing, f"session {number}: no outcome of {missing} is stored"

    def _check_segment(self, seen: RangeSet, after: int, segment: SegmentRecord) -> int:
        assert segment.sequence == after + 1, f"session {segment.session}: segment {segment.sequence} after {after}"
        end = segment.first + segment.count
        assert list(seen.missing(segment.first, end)) == [(segment.first, end)], f"segment {segment.sequence} overlaps"
        seen.add(segment.first, end)
        return segment.sequence

    def digest(self) -> str:
        """A fingerprint of the trace."""
        return sha256("\n".join(self.trace).encode()).hexdigest()
