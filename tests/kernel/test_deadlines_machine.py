"""Deadlines while time goes on, as Hypothesis sees them: each fires once, never early or late, in the order of time.

The other test compares them with a list, step by step. Here nobody looks at the heap: things are set, moved and
dropped, many at a time, time passes, and what fires is judged by what was promised.
"""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from flame.kernel.deadlines import Deadlines

NAMES = st.integers(0, 120)


class DeadlineMachine(RuleBasedStateMachine):
    """Deadlines, and for each name when it is due and how often it was set since it fired last."""

    def __init__(self) -> None:
        super().__init__()
        self.deadlines = Deadlines[int]()
        self.due: dict[int, tuple[int, int]] = {}
        self.now_ms = 0
        self.sets = 0

    def put(self, name: int, time_ms: int) -> None:
        """Set a deadline, in the past too."""
        self.sets += 1
        self.deadlines.set(name, time_ms)
        self.due[name] = time_ms, self.sets

    # --- what happens ---

    @rule(name=NAMES, in_ms=st.integers(-5, 50))
    def one(self, name: int, in_ms: int) -> None:
        """One is set, or moved."""
        self.put(name, self.now_ms + in_ms)

    @rule(first=NAMES, count=st.integers(1, 80), in_ms=st.integers(0, 20), step_ms=st.integers(-2, 2))
    def many(self, first: int, count: int, in_ms: int, step_ms: int) -> None:
        """Many are set at once: the heap is made anew when most of it is out of date."""
        for place in range(count):
            self.put((first + place) % 121, self.now_ms + in_ms + place * step_ms)

    @rule(first=NAMES, count=st.integers(1, 60))
    def drop(self, first: int, count: int) -> None:
        """Some are dropped, whether they are set or not."""
        for name in range(first, first + count):
            self.deadlines.drop(name)
            self.due.pop(name, None)

    @precondition(lambda self: self.due)
    @rule(data=st.data())
    def renew(self, data: st.DataObject) -> None:
        """One is moved again and again, as a lease is."""
        name = data.draw(st.sampled_from(sorted(self.due)))
        for later_ms in range(70):
            self.put(name, self.now_ms + later_ms)

    @rule(milliseconds=st.integers(0, 30))
    def pass_time(self, milliseconds: int) -> None:
        """Time passes; what is due fires, and nothing else."""
        self.now_ms += milliseconds
        fired: list[tuple[int, int]] = []
        while (name := self.deadlines.pop_due(self.now_ms)) is not None:
            assert name in self.due, f"{name} fires again, or was dropped"
            time_ms, order = self.due.pop(name)
            assert time_ms <= self.now_ms, f"{name} fires {time_ms - self.now_ms} ms early"
            fired.append((time_ms, order))
        assert fired == sorted(fired), "the earliest first, and among equals who was set first"
        late = {name: time_ms for name, (time_ms, _) in self.due.items() if time_ms <= self.now_ms}
        assert not late, f"due and not fired: {late}"

    def teardown(self) -> None:
        """In the end all that is set fires."""
        self.pass_time(1_000)
        assert not self.due
        assert len(self.deadlines) == 0
        assert self.deadlines.next_ms() is None

    # --- what always holds ---

    @invariant()
    def it_wakes_up_for_the_earliest(self) -> None:
        """`next_ms` is when the driver wakes the core."""
        assert self.deadlines.next_ms() == min((time_ms for time_ms, _ in self.due.values()), default=None)

    @invariant()
    def what_is_out_of_date_is_the_smaller_part(self) -> None:
        """Leases are renewed for ever: the heap must not grow with that."""
        assert len(self.deadlines._heap) <= max(64, 2 * 121) + 1


TestDeadlines = DeadlineMachine.TestCase
TestDeadlines.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
