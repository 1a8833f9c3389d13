"""Synthetic events: a shop that never was, but could have been."""
