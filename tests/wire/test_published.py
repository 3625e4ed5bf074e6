"""The published interface, number by number, and the generated code that carries it."""

import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf import descriptor_pool

from flame.wire.published import FRONTEND_METHODS, INSTANCE_METHODS, frontend, shim, types
from tests.support import ROOT
from tools.generate_wire import generate

FIELDS = {
    "Metadata": "1 id, 2 name",
    "SessionStatus": "1 state, 2 creation_time, 3 completion_time?, 4 pending, 5 running, 6 succeed, 7 failed, "
    "8 events*, 9 cancelled",
    "SessionSpec": "2 application, 4 common_data?, 5 min_instances, 6 max_instances?, 7 batch_size, "
    "8 priority, 9 resreq",
    "Session": "1 metadata, 2 spec, 3 status",
    "TaskStatus": "1 state, 2 creation_time, 3 completion_time?, 4 events*",
    "TaskSpec": "2 session_id, 3 input?, 4 output?",
    "Task": "1 metadata, 2 spec, 3 status",
    "ApplicationStatus": "1 state, 2 creation_time",
    "Environment": "1 name, 2 value",
    "ApplicationSchema": "1 input?, 2 output?, 3 common_data?",
    "ApplicationSpec": "1 shim, 2 description?, 3 labels*, 4 image?, 5 command?, 6 arguments*, 7 environments*, "
    "8 working_directory?, 9 max_instances?, 10 delay_release?, 11 schema, 12 url?, 13 installer?, "
    "1000 service, 1001 delay_release_ms?",
    "Application": "1 metadata, 2 spec, 3 status",
    "ExecutorSpec": "1 node, 2 resreq, 4 shim",
    "ExecutorStatus": "1 state, 2 session_id?, 1000 log_path",
    "Executor": "1 metadata, 2 spec, 3 status",
    "ExecutorList": "1 executors*",
    "SessionList": "1 sessions*",
    "ApplicationList": "1 applications*",
    "ResourceRequirement": "1 cpu, 2 memory, 3 gpu",
    "NodeSpec": "1 hostname",
    "NodeInfo": "1 arch, 2 os",
    "NodeAddress": "1 type, 2 address",
    "NodeStatus": "1 state, 2 capacity, 3 allocatable, 4 info, 5 addresses*, 6 last_heartbeat_time",
    "Node": "1 metadata, 2 spec, 3 status",
    "NodeList": "1 nodes*",
    "Result": "1 return_code, 2 message?, 1000 code, 1001 hint",
    "TaskResult": "1 return_code, 2 output?, 3 message?",
    "EmptyRequest": "",
    "Event": "1 code, 2 message?, 3 creation_time",
    "RegisterApplicationRequest": "1 name, 2 application",
    "UnregisterApplicationRequest": "1 name",
    "UpdateApplicationRequest": "1 name, 2 application",
    "GetApplicationRequest": "1 name",
    "ListApplicationRequest": "",
    "ListExecutorRequest": "",
    "ListNodesRequest": "",
    "GetNodeRequest": "1 name",
    "GetNodeResponse": "1 node",
    "CreateSessionRequest": "1 session_id, 2 session",
    "DeleteSessionRequest": "1 session_id",
    "OpenSessionRequest": "1 session_id, 2 session",
    "CloseSessionRequest": "1 session_id",
    "GetSessionRequest": "1 session_id",
    "ListSessionRequest": "",
    "CreateTaskRequest": "1 task",
    "GetTaskRequest": "1 task_id, 2 session_id",
    "WatchTaskRequest": "1 task_id, 2 session_id",
    "ListTaskRequest": "1 session_id",
    "ApplicationContext": "1 name, 2 shim, 3 image?, 4 command?, 5 working_directory?, 6 url?, 7 installer?",
    "SessionContext": "1 session_id, 2 application, 3 common_data?",
    "TaskContext": "1 task_id, 2 session_id, 4 input?",
}
ENUMS = {
    "SessionState": "Open=0, Closed=1",
    "TaskState": "Pending=0, Running=1, Succeed=2, Failed=3, Cancelled=4",
    "Shim": "Host=0, Wasm=1",
    "ApplicationState": "Enabled=0, Disabled=1",
    "ExecutorState": "ExecutorUnknown=0, ExecutorVoid=1, ExecutorIdle=2, ExecutorBinding=3, ExecutorBound=4, "
    "ExecutorUnbinding=5, ExecutorReleasing=6, ExecutorReleased=7",
    "NodeState": "Unknown=0, Ready=1, NotReady=2",
}
FRONTEND = {
    "RegisterApplication": "RegisterApplicationRequest Result",
    "UnregisterApplication": "UnregisterApplicationRequest Result",
    "UpdateApplication": "UpdateApplicationRequest Result",
    "GetApplication": "GetApplicationRequest Application",
    "ListApplication": "ListApplicationRequest ApplicationList",
    "ListExecutor": "ListExecutorRequest ExecutorList",
    "ListNodes": "ListNodesRequest NodeList",
    "GetNode": "GetNodeRequest GetNodeResponse",
    "CreateSession": "CreateSessionRequest Session",
    "DeleteSession": "DeleteSessionRequest Session",
    "OpenSession": "OpenSessionRequest Session",
    "CloseSession": "CloseSessionRequest Session",
    "GetSession": "GetSessionRequest Session",
    "ListSession": "ListSessionRequest SessionList",
    "CreateTask": "CreateTaskRequest Task",
    "GetTask": "GetTaskRequest Task",
    "WatchTask": "WatchTaskRequest stream Task",
    "ListTask": "ListTaskRequest stream Task",
}
MESSAGES = {
    name: descriptor
    for file in (types, frontend, shim)
    for name, descriptor in file.DESCRIPTOR.message_types_by_name.items()
}


