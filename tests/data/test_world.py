"""A world whose truth is known: the same seed is the same world, and who knows more earns more."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from louder.data.world import HOUR, Impression, World, WorldSettings, examined, sigmoid
from louder.data.world_log import play
from louder.errors import InputError

SMALL = WorldSettings(users=60, items=80, seed=4)


def live(world, hours, policy, k=5, every=600):
    """All events, and the mean reward of a list, where `policy`(world, user, k) makes the lists."""
    events, rewards = [], []
    for _ in range(hours * HOUR // every):
        until, shown = world.now + every, []
        for time, user in world.visitors(until):
            items = policy(world, user, k)
            rewards.append(world.reward(user, items))
            shown.append(Impression(f"{time}-{user}-{len(rewards)}", user, time, tuple(items)))
        events += world.step(until, shown)
    return events, float(np.mean(rewards))


def test_the_same_seed_is_the_same_world_and_another_is_not():
    (first, earned), (again, _), (other, _) = (
        live(World(settings), 12, World.popular)
        for settings in (SMALL, SMALL, WorldSettings(users=60, items=80, seed=5))
    )
    assert first == again != other and len(first) > 40 and earned > 0


def test_what_is_shown_changes_neither_who_comes_nor_what_is_there():
    one, two = World(SMALL), World(SMALL)
    live(one, 6, World.oracle)
    two.step(one.now)
    assert (one.tastes == two.tastes).all() and (one.direction == two.direction).all()
    assert one.visitors(one.now + 7_200) == two.visitors(two.now + 7_200) != []


def test_who_knows_more_earns_more():
    *_, earned = play(World(WorldSettings(users=250, seed=4)), 24)
    assert earned["oracle"] > 2 * earned["popular"] > 2 * 1.3 * earned["random"]
    # also where each of them is what is shown
    oracle, popular, random = (
        live(World(SMALL), 48, policy)[1] for policy in (World.oracle, World.popular, World.random)
    )
    assert oracle > 1.3 * max(popular, random)


def test_the_reward_is_what_comes():
    """Clicks of many lists beside the sum of their rewards, whose deviation is at most the root of it."""
    world, expected, shown = World(SMALL), 0.0, []
    for n in range(40):
        for user in range(1, 61):
            items = World(SMALL).random(user + 100 * n, 3)
            expected += world.reward(user, items)
            shown.append(Impression(f"{n}", user, world.now, tuple(items)))
        world.had = [set() for _ in world.had]
        world.step(world.now, shown)
        shown = []
    clicks = [x for x in world.step(world.now + 20 * HOUR) if x.actions == ("click",)]
    assert abs(len(clicks) - expected) < 4 * expected**0.5 and expected > 300


def test_a_frozen_oracle_decays():
    """Lists that were the best for each user at the start, without what the user had since, earn less and less of what the
    oracle earns."""
    world = World(SMALL)
    users, first = range(1, 61), world.tastes.copy()
    parts = []
    for hours in 0, 24, 72:
        world.step(world.start + hours * HOUR)
        now, launched = world.tastes, world.launched
        best = np.mean([world.reward(user, world.oracle(user, 5)) for user in users])
        world.tastes = first
        lists = [[x for x in world.oracle(user, 80 + 999) if x <= 80][:5] for user in users]
        world.tastes = now
        parts.append(np.mean([world.reward(user, items) for user, items in zip(users, lists)]) / best)
        assert len(launched) >= 80
    assert parts[0] == pytest.approx(1.0) and parts[0] > parts[1] + 0.1 and parts[1] > parts[2] + 0.1


def test_probabilities_by_hand():
    world = World(SMALL)
    world.had[6].add(3)
    wanted = world.probabilities(7)
    age = min((world.now - world.launched[9]) / (48 * HOUR), 5)
    assert wanted[9] == pytest.approx(
        sigmoid(-1.8 + 1.3 * world.direction[9] @ world.tastes[6] + world.quality[9] - age)
    )
    assert wanted[2] == 0.0 and world.reward(7, [3]) == 0.0 == world.reward(7, [10_000]) == world.reward(7, [])
    assert world.reward(7, [10, 12]) == pytest.approx(wanted[9] + wanted[11] / 2**0.5)
    assert examined(4).tolist() == pytest.approx([1, 2**-0.5, 3**-0.5, 0.5])
    assert world.oracle(7, 80)[0] == wanted.argmax() + 1 and world.oracle(7, 80)[-1] == 3


def test_actions_come_late_and_in_order():
    world = World(SMALL)
    shown = [Impression(f"r{user}", user, world.now, tuple(world.oracle(user, 10))) for user in range(1, 61)]
    at_once = world.step(world.now, shown)
    events = world.step(world.now + 24 * HOUR)
    assert at_once == [] and [x.time for x in events] == sorted(x.time for x in events)
    clicked = {(x.user, x.item): x.time for x in events if x.actions == ("click",)}
    likes = [x for x in events if x.actions == ("like",)]
    waits = [x.time - clicked[x.user, x.item] for x in likes]
    assert len(clicked) > 60 and len(likes) > 10 and min(waits) > 0 and np.mean(waits) > 600
    assert {x.request for x in events} <= {x.request for x in shown} and len({x.id for x in events}) == len(events)
    with pytest.raises(ValueError, match="is before that"):
        world.step(world.now - 1)


def test_items_are_launched_and_tastes_keep_their_scale():
    world = World(WorldSettings(users=400, items=10, launches=6))
    before = world.tastes
    world.step(world.start + 100 * HOUR - 1)
    assert abs(len(world.topic) - 10 - 594) < 4 * 594**0.5 and (np.diff(world.launched) >= 0).all()
    assert abs(world.tastes.std() - 1) < 0.05
    assert np.corrcoef(before.ravel(), world.tastes.ravel())[0, 1] == pytest.approx(0.5 ** (99 / 72), abs=0.05)


def test_a_log_of_it_is_read_by_etl(tmp_path, louder):
    made = "data", "synth", "world", "-o", tmp_path / "world", "--users", 40, "--hours", 12, "--seed", 3
    code, text, error = louder(*made)
    assert code == 0, error
    assert "oracle" in text and "popular" in text
    log, shown = (pq.read_table(tmp_path / "world" / f"{name}.parquet") for name in ("log", "shown"))
    assert shown.num_rows > log.num_rows > 0 and shown["click"].to_numpy().sum() == log["click"].to_numpy().sum()
    for name in "log", "shown":
        place = tmp_path / "world" / name
        table = tmp_path / f"table-{name}"
        code, _, error = louder("etl", f"{place}.parquet", "--schema", f"{place}.yaml", "-o", table)
        assert code == 0, error
        manifest = json.loads((table / "manifest.json").read_text())
        assert manifest["actions"] == ["click", "like"]
        assert manifest["events"] == (log if name == "log" else shown).num_rows
    assert "already" in louder(*made)[2] or "exists" in louder(*made)[2]
    with pytest.raises(InputError, match="fade_hours"):
        WorldSettings(fade_hours=0)
