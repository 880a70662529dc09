"""What ships the service says what the service understands; checked without a container engine."""

import configparser
import json
import re
import shlex
import shutil
import subprocess
from fnmatch import fnmatch
from pathlib import Path

import pytest
import typer
import yaml

ROOT = Path(__file__).parents[1]
UNIT = ROOT / "deploy" / "louder.service"


def instructions() -> list[tuple[str, str]]:
    """Those of the Dockerfile, each on one line."""
    lines = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(line.split(" ", 1)[0], line.split(" ", 1)[1].strip()) for line in joined.splitlines() if line]


def told(kind: str) -> list[str]:
    return [text for name, text in instructions() if name == kind and not text.startswith("--from")]


def compose() -> dict:
    return yaml.safe_load((ROOT / "compose.yaml").read_text())


def unit() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(UNIT)
    return parser


def parsed(words: list[str]) -> dict:
    """What `louder serve` makes of these words. Raises click's UsageError if they are wrong."""
    from louder.cli import app

    command = typer.main.get_command(app).commands["serve"]  # type: ignore[attr-defined]
    return command.make_context("serve", list(words)).params


def test_torch_comes_first_and_versions_are_those_that_were_tried() -> None:
    installs = [text for text in told("RUN") if "pip install" in text]
    assert installs[0].split()[-1] == "torch"
    assert all("--constraint constraints.txt" in text for text in installs)


def test_what_the_image_copies_is_there_and_not_ignored() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    kept = [line[1:] for line in ignored if line.startswith("!")]
    assert "*" in ignored
    for text in told("COPY"):
        for source in text.split()[:-1]:
            assert (ROOT / source).exists()
            assert any(fnmatch(source, pattern) for pattern in kept), source


def test_the_image_has_all_that_a_package_needs() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    copied = {source for text in told("COPY") for source in text.split()[:-1]}
    for named in re.findall(r'^(?:readme|license-files) = .*?"([^"]+)"', project, re.MULTILINE):
        assert named in copied


def test_the_image_runs_as_somebody_without_rights() -> None:
    kinds = [kind for kind, _ in instructions()]
    assert told("USER")[-1] != "root"
    # what is served is tried as the one who serves it
    last = max(n for n, (kind, text) in enumerate(instructions()) if kind == "RUN" and "load_all" in text)
    assert kinds.index("USER") < last < kinds.index("ENTRYPOINT")


def test_the_image_serves() -> None:
    (entry,), (command,) = told("ENTRYPOINT"), told("CMD")
    words = json.loads(entry) + json.loads(command)
    assert words[:2] == ["louder", "serve"]
    assert str(parsed(words[2:])["port"]) in told("EXPOSE")
    (check,) = told("HEALTHCHECK")
    assert "/readyz" in check
    assert "python" in check


def test_compose_starts_what_the_image_understands() -> None:
    services = compose()["services"]
    replicas = {name: x for name, x in services.items() if x["image"] == "louder"}
    assert len(replicas) == 2
    for service in replicas.values():
        words = [re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", word) for word in service["command"]]
        given = parsed(words)
        host = re.fullmatch(r"redis://(\w+):6379/0", given["store"])
        assert host is not None
        assert host[1] in services
    assert len({x["ports"][0] for x in replicas.values()}) == len(replicas)
    for service in services.values():
        assert service["healthcheck"]["test"][0] == "CMD"
        assert service["mem_limit"]


def test_compose_and_the_image_ask_for_health_alike() -> None:
    (check,) = told("HEALTHCHECK")
    asked = json.loads(check[check.index("[") :])
    assert compose()["services"]["one"]["healthcheck"]["test"] == ["CMD", *asked]
    compile(asked[-1], "HEALTHCHECK", "exec")


def test_redis_keeps_what_was_acknowledged() -> None:
    words = compose()["services"]["redis"]["command"]
    options = dict(zip(words[1::2], words[2::2]))
    assert options["--appendonly"] == "yes"
    assert options["--appendfsync"] in ("always", "everysec")
    assert options["--maxmemory-policy"] == "noeviction"


def test_volumes_of_compose_are_declared() -> None:
    described = compose()
    for service in described["services"].values():
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            assert source.startswith("./") or source in described["volumes"]


def test_the_unit_serves_and_may_write_its_own_folders_alone() -> None:
    service = unit()["Service"]
    words = shlex.split(service["ExecStart"])
    assert words[0].endswith("/louder")
    assert words[1] == "serve"
    given = parsed(words[2:])
    writable = [path.lstrip("-") for path in service["ReadWritePaths"].split()]
    assert any(given["store"].startswith(path) for path in writable)
    assert given["token_file"] is None  # LOUDER_TOKEN comes from the file
    assert service["EnvironmentFile"]
    expected = {
        "DynamicUser": "yes",
        "NoNewPrivileges": "yes",
        "ProtectSystem": "strict",
        "Restart": "on-failure",
    }
    assert {name: service[name] for name in expected} == expected


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    text = UNIT.read_text()
    program = shlex.split(unit()["Service"]["ExecStart"])[0]
    (tmp_path / UNIT.name).write_text(text.replace(program, "/bin/true"))  # the program has to be there
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(tmp_path / UNIT.name)],
        capture_output=True,
        text=True,
        check=False,
    )
    said = [line for line in done.stderr.splitlines() if UNIT.name in line]
    assert not said, done.stderr
