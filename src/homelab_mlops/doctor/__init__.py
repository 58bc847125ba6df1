"""The doctor: names what is wrong with tracking, store, cluster and repository, each fault by one code with its fix."""
