"""Age classes without a label: auto-encoders of key regions, and groups of their latent vectors (paper 2)."""
