"""Real faults on real processes: a cluster under load, broken at random, and judged by what everybody logged."""
