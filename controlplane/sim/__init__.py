"""Discrete-event simulation of a fleet, with the same deciding code under its own clock."""
