from .errors import SpringError as SpringError
from .passages import Passage as Passage
from .prompts import MARK as MARK
from .prompts import RagPrompt as RagPrompt
from .runtime.model import SpringModel as SpringModel
from .runtime.result import Generation as Generation
from .runtime.settings import GenerationSettings as GenerationSettings
from .tokens import SpringTokens as SpringTokens

__version__: str
