"""Training a query encoder together with a generator, on questions and answers alone."""

from __future__ import annotations

from spring_integrations.training.joint.config import JointConfig
from spring_integrations.training.joint.encoders import QueryEncoder, query_encoder
from spring_integrations.training.joint.train import train_joint
from spring_integrations.training.joint.vectors import ChromaVectors, DenseRetriever, VectorIndex, VectorSource

__all__ = [
    "ChromaVectors",
    "DenseRetriever",
    "JointConfig",
    "QueryEncoder",
    "VectorIndex",
    "VectorSource",
    "query_encoder",
    "train_joint",
]
