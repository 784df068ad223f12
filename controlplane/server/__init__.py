"""Everything of the control plane that opens a socket: ADS, telemetry, scraping, admin HTTP."""
