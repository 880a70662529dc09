"""Does the service keep what its OpenAPI description says? Schemathesis makes requests of it, right ones and wrong ones,
and compares the answers; one row says how many, and what failed.

    python -m benchmarks.serving_contract --cases 10000
"""

import argparse
import itertools
import tempfile
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import schemathesis
import torch
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import events, from_schema
from starlette.types import ASGIApp

from louder import recipes
from louder.config import override
from louder.data.synthetic_ranking import ranking_log, write_ranking_log
from louder.etl import read_spec
from louder.etl.pipeline import build_table
from louder.results import Row, append_row, provenance
from louder.serving.routes import create_app
from louder.serving.service import Settings, open_service
from louder.training.loop import train

ROWS = Path(__file__).parent / "results" / "serving.jsonl"
# that names and ids are known cannot be said in a schema, so what fits it may be refused with 422
UNSAID = {
    "positive_data_acceptance": {"enabled": False},
    "not_a_server_error": {"expected-statuses": ["2xx", "3xx", "4xx", "504"]},  # a deadline of 2 ms, on a busy machine
}
SETTINGS: Row = {"generation": {"max-examples": 25}, "checks": UNSAID, "phases": {"stateful": {"enabled": False}}}


def small_run(folder: Path) -> Path:
    write_ranking_log(ranking_log(60, requests=8, seed=3), folder / "log")
    build_table(folder / "log" / "log.parquet", folder / "table", spec=read_spec(folder / "log" / "schema.yaml"))
    settings = [
        *(f"data.table={folder / 'table'}", "data.max_len=30", "data.users_per_batch=20", "data.auxiliary=false"),
        *("training.epochs=1", "training.device=cpu", "model.layers=2", "model.max_len=64"),
        *("ranking.next_item=0.2", "ranking.context=[country]"),
    ]
    config = override(recipes.load("synthetic:rank_hstu"), settings)
    train(replace(config, name="small"), folder / "small")
    return folder / "small"


def checked(app: ASGIApp, cases: int) -> Row:
    """Rounds with other seeds, until there were so many cases."""
    done, failures, statuses, seeds = 0, Counter[str](), Counter[str](), itertools.count(1)
    while done < cases:
        config = SchemathesisConfig.from_dict(SETTINGS | {"seed": next(seeds)})
        schema = schemathesis.openapi.from_asgi("/openapi.json", app, config=config)
        for event in from_schema(schema).execute():
            if isinstance(event, events.FatalError | events.NonFatalError):
                raise RuntimeError(f"Schemathesis could not go on: {event}")
            if not isinstance(event, events.ScenarioFinished):
                continue
            done += len(event.recorder.cases)
            for exchange in event.recorder.interactions.values():
                statuses[str(exchange.response.status_code if exchange.response else "none")] += 1
            for check in itertools.chain.from_iterable(event.recorder.checks.values()):
                if check.failure_info is not None:
                    failures[check.name] += 1
                    print(event.recorder.label, check.failure_info.failure, check.failure_info.code_sample)
        print(f"{done:,} cases, failures {dict(failures)}", flush=True)
    return {"cases": done, "failures": dict(failures), "statuses": dict(sorted(statuses.items()))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=10_000)
    cases = parser.parse_args().cases
    torch.set_num_threads(1)
    ran = provenance()  # of the code as it is now
    with tempfile.TemporaryDirectory() as name:
        run = small_run(Path(name))
        service = open_service(Settings(run=run, store=f"{name}/store", log=False, max_queue_delay_s=60.0))
        began = time.perf_counter()
        try:
            found = checked(create_app(service), cases)
        finally:
            service.close()
        row = {"bench": "serving_contract", "schemathesis": schemathesis.__version__, **found}
        append_row(ROWS, {**row, "seconds": round(time.perf_counter() - began, 1), **ran})


if __name__ == "__main__":
    main()
