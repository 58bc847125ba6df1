"""How Argo CD finds Applications in a repository, and what it renders from each."""