@pytest.mark.parametrize("name", FIELDS)
def test_a_message_has_the_published_fields_and_ours_from_1000_up(name: str) -> None:
    shown = [
        f"{field.number} {field.name}"
        + ("*" if field.is_repeated else "?" if field.has_presence and field.message_type is None else "")
        for field in sorted(MESSAGES[name].fields, key=lambda field: field.number)
    ]
    assert ", ".join(shown) == FIELDS[name]


def test_there_are_no_other_messages_in_the_published_files() -> None:
    assert set(MESSAGES) == set(FIELDS)
    assert {descriptor.file.package for descriptor in MESSAGES.values()} == {"flame.v1"}


@pytest.mark.parametrize("name", ENUMS)
def test_an_enum_has_the_published_values(name: str) -> None:
    values = types.DESCRIPTOR.enum_types_by_name[name].values
    assert ", ".join(f"{value.name}={value.number}" for value in values) == ENUMS[name]


def test_types_of_numbers_are_the_published_ones() -> None:
    assert types.SessionSpec(min_instances=(1 << 32) - 1).min_instances == (1 << 32) - 1
    assert types.ResourceRequirement(memory=(1 << 64) - 1).memory == (1 << 64) - 1
    with pytest.raises(ValueError, match="out of range"):
        types.ResourceRequirement(gpu=1 << 31)


def test_the_frontend_has_the_18_published_methods() -> None:
    shown = {
        name.removeprefix("/flame.v1.Frontend/"): (
            f"{method.request.DESCRIPTOR.name} {'stream ' if method.streams else ''}{method.response.DESCRIPTOR.name}"
        )
        for name, method in FRONTEND_METHODS.items()
    }
    assert shown == FRONTEND


def test_an_instance_has_the_three_published_methods() -> None:
    assert list(INSTANCE_METHODS) == [
        f"/flame.v1.Instance/{name}" for name in ("OnSessionEnter", "OnTaskInvoke", "OnSessionLeave")
    ]
    assert INSTANCE_METHODS["/flame.v1.Instance/OnTaskInvoke"].request is shim.TaskContext


def test_the_generated_code_is_fresh(tmp_path: Path) -> None:
    generate(tmp_path)
    committed = ROOT / "src/flame/wire/gen"
    for made in sorted(tmp_path.iterdir()):
        assert made.read_text() == (committed / made.name).read_text(), "run python tools/generate_wire.py"
    left_over = {path.name for path in committed.glob("*_pb2.*")} - {path.name for path in tmp_path.iterdir()}
    assert not left_over


def test_other_stubs_of_the_published_files_can_be_loaded_in_the_same_process() -> None:
    with pytest.raises(KeyError):
        descriptor_pool.Default().FindMessageTypeByName("flame.v1.Session")


def test_the_codec_loads_no_grpc() -> None:
    program = (
        "import sys, flame.wire.codec, flame.carriers.threads, flame.carriers.frames; print('grpc' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_only_requests_with_a_payload_may_be_long() -> None:
    long = {name.rpartition("/")[2] for name, method in FRONTEND_METHODS.items() if method.most_bytes > 1 << 20}
    assert long == {"CreateSession", "OpenSession", "CreateTask"}
