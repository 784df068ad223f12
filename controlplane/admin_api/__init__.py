"""The admin port: HTTP API, its documents and the dashboard."""
