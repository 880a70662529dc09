"""louder serve"""

import json
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from louder.cli.options import Seen, Sources
from louder.errors import InputError


def serve(
    run: Annotated[
        Path, typer.Argument(help="A run, a link to one that louder publish replaces, or a folder of versions.")
    ],
    ranker: Annotated[
        Path | None, typer.Option(help="A ranking run, where RUN only retrieves. A joint run needs none.")
    ] = None,
    sources: Sources = None,
    seen: Seen = None,
    table: Annotated[Path | None, typer.Option(help="The sequence table, in place of the run's.")] = None,
    store: Annotated[
        str, typer.Option(help="Where histories are kept: a folder, or redis://HOST:PORT/DB.")
    ] = "histories",
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535)] = 8000,
    workers: Annotated[int, typer.Option(min=1, help="Processes. Each holds the model; the store is shared.")] = 1,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Of each process's model.", show_default="cores / workers")
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(
            help="File with the bearer token that requests need, or with lines NAME RIGHTS TOKEN; or set LOUDER_TOKEN."
        ),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Host name that requests may be sent to, besides localhost and addresses; * for any. Repeatable.",
            show_default="any, if a token is needed",
        ),
    ] = None,
    audit: Annotated[
        Path | None, typer.Option(help="File that gets a line of JSON for each request about users: who, what, whom.")
    ] = None,
    events: Annotated[
        str | None,
        typer.Option(
            metavar="LOG",
            help="A log of what is accepted and answered, which the store follows: a folder, or kafka://HOST:PORT/TOPIC.",
        ),
    ] = None,
    explore: Annotated[
        int,
        typer.Option(
            min=0, metavar="K", help="Draw one position in K of an answer that is logged, on average; 0: none."
        ),
    ] = 0,
    variants: Annotated[
        list[str] | None,
        typer.Option(
            "--variant",
            metavar="NAME=RUN:SHARE",
            help="A/B test: a share of the users is answered by another run, or, NAME=+SOURCE:COUNT:SHARE, from a further "
            "source of candidates. Repeatable.",
        ),
    ] = None,
    salt: Annotated[
        str,
        typer.Option(
            help="Of the draw of who has which variant: another text for each test, the same in all replicas."
        ),
    ] = "",
    keep: Annotated[int, typer.Option(min=1, help="Events of a user that the store keeps.")] = 1000,
    adopt_store: Annotated[
        bool,
        typer.Option("--adopt-store", help="Take the store for that of this run's data, whatever it was filled from."),
    ] = False,
    cache: Annotated[str, typer.Option(metavar="SIZE", help="For keys and values of histories: 1GB.")] = "1GB",
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Compute every history anew.")] = False,
    max_queue_delay: Annotated[
        int, typer.Option(min=1, help="Milliseconds that a request may wait for its turn; beyond, it is answered 429.")
    ] = 200,
    grace: Annotated[
        int, typer.Option(min=0, help="Seconds between SIGTERM, when /readyz turns to 503, and the end of listening.")
    ] = 5,
    patience: Annotated[int | None, typer.Option(min=1, hidden=True)] = None,
    quiet: Annotated[
        bool,
        typer.Option("--quiet", help="No line for each request; what an acknowledged event survives is said still."),
    ] = False,
    show: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
) -> None:
    """Serve a run over HTTP: a page at /, recommendations at /v1, metrics at /metrics.

    The store is filled from the run's table when it is new. A better checkpoint of the run, another run that
    louder publish puts behind the link, or the next version of a folder is taken without a pause. Examples:

        louder serve runs/demo

        louder serve runs/ml1m-hstu-large --ranker runs/ml1m-rank-hstu

        louder serve runs/shop --variant fresh=runs/shop-monday:0.2 --events events

        louder serve versions --events events

        louder serve live --store redis://localhost:6379/0 --workers 2 --host 0.0.0.0 --token-file token.txt
    """
    # threads that wait for work give the core away; read when torch is loaded
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    try:
        from uvicorn import Config, Server
        from uvicorn.supervisors import Multiprocess
    except ImportError as error:
        raise InputError("Serving needs more packages: pip install 'louder[serve]'.") from error
    from louder.cli.etl import byte_count

    if patience is not None:
        print("--patience is now called --max-queue-delay.", file=sys.stderr)
        max_queue_delay = patience
    from louder.streaming.logs import in_kafka

    if events and not in_kafka(events) and workers > 1:
        raise InputError(
            f"An event log has one writer, but --workers asks for {workers} processes. Start one service each, with a log of "
            "its own: --workers 1 --events NAME."
        )
    if explore and not events:
        raise InputError("What is explored is to be learnt from, so it needs a log: --events FOLDER.")
    from louder.serving.variants import with_control

    with_control(variants or [])
    token = token_of(token_file)
    settings = {
        "run": str(run),
        "ranker": str(ranker) if ranker else None,
        "table": str(table) if table else None,
        "sources": sources or [],
        "variants": variants or [],
        "salt": salt,
        "seen": seen,
        "store": store,
        "keep": keep,
        "adopt_store": adopt_store,
        "token": token,
        "hosts": [name.lower() for name in allow_host or (["*"] if token else [host])],
        "audit": str(audit) if audit else None,
        "events": events,
        "explore": explore,
        "cache_bytes": 0 if no_cache else byte_count(cache, "--cache"),
        "max_queue_delay_s": max_queue_delay / 1000,
        "grace_s": grace,
        "log": not quiet,
        "threads": threads or max(1, (os.cpu_count() or 1) // workers),
    }
    with listening(host, port) as own, shared_metrics(workers):
        from louder.serving.connections import IDLE_S, Connection
        from louder.serving.routes import create_app
        from louder.serving.service import ENVIRONMENT, service_from_environment

        os.environ[ENVIRONMENT] = json.dumps(settings)
        shown = f"http://{address(host)}:{own.getsockname()[1]}/"
        warn_of(ranker or run, host, token)
        service = service_from_environment()  # what is wrong with the settings ends all here, not in each process
        for ending in signal.SIGINT, signal.SIGTERM:  # uvicorn answers what it has, and then raises them once more
            signal.signal(ending, lambda *_: None)
        with_processes = f" with {workers} processes" if workers > 1 else ""
        print(f"Serving {run}{with_processes} at {shown}", flush=True)
        if show:
            typer.launch(shown)
        configure = partial(Config, log_level="warning", access_log=False, timeout_graceful_shutdown=30)
        configure = partial(
            configure, http=Connection, ws="none", timeout_keep_alive=int(IDLE_S) + 5
        )  # the gate is first
        if workers > 1:
            service.close()
            application = "louder.serving.routes:from_environment"
            config = configure(application, factory=True, workers=workers, timeout_worker_healthcheck=60)
            Multiprocess(config, [own]).run()
        else:
            Server(configure(create_app(service))).run([own])


def listening(host: str, port: int) -> socket.socket:
    """A socket, before anything is loaded. With port 0 the system chooses a free one."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        reason = (error.strerror or "").partition(" (")[0]  # Python adds the address
        raise InputError(
            f"Nothing can listen at {address(host)}:{port} ({reason}). Choose another port: --port {port + 1}."
        ) from error


@contextmanager
def shared_metrics(workers: int) -> Iterator[None]:
    """A folder in which several processes count. Prometheus' library looks for its name when it is loaded."""
    if workers == 1:
        yield
        return
    with tempfile.TemporaryDirectory(prefix="louder-metrics-") as folder:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
        try:
            yield
        finally:
            del os.environ["PROMETHEUS_MULTIPROC_DIR"]


def address(host: str) -> str:
    if host in ("127.0.0.1", "0.0.0.0", "::", "::1"):
        return "localhost"
    return f"[{host}]" if ":" in host else host


def warn_of(ranks: Path, host: str, token: str) -> None:
    """What works, and is rarely meant."""
    from louder.inference.run import Run
    from louder.publishing.chain import chain_of, current_version, is_chain

    opened = (
        Run.open_checkpoint(chain_of(current_version(ranks))[0].folder, ranks) if is_chain(ranks) else Run.open(ranks)
    )
    if opened.vocabulary.series and opened.data.auxiliary:
        asked = f"{ranks} was trained with auxiliary series, and a store keeps none, so it is asked without them."
        print(f"{asked} Train it without: --set data.auxiliary=false.", file=sys.stderr)
    if host not in ("127.0.0.1", "localhost", "::1") and not token:
        open_to_all = f"Whoever reaches {host} can read and write all histories."
        print(f"{open_to_all} Give a token: --token-file FILE.", file=sys.stderr)


def token_of(file: Path | None) -> str:
    """What the file, or LOUDER_TOKEN, holds: see access.tokens_of; "" where neither is given."""
    from louder.serving.access import tokens_of

    if file is None and not os.environ.get("LOUDER_TOKEN"):
        return ""
    where = "LOUDER_TOKEN" if file is None else f"The token file {file}"
    try:
        text = (os.environ["LOUDER_TOKEN"] if file is None else file.read_text(encoding="utf-8")).strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{where} cannot be read ({getattr(error, 'strerror', 'it is not text')}). Write the token into it."
        ) from error
    tokens_of(text, where)
    return text
