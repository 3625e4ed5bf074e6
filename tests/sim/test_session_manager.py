"""The simulated session manager can be killed at every point of a turn, and comes back with what is stored."""

from random import Random

import pytest

from flame.core.control.effects import SendToClient
from flame.core.control.events import ApplicationPutRequested
from flame.model.client_messages import AttachSession, ChunkAcknowledged, SessionAttached
from flame.model.limits import GIB, RECONNECT_GRACE_MS
from flame.model.messages import Hello, Message, Role, Welcome
from flame.model.node_messages import JoinNode
from flame.model.records import DeleteSession, PutSession
from flame.model.resources import Resources
from flame.model.specs import ApplicationSpec, SessionSpec
from flame.sim.kills import POINTS, RECOVERY_POINTS
from flame.sim.session_manager import SimSessionManager
from flame.sim.virtual import SimLink, VirtualTime
from flame.sim.world import World
from tests.core.harness import SETTINGS

CREATE = AttachSession(attachment=1, session_id="s", key="k", create=SessionSpec(application="sim"), submit=True)


class Client:
    """A client that remembers."""

    def __init__(self) -> None:
        self.paused_until_ns = 0
        self.got: list[Message] = []
        self.ended = False

    def received(self, link: SimLink, message: Message) -> None:
        self.got.append(message)

    def closed(self, link: SimLink) -> None:
        self.ended = True


def started() -> tuple[VirtualTime, SimSessionManager, Client, SimLink]:
    time, random = VirtualTime(), Random(1)
    session_manager = SimSessionManager(time, random, SETTINGS, ApplicationSpec(), lambda line: None)
    session_manager.start()
    client = Client()
    return time, session_manager, client, connect(time, session_manager, client)


def connect(time: VirtualTime, session_manager: SimSessionManager, client: Client) -> SimLink:
    link = SimLink(time, Random(2), number=1, peer=client, server=session_manager, longest_ns=100_000)
    session_manager.connected(link)
    link.send_up(Hello(role=Role.CLIENT))
    return link


def run(time: VirtualTime, ms: int) -> None:
    end_ns = time.now_ns + ms * 1_000_000
    while time.now_ns < end_ns and time.step():
        pass


@pytest.mark.parametrize("point", POINTS)
def test_killed_anywhere_in_a_turn_it_has_all_of_a_commit_or_nothing(point: str) -> None:
    time, session_manager, client, link = started()
    run(time, 5)
    session_manager.aim.at = point
    link.send_up(CREATE)
    for number in range(2, 9):
        link.send_up(AttachSession(attachment=number, session_id="s", key="r"))
    run(time, 50)
    assert not session_manager.alive
    assert client.ended
    session_manager.start()
    assert session_manager.state is not None
    stored = "s" in session_manager.state.sessions_by_name
    assert stored == (point != "before commit") or point == "in commit"
    assert session_manager.counts[f"killed {point}"] == 1


@pytest.mark.parametrize("point", RECOVERY_POINTS)
def test_it_may_die_again_while_it_recovers(point: str) -> None:
    time, session_manager, _, _ = started()
    session_manager.aim.then = point
    session_manager.kill()
    assert not session_manager.counts[f"killed {point}"]
    session_manager.start()
    assert session_manager.alive == (point in ("in its first commit", "in grace"))
    run(time, RECONNECT_GRACE_MS + 1)
    assert not session_manager.alive
    assert session_manager.counts[f"killed {point}"] == 1
    session_manager.start()
    assert session_manager.state is not None
    assert session_manager.state.epoch == 3


def test_it_is_killed_around_the_commit_of_a_kind_of_write() -> None:
    time, session_manager, _, link = started()
    run(time, 50)
    session_manager.aim.kinds = [DeleteSession, PutSession]
    run(time, 50)
    assert session_manager.alive
    link.send_up(CREATE)
    run(time, 100)
    assert not session_manager.alive
    assert session_manager.aim.kinds == [DeleteSession]
    assert session_manager.counts["killed with PutSession"] == 1
    session_manager.start()
    run(time, 100)
    assert session_manager.alive


