"""Every carrier passes the conformance suite, and broken ones do not."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from flame.model.messages import Message
from tests.carriers.conformance import CHECKS
from tests.carriers.ends import CARRIERS, OpenPair, Pair


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("carrier", CARRIERS)
def test_carrier(carrier: str, check: str) -> None:
    CHECKS[check](CARRIERS[carrier])


class _Broken:
    """A link that passes everything on; the subclasses spoil one thing each."""

    def __init__(self, link: Any) -> None:
        self._link = link

    def __getattr__(self, name: str) -> Any:
        return getattr(self._link, name)


class _Reorders(_Broken):
    def __init__(self, link: Any) -> None:
        super().__init__(link)
        self._held: list[Message] = []

    def send(self, message: Message) -> None:
        self._held.append(message)
        if len(self._held) == 2:
            for held in reversed(self._held):
                self._link.send(held)
            self._held.clear()


class _DropsOnClose(_Broken):
    def __init__(self, link: Any) -> None:
        super().__init__(link)
        self._held: list[Message] = []

    def send(self, message: Message) -> None:
        self._held.append(message)
        if len(self._held) > 4:
            self._link.send(self._held.pop(0))


class _LosesOne(_Broken):
    def send(self, message: Message) -> None:
        if getattr(message, "sent_ns", 0) != 4321:
            self._link.send(message)


def _with_link(kind: Callable[[Any], Any]) -> OpenPair:
    @contextmanager
    def open_pair() -> Iterator[Pair]:
        with CARRIERS["unix-thread"]() as pair:
            pair.peer.link = kind(pair.peer.link)
            yield pair

    return open_pair


@contextmanager
def _closes_twice() -> Iterator[Pair]:
    with CARRIERS["unix-thread"]() as pair:
        first = pair.manager.closed

        def twice(reason: str) -> None:
            first(reason)
            first(reason)

        pair.manager.closed = twice  # type: ignore[method-assign]
        yield pair


@contextmanager
def _delivers_late() -> Iterator[Pair]:
    with CARRIERS["unix-thread"]() as pair:
        pass_on, end = pair.manager.received, pair.manager.closed
        held: list[Message] = []

        def closed(reason: str) -> None:
            end(reason)
            for message in held:
                pass_on(message)

        pair.manager.received = held.append  # type: ignore[method-assign, assignment]
        pair.manager.closed = closed  # type: ignore[method-assign]
        yield pair


@pytest.mark.parametrize(
    ("broken", "check"),
    [
        (_with_link(_Reorders), "many_small_messages_keep_their_order"),
        (_with_link(_LosesOne), "many_small_messages_keep_their_order"),
        (_with_link(_DropsOnClose), "close_of_the_peer_delivers_what_was_queued"),
        (_closes_twice, "abort_ends_both_sides_once"),
        (_delivers_late, "nothing_is_sent_or_delivered_after_the_end"),
    ],
    ids=["reorders", "loses one", "drops on close", "closes twice", "delivers late"],
)
def test_a_broken_carrier_fails(broken: OpenPair, check: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.carriers.ends.WAIT_S", 2.0)
    with pytest.raises(AssertionError):
        CHECKS[check](broken)
