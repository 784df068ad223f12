"""Generated protobuf classes of our own protocol; see ``protos/``."""
