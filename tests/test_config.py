"""Settings: the nearest name for a misspelt one, and a way to files and back."""

import json
from dataclasses import dataclass, replace
from functools import partial

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from louder.config import (
    RENAMED,
    from_dict,
    load_yaml,
    override,
    require_above_zero,
    require_at_least,
    require_fraction,
    require_one_of,
    tell_renamed,
    to_dict,
)
from louder.data.config import DataConfig
from louder.data.stochastic_length import StochasticLength
from louder.errors import InputError
from louder.models import DLRMConfig, HSTUConfig, RankingConfig, SASRecConfig, TransformerConfig, config_from_dict
from louder.training.config import Config, EvaluationConfig, TrainingConfig

BASE = Config(name="base")
MODELS = HSTUConfig(), SASRecConfig(), TransformerConfig()


@pytest.mark.parametrize(
    ("setting", "misspelt", "nearest"),
    [
        ("protocl=official", "protocl", "protocol"),
        ("trainin.epochs=5", "trainin", "training"),
        ("training.epoch=5", "training.epoch", "training.epochs"),
        ("model.heds=2", "model.heds", "model.heads"),
        ("data.split.kid=time", "data.split.kid", "data.split.kind"),
        ("data.stochastic_length.alfa=1.6", "data.stochastic_length.alfa", "data.stochastic_length.alpha"),
    ],
)
def test_a_misspelt_name_gets_the_nearest_one_at_every_depth(setting, misspelt, nearest):
    with pytest.raises(InputError) as error:
        override(BASE, [setting])
    assert str(error.value) == f"There is no setting {misspelt!r}. Did you mean {nearest!r}?"


@pytest.mark.parametrize(
    ("values", "misspelt", "nearest"),
    [
        ({"nme": "x"}, "nme", "name"),
        ({"name": "x", "loss": {"temperatur": 1}}, "loss.temperatur", "loss.temperature"),
        ({"name": "x", "data": {"split": {"test_user": 0.1}}}, "data.split.test_user", "data.split.test_users"),
        ({"name": "x", "model": {"kind": "sasrec", "hiden": 1}}, "model.hiden", "model.hidden"),
    ],
    ids=str,
)
def test_a_misspelt_name_in_a_file_gets_the_nearest_one(values, misspelt, nearest, tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text(yaml.safe_dump(values))
    with pytest.raises(InputError, match=f"There is no setting {misspelt!r}. Did you mean {nearest!r}?"):
        load_yaml(Config, file)


def test_a_name_like_no_other_gets_the_list():
    with pytest.raises(InputError, match=r"There is no setting 'xyzzy'. There are: name, protocol, data"):
        override(BASE, ["xyzzy=1"])


@pytest.mark.parametrize(
    ("setting", "found"),
    [
        ("training.learning_rate=1e-3", lambda c: c.training.learning_rate == 0.001),
        ("training.epochs=5", lambda c: c.training.epochs == 5),
        ("training.epochs=1e1", lambda c: c.training.epochs == 10 and isinstance(c.training.epochs, int)),
        ("training.betas=[0.8, 0.9]", lambda c: c.training.betas == (0.8, 0.9)),
        ("training.clip_norm=1", lambda c: c.training.clip_norm == 1.0),
        ("training.patience=null", lambda c: c.training.patience is None),
        ("model.time_bias=false", lambda c: c.model.time_bias is False),
        ("data.positive=[like, share]", lambda c: c.data.positive == ("like", "share")),
        ("data.stochastic_length.alpha=1.6", lambda c: c.data.stochastic_length == StochasticLength(alpha=1.6)),
        ("data.table=tables/a=b", lambda c: c.data.table == "tables/a=b"),
        (" protocol =official", lambda c: c.protocol == "official"),
    ],
)
def test_a_setting_is_read_as_its_writer_meant_it(setting, found):
    assert found(override(BASE, [setting]))


def test_settings_change_nothing_else():
    changed = override(BASE, ["training.epochs=7", "model.layers=3"])
    expected = replace(BASE, training=replace(BASE.training, epochs=7), model=replace(BASE.model, layers=3))
    assert changed == expected
    assert override(BASE, []) == BASE


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.kind)
def test_settings_reach_every_kind_of_model(model):
    changed = override(replace(BASE, model=model), ["model.layers=5"])
    assert changed.model == replace(model, layers=5)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("training.epochs", "--set needs NAME=VALUE, but it got 'training.epochs'"),
        ("training.epochs=many", "training.epochs is 'many', which does not fit: input should be a valid integer"),
        ("training.epochs=5.5", "training.epochs is 5.5, which does not fit"),
        ("training.betas=[0.9, many]", r"training.betas.1 is 'many', which does not fit"),
        ("training.betas=[0.9]", "training.betas.1 is missing"),
        ("training=5", "training is 5, which does not fit"),
        ("training.epochs.more=5", "training.epochs is one value; it has no setting 'more' inside"),
        ("model.kind=gru", "model.kind is 'gru', but it must be one of hstu, sasrec, transformer"),
        ("name=[a", "is not valid YAML"),
        ("training.epochs=0", "training.epochs must be at least 1, but it is 0"),
        ("training.learning_rate=0", "training.learning_rate must be above 0"),
        ("training.betas=[0.9, 1.5]", r"training.betas must be in \[0, 1\)"),
        ("training.weight_decay=-1", "training.weight_decay must be at least 0, but it is -1"),
        (
            "training.embedding_optimizer=sgd",
            "training.embedding_optimizer must be adamw, rowwise_adamw or rowwise_adagrad, but it is 'sgd'",
        ),
        ("training.embedding_learning_rate=-1", "training.embedding_learning_rate must be at least 0, but it is -1"),
        ("training.warmup_steps=-1", "training.warmup_steps must be at least 0"),
        ("training.clip_norm=0", "training.clip_norm must be above 0"),
        ("training.seed=-1", "training.seed must be at least 0"),
        ("training.schedule=step", "training.schedule must be constant, linear or cosine"),
        ("protocol=both", "protocol must be validated or official"),
        ("data.max_len=500", "data.max_len is 500, but the model takes histories up to model.max_len, 211"),
        ("data.query_time=now", "data.query_time must be request or withheld"),
        ("data.split.kind=random", "data.split.kind must be leave_last_out, time or users"),
        ("data.split.kind=time", "data.split.kind=time needs data.split.validation_from"),
        ("data.split.test_users=0.5", "data.split.test_users must be between 0 and 0.5"),
        ("data.stochastic_length.alpha=1", r"data.stochastic_length.alpha must be in \(1, 2\]"),
        ("data.stochastic_length.selection=best", "must be recent, random or weighted"),
        ("evaluation.select=auc", "evaluation.select must be hr@1, .* or mrr, but it is 'auc'"),
        ("evaluation.seen=all", "evaluation.seen must be window, history or none"),
        ("loss.kind=hinge", "loss.kind must be sampled_softmax, full_softmax, bce or gbce"),
        ("loss.temperature=0", "loss.temperature must be above 0"),
        ("model.dropout=1", r"model.dropout must be in \[0, 1\)"),
        ("model.heads=0", "model.heads must be at least 1"),
        ("model.attention=linear", "model.attention must be silu or softmax"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_in_a_sentence(setting, message):
    with pytest.raises(InputError, match=message) as error:
        override(BASE, [setting])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.kind)
