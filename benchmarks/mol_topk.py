"""Top k of a catalogue under a mixture of logits: RAILS' searches beside a score for every item."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.measure import Case
from louder.config import from_dict
from louder.errors import InputError
from louder.inference.mol_topk import MoLTopK, Top
from louder.inference.run import Run
from louder.models import MoL, MoLConfig
from louder.results import Row
from louder.training.config import Config
from louder.training.retrieval import part_loader
from louder.training.task import open_config_table

WIDTH = 50  # of states and items, as on ML-1M
EACH = 5, 10, 50, 100  # k' of the paper's TopKPerEmbd, TopKAvg and CombTopK
COUNT = 200, 500, 1000, 2000, 4000
BOTH = (5, 200), (50, 500), (100, 1000)

QUICK: Row = {"items": [10_000], "users": 32, "k": 10, "run": None}
FULL = QUICK | {"items": [10_000, 100_000]}


def cases(
    *, items: Sequence[int], users: int, k: int, run: Path | None, device: torch.device, memory: float
) -> Iterator[Case]:
    """The k best items for `users` queries at once: of a run's catalogue and test users, and of random catalogues, where
    no search has anything to go by but the mixture itself.

    `recall` is the share of the k best that was found, `scored` of how many items the mixture was computed.
    """
    if k > min(items):
        raise InputError(f"-k is {k}, but a catalogue has {min(items)} items: ask for fewer.")
    if run is not None:
        yield case_of(f"{run.name}, k = {k}", *trained(run, users), k=k, memory=memory)
    for count in items:
        torch.manual_seed(0)
        mol = MoL(MoLConfig(), WIDTH).eval().to(device)
        with torch.no_grad():
            catalogue, queries = (x.to(device) for x in (torch.randn(count, WIDTH), torch.randn(users, WIDTH)))
            index, asked = MoLTopK(mol, mol.items(catalogue)), mol.queries(queries)
        yield case_of(f"random, {count:,} items, k = {k}", index, asked, k=k, memory=memory)


@torch.no_grad()
def trained(run: Path, users: int) -> tuple[MoLTopK, Tensor]:
    """The catalogue of a run, and queries of users of its test part."""
    opened = Run.open(run)
    model = opened.sequential()
    if not isinstance(model.similarity, MoL):
        told = f"{run} scores by dot product, not by a mixture of logits"
        raise InputError(f"{told}. Train one: louder train ml1m:hstu_mol.")
    config = from_dict(Config, opened.config)
    batch = next(part_loader(open_config_table(config), config, "test").batches())
    queries = model.queries(batch.sequences, batch.users)
    if len(queries) < users:
        raise InputError(f"A batch of {run} has {len(queries)} users, but --users is {users}: ask for fewer.")
    return MoLTopK(model.similarity, model.catalogue()), queries[:users]


def case_of(name: str, index: MoLTopK, queries: Tensor, *, k: int, memory: float) -> Case:
    config, count = index.mol.config, len(index.items)
    components = f"{config.query_components} x {config.item_components} x {config.width}"
    shape = {"users": len(queries), "items": count, "k": k, "components": components, "dtype": "float32"}
    case = Case(name, shape, memory, reference="brute force", unit="users")
    searches: dict[str, Callable[[], Top]] = {
        "brute force": partial(index.brute_force, queries, k),
        "louder, two passes": partial(index.two_pass, queries, k),
    }
    for each in (n for n in EACH if n <= count):
        searches[f"louder, per component {each}"] = partial(index.per_component, queries, k, each)
    for number in (n for n in COUNT if k <= n <= count):
        searches[f"louder, average {number}"] = partial(index.average, queries, k, number)
    for each, number in ((a, b) for a, b in BOTH if k <= b <= count):
        searches[f"louder, combined {each}_{number}"] = partial(index.combined, queries, k, each, number)
    true = searches["brute force"]()
    for search, run in searches.items():
        found = run()
        scored = round(found.scored.float().mean().item(), 1)
        case.add(search, run, recall=round(recall(found, true), 5), scored=scored)
    return case


def recall(found: Top, true: Top) -> float:
    """Share of the true items that were found, by their scores: of items that tie, either will do."""
    least = true.scores[:, -1:]
    return (found.scores >= least - 1e-5 * least.abs()).float().mean().item()
