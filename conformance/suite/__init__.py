"""The conformance suite: clients x cases, on each kind of store."""
