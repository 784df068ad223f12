"""Computing-aware traffic steering for AI inference.

A control plane that reads what every serving instance and every network path reports,
works out what share of each kind of request each place should get,
and pushes those shares to unmodified Envoys as weighted endpoints over xDS.
It is never in the path of a request.

Data flows one way: config and reports -> fleet -> steering -> resources -> xds -> server.
"""

__version__ = "0.1.0"
