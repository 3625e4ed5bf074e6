"""Model values survive the published messages, and the published rules hold on the way."""

import pytest
from hypothesis import given, settings

from flame.model.errors import InvalidArgument
from flame.model.records import ApplicationRecord, SessionRecord
from flame.model.resources import Resources
from flame.model.specs import ApplicationSpec, SessionSpec
from flame.model.states import NodeState, SessionState, Shim, TaskState
from flame.wire import convert
from flame.wire.published import types
from tests.wire.samples import APPLICATION_SPECS, RESOURCES, SESSION_SPECS


@given(APPLICATION_SPECS)
@settings(deadline=None)
def test_application_specs_come_back_equal(spec: ApplicationSpec) -> None:
    assert convert.application_spec_from_proto(convert.application_spec_to_proto(spec)) == spec


@given(SESSION_SPECS)
@settings(deadline=None)
def test_session_specs_come_back_equal(spec: SessionSpec) -> None:
    assert convert.session_spec_from_proto(convert.session_spec_to_proto(spec)) == spec


@given(RESOURCES)
@settings(deadline=None)
def test_resources_come_back_equal(resources: Resources) -> None:
    assert convert.resources_from_proto(convert.resources_to_proto(resources)) == resources


def test_delay_release_is_in_seconds_on_the_wire() -> None:
    message = convert.application_spec_to_proto(ApplicationSpec(delay_release_ms=5000))
    assert message.delay_release == 5
    assert not message.HasField("delay_release_ms")
    assert convert.application_spec_from_proto(types.ApplicationSpec(delay_release=7)).delay_release_ms == 7000


def test_a_fraction_of_a_second_is_kept_until_an_old_client_changes_the_seconds() -> None:
    message = convert.application_spec_to_proto(ApplicationSpec(delay_release_ms=1500))
    assert message.delay_release == 2
    assert convert.application_spec_from_proto(message).delay_release_ms == 1500
    message.delay_release = 9
    assert convert.application_spec_from_proto(message).delay_release_ms == 9000


def test_an_absent_delay_takes_the_default() -> None:
    assert convert.application_spec_from_proto(types.ApplicationSpec()).delay_release_ms == 60_000
    spec = convert.application_spec_from_proto(types.ApplicationSpec(), default_delay_release_ms=5)
    assert spec.delay_release_ms == 5
    spec = convert.application_spec_from_proto(types.ApplicationSpec(delay_release=0), default_delay_release_ms=5)
    assert spec.delay_release_ms == 0


def test_absent_and_zero_max_instances_differ() -> None:
    assert convert.application_spec_from_proto(types.ApplicationSpec()).max_instances is None
    assert convert.session_spec_from_proto(types.SessionSpec(max_instances=0)).max_instances == 0


def test_a_python_service_is_field_1000_and_shim_host() -> None:
    message = convert.application_spec_to_proto(ApplicationSpec(service="m:C"))
    assert types.ApplicationSpec.DESCRIPTOR.fields_by_number[1000].name == "service"
    assert (message.service, message.shim) == ("m:C", Shim.HOST.value)


def test_batch_size_zero_means_one() -> None:
    assert convert.session_spec_from_proto(types.SessionSpec()).batch_size == 1


@pytest.mark.parametrize(
    "message",
    [
        types.ApplicationSpec(shim=7),  # type: ignore[arg-type]
        types.ApplicationSpec(delay_release=-1),
        types.ApplicationSpec(delay_release=1 << 62),
    ],
)
def test_an_application_that_cannot_be_is_refused(message: types.ApplicationSpec) -> None:
    with pytest.raises(InvalidArgument):
        convert.application_spec_from_proto(message)


@pytest.mark.parametrize("spec", [{"min_instances": -1}, {"priority": 1 << 32}, {"max_instances": 1 << 32}])
def test_a_number_that_the_wire_cannot_carry_is_named(spec: dict[str, int]) -> None:
    with pytest.raises(InvalidArgument, match=next(iter(spec))):
        convert.session_spec_to_proto(SessionSpec(application="a", **spec))  # type: ignore[arg-type]


def test_resources_out_of_range_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="gpu is -1"):
        convert.resources_from_proto(types.ResourceRequirement(gpu=-1))
    with pytest.raises(InvalidArgument, match="memory"):
        convert.resources_from_proto(types.ResourceRequirement(memory=(1 << 64) - 1))
    with pytest.raises(InvalidArgument, match="cpu is -2"):
        convert.resources_to_proto(Resources(cpu=-2))


@pytest.mark.parametrize("exact_ms", [-1, -999])
def test_a_negative_exact_delay_is_passed_over(exact_ms: int) -> None:
    message = types.ApplicationSpec(delay_release=0, delay_release_ms=exact_ms)
    assert convert.application_spec_from_proto(message).delay_release_ms == 0


def test_text_that_is_no_unicode_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="no Unicode"):
        convert.application_spec_to_proto(ApplicationSpec(command="\ud800"))
    with pytest.raises(InvalidArgument, match="no Unicode"):
        convert.session_spec_to_proto(SessionSpec(application="\ud800"))


def test_records_as_the_frontend_shows_them() -> None:
    application = convert.application_to_proto(ApplicationRecord(name="a", spec=ApplicationSpec(), created_ms=5))
    assert (application.metadata.id, application.metadata.name, application.status.creation_time) == ("a", "a", 5)
    record = SessionRecord(
        number=7, name="s-1", spec=SessionSpec(application="a"), state=SessionState.CLOSED, created_ms=5, closed_ms=9
    )
    session = convert.session_to_proto(record, pending=1 << 40, succeed=3, cancelled=4)
    assert (session.metadata.id, session.spec.application, session.status.state) == ("s-1", "a", types.Closed)
    assert (session.status.completion_time, session.status.pending) == (9, (1 << 31) - 1)
    assert (session.status.succeed, session.status.cancelled) == (3, 4)


def test_tasks_as_the_frontend_shows_them() -> None:
    event = convert.event_to_proto(3, "it raised", 8)
    task = convert.task_to_proto(
        session_id="s", task=5, state=TaskState.FAILED, created_ms=1, completed_ms=8, input=b"", events=(event,)
    )
    assert (task.metadata.id, task.spec.session_id, task.status.state) == ("5", "s", types.Failed)
    assert task.spec.HasField("input")
    assert not task.spec.HasField("output")
    assert task.status.events[0].message == "it raised"


def test_nodes_as_the_frontend_shows_them() -> None:
    node = convert.node_to_proto(
        name="n", state=NodeState.READY, capacity=Resources(cpu=4), allocatable=Resources(cpu=3), last_seen_ms=5999
    )
    assert (node.metadata.id, node.spec.hostname, node.status.state) == ("n", "n", types.Ready)
    assert (node.status.capacity.cpu, node.status.allocatable.cpu, node.status.last_heartbeat_time) == (4, 3, 5)


@pytest.mark.parametrize("text", ["1", "42", str((1 << 63) - 1)])
def test_task_ids(text: str) -> None:
    assert convert.task_id_from_text(text) == int(text)


@pytest.mark.parametrize("text", ["", "0", "-1", "1.0", "x", "٣", " 1", "1" * 30, str(1 << 63)])
def test_what_is_no_task_id_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="task id"):
        convert.task_id_from_text(text)
