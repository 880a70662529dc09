"""A service without a model, for tests of the page: films, a few hundred users, and every message held to the contract.

`python -m tests.serving.ui.fake` serves it at http://127.0.0.1:8100 for a look.
"""

import asyncio
import math
import random
import threading
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.staticfiles import StaticFiles

import louder.serving
from louder.serving import messages as m

UI = Path(louder.serving.__file__).parent / "ui"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: https:; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
VERSION = "2026-11-09T09:00-c07a"
ACTIONS = ["like", "finish", "share"]
BIG = 2**62 + 1  # a number that JavaScript's own numbers cannot hold
FILMS = """Alien|1979|Horror, Sci-Fi
Aliens|1986|Action, Sci-Fi
Amadeus|1984|Drama
Annie Hall|1977|Comedy, Romance
Apocalypse Now|1979|Drama, War
Babe|1995|Children's, Comedy, Drama
Back to the Future|1985|Comedy, Sci-Fi
Being John Malkovich|1999|Comedy
Blade Runner|1982|Film-Noir, Sci-Fi
Braveheart|1995|Action, Drama, War
Butch Cassidy and the Sundance Kid|1969|Action, Comedy, Western
Casablanca|1942|Drama, Romance, War
Chinatown|1974|Film-Noir, Mystery, Thriller
Citizen Kane|1941|Drama
Dr. Strangelove or: How I Learned to Stop Worrying and Love the Bomb|1963|Comedy, Sci-Fi, War
E.T. the Extra-Terrestrial|1982|Children's, Drama, Fantasy, Sci-Fi
Fargo|1996|Crime, Drama, Thriller
Fight Club|1999|Drama
Gladiator|2000|Action, Drama
Groundhog Day|1993|Comedy, Romance
High Fidelity|2000|Comedy
Jaws|1975|Action, Horror
L.A. Confidential|1997|Crime, Film-Noir, Mystery, Thriller
North by Northwest|1959|Drama, Thriller
One Flew Over the Cuckoo's Nest|1975|Drama
Psycho|1960|Horror, Thriller
Pulp Fiction|1994|Crime, Drama
Raiders of the Lost Ark|1981|Action, Adventure
Rear Window|1954|Mystery, Thriller
Reservoir Dogs|1992|Crime, Thriller
Run Lola Run|1998|Action, Crime, Romance
Schindler's List|1993|Drama, War
Shakespeare in Love|1998|Comedy, Romance
Some Like It Hot|1959|Comedy, Crime
Taxi Driver|1976|Drama, Thriller
The Godfather|1972|Action, Crime, Drama
The Matrix|1999|Action, Sci-Fi, Thriller
The Princess Bride|1987|Action, Adventure, Comedy, Romance
The Shawshank Redemption|1994|Drama
The Silence of the Lambs|1991|Drama, Thriller
The Sixth Sense|1999|Thriller
The Usual Suspects|1995|Crime, Thriller
The Wizard of Oz|1939|Adventure, Children's, Drama, Musical
This Is Spinal Tap|1984|Comedy, Drama, Musical
Toy Story|1995|Animation, Children's, Comedy
Toy Story 2|1999|Animation, Children's, Comedy
Vertigo|1958|Mystery, Thriller
Yojimbo|1961|Comedy, Drama, Western"""


