"""Networks: `ModelMixin`/`ConfigMixin` classes, one flat file per network family."""
