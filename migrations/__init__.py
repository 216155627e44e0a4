"""The history of the tables, for SQLite and PostgreSQL. Carried in the wheel as `ourvidz.migrations`."""
