"""One run is one Config. It travels in the run's checkpoints."""

import math
from dataclasses import dataclass, field

import numpy as np

from louder.config import require, require_above_zero, require_at_least, require_fraction, require_one_of
from louder.data.config import DataConfig
from louder.errors import InputError
from louder.evaluation.retrieval_metrics import retrieval_metrics
from louder.models import HSTUConfig, ImpressionConfig, ModelConfig, MoLConfig, RankingConfig
from louder.training.losses import LossConfig

RETRIEVAL_SELECTORS = tuple(retrieval_metrics(np.ones(1)))
RANKING_SELECTORS = "ne", "log_loss", "auc"  # of the main action


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """The defaults are the official ML-1M settings."""

    epochs: int = 101
    learning_rate: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = 0.0
    warmup_steps: int = 0  # the rate rises linearly from 0 over so many steps
    schedule: str = "constant"  # or "linear", "cosine": down to 0 at the last epoch
    clip_norm: float | None = None  # largest norm of the whole gradient
    embedding_optimizer: str = "adamw"  # or "rowwise_adamw", "rowwise_adagrad": these touch only the rows used
    embedding_learning_rate: float | None = None  # of the tables of ids; None takes learning_rate, 0 freezes them
    ema_decay: float | None = None  # measure and keep an average of the weights, of about 1 / (1 - decay) latest steps
    precision: str = "float32"  # or "bfloat16": autocast of the matrix products
    patience: int | None = None  # stop after so many evaluations without a better one; None trains to the end
    minutes: float | None = None  # stop after so many, in the middle of an epoch if need be; None: no limit
    checkpoint_steps: int = 1000  # steps between checkpoints, besides the one at the end of every epoch
    log_steps: int = 10  # steps between rows of log.jsonl
    seed: int = 42
    device: str = "auto"  # cuda where there is one

    def __post_init__(self) -> None:
        require_at_least(1, "training", self, "epochs", "checkpoint_steps", "log_steps", "patience")
        require_at_least(0, "training", self, "seed", "weight_decay", "warmup_steps", "embedding_learning_rate")
        require(lambda seed: seed < 1 << 32, "below 2**32", "training", self, ["seed"])
        require_fraction("training", self, "betas", "ema_decay")
        require_above_zero("training", self, "learning_rate", "clip_norm", "minutes")
        optimizers = "adamw", "rowwise_adamw", "rowwise_adagrad"
        require_one_of("training", self, schedule=("constant", "linear", "cosine"), embedding_optimizer=optimizers)
        require_one_of("training", self, precision=("float32", "bfloat16"))


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    seen: str = (
        "window"  # items left out: those in the model's "window" (the official code), in the "history", or "none"
    )
    every_epochs: int = 1
    select: str = "ndcg@10"  # the metric that chooses the best epoch
    users: int | None = None  # of the next item: at most so many users of a part are measured, evenly spread; None: all

    def __post_init__(self) -> None:
        require_at_least(1, "evaluation", self, "every_epochs", "users")
        require_one_of("evaluation", self, seen=("window", "history", "none"))
        require_one_of("evaluation", self, select=(*RETRIEVAL_SELECTORS, *RANKING_SELECTORS))


@dataclass(frozen=True, kw_only=True)
class Config:
    """Everything that a run depends on, besides the table's content.

    protocol   "validated": the last target of a user is for testing, the one before for validation, which alone
               chooses the epoch. "official": as Meta's code, train up to the test target and take the epoch that is
               best on the test.
    """

    name: str
    protocol: str = "validated"
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=HSTUConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    ranking: RankingConfig | None = None  # None: the task is the next item alone
    mol: MoLConfig | None = None  # the similarity of a state and an item; None is their dot product

    def __post_init__(self) -> None:
        require_one_of("", self, protocol=("validated", "official"))
        self.require_room()
        if self.ranking is not None and self.ranking.next_item and self.evaluation.seen == "history":
            raise InputError(
                "evaluation.seen is 'history', but of a ranker's next items only those in its window can be left out: "
                "choose window or none."
            )
        if self.ranking is not None and self.data.windows != "latest":
            raise InputError(
                "data.windows is 'all', but a ranker reads every exposure already: --set data.windows=latest."
            )
        if self.mol is not None:
            self.require_what_mol_needs()
        names = RANKING_SELECTORS if self.ranking is not None else RETRIEVAL_SELECTORS
        require_one_of("evaluation", self.evaluation, select=names)

    def require_room(self) -> None:
        """Raises InputError if the data's longest history does not fit into the model. A DLRM takes what there is."""
        most, needed = getattr(self.model, "max_len", math.inf), self.data.max_len
        if self.ranking is None:
            if needed > most:
                raise InputError(
                    f"data.max_len is {needed}, but the model takes histories up to model.max_len, {most}."
                )
            return
        each = 2 if self.ranking.acts_apart else 1
        tokens = each * needed + len(self.ranking.context) + 1
        if tokens > most:
            raise InputError(
                f"data.max_len is {needed}, which makes {tokens} tokens (an event has {each}, with context and a "
                f"candidate), but the model takes up to model.max_len, {most}: --set model.max_len={tokens}."
            )

    def require_what_mol_needs(self) -> None:
        if self.ranking is not None:
            raise InputError(
                "A ranker's next items are compared by dot product, so it has no mol: --set mol=null, or set ranking=null."
            )
        if getattr(self.model, "normalised", False):
            raise InputError(
                "model.normalised is true, but mol takes states and items as they are, and normalises what it makes of "
                "them: --set model.normalised=false."
            )
        if self.loss.kind != "sampled_softmax":
            raise InputError(
                f"loss.kind is {self.loss.kind!r}, but mol learns by sampled_softmax: --set loss.kind=sampled_softmax."
            )
        if self.loss.temperature != 1:
            raise InputError(
                f"loss.temperature is {self.loss.temperature}, but with mol the temperature is mol.temperature: "
                "--set loss.temperature=1."
            )

    @property
    def held_out(self) -> int:
        """Targets of each user that training does not see."""
        return 2 if self.protocol == "validated" else 1

    @property
    def two_stages(self) -> bool:
        """Whether a run of it finds items and ranks them, by itself."""
        joint = self.ranking is not None and self.ranking.next_item > 0 and not isinstance(self.model, ImpressionConfig)
        return joint and not (isinstance(self.model, HSTUConfig) and self.model.attention == "softmax")

    @property
    def selection_part(self) -> str:
        """The part of the data that chooses the best epoch."""
        return "validation" if self.protocol == "validated" else "test"
