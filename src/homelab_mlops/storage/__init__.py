"""The object store: what it holds is declared, and brought to that state."""
