"""The service: answers with the model version that git names. Imports nothing that its own extra does not bring."""
