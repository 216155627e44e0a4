"""Archives of old jobs: folders of Parquet files that everybody can read."""
