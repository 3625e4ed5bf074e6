"""The driver: time, commits inline and in a thread, and the end when a commit fails."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Sequence

import pytest

from flame.core.control.effects import SendToClient, SendToExecutor
from flame.core.control.events import RowsPurged, SessionCreateRequested, SpaceMeasured
from flame.core.control.state import Batch
from flame.model.client_messages import ChunkAcknowledged
from flame.model.errors import Rejection, ResourceExhausted
from flame.model.executor_messages import AcknowledgeReport
from flame.model.limits import MAX_UNARY_PER_TURN, MAX_WAITING_BYTES
from flame.model.messages import Message, Refused
from flame.model.node_messages import PongNode
from flame.model.records import Write
from flame.model.specs import SessionSpec
from flame.session_manager import driver as driver_module
from flame.session_manager.driver import Clock
from flame.stores.memory import MemoryStore
from tests.session_manager.served import Served, serve


def test_the_clock_never_runs_behind_what_is_stored() -> None:
    ahead_ms = time.time_ns() // 1_000_000 + 3_600_000
    clock = Clock(ahead_ms)
    first = clock.now_ms()
    assert first >= ahead_ms
    assert clock.now_ms() >= first
    assert Clock(0).now_ms() >= time.time_ns() // 1_000_000 - 1


def test_queries_wait_for_a_commit_under_way_without_stopping_the_loop() -> None:
    """A query that finds the commit done, and its callback not run yet, must let that run."""

    async def test(served: Served) -> None:
        served.driver.commit_s = 1.0
        for number in range(300):
            request, answer = served.driver.request()
            spec = SessionSpec(application="flmping")
            served.driver.offer(SessionCreateRequested(request=request, name=f"s{number}", spec=spec))
            queries = [asyncio.create_task(served.driver.settled()) for _ in range(5)]
            async with asyncio.timeout(30):
                await answer
                await asyncio.gather(*queries)

    serve(test)


def test_of_the_queries_that_waited_for_a_commit_few_are_answered_in_one_pass_of_the_loop() -> None:
    """All of them at once would hold up the streams whenever the disk is slow and somebody asks much."""
    many = 40 * MAX_UNARY_PER_TURN

    async def test(served: Served) -> None:
        served.driver.commit_s = driver_module.SLOW_COMMIT_S * 1.5
        request, answer = served.driver.request()
        spec = SessionSpec(application="flmping")
        served.driver.offer(SessionCreateRequested(request=request, name="slow", spec=spec))
        await asyncio.sleep(0)  # the commit has begun
        per_pass: list[int] = [0]

        async def query() -> None:
            await served.driver.settled()
            per_pass[-1] += 1

        queries = [asyncio.create_task(query()) for _ in range(many)]
        async with asyncio.timeout(30):
            while not all(task.done() for task in queries):
                per_pass.append(0)
                await asyncio.sleep(0)
            await answer
        assert sum(per_pass) == many
        assert max(per_pass) <= 2 * MAX_UNARY_PER_TURN  # one pass of the loop may touch two of the counter's

    serve(test, SlowStore())


def test_each_query_has_its_turn_while_the_disk_is_slow_and_written_to() -> None:
    """Of a crowd that asks again and again, nobody comes twice before another has come once."""
    crowd, rounds = 100, 5

    async def test(served: Served) -> None:
        served.driver.commit_s = driver_module.SLOW_COMMIT_S * 1.5
        answers = [0] * crowd
        enough = asyncio.Event()

        async def ask(place: int) -> None:
            while not enough.is_set():
                await served.driver.settled()
                answers[place] += 1
                if sum(answers) >= crowd * rounds:
                    enough.set()
                await asyncio.sleep(0)

        async def write(writer: int) -> None:
            number = 0
            while not enough.is_set():
                number += 1
                request, answer = served.driver.request()
                spec = SessionSpec(application="flmping")
                name = f"s{writer}-{number}"
                served.driver.offer(SessionCreateRequested(request=request, name=name, spec=spec))
                await answer

        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            for writer in range(2):
                group.create_task(write(writer))
            for place in range(crowd):
                group.create_task(ask(place))
        assert min(answers) >= rounds - 2, answers

    serve(test, SlowStore())


class SlowStore(MemoryStore):
    """A store on a slow disk."""

    def commit(self, epoch: int, writes: Sequence[Write]) -> None:
        time.sleep(driver_module.SLOW_COMMIT_S * 2)
        super().commit(epoch, writes)


def test_on_a_slow_disk_commits_move_to_a_thread_and_answers_still_wait_for_them() -> None:
    async def test(served: Served) -> None:
        for number in range(200):
            request, answer = served.driver.request()
            spec = SessionSpec(application="flmping")
            served.driver.offer(SessionCreateRequested(request=request, name=f"s{number}", spec=spec))
            await answer
            stored = [session.name for session in served.store.recover().sessions]
            assert stored[-1] == f"s{number}"
        assert (await served.driver.settled()) is served.state
        assert served.driver.commit_s > driver_module.SLOW_COMMIT_S

    serve(test, SlowStore())


FAILING = """
import asyncio
from flame.core.control.events import SessionCreateRequested
from flame.model.errors import Internal
from flame.model.specs import SessionSpec
from flame.stores.memory import MemoryStore
from tests.session_manager.served import serve

