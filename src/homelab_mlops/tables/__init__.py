"""How a table is read: which files it has, what each of them holds, and what a column becomes."""
