"""Hand-made logs and a store: what is right passes, what is wrong is found, and a kill explains a second run."""

from flame.model import chunk
from flame.model.records import ChunkRecord, PutChunk, PutSegment, PutSession, SegmentRecord, SessionRecord
from flame.model.specs import SessionSpec
from flame.model.states import TaskState
from flame.sim.history import Rule, digest
from flame.stores.memory import MemoryStore
from tests.chaos import verdict
from tests.chaos.facts import Fact, input_of

MS = 1_000_000
PATIENCE_NS = 1_000 * MS
SERVICE, OTHER = "service-77-3", "service-78-9"


def facts_of(*lines: tuple[int, str, str]) -> list[Fact]:
    return [Fact(at_ms * MS, source, text.split(" ")) for at_ms, source, text in lines]


def output(task: int) -> bytes:
    return b"out %d" % task


def run(at_ms: int, task: int, source: str = SERVICE) -> list[tuple[int, str, str]]:
    given = digest(input_of("s", task - 1))
    return [
        (at_ms, source, f"start {task} {task - 1} {given} s"),
        (at_ms + 1, source, f"end {task} {digest(output(task))} s"),
    ]


def store_of(count: int, finished: int) -> MemoryStore:
    """A store with a session of `count` tasks, of which the first `finished` have succeeded."""
    store = MemoryStore()
    epoch = store.open()
    session = SessionRecord(number=1, name="s", spec=SessionSpec(application="chaos"), created_ms=1)
    inputs = chunk.pack([input_of("s", index) for index in range(count)])
    outputs = chunk.pack([output(task) for task in range(1, finished + 1)])
    chunks = ChunkRecord(session=1, first=1, count=count, created_ms=1, lengths=inputs[0], blob=inputs[1])
    segment = SegmentRecord(
        session=1,
        sequence=1,
        first=1,
        count=finished,
        state=TaskState.SUCCEED,
        lengths=outputs[0],
        blob=outputs[1],
        finished_ms=1,
    )
    store.commit(epoch, [PutSession(session), PutChunk(chunks), PutSegment(segment)])
    return store


BEGIN = [(1, "c0", "create s 1"), (2, "c0", "intent s 0 2"), (3, "c0", "sub s 1 0 2"), (4, "c0", "ack s 1 2")]
END = [(50, "c0", f"saw s 1 {digest(output(1))},{digest(output(2))} 1"), (51, "c0", "finish s 1")]


def test_logs_of_a_good_run_pass() -> None:
    facts = facts_of(*BEGIN, (5, SERVICE, "enter s"), *run(6, 1), *run(8, 2), (10, SERVICE, "leave s"), *END)
    found = verdict.judge(facts, store_of(2, 2), PATIENCE_NS)
    assert found.violations == []
    assert (found.tasks, found.runs, found.sessions) == (2, 2, 1)


def test_a_task_without_an_outcome_in_the_store_is_lost() -> None:
    facts = facts_of(*BEGIN, (5, SERVICE, "enter s"), *run(6, 1), *run(8, 2))
    found = verdict.judge(facts, store_of(2, 1), PATIENCE_NS)
    assert [(violation.rule, violation.task) for violation in found.violations] == [(Rule.LOST, 2)]


def test_tasks_that_a_killed_client_could_not_log_are_found_by_their_index() -> None:
    facts = facts_of(*BEGIN[:2], (5, SERVICE, "enter s"), *run(6, 1), *run(8, 2))
    found = verdict.judge(facts, store_of(2, 2), PATIENCE_NS)
    assert found.violations == []
    assert found.tasks == 2


def again(*between: tuple[int, str, str]) -> list[Fact]:
    """Task 1 is run by one process, and once more by another."""
    two = (*run(6, 1), *between, (20, OTHER, "enter s"), *run(21, 1, OTHER), *run(23, 2, OTHER))
    return facts_of(*BEGIN, (5, SERVICE, "enter s"), *two, *END)


def test_a_second_run_has_to_have_a_reason() -> None:
    found = verdict.judge(again(), store_of(2, 2), PATIENCE_NS)
    assert [violation.rule for violation in found.violations] == [Rule.RAN_TWICE]
    calm = verdict.judge(again((8, "chaos", "fault session_manager 5 0")), store_of(2, 2), PATIENCE_NS)
    assert [violation.rule for violation in calm.violations] == [Rule.RAN_TWICE]


def test_the_kill_of_an_executor_or_of_what_holds_it_is_a_reason() -> None:
    for fault, why in (
        ("fault executor 77 0", "executor killed"),
        ("fault executor_manager 5 0", "executor manager killed"),
        ("fault fork_server 6 0", "fork server killed"),
    ):
        found = verdict.judge(again((8, "chaos", fault)), store_of(2, 2), PATIENCE_NS)
        assert found.violations == []
        assert found.again == {why: 1}


def test_recoveries_are_measured_from_the_kill_to_the_first_result_of_the_next_one() -> None:
    facts = facts_of(
        *BEGIN,
        (5, SERVICE, "enter s"),
        *run(6, 1),
        (10, "chaos", "fault session_manager 5 0"),
        (11, "c0", f"saw s 1 {digest(output(1))} 1"),
        (12, "chaos", "back 6"),
        *run(13, 2),
        (30, "c0", f"saw s 2 {digest(output(2))} 2"),
        (31, "chaos", "fault executor_manager 7 0"),
        (40, "chaos", "fault session_manager 6 0"),
        (42, "chaos", "back 8"),
        (47, "r", f"saw s 1 {digest(output(1))} 1"),
    )
    found = verdict.judge(facts, store_of(2, 2), PATIENCE_NS)
    assert (found.calm_ms, found.wild_ms) == ([20.0], [7.0])
    assert found.recovery == "p50 20 ms, max 20 ms of 1; with everything else broken too p50 7 ms, max 7 ms of 1"
