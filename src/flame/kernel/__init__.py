"""Pure data structures that know nothing of Flame."""
