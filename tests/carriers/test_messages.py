"""Messages before malformed bytes are delivered, and the error comes with them."""

from flame.carriers.messages import collect_messages
from flame.model.errors import InvalidArgument
from flame.model.messages import Message
from flame.model.node_messages import PingNode
from flame.protocol.frames import MAGIC, FrameDecoder, frame_header
from flame.wire.packing import decode_peer, encode


def _arrive(data: bytes) -> tuple[list[Message], InvalidArgument | None]:
    return collect_messages(map(decode_peer, FrameDecoder().feed(data)))


def _frame(payload: bytes) -> bytes:
    return frame_header(len(payload)) + payload


def test_whole_messages() -> None:
    data = MAGIC + _frame(encode(PingNode(1))) + _frame(encode(PingNode(2))) + b"\1"
    assert _arrive(data) == ([PingNode(1), PingNode(2)], None)


def test_what_precedes_an_error_is_not_lost() -> None:
    for bad in (b"\xff\xff\xff\xff", _frame(b"\xff"), _frame(encode(PingNode(-1)))):
        messages, error = _arrive(MAGIC + _frame(encode(PingNode(1))) + bad)
        assert messages == [PingNode(1)]
        assert error is not None
