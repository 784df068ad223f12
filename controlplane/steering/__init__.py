"""What share of each kind of request each instance should get: a view in, a plan out."""

from controlplane.steering.brain import Steering
from controlplane.steering.plan import Allocation, Assignment, Exclusion, Plan, Why

__all__ = ["Allocation", "Assignment", "Exclusion", "Plan", "Steering", "Why"]
