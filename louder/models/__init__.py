"""SequenceBatch in, one state a token out; and rankers on them. One file per paper."""

from collections.abc import Sequence

from louder.config import Values, from_dict, of_kind
from louder.data.attributes import Column
from louder.errors import InputError
from louder.models.dlrm import DLRM, DLRMConfig
from louder.models.embeddings import Vocabulary
from louder.models.hstu import HSTU, HSTUConfig
from louder.models.mol import MoL, MoLConfig
from louder.models.ranking import RankingConfig, RankingModel
from louder.models.sasrec import SASRec, SASRecConfig
from louder.models.sequential import SequentialConfig, SequentialModel
from louder.models.transformer import Transformer, TransformerConfig
from louder.models.wukong import Wukong, WukongConfig

ImpressionConfig = DLRMConfig | WukongConfig  # rankers that see one exposure at a time, with counters
ModelConfig = HSTUConfig | SASRecConfig | TransformerConfig | ImpressionConfig
AnyRanker = RankingModel | DLRM | Wukong
AnyModel = SequentialModel | AnyRanker


def config_from_dict(values: Values) -> ModelConfig:
    """The config of a model from plain values, such as those of a checkpoint."""
    config: ModelConfig = from_dict(of_kind(ModelConfig, "model", values), values, "model")
    return config


def build(config: ModelConfig, vocabulary: Vocabulary, mol: MoLConfig | None = None) -> SequentialModel:
    """The sequential model that a config describes, with random weights; it scores by dot product if `mol` is None."""
    if not isinstance(config, SequentialConfig):
        raise InputError(
            f"model.kind={config.kind} ranks what is shown, and finds no next item. Use a ranking recipe: ml1m:rank_dlrm."
        )
    models: dict[str, type[SequentialModel]] = {"hstu": HSTU, "sasrec": SASRec, "transformer": Transformer}
    model = models[config.kind](config, vocabulary)
    if mol is not None:
        model.similarity = MoL(mol, config.width)
    return model


def build_ranker(
    config: ModelConfig, ranking: RankingConfig, vocabulary: Vocabulary, item_attributes: Sequence[Column]
) -> AnyRanker:
    """The ranker that a config describes, with random weights; `item_attributes` are the columns that it names."""
    if isinstance(config, ImpressionConfig):
        if ranking.id_dropout:
            raise InputError(
                f"ranking.id_dropout is for the items that come with a request, which model.kind={config.kind} does "
                "not answer: --set ranking.id_dropout=0."
            )
        if ranking.cross_layers:
            raise InputError(
                f"ranking.cross_layers is {ranking.cross_layers}, but model.kind={config.kind} crosses all its features, "
                "counters too, already: --set ranking.cross_layers=0 --set ranking.item_counters=false."
            )
        if isinstance(config, DLRMConfig):
            return DLRM(config, vocabulary, item_attributes)
        return Wukong(config, vocabulary, item_attributes)
    if isinstance(config, SASRecConfig):
        raise InputError("model.kind=sasrec keeps no keys and values to rank with. Use hstu or transformer.")
    # actions have tokens of their own here
    backbone = build(config, Vocabulary(items=vocabulary.items, series=vocabulary.series, dynamic=vocabulary.dynamic))
    return RankingModel(backbone, ranking, vocabulary, item_attributes)
