"""KuaiRand as it is distributed, on a few lines whose table is known."""

import tarfile
import zipfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from louder.errors import InputError
from louder.etl import LogSpec, build_table

LOG = (
    "user_id,video_id,date,hourmin,time_ms,is_click,is_like,is_follow,is_comment,is_forward,is_hate,long_view,"
    "play_time_ms,duration_ms,profile_stay_time,comment_stay_time,is_profile_enter,is_rand,tab\n"
)
# the last of user 7 has an earlier moment, of the same second, under a later date
EARLY = LOG + (
    "7,30,20220408,2300,1649430000900,1,0,0,0,0,0,1,61802,49866,0,0,1,0,1\n"
    "5,10,20220408,2300,1649430001000,0,1,0,1,0,0,0,0,5000,0,0,0,0,4\n"
    "7,20,20220409,0,1649430000100,0,0,1,0,1,1,0,1184,11933,0,0,0,0,1\n"
)
LATE = LOG + "5,30,20220422,0,1650585600000,1,1,1,1,1,1,1,2500,49866,3,4,1,0,0\n"
RANDOM = LOG + "5,40,20220423,0,1650672000000,1,0,0,0,0,0,0,900,5000,0,0,0,1,0\n"
VIDEOS = (
    "video_id,author_id,video_type,video_duration,music_type,tag\n"
    '10,77,NORMAL,5000.0,9.0,39\n20,77,AD,,,\n30,8,NORMAL,49866.0,4.0,"20,43"\n40,9,NORMAL,5000.0,9.0,3\n'
)
PEOPLE = (
    "user_id,user_active_degree,fans_user_num,fans_user_num_range,onehot_feat3,onehot_feat4\n"
    '5,full_active,150,"[100,1k)",949,1.0\n7,UNKNOWN,0,0,1160,\n9,UNKNOWN,0,0,1160,2.0\n'
)
EXPECTED = {
    7: [(0, 20, 1649430000, 0b00110100, 1184.0), (0, 30, 1649430000, 0b11000001, 61802.0)],
    5: [(0, 10, 1649430001, 0b00001010, 0.0), (0, 30, 1650585600, 0b11111111, 2500.0)],
}


@pytest.fixture
def folder(tmp_path) -> Path:
    data = tmp_path / "KuaiRand-Pure" / "data"
    data.mkdir(parents=True)
    files = {
        "log_standard_4_08_to_4_21_pure.csv": EARLY,
        "log_standard_4_22_to_5_08_pure.csv": LATE,
        "log_random_4_22_to_5_08_pure.csv": RANDOM,
        "video_features_basic_pure.csv": VIDEOS,
        "video_features_statistic_pure.csv": "video_id,counts,show_cnt\n10,1.0,5.0\n",
        "user_features_pure.csv": PEOPLE,
    }
    for name, text in files.items():
        (data / name).write_text(text)
    (data.parent / "LICENSE").write_text("CC BY-SA 4.0")
    return data.parent


def zipped(folder: Path) -> Path:
    path = folder.with_suffix(".zip")
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*.csv")):
            archive.write(file, file.relative_to(folder.parent))
    return path


def taped(folder: Path) -> Path:
    path = folder.with_suffix(".tar.gz")
    with tarfile.open(path, "w:gz") as archive:
        archive.add(folder, folder.name)
    return path


@pytest.mark.parametrize("pack", [zipped, taped, lambda folder: folder, lambda folder: folder / "data"])
def test_the_standard_logs_with_their_features(folder, tmp_path, sequences, pack):
    manifest = build_table(pack(folder), tmp_path / "table")
    assert sequences(tmp_path / "table") == EXPECTED
    assert manifest.name == "kuairand-pure"
    assert (manifest.users, manifest.items, manifest.events) == (2, 4, 4)
    assert manifest.actions[0] == "click" and manifest.actions[-2:] == ["long_view", "profile_enter"]
    assert manifest.values == ["play_time_ms"]
    left_out = ["date", "hourmin", "duration_ms", "profile_stay_time", "comment_stay_time", "is_rand", "tab"]
    assert manifest.left_out == manifest.left_out_numbers == left_out


def test_numbers_that_are_names_are_texts(folder, tmp_path):
    build_table(folder, tmp_path / "table")
    videos = pq.read_table(tmp_path / "table" / "items.parquet").to_pylist()
    assert videos[0] == {
        "author_id": "77",
        "video_type": "NORMAL",
        "video_duration": 5000.0,
        "music_type": 9.0,
        "tag": ["39"],
    }
    assert (videos[1]["music_type"], videos[1]["tag"], videos[2]["tag"]) == (None, None, ["20", "43"])
    people = pq.read_table(tmp_path / "table" / "users.parquet").to_pylist()  # nobody shows what 9 did
    assert [person["onehot_feat3"] for person in people] == ["949", "1160"]
    assert [person["onehot_feat4"] for person in people] == ["1", None]
    assert [person["fans_user_num_range"] for person in people] == ["[100,1k)", "0"]


def test_an_exposure_that_was_written_twice_is_one(folder, tmp_path):
    late = folder / "data" / "log_standard_4_22_to_5_08_pure.csv"
    late.write_text(LATE + LATE.removeprefix(LOG))
    manifest = build_table(folder, tmp_path / "table")
    assert (manifest.events, manifest.dropped, manifest.filters["drop_duplicates"]) == (4, {"exact duplicate": 1}, True)
    manifest = build_table(folder, tmp_path / "table", drop_duplicates=False, overwrite=True)
    assert (manifest.events, manifest.dropped, manifest.filters["drop_duplicates"]) == (5, {}, False)


def test_a_log_that_is_named_is_read_alone(folder, tmp_path, sequences):
    random = folder / "data" / "log_random_4_22_to_5_08_pure.csv"
    build_table(random, tmp_path / "table")
    assert sequences(tmp_path / "table") == {5: [(0, 40, 1650672000, 1, 900.0)]}
    both = build_table(
        [random, f"{taped(folder)}::log_standard_4_22_to_5_08_pure.csv"], tmp_path / "table", overwrite=True
    )
    assert (both.events, both.items) == (2, 4)


def test_what_a_schema_names_comes_first(folder, tmp_path, sequences):
    spec = LogSpec(actions={"watched": "play_time_ms >= 1000"}, values={"length": "duration_ms"}, series={"tab": "tab"})
    manifest = build_table(folder, tmp_path / "table", spec=spec)
    assert (manifest.actions, manifest.values, manifest.series) == (["watched"], ["length"], {"tab": 3})
    assert (0, 30, 1650585600, 1, 49866.0) in sequences(tmp_path / "table")[5]


def test_a_folder_without_its_log(folder, tmp_path):
    for log in (folder / "data").glob("log_*"):
        log.unlink()
    with pytest.raises(InputError, match=r"has no log_standard_\*\.csv of KuaiRand; it holds LICENSE, data/user"):
        build_table(folder, tmp_path / "table", spec=LogSpec(format="kuairand"))
