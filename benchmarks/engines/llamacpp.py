"""Serves a GGUF file by llama.cpp, in an environment with xllamacpp: python llamacpp.py FILE [PORT].

A file in f32 gets keys and values in f32 as well, so that answers can be compared with those of another engine.
"""

from __future__ import annotations

import os
import sys
import threading

import xllamacpp

SLOTS, WINDOW = 8, 2048


def main() -> None:
    """Serves until it is ended."""
    params = xllamacpp.CommonParams()
    params.model.path = sys.argv[1]
    params.hostnames, params.port = ["127.0.0.1"], int(sys.argv[2]) if len(sys.argv) > 2 else 8080
    params.n_parallel, params.n_ctx = SLOTS, SLOTS * WINDOW
    if "f32" in sys.argv[1]:
        params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    if threads := os.environ.get("OMP_NUM_THREADS"):  # its threads spin: more than there are free cores is slow
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = int(threads)
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
