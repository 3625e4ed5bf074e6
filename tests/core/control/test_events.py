"""Events are data, and the core has a handler for each."""

from typing import get_args

import msgspec
import pytest

from flame.core.control.events import Event
from flame.core.control.reducer import _EVENTS


@pytest.mark.parametrize("kind", get_args(Event), ids=lambda kind: kind.__name__)
def test_an_event_is_frozen_documented_and_handled(kind: type[msgspec.Struct]) -> None:
    assert kind.__struct_config__.frozen
    assert (kind.__doc__ or "").strip()
    assert kind in _EVENTS


def test_requests_and_what_clients_say_carry_who_asks() -> None:
    asking = [kind for kind in get_args(Event) if kind.__name__.endswith("Requested") or kind.__name__ == "ClientSaid"]
    assert asking
    assert all("caller" in kind.__struct_fields__ for kind in asking)
