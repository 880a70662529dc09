"""What changed from one state of a model to another: rows of its weights, whole weights, raw ids and attributes.

Compared to the bit, so that changes laid over the one state give the other, NaN and -0 included.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from louder import checkpoint
from louder.publishing.state import ModelState, write_json

MOST_ROWS = 0.5  # of a weight; where more of its rows changed it is written whole
ARCHITECTURE = "model", "ranking", "mol", "data", "loss", "evaluation"  # parts of a config that answers depend on
NUMBER = "_row"  # the column with the numbers of rows


class Rows(NamedTuple):
    """values [R, ...] that stand in the rows [R] int64 of a weight, which has `size` rows then"""

    rows: Tensor
    values: Tensor
    size: int


class Named(NamedTuple):
    """What stands at the numbers [R] int64 of a vocabulary of `size`: raw ids, null where an id has left."""

    rows: np.ndarray
    raws: pa.Array
    size: int


@dataclass(frozen=True, kw_only=True)
class Changes:
    """To be laid over a state. `attributes` have a column NUMBER; `state` counts in place of what was there."""

    rows: Mapping[str, Rows] = field(default_factory=dict)
    whole: Mapping[str, Tensor] = field(default_factory=dict)
    raws: Mapping[str, Named] = field(default_factory=dict)
    attributes: Mapping[str, pa.Table] = field(default_factory=dict)
    state: Mapping[str, Any] = field(default_factory=dict)


def same_architecture(old: ModelState, new: ModelState) -> bool:
    """Whether changes lead from one to the other: the same weights, of which none has lost rows."""
    a, b = (x.state.get("config", {}) for x in (old, new))
    if any(a.get(part) != b.get(part) for part in ARCHITECTURE):
        return False
    if any(old.state.get(name) != new.state.get(name) for name in ("actions", "values")):
        return False
    if old.raws.keys() != new.raws.keys() or old.attributes.keys() != new.attributes.keys():
        return False
    for name, raw in new.raws.items():
        if raw.type != old.raws[name].type or len(raw) < len(old.raws[name]):
            return False
    if any(table.schema != old.attributes[name].schema for name, table in new.attributes.items()):
        return False
    return old.weights.keys() == new.weights.keys() and all(
        x.dtype == y.dtype and x.shape[1:] == y.shape[1:] and x.dim() == y.dim() and len_of(x) <= len_of(y)
        for x, y in ((old.weights[name], y) for name, y in new.weights.items())
    )


def changes_between(old: ModelState, new: ModelState, touched: Mapping[str, Tensor] | None = None) -> Changes:
    """Of two states of the same architecture. `touched` are rows of weights outside of which nothing changed: these weights
    are not compared."""
    rows: dict[str, Rows] = {}
    whole: dict[str, Tensor] = {}
    for name, x in new.weights.items():
        changed = changed_rows(old.weights[name], x, (touched or {}).get(name))
        if (
            len(changed)
            and (x.dim() < 2 or len(changed) > MOST_ROWS * len(x))
            and len_of(x) == len_of(old.weights[name])
        ):
            whole[name] = x.detach()
        elif len(changed):
            rows[name] = Rows(changed, x.detach()[changed], len(x))
    raws = {name: named for name, raw in new.raws.items() if len((named := renamed(old.raws[name], raw)).rows)}
    attributes = {}
    for name, table in new.attributes.items():
        if len(changed_numbers := changed_attributes(old.attributes[name], table)):
            attributes[name] = table.take(changed_numbers).append_column(NUMBER, pa.array(changed_numbers))
    return Changes(rows=rows, whole=whole, raws=raws, attributes=attributes, state=dict(new.state))


def changed_rows(old: Tensor, new: Tensor, touched: Tensor | None = None) -> Tensor:
    """[R] int64, in order; those beyond the old ones included"""
    if not new.dim():
        return torch.arange(int(not torch.equal(bits(old), bits(new))))
    kept = len(old)
    if touched is not None:
        return torch.cat([touched.cpu().long(), torch.arange(kept, len(new))]).unique()
    (changed,) = torch.where((bits(old) != bits(new[:kept])).any(1))
    return torch.cat([changed, torch.arange(kept, len(new))])


def bits(x: Tensor) -> Tensor:
    """[R, ...] -> [R, n] integers that hold the same bits"""
    rows = x.detach().cpu().reshape(len_of(x), x.numel() // max(1, len_of(x))).contiguous()
    width = rows.shape[1] * rows.element_size()
    if rows.storage_offset() * rows.element_size() % 8 == 0 and width % 8 == 0:
        return rows.view(torch.int64)
    return rows.view(torch.uint8)


def len_of(x: Tensor) -> int:
    return len(x) if x.dim() else 1


def renamed(old: pa.Array, new: pa.Array) -> Named:
    if new.equals(old):
        return Named(np.zeros(0, np.int64), new[:0], len(new))
    padded = pa.concat_arrays([old, pa.nulls(len(new) - len(old), old.type)])
    codes = pa.chunked_array([padded, new]).dictionary_encode().combine_chunks()
    before, after = codes.indices.fill_null(-1).to_numpy(zero_copy_only=False).reshape(2, -1)
    different = before != after
    different[len(old) :] = True
    rows = np.flatnonzero(different)
    return Named(rows, new.take(pa.array(rows)), len(new))


def changed_attributes(old: pa.Table, new: pa.Table) -> np.ndarray:
    """[R] int64 rows"""
    kept = len(old)
    different = np.zeros(len(new), dtype=bool)
    different[kept:] = True
    for name in new.column_names:
        a, b = old.column(name), new.column(name).slice(0, kept)
        if not a.equals(b):
            different[:kept] |= [x != y for x, y in zip(a.to_pylist(), b.to_pylist())]
    return np.flatnonzero(different)


def merged(first: Changes, then: Changes) -> Changes:
    """The same as one after the other."""
    rows = {name: x for name, x in first.rows.items() if name not in then.whole}
    whole = {**first.whole, **then.whole}
    for name, new in then.rows.items():
        if name in whole:
            whole[name] = laid_over(whole[name].clone(), new)
        elif name in rows:
            numbers = torch.cat([rows[name].rows, new.rows])
            values = torch.cat([rows[name].values, new.values])
            last = latest(numbers.numpy())
            rows[name] = Rows(numbers[last], values[last], new.size)
        else:
            rows[name] = new
    raws = dict(first.raws)
    for word, named in then.raws.items():
        raws[word] = named if word not in raws else one_named(raws[word], named)
    attributes = dict(first.attributes)
    for word, table in then.attributes.items():
        both = table if word not in attributes else pa.concat_tables([attributes[word], table])
        attributes[word] = both.take(latest(both.column(NUMBER).to_numpy()))
    return Changes(rows=rows, whole=whole, raws=raws, attributes=attributes, state=then.state)


def one_named(first: Named, then: Named) -> Named:
    numbers, raws = np.concatenate([first.rows, then.rows]), pa.concat_arrays([first.raws, then.raws])
    last = latest(numbers)
    return Named(numbers[last], raws.take(pa.array(last)), then.size)


def latest(numbers: np.ndarray) -> np.ndarray:
    """Where each of the numbers stands last."""
    _, from_the_end = np.unique(numbers[::-1], return_index=True)
    return len(numbers) - 1 - from_the_end


def applied(model: ModelState, changes: Changes) -> ModelState:
    """Changes laid over a state, whose weights are written to; those that grow are new ones."""
    weights = {**model.weights, **changes.whole}
    for name, new in changes.rows.items():
        weights[name] = laid_over(weights[name].detach(), new)
    raws = {name: raws_with(raw, changes.raws.get(name)) for name, raw in model.raws.items()}
    attributes = {name: table_with(table, changes.attributes.get(name)) for name, table in model.attributes.items()}
    return ModelState(weights=weights, state=changes.state or model.state, raws=raws, attributes=attributes)


def laid_over(x: Tensor, new: Rows) -> Tensor:
    if new.size > len(x):
        x = torch.cat([x, x.new_zeros(new.size - len(x), *x.shape[1:])])
    x[new.rows] = new.values
    return x


def raws_with(raw: pa.Array, named: Named | None) -> pa.Array:
    if named is None:
        return raw
    both, place = pa.concat_arrays([raw, named.raws]), np.arange(named.size)
    place[named.rows] = len(raw) + np.arange(len(named.rows))
    return both.take(pa.array(place))


def table_with(table: pa.Table, changed: pa.Table | None) -> pa.Table:
    if changed is None:
        return table
    numbers = changed.column(NUMBER).to_numpy()
    place = np.arange(max(len(table), int(numbers.max()) + 1))
    place[numbers] = len(table) + np.arange(len(numbers))
    return pa.concat_tables([table, changed.drop_columns([NUMBER])]).take(place)


def write_changes(changes: Changes, folder: Path) -> None:
    tensors = dict(changes.whole)
    for name, x in changes.rows.items():
        tensors[f"{name}:rows"] = x.rows.to(torch.int32) if x.size < 1 << 31 else x.rows
        tensors[f"{name}:values"] = x.values
    checkpoint.write_tensors(folder / "changes.safetensors", tensors)
    for name, named in changes.raws.items():
        (folder / "vocabulary").mkdir(exist_ok=True)
        table = pa.table({NUMBER: named.rows, "raw": named.raws})
        pq.write_table(table, folder / "vocabulary" / f"{name}.parquet", compression="zstd")
    for name, table in changes.attributes.items():
        pq.write_table(table, folder / f"{name}.parquet", compression="zstd")
    sizes = {name: x.size for name, x in changes.rows.items()} | {name: x.size for name, x in changes.raws.items()}
    write_json(folder / "state.json", {"sizes": sizes, "state": dict(changes.state)})


def read_changes(folder: Path) -> Changes:
    """Of files whose checksums were looked at."""
    tensors = checkpoint.load_tensors(folder, "changes")
    written = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    sizes, rows = written["sizes"], dict[str, Rows]()
    for key in [key for key in tensors if key.endswith(":rows")]:
        name = key.removesuffix(":rows")
        rows[name] = Rows(tensors.pop(key).long(), tensors.pop(f"{name}:values"), sizes[name])
    raws = {}
    for file in (folder / "vocabulary").glob("*.parquet"):
        table = pq.ParquetFile(file).read()
        raw = table.column("raw").combine_chunks()
        raws[file.stem] = Named(table.column(NUMBER).to_numpy(), raw, sizes[file.stem])
    files = {name: folder / f"{name}.parquet" for name in ("items", "users")}
    attributes = {name: pq.ParquetFile(file).read() for name, file in files.items() if file.is_file()}
    return Changes(rows=rows, whole=tensors, raws=raws, attributes=attributes, state=written["state"])
