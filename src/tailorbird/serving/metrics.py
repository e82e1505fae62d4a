"""The engine's metrics, for Prometheus."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from tailorbird.serving.adapters import Registry
from tailorbird.serving.tickets import StepReport


class Metrics:
    """What the engine did, for Prometheus. `observe` is called once a step on the engine's thread; `held` is a
    Forward's."""

    def __init__(self, registry: Registry, held: Callable[[], tuple[int, int]]) -> None:
        self._collectors = CollectorRegistry()
        ProcessCollector(registry=self._collectors)
        to, name = self._collectors, "tailorbird_engine_{}".format
        self._running = Gauge(name("requests_running"), "Sequences being computed", registry=to)
        self._waiting = Gauge(name("requests_waiting"), "Sequences waiting for room", registry=to)
        self._prompt = Counter(name("prompt_tokens"), "Prompt tokens computed", registry=to)
        self._generated = Counter(name("generated_tokens"), "Tokens generated", registry=to)
        self._embedded = Counter(name("embedding_tokens"), "Tokens of texts embedded", registry=to)
        self._structured = Counter(name("structured_requests"), "Requests for structured output", registry=to)
        sizes = (1, 2, 4, 8, 16, 32, 64, 128)
        self._batch = Histogram(name("batch_size"), "Sequences in a step", registry=to, buckets=sizes)
        seconds = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
        self._seconds = Histogram(
            name("request_seconds"), "From a request to the end of its answer", ["path"], registry=to, buckets=seconds
        )
        self._answers = Counter(name("responses"), "Answers", ["path", "status"], registry=to)
        loaded = Gauge(name("adapters_loaded"), "Adapters in memory", registry=to)
        loaded.set_function(lambda: len(registry.loaded()))
        used = Gauge(name("kv_tokens"), "Positions whose keys and values are held", registry=to)
        used.set_function(lambda: held()[0])
        room = Gauge(name("kv_tokens_max"), "Positions that can be held; 0: not bounded", registry=to)
        room.set_function(lambda: held()[1])

    def observe(self, report: StepReport) -> None:
        self._running.set(report.running)
        self._waiting.set(report.waiting)
        self._embedded.inc(report.embedded_tokens)
        if report.batch:
            self._batch.observe(report.batch)
            self._prompt.inc(report.prompt_tokens)
            self._generated.inc(report.generated_tokens)

    def count_structured(self) -> None:
        """Called on the event loop."""
        self._structured.inc()

    def answered(self, path: str, status: int, seconds: float) -> None:
        """Called on the event loop; `path` is one of the routes."""
        self._seconds.labels(path).observe(seconds)
        self._answers.labels(path, str(status)).inc()

    def render(self) -> bytes:
        """In Prometheus' text format."""
        return generate_latest(self._collectors)
