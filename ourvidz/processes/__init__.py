"""The long-running processes: each a thin shell of threads around plain objects."""
