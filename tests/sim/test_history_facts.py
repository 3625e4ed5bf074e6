"""Columns of facts per task, in blocks of ids, and where two accounts of one outcome differ."""

from flame.model.limits import BLOCK_TASKS
from flame.sim.history_facts import Process, SessionFacts

OTHER = BLOCK_TASKS + 1
"""First id of the second block."""


def test_a_block_of_its_own_has_columns_of_its_own() -> None:
    session = SessionFacts("s")
    session.add(1, [20, 21])
    session.add(OTHER, [30])
    session.add(3, [22])
    for task, number in ((1, 20), (2, 21), (3, 22), (OTHER, 30)):
        place, columns = session.place(task)
        assert columns.inputs[place] == number


def test_outcomes_are_remembered_with_the_time_they_were_first_seen() -> None:
    session = SessionFacts("s")
    session.add(1, [20] * 4)
    assert session.record(7, 2, [40, 41], 1) == []
    assert session.record(9, 1, [39, 40, 41, 42], 1) == []
    assert [session.recorded_ns(task) for task in (1, 2, 3, 4)] == [9, 7, 7, 9]
    assert list(session.outcomes(2, 9)) == [(2, 40, 7), (3, 41, 7), (4, 42, 9)]
    assert session.last_recorded_ns == 9


def test_another_outcome_or_another_segment_is_told() -> None:
    session = SessionFacts("s")
    session.add(1, [20] * 2)
    session.record(7, 1, [40, 41], 1)
    assert session.record(8, 1, [40, 99], 2) == [(1, "segment", 1, 2), (2, "outcome", 41, 99), (2, "segment", 1, 2)]
    assert session.record(9, 1, [40], 0) == []


def test_runs_are_kept_in_order() -> None:
    session = SessionFacts("s")
    session.add(1, [20] * 2)
    assert session.runs_of(2) == []
    for process in (5, 3, 4):
        session.ran(2, process)
    assert session.runs_of(2) == [5, 3, 4]
    assert session.runs_of(1) == []


def test_any_answer_of_a_process_will_do() -> None:
    session = SessionFacts("s")
    session.add(1, [20] * 3)
    for task, outcome in ((1, 40), (2, 41), (2, 51), (3, 42)):
        session.computed(task, outcome)
    session.record(7, 1, [40, 51, 43], 1)
    assert list(session.odd_outcomes()) == [(3, 43, 7)]


def test_a_process_is_unsure_from_a_time_on() -> None:
    process = Process("e", 3, "s", 5, number=0)
    assert not process.unsure(9)
    process.unsure_ns = 7
    assert not process.unsure(6)
    assert process.unsure(7)
    assert str(process) == "executor e (binding 3)"
