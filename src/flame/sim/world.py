"""A whole simulated cluster, made from a seed, with everything that goes wrong in it."""

from collections import Counter
from collections.abc import Callable
from hashlib import sha256
from random import Random

import msgspec

from flame.core.control.effects import Answer
from flame.core.control.entities import Settings
from flame.core.control.invariants import left_in
from flame.core.control.state import State
from flame.model.limits import FORGET_NODE_MS, LEASE_MARGIN_MS, MAX_TASK_BYTES
from flame.model.resources import Resources
from flame.model.specs import ApplicationSpec
from flame.protocol.runs import Run
from flame.sim.clients import SimClient, SimReader, stored_outcomes
from flame.sim.deaths import Deaths
from flame.sim.executors import SimExecutor
from flame.sim.faults import FAULTS, MORE, Faults
from flame.sim.history import History, Violation, digest
from flame.sim.nodes import SimNode
from flame.sim.session_manager import CLOSE, SimSessionManager
from flame.sim.store import SimStore
from flame.sim.unary import Frontend, UnaryClient
from flame.sim.virtual import NS_PER_MS, End, SimLink, VirtualTime
from flame.sim.workload import DEFAULT, SessionPlan, Size, TaskKind, Workload

LONGEST_MS = 600_000
"""Virtual time after the last fault within which everything has to be finished."""
PATIENCE_MS = 500_000
"""Within this time after everything was healed all outcomes are there; the slowest of 100 seeds took 205 s."""
_SPAN_MS = 6_000
_QUIET_MS = (3_000, 10_000, 40_000)
_STEPS = 32
"""How often it is looked whether all is done."""
_LEASE_MS = 3_000
_NEXT_KILL_MS = 200
"""Who is to be killed once more is back so soon, or there would be no time for that."""
_MARGIN_NS = (LEASE_MARGIN_MS - 2) * NS_PER_MS
"""After the end of its lease an executor may be given up; the session manager counts in whole milliseconds."""


class Stuck(AssertionError):
    """Something was not finished in time."""


class Broken(AssertionError):
    """The history has a rule broken."""


