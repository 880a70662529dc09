"""What the service counts: for Prometheus at /metrics, and for the page at /v1/stats."""

import os
import time
from collections import deque
from functools import partial
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from louder.serving.wire import Json

SECONDS_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1, 2, 5)
SIZES = (1, 2, 4, 8, 16, 32, 64)
SECONDS = 60  # that /v1/stats looks back
LATEST = 1000  # requests whose times it takes quantiles of
SHARED = "PROMETHEUS_MULTIPROC_DIR"  # the folder where processes of one service count; read when the library is loaded


class Metrics:
    """Of several processes, each counts in a file of its own, and any of them tells the sums; `stats` are its own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        counter, histogram = partial(Counter, registry=registry), partial(Histogram, registry=registry)
        summed = partial(Gauge, multiprocess_mode="livesum", registry=registry)
        alike = partial(Gauge, multiprocess_mode="livemax", registry=registry)  # all processes take the same models
        self.requests = counter("louder_requests", "Requests by route and status", ["route", "status"])
        self.seconds = histogram("louder_request_seconds", "Time of a request", ["route"], buckets=SECONDS_BUCKETS)
        self.batch = histogram("louder_batch_size", "Requests that shared a pass", buckets=SIZES)
        self.abandoned = summed("louder_abandoned", "Requests not computed, since who asked had gone or had a deadline")
        self.events = counter("louder_events_stored", "Events stored")
        self.in_flight = summed("louder_in_flight", "Requests being answered")
        self.cached = summed("louder_cached_histories", "Histories whose keys and values are kept")
        self.cached_bytes = summed("louder_cached_bytes", "Bytes of kept keys and values")
        self.hits = summed("louder_cache_hits", "Histories that were found kept, of the live model")
        self.misses = summed("louder_cache_misses", "Histories that were not, of the live model")
        self.reloads = alike("louder_reloads", "New models taken")
        self.refused = alike("louder_reloads_refused", "New models refused")
        self.variants = counter("louder_variant_answers", "Answers by variant", ["variant"])
        self.version = alike(
            "louder_version", "Number of the version that answers, where a folder of versions is followed"
        )
        self.gate_refused = alike("louder_gate_refused", "Models that the gate of that folder has refused lately")
        self.logged = summed("louder_log_records", "Records that the event log has acknowledged")
        self.log_refused = summed("louder_log_refused", "Records that the event log did not take")
        self.answers_lost = summed("louder_log_answers_lost", "Answers that were given and are not in the event log")
        self.store_lag = summed("louder_log_store_lag", "Records of the event log that the store may not have")
        self.latest: deque[float] = deque(maxlen=LATEST)  # seconds
        self.per_second, self.newest = [0] * SECONDS, int(time.time())

    def observe(self, route: str, status: int, seconds: float) -> None:
        """A request was answered. The page's own polling (/v1/stats) is no traffic."""
        self.requests.labels(route, str(status)).inc()
        self.seconds.labels(route).observe(seconds)
        if route.startswith("/v1/") and route != "/v1/stats":
            self.latest.append(seconds)
            self.roll()
            self.per_second[self.newest % SECONDS] += 1

    def exposition(self) -> bytes:
        """In the text format of Prometheus."""
        folder = os.environ.get(SHARED)
        if not folder:
            return generate_latest(self.registry)
        for file in Path(folder).glob("gauge_live*_*.db"):
            pid = int(file.stem.rpartition("_")[2])
            try:
                os.kill(pid, 0)  # is it there?
            except ProcessLookupError:
                mark_process_dead(pid, folder)  # what it counted stays, what it held has gone
        registry = CollectorRegistry()
        MultiProcessCollector(registry, folder)
        return generate_latest(registry)

    def roll(self) -> None:
        """Begin the seconds that have come since the last request."""
        now = int(time.time())
        for second in range(max(self.newest + 1, now - SECONDS + 1), now + 1):
            self.per_second[second % SECONDS] = 0
        self.newest = max(self.newest, now)

    def stats(self) -> dict[str, Json]:
        """messages.StatsAnswer"""
        self.roll()
        seconds = range(self.newest - SECONDS + 1, self.newest + 1)
        ordered = sorted(self.latest)

        def quantile_ms(share: float) -> float:
            return round(1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))], 3) if ordered else 0.0

        return {
            "seconds": list(seconds),
            "requests": [self.per_second[second % SECONDS] for second in seconds],
            "p50_ms": quantile_ms(0.5),
            "p99_ms": quantile_ms(0.99),
            "in_flight": int(self.in_flight._value.get()),
            "cached_histories": int(self.cached._value.get()),
        }
