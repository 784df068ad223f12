"""How several replicas share reports and one plan; in-process by default."""
