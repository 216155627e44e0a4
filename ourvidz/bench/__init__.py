"""A false year, true in every chain and projection, and what the service takes to look into it."""
