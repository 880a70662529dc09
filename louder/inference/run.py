"""A run, opened: what its best checkpoint was trained with, and what it knows.

Id maps are imported where they are read, so that training can be imported where only torch and numpy are installed.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from louder import checkpoint, models
from louder.config import from_dict
from louder.data.attributes import Attribute, Column, code_of, encode, first_codes, vectors
from louder.data.config import DataConfig
from louder.data.table import Table, open_table, read_attributes
from louder.data.window import Reader
from louder.errors import InputError
from louder.fingerprint import Fingerprint, fingerprint_of_training, require_same
from louder.inference.limits import MOST_VALUES
from louder.models import (
    AnyRanker,
    ImpressionConfig,
    ModelConfig,
    MoLConfig,
    RankingConfig,
    RankingModel,
    SequentialModel,
    Vocabulary,
)
from louder.schema import Manifest

if TYPE_CHECKING:
    import pyarrow as pa

    from louder.ids import IdMap, RawId


SCORING = "scoring.json"  # beside a ranker's weights, see scoring.py


@dataclass(frozen=True, kw_only=True)
class Run:
    """The best checkpoint of a run, all but its weights, which `sequential` or `ranker` loads.

    folder      of the checkpoint
    config      the whole training's, as plain values; its parts are below
    ranking     None for a run that predicts the next item alone
    mol         None where items are compared by dot product
    vocabulary  sizes; actions and values are the names, in the order of their bits and columns
    epoch       of the checkpoint, 0 = the first
    went_on     whether its ids went on changing after the table: then they are the table's where the raw ids are
    """

    path: Path
    folder: Path
    config: dict[str, Any]
    name: str
    data: DataConfig
    model: ModelConfig
    ranking: RankingConfig | None
    mol: MoLConfig | None
    vocabulary: Vocabulary
    actions: tuple[str, ...]
    values: tuple[str, ...]
    epoch: int
    went_on: bool = False

    @classmethod
    def open(cls, path: Path | str) -> "Run":
        """Raises InputError if there is no run, if it has no best checkpoint yet, or if that is damaged."""
        return cls.open_checkpoint(checkpoint.best(Path(path)), Path(path))

    @classmethod
    def open_checkpoint(cls, folder: Path, path: Path) -> "Run":
        """Of a folder of weights that belongs to what is at `path`."""
        return cls.of_state(checkpoint.load_state(folder), folder, path)

    @classmethod
    def of_state(cls, state: Mapping[str, Any], folder: Path, path: Path) -> "Run":
        """`state` as state.json of a checkpoint has it"""
        config = state["config"]
        ranking, mol = config.get("ranking"), config.get("mol")
        return cls(
            path=path,
            folder=folder,
            config=config,
            name=config["name"],
            data=from_dict(DataConfig, config["data"], "data"),
            model=models.config_from_dict(config["model"]),
            ranking=from_dict(RankingConfig, ranking, "ranking") if ranking else None,
            mol=from_dict(MoLConfig, mol, "mol") if mol else None,
            vocabulary=from_dict(Vocabulary, state["vocabulary"]),
            actions=tuple(state["actions"]),
            values=tuple(state["values"]),
            epoch=state["progress"]["best_epoch"],
        )

    def then(
        self,
        state: Mapping[str, Any],
        item_ids: "IdMap",
        user_ids: "IdMap",
        items: "pa.Table | None",
        users: "pa.Table | None",
    ) -> "Run":
        """The same run when its ids or attributes have gone on; `state` as state.json of a checkpoint."""
        new = replace(Run.of_state(state, self.folder, self.path), went_on=True)
        kept = {"fingerprint": self.fingerprint, "item_ids": item_ids, "user_ids": user_ids}
        vars(new).update(kept | {"items": items, "users": users})  # in place of what is read from the folder
        return new

    @property
    def retrieves(self) -> bool:
        """Whether it was trained to say which item comes next."""
        return self.ranking is None or self.ranking.next_item > 0

    @property
    def shows_seen(self) -> bool:
        """Whether people come back to what they had: it was evaluated so, and recommends so by default."""
        return (self.config.get("evaluation") or {}).get("seen") == "none"

    @property
    def temperature(self) -> float:
        """By which training divides the scores that retrieval compares; a mixture of logits has its own within them."""
        return 1.0 if self.mol is not None else float((self.config.get("loss") or {}).get("temperature", 1.0))

    @cached_property
    def fingerprint(self) -> Fingerprint:
        """Of the table of the training, at that time."""
        return fingerprint_of_training(self.folder, checkpoint.load_state(self.folder))

    @cached_property
    def item_ids(self) -> "IdMap":
        return self.vocabulary_of("item")

    @cached_property
    def user_ids(self) -> "IdMap":
        """Of the training: the table may have other users since."""
        return self.vocabulary_of("user")

    def vocabulary_of(self, what: str) -> "IdMap":
        from louder.ids import IdMap

        return IdMap.read(self.folder / "vocabulary" / f"{what}.parquet")

    @cached_property
    def items(self) -> "pa.Table | None":
        """Attributes, one row an item; None if the log came without."""
        return read_attributes(self.folder, "items")

    @cached_property
    def users(self) -> "pa.Table | None":
        return read_attributes(self.folder, "users")

    @cached_property
    def context(self) -> list[Attribute]:
        """The attributes of users that begin every sequence of a ranker."""
        names = self.ranking.context if self.ranking else ()
        return encode(self.needed(self.users, "users"), names) if names else []

    @cached_property
    def user_codes(self) -> Tensor:
        """[U, C] the codes of that context of the users of the training."""
        return first_codes(self.context)

    def context_of(self, user: "RawId | None", context: Mapping[str, object] | None) -> Tensor | None:
        """[1, C] codes of attributes that come with a request; where none come, those of the training. None where the
        model reads none. Raises InputError for an attribute that it does not know."""
        if self.ranking is None:
            return None
        names = self.ranking.context
        if stray := [name for name in context or {} if name not in names]:
            have = ", ".join(names) or "none"
            raise InputError(f"The context has {stray[0]!r}, but the model knows these attributes of users: {have}.")
        if not names:
            return None
        if context is None and user is not None:
            (number,) = self.user_ids.ids([user])
            if number >= 0:
                return self.user_codes[number][None]
        return torch.tensor([[code_of(attribute, (context or {}).get(attribute.name)) for attribute in self.context]])

    @cached_property
    def reader(self) -> Reader:
        ranking = self.ranking is not None
        return Reader(
            item_ids=self.item_ids,
            max_len=self.data.max_len,
            query_time=self.data.query_time,
            actions=self.actions if self.vocabulary.actions else (),
            values=self.values if ranking else (),
            log_values=self.ranking.log_values if self.ranking else (),
            series=bool(self.vocabulary.series),
            ranking=ranking,
            reads_new=self.vocabulary.dynamic,
        )

    @property
    def context_labels(self) -> dict[str, list[str]]:
        """The values of each attribute of users that may come with a request."""
        return {x.name: [label for label in x.labels if label][:MOST_VALUES] for x in self.context}

    @property
    def main(self) -> str:
        """The action that scores by default; "" where nothing is ranked."""
        return (self.ranking.main or self.actions[0]) if self.ranking else ""

    @property
    def value_names(self) -> list[str]:
        """Of the values of an answer: those that are learned as log(1 + x) are named so."""
        logged = self.ranking.log_values if self.ranking else ()
        return [f"log {name}" if name in logged else name for name in self.values]

    def item_columns(self) -> list[Column]:
        """The attributes and vectors of items that join the token of an item."""
        if self.ranking is None or not (self.ranking.item_attributes or self.ranking.item_vectors):
            return []
        items = self.needed(self.items, "items")
        return [*encode(items, self.ranking.item_attributes), *vectors(items, self.ranking.item_vectors)]

    def needed(self, attributes: "pa.Table | None", what: str) -> "pa.Table":
        if attributes is None:
            raise InputError(
                f"{self.folder} has no {what}.parquet, which its model needs. Copy it from the table, or train again."
            )
        return attributes

    def require_next_item(self) -> None:
        if self.ranking is not None:
            raise InputError(
                f"{self.path} is a ranking run, which recommends nothing by itself. Ask what a user will do with items: "
                f"louder rank {self.path} --user ID --items A,B,C."
            )

    def require_ranking(self) -> None:
        if self.ranking is None:
            raise InputError(
                f"{self.path} predicts the next item, not what is done with it. Recommend with it (louder recommend "
                f"{self.path} --user ID), or train a ranker: louder train ml1m:rank_hstu."
            )

    def sequential(self) -> SequentialModel:
        """The model of a run that predicts the next item, dropout off. Raises InputError for a ranking run."""
        self.require_next_item()
        model = models.build(self.model, self.vocabulary, self.mol)
        checkpoint.load_model(model, self.folder)
        return model.eval()

    def ranker(self) -> AnyRanker:
        """The model of a ranking run, dropout off. Raises InputError for a run that predicts the next item."""
        self.require_ranking()
        assert self.ranking is not None
        model = models.build_ranker(self.model, self.ranking, self.vocabulary, self.item_columns())
        checkpoint.load_model(model, self.folder)
        return model.eval()

    def generative_ranker(self) -> RankingModel:
        """Likewise; raises InputError also for a model of single impressions."""
        model = self.ranker()
        if not isinstance(model, RankingModel):
            raise InputError(
                f"{self.path} is a model of single impressions, whose counters only a table has. Measure it: louder "
                f"evaluate {self.path}. Candidates are ranked by a generative ranker: louder train ml1m:rank_hstu."
            )
        return model

    def open_table(self, path: Path) -> Table:
        """The histories of known users: of the table it was trained on, or of one with the same items, actions, values
        and series. Raises InputError for any other."""
        if not path.is_dir():
            raise InputError(
                f"The histories of known users are in {path}, which is not there. "
                "Pass where the table is (--table FOLDER), or a history (--history FILE.json)."
            )
        self.require_table(path)
        if self.ranking is None:
            return open_table(path)
        return open_table(path, values=Manifest.read(path).values, requests=True)

    def require_table(self, path: Path) -> None:
        """Raises InputError unless the numbers that the model reads stand for the same in this table as in that of the
        training. Here a run and a table meet, whatever for."""
        ranking = self.ranking is not None
        parts = {
            "items": True,
            # each has learnt a vector of its own
            "users": bool(self.mol and self.mol.user_rows) or isinstance(self.model, ImpressionConfig),
            "actions": ranking or bool(self.vocabulary.actions or self.data.positive),
            "values": ranking,
            "series": self.data.auxiliary,
        }
        require_same(self.fingerprint, path, str(self.path), [part for part, matters in parts.items() if matters])


def version_of(*runs: Path | None) -> str:
    """Names one state of the weights of runs that answer together: RUN@HASH. It changes when a new best checkpoint is
    published."""
    parts = []
    for path in runs:
        if path is not None:
            folder = checkpoint.best(path)
            weights = folder / "model.safetensors"
            try:
                stat = weights.stat()
            except OSError as error:
                raise InputError(checkpoint.damaged(weights)) from error
            text = f"{folder.resolve()} {stat.st_size} {stat.st_mtime_ns} {stat.st_ino}"
            if (scoring := folder / SCORING).is_file():
                text += scoring.read_text(encoding="utf-8")
            parts.append(f"{path.resolve().name}@{hashlib.blake2b(text.encode(), digest_size=4).hexdigest()}")
    return "+".join(parts)
