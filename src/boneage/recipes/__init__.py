"""One folder a method: its settings, how it reads, and how it is trained."""
