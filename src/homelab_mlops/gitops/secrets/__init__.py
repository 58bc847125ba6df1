"""The credentials of the platform: which there are, how they are made, sealed, shown and replaced."""
