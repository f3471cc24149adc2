"""Templates of the model cards, one for each family around `_base.md`, and the cards of the reference runs."""
