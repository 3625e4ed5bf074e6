"""What both ends of the gRPC carrier share: names, options and how envelopes are put together into messages."""

from collections import deque
from typing import Final

from flame.model.limits import KIB, MAX_MESSAGE_BYTES, MIB

HANDSHAKE: Final = "/flame.v1.SessionManager/Handshake"
CONNECT: Final = "/flame.v1.SessionManager/Connect"
BATCH_BYTES: Final = 1 * MIB
"""Size up to which waiting envelopes go into one gRPC message."""
OPTIONS: Final = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES + 64 * KIB),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES + 64 * KIB),
)
"""gRPC options of both ends: the largest message, with room for the batch around it."""


def take_batch(outbox: deque[bytes]) -> list[bytes]:
    """Take from the left what goes into one message: one envelope, and more as long as they fit `BATCH_BYTES`."""
    batch: list[bytes] = []
    nbytes = 0
    while outbox and (not batch or nbytes + len(outbox[0]) <= BATCH_BYTES):
        batch.append(outbox.popleft())
        nbytes += len(batch[-1])
    return batch
