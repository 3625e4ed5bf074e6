"""The durable store does what the store in memory does, whatever is done to both."""

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from flame.model.errors import Aborted, NotFound
from flame.model.limits import BLOCK_TASKS, KIB
from flame.model.records import (
    ApplicationRecord,
    BindingRecord,
    BlockRecord,
    DeathsRecord,
    DeleteApplication,
    DeleteBinding,
    DeleteSession,
    PutApplication,
    PutBinding,
    PutBlock,
    PutDeaths,
    Write,
)
from flame.model.specs import ApplicationSpec
from flame.stores.memory import MemoryStore
from flame.stores.port import Store
from flame.stores.sqlite import SqliteStore
from tests.stores.conformance import put_cancelled, put_chunk, put_segment, put_session

NAMES = st.sampled_from(["a", "b", "c"])
TIMES = st.integers(0, 1 << 41)
SPARSE = st.one_of(
    st.builds(
        lambda name, text, ms: PutApplication(
            ApplicationRecord(name=name, spec=ApplicationSpec(description=text), created_ms=ms)
        ),
        NAMES,
        st.text(max_size=5),
        TIMES,
    ),
    NAMES.map(DeleteApplication),
    st.builds(
        lambda name, number, ms: PutBinding(
            BindingRecord(executor=name, node="n", session=1, binding=number, created_ms=ms)
        ),
        NAMES,
        st.integers(0, 1 << 62),
        TIMES,
    ),
    NAMES.map(DeleteBinding),
)


class Twins(RuleBasedStateMachine):
    """Both stores get the same commits, made of what the session manager would write, and answer the same."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="fl-"))
        self.memory = MemoryStore()
        self.sqlite = SqliteStore(self.directory, reserve_bytes=0, checkpoint_bytes=64 * KIB)
        self.epoch = 0
        self.sessions: dict[int, int] = {}
        """Live session numbers and the sequence of the last segment."""
        self.last_session = 0
        self.next_id: dict[tuple[int, int], int] = {}
        """Per session and block the next task that is not stored."""
        self.next_outcome: dict[tuple[int, int], int] = {}
        self.batch: list[Write] = []

    @initialize()
    def start(self) -> None:
        self.reopen()

    def teardown(self) -> None:
        self.sqlite.close()
        shutil.rmtree(self.directory)

    def both(self) -> tuple[Store, Store]:
        return self.memory, self.sqlite

    # --- what goes into the next commit ------------------------------------------------------------------------------

    @rule()
    def create_session(self) -> None:
        self.last_session += 1
        self.sessions[self.last_session] = 0
        self.batch.append(put_session(self.last_session))

    @rule(write=SPARSE)
    def write_something_small(self, write: Write) -> None:
        self.batch.append(write)

    @precondition(lambda self: self.sessions)
    @rule(data=st.data(), block=st.integers(0, 2), count=st.integers(1, 300), ms=TIMES)
    def submit(self, data: st.DataObject, block: int, count: int, ms: int) -> None:
        session = data.draw(st.sampled_from(sorted(self.sessions)))
        begin = 1 + block * BLOCK_TASKS
        first = self.next_id.setdefault((session, block), begin)
        if first == begin:
            self.batch.append(PutBlock(BlockRecord(session=session, first=begin, key=f"{session}-{block}")))
        self.batch.append(put_chunk(session, first, count, created_ms=ms, attributes=b"x" * (count % 3)))
        self.next_id[session, block] = first + count

    @precondition(lambda self: self.sessions)
    @rule(data=st.data(), block=st.integers(0, 2), gap=st.integers(0, 20), count=st.integers(1, 300), ms=TIMES)
    def finish(self, data: st.DataObject, block: int, gap: int, count: int, ms: int) -> None:
        session = data.draw(st.sampled_from(sorted(self.sessions)))
        first = self.next_outcome.get((session, block), 1 + block * BLOCK_TASKS) + gap
        self.sessions[session] += 1
        sequence = self.sessions[session]
        put = put_cancelled(session, sequence, first, count) if gap % 2 else None
        self.batch.append(put or put_segment(session, sequence, first, count, finished_ms=ms))
        self.batch.append(PutDeaths(DeathsRecord(session=session, task=first, count=gap)))
        self.next_outcome[session, block] = first + count

    @precondition(lambda self: self.sessions)
    @rule(data=st.data())
    def delete_session(self, data: st.DataObject) -> None:
        session = data.draw(st.sampled_from(sorted(self.sessions)))
        del self.sessions[session]
        self.batch.append(DeleteSession(session))

    # --- what is done with the stores --------------------------------------------------------------------------------

    @rule()
    def commit(self) -> None:
        for store in self.both():
            store.commit(self.epoch, self.batch)
        self.batch = []

    @rule()
    def commit_with_an_old_epoch(self) -> None:
        for store in self.both():
            with pytest.raises(Aborted):
                store.commit(self.epoch - 1, self.batch)

    @rule()
    def reopen(self) -> None:
        for store in self.both():
            store.close()
        epochs = [store.open() for store in self.both()]
        assert epochs == [self.epoch + 1] * 2
        self.epoch += 1

    @rule(limit_bytes=st.integers(1, 20_000))
    def purge(self, limit_bytes: int) -> None:
        for store in self.both():
            store.purge(limit_bytes)
            store.maintain()

    # --- what both have to agree on ----------------------------------------------------------------------------------

    @rule(session=st.integers(1, 5), after=st.integers(0, 5), limit_bytes=st.integers(0, 5000), block=st.integers(0, 3))
    def read_segments(self, session: int, after: int, limit_bytes: int, block: int) -> None:
        ids = None if block == 3 else range(1 + block * BLOCK_TASKS, 1 + (block + 1) * BLOCK_TASKS)
        found = [list(store.read_segments(session, after, limit_bytes, ids)) for store in self.both()]
        assert found[0] == found[1]

    @rule(session=st.integers(1, 5), block=st.integers(0, 2), task=st.integers(0, 600), count=st.integers(1, 600))
    def read_task(self, session: int, block: int, task: int, count: int) -> None:
        first = 1 + block * BLOCK_TASKS + task
        outcomes = [store.read_outcome(session, first) for store in self.both()]
        assert outcomes[0] == outcomes[1]
        inputs: list[tuple[bytes, bytes] | None] = []
        for store in self.both():
            try:
                inputs.append(store.read_inputs(session, first, count))
            except NotFound:
                inputs.append(None)
        assert inputs[0] == inputs[1]

    @invariant()
    def snapshots_are_equal(self) -> None:
        if self.epoch:
            assert self.memory.recover() == self.sqlite.recover()


TestTwins = Twins.TestCase
TestTwins.settings = settings(
    max_examples=30, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
