"""What every carrier must do: one check, one promise of `flame.carriers.port`. Each takes a way to open a pair."""

import threading
from collections.abc import Callable, Sequence
from typing import Any

from flame.model.limits import KIB, MAX_LINK_BUFFER_BYTES, MIB
from flame.model.messages import Call, Message, Reply
from flame.model.node_messages import PingNode, PongNode
from tests.carriers.ends import End, OpenPair


def _pings(count: int) -> list[Message]:
    return [PingNode(at) for at in range(count)]


def _pongs(count: int) -> list[Message]:
    return [PongNode(at) for at in range(count)]


def _calls(count: int, nbytes: int) -> list[Message]:
    return [Call(id=at, method="/m", payload=bytes([at % 251]) * nbytes) for at in range(count)]


def _replies(count: int, nbytes: int) -> list[Message]:
    return [Reply(id=at, payload=bytes([at % 251]) * nbytes) for at in range(count)]


def _same(got: Sequence[Message], expected: Sequence[Message]) -> None:
    assert len(got) == len(expected), f"{len(got)} messages instead of {len(expected)}"
    for at, (one, other) in enumerate(zip(got, expected, strict=True)):
        assert one == other, f"message {at} differs"


def check_many_small_messages_keep_their_order(open_pair: OpenPair) -> None:
    with open_pair() as pair:
        pair.peer.send(*_pings(5000))
        pair.manager.send(*_pongs(5000))
        _same(pair.manager.wait_messages(5000), _pings(5000))
        _same(pair.peer.wait_messages(5000), _pongs(5000))


def check_large_messages_arrive_whole(open_pair: OpenPair) -> None:
    sizes = (0, 1, 64 * KIB - 1, 1 * MIB, 16 * MIB)
    with open_pair() as pair:
        for size in sizes:
            pair.peer.send(*_calls(1, size))
            pair.manager.send(*_replies(1, size))
            pair.manager.wait_messages(sizes.index(size) + 1)
            pair.peer.wait_messages(sizes.index(size) + 1)
        _same(pair.manager.messages, [_calls(1, size)[0] for size in sizes])
        _same(pair.peer.messages, [_replies(1, size)[0] for size in sizes])


def check_small_messages_keep_their_place_among_large_ones(open_pair: OpenPair) -> None:
    calls = [call for large, small in zip(_calls(20, 300 * KIB), _calls(20, 3), strict=True) for call in (large, small)]
    with open_pair() as pair:
        pair.peer.send(*calls)
        _same(pair.manager.wait_messages(40), calls)


def check_both_directions_at_once(open_pair: OpenPair) -> None:
    with open_pair() as pair:
        sender = threading.Thread(target=pair.manager.send, args=_replies(100, 100 * KIB))
        sender.start()
        pair.peer.send(*_calls(100, 100 * KIB))
        sender.join()
        _same(pair.manager.wait_messages(100), _calls(100, 100 * KIB))
        _same(pair.peer.wait_messages(100), _replies(100, 100 * KIB))


def check_concurrent_senders_keep_their_own_order(open_pair: OpenPair) -> None:
    def send(number: int) -> None:
        for at in range(300):
            pair.peer.send(Call(id=number, method=str(at), payload=b"x" * (at * 37 % 5000)))

    with open_pair() as pair:
        senders = [threading.Thread(target=send, args=(number,)) for number in range(4)]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join()
        messages: list[Any] = list(pair.manager.wait_messages(1200))
        for number in range(4):
            assert [m.method for m in messages if m.id == number] == [str(at) for at in range(300)]


def check_close_of_the_peer_delivers_what_was_queued(open_pair: OpenPair) -> None:
    with open_pair() as pair:
        pair.peer.send_and_close(*_calls(200, 64 * KIB))
        assert pair.manager.wait_closed() == ""
        assert pair.peer.wait_closed() == ""
        _same(pair.manager.messages, _calls(200, 64 * KIB))


def check_close_of_the_manager_delivers_what_was_queued(open_pair: OpenPair) -> None:
    with open_pair() as pair:
        pair.manager.send_and_close(*_replies(200, 64 * KIB))
        assert pair.peer.wait_closed() == ""
        assert pair.manager.wait_closed() == ""
        _same(pair.peer.messages, _replies(200, 64 * KIB))


