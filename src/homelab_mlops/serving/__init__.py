"""The service: answers with the model version that git names. It imports only packages of its own extra."""
