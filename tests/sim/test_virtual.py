"""Virtual time and links: order is kept, and what is lost is a tail."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from flame.model.messages import Message, PingNode, PongNode
from flame.sim.virtual import NS_PER_MS, SimLink, VirtualTime


class Recorder:
    """An end that remembers what it got."""

    def __init__(self) -> None:
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
