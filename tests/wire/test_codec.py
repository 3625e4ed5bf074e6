"""Every message survives the wire, and nothing malformed gets through it."""

import contextlib
import random
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flame.model.client_messages import AttachSession, SubmitChunk
from flame.model.errors import InvalidArgument
from flame.model.executor_messages import AcknowledgeReport, AssignTasks, EnterSession
from flame.model.messages import Hello, Role, Welcome
from flame.model.node_messages import ExecutorExited, ExecutorReport, JoinNode, PingNode, PongNode
from flame.model.ranges import HeldRange
from flame.model.resources import Resources
from flame.model.specs import SessionSpec
from flame.wire import codec
from flame.wire.gen import session_manager_pb2 as gen
from tests.wire.samples import MANAGER_KINDS, PEER_KINDS, structs

FUZZ = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
CHUNK = SubmitChunk(attachment=1, first=1, count=2, lengths=b"\1\0\0\0\2\0\0\0", blob=b"abb")


@pytest.mark.parametrize("kind", PEER_KINDS)
def test_peer_messages_come_back_equal(kind: type[msgspec.Struct]) -> None:
    @given(structs(kind))
    @FUZZ
    def check(message: Any) -> None:
        assert codec.decode_peer(codec.encode(message)) == message
        assert list(codec.decode_peer_batch(codec.join_envelopes([codec.encode(message)] * 2))) == [message] * 2

    check()


@pytest.mark.parametrize("kind", MANAGER_KINDS)
def test_manager_messages_come_back_equal(kind: type[msgspec.Struct]) -> None:
    @given(structs(kind))
    @FUZZ
    def check(message: Any) -> None:
        assert codec.decode_manager(codec.encode(message)) == message
        assert list(codec.decode_manager_batch(codec.join_envelopes([codec.encode(message)] * 2))) == [message] * 2

    check()


@pytest.mark.parametrize("kind", [*PEER_KINDS, *MANAGER_KINDS])
def test_messages_are_declared_with_the_fields_of_their_structs(kind: type[msgspec.Struct]) -> None:
    declared = getattr(gen, f"{kind.__name__}Message").DESCRIPTOR.fields_by_name
    assert sorted(declared) == sorted(kind.__struct_fields__)


@pytest.mark.parametrize(
    ("present", "absent"),
    [
        (EnterSession(session=1, session_id="s", application="a", common_data=b""), {"common_data": None}),
        (ExecutorExited(executor="e", binding=1, session=1, exit_code=0), {"exit_code": None}),
        (AttachSession(attachment=1, session_id="", key="k", create=SessionSpec(application="")), {"create": None}),
    ],
)
def test_absent_is_not_empty(present: Any, absent: dict[str, Any]) -> None:
    decode: Any = codec.decode_manager if isinstance(present, EnterSession) else codec.decode_peer
    for message in (present, msgspec.structs.replace(present, **absent)):
        assert decode(codec.encode(message)) == message


def test_an_unreadable_table_is_not_an_empty_one() -> None:
    reports = tuple(
        ExecutorReport(executor="e", binding=1, session=1, held=held) for held in (None, (), (HeldRange(1, 2, 3),))
    )
    message = JoinNode(node="n", instance="i", capacity=Resources(), executors=reports)
    assert codec.decode_peer(codec.encode(message)) == message


def test_a_number_that_does_not_fit_cannot_be_sent() -> None:
    with pytest.raises(InvalidArgument, match="PingNode cannot be sent"):
        codec.encode(PingNode(1 << 63))


def test_text_that_is_no_unicode_cannot_be_sent() -> None:
    with pytest.raises(InvalidArgument, match="Hello cannot be sent"):
        codec.encode(Hello(role=Role.CLIENT, software="\ud800"))


def test_an_unknown_message_is_from_a_newer_version() -> None:
    with pytest.raises(InvalidArgument, match="newer version"):
        codec.decode_peer(b"\xfa\x3e\x00")  # field 1007 of the envelope
    with pytest.raises(InvalidArgument, match="newer version"):
        codec.decode_manager(b"")


def test_an_unknown_enum_value_is_refused() -> None:
    data = gen.PeerEnvelope(hello=gen.HelloMessage(role=9)).SerializeToString()  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match="Hello: role: 9"):
        codec.decode_peer(data)


def test_unknown_fields_are_skipped() -> None:
    data = codec.encode(AcknowledgeReport(7))
    inner = data[2:] + b"\xfa\x3e\x01x"
    assert codec.decode_manager(data[:1] + bytes([len(inner)]) + inner) == AcknowledgeReport(7)


@given(st.binary(max_size=100), st.integers(0, 1 << 30))
@settings(deadline=None)
def test_random_bytes_are_a_message_or_a_flame_error(data: bytes, seed: int) -> None:
    spoiled = bytearray(codec.encode(CHUNK))
    spoiled[random.Random(seed).randrange(len(spoiled))] = seed % 256
    for candidate in (data, bytes(spoiled)):
        for decode in (
            codec.decode_peer,
            codec.decode_manager,
            lambda data: list(codec.decode_peer_batch(data)),
            lambda data: list(codec.decode_manager_batch(data)),
            codec.decode_hello,
            codec.decode_welcome,
        ):
            with contextlib.suppress(InvalidArgument):
                decode(candidate)


@pytest.mark.parametrize("wrap", [bytes, bytearray, memoryview])
def test_any_buffer_can_be_decoded(wrap: Any) -> None:
    assert codec.decode_peer(wrap(codec.encode(CHUNK))) == CHUNK
    assert isinstance(codec.decode_peer(wrap(codec.encode(CHUNK))).blob, bytes)  # type: ignore[union-attr]


def test_a_joined_batch_is_the_declared_one() -> None:
    messages = [PongNode(at) for at in range(5)] + [AcknowledgeReport(1)]
    large = AssignTasks(attempt=1, first=1, count=1, lengths=bytes(4), blob=bytes(70_000))
    envelopes = [codec.encode(message) for message in [*messages, large]]
    parsed = [gen.ManagerEnvelope.FromString(envelope) for envelope in envelopes]
    assert codec.join_envelopes(envelopes) == gen.ManagerBatch(envelopes=parsed).SerializeToString()


def test_handshake_messages_stand_alone() -> None:
    hello = Hello(role=Role.NODE, software="x/1", capabilities=("a", "b"), store_id="s", epoch=3)
    welcome = Welcome(store_id="s", epoch=4, frames_endpoint="unix:///x", max_task_bytes=9)
    assert codec.decode_hello(codec.encode_hello(hello)) == hello
    assert codec.decode_welcome(codec.encode_welcome(welcome)) == welcome
    with pytest.raises(InvalidArgument):
        codec.decode_hello(b"\xff")
