"""How the others are spoken to: Kubernetes, git, a forge, MLflow and S3. Nobody else opens a connection to them."""
