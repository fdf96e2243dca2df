"""The files of a run: lines of JSON, YAML, finished runs, and who copied whom."""
