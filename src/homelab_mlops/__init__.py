"""A machine-learning platform for a homelab, in one git repository."""

__version__ = "0.1.0"
