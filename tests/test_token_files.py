"""Malformed and hostile token files: each a TokensError with the file's name, soon, and in little memory."""

from __future__ import annotations

import json
import os
import pickle
import time
import tracemalloc
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save, save_file

from spring_integrations import SpringTokens
from spring_integrations.errors import TokensError
from spring_integrations.tokens import FILE_NAME, TokensMetadata

TABLE = torch.arange(12, dtype=torch.float32).reshape(4, 3) / 7


def torch_file(value: object, **options: object) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        torch.save(value, folder / "t.pt", **options)
        return folder / "t.pt"

    return write


def safetensors_file(tensors: dict[str, torch.Tensor], **header: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        save_file(tensors, folder / "t.safetensors", metadata=header or None)
        return folder / "t.safetensors"

    return write


def raw(data: bytes, name: str = "t.safetensors") -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        (folder / name).write_bytes(data)
        return folder / name

    return write


def headed(header: object) -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text


def adapter(config: object, *, table: bool = True) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        text = config if isinstance(config, bytes) else json.dumps(config).encode()
        (folder / "adapter_config.json").write_bytes(text)
        if table:
            save_file({"prompt_embeddings": TABLE}, folder / "adapter_model.safetensors")
        return folder

    return write


def deflated(folder: Path) -> Path:
    torch.save(torch.zeros(8), folder / "small.pt")
    with (
        zipfile.ZipFile(folder / "small.pt") as source,
        zipfile.ZipFile(folder / "t.pt", "w", zipfile.ZIP_DEFLATED) as target,
    ):
        for name in source.namelist():
            with target.open(name, "w") as entry:
                for _ in range(300 if "/data/" in name else 0):
                    entry.write(bytes(1 << 20))
                if "/data/" not in name:
                    entry.write(source.read(name))
    assert (folder / "t.pt").stat().st_size < 1 << 20
    return folder / "t.pt"


def many_entries(folder: Path) -> Path:
    with zipfile.ZipFile(folder / "t.pt", "w") as target:
        for number in range(5_000):
            target.writestr(f"t/data/{number}", b"")
    return folder / "t.pt"


def special_file(folder: Path) -> Path:
    os.mkfifo(folder / "t.pt")
    return folder / "t.pt"


def named(name: str) -> Callable[[Path], str]:
    return lambda folder: name


DEEP = b"[" * 200_000 + b"]" * 200_000
BAD: dict[str, Callable[[Path], object]] = {
    "code": torch_file({"table": print}),
    "code-legacy": torch_file(print, _use_new_zipfile_serialization=False),
    "pickle": raw(pickle.dumps(TABLE.tolist()), "t.pt"),
    "two": torch_file({"a": TABLE, "b": TABLE}),
    "list": torch_file([TABLE]),
    "number": torch_file(3),
    "storage": torch_file(TABLE.untyped_storage()),
    "int": torch_file(torch.zeros(2, 3, dtype=torch.long)),
    "bool": torch_file(torch.zeros(2, 3, dtype=torch.bool)),
    "complex": torch_file(torch.zeros(2, 3, dtype=torch.complex64)),
    "fp8": torch_file(TABLE.to(torch.float8_e4m3fn)),
    "sparse": torch_file(TABLE.to_sparse()),
    "csr": torch_file(TABLE.to_sparse_csr()),
    "meta": torch_file(TABLE.to("meta")),
    "quantized": torch_file(torch.quantize_per_tensor(TABLE, 0.1, 0, torch.qint8)),
    "nested": torch_file(torch.nested.nested_tensor([TABLE, TABLE])),
    "vector": torch_file(torch.zeros(3)),
    "three-dimensions": torch_file(torch.zeros(1, 2, 3)),
    "empty-rows": torch_file(torch.zeros(0, 3)),
    "stride-0": torch_file(torch.zeros(1).expand(1 << 18, 1 << 17)),
    "stride-0-legacy": torch_file(torch.zeros(1).expand(1 << 18, 1 << 17), _use_new_zipfile_serialization=False),
    "nan": torch_file(TABLE * torch.nan),
    "beyond-float32": torch_file(TABLE.double() * 1e300),
    "no-bytes": raw(b"", "t.pt"),
    "text": raw(b"hello", "t.pt"),
    "truncated": raw(b"PK\x03\x04" + bytes(100), "t.pt"),
    "deflated": deflated,
    "many-entries": many_entries,
    "memo": raw(b"\x80\x02Nr\xff\xff\xff\x7f.", "t.pt"),
    "announced-bytes": raw(b"\x80\x05\x96\xff\xff\xff\xff\x0f\x00\x00\x00.", "t.pt"),
    "hex-doubling": raw(b"\x80\x02c_codecs\nencode\n(U\x01aU\x03hext\x52.", "t.pt"),
    "fifo": special_file,
    "st-fp8": safetensors_file({"embeddings": TABLE.to(torch.float8_e4m3fn)}),
    "st-int": safetensors_file({"embeddings": torch.zeros(2, 3, dtype=torch.long)}),
    "st-vector": safetensors_file({"embeddings": torch.zeros(3)}),
    "st-beyond-float32": safetensors_file({"embeddings": TABLE.double() * 1e300}),
    "st-training": safetensors_file({"embeddings": TABLE}, training="[1]"),
    "st-training-deep": safetensors_file({"embeddings": TABLE}, training=DEEP[:100_000].decode()),
    "st-no-bytes": raw(b""),
    "st-length": raw(b"\xff" * 8 + b"{}"),
    "st-deep": raw((len(DEEP)).to_bytes(8, "little") + DEEP),
    "st-list": raw(headed([])),
    "st-entry": raw(headed({"embeddings": 5})),
    "st-shape": raw(headed({"embeddings": {"dtype": "F32", "shape": "ab", "data_offsets": [0, 0]}})),
    "st-huge": raw(headed({"embeddings": {"dtype": "F32", "shape": [1 << 30, 1 << 30], "data_offsets": [0, 0]}})),
    "st-negative": raw(headed({"embeddings": {"dtype": "F32", "shape": [-1, -1], "data_offsets": [0, 4]}})),
    "st-no-data": raw(headed({"embeddings": {"dtype": "F32", "shape": [4, 3], "data_offsets": [0, 48]}})),
    "config-list": adapter([]),
    "config-number": adapter(3),
    "config-deep": adapter(DEEP),
    "config-big-number": adapter(b'{"peft_type": ' + b"1" * 100_000 + b"}"),
    "config-bytes": adapter(b"\xff\xfe{"),
    "config-large": adapter(b" " * (2 << 20)),
    "config-kind": adapter({"peft_type": ["PROMPT_TUNING"]}),
    "config-alone": adapter({"peft_type": "PROMPT_TUNING"}, table=False),
    "long-name": named("x" * 5_000),
    "long-reference": named("org/" + "x" * 5_000),
    "null": named("a\0b"),
    "surrogate": named("\ud83d/x"),
    "unknown-user": named("~nobody-of-that-name/tokens.pt"),
    "device": named("/dev/zero"),
}  # fmt: skip


@pytest.mark.parametrize("make", BAD.values(), ids=BAD)
def test_each_is_an_error_that_names_the_file_soon_and_in_little_memory(tmp_path: Path, make: Callable) -> None:
    path = make(tmp_path)
    tracemalloc.start()
    started = time.process_time()
    try:
        with pytest.raises(TokensError) as caught:
            SpringTokens.load(path)
        assert tracemalloc.get_traced_memory()[1] < 150 << 20
    finally:
        tracemalloc.stop()
    assert time.process_time() - started < 5  # five times slower under this tracer
    shown = str(path).encode("utf-8", "backslashreplace").decode()[:40]
    assert shown in str(caught.value).encode("utf-8", "backslashreplace").decode().replace(
        "\\\\", "\\"
    ) or "\\x00" in str(caught.value)


@pytest.mark.parametrize("path", [None, 5, b"tokens.pt", ["a"]])
def test_what_is_no_path(path: object) -> None:
    with pytest.raises(TokensError, match="is not a path to virtual tokens"):
        SpringTokens.load(path)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("is_zip", [True, False])
@pytest.mark.parametrize("wrap", [lambda t: t, torch.nn.Parameter, lambda t: OrderedDict(prompt_embeddings=t)])
def test_plain_tables_of_torch(tmp_path: Path, dtype: torch.dtype, is_zip: bool, wrap: Callable) -> None:
    for table in (TABLE.to(dtype), TABLE.to(dtype).T.contiguous().T, TABLE.to(dtype).repeat(2, 1)[2:6]):
        torch.save(wrap(table), tmp_path / "t.pt", _use_new_zipfile_serialization=is_zip)
        assert torch.equal(SpringTokens.load(tmp_path / "t.pt").embeddings, table.float())


def test_a_state_dict_of_a_module_is_read(tmp_path: Path) -> None:
    module = torch.nn.Embedding.from_pretrained(TABLE)
    torch.save(module.state_dict(), tmp_path / "t.pt")
    assert torch.equal(SpringTokens.load(tmp_path / "t.pt").embeddings, TABLE)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_flipped_bit_in_a_file_of_ours_is_an_error(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("flipped")
    metadata = TokensMetadata(backbone="org/model", license="MIT", training={"lr": 1e-4, "é": [1]})
    path = SpringTokens(TABLE, metadata).save(folder / "t.safetensors")
    whole = bytearray(path.read_bytes())
    at = data.draw(st.integers(0, 8 * len(whole) - 1))
    whole[at // 8] ^= 1 << (at % 8)
    path.write_bytes(whole)
    with pytest.raises(TokensError) as caught:
        SpringTokens.load(path)
    assert str(path) in str(caught.value)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_damage_to_a_file_of_torch_never_is_another_error(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("damaged") / "t.pt"
    torch.save(TABLE, path, _use_new_zipfile_serialization=data.draw(st.booleans()))
    whole = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, min(len(whole), 600) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(whole)
    try:
        assert SpringTokens.load(path).embeddings.shape[1] > 0
    except TokensError as error:
        assert str(path) in str(error)


def test_files_of_before_the_checksum_are_read(tmp_path: Path) -> None:
    header = {"format": "spring-tokens", "format_version": "1", "n": "4", "d": "3", "backbone": "b", "training": "{}"}
    (tmp_path / FILE_NAME).write_bytes(save({"embeddings": TABLE}, metadata=header))
    assert SpringTokens.load(tmp_path).metadata.backbone == "b"


@pytest.mark.parametrize("value", [5, ["org/model"], {"a": 1}, True])
def test_metadata_of_wrong_types_are_left_out_with_a_warning(
    tmp_path: Path, value: object, caplog: pytest.LogCaptureFixture
) -> None:
    adapter({"peft_type": "PROMPT_TUNING", "base_model_name_or_path": value, "revision": value})(tmp_path)
    assert SpringTokens.load(tmp_path).metadata == TokensMetadata()
    assert "base_model_name_or_path" in caplog.text


def test_metadata_that_cannot_be_written_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TokensError, match=r"metadata 'backbone' .* must be a str, got 5"):
        TokensMetadata(backbone=5)
    with pytest.raises(TokensError, match="must be values that JSON knows"):
        SpringTokens(TABLE, TokensMetadata(training={"a": {1, 2}})).save(tmp_path / "t.safetensors")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "table",
    [TABLE.tolist(), TABLE.numpy(), None, TABLE.to_sparse(), TABLE.to("meta"), torch.zeros(1).expand(1 << 18, 1 << 17)],
    ids=["list", "numpy", "none", "sparse", "meta", "stride-0"],
)
def test_other_tables_than_plain_tensors(table: object) -> None:
    with pytest.raises(TokensError, match="virtual tokens"):
        SpringTokens(table)
