"""Raw ids keep their numbers for good."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from louder.errors import InputError
from louder.ids import IdMap, keys_of

strings = st.lists(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=8), max_size=20)


@given(strings)
def test_a_vocabulary_comes_back_from_its_file(tmp_path_factory, raw):
    file = tmp_path_factory.mktemp("vocabulary") / "inner" / "item.parquet"
    vocabulary = IdMap(pa.array(list(dict.fromkeys(raw)), pa.string()))
    vocabulary.write(file)
    assert IdMap.read(file).raw.equals(vocabulary.raw)


def test_unknown_ids_are_minus_one():
    vocabulary = IdMap(pa.array([30, 10, 20]))
    assert vocabulary.ids([10, 99, 30]).tolist() == [1, -1, 0]
    assert vocabulary.ids([]).tolist() == []
    assert len(vocabulary) == 3


def test_integers_typed_as_strings_are_found():
    vocabulary = IdMap(pa.array([30, 10]))
    assert vocabulary.ids(["10", "30"]).tolist() == [1, 0]
    assert vocabulary.ids(["10", "ten", "", 30, "1.5"]).tolist() == [1, -1, -1, 0, -1]


def test_strings_given_as_integers_are_found():
    assert IdMap(pa.array(["a", "7"])).ids([7, 8]).tolist() == [1, -1]


def test_an_integer_too_large_for_the_vocabulary_is_unknown():
    vocabulary = IdMap(pa.array([1, 2]))
    assert vocabulary.ids([10**30, 2]).tolist() == [-1, 1]
    assert vocabulary.ids([str(10**30), "2"]).tolist() == [-1, 1]


@pytest.mark.parametrize("raw", [10**30, "nobody", -1])
def test_one_unknown_id_is_told_with_examples(raw):
    with pytest.raises(InputError, match=r"There is no user .* among the 4 known ones \(such as 5, 6, 7\)"):
        IdMap(pa.array([5, 6, 7, 8])).id(raw, "user")


def test_one_known_id_has_its_number():
    assert IdMap(pa.array(["x", "y"])).id("y") == 1


def test_a_damaged_or_missing_vocabulary_is_refused_in_a_sentence(tmp_path):
    with pytest.raises(InputError, match=r"The vocabulary .* cannot be read"):
        IdMap.read(tmp_path / "none.parquet")
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(InputError, match=r"The vocabulary .* cannot be read"):
        IdMap.read(tmp_path / "bad.parquet")


@given(
    raw=st.one_of(
        st.lists(st.integers(-(2**63), 2**63 - 1), min_size=101, max_size=150, unique=True),
        st.lists(st.text(max_size=5), min_size=101, max_size=150, unique=True),
    ),
    data=st.data(),
)
def test_a_few_ids_are_found_as_many_are(raw, data):
    vocabulary = IdMap(pa.array(raw))
    other = st.integers(-(2**63), 2**63 - 1) if isinstance(raw[0], int) else st.text(max_size=5)
    wanted = data.draw(st.lists(st.one_of(st.sampled_from(raw), other), min_size=1, max_size=2))
    many = vocabulary.ids([*wanted, *raw])[: len(wanted)]
    assert vocabulary.ids(wanted).tolist() == many.tolist()
    assert vocabulary.ids(pa.array([None, wanted[0]], vocabulary.raw.type)).tolist() == [-1, many[0]]


def test_the_least_and_the_greatest_id_are_found_alone():
    for raw in list(range(150, 0, -1)), [f"{number:03}" for number in range(150, 0, -1)]:
        vocabulary = IdMap(pa.array(raw))
        assert [vocabulary.ids([value])[0] for value in raw] == list(range(150))
        assert vocabulary.ids([0 if isinstance(raw[0], int) else "000"]).tolist() == [-1]
        assert vocabulary.ids([151 if isinstance(raw[0], int) else "151"]).tolist() == [-1]


@pytest.mark.parametrize(
    "raw", [[7, 3, 5], [2**63 - 1, -(2**63), 0], [-4, -6, 3]], ids=["close", "far apart", "below 0"]
)
def test_integers_are_found_in_any_form(raw):
    """Where they lie close together in a table of all between, elsewhere by Arrow."""
    vocabulary = IdMap(pa.array(raw))
    asked = [*raw, 4, -(2**63), 2**63 - 1, raw[0]]
    expected = [raw.index(value) if value in raw else -1 for value in asked]
    for form in asked, np.array(asked), pa.array(asked):
        assert vocabulary.ids(form).tolist() == expected
    assert vocabulary.ids([raw[1], "7", True, 10**30]).tolist() == [1, raw.index(7) if 7 in raw else -1, -1, -1]


@pytest.mark.parametrize("raw", [[3, 1, 2], [10**12, -5, 7], ["ü", "", "b" * 40], []])
def test_keys_stand_for_raw_ids(raw):
    vocabulary = IdMap(pa.array(raw, None if raw else pa.string()))
    keys = keys_of(np.array(raw, object if not raw or isinstance(raw[0], str) else np.int64))
    assert keys.dtype == np.int64 and vocabulary.ids_of_keys(keys[::-1]).tolist() == [2, 1, 0][: len(raw)]
    assert vocabulary.ids_of_keys(np.array([0, 1 << 60])).tolist() == [-1, -1]


def test_keys_of_texts_are_the_same_for_good():
    assert keys_of(np.array(["a", "\ud800"], object)).tolist() == [3405396810240292928, 7497787021708494914]
