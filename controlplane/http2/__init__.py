"""GRPC over HTTP/2, for long streams: a server, and a client that is small.

What grpcio's server spends per message (a thread hop, a copy, a coroutine's round through its
completion queue) is most of what a push costs once the bytes are shared.
This one calls the receiver of a message straight from the socket's callback and writes shared
bytes without copying them, framing included.
Both sides share frames, flow control and bounds, and speak the part of HTTP/2 (RFC 9113) and of
gRPC's HTTP/2 mapping that streams need.
"""
