from flame.wire.gen import types_pb2 as _types_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class PeerRole(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CLIENT: _ClassVar[PeerRole]
    EXECUTOR: _ClassVar[PeerRole]
    NODE: _ClassVar[PeerRole]
CLIENT: PeerRole
EXECUTOR: PeerRole
NODE: PeerRole

class PeerBatch(_message.Message):
    __slots__ = ("envelopes",)
    ENVELOPES_FIELD_NUMBER: _ClassVar[int]
    envelopes: _containers.RepeatedCompositeFieldContainer[PeerEnvelope]
    def __init__(self, envelopes: _Optional[_Iterable[_Union[PeerEnvelope, _Mapping]]] = ...) -> None: ...

class ManagerBatch(_message.Message):
    __slots__ = ("envelopes",)
    ENVELOPES_FIELD_NUMBER: _ClassVar[int]
    envelopes: _containers.RepeatedCompositeFieldContainer[ManagerEnvelope]
    def __init__(self, envelopes: _Optional[_Iterable[_Union[ManagerEnvelope, _Mapping]]] = ...) -> None: ...

class PeerEnvelope(_message.Message):
    __slots__ = ("hello", "call", "attach_session", "submit_chunk", "cancel_tasks", "acknowledge_segments", "detach_session", "attach_executor", "session_entered", "report_outcomes", "tasks_retracted", "session_left", "join_node", "ping_node", "executor_started", "executor_exited")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    CALL_FIELD_NUMBER: _ClassVar[int]
    ATTACH_SESSION_FIELD_NUMBER: _ClassVar[int]
    SUBMIT_CHUNK_FIELD_NUMBER: _ClassVar[int]
    CANCEL_TASKS_FIELD_NUMBER: _ClassVar[int]
    ACKNOWLEDGE_SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    DETACH_SESSION_FIELD_NUMBER: _ClassVar[int]
    ATTACH_EXECUTOR_FIELD_NUMBER: _ClassVar[int]
    SESSION_ENTERED_FIELD_NUMBER: _ClassVar[int]
    REPORT_OUTCOMES_FIELD_NUMBER: _ClassVar[int]
    TASKS_RETRACTED_FIELD_NUMBER: _ClassVar[int]
    SESSION_LEFT_FIELD_NUMBER: _ClassVar[int]
    JOIN_NODE_FIELD_NUMBER: _ClassVar[int]
    PING_NODE_FIELD_NUMBER: _ClassVar[int]
    EXECUTOR_STARTED_FIELD_NUMBER: _ClassVar[int]
    EXECUTOR_EXITED_FIELD_NUMBER: _ClassVar[int]
    hello: HelloMessage
    call: CallMessage
    attach_session: AttachSessionMessage
    submit_chunk: SubmitChunkMessage
    cancel_tasks: CancelTasksMessage
    acknowledge_segments: AcknowledgeSegmentsMessage
    detach_session: DetachSessionMessage
    attach_executor: AttachExecutorMessage
    session_entered: SessionEnteredMessage
    report_outcomes: ReportOutcomesMessage
    tasks_retracted: TasksRetractedMessage
    session_left: SessionLeftMessage
    join_node: JoinNodeMessage
    ping_node: PingNodeMessage
    executor_started: ExecutorStartedMessage
    executor_exited: ExecutorExitedMessage
    def __init__(self, hello: _Optional[_Union[HelloMessage, _Mapping]] = ..., call: _Optional[_Union[CallMessage, _Mapping]] = ..., attach_session: _Optional[_Union[AttachSessionMessage, _Mapping]] = ..., submit_chunk: _Optional[_Union[SubmitChunkMessage, _Mapping]] = ..., cancel_tasks: _Optional[_Union[CancelTasksMessage, _Mapping]] = ..., acknowledge_segments: _Optional[_Union[AcknowledgeSegmentsMessage, _Mapping]] = ..., detach_session: _Optional[_Union[DetachSessionMessage, _Mapping]] = ..., attach_executor: _Optional[_Union[AttachExecutorMessage, _Mapping]] = ..., session_entered: _Optional[_Union[SessionEnteredMessage, _Mapping]] = ..., report_outcomes: _Optional[_Union[ReportOutcomesMessage, _Mapping]] = ..., tasks_retracted: _Optional[_Union[TasksRetractedMessage, _Mapping]] = ..., session_left: _Optional[_Union[SessionLeftMessage, _Mapping]] = ..., join_node: _Optional[_Union[JoinNodeMessage, _Mapping]] = ..., ping_node: _Optional[_Union[PingNodeMessage, _Mapping]] = ..., executor_started: _Optional[_Union[ExecutorStartedMessage, _Mapping]] = ..., executor_exited: _Optional[_Union[ExecutorExitedMessage, _Mapping]] = ...) -> None: ...

class ManagerEnvelope(_message.Message):
    __slots__ = ("welcome", "refused", "reply", "session_attached", "attachment_ended", "chunk_acknowledged", "chunk_refused", "segment", "tasks_cancelled", "session_changed", "enter_session", "assign_tasks", "retract_tasks", "acknowledge_report", "leave_session", "node_joined", "pong_node", "bind_executor", "end_executor", "acknowledge_exit")
    WELCOME_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    REPLY_FIELD_NUMBER: _ClassVar[int]
    SESSION_ATTACHED_FIELD_NUMBER: _ClassVar[int]
    ATTACHMENT_ENDED_FIELD_NUMBER: _ClassVar[int]
    CHUNK_ACKNOWLEDGED_FIELD_NUMBER: _ClassVar[int]
    CHUNK_REFUSED_FIELD_NUMBER: _ClassVar[int]
    SEGMENT_FIELD_NUMBER: _ClassVar[int]
    TASKS_CANCELLED_FIELD_NUMBER: _ClassVar[int]
    SESSION_CHANGED_FIELD_NUMBER: _ClassVar[int]
    ENTER_SESSION_FIELD_NUMBER: _ClassVar[int]
    ASSIGN_TASKS_FIELD_NUMBER: _ClassVar[int]
    RETRACT_TASKS_FIELD_NUMBER: _ClassVar[int]
    ACKNOWLEDGE_REPORT_FIELD_NUMBER: _ClassVar[int]
    LEAVE_SESSION_FIELD_NUMBER: _ClassVar[int]
    NODE_JOINED_FIELD_NUMBER: _ClassVar[int]
    PONG_NODE_FIELD_NUMBER: _ClassVar[int]
    BIND_EXECUTOR_FIELD_NUMBER: _ClassVar[int]
    END_EXECUTOR_FIELD_NUMBER: _ClassVar[int]
    ACKNOWLEDGE_EXIT_FIELD_NUMBER: _ClassVar[int]
    welcome: WelcomeMessage
    refused: RefusedMessage
    reply: ReplyMessage
    session_attached: SessionAttachedMessage
    attachment_ended: AttachmentEndedMessage
    chunk_acknowledged: ChunkAcknowledgedMessage
    chunk_refused: ChunkRefusedMessage
    segment: SegmentMessage
    tasks_cancelled: TasksCancelledMessage
    session_changed: SessionChangedMessage
    enter_session: EnterSessionMessage
    assign_tasks: AssignTasksMessage
    retract_tasks: RetractTasksMessage
    acknowledge_report: AcknowledgeReportMessage
    leave_session: LeaveSessionMessage
    node_joined: NodeJoinedMessage
    pong_node: PongNodeMessage
    bind_executor: BindExecutorMessage
    end_executor: EndExecutorMessage
    acknowledge_exit: AcknowledgeExitMessage
    def __init__(self, welcome: _Optional[_Union[WelcomeMessage, _Mapping]] = ..., refused: _Optional[_Union[RefusedMessage, _Mapping]] = ..., reply: _Optional[_Union[ReplyMessage, _Mapping]] = ..., session_attached: _Optional[_Union[SessionAttachedMessage, _Mapping]] = ..., attachment_ended: _Optional[_Union[AttachmentEndedMessage, _Mapping]] = ..., chunk_acknowledged: _Optional[_Union[ChunkAcknowledgedMessage, _Mapping]] = ..., chunk_refused: _Optional[_Union[ChunkRefusedMessage, _Mapping]] = ..., segment: _Optional[_Union[SegmentMessage, _Mapping]] = ..., tasks_cancelled: _Optional[_Union[TasksCancelledMessage, _Mapping]] = ..., session_changed: _Optional[_Union[SessionChangedMessage, _Mapping]] = ..., enter_session: _Optional[_Union[EnterSessionMessage, _Mapping]] = ..., assign_tasks: _Optional[_Union[AssignTasksMessage, _Mapping]] = ..., retract_tasks: _Optional[_Union[RetractTasksMessage, _Mapping]] = ..., acknowledge_report: _Optional[_Union[AcknowledgeReportMessage, _Mapping]] = ..., leave_session: _Optional[_Union[LeaveSessionMessage, _Mapping]] = ..., node_joined: _Optional[_Union[NodeJoinedMessage, _Mapping]] = ..., pong_node: _Optional[_Union[PongNodeMessage, _Mapping]] = ..., bind_executor: _Optional[_Union[BindExecutorMessage, _Mapping]] = ..., end_executor: _Optional[_Union[EndExecutorMessage, _Mapping]] = ..., acknowledge_exit: _Optional[_Union[AcknowledgeExitMessage, _Mapping]] = ...) -> None: ...

class RangeMessage(_message.Message):
    __slots__ = ("first", "count")
    FIRST_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    first: int
    count: int
    def __init__(self, first: _Optional[int] = ..., count: _Optional[int] = ...) -> None: ...

class HeldRangeMessage(_message.Message):
    __slots__ = ("attempt", "first", "count")
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    FIRST_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    attempt: int
    first: int
    count: int
    def __init__(self, attempt: _Optional[int] = ..., first: _Optional[int] = ..., count: _Optional[int] = ...) -> None: ...

class HeldRangesMessage(_message.Message):
    __slots__ = ("ranges",)
    RANGES_FIELD_NUMBER: _ClassVar[int]
    ranges: _containers.RepeatedCompositeFieldContainer[HeldRangeMessage]
    def __init__(self, ranges: _Optional[_Iterable[_Union[HeldRangeMessage, _Mapping]]] = ...) -> None: ...

class RejectionMessage(_message.Message):
    __slots__ = ("code", "message", "hint")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    HINT_FIELD_NUMBER: _ClassVar[int]
    code: str
    message: str
    hint: str
    def __init__(self, code: _Optional[str] = ..., message: _Optional[str] = ..., hint: _Optional[str] = ...) -> None: ...

class HelloMessage(_message.Message):
    __slots__ = ("role", "version", "software", "capabilities", "store_id", "epoch", "client")
    ROLE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SOFTWARE_FIELD_NUMBER: _ClassVar[int]
    CAPABILITIES_FIELD_NUMBER: _ClassVar[int]
    STORE_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    role: PeerRole
    version: int
    software: str
    capabilities: _containers.RepeatedScalarFieldContainer[str]
    store_id: str
    epoch: int
    client: str
    def __init__(self, role: _Optional[_Union[PeerRole, str]] = ..., version: _Optional[int] = ..., software: _Optional[str] = ..., capabilities: _Optional[_Iterable[str]] = ..., store_id: _Optional[str] = ..., epoch: _Optional[int] = ..., client: _Optional[str] = ...) -> None: ...

class WelcomeMessage(_message.Message):
    __slots__ = ("version", "software", "capabilities", "store_id", "epoch", "frames_endpoint", "max_task_bytes")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SOFTWARE_FIELD_NUMBER: _ClassVar[int]
    CAPABILITIES_FIELD_NUMBER: _ClassVar[int]
    STORE_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    FRAMES_ENDPOINT_FIELD_NUMBER: _ClassVar[int]
    MAX_TASK_BYTES_FIELD_NUMBER: _ClassVar[int]
    version: int
    software: str
    capabilities: _containers.RepeatedScalarFieldContainer[str]
    store_id: str
    epoch: int
    frames_endpoint: str
    max_task_bytes: int
    def __init__(self, version: _Optional[int] = ..., software: _Optional[str] = ..., capabilities: _Optional[_Iterable[str]] = ..., store_id: _Optional[str] = ..., epoch: _Optional[int] = ..., frames_endpoint: _Optional[str] = ..., max_task_bytes: _Optional[int] = ...) -> None: ...

class RefusedMessage(_message.Message):
    __slots__ = ("error",)
    ERROR_FIELD_NUMBER: _ClassVar[int]
    error: RejectionMessage
    def __init__(self, error: _Optional[_Union[RejectionMessage, _Mapping]] = ...) -> None: ...

class CallMessage(_message.Message):
    __slots__ = ("id", "method", "payload")
    ID_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    id: int
    method: str
    payload: bytes
    def __init__(self, id: _Optional[int] = ..., method: _Optional[str] = ..., payload: _Optional[bytes] = ...) -> None: ...

class ReplyMessage(_message.Message):
    __slots__ = ("id", "payload", "error")
    ID_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    id: int
    payload: bytes
    error: RejectionMessage
    def __init__(self, id: _Optional[int] = ..., payload: _Optional[bytes] = ..., error: _Optional[_Union[RejectionMessage, _Mapping]] = ...) -> None: ...

class AttachSessionMessage(_message.Message):
    __slots__ = ("attachment", "session_id", "key", "create", "submit", "after")
    ATTACHMENT_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    CREATE_FIELD_NUMBER: _ClassVar[int]
    SUBMIT_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    attachment: int
    session_id: str
    key: str
    create: _types_pb2.SessionSpec
    submit: bool
    after: int
    def __init__(self, attachment: _Optional[int] = ..., session_id: _Optional[str] = ..., key: _Optional[str] = ..., create: _Optional[_Union[_types_pb2.SessionSpec, _Mapping]] = ..., submit: _Optional[bool] = ..., after: _Optional[int] = ...) -> None: ...

class SubmitChunkMessage(_message.Message):
    __slots__ = ("attachment", "first", "count", "lengths", "blob", "attributes")
    ATTACHMENT_FIELD_NUMBER: _ClassVar[int]
    FIRST_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    LENGTHS_FIELD_NUMBER: _ClassVar[int]
    BLOB_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    attachment: int
    first: int
    count: int
    lengths: bytes
    blob: bytes
    attributes: bytes
    def __init__(self, attachment: _Optional[int] = ..., first: _Optional[int] = ..., count: _Optional[int] = ..., lengths: _Optional[bytes] = ..., blob: _Optional[bytes] = ..., attributes: _Optional[bytes] = ...) -> None: ...

class CancelTasksMessage(_message.Message):
    __slots__ = ("attachment", "request", "first", "count")
    ATTACHMENT_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    FIRST_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    attachment: int
    request: int
    first: int
    count: int
    def __init__(self, attachment: _Optional[int] = ..., request: _Optional[int] = ..., first: _Optional[int] = ..., count: _Optional[int] = ...) -> None: ...

class AcknowledgeSegmentsMessage(_message.Message):
    __slots__ = ("attachment", "sequence")
    ATTACHMENT_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    attachment: int
    sequence: int
    def __init__(self, attachment: _Optional[int] = ..., sequence: _Optional[int] = ...) -> None: ...

class DetachSessionMessage(_message.Message):
    __slots__ = ("attachment",)
    ATTACHMENT_FIELD_NUMBER: _ClassVar[int]
    attachment: int
    def __init__(self, attachment: _Optional[int] = ...) -> None: ...

class SessionAttachedMessage(_message.Message):
    __slots__ = ("attachment", "session", "session_id", "first", "next_id", "last_sequence", "state", "spec", "created_ms", "warning")
    ATTACHMENT_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    FIRST_FIELD_NUMBER: _ClassVar[int]
    NEXT_ID_FIELD_NUMBER: _ClassVar[int]
    LAST_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    CREATED_MS_FIELD_NUMBER: _ClassVar[int]
    WARNING_FIELD_NUMBER: _ClassVar[int]
    attachment: int
    session: int
    session_id: str
    first: int
    next_id: int
    last_sequence: int
    state: _types_pb2.SessionState
    spec: _types_pb2.SessionSpec
    created_ms: int
    warning: str
    def __init__(self, attachment: _Optional[int] = ..., session: _Optional[int] = ..., session_id: _Optional[str] = ..., first: _Optional[int] = ..., next_id: _Optional[int] = ..., last_sequence: _Optional[int] = ..., state: _Optional[_Union[_types_pb2.SessionState, str]] = ..., spec: _Optional[_Union[_types_pb2.SessionSpec, _Mapping]] = ..., created_ms: _Optional[int] = ..., warning: _Optional[str] = ...) -> None: ...

class AttachmentEndedMessage(_message.Message):
    __slots__ = ("attachment", "error")
    ATTACHMENT_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    attachment: int
    error: RejectionMessage
    def __init__(self, attachment: _Optional[int] = ..., error: _Optional[_Union[RejectionMessage, _Mapping]] = ...) -> None: ...

class ChunkAcknowledgedMessage(_message.Message):
    __slots__ = ("attachment", "next_id")
    ATTACHMENT_FIELD_NUMBER: _ClassVar[int]
    NEXT_ID_FIELD_NUMBER: _ClassVar[int]
    attachment: int
    next_id: int
    def __init__(self, attachment: _Optional[int] = ..., next_id: _Optional[int] = ...) -> None: ...

class ChunkRefusedMessage(_message.Message):
    __slots__ = ("attachment", "first", "error")
    ATTACHMENT_FIELD_NUMBER: _ClassVar[int]
    FIRST_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    attachment: int
    first: int
    error: RejectionMessage
    def __init__(self, attachment: _Optional[int] = ..., first: _Optional[int] = ..., error: _Optional[_Union[RejectionMessage, _Mapping]] = ...) -> None: ...

class SegmentMessage(_message.Message):
    __slots__ = ("attachment", "sequence", "first", "count", "state", "states", "lengths", "blob", "finished_ms")
    ATTACHMENT_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    FIRST_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    STATES_FIELD_NUMBER: _ClassVar[int]
    LENGTHS_FIELD_NUMBER: _ClassVar[int]
    BLOB_FIELD_NUMBER: _ClassVar[int]
    FINISHED_MS_FIELD_NUMBER: _ClassVar[int]
    attachment: int
    sequence: int
    first: int
    count: int
    state: _types_pb2.TaskState
    states: bytes
    lengths: bytes
    blob: bytes
    finished_ms: int
    def __init__(self, attachment: _Optional[int] = ..., sequence: _Optional[int] = ..., first: _Optional[int] = ..., count: _Optional[int] = ..., state: _Optional[_Union[_types_pb2.TaskState, str]] = ..., states: _Optional[bytes] = ..., lengths: _Optional[bytes] = ..., blob: _Optional[bytes] = ..., finished_ms: _Optional[int] = ...) -> None: ...

class TasksCancelledMessage(_message.Message):
    __slots__ = ("attachment", "request", "ranges")
    ATTACHMENT_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    RANGES_FIELD_NUMBER: _ClassVar[int]
    attachment: int
    request: int
    ranges: _containers.RepeatedCompositeFieldContainer[RangeMessage]
    def __init__(self, attachment: _Optional[int] = ..., request: _Optional[int] = ..., ranges: _Optional[_Iterable[_Union[RangeMessage, _Mapping]]] = ...) -> None: ...

class SessionChangedMessage(_message.Message):
    __slots__ = ("attachment", "state", "warning", "last_sequence")
    ATTACHMENT_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    WARNING_FIELD_NUMBER: _ClassVar[int]
    LAST_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    attachment: int
    state: _types_pb2.SessionState
    warning: str
    last_sequence: int
    def __init__(self, attachment: _Optional[int] = ..., state: _Optional[_Union[_types_pb2.SessionState, str]] = ..., warning: _Optional[str] = ..., last_sequence: _Optional[int] = ...) -> None: ...

class AttachExecutorMessage(_message.Message):
    __slots__ = ("executor", "binding", "session", "held", "entered", "pid")
    EXECUTOR_FIELD_NUMBER: _ClassVar[int]
    BINDING_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    HELD_FIELD_NUMBER: _ClassVar[int]
    ENTERED_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    executor: str
    binding: int
    session: int
    held: _containers.RepeatedCompositeFieldContainer[HeldRangeMessage]
    entered: bool
    pid: int
    def __init__(self, executor: _Optional[str] = ..., binding: _Optional[int] = ..., session: _Optional[int] = ..., held: _Optional[_Iterable[_Union[HeldRangeMessage, _Mapping]]] = ..., entered: _Optional[bool] = ..., pid: _Optional[int] = ...) -> None: ...

class SessionEnteredMessage(_message.Message):
    __slots__ = ("failure",)
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    failure: bytes
    def __init__(self, failure: _Optional[bytes] = ...) -> None: ...

class OutcomeMessage(_message.Message):
    __slots__ = ("attempt", "first", "count", "state", "states", "lengths", "blob", "busy_ns")
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    FIRST_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    STATES_FIELD_NUMBER: _ClassVar[int]
    LENGTHS_FIELD_NUMBER: _ClassVar[int]
    BLOB_FIELD_NUMBER: _ClassVar[int]
    BUSY_NS_FIELD_NUMBER: _ClassVar[int]
    attempt: int
    first: int
    count: int
    state: _types_pb2.TaskState
    states: bytes
    lengths: bytes
    blob: bytes
    busy_ns: int
    def __init__(self, attempt: _Optional[int] = ..., first: _Optional[int] = ..., count: _Optional[int] = ..., state: _Optional[_Union[_types_pb2.TaskState, str]] = ..., states: _Optional[bytes] = ..., lengths: _Optional[bytes] = ..., blob: _Optional[bytes] = ..., busy_ns: _Optional[int] = ...) -> None: ...

class ReportOutcomesMessage(_message.Message):
    __slots__ = ("report", "outcomes")
    REPORT_FIELD_NUMBER: _ClassVar[int]
    OUTCOMES_FIELD_NUMBER: _ClassVar[int]
    report: int
    outcomes: _containers.RepeatedCompositeFieldContainer[OutcomeMessage]
    def __init__(self, report: _Optional[int] = ..., outcomes: _Optional[_Iterable[_Union[OutcomeMessage, _Mapping]]] = ...) -> None: ...

class TasksRetractedMessage(_message.Message):
    __slots__ = ("request", "ranges")
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    RANGES_FIELD_NUMBER: _ClassVar[int]
    request: int
    ranges: _containers.RepeatedCompositeFieldContainer[HeldRangeMessage]
    def __init__(self, request: _Optional[int] = ..., ranges: _Optional[_Iterable[_Union[HeldRangeMessage, _Mapping]]] = ...) -> None: ...

class SessionLeftMessage(_message.Message):
    __slots__ = ("failure",)
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    failure: bytes
    def __init__(self, failure: _Optional[bytes] = ...) -> None: ...

class EnterSessionMessage(_message.Message):
    __slots__ = ("session", "session_id", "application", "common_data")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    APPLICATION_FIELD_NUMBER: _ClassVar[int]
    COMMON_DATA_FIELD_NUMBER: _ClassVar[int]
    session: int
    session_id: str
    application: str
    common_data: bytes
    def __init__(self, session: _Optional[int] = ..., session_id: _Optional[str] = ..., application: _Optional[str] = ..., common_data: _Optional[bytes] = ...) -> None: ...

class AssignTasksMessage(_message.Message):
    __slots__ = ("attempt", "first", "count", "lengths", "blob")
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    FIRST_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    LENGTHS_FIELD_NUMBER: _ClassVar[int]
    BLOB_FIELD_NUMBER: _ClassVar[int]
    attempt: int
    first: int
    count: int
    lengths: bytes
    blob: bytes
    def __init__(self, attempt: _Optional[int] = ..., first: _Optional[int] = ..., count: _Optional[int] = ..., lengths: _Optional[bytes] = ..., blob: _Optional[bytes] = ...) -> None: ...

class RetractTasksMessage(_message.Message):
    __slots__ = ("request", "ranges")
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    RANGES_FIELD_NUMBER: _ClassVar[int]
    request: int
    ranges: _containers.RepeatedCompositeFieldContainer[HeldRangeMessage]
    def __init__(self, request: _Optional[int] = ..., ranges: _Optional[_Iterable[_Union[HeldRangeMessage, _Mapping]]] = ...) -> None: ...

class AcknowledgeReportMessage(_message.Message):
    __slots__ = ("report",)
    REPORT_FIELD_NUMBER: _ClassVar[int]
    report: int
    def __init__(self, report: _Optional[int] = ...) -> None: ...

class LeaveSessionMessage(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ExecutorReportMessage(_message.Message):
    __slots__ = ("executor", "binding", "session", "pid", "held", "entered", "log_path")
    EXECUTOR_FIELD_NUMBER: _ClassVar[int]
    BINDING_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    HELD_FIELD_NUMBER: _ClassVar[int]
    ENTERED_FIELD_NUMBER: _ClassVar[int]
    LOG_PATH_FIELD_NUMBER: _ClassVar[int]
    executor: str
    binding: int
    session: int
    pid: int
    held: HeldRangesMessage
    entered: bool
    log_path: str
    def __init__(self, executor: _Optional[str] = ..., binding: _Optional[int] = ..., session: _Optional[int] = ..., pid: _Optional[int] = ..., held: _Optional[_Union[HeldRangesMessage, _Mapping]] = ..., entered: _Optional[bool] = ..., log_path: _Optional[str] = ...) -> None: ...

class ExecutorExitedMessage(_message.Message):
    __slots__ = ("executor", "binding", "session", "exit_code", "signal", "current", "entered", "left", "failure", "killed")
    EXECUTOR_FIELD_NUMBER: _ClassVar[int]
    BINDING_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    EXIT_CODE_FIELD_NUMBER: _ClassVar[int]
    SIGNAL_FIELD_NUMBER: _ClassVar[int]
    CURRENT_FIELD_NUMBER: _ClassVar[int]
    ENTERED_FIELD_NUMBER: _ClassVar[int]
    LEFT_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    KILLED_FIELD_NUMBER: _ClassVar[int]
    executor: str
    binding: int
    session: int
    exit_code: int
    signal: int
    current: int
    entered: bool
    left: bool
    failure: bytes
    killed: bool
    def __init__(self, executor: _Optional[str] = ..., binding: _Optional[int] = ..., session: _Optional[int] = ..., exit_code: _Optional[int] = ..., signal: _Optional[int] = ..., current: _Optional[int] = ..., entered: _Optional[bool] = ..., left: _Optional[bool] = ..., failure: _Optional[bytes] = ..., killed: _Optional[bool] = ...) -> None: ...

class JoinNodeMessage(_message.Message):
    __slots__ = ("node", "instance", "capacity", "max_executors", "executors", "exits", "host", "arch", "os")
    NODE_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    CAPACITY_FIELD_NUMBER: _ClassVar[int]
    MAX_EXECUTORS_FIELD_NUMBER: _ClassVar[int]
    EXECUTORS_FIELD_NUMBER: _ClassVar[int]
    EXITS_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    ARCH_FIELD_NUMBER: _ClassVar[int]
    OS_FIELD_NUMBER: _ClassVar[int]
    node: str
    instance: str
    capacity: _types_pb2.ResourceRequirement
    max_executors: int
    executors: _containers.RepeatedCompositeFieldContainer[ExecutorReportMessage]
    exits: _containers.RepeatedCompositeFieldContainer[ExecutorExitedMessage]
    host: str
    arch: str
    os: str
    def __init__(self, node: _Optional[str] = ..., instance: _Optional[str] = ..., capacity: _Optional[_Union[_types_pb2.ResourceRequirement, _Mapping]] = ..., max_executors: _Optional[int] = ..., executors: _Optional[_Iterable[_Union[ExecutorReportMessage, _Mapping]]] = ..., exits: _Optional[_Iterable[_Union[ExecutorExitedMessage, _Mapping]]] = ..., host: _Optional[str] = ..., arch: _Optional[str] = ..., os: _Optional[str] = ...) -> None: ...

class PingNodeMessage(_message.Message):
    __slots__ = ("sent_ns",)
    SENT_NS_FIELD_NUMBER: _ClassVar[int]
    sent_ns: int
    def __init__(self, sent_ns: _Optional[int] = ...) -> None: ...

class ExecutorStartedMessage(_message.Message):
    __slots__ = ("executor", "binding", "pid", "log_path")
    EXECUTOR_FIELD_NUMBER: _ClassVar[int]
    BINDING_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    LOG_PATH_FIELD_NUMBER: _ClassVar[int]
    executor: str
    binding: int
    pid: int
    log_path: str
    def __init__(self, executor: _Optional[str] = ..., binding: _Optional[int] = ..., pid: _Optional[int] = ..., log_path: _Optional[str] = ...) -> None: ...

class NodeJoinedMessage(_message.Message):
    __slots__ = ("lease_ms",)
    LEASE_MS_FIELD_NUMBER: _ClassVar[int]
    lease_ms: int
    def __init__(self, lease_ms: _Optional[int] = ...) -> None: ...

class PongNodeMessage(_message.Message):
    __slots__ = ("sent_ns",)
    SENT_NS_FIELD_NUMBER: _ClassVar[int]
    sent_ns: int
    def __init__(self, sent_ns: _Optional[int] = ...) -> None: ...

class BindExecutorMessage(_message.Message):
    __slots__ = ("executor", "binding", "session", "session_id", "application", "spec", "resources", "start_timeout_ms", "enter_timeout_ms")
    EXECUTOR_FIELD_NUMBER: _ClassVar[int]
    BINDING_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    APPLICATION_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    RESOURCES_FIELD_NUMBER: _ClassVar[int]
    START_TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    ENTER_TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    executor: str
    binding: int
    session: int
    session_id: str
    application: str
    spec: _types_pb2.ApplicationSpec
    resources: _types_pb2.ResourceRequirement
    start_timeout_ms: int
    enter_timeout_ms: int
    def __init__(self, executor: _Optional[str] = ..., binding: _Optional[int] = ..., session: _Optional[int] = ..., session_id: _Optional[str] = ..., application: _Optional[str] = ..., spec: _Optional[_Union[_types_pb2.ApplicationSpec, _Mapping]] = ..., resources: _Optional[_Union[_types_pb2.ResourceRequirement, _Mapping]] = ..., start_timeout_ms: _Optional[int] = ..., enter_timeout_ms: _Optional[int] = ...) -> None: ...

class EndExecutorMessage(_message.Message):
    __slots__ = ("executor", "binding", "grace_ms")
    EXECUTOR_FIELD_NUMBER: _ClassVar[int]
    BINDING_FIELD_NUMBER: _ClassVar[int]
    GRACE_MS_FIELD_NUMBER: _ClassVar[int]
    executor: str
    binding: int
    grace_ms: int
    def __init__(self, executor: _Optional[str] = ..., binding: _Optional[int] = ..., grace_ms: _Optional[int] = ...) -> None: ...

class AcknowledgeExitMessage(_message.Message):
    __slots__ = ("executor", "binding")
    EXECUTOR_FIELD_NUMBER: _ClassVar[int]
    BINDING_FIELD_NUMBER: _ClassVar[int]
    executor: str
    binding: int
    def __init__(self, executor: _Optional[str] = ..., binding: _Optional[int] = ...) -> None: ...
