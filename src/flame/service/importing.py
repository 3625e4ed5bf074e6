"""Whether this process is importing a user's service just now.

`flame.connect()` fails while it does: a script that connects outside of an `if __name__ == "__main__"` guard would
open sessions from inside its own executors, without end.
"""

active: bool = False
"""Set by an executor for the time in which it imports its service."""

source: str = ""
"""What is imported, e.g. `/home/me/app.py:Service`; for the error message."""
