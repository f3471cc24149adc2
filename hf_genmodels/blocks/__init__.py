"""Layers used by two or more networks."""
