"""What the control plane costs and how fast it is, measured as ratios within one run."""
