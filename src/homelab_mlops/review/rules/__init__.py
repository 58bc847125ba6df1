"""The rules that say which changes are dangerous. Each subject has a file; `table.py` collects them."""
