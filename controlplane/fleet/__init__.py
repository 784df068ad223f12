"""What is true of the fleet now: reports in, a frozen view out.

Freshness, plausibility and availability are decided here.
"""
