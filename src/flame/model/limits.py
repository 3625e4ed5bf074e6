"""Every bound of the engine, in one place.

A bound is part of the interface: it is documented here, checked where data enters, and tested at its edge.
Units stand at the end of each name.
"""

from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB
GIB: Final = 1024 * MIB

# --- names -----------------------------------------------------------------------------------------------------------
MAX_SESSION_ID_CHARS: Final = 128
MAX_APPLICATION_NAME_CHARS: Final = 253
MAX_NODE_NAME_CHARS: Final = 253

# --- tasks and chunks ------------------------------------------------------------------------------------------------
MAX_CHUNK_TASKS: Final = 1024
"""Tasks in one chunk, assignment or segment."""
MAX_CHUNK_BYTES: Final = 1 * MIB
"""Input bytes after which a chunk is cut; one task alone may be larger, up to `MAX_TASK_BYTES`."""
MAX_TASK_BYTES: Final = 4 * MIB
"""Default bound for the input and for the output of one task (configurable)."""
MAX_TASK_BYTES_CEILING: Final = 32 * MIB
"""The largest value `max_task_bytes` can be configured to."""
MAX_COMMON_DATA_BYTES: Final = 16 * MIB
MAX_MESSAGE_BYTES: Final = 64 * MIB
"""One message of any carrier: the largest task or common data, with room for its envelope."""
BLOCK_TASKS: Final = 1 << 32
"""Task ids granted to one submitter at a time."""
MAX_TASK_ID: Final = (1 << 63) - 1

# --- flow control ----------------------------------------------------------------------------------------------------
SUBMIT_WINDOW_BYTES: Final = 8 * MIB
"""Input bytes a submitter may have sent and not yet seen acknowledged."""
RESULT_WINDOW_BYTES: Final = 8 * MIB
"""Result bytes the session manager may have sent to one client and not yet seen acknowledged."""
MAP_WINDOW_BYTES: Final = 32 * MIB
"""Output bytes a `Session.map` holds or has to expect before it submits more."""
TASK_OVERHEAD_BYTES: Final = 32
"""What one task adds to the byte accounting beside its payload."""
PURGE_PAUSE_MS: Final = 50
"""Between two times that rows of deleted sessions are removed: other work comes first, and a full disk is not tried
without end."""
RESIDENT_INPUT_BYTES: Final = 48 * MIB
"""Inputs of queued tasks the session manager keeps in memory; the rest is read back from the store."""
LOAD_BYTES: Final = 2 * MIB
"""Inputs read back from the store at a time, per session."""
MAX_READ_SEGMENTS: Final = 1024
"""Result segments the store returns at a time."""
MAX_LINK_BUFFER_BYTES: Final = 64 * MIB
"""Bytes buffered for a peer that does not read; beyond them the connection is closed."""
MAX_UNREAD_BYTES: Final = 512 * MIB
"""Bytes buffered for all peers of the session manager that do not read as fast as it writes; beyond them the
connection with most of them is closed."""
MAX_WAITING_BYTES: Final = 512 * MIB
"""Payloads that may wait in the session manager for their turn; above, clients that bring more are sent away to try
again. Executors are bounded by what they may hold unacknowledged."""
MAX_CONNECTIONS: Final = 50_000
"""Peers of one session manager, as far as its limit of open files allows."""
MAX_CLIENT_ID_CHARS: Final = 64
"""Of the id by which a client is known again on its next connection."""
HELLO_TIMEOUT_S: Final = 10
"""A peer that has not said Hello by then is sent away."""
MAX_STRANGERS: Final = 4_096
"""Peers that have not said Hello yet; when there are more, the one that has been silent longest goes."""
MESSAGE_STALL_S: Final = 10
"""A peer that has begun a message and then sends less than `MESSAGE_PROGRESS_BYTES` of it for so long is sent away."""
MESSAGE_PROGRESS_BYTES: Final = 4 * KIB
MAX_UNFINISHED_BYTES: Final = 256 * MIB
"""Messages of all peers of which a part has arrived; beyond, the peer with the largest one is sent away."""
MAX_REQUEST_BYTES: Final = 1 * MIB
"""Of a published request that brings no input and no common data: read, its lists take many times their bytes."""
MAX_UNARY_PER_TURN: Final = 8
"""Unary calls that are begun in one pass of the session manager's event loop; streams have their turn in between."""
MAX_MESSAGES_AT_ONCE: Final = 64
"""Messages of one client that are handled before others have their turn, where more arrives than is handled."""
MAX_WARNINGS_PER_S: Final = 20
"""Log lines about peers that misbehave; what is beyond is counted in one line."""
MAX_CAPABILITIES: Final = 64
"""Of a peer, in its Hello."""
MAX_ATTACHMENTS_PER_CONNECTION: Final = 1_024
MAX_CALLS_PER_CONNECTION: Final = 256
"""Unary calls of one peer that are under way on its stream; while more wait, nothing more is read from it."""

