"""Parts of benchmarks/trust.py that need more than a function."""

from __future__ import annotations
