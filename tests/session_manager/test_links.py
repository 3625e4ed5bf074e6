"""Links: who may say what, and what a peer hears when it says something else."""

import asyncio

import pytest

from flame.model.client_messages import AttachSession, CancelTasks, ChunkAcknowledged, SessionAttached, SubmitChunk
from flame.model.limits import KIB, MAX_CALLS_PER_CONNECTION, MAX_MESSAGES_AT_ONCE
from flame.model.messages import Call, Hello, Message, Refused, Reply, Role, Welcome
from flame.model.node_messages import PingNode
from flame.model.specs import SessionSpec
from flame.session_manager import links
from flame.session_manager.links import Reception
from flame.wire.published import frontend, types
from tests.session_manager.served import Served, serve


class RecordingLink:
    """The session manager's end of a link, whose other end is the test."""

    def __init__(self) -> None:
        self.peer = "test"
        self.sent: list[Message] = []
        self.closed = False
        self.paused = False

    def send(self, message: Message) -> None:
        self.sent.append(message)

    def buffered_bytes(self) -> int:
        return 0

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True

    async def next(self) -> Message:
        """The next message that was sent."""
        async with asyncio.timeout(10):
            while not self.sent:
                await asyncio.sleep(0)
        return self.sent.pop(0)


def reception(served: Served) -> Reception:
    def welcome(hello: Hello) -> Welcome:
        return Welcome(store_id="store", epoch=1, max_task_bytes=100)

    return Reception(served.driver, served.frontend, welcome)


def test_a_client_is_welcomed_and_served() -> None:
    async def test(served: Served) -> None:
        link = RecordingLink()
        peer = reception(served).connected(link)
        peer.received(Hello(role=Role.CLIENT))
        assert isinstance(await link.next(), Welcome)
        peer.received(
            AttachSession(attachment=1, session_id="s", key="k", create=SessionSpec(application="flmping"), submit=True)
        )
        attached = await link.next()
        assert isinstance(attached, SessionAttached)
        assert (attached.session_id, attached.first, attached.next_id) == ("s", 1, 1)
        request = frontend.GetSessionRequest(session_id="s").SerializeToString()
        peer.received(Call(id=9, method="/flame.v1.Frontend/GetSession", payload=request))
        reply = await link.next()
        assert isinstance(reply, Reply)
        assert reply.id == 9
        assert types.Session.FromString(reply.payload).metadata.id == "s"
        peer.received(Call(id=10, method="/flame.v1.Frontend/GetSession", payload=b""))
        refused = await link.next()
        assert isinstance(refused, Reply)
        assert refused.error is not None
        assert refused.error.code == "NOT_FOUND"
        peer.closed("")
        assert not served.driver.links

    serve(test)


def test_the_first_message_has_to_be_hello() -> None:
    async def test(served: Served) -> None:
        link = RecordingLink()
        peer = reception(served).connected(link)
        peer.received(PingNode(1))
        refused = await link.next()
        assert isinstance(refused, Refused)
        assert "expected Hello" in refused.error.message
        assert link.closed

    serve(test)


def test_a_peer_of_another_version_or_store_is_told_so() -> None:
    async def test(served: Served) -> None:
        for hello, code in (
            (Hello(role=Role.CLIENT, version=99), "FAILED_PRECONDITION"),
            (Hello(role=Role.CLIENT, store_id="another"), "ABORTED"),
        ):
            link = RecordingLink()
            reception(served).connected(link).received(hello)
            refused = await link.next()
            assert isinstance(refused, Refused)
            assert refused.error.code == code

    serve(test)


def test_a_client_may_not_speak_as_a_node_or_executor() -> None:
    async def test(served: Served) -> None:
        link = RecordingLink()
        peer = reception(served).connected(link)
        peer.received(Hello(role=Role.CLIENT))
        await link.next()
        peer.received(PingNode(1))
        refused = await link.next()
        assert isinstance(refused, Refused)
        assert "a client may not send PingNode" in refused.error.message
        peer.received(SubmitChunk(attachment=1, first=1, count=1, lengths=b"\0" * 4, blob=b""))
        await asyncio.sleep(0)
        assert not link.sent

    serve(test)


