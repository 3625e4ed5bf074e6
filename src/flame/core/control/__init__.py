"""The state machine of the session manager: `step(state, now, event)`; see `reducer`."""
