"""A generative ranker sees of a log what came before a request, and the item that it is asked about."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from exposures import ATTRIBUTES, attribute
from hypothesis import given, settings
from hypothesis import strategies as st
from tables import ranking_table

from louder.batch import SequenceBatch
from louder.data.attributes import Vectors
from louder.data.config import DataConfig
from louder.data.ranking import RankingLoader
from louder.data.targets import SplitConfig
from louder.errors import InputError
from louder.models import DLRMConfig, HSTUConfig, RankingConfig, TransformerConfig, Vocabulary, build_ranker
from louder.models.embeddings import AttributeEmbedding

BACKBONES = {
    "hstu": HSTUConfig(layers=2, heads=2, width=8, qk_width=4, v_width=4, max_len=99),
    "transformer": TransformerConfig(layers=2, heads=2, width=8, hidden=12, max_len=99),
}
EVERYTHING = SplitConfig(kind="time", validation_from=200, test_from=300)  # all of a log is for training
every_backbone = pytest.mark.parametrize("backbone", BACKBONES)
kinds_of_model = st.tuples(st.sampled_from(list(BACKBONES)), st.sampled_from(["paired", "interleaved", "added"]))


def genres(items):
    """Items have 0 to 2 of 4 genres."""
    return attribute("genres", [[1 + i % 4, 1 + i % 3][: i % 3] for i in range(items)], size=5)


def texts(items):
    """Items have vectors of 3 numbers and any length; every fourth has none."""
    draw = torch.Generator().manual_seed(0)
    return Vectors("text", torch.randn(items, 3, generator=draw) * 9 * (torch.arange(items)[:, None] % 4 > 0))


def model_of(backbone="hstu", *, items, tokens="paired", series=(), max_len=99, context=2, seed=0, **changes):
    torch.manual_seed(seed)
    names = ("age", "land")[:context]
    vocabulary = Vocabulary(items=items, actions=2, values=1, series=series, context=(4, 3)[:context])
    ranking = RankingConfig(context=names, tokens=tokens, **changes)
    model = build_ranker(
        replace(BACKBONES[backbone], max_len=max_len), ranking, vocabulary, [genres(items), texts(items)]
    )
    for parameter in model.parameters():  # so large that a wrong connection shows
        torch.nn.init.normal_(parameter, std=0.4)
    return model.eval()


def people(users):
    return [
        attribute("age", [[u % 4] for u in range(users)], size=4),
        attribute("land", [[u % 3] for u in range(users)], size=3),
    ]


def loader_of(table, one_pass=True, max_len=9, **settings):
    config = DataConfig(max_len=max_len, users_per_batch=4, shuffle=False, split=EVERYTHING, **settings)
    context = people(table.users)
    return RankingLoader(table, "train", config, held_out=2, one_pass=one_pass, context=context or ())


def fitting(table, max_len=9, **settings):
    """A model of exactly the length that a config asks for."""
    series = tuple(table.manifest.series.values())
    each = 1 if settings.get("tokens") == "added" else 2
    return model_of(items=len(table.ids), series=series, max_len=each * max_len + 2 + 1, **settings)


def log_of(tokens, requests, **settings):
    """`added` tokens are for logs in which no items share a request."""
    return ranking_table(requests="none" if tokens == "added" else requests, **settings)


requests_of = st.sampled_from(["none", "contiguous", "overlapping"])


# --- tokens ------------------------------------------------------------------------------------------------------


def by_hand():
    """Three users: an item, an entry of a series and two items of one request; nothing; an item."""
    return SequenceBatch(
        ids=torch.tensor([3, 1, 4, 5, 6]),
        timestamps=torch.tensor([10, 20, 30, 30, 40]),
        query_timestamps=torch.tensor([20, 30, 31, 90, 91]),
        offsets=torch.tensor([0, 4, 4, 5]),
        actions=torch.tensor([1, 0, 2, 3, 0]),
        kinds=torch.tensor([0, 1, 0, 0, 0], dtype=torch.uint8),
        values=torch.tensor([[1.0], [torch.nan], [torch.nan], [2.0], [0.0]]),
        prefix_lengths=torch.tensor([0, 1, 2, 2, 0]),
        context=torch.tensor([[1, 2], [3, 0], [0, 1]]),
    )


@pytest.mark.parametrize("tokens_of", ["paired", "interleaved"])
def test_items_and_their_actions_take_turns_after_the_context(tokens_of):
    model = model_of(items=9, series=(4,), tokens=tokens_of)
    batch = by_hand()
    tokens = model.tokens(batch)
    acted = model.action_vectors(batch, torch.arange(5))
    if tokens_of == "paired":  # a token of an action says of what
        acted = acted + model.items(batch.ids)
    age, land, mood, item = (
        *(table.weight for table in model.context),
        model.backbone.events.series[0].weight,
        model.items(torch.arange(9)),
    )
    first = [age[1], land[2], item[3], acted[0], mood[1], item[4], acted[2], item[5], acted[3]]
    expected = torch.stack([*first, age[3], land[0], age[0], land[1], item[6], acted[4]])
    torch.testing.assert_close(tokens.x, expected)
    layout = tokens.layout
    assert layout.offsets.tolist() == [0, 9, 11, 15]
    assert tokens.items.tolist() == [2, 4, 5, 7, 13]
    assert tokens.actions.tolist() == [3, 4, 6, 8, 14]
    assert layout.timestamps.tolist() == [0, 0, 10, 10, 20, 30, 30, 30, 30, 0, 0, 0, 0, 40, 40]
    # an item is asked about at its own time, an action's token asks for what comes next
    assert layout.query_timestamps.tolist() == [0, 0, 10, 20, 20, 30, 31, 30, 90, 0, 0, 0, 0, 40, 91]
    # the second item of a request stands where the first does, and does not see it
    assert layout.prefix_lengths.tolist() == [0, 1, 2, 3, 4, 5, 6, 5, 8, 0, 1, 0, 1, 2, 3]
    assert model.tokens(replace(batch, prefix_lengths=None)).layout.prefix_lengths is None


def test_added_tokens_hold_the_action_of_the_event_before():
    model = model_of(items=9, series=(4,), tokens="added", context=1)
    batch = replace(by_hand(), prefix_lengths=None, context=torch.tensor([[1], [3], [0]]))
    tokens = model.tokens(batch)
    acted, item = model.action_vectors(batch, torch.arange(5)), model.items(torch.arange(9))
    age, mood = model.context[0].weight, model.backbone.events.series[0].weight
    first = [age[1], item[3], mood[1], item[4] + acted[0], item[5] + acted[2]]
    torch.testing.assert_close(tokens.x, torch.stack([*first, age[3], age[0], item[6]]))
    assert tokens.layout.offsets.tolist() == [0, 5, 6, 8]
    assert tokens.items.tolist() == tokens.actions.tolist() == [1, 2, 3, 4, 7]
    assert tokens.layout.timestamps.tolist() == tokens.layout.query_timestamps.tolist() == [0, 10, 20, 30, 30, 0, 0, 40]


def test_added_tokens_are_refused_where_items_share_a_request():
    with pytest.raises(InputError, match=r"items of one request must not see each other's actions.*paired"):
        model_of(items=9, series=(4,), tokens="added").tokens(by_hand())


def test_an_action_is_the_sum_of_what_happened_and_of_the_values_on_their_scale():
    model = model_of(items=9, series=(4,))
    model.set_value_scale(torch.tensor([3.0]), torch.tensor([2.0]))
    values = torch.tensor([[5.0], [torch.nan], [torch.inf], [-1e9], [3.0]])
    found = model.action_vectors(replace(by_hand(), values=values), torch.arange(5))
    like, share, every = model.actions.weight
    slope = model.values.weight[:, 0]
    expected = [every + like + slope, every, every + share, every + like + share - 5 * slope, every]
    torch.testing.assert_close(found[[0, 1, 3, 4]], torch.stack([expected[i] for i in (0, 1, 3, 4)]))
    torch.testing.assert_close(found[2], expected[2] + 5 * slope)  # cut off at 5 deviations


def test_a_log_without_values_makes_no_noise() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        build_ranker(BACKBONES["hstu"], RankingConfig(), Vocabulary(items=5, actions=2, values=0), [])


@every_backbone
def test_values_are_predicted_on_their_own_scale(backbone):
    model, states = model_of(backbone, items=9), torch.randn(6, 8)
    logits, values = model.predict(states)
    out = model.head(states)
    torch.testing.assert_close(torch.cat([logits, values], 1), out)
    model.set_value_scale(torch.tensor([30.0]), torch.tensor([4.0]))
    scaled_logits, scaled_values = model.predict(states)
    torch.testing.assert_close(scaled_logits, logits)
    torch.testing.assert_close(scaled_values, values * 4 + 30)


@given(lists=st.lists(st.lists(st.integers(0, 4), max_size=3), min_size=1, max_size=6), seed=st.integers(0, 9))
def test_attributes_are_the_mean_of_their_codes(lists, seed):
    torch.manual_seed(seed)
    codes = [attribute("a", lists, size=5), attribute("b", [[1]] * len(lists), size=2)]
    embedding = AttributeEmbedding(codes, 3)
    ids = torch.randint(-2, len(lists), (7,))
    first, second = embedding(ids)
    for row, i in enumerate(ids.tolist()):
        own = embedding.tables[0].weight[lists[i]] if i >= 0 else torch.zeros(0, 3)
        torch.testing.assert_close(first[row], own.mean(0) if len(own) else torch.zeros(3))
        torch.testing.assert_close(second[row], embedding.tables[1].weight[1] * (i >= 0))
    assert [x.shape for x in embedding(ids[:0])] == [(0, 3), (0, 3)]


def test_vectors_are_made_of_unit_length_and_mapped():
    rows = Vectors("text", torch.tensor([[3.0, 4.0], [0.0, 0.0], [0.0, -0.5]]))
    embedding = AttributeEmbedding([rows], 3)
    (slope,) = embedding.parameters()
    (found,) = embedding(torch.tensor([0, 1, 2, -1, 0]))
    first, second = slope[:, 0], slope[:, 1]
    nothing = torch.zeros(3)
    expected = torch.stack([0.6 * first + 0.8 * second, nothing, -second, nothing, 0.6 * first + 0.8 * second])
    torch.testing.assert_close(found, expected)
    assert list(embedding.state_dict()) == ["tables.0.weight"]  # the vectors are read from the items' file


def test_the_attributes_of_other_items_are_those_that_they_would_have_among_the_items():
    torch.manual_seed(0)
    embedding, ids = AttributeEmbedding(ATTRIBUTES, 4), torch.tensor([5, 2, 0, 5])
    others = [
        attribute("author", [[2], [2], [0], [2]], size=3),
        attribute("tags", [[3, 2, 2], [2, 2], [], [3, 2, 2]], size=5),
        replace(ATTRIBUTES[2], matrix=ATTRIBUTES[2].matrix[ids]),
    ]
    torch.testing.assert_close(embedding.of(others), embedding(ids))


def test_an_item_is_its_id_and_its_attributes_and_an_unknown_one_is_neither():
    model = model_of(items=9)
    ids = torch.tensor([7, -1, 0])
    own, (genre, text) = model.backbone.events.items.weight, model.item_attributes(ids)
    expected = torch.stack([own[7] + genre[0] + text[0], torch.zeros(8), own[0] + genre[2] + text[2]])
    torch.testing.assert_close(model.items(ids), expected)
    torch.testing.assert_close(model.item_vectors(torch.tensor([7])), model.item_vectors()[7:8])


def test_attributes_are_dropped_out_in_training_alone():
    model = model_of(items=9, attribute_dropout=0.5)
    ids = torch.arange(9)
    assert torch.equal(model.items(ids), model.items(ids))
    model.train()
    assert not torch.equal(model.items(ids), model.items(ids))
    kept = model_of(items=9, attribute_dropout=0.0)
    kept.train()
    torch.testing.assert_close(kept.items(ids), model.eval().items(ids))


def test_each_part_of_an_item_is_dropped_out_on_its_own_and_scaled():
    """With one part alone, half of its numbers are 0 and the others double; with two, they are not the same numbers."""
    ids = torch.arange(1, 9, 4).repeat(500)  # items with a genre and a text
    model = model_of(items=9, attribute_dropout=0.5).train()
    own, (genre, text) = model.backbone.events.items(ids), model.item_attributes(ids)
    tables = [model.backbone.events.items.weight, *(table.weight for table in model.item_attributes.tables)]
    for table, part in zip(tables, (own, genre, text)):
        others = [(x, x.detach().clone()) for x in tables if x is not table]
        with torch.no_grad():
            for other, _ in others:
                other.zero_()
            found = model.items(ids)
            for other, before in others:
                other.copy_(before)
        kept = found != 0
        torch.testing.assert_close(found[kept], 2 * part[kept])
        assert abs(kept.float().mean().item() - 0.5) < 0.05
        by_dimension = kept.float().mean(1)
        assert ((by_dimension > 0) & (by_dimension < 1)).float().mean() > 0.9
    with torch.no_grad():
        nothing = (model.items(ids) == 0).float().mean().item()
    assert nothing == pytest.approx(1 / 8, abs=0.03)  # all three dropped out


def test_an_id_is_left_out_whole_and_in_training_alone():
    model = model_of(items=9, item_attributes=("genres",), attribute_dropout=0.0, id_dropout=0.25)
    ids = torch.arange(9).repeat(400)
    expected = model.items(ids)
    without = model.item_attributes(ids)[0] + model.item_attributes(ids)[1]
    found = model.train().items(ids)
    left_out = (found - without).abs().amax(1) < 1e-6
    torch.testing.assert_close(found[~left_out], expected[~left_out])
    share = left_out.float().mean().item()
    assert abs(share - 0.25) < 4 * (0.25 * 0.75 / len(ids)) ** 0.5
    assert torch.equal(model.eval().items(ids), expected)


# --- what is seen ------------------------------------------------------------------------------------------------


@torch.no_grad()
def answers(model, loader):
    """row of the table -> its logits and numbers"""
    found = {}
    for batch in loader.batches():
        for row, *out in zip(batch.rows.tolist(), *model(batch)):
            found[row] = torch.cat(out)
    return found


@settings(max_examples=40)
@given(
    kind=kinds_of_model,
    seed=st.integers(0, 500),
    requests=requests_of,
    series=st.booleans(),
    auxiliary=st.booleans(),
    max_len=st.integers(1, 16),
)
def test_one_pass_gives_what_a_pass_for_each_exposure_gives(kind, seed, requests, series, auxiliary, max_len):
    """also of a request that is longer than what the window has left for it"""
    backbone, tokens = kind
    table = log_of(tokens, requests, seed=seed, series=series, longest=20)
    model = fitting(table, max_len, backbone=backbone, tokens=tokens)
    together, alone = (
        answers(model, loader_of(table, one_pass, max_len, auxiliary=auxiliary)) for one_pass in (True, False)
    )
    assert together.keys() == alone.keys()
    for row, found in together.items():
        torch.testing.assert_close(found, alone[row], atol=1e-5, rtol=1e-5)


@settings(max_examples=40)
@given(kind=kinds_of_model, seed=st.integers(0, 500), requests=requests_of, pick=st.integers(0, 999))
def test_an_answer_depends_on_what_came_before_its_request_and_on_its_item_alone(kind, seed, requests, pick):
    backbone, tokens = kind
    table = log_of(tokens, requests, seed=seed)
    model = fitting(table, backbone=backbone, tokens=tokens)
    expected = answers(model, loader_of(table))
    if not expected:
        return
    row = list(expected)[pick % len(expected)]
    begin = int(table.request_rows()[row])
    later = np.arange(len(table.ids)) >= begin
    found = answers(model, loader_of(changed(table, later, but=row)))
    torch.testing.assert_close(found[row], expected[row], atol=1e-6, rtol=1e-6)

    start = table.offsets[np.searchsorted(table.offsets, row, side="right") - 1]
    seen = [r for r in range(start, begin) if table.kinds[r] == 0 and begin - r <= 4]
    if requests == "overlapping":  # or the window may begin after an old request; else it has some of the latest 4
        seen = []
    for what in "ids", "actions", "values":
        if seen:
            found = answers(model, loader_of(changed(table, np.isin(np.arange(len(table.ids)), seen), [what])))
            assert not torch.allclose(found[row], expected[row], atol=1e-5), what
    mine = np.arange(len(table.ids)) == row
    assert not torch.allclose(answers(model, loader_of(changed(table, mine, ["ids"])))[row], expected[row], atol=1e-5)
    untold = answers(model, loader_of(changed(table, mine, ["actions", "values"])))
    torch.testing.assert_close(untold[row], expected[row], atol=1e-6, rtol=1e-6)


def changed(table, rows, names=("ids", "actions", "values"), but=None):
    """The table with something else in these rows [T] bool; the item of the row `but` stays."""
    columns = {}
    if "ids" in names:
        columns["ids"] = np.where(rows & (np.arange(len(rows)) != but), (table.ids + 1) % len(rows), table.ids)
    if "actions" in names:
        columns["actions"] = np.where(rows, table.actions ^ 3, table.actions)
    if "values" in names:
        watch = table.values["watch"]
        columns["values"] = {"watch": np.where(rows, np.nan_to_num(watch, nan=3.0) + 2, watch)}
    return replace(table, **columns)


@every_backbone
@torch.no_grad()
def test_a_user_does_not_depend_on_the_others_of_the_batch(backbone):
    table = ranking_table(5, requests="contiguous", users=9)
    model = fitting(table, backbone=backbone)
    loader = loader_of(table)
    expected = answers(model, loader)
    loader.config = replace(loader.config, users_per_batch=1)
    for row, found in answers(model, loader).items():
        torch.testing.assert_close(found, expected[row], atol=1e-5, rtol=1e-5)


@every_backbone
@torch.no_grad()
def test_the_context_is_seen(backbone):
    table = ranking_table(5)
    model = fitting(table, backbone=backbone)
    batch = next(loader_of(table).batches())
    expected, _ = model(batch)
    for column in range(2):
        other = batch.sequences.context.clone()
        other[:, column] = (other[:, column] + 1) % 3
        found, _ = model(replace(batch, sequences=replace(batch.sequences, context=other)))
        assert (found - expected).abs().amin(0).max() > 1e-6


@every_backbone
@torch.no_grad()
def test_the_state_after_a_request_sees_what_was_done_in_it(backbone):
    """It is asked for the next item."""
    batch = replace(by_hand(), values=torch.zeros(5, 1))
    model = model_of(backbone, items=9, series=(4,))

    def state(batch):
        tokens = model.tokens(batch)
        return model.next_item_states(model.states(tokens), tokens.actions[torch.tensor([3])])

    expected = state(batch)
    for row in 2, 3:  # both items of the request
        actions = batch.actions.clone()
        actions[row] ^= 1
        assert not torch.allclose(state(replace(batch, actions=actions)), expected, atol=1e-5)
    torch.testing.assert_close(expected.norm(dim=1), torch.ones(1))


@every_backbone
@torch.no_grad()
def test_bfloat16_is_near_float32(backbone):
    table = ranking_table(5, requests="contiguous")
    model = fitting(table, backbone=backbone)
    for batch in loader_of(table).batches():
        expected, _ = model(batch)
        with torch.autocast("cpu", torch.bfloat16):
            found, numbers = model(batch)
        assert found.dtype == numbers.dtype == torch.float32
        assert (found - expected).abs().mean() < 0.1 * expected.abs().mean()


@every_backbone
@pytest.mark.parametrize("tokens", ["paired", "interleaved", "added"])
def test_gradients_reach_every_parameter(backbone, tokens):
    table = log_of(tokens, "contiguous", seed=5, users=30)
    model = fitting(table, backbone=backbone, tokens=tokens).train()
    for batch in loader_of(table).batches():
        made = model.tokens(batch.sequences)
        states = model.states(made)
        logits, numbers = model.predict(states[made.items[batch.target_positions]])
        after = model.next_item_states(states, made.actions) @ model.item_vectors().T
        (logits.square().mean() + numbers.square().mean() + after.square().mean()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad.isfinite().all() and parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        ({"tokens": "mixed"}, r"ranking\.tokens must be paired, interleaved or added, but it is 'mixed'"),
        ({"next_item": -1.0}, r"must be at least 0, but it is -1"),
        ({"value_weight": -1.0}, r"must be at least 0, but it is -1"),
        ({"next_item": 1.0, "tokens": "added"}, r"only paired or interleaved tokens in one pass have"),
        ({"next_item": 1.0, "one_pass": False}, r"only paired or interleaved tokens in one pass have"),
        ({"attribute_dropout": 1.0}, r"ranking\.attribute_dropout must be in \[0, 1\), but it is 1\.0"),
        ({"id_dropout": -0.1, "item_vectors": ("text",)}, r"ranking\.id_dropout must be in \[0, 1\), but it is -0\.1"),
        ({"id_dropout": 0.1}, r"without its id nothing is left of an item.*ranking\.item_attributes=\[NAME\]"),
        ({"item_attributes": ("a", "b"), "item_vectors": ("b",)}, r"both name 'b', but it is either a category or"),
        ({"hidden": 0}, r"ranking\.hidden must be at least 1, but it is 0"),
    ],
    ids=str,
)
def test_settings_that_do_not_fit_are_refused(settings_, message):
    with pytest.raises(InputError, match=message):
        RankingConfig(**settings_)


def test_models_of_impressions_refuse_what_is_for_new_items():
    ranking = RankingConfig(item_attributes=("author",), id_dropout=0.1)
    with pytest.raises(InputError, match=r"model\.kind=dlrm does not answer: --set ranking\.id_dropout=0"):
        build_ranker(DLRMConfig(), ranking, Vocabulary(items=9, actions=1), ATTRIBUTES)
