"""The credit of executors, as Hypothesis sees it: what the core hands out and what comes back, in any order.

The model is what each executor really got and has not answered. However tasks are reported, retracted, lost on the way
or left behind by a death: nobody is given more than its credit in tasks, bytes, ranges and time, the core's account is
that of the executors, and who has nothing to do is free of any debt and can be given as much as ever.
"""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from flame.core.control.effects import SendToExecutor
from flame.core.control.entities import Binding
from flame.model.executor_messages import AssignTasks, RetractTasks
from flame.model.limits import (
    BLOCK_TASKS,
    CREDIT_BYTES,
    CREDIT_MS,
    CREDIT_TASKS,
    KIB,
    MAX_CHUNK_BYTES,
    MAX_HELD_RANGES,
)
from flame.model.node_messages import BindExecutor
from flame.model.ranges import HeldRange
from tests.core.harness import Core

EXECUTORS = 2
NAME = "app-000001"
FIRST_CREDIT = 2


class CreditMachine(RuleBasedStateMachine):
    """One session, a node with room for a few executors, and what each of them holds."""

    def __init__(self) -> None:
        super().__init__()
        self.core = Core(max_task_bytes=1 << 20, resident_input_bytes=1 << 26)
        self.core.join(cpu=EXECUTORS)
        self.core.attach("a")
        self.core.attach("b", NAME, create=None)
        self.next_id, self.others_id = 1, 1 + BLOCK_TASKS
        self.holds: dict[str, dict[int, tuple[int, int]]] = {}
        """Per executor and task: the attempt, and the bytes of its input."""
        self.asked: dict[str, list[RetractTasks]] = {}
        self.reports: dict[str, int] = {}
        self.core.take()

    # --- what executors hear ---

    def hear(self, *, lost: str = "") -> None:
        """Messages of the core arrive, but for those to `lost`; new processes start."""
        while True:
            effects = self.core.take()
            for effect in effects:
                if isinstance(effect, SendToExecutor) and effect.executor != lost:
                    self.heard(effect.executor, effect.message)
            if not any(isinstance(getattr(effect, "message", None), BindExecutor) for effect in effects):
                return
            for executor in self.core.start_all():
                self.holds[executor], self.asked[executor], self.reports[executor] = {}, [], 0

    def heard(self, executor: str, message: object) -> None:
        """One message."""
        if isinstance(message, AssignTasks):
            sizes = memoryview(message.lengths).cast("I")
            for task, nbytes in enumerate(sizes, message.first):
                assert not any(task in held for held in self.holds.values()), f"task {task} is held twice"
                self.holds[executor][task] = message.attempt, nbytes
            self.check_time(executor)
        elif isinstance(message, RetractTasks):
            self.asked[executor].append(message)

    def check_time(self, executor: str) -> None:
        """Who gets something holds no more than a few tens of milliseconds of work, or one task."""
        session = self.core.session(NAME)
        if session.task_ns:
            assert self.core.binding(executor).held_tasks <= max(1, CREDIT_MS * 1_000_000 / session.task_ns)

    def busy(self) -> list[str]:
        """Executors that hold something."""
        return [executor for executor, held in self.holds.items() if held]

    def held_ranges(self, executor: str) -> list[HeldRange]:
        """What an executor holds, as it says it."""
        return [HeldRange(attempt, task, 1) for task, (attempt, _) in sorted(self.holds[executor].items())]

    # --- what happens ---

    @initialize(times=st.sampled_from((0, 0, 4, 8)))
    def begin(self, times: int) -> None:
        """In some runs executors have worked before, and have more credit."""
        self.put(64)
        self.hear()
        self.go_on(times, 1)

    @rule(count=st.one_of(st.integers(1, 12), st.integers(300, 1024)), nbytes=st.integers(1, 40))
    def submit(self, count: int, nbytes: int) -> None:
        """Small tasks come in; everybody is topped up."""
        self.put(count, nbytes)
        self.hear()
        for binding in self.bindings():
            self.check_topped_up(binding)

    def put(self, count: int, nbytes: int = 1) -> None:
        """A chunk of the first submitter."""
        self.core.submit("a", self.next_id, count, nbytes)
        self.next_id += count

    @rule()
    def submit_large(self) -> None:
        """More comes in than anybody may hold in bytes."""
        for _ in range(20):
            self.put(2, 500 * KIB)
        self.hear()

    @rule(count=st.sampled_from((3, 20, 120)))
    def submit_in_turns(self, count: int) -> None:
        """Two submitters send one task after the other: each is a range of its own."""
        for _ in range(count):
            self.put(1)
            self.core.submit("b", self.others_id, 1)
            self.others_id += 1
        self.hear()

    @precondition(lambda self: self.busy())
    @rule(data=st.data(), each_us=st.sampled_from((1, 100, 20_000, 500_000)))
    def report(self, data: st.DataObject, each_us: int) -> None:
        """An executor has finished some of what it holds."""
        executor = data.draw(st.sampled_from(self.busy()))
        self.finish(executor, data.draw(st.integers(1, len(self.holds[executor]))), each_us)

    @rule(times=st.integers(1, 8), each_us=st.sampled_from((1, 100)))
    def go_on(self, times: int, each_us: int) -> None:
        """All executors finish half of what they hold, some times: their credit grows."""
        for _ in range(times):
            for executor in self.busy():
                self.finish(executor, (1 + len(self.holds[executor])) // 2, each_us)

    @precondition(lambda self: self.busy())
    @rule(data=st.data())
    def run_dry(self, data: st.DataObject) -> None:
        """All but one finish all there is: what that one has not started is asked back."""
        slow = data.draw(st.sampled_from(self.busy()))
        while others := [executor for executor in self.busy() if executor != slow]:
            for executor in others:
                self.finish(executor, len(self.holds[executor]), 1_000)

    def finish(self, executor: str, count: int, each_us: int) -> None:
        """The first tasks that it holds are finished; they are reported in the order in which the core gave them."""
        before = self.core.held(executor)
        self.core.report(executor, count, each_us=each_us)
        self.reports[executor] += 1
        for part in before:
            for task in range(part.first, part.first + min(count, part.count)):
                del self.holds[executor][task]
            count -= min(count, part.count)
        self.hear()
        self.check_topped_up(self.core.binding(executor))

    def check_topped_up(self, binding: Binding) -> None:
        """As long as tasks wait it holds more than half of what it may: less would have been filled up."""
        session = self.core.session(NAME)
        if binding.held_bytes >= CREDIT_BYTES or len(binding.held) >= MAX_HELD_RANGES // 2 or not session.queue.tasks:
            return
        most_in_time = CREDIT_MS * 1_000_000 / session.task_ns if session.task_ns else CREDIT_TASKS
        share = session.queue.tasks // (2 * len(self.bindings()))
        assert 2 * binding.held_tasks > min(binding.credit, share, int(most_in_time)), f"{binding.executor.id} runs dry"

    @precondition(lambda self: any(self.asked.values()))
    @rule(data=st.data())
    def give_back(self, data: st.DataObject) -> None:
        """An executor answers a retract: it gives back some of what it still holds of it, or nothing."""
        executor = data.draw(st.sampled_from([name for name, asked in self.asked.items() if asked]))
        request = self.asked[executor].pop(0)
        wanted = [task for part in request.ranges for task in range(part.first, part.first + part.count)]
        given = [task for task in wanted if task in self.holds[executor]]
        given = given[data.draw(st.integers(0, len(given))) :]
        ranges = [HeldRange(self.holds[executor].pop(task)[0], task, 1) for task in given]
        self.core.give_back(executor, request.request, *ranges)
        self.hear()

    @precondition(lambda self: self.holds)
    @rule(data=st.data(), count=st.integers(1, 9))
    def lose(self, data: st.DataObject, count: int) -> None:
        """A link breaks, with what is on its way; the executor comes back and says what it holds."""
        executor = data.draw(st.sampled_from(sorted(self.holds)))
        self.put(count)
        self.hear(lost=executor)
        self.core.lose_executor(executor)
        self.hear()
        self.asked[executor].clear()
        self.core.start(executor, held=self.held_ranges(executor), entered=True)
        self.hear()

    @precondition(lambda self: self.holds)
    @rule(data=st.data())
    def die(self, data: st.DataObject) -> None:
        """An executor is ended, between two tasks; another one takes its place."""
        executor = data.draw(st.sampled_from(sorted(self.holds)))
        del self.holds[executor], self.asked[executor], self.reports[executor]
        self.core.exit(executor, killed=True)
        self.hear()

    @rule(milliseconds=st.integers(1, 50))
    def wait(self, milliseconds: int) -> None:
        """Time passes, so that tasks behind a long one are asked for."""
        self.core.advance(milliseconds)
        self.hear()

    def teardown(self) -> None:
        """All is finished: nobody owes anything, and each is given as much as its credit again."""
        while self.busy():
            for executor in self.busy():
                self.finish(executor, len(self.holds[executor]), 1)
        session = self.core.session(NAME)
        assert session.unfinished == 0
        for _ in range(20):  # the measured time of a task falls again
            self.put(EXECUTORS)
            self.hear()
            for executor in self.busy():
                self.finish(executor, len(self.holds[executor]), 1)
        for _ in range(4 * EXECUTORS):
            self.put(1024)
            self.hear()
        for binding in self.bindings():
            self.check_topped_up(binding)
            assert len(binding.held) >= 1

    # --- what always holds ---

    @invariant()
    def nobody_holds_more_than_its_credit(self) -> None:
        """In tasks, in bytes but for the last slice, and in ranges."""
        for binding in self.bindings():
            assert FIRST_CREDIT <= binding.credit <= CREDIT_TASKS
            assert binding.credit <= FIRST_CREDIT << self.reports[binding.executor.id], "it doubles with a report"
            assert binding.held_tasks <= binding.credit
            assert binding.held_bytes < CREDIT_BYTES + MAX_CHUNK_BYTES
            assert len(binding.held) <= MAX_HELD_RANGES // 2

    @invariant()
    def the_core_knows_what_executors_hold(self) -> None:
        """Task by task, with the attempt; the bytes of an assignment count until its last task is answered."""
        for binding in self.bindings():
            held = self.holds[binding.executor.id]
            known = {
                task: attempt
                for attempt, part in binding.held.items()
                for span in part.spans
                for task in range(span.first, span.end)
            }
            assert known == {task: attempt for task, (attempt, _) in held.items()}
            assert binding.held_tasks == len(held)
            assert binding.held_bytes >= sum(nbytes for _, nbytes in held.values())
            assert held or binding.held_bytes == 0, "who holds nothing owes nothing"

    @invariant()
    def nobody_idles_while_tasks_wait(self) -> None:
        """Whoever holds nothing would have been given something."""
        if self.core.session(NAME).queue.tasks:
            assert all(binding.held for binding in self.bindings() if binding.ready)

    def bindings(self) -> list[Binding]:
        """The executors that have started."""
        return [b for b in self.core.session(NAME).bindings.values() if b.executor.id in self.holds]


TestCredit = CreditMachine.TestCase
TestCredit.settings = settings(max_examples=20, stateful_step_count=20, deadline=None)
