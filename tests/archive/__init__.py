"""The false year, and what is measured on it."""
