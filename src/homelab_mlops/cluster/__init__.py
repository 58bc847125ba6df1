"""What a person does to a running cluster: bootstrap, status, run, data, models, promote."""
