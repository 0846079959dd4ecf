"""Manifests, splits and drawn hands: everything that feeds training and evaluation with images."""
