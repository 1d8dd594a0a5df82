"""LlamaIndex: LLMs with virtual tokens, a retriever and a postprocessor that mark passages, templates.

The names are listed in `__init__.pyi`.
"""

from __future__ import annotations

import lazy_loader

from spring_integrations._optional import require

require("llama_index.core", extra="llama-index")

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
