"""A run is served from a store of its own data set, and from no other's."""

import pyarrow as pa
import pytest

from louder.errors import InputError
from louder.fingerprint import hash_of
from louder.histories import Names, open_store
from louder.histories.identity import DataSet
from louder.inference.run import Run


def prepared(place, data=None):
    store = open_store(str(place), names=Names(("like",), ("watch",)))
    store.fill([])
    if data:
        store.claim(data)
    store.close()
    return str(place)


def of_run(run):
    return DataSet("runs/other", run.fingerprint.vocabularies, lambda part: run.vocabulary_of(part).raw)


def another(run):
    ids = {"item": pa.array([f"book {n}" for n in range(70)]), "user": run.user_ids.raw}
    return DataSet("runs/another", {part: hash_of(raw) for part, raw in ids.items()}, ids.get)


def test_a_run_of_another_data_set_is_refused_and_its_store_left_alone(place, service_of, tmp_path, capsys):
    run = Run.open(place / "joint")
    store = prepared(tmp_path / "store", another(run))
    with pytest.raises(
        InputError, match=r"store has .* of 70 items and 60 users, but .*joint is of 200 items and 60 users"
    ):
        service_of(store=store)
    assert "did not say" not in capsys.readouterr().err
    again = open_store(store)
    assert again.settings.data == another(run).known and list(again) == []
    again.close()
    assert service_of(store=store, adopt_store=True).store.settings.data == of_run(run).known


def test_a_store_of_an_older_louder_is_taken_with_a_line(place, service_of, tmp_path, capsys):
    service = service_of(store=prepared(tmp_path / "store"))
    assert "did not say which data set it is of: from now on it is that of" in capsys.readouterr().err
    assert service.store.settings.data == of_run(Run.open(place / "joint")).known
    service_of("retrieval", store=prepared(tmp_path / "known", of_run(Run.open(place / "joint"))))
    assert "did not say" not in capsys.readouterr().err
