"""The k items with the largest inner product with a query: exactly, or nearly and faster by faiss.

All answer the same call, and give an item the same score to the bit: the products that found it are only rough, since
a matrix product rounds differently with its sizes, so what was found is scored again, one pair at a time.
"""

import math
from types import ModuleType
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from louder.errors import InputError
from louder.ops import best_items

QUERIES_AT_ONCE = 256
NUMBERS_AT_ONCE = 1 << 16  # of the vectors gathered to score pairs: 256 KiB
CROWDED = 4  # times k: a block with more promising items than that is sorted first
SPARE = 8  # found on top of k, so that faiss's own rounding does not decide who is k-th
FEWEST_ALLOWED = 0.05  # of the items
MOSTLY = 0.5  # where more of the items are allowed, their vectors are not gathered; the others are scored and left out


class Exact:
    """The right answer, a block of items at a time: 64 queries hold 16 MiB of scores, however many items there are. Where all
    are one block, one op does the whole search.

    Of items with the same score the one with the lower id is first.
    """

    def __init__(self, vectors: Tensor, items_at_once: int = 1 << 16) -> None:
        """vectors [I, D]"""
        self.vectors = vectors.detach().float().contiguous()
        self.items_at_once = items_at_once
        at_once = 0 < len(self.vectors) <= items_at_once and best_items.available(self.vectors)
        self.packed = best_items.packed(self.vectors) if at_once else None
        longest = self.vectors.norm(dim=1).max() if self.vectors.numel() else torch.tensor(0.0)
        if not longest.isfinite():
            raise InputError(
                "The item vectors hold numbers that are not finite or beyond 1e18, so train again: louder train RECIPE."
            )
        # any two ways to sum D products differ by less than this times the lengths of both vectors
        self.rounding = 2.2 * self.vectors.shape[1] * 2**-24 * float(longest)
        self.there: Tensor | None = None  # [I] bool, once some items have left

    @torch.no_grad()
    def replace(self, rows: Tensor, vectors: Tensor) -> None:
        """New vectors [R, D], all finite, of the items [R], in place. Not while another thread searches."""
        self.vectors[rows] = vectors
        if self.packed is not None:
            best_items.replace(self.packed, rows, vectors)
        self.rounding = max(self.rounding, 2.2 * vectors.shape[1] * 2**-24 * float(vectors.norm(dim=1).max()))
        if self.there is not None:
            self.there[rows] = True

    def remove(self, rows: Tensor) -> None:
        """Nobody gets these items [R] any more, until one of them is replaced. Not while another thread searches."""
        if self.there is None:
            self.there = torch.ones(len(self.vectors), dtype=torch.bool, device=self.vectors.device)
        self.there[rows] = False

    def grow(self, count: int) -> None:
        """So many numbers more, which are nobody's until they are replaced. Not while another thread searches."""
        items = len(self.vectors)
        self.vectors = torch.cat([self.vectors, self.vectors.new_zeros(count, self.vectors.shape[1])])
        if self.packed is not None:
            self.packed = best_items.packed(self.vectors)
        if self.there is not None:
            self.there = torch.cat([self.there, self.there.new_zeros(count)])
        self.remove(torch.arange(items, items + count))

    def among(self, allowed: Tensor | None) -> Tensor | None:
        """[I] bool: the allowed items that are there; None: all"""
        if self.there is None:
            return allowed
        return self.there if allowed is None else allowed & self.there

    @torch.no_grad()
    def search(
        self, queries: Tensor, k: int, excluded: Tensor | None = None, allowed: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """queries [B, D] -> ids [B, k] int64, scores [B, k] float32, best first.

        excluded  [B, E] ids that a query must not get; below 0 is nobody, so that rows can be of one length
        allowed   [I] bool: the items that anybody may get

        Where fewer than k items are left, ids are -1 and scores -inf at the end.
        Raises InputError for queries of another width or not finite, for k below 1, and for masks of other shapes.
        """
        queries, excluded = checked(self.vectors, queries, k, excluded, allowed)
        allowed = self.among(allowed)
        if self.packed is not None:
            mask = None if allowed is None else allowed.contiguous()
            return best_items.best_items(queries, self.packed, len(self.vectors), k, excluded, mask)
        numbers = banned = None
        if allowed is not None and allowed.sum() > MOSTLY * len(allowed):
            banned = ~allowed
        elif allowed is not None:
            numbers = torch.where(allowed)[0]
            excluded = rows_of(numbers, excluded)
        parts = zip(queries.split(QUERIES_AT_ONCE), excluded.split(QUERIES_AT_ONCE))
        found = [self.best(some, k, left_out, numbers, banned) for some, left_out in parts]
        return torch.cat([ids for ids, _ in found]), torch.cat([scores for _, scores in found])

    def best(
        self, queries: Tensor, k: int, excluded: Tensor, numbers: Tensor | None, banned: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """The answer among the items `numbers` [M], all of them if None, without those `banned` [I]; `excluded` [B, E] are
        rows of these."""
        count = len(self.vectors) if numbers is None else len(numbers)
        ids = torch.empty(len(queries), 0, dtype=torch.int64, device=queries.device)
        scores = torch.empty(len(queries), 0, device=queries.device)
        slack = queries.norm(dim=1, keepdim=True) * self.rounding + 1e-30
        for start in range(0, count, self.items_at_once):
            own = slice(start, min(start + self.items_at_once, count))
            block = self.vectors[own] if numbers is None else self.vectors[numbers[own]]
            rough = queries @ block.T
            if excluded.shape[1]:
                row, at = torch.where((excluded >= own.start) & (excluded < own.stop))
                rough[row, excluded[row, at] - own.start] = -torch.inf
            if banned is not None:
                rough.masked_fill_(banned[own], -torch.inf)
            # of the items below this none can be among the best k, whichever way its score was rounded
            floor = torch.full_like(slack, torch.finfo().min)
            if scores.shape[1] == k:
                floor = floor.maximum(scores[:, -1:] - slack)
            if len(block) > k and (not scores.shape[1] or (rough >= floor).sum() > CROWDED * k * len(queries)):
                floor = floor.maximum(rough.topk(k, sorted=False).values.amin(1, keepdim=True) - 2 * slack)
            new = padded(rough >= floor)
            found = torch.where(new < 0, new, new + start if numbers is None else numbers[new + start])
            new_scores = pair_scores(queries, self.vectors, found)
            if start:
                found, new_scores = torch.cat([ids, found], dim=1), torch.cat([scores, new_scores], dim=1)
            ids, scores = first(found, new_scores, k)
        if lacking := k - ids.shape[1]:
            ids, scores = F.pad(ids, (0, lacking), value=-1), F.pad(scores, (0, lacking), value=-torch.inf)
        return ids, scores


class Approximate:
    """An index of faiss. Its answer may lack some of the best items, but is never shorter than the exact one.

    More than k are fetched: as many more as the most excluded of a query. The exact index answers in its place

      - all queries, where fewer than 1 item in 20 is allowed, or k and the excluded are more than half of those
        allowed: then the exact answer costs little, and this one would be poor
      - a query for which fewer than k were found
    """

    kind = ""

    def __init__(self, vectors: Tensor, index: Any, settings: dict[str, int]) -> None:
        """vectors [I, D], their faiss index, and the settings that it was made with"""
        self.exact = Exact(vectors)
        self.index, self.settings = index, settings

    def parameters(self, selector: Any, share: float) -> Any:
        """Of a search among the items of a selector (None: all), which are this share of all."""
        raise NotImplementedError

    def replace(self, rows: Tensor, vectors: Tensor) -> None:
        """As Exact.replace. What the index was built by, such as the centres of lists, stays: where items are quite others
        by now, one that is built anew finds more."""
        raise NotImplementedError

    def remove(self, rows: Tensor) -> None:
        """As Exact.remove"""
        raise NotImplementedError

    def grow(self, count: int) -> None:
        """As Exact.grow"""
        self.exact.grow(count)

    def found(self, queries: Tensor, count: int, allowed: Tensor | None) -> Tensor:
        """[B, count] ids, in no order, -1 where there are fewer"""
        selector, share = None, 1.0
        if allowed is not None:
            selector, share = selected(allowed), float(allowed.sum()) / len(allowed)
        return torch.from_numpy(self.index.search(queries.numpy(), count, params=self.parameters(selector, share))[1])

    @torch.no_grad()
    def search(
        self, queries: Tensor, k: int, excluded: Tensor | None = None, allowed: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        vectors = self.exact.vectors
        queries, excluded = checked(vectors, queries, k, excluded, allowed)
        allowed = self.exact.among(allowed)
        usable = len(vectors) if allowed is None else int(allowed.sum())
        fetched = k + SPARE + (int((excluded >= 0).sum(1).max()) if excluded.numel() else 0)
        if usable < FEWEST_ALLOWED * len(vectors) or fetched > usable / 2:
            return self.exact.search(queries, k, excluded, allowed)
        ids = self.found(queries, fetched, allowed)
        ids = torch.where(isin_rows(ids, excluded, len(vectors)), -1, ids).sort(dim=1).values
        ids, scores = first(ids, pair_scores(queries, vectors, ids), k)
        short = ids[:, -1] < 0
        if short.any():
            ids[short], scores[short] = self.exact.search(queries[short], k, excluded[short], allowed)
        return ids, scores


class IVF(Approximate):
    """Items in `lists` by the centre that they are nearest to; a search looks through the `probes` nearest lists."""

    kind = "ivf"

    @classmethod
    def build(cls, vectors: Tensor, lists: int | None = None, probes: int | None = None) -> "IVF":
        """By default as many lists as the root of the items, and an eighth of them, at least 16, probed."""
        items, width = vectors.shape
        lists = max(1, round(math.sqrt(items))) if lists is None else lists
        if not 1 <= lists <= items:
            raise InputError(f"There are {items} items for {lists} lists, so choose from 1 to {items}: --lists N.")
        probes = min(lists, max(16, lists // 8)) if probes is None else probes
        if not 1 <= probes <= lists:
            raise InputError(f"There are {probes} probes of {lists} lists, so choose from 1 to {lists}: --probes N.")
        rows, library = Exact(vectors).vectors.numpy(), faiss()
        centres = library.IndexFlatIP(width)
        index = library.IndexIVFFlat(centres, width, lists, library.METRIC_INNER_PRODUCT)
        index.cp.min_points_per_centroid = 1  # no warning about small catalogues
        index.train(rows)
        index.add(rows)
        return cls(vectors, index, {"lists": lists, "probes": probes})

    def parameters(self, selector: Any, share: float) -> Any:
        return faiss().SearchParametersIVF(sel=selector, nprobe=self.settings["probes"])

    def replace(self, rows: Tensor, vectors: Tensor) -> None:
        self.exact.replace(rows, vectors)
        self.index.remove_ids(rows.numpy())
        self.index.add_with_ids(self.exact.vectors[rows].numpy(), rows.numpy())

    def remove(self, rows: Tensor) -> None:
        self.exact.remove(rows)
        self.index.remove_ids(rows.numpy())


class HNSW(Approximate):
    """A graph of items with `neighbours` each; a search walks it and keeps the best `search` items that it meets.

    Nobody leaves a graph: who was replaced or removed stays as a way to others, and is not found. When more than half are
    such, the graph is made anew of the others.
    """

    kind = "hnsw"

    def __init__(self, vectors: Tensor, index: Any, settings: dict[str, int]) -> None:
        super().__init__(vectors, index, settings)
        self.items = torch.arange(len(vectors))  # [N] of each node of the graph, -1 where it is nobody's any more
        self.nodes = self.items.clone()  # [I] and the other way around

    @classmethod
    def build(cls, vectors: Tensor, neighbours: int = 32, search: int = 128) -> "HNSW":
        """A graph in which each item has so many neighbours; `search` are kept in sight while one looks."""
        for name, value, least in ("neighbours", neighbours, 2), ("search", search, 1):
            if value < least:
                raise InputError(f"{name} is {value}, but it must be at least {least}: --{name} N.")
        if not len(vectors):
            raise InputError("There are no items to index, so train on a log that has some: louder train RECIPE.")
        index = graph(Exact(vectors).vectors, neighbours)
        return cls(vectors, index, {"neighbours": neighbours, "search": search})

    def parameters(self, selector: Any, share: float) -> Any:
        # only allowed items count among those kept, so more must be kept to walk as far
        return faiss().SearchParametersHNSW(sel=selector, efSearch=math.ceil(self.settings["search"] / share))

    def replace(self, rows: Tensor, vectors: Tensor) -> None:
        self.exact.replace(rows, vectors)
        self.leave(rows)
        self.nodes[rows] = len(self.items) + torch.arange(len(rows))
        self.items = torch.cat([self.items, rows])
        self.index.add(self.exact.vectors[rows].numpy())
        self.tidy()

    def remove(self, rows: Tensor) -> None:
        self.exact.remove(rows)
        self.leave(rows)
        self.tidy()

    def grow(self, count: int) -> None:
        super().grow(count)
        self.nodes = torch.cat([self.nodes, self.nodes.new_full((count,), -1)])

    def leave(self, rows: Tensor) -> None:
        nodes = self.nodes[rows]
        self.items[nodes[nodes >= 0]] = -1
        self.nodes[rows] = -1

    def tidy(self) -> None:
        own = self.items[self.items >= 0]
        if 2 * len(own) < len(self.items):
            self.index = graph(self.exact.vectors[own], self.settings["neighbours"])
            self.items, self.nodes[own] = own, torch.arange(len(own))

    def found(self, queries: Tensor, count: int, allowed: Tensor | None) -> Tensor:
        there = self.items >= 0
        if allowed is None and bool(there.all()):
            usable = None
        else:
            usable = there if allowed is None else there & allowed[self.items]
        nodes = super().found(queries, count, usable)
        return torch.where(nodes < 0, -1, self.items[nodes])


def graph(vectors: Tensor, neighbours: int) -> Any:
    """faiss's, of vectors [I, D]"""
    library = faiss()
    index = library.IndexHNSWFlat(vectors.shape[1], neighbours, library.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = max(4 * neighbours, 40)
    index.add(vectors.numpy())
    return index


def selected(allowed: Tensor) -> Any:
    """[N] bool, as faiss takes it"""
    return faiss().IDSelectorBitmap(np.packbits(allowed.numpy(), bitorder="little"))


Index = Exact | Approximate
KINDS: dict[str, type[IVF] | type[HNSW]] = {"ivf": IVF, "hnsw": HNSW}


def recall(found: Tensor, right: Tensor) -> float:
    """The share of the ids right [B, k] that is in found [B, K], row by row. -1 counts as nobody."""
    items = int(max(found.max(), right.max())) + 1
    asked = right >= 0
    return float((isin_rows(right, found, items) & asked).sum() / asked.sum().clamp(min=1))


def checked(
    vectors: Tensor, queries: Tensor, k: int, excluded: Tensor | None, allowed: Tensor | None
) -> tuple[Tensor, Tensor]:
    """queries in float32, and excluded [B, E], E = 0 where nothing is. Raises InputError for what cannot be answered."""
    items, width = vectors.shape
    if k < 1:
        raise InputError(f"k is {k}, but it must be at least 1: -k 10.")
    if queries.dim() != 2 or queries.shape[1] != width:
        raise InputError(f"The queries are {list(queries.shape)}, but they must be [B, {width}], as the items are.")
    queries = queries.detach().float().contiguous()
    if not queries.norm(dim=1).isfinite().all():
        raise InputError("The queries hold numbers that are not finite or beyond 1e18, so leave those rows out.")
    if excluded is None:
        excluded = torch.empty(len(queries), 0, dtype=torch.int64, device=queries.device)
    if excluded.dim() != 2 or len(excluded) != len(queries) or excluded.dtype != torch.int64:
        raise InputError(
            f"excluded is {excluded.dtype} {list(excluded.shape)}, but it must be int64 [{len(queries)}, E], with -1 "
            "where a row has fewer than E ids."
        )
    if excluded.numel() and excluded.max() >= items:
        raise InputError(f"excluded has id {int(excluded.max())}, but the {items} items end at id {items - 1}.")
    if allowed is not None and (allowed.dtype != torch.bool or allowed.shape != (items,)):
        raise InputError(f"allowed is {allowed.dtype} {list(allowed.shape)}, but it must be bool [{items}].")
    return queries, excluded.contiguous()


def pair_scores(queries: Tensor, vectors: Tensor, ids: Tensor) -> Tensor:
    """queries [B, D], vectors [I, D], ids [B, K] -> [B, K]; -inf where an id is below 0.

    A score depends on its two vectors alone, to the bit, and not on B, K or the other items.
    """
    if best_items.available(queries, vectors):
        return best_items.pair_scores(queries, vectors, ids)
    rows = max(1, NUMBERS_AT_ONCE // max(1, ids.shape[1] * queries.shape[1]))  # what is gathered stays in the cache
    if rows < len(queries):
        by_rows = zip(queries.split(rows), ids.split(rows))
        return torch.cat([pair_scores(some, vectors, own) for some, own in by_rows])
    step = max(1, NUMBERS_AT_ONCE // max(1, queries.numel()))
    parts = [(vectors[own.clamp(min=0)] * queries[:, None]).sum(2) for own in ids.split(step, dim=1)]
    scores = torch.cat(parts, dim=1) if len(parts) > 1 else parts[0]
    return scores.masked_fill_(ids < 0, -torch.inf)


def first(ids: Tensor, scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k best of [B, K], best first; of equal scores what stands first."""
    order = best_first(scores)[:, :k]
    ids, scores = ids.gather(1, order), scores.gather(1, order)
    return torch.where(scores.isneginf(), -1, ids), scores


def best_first(scores: Tensor) -> Tensor:
    """scores [B, K] float32 -> [B, K] int64 their places, best first; of equal scores what stands first."""
    if scores.device.type != "cpu":
        return scores.sort(dim=1, descending=True, stable=True).indices
    # as integers of the same order, with their places below them: numpy sorts these several times faster
    bits = (scores.numpy() + np.float32(0)).view(np.int32)  # -0 is 0
    falling = ~np.where(bits < 0, bits ^ 0x7FFFFFFF, bits)
    places = falling.astype(np.int64) << 32 | np.arange(scores.shape[1])
    places.sort(axis=1)
    return torch.from_numpy(places & 0xFFFFFFFF)


def padded(hits: Tensor) -> Tensor:
    """hits [B, N] bool -> [B, W] the columns that are true, in their order, then -1; W is the most of any row."""
    row, column = torch.where(hits)
    counts = torch.bincount(row, minlength=len(hits))
    at = torch.arange(len(row), device=row.device) - (counts.cumsum(0) - counts)[row]
    out = torch.full((len(hits), int(counts.max()) if len(hits) else 0), -1, device=hits.device)
    out[row, at] = column
    return out


def rows_of(numbers: Tensor, ids: Tensor) -> Tensor:
    """The row of each id among the ascending numbers [M]; -1 for one that is not there."""
    if not len(numbers):
        return torch.full_like(ids, -1)
    at = torch.searchsorted(numbers, ids).clamp(max=len(numbers) - 1)
    return torch.where(numbers[at] == ids, at, -1)


def isin_rows(ids: Tensor, among: Tensor, items: int) -> Tensor:
    """ids [B, K] -> [B, K] bool: whether each is in its own row of `among` [B, E]. All are below `items`."""
    row = torch.arange(len(ids), device=ids.device)[:, None] * items
    return torch.isin(ids + row, (among + row)[among >= 0]) & (ids >= 0)


def faiss() -> ModuleType:
    try:
        import faiss
    except ImportError as error:
        raise InputError(
            "An approximate index needs faiss, which is not installed: pip install 'louder[serve]'."
        ) from error
    return faiss
