"""The steps of a retraining; each runs alone, reads and writes files, and can run again."""
