"""Everything that goes wrong in a simulation, by kind: each fault is drawn, happens, and is healed after a while."""

from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING

from flame.model.client_messages import ChunkAcknowledged, SessionAttached, TasksCancelled
from flame.model.executor_messages import AcknowledgeReport
from flame.model.messages import ManagerMessage, Reply
from flame.model.node_messages import AcknowledgeExit, NodeJoined
from flame.model.records import DeleteSession, PutBlock, PutDeaths, PutSession
from flame.model.specs import SessionSpec
from flame.sim.bites import LATER, Bites
from flame.sim.clients import SimClient
from flame.sim.executors import SIGKILL, SimExecutor
from flame.sim.history import SESSION_MANAGER
from flame.sim.kills import POINTS, RECOVERY_POINTS, WRITES
from flame.sim.session_manager import NO_SPACE
from flame.sim.virtual import NS_PER_MS, Process, SimLink
from flame.sim.workload import SessionPlan

if TYPE_CHECKING:
    from flame.sim.world import World

_KILL_WITHIN_MS = 300
_CLOCK_WITHIN_MS = 6_000
_TRIES = 50
_TRY_AGAIN_MS = 20
"""What is aimed waits so often and so long for its chance."""
ANSWERS = (
    ChunkAcknowledged,
    SessionAttached,
    TasksCancelled,
    Reply,
    AcknowledgeReport,
    AcknowledgeExit,
    NodeJoined,
)
"""What a peer may miss because its connection breaks just before."""
_WEIGHTS: dict[type[ManagerMessage], int] = {ChunkAcknowledged: 6, TasksCancelled: 4, Reply: 2}
"""Those that matter most, and those that are rare."""


