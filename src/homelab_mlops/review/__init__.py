"""`homelab diff`: what a change of the repository changes in the cluster, and what of it is dangerous."""