def test_an_answer_that_no_message_holds_is_an_error_of_the_call_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "MAX_MESSAGE_BYTES", 2 * KIB)

    async def test(served: Served) -> None:
        link = RecordingLink()
        peer = reception(served).connected(link)
        peer.received(Hello(role=Role.CLIENT))
        await link.next()
        spec = SessionSpec(application="flmping", common_data=bytes(2_000))
        peer.received(AttachSession(attachment=1, session_id="s", key="k", create=spec, submit=True))
        await link.next()
        request = frontend.GetSessionRequest(session_id="s").SerializeToString()
        peer.received(Call(id=1, method="/flame.v1.Frontend/GetSession", payload=request))
        reply = await link.next()
        assert isinstance(reply, Reply)
        assert reply.error is not None
        assert "more than a message holds" in reply.error.message
        peer.received(Call(id=2, method="/flame.v1.Frontend/ListSession", payload=b""))
        reply = await link.next()
        assert isinstance(reply, Reply)
        assert types.SessionList.FromString(reply.payload).sessions[0].metadata.id == "s"

    serve(test)


def test_who_says_nothing_is_sent_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "HELLO_TIMEOUT_S", 0.01)

    async def test(served: Served) -> None:
        link = RecordingLink()
        reception(served).connected(link)
        async with asyncio.timeout(10):
            while not link.closed:
                await asyncio.sleep(0.01)
        refused = await link.next()
        assert isinstance(refused, Refused)
        assert "no Hello" in refused.error.message

    serve(test)


def test_who_says_much_at_once_is_held_back_and_everything_is_handled_in_order() -> None:
    async def test(served: Served) -> None:
        link = RecordingLink()
        peer = reception(served).connected(link)
        peer.received(Hello(role=Role.CLIENT))
        await link.next()
        create = SessionSpec(application="flmping")
        peer.received(AttachSession(attachment=1, session_id="s", key="k", create=create, submit=True))
        await link.next()
        count = 3 * MAX_MESSAGES_AT_ONCE
        for first in range(1, count + 1):
            peer.received(SubmitChunk(attachment=1, first=first, count=1, lengths=bytes(4), blob=b""))
        assert link.paused, "nothing more is read while something is held back"
        async with asyncio.timeout(10):
            while link.paused or len(link.sent) < count:
                await asyncio.sleep(0)
        stored = [message.next_id for message in link.sent if isinstance(message, ChunkAcknowledged)]
        assert stored == list(range(2, count + 2))
        assert served.store.read_inputs(1, 1, count) == (bytes(4 * count), b"")

    serve(test)


def test_who_says_much_leaves_room_for_others() -> None:
    async def test(served: Served) -> None:
        door = reception(served)
        flood, other = RecordingLink(), RecordingLink()
        peers = [door.connected(link) for link in (flood, other)]
        for peer in peers:
            peer.received(Hello(role=Role.CLIENT))
        await other.next()
        for request in range(100 * MAX_MESSAGES_AT_ONCE):
            peers[0].received(CancelTasks(attachment=1, request=request, first=1, count=1))
        peers[1].received(
            AttachSession(attachment=1, session_id="s", key="k", create=SessionSpec(application="flmping"))
        )
        turn = served.state.turn
        assert isinstance(await other.next(), SessionAttached)
        assert served.state.turn - turn <= 3
        peers[0].closed("")
        peers[1].closed("")

    serve(test)


def test_more_calls_than_a_connection_may_have_wait_and_are_answered() -> None:
    async def test(served: Served) -> None:
        link = RecordingLink()
        peer = reception(served).connected(link)
        peer.received(Hello(role=Role.CLIENT))
        await link.next()
        count = 2 * MAX_CALLS_PER_CONNECTION
        for number in range(count):
            peer.received(Call(id=number, method="/flame.v1.Frontend/ListSession", payload=b""))
        assert link.paused
        replies = [await link.next() for _ in range(count)]
        assert [reply.id for reply in replies if isinstance(reply, Reply) and reply.error is None] == list(range(count))
        async with asyncio.timeout(10):
            while link.paused:
                await asyncio.sleep(0)

    serve(test)


