"""The xDS protocol without sockets: requests and snapshots in, responses and events out."""
