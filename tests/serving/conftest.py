"""A small joint ranking run and a retrieval run on one table, and services on them."""

import asyncio

import pytest
from services import client_of, run

from louder.data.synthetic_ranking import ranking_log, write_ranking_log
from louder.etl import read_spec
from louder.etl.pipeline import build_table
from louder.inference.engine import Engine
from louder.serving.service import Settings, open_service


@pytest.fixture(scope="session")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("serving")
    write_ranking_log(ranking_log(60, requests=8, seed=3), folder / "log")
    build_table(folder / "log" / "log.parquet", folder / "table", spec=read_spec(folder / "log" / "schema.yaml"))
    joint = ["model.layers=2", "model.max_len=64", "ranking.next_item=0.2", "ranking.context=[country]"]
    for name, settings in (
        ("joint", [*joint, "data.auxiliary=false"]),
        ("attributes", [*joint, "data.auxiliary=false", "ranking.item_attributes=[category]"]),
        ("again", [*joint, "data.auxiliary=false", "training.seed=7"]),
    ):
        run(folder, name, "synthetic:rank_hstu", *settings)
    run(folder, "retrieval", "ml1m:hstu", "model.max_len=40", "data.auxiliary=false")
    run(folder, "mixture", "ml1m:hstu_mol", "model.max_len=40", "data.auxiliary=false")
    return folder


@pytest.fixture(scope="session")
def joint(place):
    return Engine(place / "joint")


@pytest.fixture
def service_of(place, tmp_path):
    """settings -> an open service; closed at the end."""
    opened = []

    def open_one(run="joint", **settings):
        given = {
            "store": str(tmp_path / "histories"),
            "log": False,
            "reload_every_s": 0.05,
            "max_queue_delay_s": 60.0,
        } | settings
        service = open_service(Settings(run=place / run, **given))
        opened.append(service)
        return service

    yield open_one
    for service in opened:
        service.close()


@pytest.fixture
def service(service_of):
    return service_of()


@pytest.fixture
def call():
    """service, requests (method, path, body) sent at once -> responses"""

    def calls(service, *requests, headers=None):
        async def all_of_them():
            async with client_of(service) as client:
                return await asyncio.gather(
                    *(
                        client.request(method, path, headers=headers, **({} if body is None else {"json": body}))
                        for method, path, body in requests
                    )
                )

        return asyncio.run(all_of_them())

    return calls
