"""Virtual time, processes that stand still, and links: order is kept, and what is lost is a tail."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from flame.model.messages import Message
from flame.model.node_messages import PingNode, PongNode
from flame.sim.virtual import NS_PER_MS, Process, SimLink, VirtualTime


class Recorder:
    """An end that remembers what it got."""

    def __init__(self) -> None:
        self.paused_until_ns = 0
        self.got: list[Message] = []
        self.ended = 0

    def received(self, link: SimLink, message: Message) -> None:
        assert not self.ended, "nothing arrives after the end"
        self.got.append(message)

    def closed(self, link: SimLink) -> None:
        self.ended += 1


def linked(seed: int) -> tuple[VirtualTime, SimLink, Recorder, Recorder]:
    time, peer, server = VirtualTime(), Recorder(), Recorder()
    link = SimLink(time, Random(seed), number=1, peer=peer, server=server, longest_ns=NS_PER_MS)
    return time, link, peer, server


def test_things_happen_in_order_of_time_then_of_asking() -> None:
    time, seen = VirtualTime(), []
    for name, delay_ns in (("b", 5), ("c", 5), ("a", 1), ("d", 2 * NS_PER_MS)):
        time.after(delay_ns, lambda name=name: seen.append((name, time.now_ns)))  # type: ignore[misc]
    while time.step():
        pass
    assert seen == [("a", 1), ("b", 5), ("c", 5), ("d", 2 * NS_PER_MS)]
    assert time.now_ms == 2


@given(st.integers(0, 1000), st.integers(0, 30), st.sampled_from(("peer", "server", "network")))
def test_messages_arrive_in_order_and_only_a_tail_is_lost(seed: int, before: int, who: str) -> None:
    time, link, peer, server = linked(seed)
    for number in range(20):
        link.send_up(PingNode(number))
        link.send_down(PongNode(number))
        if number == before:
            {"peer": link.end_by_peer, "server": link.end_by_server, "network": link.cut}[who]()
        time.step()
    while time.step():
        pass
    assert server.got == [PingNode(number) for number in range(len(server.got))]
    assert peer.got == [PongNode(number) for number in range(len(peer.got))]
    if before < 20:
        assert server.ended == (who != "server")
        assert peer.ended == (who != "peer")
        if who == "peer":
            assert len(server.got) == before + 1, "what was sent before the end arrives"
    else:
        assert len(server.got) == len(peer.got) == 20


def test_a_connection_may_break_in_the_middle_of_a_message() -> None:
    broken = 0
    for seed in range(40):
        time, link, _, server = linked(seed)
        for number in range(3):
            link.send_up(PingNode(number))
        link.cut()
        while time.step():
            pass
        assert server.got == [PingNode(number) for number in range(len(server.got))]
        assert server.ended == 1
        broken += link.counts["cut in a message"]
    assert 0 < broken < 80


def test_what_is_stalled_arrives_later() -> None:
    time, link, peer, server = linked(1)
    link.stall(50 * NS_PER_MS, down=False)
    link.send_up(PingNode(1))
    link.send_down(PongNode(2))
    while time.now_ms < 40 and time.step():
        pass
    assert peer.got == [PongNode(2)]
    if not server.got:
        time.step()
    assert server.got == [PingNode(1)]
    assert time.now_ms >= 50


def test_nothing_reaches_a_process_that_stands_still() -> None:
    time, link, _, server = linked(1)
    server.paused_until_ns = 30 * NS_PER_MS
    link.send_up(PingNode(1))
    while not server.got:
        assert time.step()
    assert time.now_ms == 30


def test_timers_wait_until_their_process_goes_on() -> None:
    time = VirtualTime()
    process, seen = Process(time), []
    process._awake(10, lambda: seen.append(time.now_ns))
    process.pause(1_000)
    while time.step():
        pass
    assert seen == [1_000]


def test_who_stalls_a_link_hears_how_many_messages_had_to_wait_in_each_direction() -> None:
    time, link, peer, _ = linked(1)
    waited: list[int] = []
    link.stall(50 * NS_PER_MS, waited=waited.append)
    for number in range(3):
        link.send_down(PongNode(number))
    while time.step():
        pass
    assert waited == [3]
    link.send_up(PingNode(1))
    link.send_down(PongNode(3))
    while time.step():
        pass
    assert waited == [3, 0], "the first message came after the stall"
    assert len(peer.got) == 4