def test_a_wrong_type_is_told_of_the_model_that_was_asked_for(model):
    values = to_dict(replace(BASE, model=model))
    values["model"]["layers"] = "many"
    with pytest.raises(
        InputError, match=r"^model\.layers is 'many', which does not fit: input should be a valid integer"
    ):
        from_dict(Config, values)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.kind)
def test_a_config_written_as_yaml_comes_back_equal(model, tmp_path):
    config = replace(
        BASE,
        model=model,
        data=DataConfig(positive=("like",), stochastic_length=StochasticLength(alpha=1.7)),
        training=TrainingConfig(betas=(0.5, 0.6), clip_norm=1.5, learning_rate=1e-7),
    )
    file = tmp_path / "run.yaml"
    file.write_text(yaml.safe_dump(json.loads(json.dumps(to_dict(config)))))
    assert load_yaml(Config, file) == config


@settings(max_examples=15)
@given(
    st.integers(1, 1000),
    st.floats(1e-9, 10),
    st.sampled_from(["constant", "linear", "cosine"]),
    st.one_of(st.none(), st.floats(0.01, 100)),
)
def test_any_training_config_comes_back_equal_from_json(epochs, rate, schedule, clip):
    training = TrainingConfig(epochs=epochs, learning_rate=rate, schedule=schedule, clip_norm=clip)
    config = replace(BASE, training=training)
    assert from_dict(Config, json.loads(json.dumps(to_dict(config)))) == config
    assert override(BASE, [f"training.learning_rate={rate!r}"]).training.learning_rate == rate


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read: No such file"),
        (b"a: [1", "is not valid YAML"),
        (b"- 1\n- 2", "holds list, but it needs names and values"),
        (b"", "holds NoneType, but it needs names and values"),
        (b"5: x", "There is no setting '5'"),
        (b"protocol: official", "name is missing, and it has no default"),
        (b"name: \xff\xfe", "is not valid YAML|cannot be read"),
        (b"name: x\nmodel: {layers: 3}", "model.kind is None, but it must be one of hstu"),
    ],
    ids=str,
)
def test_a_bad_file_is_refused_in_a_sentence(content, message, tmp_path):
    file = tmp_path / "run.yaml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InputError, match=message) as error:
        load_yaml(Config, file)
    assert "\n" not in str(error.value)


@given(st.text(max_size=20))
def test_any_setting_is_taken_or_refused_with_an_input_error(text):
    try:
        assert isinstance(override(BASE, [text]), Config)
        override(BASE, [f"name={text}"])
    except InputError:
        pass


def test_a_dataclass_without_unions_is_read_too():
    @dataclass(frozen=True, kw_only=True)
    class Small:
        size: int
        share: float = 0.5

    assert from_dict(Small, {"size": 3}) == Small(size=3)


