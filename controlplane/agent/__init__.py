"""The agent of a site (CATS: C-SMA and C-NMA): measures instances, machine, network; reports.

It dials out only, so that it works behind NAT; what it opens itself listens on loopback by default.
Wired by `controlplane.agent.run`.
"""
