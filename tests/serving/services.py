"""Small runs, and clients without a network, for the tests of the service."""

from contextlib import asynccontextmanager
from dataclasses import replace

import httpx

from louder import recipes
from louder.config import override
from louder.serving.routes import create_app
from louder.training.loop import train

SMALL = ["data.max_len=30", "data.users_per_batch=20", "training.epochs=1", "training.device=cpu"]


def run(folder, name, recipe, *settings):
    config = override(recipes.load(recipe), [f"data.table={folder / 'table'}", *SMALL, *settings])
    train(replace(config, name=name), folder / name)


@asynccontextmanager
async def client_of(service):
    transport = httpx.ASGITransport(app=create_app(service), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://louder") as client:
        yield client
