"""Export: from a backbone and a tokens file to what serving engines take."""

from __future__ import annotations

from spring_integrations.export.embeds import PromptEmbeds
from spring_integrations.export.engine import EngineModel
from spring_integrations.export.gguf import write_gguf
from spring_integrations.export.merged import Exported, export_checkpoint

__all__ = ["EngineModel", "Exported", "PromptEmbeds", "export_checkpoint", "write_gguf"]
