"""The session scheduler: a pure function from a view of the cluster to a plan."""
