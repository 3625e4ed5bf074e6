"""Effects are data; whatever is sent names the link that it is for."""

from typing import get_args

import msgspec
import pytest

from flame.core.control.effects import Effect, SendToClient, SendToExecutor, SendToNode


@pytest.mark.parametrize("kind", get_args(Effect), ids=lambda kind: kind.__name__)
def test_an_effect_is_frozen_and_documented(kind: type[msgspec.Struct]) -> None:
    assert kind.__struct_config__.frozen
    assert (kind.__doc__ or "").strip()


def test_a_message_is_sent_on_one_link_and_on_no_newer_one() -> None:
    assert all("link" in kind.__struct_fields__ for kind in (SendToClient, SendToExecutor, SendToNode))
