"""TLS of the pages: the authority and its certificates, and the manifests that name them."""
