"""The runtime: a frozen backbone, its virtual ids, batches, caches, generation, and `SpringModel`."""
