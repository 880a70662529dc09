"""FLOPs counted against sums done by hand."""

import torch
from exposures import VOCABULARY, batch_of, exposure
from torch import nn

from louder.batch import SequenceBatch
from louder.data.attributes import Vectors
from louder.models import HSTUConfig, RankingConfig, TransformerConfig, Vocabulary, build, build_ranker
from louder.models.flops import flops, hstu_flops
from louder.models.wukong import Wukong, WukongConfig
from louder.ops.hstu_attention import hstu_attention
from louder.ops.hstu_attention.naive import hstu_attention as naive_attention
from louder.ops.layout import Layout


def histories(*lengths):
    rows = sum(lengths)
    times = torch.arange(rows)
    offsets = torch.tensor([0, *lengths]).cumsum(0)
    return SequenceBatch(
        ids=torch.zeros(rows, dtype=torch.int64), timestamps=times, query_timestamps=times, offsets=offsets
    )


def test_a_linear_layer_multiplies_and_adds():
    assert flops(nn.Linear(3, 5), torch.zeros(7, 3)) == 2 * 7 * 3 * 5


def test_hstu_projects_and_attends():
    config = HSTUConfig(layers=2, heads=2, width=6, qk_width=4, v_width=3, max_len=10)
    model = build(config, Vocabulary(items=3))
    lengths, rows = (4, 0, 2), 6
    projections = rows * 6 * 2 * (2 * 3 + 2 * 4) + rows * 2 * 3 * 6  # U, V, Q, K; the output
    attention = (4 * 5 // 2 + 2 * 3 // 2) * 2 * (4 + 3)
    assert flops(model, histories(*lengths)) == 2 * 2 * (projections + attention)


def test_attention_counts_the_pairs_that_see_each_other():
    class Attention(nn.Module):
        def forward(self, given):
            q, k = torch.zeros(given.pop("queries"), 2, 3), torch.zeros(6, 2, 3)
            layout = Layout(torch.tensor([0, 4, 6]), **given)
            return hstu_attention(q, k, torch.zeros(6, 2, 5), layout, scale=1.0)

    def pairs(**given):
        return flops(Attention(), {"queries": 6} | given) / (2 * 2 * (3 + 5))

    assert pairs() == 1 + 2 + 3 + 4 + 1 + 2
    assert pairs(prefix_lengths=torch.tensor([0, 1, 2, 2, 0, 1])) == (1 + 2 + 3 + 3) + (1 + 2)
    assert pairs(window=1) == (1 + 2 + 2 + 2) + (1 + 2)
    assert pairs(window=1, global_prefix=1) == (1 + 2 + 3 + 3) + (1 + 2)
    assert pairs(query_offsets=torch.tensor([0, 1, 2]), queries=2) == 4 + 2


def test_a_transformer_counts_its_causal_half():
    config = TransformerConfig(layers=1, heads=1, width=4, hidden=6, max_len=10)
    model = build(config, Vocabulary(items=3))
    rows = 5
    products = rows * 4 * 3 * 4 + rows * 4 * 4 + rows * 4 * 2 * 6 + rows * 6 * 4  # Q, K, V; output; gate and up; down
    assert flops(model, histories(rows)) == 2 * (products + rows * (rows + 1) // 2 * (4 + 4))


def test_a_vector_of_an_item_is_mapped_for_each_event():
    def of(columns):
        model = build_ranker(config, RankingConfig(), Vocabulary(items=4, actions=1), columns)
        tokens = flops(Tokens(model), histories(3, 2))
        assert tokens == flops(Tokens(model), histories(5))
        return tokens

    class Tokens(nn.Module):
        def __init__(self, model):
            super().__init__()
            self.model = model

        def forward(self, given):
            return self.model.tokens(given)

    config = HSTUConfig(layers=1, heads=1, width=6, qk_width=4, v_width=4, max_len=11)
    assert of([Vectors("text", torch.ones(4, 7))]) - of([]) == 2 * 5 * 7 * 6


def test_a_batch_of_alike_exposures_takes_as_much_for_each():
    model = Wukong(WukongConfig(width=4, dropout=0.5), VOCABULARY).train()
    one, five = (flops(model, batch_of(*[exposure(3)] * number)) for number in (1, 5))
    assert model.training
    shared = 2 * 3 * 4  # the vector of each set of actions in the history is summed up once
    assert abs(5 * one - five) <= 5 * shared * 3


def test_the_pairs_counted_are_the_products_of_the_reference_implementation():
    """One query at a time, so that it multiplies what is visible and no more; torch counts its own products."""

    class OneByOne(nn.Module):
        def forward(self, length):
            for keys in range(2, length + 1):  # torch multiplies a single pair without a matrix product
                q, k, v = torch.zeros(1, 2, 3), torch.zeros(keys, 2, 3), torch.zeros(keys, 2, 5)
                layout = Layout(torch.tensor([0, keys]), query_offsets=torch.tensor([0, 1]))
                naive_attention(q, k, v, layout, 1.0, None, None)

    config = HSTUConfig(layers=1, heads=2, width=1, qk_width=3, v_width=5, max_len=9)
    projections = 7 * (2 * 2 * (3 + 5) + 2 * 5)
    of_a_pair = 2 * 2 * (3 + 5)
    assert flops(OneByOne(), 7) + of_a_pair == hstu_flops(config, [7]) - 2 * projections == 28 * of_a_pair


def test_an_hstu_is_counted_without_being_built():
    for given in {}, {"window": 2}, {"window": 1, "global_prefix": 1}:
        config = HSTUConfig(layers=2, heads=2, width=6, qk_width=4, v_width=3, max_len=10, **given)
        assert hstu_flops(config, [4, 0, 2, 7]) == flops(build(config, Vocabulary(items=3)), histories(4, 0, 2, 7))
