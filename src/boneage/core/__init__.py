"""Frozen values, errors, protocols and the registry: what every layer may import."""
