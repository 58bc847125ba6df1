"""What a person runs in the repository. This room imports neither MLflow nor XGBoost."""
