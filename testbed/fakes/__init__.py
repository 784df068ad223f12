"""Working stand-ins that run in the test's process: instances, upstreams, APIs, configurations."""
