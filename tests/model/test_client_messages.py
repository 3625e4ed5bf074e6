"""A client may have many sessions on one stream: each message says which attachment it is about."""

import msgspec
import pytest

from flame.model import client_messages
from flame.model.ranges import Number

KINDS = [
    kind
    for kind in vars(client_messages).values()
    if isinstance(kind, type) and kind.__module__ == client_messages.__name__
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_message_names_its_attachment_first(kind: type[msgspec.Struct]) -> None:
    first = msgspec.structs.fields(kind)[0]
    assert first.name == "attachment"
    assert first.type == Number
    assert first.required
