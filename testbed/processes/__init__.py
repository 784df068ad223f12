"""Real programs as children: control planes, Envoy, NATS, a browser, and the ports they use."""