class Broken(MemoryStore):
    broken = False
    def commit(self, epoch, writes):
        if self.broken:
            raise Internal("fsync failed: Input/output error")
        super().commit(epoch, writes)

store = Broken()

async def test(served):
    store.broken = True
    request, answer = served.driver.request()
    served.driver.offer(SessionCreateRequested(request=request, name="s", spec=SessionSpec(application="flmping")))
    await answer
    print("answered")

serve(test, store)
"""


def test_a_failed_commit_ends_the_process_before_anything_is_answered() -> None:
    done = subprocess.run([sys.executable, "-c", FAILING], capture_output=True, text=True, timeout=60)
    assert done.returncode == 74
    assert done.stdout == ""
    assert "fsync failed: Input/output error" in done.stderr


LOST = """
import asyncio
from flame.model.errors import Internal
from flame.stores.memory import MemoryStore
from tests.session_manager.served import serve

class Lost(MemoryStore):
    lost = False
    def METHOD(self):
        if self.lost:
            raise Internal("flame.db was removed")
        return super().METHOD()

store = Lost()

async def test(served):
    store.lost = True
    await asyncio.sleep(60)

serve(test, store)
"""


@pytest.mark.parametrize("method", ["free_bytes", "maintain"])
def test_a_store_whose_files_are_gone_ends_the_process_with_one_plain_line(method: str) -> None:
    """Without being asked anything: it is looked at every second."""
    command = [sys.executable, "-c", LOST.replace("METHOD", method)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 74
    assert done.stderr == "error: the store cannot be used: flame.db was removed\n"


BROKEN_CORE = """
from flame.core.control import reducer
from flame.core.control.events import SessionCreateRequested
from flame.model.specs import SessionSpec
from tests.session_manager.served import serve

async def test(served):
    def fail(state, turn):
        raise ZeroDivisionError("a defect")
    reducer.placement.replan = fail
    request, answer = served.driver.request()
    spec = SessionSpec(application="flmping", min_instances=1)
    served.driver.offer(SessionCreateRequested(request=request, name="s", spec=spec))
    await answer
    print("answered")

