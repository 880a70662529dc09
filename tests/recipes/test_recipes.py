"""Recipes have the official hyper-parameters."""

import json

import pytest
import yaml

from louder import recipes
from louder.config import load_yaml, to_dict
from louder.errors import InputError
from louder.models import HSTUConfig, SASRecConfig, TransformerConfig
from louder.training.config import Config


@pytest.mark.parametrize("name", recipes.names())
def test_every_recipe_loads_and_comes_back_from_a_file(name, tmp_path):
    config = recipes.load(name)
    assert isinstance(config, Config)
    assert config.data.table
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(json.loads(json.dumps(to_dict(config)))))
    assert load_yaml(Config, file) == recipes.load(str(file)) == config


def test_the_recipes_are_those_that_are_promised():
    promised = {
        f"{data}:{model}"
        for data in ("ml1m", "ml20m", "books")
        for model in ("sasrec", "transformer", "hstu", "hstu_large")
    }
    assert promised | {"demo:demo"} <= set(recipes.names())
    assert any(name.startswith("synthetic:") for name in recipes.names())
    assert len({recipes.load(name).name for name in recipes.names()}) == len(recipes.names())


def test_a_recipe_alone_in_its_file_goes_by_one_name():
    assert recipes.load("demo") == recipes.load("demo:demo")


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("ml1m:hsut", "ml1m:hstu"),
        ("ml1m:hstu-large", "ml1m:hstu_large"),
        ("ml-1m:sasrec", "ml1m:sasrec"),
        ("demmo", "demo:demo"),
    ],
)
def test_an_unknown_recipe_gets_the_nearest_one(name, nearest):
    with pytest.raises(InputError, match=f"There is no recipe {name!r}. Did you mean {nearest}?"):
        recipes.load(name)


def test_a_config_file_that_is_missing_is_told():
    with pytest.raises(InputError, match=r"The config mine\.yaml cannot be read"):
        recipes.load("mine.yaml")


# layers, heads, width, qk = v width, dropout, negatives, longest history, epochs
OFFICIAL = {
    "ml1m:sasrec": (2, 1, 50, None, 0.2, 128, 200, 101),
    "ml1m:hstu": (2, 1, 50, 50, 0.2, 128, 200, 101),
    "ml1m:hstu_large": (8, 2, 50, 25, 0.2, 128, 200, 101),
    "ml20m:sasrec": (4, 4, 256, None, 0.2, 128, 200, 101),
    "ml20m:hstu": (4, 4, 256, 64, 0.2, 128, 200, 101),
    "ml20m:hstu_large": (16, 8, 256, 32, 0.2, 128, 200, 101),
    "books:sasrec": (4, 4, 64, None, 0.5, 512, 50, 201),
    "books:hstu": (4, 4, 64, 16, 0.5, 512, 50, 201),
    "books:hstu_large": (16, 8, 64, 8, 0.5, 512, 50, 201),
}


@pytest.mark.parametrize("name", OFFICIAL)
def test_hyper_parameters_are_the_official_ones(name):
    config = recipes.load(name)
    layers, heads, width, per_head, dropout, negatives, longest, epochs = OFFICIAL[name]
    model = config.model
    assert (model.layers, model.heads, model.width, model.dropout) == (layers, heads, width, dropout)
    assert model.max_len == longest + 11  # the official code pads to that
    if isinstance(model, HSTUConfig):
        assert (model.qk_width, model.v_width, model.linear_dropout) == (per_head, per_head, dropout)
        assert (model.position_bias, model.time_bias, model.time_buckets) == (True, True, 129)
        assert (model.attention, model.gating) == ("silu", True)
    else:
        assert isinstance(model, SASRecConfig)
        assert model.hidden == width
    assert model.normalised
    loss = config.loss
    assert (loss.kind, loss.negatives, loss.num_negatives) == ("sampled_softmax", "uniform", negatives)
    assert (loss.temperature, loss.logq) == (0.05, False)
    data, training = config.data, config.training
    assert (data.max_len, data.users_per_batch, data.events_per_batch) == (longest, 128, None)
    assert (data.actions, data.positive, data.query_time) == (False, (), "request")
    assert (data.split.kind, data.stochastic_length) == ("leave_last_out", None)
    assert (training.epochs, training.learning_rate, training.betas) == (epochs, 1e-3, (0.9, 0.98))
    assert (training.weight_decay, training.warmup_steps, training.schedule) == (0, 0, "constant")
    assert (training.clip_norm, training.precision, training.seed) == (None, "float32", 42)
    assert config.evaluation.seen == "window"
    assert config.evaluation.every_epochs == (5 if name.startswith("books") else 1)


def test_transformers_are_as_deep_and_wide_as_the_hstu_beside_them():
    for data in "ml1m", "ml20m", "books":
        transformer, hstu = recipes.load(f"{data}:transformer").model, recipes.load(f"{data}:hstu").model
        assert isinstance(transformer, TransformerConfig)
        assert (transformer.layers, transformer.heads, transformer.width) == (hstu.layers, hstu.heads, hstu.width)


def test_the_synthetic_stream_is_passed_once_in_order_without_bias():
    for name in "synthetic:hstu", "synthetic:hstu_softmax":
        config = recipes.load(name)
        assert (config.training.epochs, config.data.shuffle, config.data.split.kind) == (1, False, "users")
        assert not (config.model.position_bias or config.model.time_bias)
    assert recipes.load("synthetic:hstu_softmax").model.attention == "softmax"
