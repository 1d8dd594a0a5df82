from .answers import answer_distributed as answer_distributed
from .answers import asking_on as asking_on
from .answers import systems_of as systems_of
from .cluster import RayCluster as RayCluster
from .ingest import ingest_distributed as ingest_distributed
from .shards import build_shards_distributed as build_shards_distributed
