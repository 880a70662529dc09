"""An index of a run is made from its best checkpoint, measured on its users, and refused for any other checkpoint."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from tables import random_users, tiny_config, tiny_ranking_config, write_table
from typer.testing import CliRunner

from louder import checkpoint
from louder.cli import app
from louder.errors import InputError
from louder.inference.index import Exact
from louder.inference.recommender import Recommender
from louder.inference.retrieval import open_retrieval
from louder.inference.stored_index import load
from louder.training.loop import train

ITEMS = 60
USERS = random_users(30, items=ITEMS, longest=14, actions=2)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("index")
    table = write_table(folder / "table", [[], *USERS], items=ITEMS, actions=["like", "share"], titles=True)
    pq.write_table(pa.table({"age": [number % 3 for number in range(len(USERS) + 1)]}), table / "users.parquet")
    train(tiny_config(table), folder / "run", quiet=True)
    train(tiny_ranking_config(table, next_item=1.0, log_values=()), folder / "joint", quiet=True)
    train(tiny_ranking_config(table, log_values=(), next_item=0.0), folder / "ranks", quiet=True)
    return folder


@pytest.fixture
def run(trained, tmp_path):
    return shutil.copytree(trained / "run", tmp_path / "run")


def make(run, *options):
    done = CliRunner().invoke(app, ["index", str(run), *options])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.stdout


def reload(run):
    found = open_retrieval(run)
    return found, load(run, found.folder, found.items)


@pytest.mark.parametrize("options", [("ivf", "--lists", "6", "--probes", "6"), ("hnsw", "--neighbours", "8")])
@pytest.mark.parametrize("name", ["run", "joint"])
def test_what_is_written_answers_as_exact(name, options, trained, tmp_path):
    run = shutil.copytree(trained / name, tmp_path / "run")
    answer = json.loads(make(run, "--kind", *options, "--json"))
    assert (answer["kind"], answer["items"], answer["queries_are"]) == (options[0], ITEMS, "users")
    assert answer["recall@10"] == answer["recall@100"] == 1.0
    assert json.loads((run / "index" / "index.json").read_text()).items() <= answer.items()
    found, index = reload(run)
    ids, scores = index.search(found.queries, 10)
    right_ids, right_scores = Exact(found.items).search(found.queries, 10)
    assert torch.equal(ids, right_ids) and torch.equal(scores, right_scores)


def test_queries_are_the_states_that_recommend(trained):
    recommender = Recommender(trained / "run")
    queries = open_retrieval(trained / "run").queries
    engine = recommender.engine
    active = [number for number in range(len(USERS) + 1) if np.diff(engine.table.offsets)[number]]
    assert len(queries) == len(active) == sum(bool(user) for user in USERS)
    for number, query in zip(active, queries):
        answer = recommender.recommend(user=100 + number, k=ITEMS, seen=True)
        scores = engine.vectors[[item.item - 1000 for item in answer]] @ query
        torch.testing.assert_close(scores, torch.tensor([item.score for item in answer]))


def test_without_its_table_items_are_the_queries(run):
    file = checkpoint.best(run) / "state.json"
    state = json.loads(file.read_text())
    state["config"]["data"]["table"] = "gone"
    file.unlink()  # it may be a link
    file.write_text(json.dumps(state))
    assert "queries that are items" in " ".join(make(run, "--kind", "ivf").split())
    with pytest.raises(InputError, match="elsewhere"):
        make(run, "--kind", "ivf", "--table", "elsewhere")


def test_making_it_again_replaces_it(run):
    make(run, "--kind", "ivf")
    make(run, "--kind", "hnsw")
    assert reload(run)[1].kind == "hnsw"
    assert sorted(path.name for path in (run / "index").iterdir()) == ["index.faiss", "index.json"]


def test_an_index_of_another_checkpoint_is_refused_with_the_command_to_make_it_again(run):
    make(run, "--kind", "ivf", "--lists", "6", "--probes", "2")
    file = checkpoint.best(run) / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.unlink()
    file.write_bytes(content)
    with pytest.raises(InputError, match=f"another checkpoint.*louder index {run} --kind ivf --lists 6 --probes 2"):
        reload(run)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda folder: shutil.rmtree(folder), "has no index, so make one: louder index"),
        (
            lambda folder: (folder / "index.faiss").unlink(),
            "missing, cut short or damaged.*--kind hnsw --neighbours 32",
        ),
        (lambda folder: (folder / "index.faiss").write_bytes(b"x" * 100), "cut short or damaged"),
        (lambda folder: (folder / "index.json").write_text("{"), "not JSON"),
        (lambda folder: (folder / "index.json").write_text("{}"), "another Louder"),
    ],
)
def test_what_cannot_be_read_is_made_again(damage, words, run):
    make(run, "--kind", "hnsw")
    damage(run / "index")
    with pytest.raises(InputError, match=words):
        reload(run)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("run", ["--kind", "tree"], "--kind is 'tree'"),
        ("run", ["--kind", "ivf", "--neighbours", "8"], "--kind ivf has --lists and --probes"),
        ("run", ["--kind", "ivf", "--lists", "61"], "60 items for 61 lists"),
        ("ranks", ["--kind", "ivf"], "has not learned the next item"),
    ],
)
def test_what_cannot_be_made_is_told_and_leaves_nothing(name, options, words, trained):
    with pytest.raises(InputError, match=words):
        make(trained / name, *options)
    assert not (trained / name / "index").exists()