class Fake:
    """What is known, what was posted, and what goes wrong next."""

    def __init__(self) -> None:
        rows = [line.split("|") for line in FILMS.splitlines()]
        self.titles = [f"{title} ({year})" for title, year, _ in rows]
        self.genres = [genres.split(", ") for _, _, genres in rows]
        self.decades = [f"{year[:3]}0s" for _, year, _ in rows]
        self.histories: dict[m.Id, list[m.EventIn]] = {
            user: history(user, self.genres) for user in [*range(1, 301), BIG]
        }
        self.previous: str | None = "2026-11-02T09:00-5e1f"
        self.token: str | None = None
        self.seen = False  # whether seen items are recommended by default
        self.next = False  # whether an answer is of two stages
        self.delay = 0.0  # seconds that each answer takes longer
        self.mistaken: dict[str, str] = {}  # users for whom another one's history is answered
        self.images: dict[int, str] = {}
        self.posted: list[m.NewEvent] = []
        self.deleted: list[str] = []
        self.asked: list[m.RecommendRequest] = []
        self.fail: dict[str, list[int]] = {}  # path -> statuses of its next answers

    def user(self, text: str) -> m.Id:
        return next((user for user in self.histories if str(user) == text), text)

    def score(self, item: int, events: list[m.EventIn], model: str) -> float:
        """Genres in common with what was done lately, and how famous the film is."""
        total = ((item * 37) % 11) / 9 - 1.9
        for age, event in enumerate(reversed(events)):
            common = len(set(self.genres[item]) & set(self.genres[event.item]))
            fade = 0.9**age if model == "live" else 0.97**age
            total += 0.35 * fade * common * (1.5 if "like" in event.actions else 1)
        return total

    def scored(self, item: int, events: list[m.EventIn], asked: m.RecommendRequest) -> m.Scored:
        logit = self.score(item, events, asked.model)
        chances = {name: 1 / (1 + math.exp(1.2 * place + 0.6 - logit)) for place, name in enumerate(ACTIONS)}
        weights = asked.weights or {"like": 1.0}
        reasons = []
        if asked.explain:
            for event in events:
                without = self.score(item, [other for other in events if other is not event], asked.model) - logit
                share = len(set(self.genres[item]) & set(self.genres[event.item])) + 0.2
                title = self.titles[event.item]
                reasons.append(
                    m.Reason(item=event.item, title=title, time=event.time, attention=share, without=without / 9)
                )
            total = sum(reason.attention for reason in reasons)
            reasons = [reason.model_copy(update={"attention": reason.attention / total}) for reason in reasons]
            reasons = sorted(reasons, key=lambda reason: -reason.attention)[:5]
        return m.Scored(
            item=item,
            title=self.titles[item],
            score=sum(weight * chances[name] for name, weight in weights.items()),
            actions=chances,
            reasons=reasons,
            **self.shown(item),
        )

    def shown(self, item: int) -> dict:
        return {
            "attributes": {"genres": self.genres[item], "decade": [self.decades[item]]},
            "image": self.images.get(item, ""),
        }

    def view(self, item: int) -> m.ItemView:
        return m.ItemView(item=item, title=self.titles[item], **self.shown(item))

    def line(self, user: m.Id) -> m.UserView:
        events = self.histories[user]
        genres = Counter(genre for event in events for genre in self.genres[event.item])
        favourites = [genre for genre, _ in genres.most_common(2)]
        return m.UserView(user=user, total=len(events), favourites=favourites, latest=self.view(events[-1].item))

    def past(self, asked: m.UserRequest) -> list[m.EventIn]:
        if asked.user is None:
            return asked.history or []
        return self.histories.get(asked.user, []) + asked.what_if


def history(user: int, genres: list[list[str]]) -> list[m.EventIn]:
    draw = random.Random(user)
    moment = 1_700_000_000 + draw.randrange(10**6)
    events = []
    for item in draw.sample(range(len(genres)), draw.randint(8, 26)):
        moment += draw.choice([95, 1_800, 7_400, 86_400, 400_000, 3_000_000])
        actions = [name for name in ACTIONS if draw.random() < 0.3]
        events.append(m.EventIn(item=item, time=moment, actions=actions))
    return events


