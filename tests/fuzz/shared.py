"""Target: the memory that user code shares with its node, whatever user code has scribbled over it."""

import struct
from collections.abc import Iterator

from flame.model.node_messages import ExecutorExited, ExecutorReport, JoinNode
from flame.model.ranges import HeldRange
from flame.model.resources import Resources
from flame.protocol.shared_table import TABLE_BYTES, Phase, SharedTable
from flame.wire import packing

_ENTRY = struct.Struct("<HQ")
_WORDS = TABLE_BYTES // 8


def table(data: bytes) -> None:
    """Read `data` as words to be written to a table: what a node then tells of it is accepted by a session manager."""
    memory = bytearray(TABLE_BYTES)
    for at in range(0, len(data) - _ENTRY.size + 1, _ENTRY.size):
        word, value = _ENTRY.unpack_from(data, at)
        struct.pack_into("=Q", memory, 8 * (word % _WORDS), value)
    shared = SharedTable(memoryview(memory))
    held = shared.held()
    report = ExecutorReport(executor="e", binding=1, session=1, held=held, entered=shared.entered)
    ended = ExecutorExited(executor="e", binding=1, session=1, current=shared.charged, failure=shared.failure())
    told = JoinNode(node="n", instance="i", capacity=Resources(), executors=(report,), exits=(ended,))
    assert packing.decode_peer(packing.encode(told)) == told
    assert shared.phase in Phase
    assert shared.current in (0, shared.charged)


def table_seeds() -> Iterator[bytes]:
    """Tables as executors leave them."""
    for phase, current, ranges, failure in (
        (Phase.STARTING, 0, (), b""),
        (Phase.BOUND, 7, (HeldRange(1, 7, 3),), b""),
        (Phase.BOUND, 0, (HeldRange(1, 7, 3), HeldRange(2, 20, 1)), b""),
        (Phase.BOUND, 0, (HeldRange(1, 1, 1),) * 65, b""),
        (Phase.ENTERING, 0, (), b'{"message": "no"}'),
    ):
        memory = bytearray(TABLE_BYTES)
        shared = SharedTable(memoryview(memory))
        shared.enter_phase(phase, 5)
        shared.words[4] = current
        shared.hold(ranges)
        shared.fail(failure)
        yield b"".join(_ENTRY.pack(at, word) for at, word in enumerate(shared.words) if word)
