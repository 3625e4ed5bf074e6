"""Every message survives the frames' encoding, and nothing malformed gets through it."""

import contextlib
import random
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flame.model.client_messages import AttachSession, Segment, SubmitChunk
from flame.model.errors import InvalidArgument, Rejection
from flame.model.executor_messages import AcknowledgeReport, AssignTasks, EnterSession, Outcome, ReportOutcomes
from flame.model.messages import Call, Hello, PeerMessage, Reply, Role
from flame.model.node_messages import PingNode
from flame.model.specs import SessionSpec
from flame.model.states import TaskState
from flame.wire import packing
from tests.wire.samples import MANAGER_KINDS, PEER_KINDS, structs

FUZZ = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
CHUNK = SubmitChunk(attachment=1, first=1, count=2, lengths=b"\1\0\0\0\2\0\0\0", blob=b"abb")
OUTCOME = Outcome(attempt=1, first=1, count=2, state=TaskState.SUCCEED)


@pytest.mark.parametrize("kind", [*PEER_KINDS, *MANAGER_KINDS])
def test_messages_come_back_equal(kind: type[msgspec.Struct]) -> None:
    decode: Any = packing.decode_peer if kind in PEER_KINDS else packing.decode_manager

    @given(structs(kind))
    @FUZZ
    def check(message: Any) -> None:
        assert decode(packing.encode(message)) == message

    check()


def test_a_message_is_a_map_that_any_reader_of_messagepack_understands() -> None:
    plain = msgspec.msgpack.decode(packing.encode(CHUNK))
    assert plain == {
        "type": "SubmitChunk",
        "attachment": 1,
        "first": 1,
        "count": 2,
        "lengths": b"\1\0\0\0\2\0\0\0",
        "attributes": b"",
        "blob": b"abb",
    }


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"type": "Sing"}, "newer version"),
        ({"type": None}, "no message"),
        ({"first": -1}, "first"),
        ({"first": 1 << 63}, "first"),
        ({"first": 1.5}, "first"),
        ({"first": "1"}, "first"),
        ({"blob": "text"}, "blob"),
        ({"blob": None}, "blob"),
    ],
)
def test_what_is_wrong_is_said(changed: dict[str, Any], complaint: str) -> None:
    data = msgspec.msgpack.encode({**msgspec.msgpack.decode(packing.encode(CHUNK)), **changed})
    with pytest.raises(InvalidArgument, match=complaint) as error:
        packing.decode_peer(data)
    assert "bytes that are no message" in str(error.value)


@pytest.mark.parametrize("missing", ["type", "first", "lengths", "blob"])
def test_a_missing_field_is_named(missing: str) -> None:
    fields = msgspec.msgpack.decode(packing.encode(CHUNK))
    del fields[missing]
    with pytest.raises(InvalidArgument, match=missing):
        packing.decode_peer(msgspec.msgpack.encode(fields))


def test_unknown_fields_are_skipped() -> None:
    fields = {**msgspec.msgpack.decode(packing.encode(CHUNK)), "color": ["red"]}
    assert packing.decode_peer(msgspec.msgpack.encode(fields)) == CHUNK


@pytest.mark.parametrize("spec", [{"min_instances": -1}, {"max_instances": 1 << 32}, {"resources": {"cpu": -1}}])
def test_a_spec_is_held_to_its_bounds(spec: dict[str, Any]) -> None:
    message = AttachSession(attachment=1, session_id="s", key="k", create=SessionSpec(application="a"))
    fields = msgspec.msgpack.decode(packing.encode(message))
    fields["create"].update(spec)
    with pytest.raises(InvalidArgument, match=next(iter(spec))):
        packing.decode_peer(msgspec.msgpack.encode(fields))


def test_the_other_side_s_messages_are_not_taken() -> None:
    with pytest.raises(InvalidArgument, match="PingNode"):
        packing.decode_manager(packing.encode(PingNode(1)))
    with pytest.raises(InvalidArgument, match="AcknowledgeReport"):
        packing.decode_peer(packing.encode(AcknowledgeReport(1)))


def test_text_that_is_no_unicode_cannot_be_sent() -> None:
    with pytest.raises(InvalidArgument, match="Hello cannot be sent"):
        packing.encode(Hello(role=Role.CLIENT, software="\ud800"))


def test_a_number_that_does_not_fit_cannot_be_sent() -> None:
    with pytest.raises(InvalidArgument, match="PingNode cannot be sent"):
        packing.encode(PingNode(1 << 64))


def test_endless_nesting_is_refused() -> None:
    with pytest.raises(InvalidArgument):
        packing.decode_peer(b"\x82\xa4type\xabSubmitChunk\xa1x" + b"\x91" * 100_000)


@given(st.binary(max_size=100), st.integers(0, 1 << 30))
@settings(deadline=None)
def test_random_bytes_are_a_message_or_a_flame_error(data: bytes, seed: int) -> None:
    spoiled = bytearray(packing.encode(CHUNK))
    spoiled[random.Random(seed).randrange(len(spoiled))] = seed % 256
    for candidate in (data, bytes(spoiled)):
        for decode in (packing.decode_peer, packing.decode_manager):
            with contextlib.suppress(InvalidArgument):
                decode(candidate)


@pytest.mark.parametrize("wrap", [bytes, bytearray, memoryview])
def test_any_buffer_can_be_decoded(wrap: Any) -> None:
    message = packing.decode_peer(wrap(packing.encode(CHUNK)))
    assert message == CHUNK
    assert isinstance(message.blob, bytes)


LARGE = bytes(range(256)) * 1024


@pytest.mark.parametrize(
    "message",
    [
        msgspec.structs.replace(CHUNK, blob=LARGE, attributes=b"a"),
        AssignTasks(attempt=1 << 32, first=1, count=1, lengths=bytes(4), blob=LARGE),
        Segment(attachment=1, sequence=2, first=3, count=1, state=TaskState.FAILED, lengths=bytes(4), blob=LARGE),
        Call(id=1, method="/m", payload=LARGE),
        Reply(id=1, payload=LARGE, error=Rejection("ABORTED", "x")),
        EnterSession(session=1, session_id="s", application="a", common_data=LARGE),
        ReportOutcomes(
            report=4,
            outcomes=(
                msgspec.structs.replace(OUTCOME, lengths=bytes(8), blob=LARGE),
                msgspec.structs.replace(OUTCOME, first=9, states=b"\2\4"),
                msgspec.structs.replace(OUTCOME, first=20, lengths=bytes(8), blob=LARGE, busy_ns=5),
            ),
        ),
    ],
    ids=lambda message: type(message).__name__,
)
def test_a_large_payload_is_sent_without_a_copy(message: Any) -> None:
    parts = packing.encode_parts(message)
    payloads = [outcome.blob for outcome in getattr(message, "outcomes", ())] or [
        getattr(message, name, None) for name in ("blob", "payload", "common_data")
    ]
    for payload in filter(None, payloads):
        assert any(part is payload for part in parts)
    decode: Any = packing.decode_peer if isinstance(message, get_args(PeerMessage)) else packing.decode_manager
    assert decode(b"".join(parts)) == message
    assert packing.encode(message) == b"".join(parts)
