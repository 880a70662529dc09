"""The k items of highest phi under a mixture of logits (RAILS, arXiv 2407.15462, section 4).

phi is a convex combination of dot products <f_i(q), g_j(x)>, which are cheap and can be indexed. So items are first
found by those, and phi is computed for these alone:

    brute_force    every item
    per_component  the first `each` of every one of the P_q * P_x dot products           (TopKPerEmbd)
    average        the first `count` by <mean of f_i, mean of g_j>, as if all pi were the same    (TopKAvg)
    combined       both                                                                  (CombTopK)
    two_pass       exact: see there
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from louder.errors import InputError
from louder.inference.index import padded
from louder.models import MoL

BLOCK_PRODUCTS = 1 << 24  # of a query's components and an item's, held at once: 64 MiB
BLOCK_PAIRS = 1 << 13  # whose phi is computed at once


class Top(NamedTuple):
    """ids, scores [B, k], best first; -1 and -inf where fewer were found. scored [B]: items of which phi was computed."""

    ids: Tensor
    scores: Tensor
    scored: Tensor


class MoLTopK:
    """A catalogue, laid out for search. All methods take queries [B, Q] of the same mixture, with dropout off."""

    def __init__(self, mol: MoL, catalogue: Tensor) -> None:
        """catalogue [I, X], as mol.items gives it"""
        assert not mol.training, "dropout would make phi another one at each call"
        self.mol, self.items = mol, catalogue
        components = mol.components(catalogue)  # [I, P_x, K]
        self.by_component = components.transpose(0, 1).contiguous()
        self.mean = components.mean(1)

    @torch.no_grad()
    def brute_force(self, queries: Tensor, k: int) -> Top:
        """The score of every item."""
        self.require(k=k)
        scores, ids = self.mol.scores(queries, self.items).topk(k)
        return Top(ids, scores, torch.full((len(queries),), len(self.items)))

    @torch.no_grad()
    def per_component(self, queries: Tensor, k: int, each: int) -> Top:
        """The best of the items that are among the first `each` of any dot product."""
        self.require(k=k, each=each)
        return self.best(queries, self.firsts_by_component(queries, each), k)

    @torch.no_grad()
    def average(self, queries: Tensor, k: int, count: int) -> Top:
        """The best of the first `count` items of one averaged dot product. Raises InputError if count is below k."""
        self.require(k=k, count=count)
        if count < k:
            raise InputError(f"count is {count}, which holds no {k} items to return: it must be at least k.")
        return self.best(queries, self.firsts_by_average(queries, count), k)

    @torch.no_grad()
    def combined(self, queries: Tensor, k: int, each: int, count: int) -> Top:
        """The best of both."""
        self.require(k=k, each=each, count=count)
        return self.best(queries, self.firsts_by_component(queries, each) | self.firsts_by_average(queries, count), k)

    @torch.no_grad()
    def two_pass(self, queries: Tensor, k: int) -> Top:
        """What brute_force gives. The first pass scores the k first of every dot product; let S be the k-th best phi of
        those. Since phi is at most its largest logit, an item that belongs among the k best has a logit of S or more,
        and the second pass scores just these."""
        least = self.per_component(queries, k, k).scores[:, -1:]
        # phi is a rounded sum, which may be a little over its largest term
        floor = least - 1e-5 / self.mol.config.temperature
        return self.best(queries, self.largest_logits(queries) >= floor, k)

    def firsts_by_component(self, queries: Tensor, each: int) -> Tensor:
        """[B, I] which items are among the first `each` of any dot product"""
        found = torch.zeros(len(queries), len(self.items), dtype=torch.bool, device=queries.device)
        for rows, products in self.products(queries):
            found[rows].scatter_(1, products.topk(each, sorted=False).indices.flatten(1), True)
        return found

    def firsts_by_average(self, queries: Tensor, count: int) -> Tensor:
        """[B, I]"""
        products = self.mol.components(queries).mean(1) @ self.mean.T
        best = products.topk(count, sorted=False).indices
        return torch.zeros_like(products, dtype=torch.bool).scatter_(1, best, True)

    def largest_logits(self, queries: Tensor) -> Tensor:
        """[B, I]"""
        largest = queries.new_full((len(queries), len(self.items)), -torch.inf)
        for rows, products in self.products(queries):
            largest[rows] = torch.maximum(largest[rows], products.amax(1))
        return largest / self.mol.config.temperature

    def products(self, queries: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """Some of the queries, and [b, P_q, I] their dot products with one component of every item; in turn, all."""
        f = self.mol.components(queries)
        size = max(1, BLOCK_PRODUCTS // (f.shape[1] * len(self.items)))
        for start in range(0, len(f), size):
            for g in self.by_component:
                yield slice(start, start + size), f[start : start + size] @ g.T

    def best(self, queries: Tensor, found: Tensor, k: int) -> Top:
        """The k best by phi of the items found [B, I]."""
        scored = found.sum(1)
        ids = padded(found)
        ids = F.pad(ids, (0, max(0, k - ids.shape[1])), value=-1)
        scores = self.phi(queries, ids.clamp(min=0)).masked_fill(ids < 0, -torch.inf)
        top = scores.topk(k)
        return Top(ids.gather(1, top.indices), top.values, scored)

    def phi(self, queries: Tensor, ids: Tensor) -> Tensor:
        """[B, C] of the items ids [B, C]"""
        out = queries.new_empty(ids.shape)
        for start in range(0, ids.shape[1], BLOCK_PAIRS):
            some = ids[:, start : start + BLOCK_PAIRS]
            size = max(1, BLOCK_PAIRS // some.shape[1])
            for row in range(0, len(ids), size):
                own = slice(row, row + size)
                out[own, start : start + BLOCK_PAIRS] = self.mol.pairs(queries[own], self.items[some[own]])[0]
        return out

    def require(self, **counts: int) -> None:
        for name, count in counts.items():
            if not 1 <= count <= len(self.items):
                raise InputError(
                    f"{name} must be between 1 and the {len(self.items)} items there are, but it is {count}."
                )
