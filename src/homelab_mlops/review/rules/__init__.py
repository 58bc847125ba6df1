"""The rules that say what of a change is dangerous: a file a subject, collected by `table.py`."""
