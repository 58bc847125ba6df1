"""The object store: a file declares its state, and a command brings it to that state."""
