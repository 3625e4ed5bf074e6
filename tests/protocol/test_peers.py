"""The session manager's end of a stream: who is there, and what it may say."""

from typing import get_args

import pytest

from flame.model.client_messages import DetachSession
from flame.model.executor_messages import AttachExecutor, SessionEntered
from flame.model.limits import GIB, MAX_CLIENT_ID_CHARS
from flame.model.messages import PROTOCOL_VERSION, Call, Hello, Message, PeerMessage, Refused, Role, Welcome
from flame.model.node_messages import JoinNode, PingNode
from flame.model.resources import Resources
from flame.protocol.peers import _MAY_SAY, ClientLinks, PeerEnd

WELCOME = Welcome(store_id="store", epoch=3)
JOIN = JoinNode(node="n1", instance="i", capacity=Resources(cpu=1, memory_bytes=GIB))
ATTACH = AttachExecutor(executor="1-1", binding=7, session=1)


def greeted(role: Role) -> PeerEnd:
    end = PeerEnd(lambda hello: WELCOME)
    assert end.greet(Hello(role=role)) is WELCOME
    return end


def code(answer: object) -> str:
    assert isinstance(answer, Refused)
    return answer.error.code


def test_the_first_message_is_a_hello_of_the_right_version_and_store() -> None:
    end = PeerEnd(lambda hello: WELCOME)
    assert code(end.greet(DetachSession(attachment=1))) == "FAILED_PRECONDITION"
    refused = end.greet(Hello(role=Role.CLIENT, version=PROTOCOL_VERSION + 1, software="other 9"))
    assert isinstance(refused, Refused)
    assert "other 9" in refused.error.message
    assert refused.error.hint
    assert code(end.greet(Hello(role=Role.CLIENT, store_id="another"))) == "ABORTED"
    assert end.role is None
    assert end.greet(Hello(role=Role.CLIENT, store_id="store")) is WELCOME
    assert end.role is Role.CLIENT


@pytest.mark.parametrize("role", Role)
def test_a_peer_may_say_what_its_role_says_and_nothing_else(role: Role) -> None:
    samples: dict[Role, Message] = {
        Role.CLIENT: Call(id=1, method="/m", payload=b""),
        Role.EXECUTOR: ATTACH,
        Role.NODE: JOIN,
    }
    for other, message in samples.items():
        answer = greeted(role).check(message)
        assert (answer is None) == (other is role)
        if answer is not None:
            assert role.name.lower() in answer.error.message
            assert type(message).__name__ in answer.error.message


def test_every_message_of_peers_belongs_to_one_role() -> None:
    listed = [kind for kinds in _MAY_SAY.values() for kind in kinds]
    assert len(listed) == len(set(listed))
    assert set(listed) == set(get_args(PeerMessage)) - {Hello}


def test_an_executor_presents_itself_first_and_stays_who_it_is() -> None:
    end = greeted(Role.EXECUTOR)
    assert code(end.check(SessionEntered())) == "INVALID_ARGUMENT"
    assert end.check(ATTACH) is None
    assert (end.executor, end.binding) == ("1-1", 7)
    assert end.check(SessionEntered()) is None
    assert code(end.check(AttachExecutor(executor="1-2", binding=7, session=1))) == "INVALID_ARGUMENT"
    assert end.executor == "1-1"


def test_a_node_presents_itself_first_and_stays_who_it_is() -> None:
    end = greeted(Role.NODE)
    assert code(end.check(PingNode(1))) == "INVALID_ARGUMENT"
    assert end.check(JOIN) is None
    assert end.node == "n1"
    assert end.check(PingNode(1)) is None
    assert code(end.check(JoinNode(node="n2", instance="i", capacity=Resources()))) == "INVALID_ARGUMENT"


def test_nobody_may_say_anything_before_the_hello() -> None:
    assert code(PeerEnd(lambda hello: WELCOME).check(PingNode(1))) == "INVALID_ARGUMENT"


def test_a_client_says_who_it_is_within_a_limit() -> None:
    end = PeerEnd(lambda hello: WELCOME)
    assert code(end.greet(Hello(role=Role.CLIENT, client="c" * (MAX_CLIENT_ID_CHARS + 1)))) == "INVALID_ARGUMENT"
    assert end.role is None
    assert end.greet(Hello(role=Role.CLIENT, client="c" * MAX_CLIENT_ID_CHARS)) is WELCOME
    assert end.client == "c" * MAX_CLIENT_ID_CHARS
    node = PeerEnd(lambda hello: WELCOME)
    node.greet(Hello(role=Role.NODE, client="c"))
    assert not node.client


def test_a_new_link_of_a_client_ends_its_former_one() -> None:
    links: ClientLinks[str] = ClientLinks()
    assert links.came("a", 1, "first of a") is None
    assert links.came("b", 2, "first of b") is None
    assert links.came("a", 3, "second of a") == "first of a"
    links.left("a", 1)
    assert links.came("a", 2, "late one of a") == "late one of a"
    assert links.came("a", 4, "third of a") == "second of a"
    links.left("a", 4)
    assert links.came("a", 5, "fourth of a") is None


def test_nothing_follows_from_a_client_that_does_not_say_who_it_is() -> None:
    links: ClientLinks[str] = ClientLinks()
    assert links.came("", 1, "one") is None
    assert links.came("", 2, "another") is None
    links.left("", 1)
