"""SPRING for LangChain: language models, a retriever and a document compressor.

Swap the model of an existing chain for `SpringHFLLM` and wrap its retriever in `SpringRetriever`; the virtual
tokens then go between the retrieved passages and the question. The names are listed in `__init__.pyi`.
"""

from __future__ import annotations

import lazy_loader

from spring_integrations._optional import require

require("langchain_core", extra="langchain")

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