def test_the_oldest_of_too_many_strangers_goes() -> None:
    async def test(served: Served) -> None:
        door = Reception(served.driver, served.frontend, lambda hello: Welcome(), max_strangers=2)
        found = [RecordingLink() for _ in range(4)]
        peers = [door.connected(link) for link in found[:2]]
        peers[0].received(Hello(role=Role.CLIENT))
        door.connected(found[2])
        assert not any(link.closed for link in found)
        door.connected(found[3])
        assert [link.closed for link in found] == [False, True, False, False]
        peers[1].closed("")
        assert len(door.strangers) == 2

    serve(test)


def test_of_two_links_of_a_client_only_the_newer_one_is_heard() -> None:
    async def test(served: Served) -> None:
        door = reception(served)
        found = [RecordingLink() for _ in range(3)]
        peers = [door.connected(link) for link in found]
        create = AttachSession(attachment=1, session_id="s", key="k", create=SessionSpec(application="flmping"))
        for peer, link, client in zip(peers, found, ("one", "one", "another"), strict=True):
            peer.received(Hello(role=Role.CLIENT, client=client))
            assert isinstance(await link.next(), Welcome)
        assert [link.closed for link in found] == [True, False, False]
        peers[0].received(create)
        peers[0].received(Call(id=1, method="/flame.v1.Frontend/ListSession", payload=b""))
        peers[1].received(Call(id=2, method="/flame.v1.Frontend/ListSession", payload=b""))
        reply = await found[1].next()
        assert isinstance(reply, Reply)
        assert "s" not in served.driver.state.sessions_by_name
        assert not found[0].sent
        peers[0].closed("")
        late = RecordingLink()
        door.connected(late).received(Hello(role=Role.CLIENT, client="one"))
        assert found[1].closed
        assert not late.closed

    serve(test)


def test_a_former_link_that_says_hello_late_is_ended_and_not_welcomed() -> None:
    async def test(served: Served) -> None:
        door = reception(served)
        former, newer = RecordingLink(), RecordingLink()
        late = door.connected(former)
        door.connected(newer).received(Hello(role=Role.CLIENT, client="one"))
        late.received(Hello(role=Role.CLIENT, client="one"))
        assert former.closed
        assert not former.sent
        assert not newer.closed
        assert list(served.driver.links) == [2]

    serve(test)


def test_where_no_more_peers_may_connect_a_client_may_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "MAX_CONNECTIONS", 2)

    async def test(served: Served) -> None:
        door = reception(served)

        async def come(client: str) -> tuple[RecordingLink, Message]:
            link = RecordingLink()
            door.connected(link).received(Hello(role=Role.CLIENT, client=client))
            return link, await link.next()

        former, _ = await come("one")
        await come("two")
        third, refused = await come("three")
        assert isinstance(refused, Refused)
        assert refused.error.code == "RESOURCE_EXHAUSTED"
        assert third.closed
        _, welcome = await come("one")
        assert isinstance(welcome, Welcome)
        assert former.closed

    serve(test)


def test_what_a_former_link_has_asked_and_is_not_begun_is_dropped() -> None:
    async def test(served: Served) -> None:
        door = reception(served)
        former, newer = RecordingLink(), RecordingLink()
        peer = door.connected(former)
        peer.received(Hello(role=Role.CLIENT, client="one"))
        await former.next()
        for number in range(2 * MAX_CALLS_PER_CONNECTION):
            peer.received(Call(id=number, method="/flame.v1.Frontend/ListSession", payload=b""))
        for number in range(2 * MAX_MESSAGES_AT_ONCE):
            peer.received(CancelTasks(attachment=1, request=number, first=1, count=1))
        door.connected(newer).received(Hello(role=Role.CLIENT, client="one"))
        assert isinstance(await newer.next(), Welcome)
        await served.driver.settled()
        assert former.closed
        assert not former.sent

    serve(test)
