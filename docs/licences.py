"""Lists what an installation brings, with its licences, from the metadata that is installed.

    python docs/licences.py            # a table of everything that the extra "all" needs, as it is installed here
    python docs/licences.py --check    # only names what is copyleft or says nothing, and fails if a name is new

Nothing is asked of a network. The wheel itself holds only this package's own files, under Apache-2.0.
"""

from __future__ import annotations

import re
import sys
from importlib import metadata

from packaging.requirements import Requirement

PACKAGE = "spring-integrations"
EXTRAS = ("all",)
PERMISSIVE = re.compile(r"apache|mit\b|bsd|isc|psf|python software|0bsd|unlicense|hpnd|zlib|boost|blueoak|cc0", re.I)
# What is neither permissive by its metadata, and why it may be needed all the same.
KNOWN = {
    "certifi": "MPL-2.0, a list of certificates used as it is",
    "chardetng-py": "MIT, in its LICENSE file only",
    "orjson": "MPL-2.0 or Apache-2.0 or MIT, used as it is",
    "pathspec": "MPL-2.0, used as it is",
    "tqdm": "MPL-2.0 and MIT, used as it is",
}


def needed() -> dict[str, metadata.Distribution]:
    """Returns the distributions that the package and its extras need here, by name, without the package itself."""
    found: dict[str, metadata.Distribution] = {}
    asked = [(PACKAGE, frozenset(EXTRAS))]
    seen = set()
    while asked:
        name, extras = asked.pop()
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        try:
            found[name] = metadata.distribution(name)
        except metadata.PackageNotFoundError:  # for another system or version of Python
            continue
        for text in found[name].requires or ():
            requirement = Requirement(text)
            marker = requirement.marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in extras or {""}):
                asked.append((_normal(requirement.name), frozenset(requirement.extras)))
    found.pop(PACKAGE, None)
    return dict(sorted(found.items()))


def licence(distribution: metadata.Distribution) -> str:
    """Returns what a distribution's metadata says: an expression, classifiers, or the first line of a text."""
    about = distribution.metadata
    if expression := about.get("License-Expression"):
        return str(expression)
    classified = [c.split(" :: ")[-1] for c in about.get_all("Classifier") or () if c.startswith("License ::")]
    if named := [c for c in classified if c != "OSI Approved"]:
        return " and ".join(named)
    return next(iter(str(about.get("License") or "").strip().splitlines()), "")[:60]


def doubtful() -> dict[str, str]:
    """Returns the licences that are not permissive, or not said, of distributions by name."""
    said = {name: licence(distribution) for name, distribution in needed().items()}
    return {name: text for name, text in said.items() if not PERMISSIVE.search(text) or "GPL" in text or "MPL" in text}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    if "--check" in sys.argv[1:]:
        for name, text in doubtful().items():
            print(f"{name}: {text or 'says nothing'} ({KNOWN.get(name, 'NEW')})")
        sys.exit(bool(set(doubtful()) - set(KNOWN)))
    print("| Distribution | Version | Licence |\n|---|---|---|")
    for name, distribution in needed().items():
        print(f"| {name} | {distribution.version} | {licence(distribution)} |")
