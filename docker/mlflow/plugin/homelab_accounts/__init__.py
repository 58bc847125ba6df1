"""An app of MLflow's server: basic auth, and the rights of each login by route."""
