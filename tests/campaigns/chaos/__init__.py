"""The chaos campaign: everything is broken on purpose, under load, and nothing may be lost or happen twice."""
