"""All metrics by the name that the registry gives them."""

from __future__ import annotations

from xstilts.errors import InputError, nearest
from xstilts.evaluation.metrics.accuracy import ACCURACY
from xstilts.evaluation.metrics.metric import Metric
from xstilts.evaluation.metrics.mlqa import MLQA_F1
from xstilts.evaluation.metrics.ranking import LAREQA_MAP, MEWSLIX_MRR
from xstilts.evaluation.metrics.retrieval import BUCC_F1, TATOEBA_ACCURACY
from xstilts.evaluation.metrics.seqeval import SEQEVAL_F1
from xstilts.evaluation.metrics.squad import SQUAD_F1
from xstilts.evaluation.metrics.squad_v2 import SQUAD_V2_F1

METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        *(ACCURACY, SEQEVAL_F1, SQUAD_F1, SQUAD_V2_F1, MLQA_F1),
        *(TATOEBA_ACCURACY, BUCC_F1, LAREQA_MAP, MEWSLIX_MRR),
    )
}


def metric_named(name: str, where: str = "metric") -> Metric:
    """The metric of that name.

    Raises:
        InputError: If there is none.
    """
    if name not in METRICS:
        raise InputError(where, f"no metric is called {name!r}", hint=nearest(name, METRICS))
    return METRICS[name]
