"""A plan to Envoy messages: one small builder per message kind, then a snapshot per view."""
