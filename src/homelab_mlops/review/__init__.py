"""`homelab diff`: shows what a change of the repository changes in the cluster, and which changes are dangerous."""
