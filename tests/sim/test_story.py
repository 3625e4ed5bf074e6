"""The story of a task or a session is in the trace, and nothing of others is told."""

from flame.model.client_messages import ChunkAcknowledged
from flame.model.records import BlockRecord, PutBlock
from flame.sim.run import Case, run
from flame.sim.story import brief, explain
from flame.sim.workload import Size

TRACE = [
    "0.0 manager starts, epoch 1",
    "1.0 stored PutChunk session=3 first=1 count=10",
    "1.1 stored PutBinding executor='1-7' node='n0' session=3 binding=1",
    "1.2 to 4 (1-7): AssignTasks attempt=9 first=4 count=2",
    "1.3 to 5 (1-8): AssignTasks attempt=10 first=4 count=2",
    "2.0 executor ('1-7', 1) runs 4 of session 3, attempt 9",
    "2.1 executor ('1-7', 1) runs 5 of session 3, attempt 9",
    "2.2 fault: cut",
    "3.0 stored PutSegment session=3 sequence=1 first=4 count=2 state=2",
    "3.1 stored PutSegment session=2 sequence=1 first=4 count=2 state=2",
]


def test_the_story_of_a_task() -> None:
    assert [line.split()[0] for line in explain(TRACE, "3:5")] == ["0.0", "1.0", "1.2", "2.1", "2.2", "3.0"]


def test_the_story_of_a_session() -> None:
    told = [line.split()[0] for line in explain(TRACE, "3")]
    assert told == ["0.0", "1.0", "1.1", "1.2", "2.0", "2.1", "2.2", "3.0"]


def test_a_real_trace_tells_how_a_task_came_to_its_outcome() -> None:
    story, seed = "", 0
    while "runs 1 of session 1" not in story:  # in some worlds it is cancelled before
        seed += 1
        trace = run(Case(seed=seed, size=Size(nodes=2, sessions=2, tasks=40), kinds=()), tracing=True).trace
        story = "\n".join(explain(trace, "1:1"))
    for what in ("PutChunk", "AssignTasks", "PutSegment"):
        assert what in story, what


def test_a_message_or_write_on_one_line() -> None:
    assert brief(ChunkAcknowledged(attachment=2, next_id=7)) == "ChunkAcknowledged attachment=2 next_id=7"
    assert brief(PutBlock(BlockRecord(session=1, first=1, key="k"))) == "PutBlock session=1 first=1 key='k'"
