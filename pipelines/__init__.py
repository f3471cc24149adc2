"""Pipelines: what a user loads, samples, encodes and shares."""
