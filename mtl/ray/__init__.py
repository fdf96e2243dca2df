"""Searches on many devices and nodes: the only importer of Ray."""
