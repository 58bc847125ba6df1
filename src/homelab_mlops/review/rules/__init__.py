"""What of a change is dangerous: a file of rules for each subject."""
