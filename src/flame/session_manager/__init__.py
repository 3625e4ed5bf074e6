"""The session manager: stores sessions and tasks, and shares executors between them."""
