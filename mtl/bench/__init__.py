"""Speed benches."""
