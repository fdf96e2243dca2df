"""The gradients of all tasks of a step at once: where their graphs meet, and what is cheapest from there."""
