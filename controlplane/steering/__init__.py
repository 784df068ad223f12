"""What share of each kind of request each instance should get: a view in, a plan out."""