# --- executors -------------------------------------------------------------------------------------------------------
CREDIT_MS: Final = 30
"""Work an executor is topped up to, at the session's measured task time."""
CREDIT_BYTES: Final = 4 * MIB
CREDIT_TASKS: Final = 16 * 1024
"""Most tasks an executor holds, however short they are."""
MAX_HELD_RANGES: Final = 64
"""Ranges an executor may hold: the size of its table in shared memory."""
MAX_PROCESSES_PER_NODE: Final = 16 * 1024
"""Executors a node tells of at a time, and exits: a list of small things takes many times its bytes once it is read."""
MAX_TASK_DEATHS: Final = 3
"""Deaths of an executor while it ran a task, after which the task fails alone."""
MAX_HOST_ENDS: Final = 10
"""Ends of the process that executors are forked from while a task ran, after which the task fails: it may be what kills
that process, and no other limit would end that."""
MAX_UNEXPLAINED_ENDS: Final = 5
"""Ends in a row, without an outcome between them, of executors that held tasks and of which nobody knows what they ran:
from then on each is charged to the first task held."""
MAX_START_FAILURES: Final = 5
"""Failures in a row to start or to enter a session, after which the session's tasks fail."""
LEASE_MS: Final = 30_000
LEASE_MARGIN_MS: Final = 1_000
"""How long after the end of a node's lease the session manager counts on its executors to be dead: the node looks at
its lease every so often, and then has to kill them."""
FORGET_NODE_MS: Final = 600_000
"""How long a node is still shown as not ready after its lease is over."""
RECONNECT_GRACE_MS: Final = 2_000
"""How long a restarted session manager waits for a node whose link is not back."""
START_TIMEOUT_MS: Final = 30_000
"""From the start of an executor's process until it is attached."""
ENTER_TIMEOUT_MS: Final = 60_000
"""Longest session enter (configurable per cluster)."""
LEAVE_TIMEOUT_MS: Final = 10_000
"""Longest session leave; after it the process is killed."""
UNFIT_WARNING_MS: Final = 2_000
"""After this a session that fits no node is warned."""
ROTATION_MS: Final = 250
"""Executor time by which one session may be ahead of an equal one before an executor changes hands."""
DELAY_RELEASE_MS: Final = 60_000
MAX_LOG_BYTES: Final = 16 * MIB
"""Output kept per executor: the file and its predecessor together."""
MAX_LOG_FILES: Final = 1_000
"""Log files a node keeps; the oldest of executors that have ended are removed first."""
MAX_LOG_FILES_BYTES: Final = 1 * GIB
"""Their bytes together. Logs of live executors come on top."""

# --- text ------------------------------------------------------------------------------------------------------------
MAX_ERROR_CHARS: Final = 16 * KIB
"""Message and traceback of a failed task are cut to this many characters each."""
