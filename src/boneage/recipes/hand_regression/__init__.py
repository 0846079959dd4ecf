"""Whole-hand regression of the bone age, after paper 4."""