def test_a_disk_that_fails_ends_it() -> None:
    time, session_manager, client, link = started()
    run(time, 5)
    session_manager.disk.fails_next = True
    link.send_up(CREATE)
    run(time, 50)
    assert not session_manager.alive
    assert client.ended
    assert session_manager.counts["ended by its disk"] == 1


def test_its_time_never_goes_back_behind_what_is_stored() -> None:
    time, session_manager, _, _ = started()
    run(time, 50)
    session_manager.wall_offset_ms = 1_000_000
    session_manager.kill()
    session_manager.start()
    session_manager.offer(ApplicationPutRequested(request=1, name="later", spec=ApplicationSpec()))
    run(time, 50)
    session_manager.wall_offset_ms = -1_000_000
    session_manager.kill()
    session_manager.start()
    assert session_manager.now_ms >= 1_000_000


def test_who_is_not_allowed_to_speak_is_sent_away() -> None:
    time, session_manager, client, link = started()
    link.send_up(JoinNode(node="n", instance="i", capacity=Resources(cpu=1, memory_bytes=GIB)))
    run(time, 5)
    assert [type(message).__name__ for message in client.got] == ["Welcome", "Refused"]
    assert client.ended
    assert link.number not in session_manager.links


def test_nobody_is_there_while_it_is_down() -> None:
    time, session_manager, client, _ = started()
    session_manager.kill()
    session_manager.kill()
    run(time, 5)
    assert client.ended
    late = Client()
    connect(time, session_manager, late)
    run(time, 5)
    assert late.ended
    assert not late.got


def test_a_client_is_served() -> None:
    time, session_manager, client, link = started()
    link.send_up(CREATE)
    run(time, 50)
    assert [type(message) for message in client.got] == [Welcome, SessionAttached]
    assert session_manager.counts["commits"] == 2
    assert World(1).session_manager.alive


def test_a_link_breaks_before_an_answer() -> None:
    time, session_manager, client, link = started()
    session_manager.break_before.append(SessionAttached)
    link.send_up(CREATE)
    run(time, 50)
    assert [type(message) for message in client.got] == [Welcome]
    assert client.ended
    assert session_manager.state is not None
    assert "s" in session_manager.state.sessions_by_name
    assert session_manager.counts["broke before SessionAttached"] == 1
    assert not session_manager.break_before


def test_a_disk_that_fails_while_it_is_opened_ends_it_again() -> None:
    _, session_manager, _, _ = started()
    session_manager.kill()
    session_manager.disk.fails_next = True
    session_manager.start()
    assert not session_manager.alive
    assert session_manager.counts["ended by its disk"] == 1
    session_manager.start()
    assert session_manager.alive


def test_what_is_lazy_goes_after_all_else_or_with_the_next_on_its_link() -> None:
    time, session_manager, client, link = started()
    run(time, 5)
    other = Client()
    second = SimLink(time, Random(3), number=2, peer=other, server=session_manager, longest_ns=2_000)
    session_manager.connected(second)
    second.send_up(Hello(role=Role.CLIENT, client="other"))
    run(time, 5)
    client.got.clear()
    other.got.clear()
    acknowledged = [ChunkAcknowledged(attachment=1, next_id=number) for number in (1, 2, 3)]
    session_manager._do(
        [
            SendToClient(link.number, acknowledged[0], lazy=True),
            SendToClient(second.number, acknowledged[0], lazy=True),
            SendToClient(link.number, acknowledged[1]),
        ]
    )
    assert second.number in session_manager._lazy
    assert link.number not in session_manager._lazy
    run(time, 5)
    assert client.got == acknowledged[:2]
    assert other.got == acknowledged[:1]
    session_manager._do([SendToClient(link.number, acknowledged[2], lazy=True)])
    session_manager.kill()
    session_manager.start()
    run(time, 5)
    assert acknowledged[2] not in client.got
