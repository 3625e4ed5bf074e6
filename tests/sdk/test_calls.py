"""Unary methods over the stream: what a refusal of the session manager becomes."""

import pytest

import flame
from flame.model.specs import ApplicationSpec, SessionSpec
from flame.sdk.calls import check_session_spec
from tests.sdk.scripted import ScriptedCluster


def test_a_refused_registration_of_an_unknown_name_is_the_callers_fault(
    cluster: ScriptedCluster, connection: flame.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flame.wire.published import types
    from tests.sdk.scripted import Peer

    refusal = types.Result(return_code=-1, message="not today")
    monkeypatch.setattr(Peer, "_RegisterApplication", lambda self, payload: refusal)
    with pytest.raises(flame.InvalidArgument, match="not today"):
        connection.register_application("mine", command="/bin/true")


def test_an_update_replaces_the_spec(connection: flame.Connection) -> None:
    connection.register_application("mine", command="/bin/true", delay_release_ms=1500)
    assert connection.get_application("mine").spec.delay_release_ms == 1500
    connection.update_application("mine", ApplicationSpec(command="/bin/false"))
    assert connection.get_application("mine").spec == ApplicationSpec(command="/bin/false")


@pytest.mark.parametrize(
    "spec",
    [
        SessionSpec(application="a", max_instances=0),
        SessionSpec(application="a", min_instances=2, max_instances=1),
        SessionSpec(application="a", priority=-1),
        SessionSpec(application="a", min_instances=1 << 40),
    ],
)
def test_numbers_that_cannot_be_are_refused_before_they_are_sent(spec: SessionSpec) -> None:
    with pytest.raises(flame.InvalidArgument):
        check_session_spec(spec)


@pytest.mark.parametrize("method", ["Register", "Update", "Unregister"])
def test_a_refusal_keeps_its_class_its_message_and_its_hint(
    cluster: ScriptedCluster, connection: flame.Connection, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    from flame.wire.published import types
    from tests.sdk.scripted import Peer

    refusal = types.Result(
        return_code=-1, message="the disk is full (free space)", code="RESOURCE_EXHAUSTED", hint="free space"
    )
    monkeypatch.setattr(Peer, f"_{method}Application", lambda self, payload: refusal)
    requests = {
        "Register": lambda: connection.register_application("mine", command="/bin/true"),
        "Update": lambda: connection.update_application("mine", ApplicationSpec()),
        "Unregister": lambda: connection.unregister_application("mine"),
    }
    with pytest.raises(flame.ResourceExhausted) as caught:
        requests[method]()
    assert (caught.value.message, caught.value.hint) == ("the disk is full", "free space")


def test_a_refusal_without_a_class_is_one_of_the_things_state(
    cluster: ScriptedCluster, connection: flame.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flame.wire.published import types
    from tests.sdk.scripted import Peer

    refusal = types.Result(return_code=-1, message="it is used")
    monkeypatch.setattr(Peer, "_UnregisterApplication", lambda self, payload: refusal)
    with pytest.raises(flame.FailedPrecondition, match="it is used"):
        connection.unregister_application("mine")
