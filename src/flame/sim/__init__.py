"""Deterministic simulation: the real core, pump, store and protocol halves in virtual time, from a seed."""
