"""What share of each kind of request each instance should get: a view in, a plan out."""

from controlplane.steering.plan import Allocation, Assignment, Exclusion, Plan, Why
from controlplane.steering.steering import Steering

__all__ = ["Allocation", "Assignment", "Exclusion", "Plan", "Steering", "Why"]
