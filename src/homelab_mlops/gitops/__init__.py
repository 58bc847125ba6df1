"""What a person runs in the repository. Imports neither MLflow nor XGBoost."""
