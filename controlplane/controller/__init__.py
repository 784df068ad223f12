"""The control plane between sockets and decisions: the effective configuration and the cycle."""
