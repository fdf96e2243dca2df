"""Searches over strategies, their hyperparameters, losses and training settings."""
