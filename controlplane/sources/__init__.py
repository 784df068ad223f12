"""Reads what instances say of themselves over the network, for the control plane and for agents.

A source opens connections, asks, and calls back with reports; what an answer means is
`controlplane.telemetry`'s business, and what follows from it the fleet's.
"""