@pytest.mark.parametrize(
    ("ranking", "needed"),
    [
        (RankingConfig(), 2 * 10 + 1),  # an item and its action each, and a candidate
        (RankingConfig(context=("age", "land")), 2 * 10 + 2 + 1),
        (RankingConfig(tokens="added", context=("age",)), 10 + 1 + 1),
    ],
    ids=str,
)
def test_a_ranker_has_room_for_the_longest_history_its_context_and_a_candidate(ranking, needed):
    def config(max_len):
        model, data = HSTUConfig(max_len=max_len), DataConfig(max_len=10)
        return Config(name="x", model=model, data=data, ranking=ranking, evaluation=EvaluationConfig(select="ne"))

    assert config(needed).model.max_len == needed
    with pytest.raises(InputError, match=rf"makes {needed} tokens .* up to model\.max_len, {needed - 1}: --set"):
        config(needed - 1)


def test_a_model_of_impressions_takes_a_history_of_any_length():
    data, evaluation = DataConfig(max_len=10_000), EvaluationConfig(select="auc")
    Config(name="x", model=DLRMConfig(), data=data, ranking=RankingConfig(), evaluation=evaluation)


def test_a_history_as_long_as_the_model_takes_fits():
    assert override(BASE, ["data.max_len=211"]).data.max_len == 211


# --- settings by their old names ---------------------------------------------------------------------------------


@pytest.fixture
def untold():
    """Each test is the first to use an old name."""
    tell_renamed.cache_clear()


DLRM = replace(BASE, model=DLRMConfig(unit_hidden=5))
TOLD = "louder: the setting model.unit is called model.unit_hidden now.\n"


def under_its_old_name(config):
    values = json.loads(json.dumps(to_dict(config)))
    values["model"]["unit"] = values["model"].pop("unit_hidden")
    return values


def test_an_old_name_is_read_everywhere_and_told_once(untold, tmp_path, capsys):
    values = under_its_old_name(DLRM)
    file = tmp_path / "run.yaml"
    file.write_text(yaml.safe_dump(values))
    assert load_yaml(Config, file) == DLRM
    assert capsys.readouterr().err == TOLD
    assert from_dict(Config, values) == DLRM
    assert config_from_dict(values["model"]) == DLRM.model  # as of a checkpoint
    assert override(DLRM, ["model.unit=7"]).model.unit_hidden == 7
    assert capsys.readouterr().err == ""  # once is enough


@pytest.mark.parametrize("reader", ["--set", "checkpoint"])
def test_an_old_name_is_told_whoever_reads_it(reader, untold, capsys):
    if reader == "--set":
        override(DLRM, ["model.unit=7"])
    else:
        config_from_dict(under_its_old_name(DLRM)["model"])
    out, err = capsys.readouterr()
    assert (out, err) == ("", TOLD)


def test_a_new_name_is_not_told(untold, capsys):
    override(DLRM, ["model.unit_hidden=7"])
    from_dict(Config, to_dict(DLRM))
    assert capsys.readouterr().err == ""


def test_an_old_name_is_no_setting_of_what_never_had_it(untold):
    with pytest.raises(InputError, match=r"There is no setting 'model\.unit'"):
        override(BASE, ["model.unit=7"])


def test_both_names_of_a_setting_are_refused(untold):
    values = to_dict(DLRM)
    values["model"]["unit"] = 3
    with pytest.raises(InputError, match=r"model\.unit is model\.unit_hidden now, and both are given"):
        from_dict(Config, values)


@pytest.mark.parametrize("old", RENAMED)
def test_no_setting_has_an_old_name(old):
    section, _, name = old.rpartition(".")
    for config in (BASE, DLRM, *(replace(BASE, model=model) for model in MODELS)):
        at = to_dict(config)
        for part in section.split("."):
            at = at[part] or {}
        assert name not in at


# --- what settings must be ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Given:
    value: object


@pytest.mark.parametrize(
    ("check", "fits", "fails", "needed"),
    [
        (partial(require_at_least, 1, "model"), [1, 7, None], [0, -3], "at least 1"),
        (partial(require_at_least, 0, "model"), [0, 0.5, None], [-1, -1e-9], "at least 0"),
        (partial(require_above_zero, "model"), [1e-9, 3, None], [0, -1.0], "above 0"),
        (partial(require_fraction, "model"), [0, 0.999, None], [1, 1.0, -0.1], r"in \[0, 1\)"),
    ],
    ids=["at least 1", "at least 0", "above 0", "fraction"],
)
def test_a_setting_beyond_its_bound_is_told_with_its_name_and_value(check, fits, fails, needed):
    for value in fits:
        check(Given(value), "value")
    for value in fails:
        with pytest.raises(InputError, match=rf"^model\.value must be {needed}, but it is {value}\.$"):
            check(Given(value), "value")


def test_one_of_several_is_told_with_what_there_is():
    require_one_of("", Given("b"), value=("a", "b"))
    with pytest.raises(InputError, match=r"^value must be a, b or c, but it is 'd'\.$"):
        require_one_of("", Given("d"), value=("a", "b", "c"))
