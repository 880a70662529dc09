"""What counts as traffic, in which second, and how long it took."""

import pytest

from louder.serving import messages as m
from louder.serving.metrics import LATEST, SECONDS, Metrics


@pytest.fixture
def clock(monkeypatch):
    """clock(seconds) sets the time."""
    now = [1_000_000.0]
    monkeypatch.setattr("louder.serving.metrics.time.time", lambda: now[0])

    def turn(seconds):
        now[0] = seconds

    return turn


@pytest.mark.parametrize(
    ("route", "counts"),
    [
        ("/v1/recommend", True),
        ("/v1/events", True),
        ("/v1/users/{user}/history", True),
        ("/v1/model", True),
        ("/v1/stats", False),  # the page asks every second, and nobody waits for the answer
        ("/metrics", False),
        ("/healthz", False),
        ("/readyz", False),
        ("/", False),
        ("other", False),
    ],
)
def test_polling_and_files_are_no_traffic(clock, route, counts):
    metrics = Metrics()
    metrics.observe(route, 200, 0.25)
    stats = metrics.stats()
    assert sum(stats["requests"]) == counts and stats["p50_ms"] == (250.0 if counts else 0.0)
    assert f'louder_requests_total{{route="{route}",status="200"}} 1.0' in metrics.exposition().decode()


def test_a_request_counts_in_its_second_and_for_a_minute(clock):
    clock(1_000_000.9)
    metrics = Metrics()
    metrics.observe("/v1/rank", 200, 0.1)
    clock(1_000_002.0)
    metrics.observe("/v1/rank", 422, 0.1)
    metrics.observe("/v1/rank", 200, 0.1)
    stats = metrics.stats()
    assert stats["seconds"] == list(range(1_000_002 - SECONDS + 1, 1_000_003))
    assert stats["requests"] == [0] * (SECONDS - 3) + [1, 0, 2]
    clock(1_000_000 + SECONDS - 1)
    assert sum(metrics.stats()["requests"]) == 3 and metrics.stats()["requests"][0] == 1
    clock(1_000_000 + SECONDS)
    assert metrics.stats()["requests"][:3] == [0, 2, 0]
    clock(1_000_002 + SECONDS)
    assert metrics.stats()["requests"] == [0] * SECONDS


@pytest.mark.parametrize("pause", [SECONDS - 1, SECONDS, SECONDS + 1, 10 * SECONDS + 7])
def test_after_a_pause_nothing_old_is_counted_again(clock, pause):
    metrics = Metrics()
    for second in range(3):
        clock(1_000_000 + second)
        metrics.observe("/v1/rank", 200, 0.1)
    clock(1_000_002 + pause)
    metrics.observe("/v1/rank", 200, 0.1)
    stats = metrics.stats()
    assert stats["requests"][-1] == 1 and sum(stats["requests"]) == 1 + (pause == SECONDS - 1)
    assert stats["seconds"][-1] == 1_000_002 + pause


def test_a_clock_that_goes_back_loses_nothing(clock):
    metrics = Metrics()
    metrics.observe("/v1/rank", 200, 0.1)
    clock(999_990)
    metrics.observe("/v1/rank", 200, 0.1)
    assert metrics.stats()["requests"][-1] == 2 and metrics.stats()["seconds"][-1] == 1_000_000


def test_quantiles_are_of_the_latest_thousand(clock):
    metrics = Metrics()
    assert (metrics.stats()["p50_ms"], metrics.stats()["p99_ms"]) == (0.0, 0.0)
    metrics.observe("/v1/rank", 200, 7.0)
    for n in range(LATEST):
        metrics.observe("/v1/rank", 200, (n * 7 % LATEST) / 1000)  # 0 .. 999 ms, in no order; the 7 s have gone
    stats = metrics.stats()
    assert (stats["p50_ms"], stats["p99_ms"]) == (500.0, 990.0)


def test_the_exposition_has_every_metric_under_its_name(clock):
    metrics = Metrics()
    metrics.observe("/v1/rank", 200, 0.03)
    metrics.batch.observe(3)
    metrics.events.inc(2)
    metrics.in_flight.inc()
    text = metrics.exposition().decode()
    for line in (
        "louder_events_stored_total 2.0",
        "louder_in_flight 1.0",
        'louder_batch_size_bucket{le="2.0"} 0.0',
        'louder_batch_size_bucket{le="4.0"} 1.0',
        'louder_request_seconds_bucket{le="0.02",route="/v1/rank"} 0.0',
        'louder_request_seconds_bucket{le="0.05",route="/v1/rank"} 1.0',
        'louder_request_seconds_sum{route="/v1/rank"} 0.03',
        *(
            f"louder_{name} 0.0"
            for name in ("cached_histories", "cached_bytes", "cache_hits", "cache_misses", "abandoned")
        ),
        *(f"louder_{name} 0.0" for name in ("reloads", "reloads_refused")),
    ):
        assert line in text.splitlines()
    stats = metrics.stats()
    assert stats["in_flight"] == 1 and stats["cached_histories"] == 0
    m.StatsAnswer.model_validate(stats)