def check_close_delivers_though_the_other_side_is_sending(open_pair: OpenPair) -> None:
    with open_pair() as pair:
        pair.peer.send(*_calls(20, 64 * KIB))
        pair.manager.send_and_close(*_replies(100, 64 * KIB))
        pair.peer.send(*_calls(20, 64 * KIB))
        pair.peer.wait_closed()
        _same(pair.peer.messages, _replies(100, 64 * KIB))


def check_close_by_both_sides_ends_each_once(open_pair: OpenPair) -> None:
    with open_pair() as pair:
        pair.peer.send(*_pings(10))
        pair.manager.wait_messages(10)
        closer = threading.Thread(target=pair.manager.close)
        closer.start()
        pair.peer.close()
        pair.peer.close()
        closer.join()
        pair.manager.wait_closed()
        pair.peer.wait_closed()
        pair.stop()
    assert len(pair.manager.reasons) == 1
    assert len(pair.peer.reasons) == 1


def check_abort_ends_both_sides_once(open_pair: OpenPair) -> None:
    with open_pair() as pair:
        pair.manager.abort()
        pair.manager.wait_closed()
        pair.peer.wait_closed()
        pair.stop()
    assert len(pair.manager.reasons) == 1
    assert len(pair.peer.reasons) == 1


def check_nothing_is_sent_or_delivered_after_the_end(open_pair: OpenPair) -> None:
    with open_pair() as pair:
        pair.peer.send_and_close(*_pings(3))
        pair.peer.send(*_pings(3))
        pair.manager.wait_closed()
        pair.peer.wait_closed()
        pair.manager.send(*_pongs(3))
        pair.peer.send(*_pings(3))
        pair.peer.close()
    _same(pair.manager.messages, _pings(3))
    assert not pair.manager.late
    assert not pair.peer.messages
    assert not pair.peer.late
    assert len(pair.manager.reasons) == 1
    assert len(pair.peer.reasons) == 1


def check_stopping_the_listener_ends_its_links(open_pair: OpenPair) -> None:
    with open_pair() as pair:
        pair.stop()
        pair.peer.wait_closed()
        pair.manager.wait_closed()
        assert len(pair.manager.reasons) == 1


def check_a_slow_reader_gets_everything_within_the_bound(open_pair: OpenPair) -> None:
    with open_pair() as pair:
        pair.peer.gate.clear()
        pair.manager.send(*_replies(30, MIB))
        pair.manager.send(*_pongs(1))
        assert pair.manager.buffered_bytes() > 0
        assert not pair.peer.messages
        pair.peer.gate.set()
        _same(pair.peer.wait_messages(31), [*_replies(30, MIB), *_pongs(1)])


def check_a_peer_that_does_not_read_is_cut_off(open_pair: OpenPair) -> None:
    with open_pair() as pair:
        pair.peer.gate.clear()
        _flood(pair.manager, _replies(1, 4 * MIB)[0])
        assert "does not read" in pair.manager.wait_closed()
        pair.peer.gate.set()
        pair.peer.wait_closed()


def check_a_manager_that_does_not_read_is_cut_off(open_pair: OpenPair) -> None:
    with open_pair() as pair:
        pair.manager.gate.clear()
        _flood(pair.peer, _calls(1, 4 * MIB)[0])
        assert "does not read" in pair.peer.wait_closed()
        pair.manager.gate.set()
        pair.manager.wait_closed()


def _flood(end: End, message: Message) -> None:
    """Send more than the bound, and what sockets, gRPC and the reader may hold of it."""
    for _ in range(2 * MAX_LINK_BUFFER_BYTES // (4 * MIB)):
        end.send(message)
        assert end.buffered_bytes() <= MAX_LINK_BUFFER_BYTES + 5 * MIB


CHECKS: dict[str, Callable[[OpenPair], None]] = {
    name.removeprefix("check_"): check for name, check in list(globals().items()) if name.startswith("check_")
}
