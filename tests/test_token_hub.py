"""Virtual tokens go to a hub with their model card, and come back; the hub is a server on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import local_hub
import pytest
import yaml
from local_hub import Hub
from typer.testing import CliRunner

from spring_integrations import SpringTokens
from spring_integrations.cli import app
from spring_integrations.errors import SettingsError, TokensError
from spring_integrations.training.hub import pull_tokens, push_tokens

REPO = "reader/tokens"
BACKBONE = "org/model-7b"
CARD = """---
license: mit
tags:
- spring
---
# Tokens of mine

llm = SpringHFLLM('org/model-7b', 'trained')
"""


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with local_hub.running() as (hub, address):
        local_hub.use(address, tmp_path / "hub", monkeypatch)
        monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "token"))
        monkeypatch.setenv("HF_TOKEN", "a-token-of-nobody")
        yield hub


@pytest.fixture
def folder(random_tokens: SpringTokens, tmp_path: Path) -> Path:
    """What a training leaves: tokens, card, plot, settings, and a checkpoint."""
    folder = tmp_path / "trained"
    folder.mkdir()
    random_tokens.with_metadata(backbone=BACKBONE, license="Apache-2.0").save(folder / "spring_tokens.safetensors")
    (folder / "README.md").write_text(CARD, encoding="utf-8")
    (folder / "loss.png").write_bytes(b"PNG")
    (folder / "checkpoint-3").mkdir()
    (folder / "checkpoint-3/optimizer.pt").write_bytes(b"large")
    (folder / "query_encoder").mkdir()
    (folder / "query_encoder/config.json").write_text("{}", encoding="utf-8")
    return folder


def header(hub: Hub) -> dict[str, object]:
    return yaml.safe_load(hub.files[REPO]["README.md"].decode().split("---")[1])


def test_a_folder_goes_up_and_comes_back(hub: Hub, folder: Path, tmp_path: Path, random_tokens: SpringTokens) -> None:
    address = push_tokens(folder, REPO)
    assert address.endswith(f"/{REPO}")
    assert set(hub.files[REPO]) == {"spring_tokens.safetensors", "README.md", "loss.png", "query_encoder/config.json"}
    assert (folder / "README.md").read_text(encoding="utf-8") == CARD, "the folder stays as it was"
    pulled = pull_tokens(REPO, tmp_path / "back")
    assert pulled.embeddings.equal(random_tokens.embeddings)
    assert pulled.metadata.backbone == BACKBONE
    there = {p.relative_to(tmp_path / "back").as_posix() for p in (tmp_path / "back").rglob("*") if p.is_file()}
    assert there == set(hub.files[REPO])
    assert not any(p.is_symlink() for p in (tmp_path / "back").rglob("*"))
    assert SpringTokens.load(REPO).digest == pulled.digest


def test_the_card_says_what_a_search_looks_for(hub: Hub, folder: Path) -> None:
    push_tokens(folder, REPO, private=True)
    assert header(hub) == {
        "base_model": BACKBONE,
        "library_name": "spring-integrations",
        "license": "mit",
        "tags": ["spring", "retrieval-augmented-generation", "soft-prompts"],
    }
    assert b"SpringHFLLM('org/model-7b', 'reader/tokens')" in hub.files[REPO]["README.md"]
    assert hub.private == {REPO}


def test_a_file_without_a_card_gets_one(hub: Hub, tokens_file: Path) -> None:
    with pytest.raises(SettingsError, match=r"'' is no hub id; give it with base_model \(--base-model org/model\)"):
        push_tokens(tokens_file, REPO)
    assert hub.requests == []
    push_tokens(tokens_file, REPO, base_model=BACKBONE)
    assert header(hub)["base_model"] == BACKBONE
    assert b"8 virtual tokens of width 32" in hub.files[REPO]["README.md"]
    assert f"SpringHFLLM('{BACKBONE}', '{REPO}')".encode() in hub.files[REPO]["README.md"]


def test_commands(hub: Hub, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pushed = CliRunner().invoke(app, ["tokens", "push", str(folder), "--repo", REPO])
    assert pushed.exit_code == 0, pushed.output
    assert f"/{REPO}\n" in pushed.output
    pulled = CliRunner().invoke(app, ["tokens", "pull", REPO])
    assert pulled.exit_code == 0, pulled.output
    assert f"tokens: n = 8, d = 32, for {BACKBONE}" in pulled.output
    assert len(SpringTokens.load(tmp_path / "tokens")) == 8
    again = CliRunner().invoke(app, ["tokens", "pull", REPO])
    assert again.exit_code == 2
    assert "'tokens' is there and not empty; give a new folder" in again.output


def test_what_the_hub_refuses_or_has_not_is_said(hub: Hub, folder: Path, tmp_path: Path) -> None:
    hub.refuses = True
    with pytest.raises(TokensError, match=r"cannot push to 'reader/tokens': .*403.*log in with `hf auth login`"):
        push_tokens(folder, REPO)
    with pytest.raises(TokensError, match=r"cannot pull from 'reader/none': "):
        pull_tokens("reader/none", tmp_path / "back")
    assert not (tmp_path / "back").exists()
    with pytest.raises(SettingsError, match="'tokens' is no repository on a hub; name it org/name"):
        push_tokens(folder, "tokens")
    (tmp_path / "bare").mkdir()
    with pytest.raises(TokensError, match="holds no virtual tokens"):
        push_tokens(tmp_path / "bare", REPO)


def test_damaged_tokens_neither_go_up_nor_come_down(hub: Hub, folder: Path, tmp_path: Path) -> None:
    push_tokens(folder, REPO)
    hub.files[REPO]["spring_tokens.safetensors"] = hub.files[REPO]["spring_tokens.safetensors"][:-9]
    with pytest.raises(TokensError):
        pull_tokens(REPO, tmp_path / "back")
    assert not (tmp_path / "back").exists()
    (folder / "spring_tokens.safetensors").write_bytes(b"nothing")
    before = list(hub.requests)
    with pytest.raises(TokensError):
        push_tokens(folder, REPO)
    assert hub.requests == before
