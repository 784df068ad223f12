"""The agent of a site: service and network metrics (CATS: C-SMA and C-NMA)."""
