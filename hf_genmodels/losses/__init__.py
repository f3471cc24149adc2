"""Pure functions: tensors in, tensors out; no randomness of their own."""
