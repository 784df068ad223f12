"""GRPC for long streams, server and client, over HTTP/2 as the h2 library keeps it.

`connection` is sans-IO: bytes and instants in, bytes and events out.
`front` drives one connection from asyncio; `server` and `client` own fronts; `grpcio` serves the
same methods through ``grpc.aio`` instead.
`calls` is the one interface that services see, whichever of them carries a call.
`limits` holds every bound on what a peer may cost.
"""
