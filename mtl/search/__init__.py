"""Searches over strategies, their hyperparameters and training settings, on top of a population."""