serve(test)
"""


def test_a_defect_in_a_turn_ends_the_process_before_anything_is_answered() -> None:
    """Else the state would be ahead of the store, and a resend would be acknowledged without being stored."""
    done = subprocess.run([sys.executable, "-c", BROKEN_CORE], capture_output=True, text=True, timeout=60)
    assert done.returncode == 74
    assert done.stdout == ""
    assert "ZeroDivisionError: a defect" in done.stderr


def test_results_of_an_executor_that_has_more_to_do_are_gathered(monkeypatch: pytest.MonkeyPatch) -> None:
    """They wait a moment for others, but never longer, and whatever is urgent takes them along."""

    async def test(served: Served) -> None:
        turns: list[int] = []
        driver = served.driver
        real_turn = driver._pump.turn

        def turn(now_ms: int) -> Batch:
            turns.append(len(driver._pump))
            return real_turn(now_ms)

        while len(driver._pump):  # what the start of the driver asked for
            await asyncio.sleep(0)
        monkeypatch.setattr(driver._pump, "turn", turn)
        monkeypatch.setattr(driver._pump, "can_wait", lambda event: isinstance(event, RowsPurged))
        for _ in range(3):
            driver.offer(RowsPurged(more=False))
        await asyncio.sleep(0)
        assert not turns
        async with asyncio.timeout(10):
            while not turns:
                await asyncio.sleep(0.001)
        assert turns == [3]
        driver.offer(RowsPurged(more=False))
        driver.offer(SpaceMeasured(free_bytes=1 << 40))
        await asyncio.sleep(0)
        assert turns[:2] == [3, 2]

    serve(test)


def test_too_much_waiting_is_refused() -> None:
    async def test(served: Served) -> None:
        served.driver.check_room()
        served.driver._pump.waiting_bytes = MAX_WAITING_BYTES + 1
        with pytest.raises(ResourceExhausted, match="try again"):
            served.driver.check_room()

    serve(test)


def test_a_turn_handles_all_that_arrived_in_one_commit() -> None:
    class Counting(MemoryStore):
        commits = 0

        def commit(self, epoch: int, writes: Sequence[Write]) -> None:
            self.commits += 1
            super().commit(epoch, writes)

    store = Counting()

    async def test(served: Served) -> None:
        before = store.commits
        answers = []
        for number in range(100):
            request, answer = served.driver.request()
            spec = SessionSpec(application="flmping")
            served.driver.offer(SessionCreateRequested(request=request, name=f"s{number}", spec=spec))
            answers.append(answer)
        await asyncio.gather(*answers)
        assert store.commits == before + 1

    serve(test, store)


class RecordingLink:
    """A link that keeps what it is given."""

    peer = "test"

    def __init__(self) -> None:
        self.sent: list[Message] = []

    def send(self, message: Message) -> None:
        self.sent.append(message)

    def buffered_bytes(self) -> int:
        return 0

    def close(self) -> None:
        self.sent.append(Refused(Rejection("ABORTED", "closed")))

    def pause(self) -> None:
        raise AssertionError("the driver does not pause links")

    def resume(self) -> None:
        raise AssertionError("the driver does not resume links")

    def abort(self) -> None:
        self.close()


def test_a_lazy_message_goes_last_and_before_the_next_one_of_its_link() -> None:
    async def test(served: Served) -> None:
        driver, first, second = served.driver, RecordingLink(), RecordingLink()
        driver.links.update({901: first, 902: second})
        lazy = ChunkAcknowledged(attachment=1, next_id=2)
        later = SendToExecutor("1-1", 1, AcknowledgeReport(1), 902, lazy=True)
        driver._do([SendToClient(901, lazy, lazy=True), later, SendToClient(903, lazy, lazy=True)])
        assert not first.sent
        assert not second.sent
        driver._do([SendToClient(901, PongNode(1))])
        assert first.sent == [lazy, PongNode(1)]
        async with asyncio.timeout(10):
            while not second.sent:
                await asyncio.sleep(0.001)
        assert second.sent == [AcknowledgeReport(1)]
        assert first.sent == [lazy, PongNode(1)]

    serve(test)


@pytest.mark.parametrize("log", ["/dev/full", "closed"])
def test_a_process_that_has_to_end_does_so_where_it_cannot_say_why(log: str) -> None:
    code = "from flame.session_manager.driver import end_process\nend_process('x')"
    command = [sys.executable, "-c", code]
    if log == "closed":
        reader, writer = os.pipe()
        os.close(reader)
    else:
        writer = os.open(log, os.O_WRONLY)
    try:
        assert subprocess.run(command, stderr=writer, timeout=60, check=False).returncode == 74
    finally:
        os.close(writer)
