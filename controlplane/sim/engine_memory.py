"""What a simulated engine keeps in memory: models, and the prompts of sessions."""

from __future__ import annotations

from controlplane.sim.engine_spec import EngineLoad, EngineSpec


class EngineMemory:
    """The models and prompts that one engine holds, the least recently used one giving way.

    Attributes:
        loadings: models that had to be loaded.
        prefix_queries: tokens of prompts that were looked up.
        prefix_hits: those of them that were known.
    """

    __slots__ = ("_cached", "_held", "_load", "_spec", "loadings", "prefix_hits", "prefix_queries")

    def __init__(self, spec: EngineSpec, load: EngineLoad) -> None:
        self._spec = spec
        self._load = load
        self._held: dict[int, bool] = {}
        self._cached: dict[int, None] = {}
        self.loadings = 0
        self.prefix_queries = 0.0
        self.prefix_hits = 0.0

    def restart(self) -> None:
        """Forget prompts and start their counters at 0, as a restarted engine does."""
        self.prefix_queries = self.prefix_hits = 0.0
        self._cached.clear()

    def hold(self, model: int) -> float:
        """Have *model* loaded, and return the work of that."""
        held = self._held
        known = held.pop(model, False)
        held[model] = True
        if known:
            return 0.0
        self.loadings += 1
        if len(held) > self._spec.max_loaded:
            del held[next(iter(held))]
        return self._spec.load_time

    def recall(self, request: int) -> float:
        """Remember the session of *request*; return the part of its prompt that was known."""
        spec, load = self._spec, self._load
        if not spec.cached_sessions or not load.session or load.session[request] < 0:
            return 0.0
        session, cached = load.session[request], self._cached
        known = session in cached
        cached.pop(session, None)
        cached[session] = None
        if len(cached) > spec.cached_sessions:
            del cached[next(iter(cached))]
        found = spec.cache_saves if known else 0.0
        self.prefix_queries += load.prompt[request]
        self.prefix_hits += found * load.prompt[request]
        return found
