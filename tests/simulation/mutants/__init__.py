"""Deliberate one-place mutations of the engine, and a run that shows that the simulation catches each.

A mutant is data: an entry of `core.toml` or `protocol.toml`. `python -m tests.simulation.mutants` applies each to a
copy of `src/` and simulates seeds there until one fails.
"""
