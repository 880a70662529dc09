"""Mixture of logits: a learned similarity of a state and an item (KDD 2023, arXiv 2306.04039; RAILS, arXiv 2407.15462).

    phi(q, x) = sum over L = P_q * P_x of  pi_l(q, x) * logit_l,    logit = <f_i(q), g_j(x)> / temperature

f_i are the query's components, g_j the item's, all of length 1; pi is a softmax. In shapes: P components, K numbers in
each, L logits of a pair, item components outside: l = j * P_q + i.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from louder.config import require_above_zero, require_at_least, require_fraction
from louder.errors import InputError
from louder.ops.dropout import dropout
from louder.ops.mixture_softmax import mixture, pair_logits
from louder.ops.random_bits import keep_factors, new_seed

EPS = 1e-6
BLOCK_PAIRS = 1 << 14  # pairs of query and item scored at once: 8 MiB for 128 numbers of each


@dataclass(frozen=True, kw_only=True)
class MoLConfig:
    """Shape of the mixture, and its two penalties. The defaults are the official ML-1M settings but for `user_rows`."""

    query_components: int = 8
    item_components: int = 4
    width: int = 64  # of a component
    temperature: float = 0.05  # of the logits, in place of loss.temperature
    query_hidden: int = 512  # of the SwiGLU between a state and its components
    gate_hidden: int = 128
    user_rows: int = 0  # rows of a table of users, a row of which is one of the query's components; 0 = none
    user_dropout: float = 0.5
    item_dropout: float = 0.1  # of an item's vector before its components
    gate_dropout: float = 0.2  # of pi; what is left is scaled to the sum 1
    balance_weight: float = 0.001  # of the mutual-information loss
    user_weight: float = 0.1  # of the squared length of the users' rows

    def __post_init__(self) -> None:
        require_at_least(1, "mol", self, "query_components", "item_components", "width", "query_hidden", "gate_hidden")
        require_at_least(0, "mol", self, "user_rows", "balance_weight", "user_weight")
        require_fraction("mol", self, "user_dropout", "item_dropout", "gate_dropout")
        require_above_zero("mol", self, "temperature")
        if self.user_rows and self.query_components < 2:
            raise InputError(
                "mol.query_components is 1, which mol.user_rows takes for the user, so that none is left for the "
                "history: --set mol.query_components=2."
            )

    @property
    def logits(self) -> int:
        return self.query_components * self.item_components


class MoL(nn.Module):
    """A query and an item are rows of numbers, as for a dot product; here they hold components, then gate inputs.

    queries(states [N, D], users [N])  -> [N, P_q * K + L]
    items(vectors [I, D])              -> [I, P_x * K + L]
    scores(queries, items)             -> [N, I]
    """

    def __init__(self, config: MoLConfig, width: int) -> None:
        super().__init__()
        self.config = config
        logits, hidden = config.logits, config.gate_hidden
        from_history = config.query_components - (config.user_rows > 0)
        self.query_in = nn.Linear(width, 2 * config.query_hidden)
        self.query_out = nn.Linear(config.query_hidden, from_history * config.width)
        self.item_out = nn.Linear(width, config.item_components * config.width)
        self.query_gate = nn.Sequential(nn.Linear(width, hidden), nn.SiLU(), nn.Linear(hidden, logits, bias=False))
        self.item_gate = nn.Sequential(nn.Linear(width, hidden), nn.SiLU(), nn.Linear(hidden, logits, bias=False))
        self.cross_gate = nn.Sequential(nn.Linear(logits, hidden), nn.SiLU(), nn.Linear(hidden, logits))
        for parameter in self.parameters():
            start = nn.init.xavier_uniform_ if parameter.dim() == 2 else nn.init.zeros_
            start(parameter)
        nn.init.normal_(self.query_in.weight, std=0.02)
        # row 0 is for those who are not known: zeros, which no loss moves
        self.users = nn.Embedding(config.user_rows + 1, config.width, padding_idx=0) if config.user_rows else None

    def queries(self, states: Tensor, users: Tensor | None = None) -> Tensor:
        """`users` are ids, -1 for somebody unknown; None if nobody is known."""
        states = F.layer_norm(states, states.shape[-1:], eps=EPS)
        value, gate = self.query_in(states).chunk(2, dim=-1)
        components = self.query_out(F.silu(value) * gate).unflatten(-1, (-1, self.config.width))
        if self.users is not None:
            own = dropout(self.of_users(states, users), self.config.user_dropout, self.training)
            components = torch.cat([components, own[:, None]], dim=1)
        return self.row(components, self.query_gate(states))

    def items(self, vectors: Tensor) -> Tensor:
        components = self.item_out(dropout(vectors, self.config.item_dropout, self.training))
        return self.row(components.unflatten(-1, (-1, self.config.width)), self.item_gate(vectors))

    def row(self, components: Tensor, gate: Tensor) -> Tensor:
        return torch.cat([F.normalize(components, dim=-1, eps=EPS).flatten(1), gate], dim=1)

    def of_users(self, states: Tensor, users: Tensor | None) -> Tensor:
        """[N, K] each user's row of the table; those of equal remainder share one, zeros where unknown"""
        assert self.users is not None
        if users is None:
            users = torch.full((len(states),), -1, device=states.device)
        return self.users(torch.where(users >= 0, users % self.config.user_rows + 1, 0))

    def components(self, rows: Tensor) -> Tensor:
        """[..., P, K] of queries or items"""
        return rows[..., : -self.config.logits].unflatten(-1, (-1, self.config.width))

    @torch.no_grad()
    def scores(self, queries: Tensor, items: Tensor) -> Tensor:
        """All pairs -> [N, I], in blocks"""
        out = queries.new_empty(len(queries), len(items))
        for columns in torch.arange(len(items)).split(BLOCK_PAIRS):
            first, last = int(columns[0]), int(columns[-1]) + 1
            size = max(1, BLOCK_PAIRS // (last - first))
            for start in range(0, len(queries), size):
                part = slice(start, start + size)
                out[part, first:last] = self.pairs(queries[part], items[None, first:last])[0]
        return out

    def pairs(self, queries: Tensor, candidates: Tensor) -> tuple[Tensor, Tensor]:
        """queries [N, Q], each beside its own C items [N, C, X] or all beside the same [1, C, X]
        ->  phi [N, C], pi [N, C, L]"""
        logits = self.logits(queries, candidates)
        inputs = -self.config.logits
        gates = queries[:, None, inputs:] * candidates[..., inputs:]
        keep = None
        if self.training and self.config.gate_dropout:
            seed = new_seed().to(logits.device)
            keep = keep_factors(seed, self.config.gate_dropout, logits.shape, logits.dtype)
        return mixture(logits, gates, self.cross_weights(), keep)

    def logits(self, queries: Tensor, candidates: Tensor) -> Tensor:
        """[N, C, L]"""
        components = self.config.query_components, self.config.item_components
        return pair_logits(queries, candidates, components, self.config.temperature)

    def cross_weights(self) -> tuple[Tensor, ...]:
        return tuple(self.cross_gate.parameters())
