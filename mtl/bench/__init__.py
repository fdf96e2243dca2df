"""Speed against peers, always as ratios from one run."""
