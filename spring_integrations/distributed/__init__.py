"""Bulk work on a Ray cluster: ingest, BM25 shards, and answers to many questions.

The names are listed in `__init__.pyi`, and load on first use: a worker that embeds loads no language model.
"""

from __future__ import annotations

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
