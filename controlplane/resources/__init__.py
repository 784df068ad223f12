"""A plan to Envoy messages: one small builder for each kind, one snapshot for each client site.

Nothing is imported here: a bootstrap needs no generated message, and they take seconds to load.
"""
