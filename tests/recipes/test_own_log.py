"""Each rule by a table for which its answer is known."""

import json

import pytest

from louder.config import nest, parse_setting
from louder.errors import InputError
from louder.models import SASRecConfig
from louder.recipes.own_log import TableFacts, config_for, facts_of, fit
from tests.tables import Token, ranking_table, write_ranking_table, write_table


def facts(**changes: object) -> TableFacts:
    return TableFacts(**({"users": 10_000, "items": 5_000, "events": 600_000, "median": 40.0, "p90": 90.0} | changes))


def chosen(size: str = "medium", given: dict[str, object] | None = None, **changes: object) -> dict[str, object]:
    return {name: value for choice in fit(facts(**changes), size, given) for name, value in choice.settings.items()}


def test_every_choice_has_a_reason_and_no_setting_is_chosen_twice():
    choices = fit(facts(actions={"like": 0.5}))
    names = [name for choice in choices for name in choice.settings]
    assert len(names) == len(set(names)) and all(choice.why for choice in choices)


@pytest.mark.parametrize(
    ("p90", "size", "longest"),
    [
        (7, "medium", 10),
        (10, "medium", 10),
        (11, "medium", 20),
        (90, "small", 50),
        (201, "medium", 200),
        (201, "large", 500),
        (900, "large", 500),
    ],
)
def test_a_history_is_as_long_as_nine_users_in_ten_have_one_and_the_size_allows(p90, size, longest):
    settings = chosen(size, p90=float(p90))
    assert (settings["data.max_len"], settings["model.max_len"]) == (longest, longest)


def test_the_size_is_width_and_layers_and_nothing_else_of_a_short_log():
    small, large = (chosen(size, p90=20.0) for size in ("small", "large"))
    assert {name for name in small if small[name] != large[name]} == {
        "model.width", "model.qk_width", "model.v_width", "model.layers",
    }  # fmt: skip
    with pytest.raises(InputError, match="The size is 'huge', but it must be one of small, medium, large"):
        fit(facts(), "huge")


@pytest.mark.parametrize(("repeats", "seen"), [(0.0, "history"), (0.049, "history"), (0.05, "none"), (0.8, "none")])
def test_seen_items_are_shown_again_where_people_repeat(repeats, seen):
    assert chosen(repeats=repeats)["evaluation.seen"] == seen
    assert chosen(repeats=repeats, actions={"like": 0.5})["evaluation.seen"] == (
        "window" if seen == "history" else seen
    )


@pytest.mark.parametrize(("users", "together"), [(100, 16), (6_399, 16), (6_400, 32), (25_600, 128), (10**7, 256)])
def test_an_epoch_has_some_two_hundred_steps(users, together):
    assert chosen(users=users)["data.users_per_batch"] == together


def test_a_catalogue_decides_about_negatives():
    assert [chosen(items=items)["loss.num_negatives"] for items in (9_999, 10_000, 99_999)] == [128, 512, 512]
    huge = chosen(items=100_000)
    assert (huge["loss.num_negatives"], huge["loss.shared_negatives"]) == (1024, True)
    assert huge["training.embedding_optimizer"] == "rowwise_adamw"


@pytest.mark.parametrize(("items", "dropout"), [(6_000, 0.2), (6_001, 0.3), (20_000, 0.3), (20_001, 0.5)])
def test_dropout_falls_with_the_events_of_an_item(items, dropout):
    settings = chosen(items=items)
    assert settings["model.dropout"] == settings["model.linear_dropout"] == dropout


def test_a_log_without_a_clock_has_no_bias_by_time():
    assert chosen()["model.time_bias"] is True
    assert chosen(has_times=False)["model.time_bias"] is False


@pytest.mark.parametrize(
    ("actions", "main"),
    [({}, None), ({"view": 1.0}, None), ({"view": 0.99, "buy": 0.03}, "buy"), ({"a": 0.5, "b": 0.5}, "a")],
)
def test_the_first_action_that_tells_items_apart_is_ranked_by(actions, main):
    settings = chosen(actions=actions)
    assert settings.get("ranking.main") == main
    assert settings.get("ranking.next_item") == (0.2 if main else None)


def test_where_what_was_shown_is_there_the_next_item_is_one_that_was_taken():
    two, one = {"click": 0.4, "like": 0.1}, {"like": 0.6}
    assert chosen(actions=two, idle=0.5)["data.positive"] == ["click"]
    assert "data.positive" not in chosen(actions=two, idle=0.0)
    assert "data.positive" not in chosen(actions=one, idle=0.4)  # ratings: an event below the mark is one, too
    assert chosen(actions=one, idle=0.4, has_requests=True)["data.positive"] == ["like"]


