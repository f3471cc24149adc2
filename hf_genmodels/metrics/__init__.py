"""Metrics: pure functions of tensors, and the feature extractors they look through."""
