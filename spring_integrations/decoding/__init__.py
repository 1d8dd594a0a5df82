"""Answers marginalised over passages: RAG-Sequence and RAG-Token (Lewis et al. 2020, arXiv 2005.11401)."""

from __future__ import annotations

from spring_integrations._renamed import renamed
from spring_integrations.decoding.answer import RagAnswer
from spring_integrations.decoding.decoder import Decoding, RagDecoder, RagModel
from spring_integrations.decoding.posterior import (
    COSINE_TEMPERATURE,
    MAX_PASSAGES,
    ScoreTemperature,
    log_prior,
    passage_scores,
    rag_sequence_joint,
    rag_sequence_log_likelihood,
    rag_token_joint,
    rag_token_log_likelihood,
)
from spring_integrations.decoding.seq2seq import Seq2SeqModel

__all__ = [
    "COSINE_TEMPERATURE",
    "MAX_PASSAGES",
    "Decoding",
    "RagAnswer",
    "RagDecoder",
    "RagModel",
    "ScoreTemperature",
    "Seq2SeqModel",
    "log_prior",
    "passage_scores",
    "rag_sequence_joint",
    "rag_sequence_log_likelihood",
    "rag_token_joint",
    "rag_token_log_likelihood",
]

__getattr__ = renamed(__name__, Method="Decoding")
