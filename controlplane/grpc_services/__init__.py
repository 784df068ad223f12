"""The gRPC services for Envoys and agents: ADS, LRS, metrics, CSDS, reports. Decides nothing."""
