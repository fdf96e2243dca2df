"""A cohort in shards, wherever each of them is trained."""