def test_what_is_given_wins_and_the_rules_follow_it():
    settings = chosen(given={"data.max_len": 77, "model.width": 48, "model.heads": 3})
    assert settings["model.max_len"] == 77 and settings["model.qk_width"] == 16
    assert not settings.keys() & {"data.max_len", "model.width", "model.heads"}
    ranked = chosen(given={"data.max_len": 77}, actions={"like": 0.5}, user_attributes=("age", "city"))
    assert ranked["model.max_len"] == 2 * 77 + 2 + 1
    assert "ranking.main" not in chosen(given={"ranking": None}, actions={"like": 0.5})
    assert chosen(given={"training.patience": 1})["training.epochs"] == 100


@pytest.mark.parametrize("kind", ["hstu", "sasrec", "transformer", "dlrm", "wukong"])
@pytest.mark.parametrize("actions", [{}, {"like": 0.5}], ids=["without actions", "with"])
def test_every_model_gets_a_whole_config(kind, actions):
    if kind in ("dlrm", "wukong") and not actions:
        return
    config, _ = config_for(facts(actions=actions), "tables/shop", settings=[f"model.kind={kind}"])
    assert (config.name, config.data.table, config.model.kind) == ("shop", "tables/shop", kind)
    assert (config.ranking is None) == (not actions or kind == "sasrec")
    assert config.two_stages == (bool(actions) and kind in ("hstu", "transformer"))


def test_settings_that_do_not_fit_are_told_by_name():
    with pytest.raises(InputError, match=r"There is no setting 'training.epoch'. Did you mean 'training.epochs'\?"):
        config_for(facts(), "t", settings=["training.epoch=5"])
    with pytest.raises(InputError, match="a is one value; it has no setting 'b' inside"):
        nest({"a": 1, "a.b": 2})
    assert nest({"a.b": 1, "a.c.d": 2, "e": 3}) == {"a": {"b": 1, "c": {"d": 2}}, "e": 3}
    assert parse_setting("a.b = 1e-3") == ("a.b", 0.001)


def test_facts_are_counted_from_the_table(tmp_path):
    users = [
        [Token(0, 10, 1), Token(1, 20, 0), Token(0, 30, 3)],
        [Token(2, 10, 2)],
    ]
    found = facts_of(write_table(tmp_path / "t", users, items=4, actions=("click", "buy")))
    assert (found.users, found.items, found.events, found.median, found.has_times) == (2, 4, 4, 2.0, True)
    assert (found.repeats, found.idle, found.actions) == (0.25, 0.25, {"click": 0.5, "buy": 0.5})
    assert found.exposures and found.main_action == "click" and found.item_attributes == ()


def test_categories_are_told_from_titles_and_quantities(tmp_path):
    table = write_ranking_table(tmp_path / "t", ranking_table(items=40, users=40))
    found = facts_of(table)
    assert found.item_attributes == ("genres",)  # and not the titles
    assert found.user_attributes == ("age",)


ROWS = [f"{user},{(user + event) % 9},{1_700_000_000 + event}\n" for user in range(30) for event in range(6)]


def test_train_without_a_recipe_prints_its_rules_and_goes_on_by_its_own_config(louder, tmp_path):
    log, table, run = tmp_path / "log.csv", tmp_path / "shop", tmp_path / "run"
    log.write_text("user_id,item_id,timestamp\n" + "".join(ROWS))
    assert louder("etl", log, "-o", table)[0] == 0
    given = "--set", "training.epochs=1", "--set", "model.width=8"
    code, out, err = louder("train", "--table", table, "-o", run, "--size", "small", "--json", *given)
    assert code == 0, err
    assert "evaluation.seen=" in err and "change any of it" in err and json.loads(out)["epochs_trained"] == 1
    config = json.loads((run / "config.json").read_text())
    assert (config["name"], config["model"]["width"], config["model"]["layers"]) == ("shop", 8, 2)
    code, out, err = louder("train", "-o", run, "--resume", "--json", "--set", "training.epochs=2")
    assert (code, json.loads(out)["epochs_trained"]) == (0, 2)


def test_train_says_what_it_lacks(louder, tmp_path):
    assert "--table TABLE" in louder("train")[2]
    assert "Leave one of them out" in louder("train", "demo", "--size", "small")[2]


def test_sasrec_has_no_ranking_part():
    config, choices = config_for(facts(actions={"like": 0.5}), "t", settings=["model.kind=sasrec"])
    assert isinstance(config.model, SASRecConfig) and config.model.hidden == config.model.width
    assert not any("ranking" in name for choice in choices for name in choice.settings)
