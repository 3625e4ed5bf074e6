"""The pure core: what Flame decides. No I/O, no clock, no randomness."""