class World:
    """A cluster in virtual time.

    Args:
        seed: decides everything, together with the other arguments.
        size: how large it is.
        kinds: of the faults that may happen.
        faults: the most of them.
        tracing: whether `trace` is written; it costs half of the time.

    Attributes:
        trace: what happened, a line each.
        counts: how often what happened.
        history: what clients and services saw; `deaths`: how often tasks ended their processes.
    """

    lease_ms = _LEASE_MS

    def __init__(
        self,
        seed: int,
        size: Size = DEFAULT,
        *,
        kinds: tuple[str, ...] = tuple(FAULTS),
        faults: int = 15,
        tracing: bool = False,
    ) -> None:
        self.random = random = Random(seed)
        self.time = VirtualTime()
        self.tracing = tracing
        self.trace: list[str] = []
        self.counts: Counter[str] = Counter()
        self.history = History()
        self.deaths = Deaths()
        self.links: dict[int, SimLink] = {}
        self._faults = Faults(self, Random(f"faults of {seed}"))
        self._plan_faults(Random(f"plan of {seed}"), kinds, faults)
        self._workload = Workload(random, Random(f"sizes of {seed}"), size)
        self._runs: dict[tuple[int, int], list[SimExecutor]] = {}
        self._start_failure_rate = random.choice((0, 0, 0, 0, 0, 0, 0.2, 0.9))
        self._link_ns = random.choice((200_000, 2 * NS_PER_MS, 40 * NS_PER_MS))
        self._made_links = 0
        settings = Settings(
            store_id="simulated",
            max_task_bytes=MAX_TASK_BYTES,
            lease_ms=_LEASE_MS,
            start_timeout_ms=2_000,
            enter_timeout_ms=2_000,
            delay_release_ms=500,
            low_space_bytes=100_000,
            default_resources=Resources(cpu=1),
            resident_input_bytes=random.choice((1_000, 20_000, 1 << 24)),
            result_window_bytes=random.choice((2 << 20, 8 << 20)),
        )
        spec = ApplicationSpec(service="sim", delay_release_ms=random.choice((0, 50, 2_000)))
        self.session_manager = SimSessionManager(
            self.time,
            random,
            settings,
            spec,
            self.note if tracing else None,
            self._session_manager_died,
            self._grace_is_over,
            self._binding_over,
        )
        self.usual_commit_ns = random.choice((100_000, 2 * NS_PER_MS, 30 * NS_PER_MS))
        self.session_manager.slowest_commit_ns = self.usual_commit_ns
        self._frontend = self.session_manager.unary = Frontend(self, self.session_manager)
        self._unary: list[UnaryClient] = []
        self._made = 0
        self.session_manager.start()
        self.nodes = [self._make_node(number) for number in range(size.nodes)]
        self.clients = [SimClient(self, f"c{number}") for number in range(max(2, size.sessions // 3))]
        for number, plan in enumerate(self._workload.plans()):
            self.clients[number % len(self.clients)].open(plan, plan.name)

    def _make_node(self, number: int) -> SimNode:
        cpus, most = self.random.randrange(1, 4), self.random.choice((0, 0, 2))
        name = f"n{number}"
        self.history.node(name, min(cpus, most or cpus))
        return SimNode(self, name, Resources(cpu=cpus), most)

    def _plan_faults(self, random: Random, kinds: tuple[str, ...], most: int) -> None:
        """Each seed has few kinds of faults, so that some have only one: what is never true must be seen alone."""
        chosen = random.sample(kinds, min(len(kinds), random.choice((1, 2, 4, len(kinds))))) if kinds else []
        for _ in range(random.randrange(1, most + 1) if chosen and most else 0):
            (kind,) = random.choices(chosen, [MORE.get(kind, 1) for kind in chosen])
            self.time.after(
                random.randrange(1, _SPAN_MS * NS_PER_MS),
                lambda kind=kind: self._faults.happen(kind),  # type: ignore[misc]
            )

    # --- what the parts ask for --------------------------------------------------------------------------------------

    def connect(self, peer: End) -> SimLink:
        """A new link of a peer."""
        self._made_links += 1
        link = SimLink(
            self.time,
            self.random,
            number=self._made_links,
            peer=peer,
            server=self.session_manager,
            longest_ns=self._link_ns,
            counts=self.counts,
        )
        if self._made_links % 50 == 0:
            self.links = {number: link for number, link in self.links.items() if not link.ended}
        self.links[link.number] = link
        if isinstance(peer, SimExecutor):
            link.stall(peer.node.unreachable_until_ns)
        self.session_manager.connected(link)
        return link

    def note(self, text: str) -> None:
        """A line of the trace."""
        if self.tracing:
            self.trace.append(f"{self.time.now_ns / NS_PER_MS:.3f} {text}")

    def make_kind(self, *, alone: bool = False) -> TaskKind:
        """What the next task is to do. No two have the same input or output, unless it is empty."""
        self._made += 1
        return self._workload.task(self._made, alone=alone)

    def opened(self, owner: SimClient, plan: SessionPlan, number: int) -> None:
        """The owner of a session knows its number: others submit to it, or read it."""
        others = [client for client in self.clients if client is not owner and not client.dead]
        for count in range(plan.others if others else 0):
            more = SessionPlan(
                name=plan.name,
                spec=plan.spec,
                tasks=1 + plan.tasks // 10,
                burst=1 + plan.tasks // 20,
                pause_ms=plan.pause_ms,
                cancels=plan.cancels,
                slow_ms=plan.slow_ms,
            )
            self.random.choice(others).open(more, f"{number}/{count}", create=False)
        if plan.unary:
            key = f"{number}/unary"
            self._unary.append(
                UnaryClient(self, self._frontend, plan.name, number, key, tasks=plan.unary, pause_ms=plan.pause_ms)
            )
        for count in range(plan.readers if others else 0):
            self.random.choice(others).read(plan.name, f"{number}/r{count}")

    def come_back(self, dead: SimClient) -> None:
        """A new process of somebody whose client was killed: it reads its sessions from the first, and goes on."""
        client = SimClient(self, f"{dead.name}'")
        self.clients.append(client)
        for session in dead.sessions:
            if session.name:
                self.counts["client came back"] += 1
                plan = msgspec.structs.replace(session.plan, tasks=1 + session.plan.tasks // 10)
                client.open(plan, f"{session.key}'", create=False)
                client.read(plan.name, f"{session.key}'/all")

    def call(self, method: str, name: str, answered: Callable[[Answer | None], None]) -> None:
        """Somebody closes or deletes a session by a unary call."""
        ask = self._frontend.close if method == CLOSE else self._frontend.delete
        ask(name, answered)

    def bound(self, process: SimExecutor) -> None:
        """A process is there."""
        now_ns = self.time.now_ns
        for node in self.nodes:
            for one in node.executors.values():
                if self._outlived(one):
                    self.history.uncounted(now_ns, *one.key)
        self.history.bound(now_ns, str(process.session), *process.key, node=process.node.name)
        if self._outlived(process):  # it was asked for so long ago
            self.history.uncounted(now_ns, *process.key)

    def _outlived(self, process: SimExecutor) -> bool:
        """Whether a process may have outlived its lease, because its node hangs."""
        return process.node.lease_end_ns + _MARGIN_NS <= self.time.now_ns

    def task_started(self, process: SimExecutor, run: Run, task: int, task_input: bytes) -> int:
        """A task starts; returns how many times it was started before."""
        now_ns = self.time.now_ns
        runs = self._runs.setdefault((process.session, task), [])
        for earlier in runs:
            if not earlier.dead and self._outlived(earlier):
                self.history.lease_ended(now_ns, *earlier.key, gone=not earlier.node.hangs)
        self.counts["started without an input"] += not task_input
        self.counts["started with the largest input"] += len(task_input) == MAX_TASK_BYTES
        if self.tracing:
            self.note(f"executor {process.key} runs {task} of session {process.session}, attempt {run.attempt}")
        self.history.started(
            now_ns,
            str(process.session),
            task,
            *process.key,
            input=digest(task_input),
            attempt=run.attempt,
            lease_end_ns=process.node.lease_end_ns,
        )
        if process.key not in process.node.doubtful:
            self.deaths.started(now_ns, str(process.session), task, f"executor {process.key}")
        runs.append(process)
        return len(runs) - 1

    def start_fails(self) -> bool:
        """Whether a process fails to start now."""
        return self.random.random() < self._start_failure_rate

    def _session_manager_died(self) -> None:
        down_ms = self.random.choice((1, 50, 500, 2_500, 5_000))
        if self.session_manager.aim.waits:
            down_ms = min(down_ms, _NEXT_KILL_MS)
        self.time.after(down_ms * NS_PER_MS, self._start_session_manager)

    def _start_session_manager(self) -> None:
        if not self.session_manager.alive:
            self.counts["restarts"] += 1
            self.session_manager.start()

    def _grace_is_over(self) -> None:
        """Nodes that are not back on a link of this session manager may be given up, and what they run beside it."""
        for node in [node for node in self.nodes if not node.joined]:
            node.doubt()
            for key in node.executors:
                self.counts["unsure"] += 1
                self.history.unsure(self.time.now_ns, *key, "its node was silent after a restart")

    def _binding_over(self, executor: str) -> None:
        """The session manager has given up an executor; its process may outlive its lease, because its node hangs."""
        for node in self.nodes:
            for key, process in node.executors.items():
                if key[0] == executor and not process.dead and self._outlived(process):
                    self.history.lease_ended(self.time.now_ns, *key, gone=not node.hangs)

    # --- running -----------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Let faults happen within a time span, then heal everything, wait until all is done, and switch it off.

        Raises:
            AssertionError: something is wrong.
        """
        end_ms = _SPAN_MS + LONGEST_MS
        step, clients = self.time.step, self.clients
        while self.time.now_ms < _SPAN_MS:
            step()
        self._faults.heal()
        self.history.healed(self.time.now_ns)
        self._close_abandoned()
        while not (all(client.done for client in clients) and all(client.done for client in self._unary)):
            for _ in range(_STEPS):
                step()
            if self.time.now_ms > end_ms:
                raise Stuck(self._who_is_stuck())
        # What is on its way out has time to go; then nothing may be left of it.
        began_ms = self.time.now_ms
        for quiet_ms in _QUIET_MS:
            while self.time.now_ms < began_ms + quiet_ms:
                step()
            if not self._left_over():
                break
        left_over = self._left_over()
        assert not left_over, left_over
        self._check()
        self._switch_off()

    def _switch_off(self) -> None:
        """All machines go and none comes back: in the end the session manager knows no node any more."""
        for node in self.nodes:
            node.retire()
        end_ms = self.time.now_ms + _LEASE_MS + LEASE_MARGIN_MS + FORGET_NODE_MS + _QUIET_MS[0]
        while self.time.now_ms < end_ms:
            self.time.step()
        state = self.session_manager.state
        assert state is not None and not state.nodes, f"nodes are left: {list(state.nodes) if state else state}"

    def _close_abandoned(self) -> None:
        """Somebody closes what clients that are gone have left open; again until nothing is."""
        state = self.session_manager.state
        names = [session.plan.name for client in self.clients if client.dead for session in client.sessions]
        for name in names:
            session = state.sessions_by_name.get(name) if state is not None else None
            if session is not None and session.open:
                self.history.close_asked(str(session.record.number))
                self._frontend.close(name, self._closed)
        if names:
            self.time.after(1_000 * NS_PER_MS, self._close_abandoned)

    def _closed(self, answer: Answer | None) -> None:
        if answer is not None and answer.error is None:
            self.history.promises.close_answered(self.time.now_ns, str(answer.session))

    # --- checking ----------------------------------------------------------------------------------------------------

    def _who_is_stuck(self) -> str:
        lines = [f"not finished at {self.time.now_ms} ms:"]
        for client in self.clients:
            lines.extend(f"  {session}" for session in client.sessions if not session.done)
        lines.extend(f"  {client}" for client in self._unary if not client.done)
        return "\n".join(lines)

    def _readers(self) -> list[SimReader]:
        """All that are to be given the results of a whole session."""
        return [one for client in self.clients if not client.dead for one in client.readers if one.session]

    def _lacks(self, state: State, reader: SimReader) -> bool:
        session = state.sessions.get(int(reader.session))
        return session is not None and reader.delivered < session.succeeded + session.failed + session.cancelled

    def tell_the_end(self) -> None:
        """Say to the history what the store has, and who has all that it will ever get."""
        self._tell_what_is_stored(self.session_manager.store)
        for one in self._readers():
            self.history.finished(one.session, one.name)

    def broken(self, *, patience_ns: int | None = None) -> list[Violation]:
        """All that is wrong with what clients and services saw, once everything is over; call it once."""
        self.tell_the_end()
        return [*self.history.check(self.time.now_ns, patience_ns=patience_ns), *self.deaths.broken]

    def _check(self) -> None:
        broken = self.broken(patience_ns=PATIENCE_MS * NS_PER_MS)
        if broken:
            raise Broken("\n".join(str(violation) for violation in broken[:20]))

    def _left_over(self) -> str:
        """What should be gone when everything is finished."""
        state = self.session_manager.state
        if state is None:
            return "the session manager is not there"
        left = {
            "executors": list(state.executors),
            "sessions": list(state.live),
            "parts of sessions": [(number, left) for number, one in state.sessions.items() if (left := left_in(one))],
            "links": [link for link in state.links if link not in self.session_manager.links],
            "bytes of inputs": state.resident_bytes,
            "rows of deleted sessions": self.session_manager.store.purge(0),
            "processes": [key for node in self.nodes for key in node.executors],
            "readers": [one.name for one in self._readers() if self._lacks(state, one)],
        }
        return "; ".join(f"{name} are left: {what}" for name, what in left.items() if what)

    def _tell_what_is_stored(self, store: SimStore) -> None:
        """Say to the history what the store has."""
        snapshot = store.recover()
        self.history.promises.found(self.time.now_ns, snapshot)
        for record in snapshot.sessions:
            after = 0
            while segments := store.read_segments(record.number, after, 1 << 30):
                for segment in segments:
                    outcomes = stored_outcomes(segment)
                    after = segment.sequence
                    self.history.stored(self.time.now_ns, str(record.number), after, segment.first, outcomes)

    def digest(self) -> str:
        """A fingerprint of the trace."""
        return sha256("\n".join(self.trace).encode()).hexdigest()
