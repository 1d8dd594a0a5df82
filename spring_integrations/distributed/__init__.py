"""Bulk work on a Ray cluster: ingest, BM25 shards, and answers to many questions."""

from __future__ import annotations

from spring_integrations.distributed.answers import answer_distributed, asking_on, systems_of
from spring_integrations.distributed.cluster import RayCluster
from spring_integrations.distributed.ingest import ingest_distributed
from spring_integrations.distributed.shards import build_shards_distributed

__all__ = [
    "RayCluster",
    "answer_distributed",
    "asking_on",
    "build_shards_distributed",
    "ingest_distributed",
    "systems_of",
]