def service(fake: Fake) -> FastAPI:
    app = FastAPI()

    @app.middleware("http")
    async def gate(request: Request, call_next):
        path = request.url.path
        if path.startswith("/v1/"):
            if fake.token and request.headers.get("authorization") != f"Bearer {fake.token}":
                return problem(401, "The request has no valid token.")
            failures = next((statuses for part, statuses in fake.fail.items() if part in path and statuses), None)
            if failures:
                return problem(failures.pop(0), "It was asked to fail.")
        if path.startswith("/v1/"):
            await asyncio.sleep(fake.delay)
        response = await call_next(request)
        response.headers["Content-Security-Policy"] = POLICY
        return response

    @app.exception_handler(RequestValidationError)
    async def refused(request: Request, error: RequestValidationError):
        return problem(422, f"The request is not as agreed: {error.errors()[0]['loc']} {error.errors()[0]['msg']}.")

    @app.exception_handler(HTTPException)
    async def missed(request: Request, error: HTTPException):
        return problem(error.status_code, error.detail)

    @app.get("/v1/model")
    def model() -> m.ModelAnswer:
        return m.ModelAnswer(
            version=VERSION,
            previous=fake.previous,
            name="films",
            kind="hstu",
            ranker="hstu-ranker",
            actions=ACTIONS,
            values=[],
            main="like",
            items=len(fake.titles),
            attributes={
                "genres": sorted({genre for genres in fake.genres for genre in genres}),
                "decade": sorted(set(fake.decades)),
            },
            context={},
            window=200,
            seen=fake.seen,
            next_weight=1.0,
            sources=[],
            refused=None,
        )

    @app.get("/v1/users")
    def users(prefix: str = "", limit: int = 20) -> m.UsersAnswer:
        return m.UsersAnswer(users=[user for user in fake.histories if str(user).startswith(prefix)][:limit])

    @app.get("/v1/users/sample")
    def sample(limit: int = 6) -> m.SampleAnswer:
        return m.SampleAnswer(users=[fake.line(user) for user in list(fake.histories)[:limit]])

    @app.get("/v1/items")
    def items(title: str, limit: int = 8) -> m.ItemsAnswer:
        found = [n for n, name in enumerate(fake.titles) if title.lower() in name.lower()]
        return m.ItemsAnswer(items=[fake.view(n) for n in found[:limit]])

    @app.get("/v1/items/{item}/users")
    def users_of(item: int, limit: int = 6) -> m.ItemUsersAnswer:
        users = [user for user, events in fake.histories.items() if item in {event.item for event in events}]
        return m.ItemUsersAnswer(item=fake.view(item), users=[fake.line(user) for user in users[:limit]], sample=301)

    @app.get("/v1/users/{user:path}/history")
    def past(user: str, limit: int = 100) -> m.HistoryAnswer:
        if user in fake.mistaken:
            user = fake.mistaken[user]
        name = fake.user(user)
        events = fake.histories.get(name, [])
        shown = [
            m.PastEvent(item=e.item, title=fake.titles[e.item], time=e.time, actions=e.actions, values=e.values)
            for e in events[-limit:]
        ]
        return m.HistoryAnswer(user=name, events=shown, total=len(events))

    def answer(items: list[m.Scored], events: list[m.EventIn], model: str = "live") -> m.Answer:
        version = fake.previous if model == "previous" else VERSION
        return m.Answer(items=items, model=version, history=len(events), skipped=0, milliseconds=3.2)

    @app.post("/v1/recommend")
    def recommend(asked: m.RecommendRequest) -> m.Answer:
        fake.asked.append(asked)
        if asked.model == "previous" and not fake.previous:
            raise HTTPException(422, "There is no previous model.")
        events = fake.past(asked)
        shows_seen = fake.seen if asked.seen is None else asked.seen
        seen = set() if shows_seen else {event.item for event in events}
        allowed = set(range(len(fake.titles)) if asked.allow is None else asked.allow) - seen - set(asked.deny)
        for name, values in asked.where.items():
            of = {"genres": fake.genres, "decade": [[decade] for decade in fake.decades]}[name]
            allowed = {item for item in allowed if set(of[item]) & set(values)}
        left = sorted((fake.scored(item, events, asked) for item in allowed), key=lambda scored: -scored.score)
        chosen: list[m.Scored] = []
        while left and len(chosen) < asked.k:
            had = Counter(genre for item in chosen for genre in item.attributes["genres"])
            repeats = [sum(had[genre] for genre in item.attributes["genres"]) for item in left]
            gains = [(1 - asked.diversity) * item.score - asked.diversity * n for item, n in zip(left, repeats)]
            chosen.append(left.pop(gains.index(max(gains))))
        if fake.next:
            chosen = [item.model_copy(update={"next": item.score**2, "score": item.score**3}) for item in chosen]
        fake.answer = answer(chosen, events, asked.model)
        if len(chosen) < asked.k:
            fake.answer.short = f"There are {len(fake.titles)} items, of which {len(seen)} were seen."
        return fake.answer

    @app.post("/v1/similar")
    def similar(asked: m.SimilarRequest) -> m.Answer:
        def alike(item: int) -> float:
            ours, theirs = set(fake.genres[item]), set(fake.genres[asked.item])
            return len(ours & theirs) / len(ours | theirs)

        others = sorted(set(range(len(fake.titles))) - {asked.item}, key=lambda item: -alike(item))[: asked.k]
        return answer([m.Scored(item=n, title=fake.titles[n], score=alike(n), **fake.shown(n)) for n in others], [])

    @app.post("/v1/events")
    def events(asked: m.EventsRequest) -> m.EventsAnswer:
        known = {event.id for event in fake.posted}
        new = [event for event in asked.events if event.id not in known]
        fake.posted += new
        for event in new:
            fake.histories.setdefault(event.user, []).append(
                m.EventIn(item=event.item, time=event.time, actions=event.actions)
            )
        return m.EventsAnswer(stored=len(new), duplicates=len(asked.events) - len(new))

    @app.delete("/v1/users/{user}/events/{id}")
    def forget(user: str, id: str) -> m.DeletedEvent:
        gone = next(event for event in fake.posted if event.id == id)
        fake.deleted.append(id)
        fake.histories[fake.user(user)] = [
            event for event in fake.histories[fake.user(user)] if (event.item, event.time) != (gone.item, gone.time)
        ]
        return m.DeletedEvent(deleted=True, known=True)

    @app.get("/v1/stats")
    def stats() -> dict:
        now = int(time.time())
        requests = [int(14 + 9 * math.sin(second / 5) + second % 7) for second in range(now - 60, now)]
        return {
            "seconds": [float(second) for second in range(now - 60, now)],
            "requests": requests,
            "p50_ms": 3.4,
            "p99_ms": 11.8,
            "in_flight": 2,
            "cached_histories": 212,
        }

    app.mount("/", StaticFiles(directory=UI, html=True))
    return app


def problem(status: int, error: str) -> JSONResponse:
    headers = {"Retry-After": "2"} if status in (429, 503) else None
    return JSONResponse(m.Problem(error=error, request="r-1").model_dump(), status, headers)


@contextmanager
def running(app, port: int = 0):
    """A service behind a real socket; yields its address."""
    config = uvicorn.Config(app, host="127.0.0.1", port=port, log_level="warning", ws="none", lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/"
    finally:
        server.should_exit = server.force_exit = True
        thread.join()


if __name__ == "__main__":
    uvicorn.run(service(Fake()), port=8100)
