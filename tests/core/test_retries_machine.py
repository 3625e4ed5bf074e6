"""Retries, as Hypothesis sees them: executors die under tasks, are killed by us, fail to start; session managers too.

The model counts what is to be charged to whom. Whatever happens in which order: the attempts of a task only grow, it is
run again until it has been charged its limit of deaths and then fails, what we kill ourselves is charged to nobody (but
for a task that is there at every end of its host), and nothing that is terminal is handed out again.
"""

from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from flame.core.control.effects import SendToExecutor, SendToNode
from flame.model.executor_messages import AssignTasks
from flame.model.limits import MAX_HOST_ENDS, MAX_START_FAILURES, MAX_TASK_DEATHS
from flame.model.node_messages import BindExecutor
from flame.model.records import PutSegment
from flame.model.states import TaskState
from tests.core.harness import Core

NAME = "app-000001"
EXECUTORS = 2


class RetriesMachine(RuleBasedStateMachine):
    """One session and its executors, each of which runs the first task that it holds."""

    def __init__(self) -> None:
        super().__init__()
        self.core = Core()
        self.core.join(cpu=EXECUTORS)
        self.core.attach("a")
        self.next_id = 1
        self.deaths: Counter[int] = Counter()
        self.host_ends: Counter[int] = Counter()
        self.start_failures = 0
        self.attempts: dict[int, int] = {}
        self.outcomes: dict[int, TaskState] = {}
        self.expected: dict[int, TaskState] = {}
        self.unstarted: list[str] = []
        self.earliest_ms = 0
        self.look()

    def look(self) -> None:
        """See what the core did: whom it bound, what it handed out, what it stored."""
        for write in self.core.writes:
            if isinstance(write, PutSegment):
                record = write.record
                for place, task in enumerate(range(record.first, record.first + record.count)):
                    assert task not in self.outcomes, f"task {task} is terminal twice"
                    self.outcomes[task] = TaskState(record.states[place] if record.states else record.state)
        for effect in self.core.take():
            if isinstance(effect, SendToExecutor) and isinstance(effect.message, AssignTasks):
                message = effect.message
                for task in range(message.first, message.first + message.count):
                    assert message.attempt > self.attempts.get(task, 0), f"an attempt of task {task} is no later one"
                    assert task not in self.outcomes, f"task {task} is handed out, and was terminal"
                    self.attempts[task] = message.attempt
            elif isinstance(effect, SendToNode) and isinstance(effect.message, BindExecutor):
                executor = self.core.state.executors.get(effect.message.executor)
                if executor is not None:
                    assert executor.since_ms >= self.earliest_ms, "it is started before the pause is over"
                self.unstarted.append(effect.message.executor)

    def running(self) -> dict[str, int]:
        """The task that each executor runs."""
        session = self.core.session(NAME)
        entered = [binding for binding in session.bindings.values() if binding.entered and binding.link]
        return {b.executor.id: next(iter(b.held.values())).spans[0].first for b in entered if b.held}

    def fail_where(self, task: int, charged: int, limit: int) -> None:
        """This task was charged; if that is enough it has failed."""
        if charged >= limit:
            self.expected[task] = TaskState.FAILED

    # --- what happens ---

    @rule(count=st.integers(1, 6))
    def submit(self, count: int) -> None:
        """Tasks come in."""
        self.core.submit("a", self.next_id, count)
        self.next_id += count
        self.look()

    @precondition(lambda self: self.unstarted)
    @rule()
    def start(self) -> None:
        """Processes start and enter: failures to do so are not in a row any more."""
        for executor in self.unstarted:
            if executor in self.core.state.executors:
                self.core.start(executor)
                self.start_failures = 0
        self.unstarted.clear()
        self.look()

    @precondition(lambda self: self.unstarted)
    @rule(times=st.integers(1, 6))
    def fail_to_start(self, times: int) -> None:
        """Processes end before they have entered; after some in a row, what waits fails."""
        for _ in range(times):
            for _ in range(100):
                if not self.unstarted:
                    self.wait(10)
            if self.unstarted:
                self.fail_one_start(self.unstarted.pop())

    def fail_one_start(self, executor: str) -> None:
        """One process ends so."""
        if executor not in self.core.state.executors:
            return
        self.start_failures += 1
        self.earliest_ms = self.core.now_ms + 20 * 2 ** (self.start_failures - 1)
        if self.start_failures == MAX_START_FAILURES:
            held = {task for part in self.holding() for task in part}
            for task in range(1, self.next_id):
                if task not in self.outcomes and task not in held:
                    self.expected[task] = TaskState.FAILED
            self.start_failures = 0
            self.earliest_ms = self.core.now_ms + 1_000
        self.core.exit(executor, exit_code=1, entered=False)
        self.look()

    def holding(self) -> list[range]:
        """What executors hold."""
        bindings = self.core.session(NAME).bindings.values()
        return [range(s.first, s.end) for b in bindings for held in b.held.values() for s in held.spans]

    @precondition(lambda self: self.running())
    @rule(data=st.data(), failed=st.booleans())
    def report(self, data: st.DataObject, failed: bool) -> None:
        """A task ends: it raises, or not."""
        executor = data.draw(st.sampled_from(sorted(self.running())))
        self.expected[self.running()[executor]] = state = TaskState.FAILED if failed else TaskState.SUCCEED
        self.core.report(executor, 1, state)
        self.look()

    @precondition(lambda self: self.running())
    @rule(times=st.integers(1, MAX_TASK_DEATHS + 1), lowest=st.booleans())
    def die(self, times: int, lowest: bool) -> None:
        """A task ends its process, some times: it is charged, the others that were held are not."""
        while times and (running := self.running()):
            times -= 1
            executor = (min if lowest else max)(running, key=running.__getitem__)
            task = running[executor]
            self.deaths[task] += 1
            self.fail_where(task, self.deaths[task], MAX_TASK_DEATHS)
            self.core.exit(executor, signal=11, current=task)
            self.look()
            self.start()

    @precondition(lambda self: self.running())
    @rule(times=st.sampled_from((1, 2, MAX_HOST_ENDS + 1)), lowest=st.booleans())
    def be_killed(self, times: int, lowest: bool) -> None:
        """We kill a process, or its host ends: no death; but whoever is there at ten such ends is not trusted."""
        while times and (running := self.running()):
            times -= 1
            executor = (min if lowest else max)(running, key=running.__getitem__)
            task = running[executor]
            self.host_ends[task] += 1
            self.fail_where(task, self.host_ends[task], MAX_HOST_ENDS)
            self.core.exit(executor, signal=9, current=task, killed=True)
            self.look()
            self.start()

    @precondition(lambda self: self.running())
    @rule(data=st.data())
    def end_between_tasks(self, data: st.DataObject) -> None:
        """A process ends and runs nothing: nobody is charged."""
        self.core.exit(data.draw(st.sampled_from(sorted(self.running()))), exit_code=1)
        self.look()

    @rule()
    def lose_the_node(self) -> None:
        """A node is silent until its lease is over: nobody knows what its executors ran, nobody is charged."""
        self.core.lose_node("n1")
        for executor in [name for name in self.core.links if name in self.core.state.executors]:
            self.core.lose_executor(executor)
        self.core.advance(40_000)
        self.unstarted.clear()
        self.core.join("n1", cpu=EXECUTORS)
        self.core.links.setdefault("a", 0)
        self.look()

    @rule(claimed=st.booleans())
    def restart(self, claimed: bool) -> None:
        """The session manager starts anew. Deaths are stored; executors come back with what they hold, or are gone."""
        session = self.core.session(NAME)
        held = {b.executor.id: self.core.held(b.executor.id) for b in session.bindings.values() if b.entered}
        self.core.restart()
        self.host_ends.clear()
        self.start_failures, self.earliest_ms = 0, 0
        self.unstarted.clear()
        if claimed:
            listed = tuple(self.core.listed(executor, parts) for executor, parts in held.items())
            self.core.join("n1", cpu=EXECUTORS, executors=listed)
            for executor, parts in held.items():
                self.core.start(executor, held=parts, entered=True)
        else:
            self.core.join("n1", cpu=EXECUTORS)
        self.core.attach("a", NAME, create=None)
        self.look()

    @rule(milliseconds=st.sampled_from((10, 100, 1_100)))
    def wait(self, milliseconds: int) -> None:
        """Time passes: pauses before another start end."""
        self.core.advance(milliseconds)
        self.look()

    def teardown(self) -> None:
        """With nothing more going wrong, all that is left succeeds."""
        for _ in range(200):
            self.wait(1_100)
            if self.unstarted:
                self.start()
            for executor in sorted(self.running()):
                self.core.report(executor)
                self.look()
            if self.core.session(NAME).unfinished == 0:
                break
        assert sorted(self.outcomes) == list(range(1, self.next_id))
        for task, state in self.outcomes.items():
            assert state is self.expected.get(task, TaskState.SUCCEED), f"task {task} is {state.name}"

    # --- what always holds ---

    @invariant()
    def what_was_to_end_has_ended_so_and_nothing_else(self) -> None:
        """A limit is a limit: not one death earlier, not one later."""
        assert self.outcomes == self.expected

    @invariant()
    def deaths_are_counted_as_they_were_charged(self) -> None:
        """Also after a restart, and only of tasks that are not terminal."""
        charged = {task: count for task, count in self.deaths.items() if task not in self.outcomes}
        assert self.core.session(NAME).deaths == charged


TestRetries = RetriesMachine.TestCase
TestRetries.settings = settings(max_examples=50, stateful_step_count=30, deadline=None)
