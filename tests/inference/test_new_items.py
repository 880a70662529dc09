"""Items that a model has not met are scored by what a request says of them. From a log with an items file to answers,
through the commands a person types."""

import json

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from louder.cli import app
from louder.errors import InputError
from louder.histories.items import ItemFacts
from louder.inference.new_items import encode_new_items, read_new_items
from louder.inference.recommender import Recommender

ITEMS, UNTOUCHED = 24, 4  # the last ones are in the items file alone
GOOD, BAD = [1.0, 0.2, 0.0], [-0.2, 1.0, 0.0]


def louder(*words):
    """Standard output; or what a mistake was answered with."""
    done = CliRunner().invoke(app, [str(word) for word in words])
    if done.exception is not None and not isinstance(done.exception, SystemExit | InputError):
        raise done.exception
    return done.stdout if done.exit_code == 0 else done.exception


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A table of people who like an item if it is good, which its kind, its tags and its text tell; and who share 8 of
    the 10 good items and 2 of the 10 bad ones, which its id tells alone. And runs on it."""
    folder = tmp_path_factory.mktemp("place")
    draw = np.random.default_rng(0)
    with (folder / "items.jsonl").open("w") as file:
        for item in range(ITEMS):
            good = item % 2 == 0
            text = None if item == 3 else (5 * np.array(GOOD if good else BAD) + draw.normal(0, 0.1, 3)).tolist()
            tags = ["sunny" if good else "rainy", *(["old"] if item % 3 else [])]
            row = {"item_id": item, "title": f"Title {item}", "kind": "good" if good else "bad", "tags": tags}
            file.write(json.dumps(row | {"year": 2000 + item % 5, "text": text}) + "\n")
    with (folder / "log.csv").open("w") as file:
        file.write("user_id,item_id,timestamp,liked,shared\n")
        for user in range(60):
            for number, item in enumerate(draw.permutation(ITEMS - UNTOUCHED)[:10]):
                liked, shared = item % 2 == 0, (item % 2 == 0) ^ (item in (0, 1, 10, 11))
                file.write(f"{user},{item},{1000 * user + 60 * number},{int(liked)},{int(shared)}\n")
    about = ["--items", folder / "items.jsonl", "--action", "like=liked", "--action", "share=shared"]
    louder("etl", folder / "log.csv", "-o", folder / "table", *about)
    train(folder, "run", "item_attributes=[tags, year]", "item_vectors=[text]", "id_dropout=0.5")
    # paired tokens could tell from a history of ten items which of the sixteen are left
    train(folder, "kinds", "item_attributes=[kind]", "id_dropout=0.5", "tokens=interleaved")
    train(folder, "ids")
    return folder


def train(folder, name, *ranking, recipe="synthetic:rank_hstu", model=("layers=1", "max_len=21"), epochs=15):
    changes = ["log_values=[]", *([] if ranking else ["item_attributes=[]"]), *ranking]
    settings = [f"ranking.{x}" for x in changes] + [f"model.{x}" for x in model]
    settings += ["data.max_len=10", "data.users_per_batch=10", f"training.epochs={epochs}"]
    settings += ["training.learning_rate=1e-2", "training.device=cpu"]
    words = [word for setting in settings for word in ("--set", setting)]
    return louder("train", recipe, "--table", folder / "table", "-o", folder / name, *words, "--json")


@pytest.fixture(scope="module")
def ranker(place):
    return Recommender(place / "run")


def likes(ranker, items, new_items, **request):
    answers = ranker.rank(**({"user": 7} | request), items=items, new_items=new_items)
    assert [answer.item for answer in answers] == items
    return [answer.actions["like"] for answer in answers]


@pytest.mark.parametrize("given", ["tags", "text"])
def test_a_new_item_is_liked_for_what_it_has_in_common_with_good_ones(ranker, given):
    good, bad = {"tags": ["sunny"], "text": GOOD}, {"tags": ["rainy"], "text": BAD}
    new = {"good": {given: good[given]}, "bad": {given: bad[given]}}
    for user in 0, 7, 31:
        above, below = likes(ranker, ["good", "bad"], new, user=user)
        assert above > 0.8 and below < 0.2
    above, below = likes(ranker, ["good", "bad"], new, user=None, history=[])
    assert above > below


def test_with_id_dropout_a_new_item_is_given_the_rate_of_those_that_it_resembles(place):
    """Without it, ids hide that 2 of 10 good items are never shared: the answers are 1 and 0."""
    ranker = Recommender(place / "kinds")
    for user in 0, 7, 31:
        new = {"new": {"kind": "good"}, "other": {"kind": "bad"}}
        answers = ranker.rank(user=user, items=["new", "other", 2, 0, 1, 3], new_items=new)
        good, bad, *known = (answer.actions["share"] for answer in answers)
        assert good == pytest.approx(0.8, abs=0.12) and bad == pytest.approx(0.2, abs=0.12)
        assert known == pytest.approx([1, 0, 1, 0], abs=0.12)  # those that it has met keep their own


def test_an_item_of_the_items_file_that_nobody_met_is_scored_by_its_attributes(ranker):
    shares = likes(ranker, list(range(ITEMS - UNTOUCHED, ITEMS)), None)
    assert min(shares[0::2]) > 0.8 and max(shares[1::2]) < 0.2


def drawn(ranker):
    """The same with weights so large that a wrong connection shows, and answers that are far from 0 and 1."""
    torch.manual_seed(0)
    for parameter in ranker.engine.ranker.model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return ranker


def test_the_length_of_a_vector_does_not_matter(place):
    ranker = drawn(Recommender(place / "run"))
    new = {"a": {"text": GOOD}, "b": {"text": [100 * x for x in GOOD]}, "c": {"text": np.array(GOOD)}}
    first, *others = likes(ranker, ["a", "b", "c", 1], new)
    assert others[:2] == pytest.approx([first, first], abs=1e-6)
    assert abs(others[2] - first) > 1e-3


def test_the_others_do_not_depend_on_new_items(place):
    ranker = drawn(Recommender(place / "run"))
    new = {"new": {"tags": ["rainy"], "year": 2001}, 999: {"text": GOOD}}
    alone = likes(ranker, [3, 0, 19], None)
    mixed = likes(ranker, [3, "new", 0, 999, 19, "new"], new)
    assert [mixed[place] for place in (0, 2, 4)] == pytest.approx(alone, abs=1e-5)
    assert mixed[5] == pytest.approx(mixed[1], abs=1e-6)
    assert mixed[1] == pytest.approx(likes(ranker, ["new"], new)[0], abs=1e-5)
    assert mixed[3] == pytest.approx(likes(ranker, ["999"], {"999": {"text": GOOD}})[0], abs=1e-5)
    assert np.diff(sorted(mixed[:5])).min() > 1e-3  # all are told apart


def test_what_is_cached_knows_no_new_item(place):
    """A name that comes again with other attributes is another item, and what stays is the history alone."""
    ranker = drawn(Recommender(place / "run"))
    one, other = {"new": {"tags": ["sunny"], "text": GOOD}}, {"a": {"text": GOOD}, "new": {"tags": ["rainy"]}}
    first, second = likes(ranker, ["new", 0], one), likes(ranker, [0, "new"], other)
    assert ranker.engine.caches[0].hits == 1
    fresh = likes(drawn(Recommender(place / "run")), [0, "new"], other)
    assert second == pytest.approx(fresh, abs=1e-5)
    assert first[1] == pytest.approx(second[0], abs=1e-5)
    assert abs(first[0] - second[1]) > 1e-3


def test_an_item_given_with_its_own_attributes_is_it_without_its_id(place):
    ranker = drawn(Recommender(place / "run"))
    (row,) = (x for x in ranker.engine.run.items.to_pylist() if x["title"] == "Title 4")
    new = {"as 4": {name: row[name] for name in ("tags", "year", "text")}}
    found, with_its_id = likes(ranker, ["as 4", 4], new, user=None, history=[])
    assert abs(found - with_its_id) > 1e-3
    ranker.engine.ranker.model.backbone.events.items.weight.data[4] = 0
    assert found == pytest.approx(likes(ranker, [4], None, user=None, history=[])[0], abs=1e-5)


def test_the_command_line_reads_them_from_a_file(place, ranker, tmp_path):
    new = {"new-film": {"tags": "sunny", "text": GOOD}, "77": {"year": 2001.0, "text": None}}
    (tmp_path / "new.json").write_text(json.dumps(new))
    words = "--user", "7", "--items", "1,new-film,77", "--new-items", tmp_path / "new.json"
    found = json.loads(louder("rank", place / "run", *words, "--json"))
    assert [answer["item"] for answer in found] == [1, "new-film", "77"]  # the known by the log's own id
    assert [answer["title"] for answer in found] == ["Title 1", "", ""]
    expected = likes(ranker, [1, "new-film", 77], {"new-film": {"tags": ["sunny"], "text": GOOD}, 77: {"year": 2001}})
    np.testing.assert_allclose([answer["actions"]["like"] for answer in found], expected, atol=1e-5)


def test_evaluate_repeats_what_training_reported(place):
    again = json.loads(louder("evaluate", place / "run", "--json"))
    reported = json.loads((place / "run" / "metrics.json").read_text())
    assert again["actions"] == reported["actions"]
    assert again["actions"]["like"]["auc"] > 0.99


@pytest.mark.parametrize(
    ("recipe", "model"), [("dlrm", ["width=4"]), ("wukong", ["kind=wukong", "width=4", "history=50"])]
)
def test_models_of_impressions_read_vectors(place, recipe, model):
    """Of the text alone, which tells good from bad; one item has none."""
    ranking = ["item_attributes=[]", "item_vectors=[text]"]
    train(place, recipe, *ranking, recipe="synthetic:rank_dlrm", model=[], epochs=2)
    found = json.loads(louder("evaluate", place / recipe, "--json"))
    assert found["actions"] == json.loads((place / recipe / "metrics.json").read_text())["actions"]


# --- mistakes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("items", "new", "message"),
    [
        (
            ["film"],
            None,
            r"^1 of the candidates are items that the model does not know: film\. Leave them out, or say what is known "
            r"of them \(tags, year, text\): --new-items FILE\.json\.$",
        ),
        (["film"], {"other": {"year": 2000}}, "does not know: film"),
        (
            ["film"],
            {"film": {}},
            r"Nothing that is given of the new item 'film' was known.*\(tags: \"old\", year: \"2000",
        ),
        (["film"], {"film": {"tags": ["dry"], "year": None, "text": [0, 0, 0]}}, "Nothing that is given of"),
        (
            ["film"],
            {"film": {"tag": ["old"]}},
            r"has 'tag', but the model knows tags, year, text\. Did you mean 'tags'",
        ),
        (["film"], {"film": {"year": [2000]}}, r"'year' = \[2000\], but items have one year, not a list"),
        (["film"], {"film": {"text": [1.0, 2.0]}}, r"'text' = \[1\.0, 2\.0\], but it must be a list of 3 numbers"),
        (["film"], {"film": {"text": [1.0, None, 0.0]}}, "must be a list of 3 numbers"),
        (["film"], {"film": {"text": "sunny"}}, "must be a list of 3 numbers"),
        (
            [0],
            {0: {"year": 2001}, 5: {"year": 2001}},
            r"2 of the new items are known to the model: 0, 5\. .*leave them",
        ),
    ],
    ids=str,
)
def test_a_mistake_is_a_sentence(ranker, items, new, message):
    with pytest.raises(InputError, match=message):
        ranker.rank(user=7, items=items, new_items=new)


def test_what_is_known_is_ranked_and_the_rest_is_named(ranker):
    new = {"told": {"year": 2001}}
    found = ranker.rank(user=7, items=["film", 0, "told", "other", 5], new_items=new)
    assert [answer.item for answer in found] == [0, "told", 5] and found.unknown == ["film", "other"]
    for answer, alone in zip(found, ranker.rank(user=7, items=[0, "told", 5], new_items=new), strict=True):
        assert answer.actions == pytest.approx(alone.actions, abs=1e-6)
    assert ranker.rank(user=7, items=[0]).unknown == []


def test_what_was_told_of_an_item_ranks_it_as_what_a_request_says(place):
    ranker = Recommender(place / "run")
    new = {"told": {"tags": ["old"], "year": 2001}, "more": {"year": 2000}}
    expected = ranker.rank(user=7, items=["told", 0, "more"], new_items=new)
    facts = {
        "told": ItemFacts("Told", {"tags": ["old"], "year": 2001, "price": 9.5}),  # the model reads no price
        "more": ItemFacts(attributes={"year": 1999}),  # what the request says counts before it
        "bare": ItemFacts("Bare", {"price": 9.5}),
        "odd": ItemFacts("Odd", {"year": [2000]}),  # fits another model
        "gone": ItemFacts(attributes={"year": 2000}, available=False),
        5: ItemFacts(available=False),
    }
    ranker.engine.catalogue.updates.take(facts)
    asked = ["told", "bare", 0, "odd", "gone", "more", 5]
    found = ranker.rank(user=7, items=asked, new_items={"more": {"year": 2000}})
    assert [answer.item for answer in found] == ["told", 0, "more"]
    assert found.unknown == ["bare", "odd"] and found.unavailable == ["gone", 5]
    for answer, same in zip(found, expected, strict=True):
        assert answer.actions == pytest.approx(same.actions, abs=1e-6)
    assert found[0].title == "Told"
    with pytest.raises(InputError, match=r"2 of the candidates are not to be had: gone, 5\."):
        ranker.rank(user=7, items=["gone", 5])


def test_a_model_without_attributes_says_so(place):
    for new in None, {"film": {"tags": ["old"]}}:
        with pytest.raises(InputError, match=r"does not know: film.*no attributes of items to score them by"):
            Recommender(place / "ids").rank(user=7, items=["film"], new_items=new)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot be read: No such file"),
        ("{", "is not JSON"),
        ('["film"]', "holds list. It must be an object such as"),
        ('{"film": ["old"]}', r"'film' of .* is \[\"old\"\]\. The file must be an object such as"),
    ],
)
def test_a_file_that_holds_no_new_items_is_refused(tmp_path, text, message):
    if text is not None:
        (tmp_path / "new.json").write_text(text)
    with pytest.raises(InputError, match=message):
        read_new_items(tmp_path / "new.json")


@pytest.mark.parametrize(
    ("ranking", "message"),
    [
        (["item_vectors=[txt]"], r"ranking\.item_vectors is \[txt\]\. There is no attribute 'txt'.*mean 'text'"),
        (["item_vectors=[tags]"], r"item_vectors is \[tags\].*name it in ranking\.item_attributes"),
        (["item_attributes=[text]"], r"item_attributes is \[text\].*name it in ranking\.item_vectors"),
    ],
    ids=str,
)
def test_a_column_that_does_not_fit_its_setting_is_refused(place, ranking, message):
    with pytest.raises(InputError, match=message):
        raise train(place, "refused", "item_attributes=[]", *ranking)
    assert not (place / "refused").exists()


def test_rows_come_in_the_order_of_the_items(ranker):
    tags, year, text = encode_new_items(
        ranker.engine.ranker.model.item_attributes.columns,
        {"a": {"tags": ["sunny", "dry", "old"], "year": 1800}, "b": {"tags": [], "text": GOOD}, "c": {"year": "2002"}},
    )
    assert (tags.offsets.tolist(), [tags.labels[code] for code in tags.codes]) == ([0, 2, 2, 2], ["sunny", "old"])
    assert (year.offsets.tolist(), [year.labels[code] for code in year.codes]) == ([0, 1, 2, 3], ["", "", "2002"])
    torch.testing.assert_close(text.matrix, torch.tensor([[0.0] * 3, GOOD, [0.0] * 3]))
