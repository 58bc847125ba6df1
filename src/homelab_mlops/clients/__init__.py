"""The clients of Kubernetes, git, a forge, MLflow and S3. Only this room opens a connection to them."""
