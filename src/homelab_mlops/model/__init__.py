"""What a model is: its spec, its parameters, how it scores, and what promotes it."""
