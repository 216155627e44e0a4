"""The whole service in one thread under a fake clock, killed at every numbered effect."""
