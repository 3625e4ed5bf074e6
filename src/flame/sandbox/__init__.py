"""Isolation around services: what keeps an executor's processes together, and how nothing of them stays."""
