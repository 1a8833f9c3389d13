"""A new feature repo from a template."""
