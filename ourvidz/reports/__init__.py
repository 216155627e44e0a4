"""Reports: what all jobs together did, over any span, as a table, as data, or as a picture."""
