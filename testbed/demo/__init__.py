"""The demo: its script, its world, its traffic and its screen."""
