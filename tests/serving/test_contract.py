"""What /openapi.json says holds. More cases: benchmarks/serving_contract.py."""

import pytest
import schemathesis
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import events, from_schema

from louder.serving.routes import create_app
from louder.serving.service import Settings, open_service

# names and ids that nobody knows fit the schema, and are refused
UNSAID = {
    "positive_data_acceptance": {"enabled": False},
    "not_a_server_error": {"expected-statuses": ["2xx", "3xx", "4xx", "504"]},  # a deadline of 2 ms, on a busy machine
}


@pytest.fixture(scope="module")
def service(place, tmp_path_factory):
    store = str(tmp_path_factory.mktemp("contract") / "store")
    service = open_service(
        Settings(run=place / "joint", store=store, log=False, max_queue_delay_s=60.0, reload_every_s=600.0)
    )
    yield service
    service.close()


@pytest.fixture(scope="module")
def described(service):
    """The description, and how requests are made of it."""
    config = {
        "seed": 7,
        "generation": {"max-examples": 4},
        "checks": UNSAID,
        "phases": {"stateful": {"enabled": False}},
    }
    config = SchemathesisConfig.from_dict(config)
    return schemathesis.openapi.from_asgi("/openapi.json", create_app(service), config=config)


def test_answers_are_as_described(described):
    cases, failures = 0, []
    for event in from_schema(described).execute():
        assert not isinstance(event, events.FatalError | events.NonFatalError), event
        if isinstance(event, events.ScenarioFinished):
            cases += len(event.recorder.cases)
            checks = [check for own in event.recorder.checks.values() for check in own]
            failures += [check.failure_info for check in checks if check.failure_info is not None]
    assert not failures
    assert cases > 300


def test_every_route_and_status_is_described(service, described):
    paths = described.raw_schema["paths"]
    assert {path for path in paths if path.startswith("/v1")} == {
        *(
            f"/v1/{name}"
            for name in ("recommend", "retrieve", "rank", "similar", "events", "users", "model", "stats", "items")
        ),
        *("/v1/users/sample", "/v1/items/{item}", "/v1/items/{item}/users", "/v1/recommend/batch"),
        *("/v1/users/{user}/history", "/v1/users/{user}", "/v1/users/{user}/events/{id}"),
    }
    asked = {"200", "400", "401", "403", "413", "415", "421", "422", "429", "503", "504"}
    assert set(paths["/v1/recommend"]["post"]["responses"]) == asked
    assert set(paths["/v1/similar"]["post"]["responses"]) == asked - {"503"}
    assert set(paths["/v1/events"]["post"]["responses"]) == asked - {"429", "504"}
    assert set(paths["/v1/items"]["post"]["responses"]) == asked - {"429", "504"}
    assert set(paths["/v1/recommend/batch"]["post"]["responses"]) == asked - {
        "503",
        "504",
    }  # these are of each, not of all
    assert set(paths["/readyz"]["get"]["responses"]) == {"200", "503"}
    limit = next(x for x in paths["/v1/users/{user}/history"]["get"]["parameters"] if x["name"] == "limit")
    assert (limit["schema"]["minimum"], limit["schema"]["maximum"], limit["schema"]["default"]) == (1, 1_000, 100)
    assert "security" not in described.raw_schema
