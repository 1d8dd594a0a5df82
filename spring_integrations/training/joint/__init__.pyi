from .config import JointConfig as JointConfig
from .encoders import QueryEncoder as QueryEncoder
from .encoders import query_encoder as query_encoder
from .train import train_joint as train_joint
from .vectors import ChromaVectors as ChromaVectors
from .vectors import DenseRetriever as DenseRetriever
from .vectors import VectorIndex as VectorIndex
from .vectors import VectorSource as VectorSource
