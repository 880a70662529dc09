"""The watermark waits for partitions in which something comes, and for no others."""

import random

from louder.streaming import Logged, Watermark
from tests.streaming.records_of import done


def seen(partition, seconds):
    return Logged(partition, 0, 1000 * seconds + 999, done(1))


def after(*stamps, **options):
    watermark = Watermark(2, lateness_s=10, idle_s=100, **options)
    for partition, seconds in stamps:
        watermark.see(seen(partition, seconds))
    return watermark


def test_it_is_the_least_of_the_partitions_less_the_lateness():
    assert after().advance() is None
    assert after((0, 1_000)).advance() == 990
    assert after((0, 1_000), (1, 1_050)).advance() == 990
    assert after((0, 1_040), (1, 1_000), (1, 1_050)).advance() == 1_030
    # one that never had anything counts from the beginning
    assert after((0, 1_000), (0, 1_080)).advance() == 990


def test_an_idle_partition_is_not_waited_for():
    assert after((0, 1_000), (1, 1_100)).advance() == 990
    watermark = after((0, 1_000), (1, 1_101))
    assert watermark.advance() == 1_091 and watermark.idle() == [0]
    watermark.see(seen(0, 1_050))  # it comes back
    assert watermark.idle() == [] and watermark.advance() == 1_091  # and never goes back
    watermark.see(seen(0, 1_200))
    assert watermark.advance() == 1_091 and watermark.idle() == []


def test_the_order_of_arrival_does_not_matter():
    stamps = [(n % 2, 1_000 + 7 * n) for n in range(20)]
    shuffled = random.Random(1).sample(stamps, len(stamps))
    assert after(*stamps).advance() == after(*shuffled).advance() == 1_000 + 7 * 18 - 10
