"""`mtl auto`: decides on losses, weights, regularization, optimizer and architecture within a time."""
