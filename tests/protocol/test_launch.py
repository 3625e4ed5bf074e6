"""What an executor manager and its fork server say arrives as it was said."""

import msgspec
import pytest

from flame.model.specs import ApplicationSpec
from flame.protocol.launch import (
    EndProcess,
    LaunchReport,
    LaunchRequest,
    PingServer,
    PongServer,
    ProcessExited,
    ProcessStarted,
    StartProcess,
    decode_report,
    decode_request,
    encode,
)

START = StartProcess(
    executor="e", binding=1, session=2, session_id="s", application="a", spec=ApplicationSpec(service="m:S"),
    endpoint="unix:///x", data_dir="/d", temporary_dir="/t",
)  # fmt: skip


@pytest.mark.parametrize("request_", [START, EndProcess(executor="e", binding=1, signal=9), PingServer()])
def test_requests(request_: LaunchRequest) -> None:
    assert decode_request(encode(request_)) == request_


@pytest.mark.parametrize(
    "report",
    [
        ProcessStarted(executor="e", binding=1, pid=3),
        ProcessExited(executor="e", binding=1, signal=9, failure="f"),
        PongServer(),
    ],
)
def test_reports(report: LaunchReport) -> None:
    assert decode_report(encode(report)) == report


def test_anything_else_is_refused() -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_request(encode(ProcessStarted(executor="e", binding=1, pid=3)))
    with pytest.raises(msgspec.DecodeError):
        decode_report(b"garbage")
