"""The parts of a live demo: the crowd with a service that is known, what is counted, and the page."""

import asyncio
import json
import time

import httpx
import pytest

from louder.data.world import HOUR, World, WorldSettings
from louder.errors import InputError
from louder.live.crowd import Crowd, Tally
from louder.live.demo import Demo, training
from louder.live.page import WithPage
from louder.live.prepare import watched_world
from louder.schema import Manifest
from louder.serving.messages import Answer, Mistake, Scored


class Known:
    """A client of a service that gives even users the best list, and odd ones any; every tenth request fails."""

    def __init__(self, world):
        self.world, self.asked, self.events, self.available = world, 0, [], {}

    def recommend_batch(self, requests):
        return [self.answer(x) for x in requests]

    def answer(self, request):
        self.asked += 1
        if self.asked % 10 == 0:
            return Mistake(status=429, error="full")
        best = request.user % 2 == 0
        items = (self.world.oracle if best else self.world.random)(request.user, request.k)
        shown = [Scored(item=item, title="", score=0.0) for item in items]
        variant, number = "streaming" if best else "control", f"r{self.asked}"
        return Answer(items=shown, model="m", variant=variant, history=0, skipped=0, request=number, milliseconds=0)

    def add_events(self, events):
        self.events += events

    def update_items(self, items):
        self.available |= {x.item: x.available for x in items}


@pytest.fixture
def world():
    return World(WorldSettings(users=60, items=50, launches=3.0, seed=2))


def test_a_crowd_asks_reacts_and_tells(world):
    client = Known(world)
    crowd = Crowd(world, client, items=90)
    assert client.available == dict.fromkeys(range(51, 91), False)
    for _ in range(3 * 12):
        crowd.step(world.now + 300)
    assert crowd.requests + crowd.failed == client.asked > 10 and crowd.failed == client.asked // 10
    assert {n for n, there in client.available.items() if there} == set(range(51, len(world.topic) + 1)) != set()
    assert crowd.clicks == sum(x.actions == ["click"] for x in client.events) > 10
    assert all(crowd.variant_of[x.request] == ("control", "streaming")[x.user % 2 == 0] for x in client.events)
    assert len({(x.user, x.id) for x in client.events}) == len(client.events)
    best, any_list, oracle = (crowd.tally.means(who, 3)[-1] for who in ("streaming", "control", "oracle"))
    assert best > 1.5 * any_list and 0.7 * oracle < best < 1.3 * oracle
    assert crowd.lately[0]["time"] >= crowd.lately[-1]["time"] and crowd.lately[0]["age_s"] > 0


def test_means_are_over_the_hours_before():
    tally = Tally(start=1_000)
    for hour, reward in (0, 1.0), (0, 2.0), (1, 6.0), (4, 5.0):
        tally.add("a", 1_000 + hour * HOUR + 3_599, reward)
    assert tally.means("a", 7) == [1.5, 3.0, 3.0, 6.0, 5.0, 5.0, 5.0] and tally.means("b", 2) == [None, None]
    assert tally.means("a", 2, over=1) == [1.5, 6.0]


def test_the_table_has_a_place_for_what_will_be_launched(tmp_path, monkeypatch):
    monkeypatch.setattr("louder.live.prepare.WATCHED", 6)
    world = watched_world(WorldSettings(users=60, items=50, seed=2), 12, tmp_path, lambda n: None)
    manifest = Manifest.read(tmp_path / "table")
    assert world.now == world.start + 6 * HOUR and manifest.actions == ["click", "like"]
    assert manifest.items > len(world.topic) + 20
    ahead = World(world.settings)
    ahead.step(world.now + 12 * HOUR)
    assert manifest.items == len(ahead.topic)


def test_the_page_and_its_numbers(world, tmp_path):
    demo = Demo(world, tmp_path, hours=4, window_s=900, items=50)
    demo.crowd = Crowd(world, Known(world), items=50)
    demo.now = world.now + 3_600.0
    demo.crowd.step(world.now + 3_600)

    async def nothing(scope, receive, send):
        await send({"type": "http.response.start", "status": 404, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def ask(path):
        transport = httpx.ASGITransport(app=WithPage(nothing, demo.state))
        async with httpx.AsyncClient(transport=transport, base_url="http://louder") as client:
            return await client.get(path)

    page, script, style, numbers, other = (
        asyncio.run(ask(path)) for path in ("/live", "/live.js", "/live.css", "/live.json", "/v1/model")
    )
    assert "Louder, live" in page.text and "script-src 'self'" in page.headers["content-security-policy"]
    assert script.headers["content-type"] == "text/javascript" and style.status_code == 200 and other.status_code == 404
    state = json.loads(numbers.text)
    assert state["now"] == world.start + 3_600 and len(state["reward"]["oracle"]) == 2
    assert state["requests"] == demo.crowd.requests and not state["done"]


def until_ended(alive):
    for _ in range(600):
        alive()
        time.sleep(0.1)


def test_a_trainer_that_ended_is_told_of(tmp_path):
    (tmp_path / "frozen").mkdir()
    with training(tmp_path, 900) as alive:
        with pytest.raises(InputError, match=r"The trainer has ended \(exit 2\)"):
            until_ended(alive)
    assert "frozen" in (tmp_path / "stream.log").read_text()


def test_how_far_the_trainer_is_behind(world, tmp_path):
    demo = Demo(world, tmp_path, hours=4, window_s=900, items=50)
    demo.now = world.now + 2_000.0
    assert demo.behind() == 2
    (tmp_path / "stream").mkdir()
    (tmp_path / "stream" / "stream.jsonl").write_text(json.dumps({"upto": world.now + 899, "events": 3}) + "\n")
    assert demo.behind() == 1 and demo.state()["trained"] == {"windows": 1, "upto": world.now + 899, "events": 3}
