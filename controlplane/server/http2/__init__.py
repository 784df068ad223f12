"""A gRPC server over HTTP/2 for long streams that get the same bytes.

What grpcio's server spends per message (a thread hop, a copy, a coroutine's round through its
completion queue) is most of what a push costs once the bytes are shared.
This one calls the receiver of a message straight from the socket's callback and writes shared
bytes without copying them, framing included.
It speaks the part of HTTP/2 (RFC 9113) and of gRPC's HTTP/2 mapping that servers of streams need.
"""
