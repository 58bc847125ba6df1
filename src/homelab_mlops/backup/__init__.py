"""Backups of what lies on volumes, the drill that proves them, and the way back."""
