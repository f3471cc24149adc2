"""The one training loop and one thin script per family."""
