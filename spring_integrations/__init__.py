"""SPRING virtual tokens for retrieval-augmented generation with LangChain and LlamaIndex.

Importing this package loads neither torch nor a framework. Its names, listed in `__init__.pyi`, load on
first use.
"""

from __future__ import annotations

import lazy_loader

from spring_integrations._renamed import redirect_modules

__version__ = "0.1.0"
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

redirect_modules(
    __name__,
    backbone="runtime.backbone",
    context_cache="runtime.context_cache",
    generation="runtime.generation",
    model="runtime.model",
    prompt="prompts",
)
