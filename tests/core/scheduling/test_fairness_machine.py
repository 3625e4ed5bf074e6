"""Fairness while time goes on, as Hypothesis sees it: sessions come, want more or less, and go; nodes too.

Each tick makes a plan and carries it out; executors that are asked to go take a while. Whatever happens: nobody has
more than its maximum and no node more than its room, no room is left while somebody waits for it, executors move only
for somebody's sake, and once nothing changes any more, minimums, priorities and equal shares are what was promised.
"""

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from flame.core.scheduling.plan import plan
from flame.core.scheduling.view import ExecutorView, NodeView, Plan, SessionView, View
from flame.model.resources import Resources

ONE = Resources(cpu=1)
ROTATION_MS = 250
TICK_MS = 10


class Wish(msgspec.Struct):
    """What a session asks for."""

    priority: int
    least: int
    most: int
    tasks: int
    used_ms: int = 0


class FairnessMachine(RuleBasedStateMachine):
    """A cluster whose executors have one CPU each."""

    def __init__(self) -> None:
        super().__init__()
        self.nodes: dict[str, int] = {"n0": 3}
        self.wishes: dict[int, Wish] = {}
        self.executors: dict[str, ExecutorView] = {}
        self.gone_in: dict[str, int] = {}
        self.last = 0

    # --- the cluster ---

    def room(self) -> int:
        """How many executors fit."""
        return sum(self.nodes.values())

    def wants(self, number: int) -> int:
        """How many executors a session can use; those on their way out count against its maximum."""
        wish = self.wishes[number]
        leaving = sum(one.session == number and one.leaving for one in self.executors.values())
        return min(self.room(), max(0, wish.most - leaving), max(wish.least, wish.tasks))

    def view(self) -> View:
        """What the scheduler sees."""
        sessions = [
            SessionView(
                number=number,
                priority=wish.priority,
                resources=ONE,
                least=min(wish.least, self.wants(number)),
                wants=self.wants(number),
                used_ms=wish.used_ms,
            )
            for number, wish in self.wishes.items()
        ]
        nodes = [NodeView(name=name, capacity=Resources(cpu=cpus)) for name, cpus in self.nodes.items()]
        executors = tuple(self.executors.values())
        return View(sessions=tuple(sessions), executors=executors, nodes=tuple(nodes), rotation_ms=ROTATION_MS)

    def staying(self, number: int) -> int:
        """Executors of a session that are not on their way out."""
        return sum(one.session == number and not one.leaving for one in self.executors.values())

    def tick(self, leave_ticks: int = 1) -> Plan:
        """Plan, do what it says, and let time pass."""
        decided = plan(self.view())
        self.check_moves(decided)
        for executor in decided.remove:
            del self.executors[executor]
        for bind in decided.bind:
            self.last += 1
            name = bind.executor or f"e{self.last}"
            self.executors[name] = ExecutorView(id=name, node=bind.node, resources=ONE, session=bind.session)
        for executor in decided.unbind:
            self.let_go(executor, leave_ticks)
        for one in self.executors.values():
            if one.session in self.wishes:
                self.wishes[one.session].used_ms += TICK_MS
        self.check_room_is_used()
        for executor in list(self.gone_in):
            self.gone_in[executor] -= 1
            if self.gone_in[executor] <= 0:
                del self.gone_in[executor]
                self.executors.pop(executor, None)
        return decided

    def let_go(self, executor: str, ticks: int) -> None:
        """An executor finishes its task, and is gone."""
        self.executors[executor] = msgspec.structs.replace(self.executors[executor], leaving=True)
        self.gone_in[executor] = ticks

    # --- what happens ---

    @initialize(wishes=st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1), st.integers(1, 9)), max_size=4))
    def begin(self, wishes: list[tuple[int, int, int]]) -> None:
        """Some sessions are there, most of which want more than they can have."""
        for priority, least, tasks in wishes:
            self.open(priority=priority, least=least, more=6, tasks=tasks)

    @rule(priority=st.integers(0, 1), least=st.integers(0, 2), more=st.integers(0, 6), tasks=st.integers(0, 9))
    def open(self, priority: int, least: int, more: int, tasks: int) -> None:
        """A session is opened; it has no older claims than the others."""
        used_ms = min((wish.used_ms for wish in self.wishes.values()), default=0)
        self.last += 1
        self.wishes[self.last] = Wish(priority, least, max(1, least + more), tasks, used_ms)

    @precondition(lambda self: self.wishes)
    @rule(data=st.data(), tasks=st.integers(0, 9))
    def want(self, data: st.DataObject, tasks: int) -> None:
        """A session has more or fewer tasks."""
        self.wishes[data.draw(st.sampled_from(sorted(self.wishes)))].tasks = tasks

    @precondition(lambda self: self.wishes)
    @rule(data=st.data(), ticks=st.integers(1, 4))
    def close(self, data: st.DataObject, ticks: int) -> None:
        """A session is closed; its executors leave."""
        number = data.draw(st.sampled_from(sorted(self.wishes)))
        del self.wishes[number]
        for executor in [name for name, one in self.executors.items() if one.session == number and not one.leaving]:
            self.let_go(executor, ticks)

    @precondition(lambda self: len(self.nodes) < 3)
    @rule(cpus=st.integers(1, 3))
    def join(self, cpus: int) -> None:
        """A node comes."""
        self.last += 1
        self.nodes[f"n{self.last}"] = cpus

    @precondition(lambda self: len(self.nodes) > 1)
    @rule(data=st.data())
    def lose(self, data: st.DataObject) -> None:
        """A node is gone, with its executors."""
        name = data.draw(st.sampled_from(sorted(self.nodes)))
        del self.nodes[name]
        for executor in [one.id for one in self.executors.values() if one.node == name]:
            del self.executors[executor]
            self.gone_in.pop(executor, None)

    @rule(ticks=st.integers(1, 40), leave_ticks=st.integers(1, 4))
    def go_on(self, ticks: int, leave_ticks: int) -> None:
        """Time passes."""
        for _ in range(ticks):
            self.tick(leave_ticks)

    def teardown(self) -> None:
        """In the end everything comes to rest."""
        self.come_to_rest()

    @rule()
    def come_to_rest(self) -> None:
        """With nothing new, and nobody who gets ahead, executors stop moving; then all is as promised."""
        for wish in self.wishes.values():
            wish.used_ms = 0
        for _ in range(20):
            decided = self.tick()
            for wish in self.wishes.values():
                wish.used_ms = 0
        assert (decided.bind, decided.unbind, decided.remove) == ((), (), ()), "executors still move"
        self.check_shares()

    # --- what always holds ---

    @invariant()
    def no_node_is_overbooked_and_nobody_is_over_its_maximum(self) -> None:
        """Those on their way out count."""
        for name, cpus in self.nodes.items():
            assert sum(one.node == name for one in self.executors.values()) <= cpus
        for number, wish in self.wishes.items():
            assert sum(one.session == number for one in self.executors.values()) <= wish.most

    def check_moves(self, decided: Plan) -> None:
        """Nobody moves for nothing: no session takes and gives at once, nor goes below its minimum for another."""
        owners = [self.executors[executor].session for executor in decided.unbind]
        assert not {bind.session for bind in decided.bind} & set(owners), "it gives up an executor and gets one"
        missing = sum(max(0, self.wants(number) - self.staying(number)) for number in self.wishes)
        leaving = sum(one.leaving for one in self.executors.values())
        assert len(decided.unbind) <= max(0, missing - leaving - len(decided.bind)), "more go than are needed"
        for number in owners:
            left = self.staying(number) - owners.count(number)
            least_of_others = sum(min(wish.least, self.wants(other)) for other, wish in self.wishes.items())
            assert left >= min(self.wishes[number].least, self.wants(number)) or least_of_others > self.room()

    def check_room_is_used(self) -> None:
        """Where a session could use another executor, no node has room."""
        if any(self.staying(number) < self.wants(number) for number in self.wishes):
            assert len(self.executors) == self.room(), "somebody waits, and there is room"

    def check_shares(self) -> None:
        """Minimums first, then priorities, then equal parts."""
        counts = {number: self.staying(number) for number in self.wishes}
        least = {number: min(wish.least, self.wants(number)) for number, wish in self.wishes.items()}
        if sum(least.values()) <= self.room():
            assert all(counts[number] >= least[number] for number in counts), "a minimum is not held"
        for one, other in ((one, other) for one in counts for other in counts):
            if counts[one] >= self.wants(one) or counts[other] <= least[other]:
                continue  # it has all it wants, or the other holds on to its minimum
            mine, theirs = self.wishes[one].priority, self.wishes[other].priority
            assert theirs >= mine, "who has a lower priority keeps what a higher one waits for"
            if theirs == mine and counts[one] >= least[one]:
                assert counts[other] <= counts[one] + 1, "equal sessions differ by more than one"


TestFairness = FairnessMachine.TestCase
TestFairness.settings = settings(max_examples=60, stateful_step_count=20, deadline=None)


@given(sessions=st.integers(2, 5), room=st.integers(1, 4), leave_ticks=st.integers(1, 5))
@settings(max_examples=12)
def test_nobody_starves_and_equal_sessions_stay_close(sessions: int, room: int, leave_ticks: int) -> None:
    """Any number of equal sessions, more than there is room or fewer: no one is ever far behind another."""
    cluster = FairnessMachine()
    cluster.nodes["n0"] = room
    for _ in range(sessions):
        cluster.open(priority=0, least=0, more=8, tasks=9)
    moves = 0
    for _ in range(400):
        moves += len(cluster.tick(leave_ticks).unbind)
        used = [wish.used_ms for wish in cluster.wishes.values()]
        assert max(used) - min(used) <= 2 * (ROTATION_MS + TICK_MS * (2 + leave_ticks)), used
    assert moves <= room * 400 * TICK_MS / ROTATION_MS, "executors stay where they are for a while"
