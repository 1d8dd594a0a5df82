"""The layer table of architecture.md, made of the table that tests/test_layers.py checks imports against."""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def table() -> str:
    """Returns the table in Markdown."""
    if (tests := str(ROOT / "tests")) not in sys.path:
        sys.path.append(tests)
    import test_layers as held

    groups = (("the core", held.CORE), ("layers 0 and 1", held.LAYER_1), ("layer 0", held.LAYER_0))
    lines = ["| Layer | Module | May import of this package | Libraries |", "|---|---|---|---|"]
    for layer, name in layers(Path(held.__file__).read_text(encoding="utf-8")):
        row = held.TABLE[name]
        own, words = list(row.own), []
        for group, members in groups:
            if set(members) <= set(own):
                words.append(group)
                own = [module for module in own if module not in members]
        words += ["everything" if module == "" else f"`{module}`" for module in own]
        libraries = ", ".join(f"`{library}`" for library in row.libraries)
        lazily = ", inside its functions" if row.lazily else ""
        lines.append(f"| {layer} | `{name}` | {', '.join(words) or '–'}{lazily} | {libraries or '–'} |")
    return "\n".join(lines) + "\n"


def layers(source: str) -> list[tuple[int, str]]:
    """Returns (layer, module) in the order of TABLE, whose comments name the layers."""
    body = source.split("\nTABLE = {\n")[1].split("\n}\n")[0]
    found, layer = [], -1
    for line in body.splitlines():
        if heading := re.fullmatch(r"    # layer (\d+)", line):
            layer = int(heading[1])
        elif module := re.match(r'    "([\w.]+)": Row', line):
            found.append((layer, module[1]))
    return found
