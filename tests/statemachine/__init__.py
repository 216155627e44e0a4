"""The history, and what may happen in it."""
