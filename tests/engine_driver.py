"""Run in vLLM's environment: asks an export through engines in the workers of a Ray cluster.

python engine_driver.py EXPORT OUT
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial

from evaluation_kit import QUESTIONS, index

from spring_integrations import SpringModel
from spring_integrations.distributed import RayCluster, answer_distributed
from spring_integrations.evaluation import plain_systems, token_systems
from spring_integrations.evaluation.systems import System
from spring_integrations.export import EngineModel

ASKED = {"retrievers": {"bm25": index()}, "passages": (2,)}


def systems(model: SpringModel) -> Sequence[System]:
    made = {"max_new_tokens": 8}
    return [*plain_systems(model, **made), *token_systems(model, "SPRING", (10, 50), **made)]


def engine_systems(folder: str) -> Sequence[System]:
    engine = {"dtype": "float32", "max_model_len": 1024, "enforce_eager": True}
    return systems(EngineModel.open(folder, engine=engine))


if __name__ == "__main__":
    export, out = sys.argv[1:]
    answer_distributed(QUESTIONS, partial(engine_systems, export), out, cluster=RayCluster(workers=1), **ASKED)
