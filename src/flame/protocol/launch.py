"""What an executor manager and its fork server say to each other over their socket pair.

One datagram (SOCK_SEQPACKET) is one message. File descriptors travel beside `StartProcess`: first the write end of the
executor's log pipe, then its shared table.
"""

from typing import Final

import msgspec

from flame.model.specs import ApplicationSpec

MAX_LAUNCH_BYTES: Final = 1024 * 1024
"""One message; an application whose environment does not fit cannot be started."""


class StartProcess(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Fork an executor; ends as `ProcessStarted` and later `ProcessExited`, or as the latter alone.

    Args:
        endpoint: frame endpoint of the session manager.
        store_id: of the session manager that bound it.
        epoch: of the session manager that bound it.
        data_dir: the node's data directory, for the process title.
        temporary_dir: the executor's own directory, which exists; removed after its end.
        spec: the application.
    """

    executor: str
    binding: int
    session: int
    session_id: str
    application: str
    spec: ApplicationSpec
    endpoint: str
    node: str = ""
    store_id: str = ""
    epoch: int = 0
    data_dir: str
    temporary_dir: str


class EndProcess(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Send a signal to an executor's process; ignored where it is gone."""

    executor: str
    binding: int
    signal: int


class PingServer(msgspec.Struct, frozen=True, tag=True):
    """Answer with `PongServer`."""


class ProcessStarted(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """An executor was forked."""

    executor: str
    binding: int
    pid: int


class ProcessExited(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """An executor's process and all that it started are gone.

    Args:
        exit_code: None if a signal ended it or it was never started.
        signal: number of the signal, or 0.
        failure: why it could not be started, or empty.
    """

    executor: str
    binding: int
    exit_code: int | None = None
    signal: int = 0
    failure: str = ""


class PongServer(msgspec.Struct, frozen=True, tag=True):
    """The fork server works: whatever was asked before is done, or under way."""


LaunchRequest = StartProcess | EndProcess | PingServer
LaunchReport = ProcessStarted | ProcessExited | PongServer

_requests: msgspec.msgpack.Decoder[LaunchRequest] = msgspec.msgpack.Decoder(LaunchRequest)
_reports: msgspec.msgpack.Decoder[LaunchReport] = msgspec.msgpack.Decoder(LaunchReport)
_encoder = msgspec.msgpack.Encoder()


def encode(message: LaunchRequest | LaunchReport) -> bytes:
    """One datagram."""
    return _encoder.encode(message)


def decode_request(data: bytes) -> LaunchRequest:
    """Read what an executor manager says.

    Raises:
        msgspec.DecodeError: it is no such message.
    """
    return _requests.decode(data)


def decode_report(data: bytes) -> LaunchReport:
    """Read what a fork server says.

    Raises:
        msgspec.DecodeError: it is no such message.
    """
    return _reports.decode(data)
