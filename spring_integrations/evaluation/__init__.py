"""Evaluation: questions with answers, a resumable runner over systems and retrievers, and its report.

The names are listed in `__init__.pyi`; the metrics are in `spring_integrations.metrics`.
"""

from __future__ import annotations

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
