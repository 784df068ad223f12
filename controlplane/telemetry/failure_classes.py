"""How an attempt failed, by its status code and Envoy's response flags."""

from __future__ import annotations

from controlplane.model import FailureClass

_NO_CONNECTION = frozenset({"UF", "UH", "UO"})
_CUT = frozenset({"UC", "LR", "UR", "UPE", "UMSDR", "SI", "DT"})
_TIMED_OUT = "UT"
"""Response flags that say the attempt failed through the instance, its network or its queue, even
when a good status had been sent already
(https://www.envoyproxy.io/docs/envoy/latest/configuration/observability/access_log/usage).
Seen on Envoy 1.40: a refused connection is 0 and UF, a reset 0 or 200 and UC or UPE, a time per
attempt that ran out 0 and UT; a stream that a route's timeout cuts ends as 200 without a flag, and
only the log of clients' requests then says UT."""
_OVERLOADED = frozenset({"429", "503", "529"})


CUT_BY_ENVOY = frozenset({"UT", "SI", "DT"})


def failure_class(code: str, flags: str) -> FailureClass | None:
    """Return how an attempt failed.

    A client that leaves is no failure: such an attempt has neither a flag nor an answer.

    Args:
        code: HTTP status of the answer, ``0`` if none came.
        flags: Envoy's response flags, joined by commas.

    Returns:
        None if it was answered well or left.
    """
    reported = set(flags.split(","))
    if not _NO_CONNECTION.isdisjoint(reported):
        return FailureClass.REFUSED
    if _TIMED_OUT in reported:
        return FailureClass.LATE if code in {"", "0", "504"} else FailureClass.UNANSWERED
    if not _CUT.isdisjoint(reported):
        return FailureClass.UNANSWERED
    if code in _OVERLOADED:
        return FailureClass.OVERLOAD
    if code.startswith("5"):
        return FailureClass.SERVER_ERROR
    return FailureClass.CLIENT_ERROR if code.startswith("4") else None
