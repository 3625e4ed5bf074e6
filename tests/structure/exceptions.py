"""Every exception from the written style, with its reason. There is no other list."""

WITHOUT_TEST_FILE: dict[str, str] = {
    "carriers/port.py": "an interface without code: its conformance suite is tests/carriers",
}
"""Modules (relative to src/flame) without a test file of their own."""

LONGER_THAN_500_LINES: dict[str, str] = {}
"""Modules (relative to src/flame) of more than 500 lines."""

LONGER_THAN_60_LINES: dict[str, str] = {}
"""Functions (`module.py:function`) of more than 60 lines."""

FIXED_SLEEPS: dict[str, str] = {}
"""Test files (relative to tests) that sleep for a fixed time."""

NAMES: dict[str, str] = {
    "ManagerMessage": "what the session manager says on a stream, as the counterpart of PeerMessage",
    "_MANAGER": "the messages of ManagerMessage by field number, as the counterpart of _PEER",
    "decode_manager": "reads a ManagerMessage, as the counterpart of decode_peer",
    "decode_manager_batch": "reads many ManagerMessages, as the counterpart of decode_peer_batch",
}
"""Names with a word that is not one of Flame's."""
