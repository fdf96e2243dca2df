"""What happens in one step: collect losses, measure signals, weigh them, apply the weights."""