class Faults:
    """Makes faults happen in a world.

    Args:
        world: where.
        random: from which each is drawn.
    """

    def __init__(self, world: "World", random: Random) -> None:
        self._world = world
        self._random = random
        self._bites = Bites(world)
        self._over = False

    def heal(self) -> None:
        """No more faults, and none that waits for its moment; the disk is fast and has room.

        Who stands still or is on the way back, and messages that are late, take the seconds that they were given.
        """
        world, session_manager = self._world, self._world.session_manager
        self._over = True
        session_manager.aim.clear()
        session_manager.break_before.clear()
        session_manager.disk.fails_next = False
        session_manager.slowest_commit_ns = world.usual_commit_ns
        session_manager.store.resize(None)

    def happen(self, kind: str, tries: int = _TRIES) -> None:
        """Let a fault of a kind happen, if there is something that it can happen to: now or, if it is aimed, soon."""
        world = self._world
        if self._over:
            return
        self._note(kind)
        if FAULTS[kind](self):
            world.counts[f"fault {kind}"] += kind not in LATER
            world.history.fault(world.time.now_ns, HARMLESS_AS.get(kind, kind))
        elif kind in AIMED and tries:
            world.time.after(_TRY_AGAIN_MS * NS_PER_MS, lambda: self.happen(kind, tries - 1))

    def _note(self, text: str) -> None:
        self._world.note(f"fault: {text}")

    def _for_ms(self, *choices: int) -> int:
        """How long it lasts, in ns."""
        return self._random.choice(choices) * NS_PER_MS

    def _until(self, *choices: int) -> int:
        return self._world.time.now_ns + self._for_ms(*choices)

    # --- processes ---------------------------------------------------------------------------------------------------

    def kill_session_manager(self) -> bool:
        """At any point of a turn or between two."""
        session_manager = self._world.session_manager
        if not session_manager.alive:
            return False
        point = self._random.choice(("", *POINTS))
        self._note(f"kill the session manager {point}")
        if not point:
            session_manager.kill()
        else:
            session_manager.aim.at = point
            life = session_manager.life
            kill = session_manager.kill
            self._world.time.after(
                _KILL_WITHIN_MS * NS_PER_MS,
                lambda: kill() if session_manager.life == life and not self._over else None,
            )
        return True

    def kill_in_recovery(self) -> bool:
        """The session manager dies, and again at a point of its next start."""
        session_manager = self._world.session_manager
        if not session_manager.alive:
            return False
        point = self._random.choice(RECOVERY_POINTS)
        self._note(f"kill the session manager, and again {point}")
        session_manager.aim.then = point
        session_manager.kill()
        return True

    def kill_with_write(self) -> bool:
        """The session manager dies around the next commit of a certain kind of write."""
        world, kind = self._world, self._random.choice(WRITES)
        if kind in (PutSession, DeleteSession, PutBlock):
            clients = [client for client in world.clients if client.connected]
            if not clients:
                return False
            self._open(self._random.choice(clients), "short", tasks=0)
        elif kind is PutDeaths:
            busy = self._busy()
            if not busy:
                return False
            world.history.fault(world.time.now_ns, "executor")
            busy[0].exit(signal=SIGKILL)
        self._note(f"kill the session manager with {kind.__name__}")
        world.session_manager.aim.kinds.append(kind)
        return True

    def _open(self, client: SimClient, what: str, *, tasks: int) -> None:
        """A client opens a session that is soon over, and deletes it."""
        name = f"{what}{self._world.time.now_ns}"
        spec = SessionSpec(application="sim")
        client.open(SessionPlan(name=name, spec=spec, tasks=tasks, burst=3, pause_ms=1, delete=True), name)

    def kill_executor(self) -> bool:
        """Before, in, or after a task."""
        process = self._executor()
        if process is not None:
            self._note(f"kill executor {process.key}")
            process.exit(signal=SIGKILL)
        return process is not None

    def _executor(self) -> SimExecutor | None:
        alive = [process for node in self._world.nodes for process in node.executors.values() if not process.dead]
        return self._random.choice(alive) if alive else None

    def kill_node(self) -> bool:
        """An executor manager and with it its executors."""
        return self._end_node("kill", (10, 1_000, 5_000))

    def stop_node(self) -> bool:
        """An executor manager, in order."""
        return self._end_node("stop", (150, 1_000, 5_000))

    def _end_node(self, how: str, delays_ms: tuple[int, ...]) -> bool:
        node = self._random.choice(self._world.nodes)
        if node.dead:
            return False
        self._note(f"{how} node {node.name}")
        getattr(node, how)()
        self._world.time.after(self._for_ms(*delays_ms), lambda: node.start() if node.dead else None)
        return True

    def kill_client(self) -> bool:
        """Its process ends. Another one may come for its sessions; in the end somebody else closes them."""
        client = self._random.choice(self._world.clients)
        if client.dead or len([one for one in self._world.clients if not one.dead]) < 2:
            return False
        self._note(f"kill client {client.name}")
        client.die()
        if self._random.random() < 0.7:
            self._world.time.after(self._for_ms(50, 1_000, 5_000), lambda: self._world.come_back(client))
        return True

    def vanish(self) -> bool:
        """A client goes away and comes back."""
        client = self._random.choice(self._world.clients)
        if client.dead:
            return False
        self._note(f"client {client.name} goes away")
        client.vanish(self._for_ms(100, 2_000, 6_000))
        return True

    def hang(self) -> bool:
        """Any process stands still, perhaps for longer than its lease."""
        world = self._world
        kind = self._random.choice(("session manager", "node", "executor", "client"))
        process: Process | None
        if kind == "session manager":
            process = world.session_manager if world.session_manager.alive else None
        elif kind == "executor":
            process = self._executor()
        else:
            one = self._random.choice(world.nodes) if kind == "node" else self._random.choice(world.clients)
            process = None if one.dead else one
        if process is None:
            return False
        self._note(f"{kind} {getattr(process, 'name', '')} hangs")
        process.pause(self._for_ms(50, 1_000, world.lease_ms + 1_500))
        world.counts[f"hang {kind}"] += 1
        return True

    # --- network -----------------------------------------------------------------------------------------------------

    def _links(self) -> list[SimLink]:
        return [link for link in self._world.links.values() if not link.ended]

    def cut(self) -> bool:
        """A connection breaks at any byte."""
        links = self._links()
        if links:
            self._random.choice(links).cut()
        return bool(links)

    def delay(self) -> bool:
        """A connection is silent for a while, and then all arrives."""
        links = self._links()
        if links:
            link = self._random.choice(links)
            link.stall(self._until(20, 500, 2_500), waited=self._bites.waiting("delay", 1))
        return bool(links)

    def half_open(self) -> bool:
        """One side of a connection is gone, or the network between them, and who is left learns it late."""
        links = self._links()
        if links:
            link = self._random.choice(links)
            link.stall(self._until(500, 3_000, 6_000))
            gone = self._random.choice(("peer", "session manager", "network"))
            if gone == "peer":
                link.end_by_peer()
                link.peer.closed(link)
            elif gone == "session manager":
                link.end_by_server()
                self._world.session_manager.closed(link)
            else:
                link.cut()
            self._world.counts[f"half-open {gone}"] += 1
        return bool(links)

    def partition(self) -> bool:
        """A node and its executors are cut off from the session manager; when it is over, all arrives or all is cut."""
        node = self._random.choice(self._world.nodes)
        if node.dead:
            return False
        self._note(f"isolate node {node.name}")
        until_ns = self._until(100, 2_500, 6_000)
        node.isolate(until_ns)
        for link in self._links():
            if link.peer is node or (isinstance(link.peer, SimExecutor) and link.peer.node is node):
                link.stall(until_ns)
        return True

    def slow_reader(self) -> bool:
        """A peer takes what it is sent in rare gulps."""
        links = self._links()
        if not links:
            return False
        link, time, waited = self._random.choice(links), self._world.time, self._bites.waiting("slow-reader", 2)

        def gulp(left: int) -> None:
            link.stall(time.now_ns + 100 * NS_PER_MS, up=False, waited=waited)
            if left:
                time.after(100 * NS_PER_MS, lambda: gulp(left - 1))

        gulp(4)
        return True

    # --- aimed -------------------------------------------------------------------------------------------------------

    def lose_answer(self) -> bool:
        """A connection breaks when something is stored, just before its peer is told."""
        weights = [_WEIGHTS.get(kind, 1) for kind in ANSWERS]
        times = self._random.choice((2, 8))
        self._world.session_manager.break_before += self._random.choices(ANSWERS, weights, k=times)
        return True

    def cancel_held(self) -> bool:
        """A few tasks are cancelled in the middle of what an executor holds."""
        for process in self._busy():
            for held in process.table.held() or ():
                first, end = max(held.first, process.table.current) + 1, held.first + held.count
                if end - first < 2:
                    continue
                at = self._random.randrange((first + end - 1) // 2, end - 1)
                if self._cancel(process.session, at, self._random.randrange(1, end - at)):
                    return True
        return False

    def _busy(self) -> list[SimExecutor]:
        """Executors that hold tasks, in any order."""
        found = [one for node in self._world.nodes for one in node.executors.values() if not one.dead]
        found = [process for process in found if process.table.held()]
        self._random.shuffle(found)
        return found

    def _cancel(self, number: int, first: int, count: int) -> bool:
        for client in self._world.clients:
            for session in client.sessions if not client.dead else ():
                if session.holds(number, first):
                    self._note(f"cancel {count} tasks from {first} on of session={number}")
                    session.cancel(first, count)
                    client.flush()
                    return True
        return False

    def late_attach(self) -> bool:
        """An attach that creates a session arrives when the same has gone well on a newer connection, and is over."""
        client = self._random.choice(self._world.clients)
        if not client.connected:
            return False
        self._open(client, "late", tasks=3)
        client.leave_behind(self._until(1_000, 3_000, 6_000))
        return True

    def late_answers(self) -> bool:
        """Answers to a node's pings are late, and before they come the node is cut off in the other direction."""
        world = self._world
        busy = [process.node for process in self._busy()]
        if not busy:
            return False
        node = next(node for node in world.nodes if node is busy[0])
        self._note(f"answers to node {node.name} are late, and then it is cut off")
        late_ns, cut_off_ns = self._until(1_900, 2_100, 2_300), self._until(world.lease_ms + 3_000)
        node.unreachable_until_ns = cut_off_ns
        for link in self._links():
            if link.peer is node:
                link.stall(late_ns, up=False)

        def cut_off() -> None:
            for link in () if self._over else self._links():
                if link.peer is node:
                    link.stall(cut_off_ns, down=False)
                elif isinstance(link.peer, SimExecutor) and link.peer.node is node:
                    link.stall(cut_off_ns)

        world.time.after(self._for_ms(550, 700), cut_off)
        return True

    def late_end(self) -> bool:
        """All executors of a session lose their connections, of which the session manager learns much later."""
        state = self._world.session_manager.state
        waiting = [session for session in state.live.values() if session.queue.tasks] if state is not None else []
        links = [
            link
            for link in self._links()
            if isinstance(link.peer, SimExecutor) and waiting and link.peer.session == waiting[0].number
        ]
        for link in links:
            link.stall(self._until(300, 1_000, 3_000), down=False)
            link.end_by_peer()
            link.peer.closed(link)
        return bool(links)

    # --- disk and clock ----------------------------------------------------------------------------------------------

    def slow_disk(self) -> bool:
        """Commits take very long for a while."""
        session_manager = self._world.session_manager
        session_manager.slowest_commit_ns = self._for_ms(100, 1_000)

        def heal() -> None:
            session_manager.slowest_commit_ns = self._world.usual_commit_ns

        self._world.time.after(self._for_ms(500, 2_000), heal)
        return True

    def full_disk(self) -> bool:
        """There is no room for new tasks for a while."""
        session_manager = self._world.session_manager
        store, counts = session_manager.store, session_manager.counts
        if store.max_bytes is not None:
            return False
        store.resize(self._random.choice((0, 10_000)))
        self._note("the disk is full")
        for_ns, before = self._for_ms(300, 1_500), counts[NO_SPACE]
        self._world.time.after(for_ns, lambda: store.resize(None))
        self._bites.when("full-disk", lambda: counts[NO_SPACE] > before, for_ns)
        return True

    def sync_fails(self) -> bool:
        """The next sync fails: the session manager ends, and what it wrote is there or not."""
        if not self._world.session_manager.alive:
            return False
        self._note("the next sync fails")
        self._world.session_manager.disk.fails_next = True
        return True

    def clock(self) -> bool:
        """The wall clock jumps, of which the next start of the session manager knows; perhaps it comes soon."""
        session_manager = self._world.session_manager
        jump_ms = self._random.choice((-86_400_000, -5_000, 5_000, 86_400_000))
        self._note(f"the wall clock jumps by {jump_ms} ms")
        session_manager.wall_offset_ms += jump_ms
        life = session_manager.life
        if self._random.random() < 0.5:
            self._world.time.after(self._for_ms(10, 300), lambda: None if self._over else session_manager.kill())

        def met() -> bool:
            state = session_manager.state
            return session_manager.life > life and state is not None and bool(state.live)

        self._bites.when("clock", met, _CLOCK_WITHIN_MS * NS_PER_MS)
        return True


FAULTS: dict[str, Callable[[Faults], bool]] = {
    "session-manager": Faults.kill_session_manager,
    "recovery": Faults.kill_in_recovery,
    "write": Faults.kill_with_write,
    "executor": Faults.kill_executor,
    "node": Faults.kill_node,
    "stop": Faults.stop_node,
    "client": Faults.kill_client,
    "vanish": Faults.vanish,
    "hang": Faults.hang,
    "cut": Faults.cut,
    "delay": Faults.delay,
    "half-open": Faults.half_open,
    "partition": Faults.partition,
    "slow-reader": Faults.slow_reader,
    "slow-disk": Faults.slow_disk,
    "full-disk": Faults.full_disk,
    "sync": Faults.sync_fails,
    "clock": Faults.clock,
    "lost-answer": Faults.lose_answer,
    "cancel": Faults.cancel_held,
    "late-attach": Faults.late_attach,
    "late-answers": Faults.late_answers,
    "late-end": Faults.late_end,
}
MORE = {"session-manager": 2, "recovery": 3, "write": 4}
"""Faults that are drawn so many times as often as others: these have many kinds."""
AIMED = ("recovery", "write", "cancel", "late-attach", "late-answers", "late-end")
"""Faults that wait for their chance."""
HARMLESS_AS = {
    **dict.fromkeys(("session-manager", "recovery", "write", "sync", "clock", "slow-disk"), SESSION_MANAGER),
    "full-disk": "disk",
    **dict.fromkeys(("vanish", "cancel", "late-attach"), "client"),
}
"""Faults after which, if there is none of another kind, no task may run twice: by what the history calls them."""


def kinds_of(text: str) -> tuple[str, ...]:
    """The kinds of faults that `all`, `none` or a list with commas names.

    Raises:
        ValueError: there is no such kind.
    """
    if text == "none":
        return ()
    kinds = tuple(FAULTS) if text == "all" else tuple(text.split(","))
    for kind in kinds:
        if kind not in FAULTS:
            raise ValueError(f"there is no fault {kind!r}; there are: {', '.join(FAULTS)}")
    return kinds
