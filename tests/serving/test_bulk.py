"""Many requests in one: the answers are those of each alone, and a mistake is its own."""

import asyncio

import pytest
from services import client_of

from louder.serving import bulk
from louder.serving import messages as m
from louder.serving.batching import Overloaded

AT = 1_750_000_000


def test_answers_are_those_of_each_alone_in_order(service, call):
    asked = [
        {"user": 1, "at": AT, "k": 3},
        {"user": 2, "at": AT, "k": 2, "where": {"category": ["sport"]}},
        {"history": [{"item": 3, "time": 5}], "at": AT, "k": 4},
        {"user": 1, "at": AT, "k": 3, "cap": {"category": 1}, "explain": True},
    ] * 5
    (batch,) = call(service, ("POST", "/v1/recommend/batch", {"requests": asked}))
    assert batch.status_code == 200
    m.BatchAnswer.model_validate_json(batch.content)
    alone = call(service, *(("POST", "/v1/recommend", body) for body in asked[:4]))
    found = batch.json()["answers"]
    assert len(found) == 20
    for n, answer in enumerate(found):
        expected = alone[n % 4].json()
        assert [x["item"] for x in answer["items"]] == [x["item"] for x in expected["items"]]
        scores = [x["score"] for x in expected["items"]]
        assert [x["score"] for x in answer["items"]] == pytest.approx(scores, rel=1e-4)
        assert ("reasons" in answer["items"][0]) == (n % 4 == 3)


def test_a_mistake_is_the_answer_to_its_own_request(service, call):
    wrong = [
        ({"user": 1, "kk": 3}, "kk: Extra inputs are not permitted."),
        ({}, "A request needs a user or a history, one of the two."),
        ({"user": 1, "k": 0}, "k: Input should be greater than or equal to 1."),
        ({"user": 1, "weights": {"fly": 1.0}}, "weights names 'fly', but the actions are like."),
        ({"user": "x"}, "The user ids of the store are integers, but 'x' is a text. Send integers."),
        ({"user": 1, "model": "previous"}, "There is no previous model"),
    ]
    good = {"user": 1, "at": AT, "k": 3}
    requests = [good, *(body for body, _ in wrong), good]
    (batch,) = call(service, ("POST", "/v1/recommend/batch", {"requests": requests}))
    first, *mistakes, last = batch.json()["answers"]
    assert len(first["items"]) == 3
    for one, other in zip(first["items"], last["items"], strict=True):
        assert one["item"] == other["item"] and one["score"] == pytest.approx(other["score"], rel=1e-4)
    for mistake, (_, text) in zip(mistakes, wrong, strict=True):
        assert mistake["status"] == 422 and mistake["error"].startswith(text)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"requests": []}, "requests: List should have at least 1 item"),
        ({"requests": [{"user": 1}] * 101}, "requests: List should have at most 100 items"),
        ({"requests": [1]}, "requests.0: Input should be an object"),
        ({"request": []}, "requests: Field required"),
    ],
)
def test_what_is_no_batch_is_refused(service, call, body, text):
    (response,) = call(service, ("POST", "/v1/recommend/batch", body))
    assert response.status_code == 422 and text in response.json()["error"]


class Counting:
    """A service that says how many requests it had at once, and has no room for the first few."""

    def __init__(self, refusals):
        self.now = self.most = self.asked = 0
        self.refusals = refusals

    async def answer(self, message):
        self.asked += 1
        if self.asked <= self.refusals:
            raise Overloaded(0.001)
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(0.001)
        self.now -= 1
        return {"user": message.user}


def ask(service, count):
    async def all_of_them():
        places = asyncio.Semaphore(bulk.AT_ONCE)
        return await asyncio.gather(*(bulk.one_of(service, {"user": n}, n, places) for n in range(count)))

    return asyncio.run(all_of_them())


def test_a_batch_goes_through_the_queue_in_parts():
    service = Counting(0)
    assert ask(service, 30) == [{"user": n} for n in range(30)] and service.most == bulk.AT_ONCE


def test_a_request_that_finds_no_room_is_asked_again_and_in_the_end_refused():
    service = Counting(bulk.TRIES - 1)
    assert ask(service, 1) == [{"user": 0}] and service.asked == bulk.TRIES
    service = Counting(10**6)
    (refused,) = ask(service, 1)
    assert refused["status"] == 429 and service.asked == bulk.TRIES


def test_a_batch_takes_no_turns_from_the_other_requests_of_its_client(service):
    clients = []
    submit = service.batcher.submit

    def noticing(job, *, client="", **more):
        clients.append(client)
        return submit(job, client=client, **more)

    service.batcher.submit = noticing

    async def both():
        async with client_of(service) as client:
            batch = client.post("/v1/recommend/batch", json={"requests": [{"user": 1}] * 3})
            return await asyncio.gather(batch, client.post("/v1/recommend", json={"user": 1}))

    asyncio.run(both())
    (one,) = {client for client in clients if clients.count(client) == 1}
    assert {client for client in clients if client != one} == {f"{one} in batches"}
