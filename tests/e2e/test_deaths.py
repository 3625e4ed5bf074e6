"""Tasks that end their executor: they fail alone, after three times, however often anything restarts meanwhile."""

import pytest

import flame
from tests.e2e.cluster import Cluster, notes, register
from tests.e2e.conftest import MakeCluster
from tests.support import wait_until_true


@pytest.mark.parametrize(("word", "reason"), [(b"abort", "signal 6"), (b"exit", "exit code 3")])
def test_one_task_in_ten_thousand_ends_its_process(cluster: Cluster, word: bytes, reason: str) -> None:
    inputs = [b"%d" % number for number in range(10_000)]
    inputs[4_321] = word
    with cluster.session("Mortal") as session:
        outcomes = list(session.map(iter(inputs), return_exceptions=True, timeout=60))
    failure = outcomes.pop(4_321)
    inputs.pop(4_321)
    assert outcomes == inputs
    assert isinstance(failure, flame.TaskFailed)
    assert reason in failure.message
    assert failure.type == "flame.ExecutorDied"
    assert "3 times" in failure.message
    assert failure.task_id == 4_322


def test_the_same_with_futures(cluster: Cluster) -> None:
    with cluster.session("Mortal") as session:
        futures = [session.run(b"abort" if number == 77 else b"%d" % number) for number in range(200)]
        failure = futures.pop(77).exception(60)
        assert isinstance(failure, flame.TaskFailed)
        assert "signal 6" in str(failure)
        assert [future.result(60) for future in futures] == [b"%d" % n for n in range(200) if n != 77]


def test_an_exception_fails_its_task_alone(cluster: Cluster) -> None:
    with cluster.session("Mortal") as session:
        futures = [session.run(task) for task in (b"one", b"raise", b"sys.exit", b"number", b"two")]
        assert futures[0].result(60) == b"one"
        assert futures[4].result(60) == b"two"
        raised, left, number = (future.exception(60) for future in futures[1:4])
        assert isinstance(raised, flame.TaskFailed)
        assert raised.type == "ValueError"
        assert raised.message == "no such thing as a \N{SNOWMAN}"
        assert "services.py" in raised.traceback
        assert "on_task_invoke" in raised.traceback
        assert isinstance(left, flame.TaskFailed)
        assert left.type == "SystemExit"
        assert isinstance(number, flame.TaskFailed)
        assert "returned int" in number.message


def test_map_raises_in_the_place_of_the_failed_task(cluster: Cluster) -> None:
    with cluster.session("Mortal") as session:
        outputs = session.map([b"1", b"2", b"raise", *[b"3"] * 1000])
        assert [next(outputs), next(outputs)] == [b"1", b"2"]
        with pytest.raises(flame.TaskFailed, match="no such thing"):
            next(outputs)
        assert session.invoke(b"and on", timeout=60) == b"and on"


def test_deaths_are_counted_across_a_restart_of_the_session_manager(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(1)
    directory = cluster.directory
    with cluster.session("Doomed", common_data=str(directory).encode()) as session:
        future = session.run(b"")
        for invocation in (1, 2, 3):
            wait_until_true(lambda count=invocation: len(notes(directory, "begin")) == count)  # type: ignore[misc]
            if invocation > 1:
                cluster.kill("session-manager")
                cluster.start_session_manager()
            (directory / f"go.{invocation}").touch()
        failure = future.exception(60)
        assert isinstance(failure, flame.TaskFailed)
        assert "exit code 3" in failure.message
        assert len(notes(directory, "begin")) == 3


def test_a_session_goes_on_after_a_deadly_task(cluster: Cluster) -> None:
    with cluster.connect() as connection:
        register(connection, "Mortal")
        with connection.create_session("mortal", max_instances=1) as session:
            deadly = session.run(b"exit")
            assert [session.invoke(b"%d" % n, timeout=60) for n in range(3)] == [b"0", b"1", b"2"]
            assert isinstance(deadly.exception(60), flame.TaskFailed)
            view = connection.get_session(session.id)
            assert (view.succeed, view.failed, view.unfinished) == (3, 1, 0)


def test_a_task_that_breaks_its_executor_and_returns_is_charged_too(cluster: Cluster) -> None:
    with cluster.session("Breaker", max_instances=1) as session:
        futures = [session.run(word) for word in (b"one", b"close all", b"two")]
        assert isinstance(futures[1].exception(60), flame.TaskFailed)
        assert futures[2].result(60) == b"two"
        assert futures[0].result(60) == b"one"


def test_a_task_that_writes_to_all_that_its_executor_has_open_fails_alone(cluster: Cluster) -> None:
    with cluster.session("Breaker", max_instances=1) as session:
        neighbours = [session.run(b"takes a while") for _ in range(20)]
        culprit = session.run(b"write all")
        neighbours += [session.run(b"takes a while") for _ in range(20)]
        assert [future.result(100) for future in neighbours] == [b"takes a while"] * 40
        assert isinstance(culprit.exception(100), flame.TaskFailed)


@pytest.mark.parametrize("word", [b"\0garbage", bytes(8), b"\xff" * 8], ids=["garbage", "zeros", "ones"])
def test_a_task_that_writes_over_the_memory_its_executor_shares_harms_no_other(cluster: Cluster, word: bytes) -> None:
    with cluster.session("Breaker", max_instances=1) as session:
        culprit = session.run(b"write memory: " + word)
        wait_until_true(culprit.done)
        neighbours = [session.run(b"takes a while") for _ in range(20)]
        assert [future.result(100) for future in neighbours] == [b"takes a while"] * 20


@pytest.mark.parametrize("word", [b"child raises", b"child exits", b"child returns"])
def test_a_child_forked_by_a_task_does_not_answer_for_it(cluster: Cluster, word: bytes) -> None:
    with cluster.session("Breaker", max_instances=1) as session:
        assert session.invoke(word, timeout=60) == b"parent"
        assert session.invoke(b"and on", timeout=60) == b"and on"


def test_an_exception_whose_message_is_no_unicode_is_told(cluster: Cluster) -> None:
    with cluster.session("Breaker") as session:
        failure = session.run(b"surrogate").exception(60)
        assert isinstance(failure, flame.TaskFailed)
        assert failure.type == "ValueError"
        assert failure.message == "bad file caf\\udce9"
