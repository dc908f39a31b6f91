"""The same deliveries inside the test's own process: where coverage and debuggers see them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from fakes.hub_repositories import Repository
from fakes.hub_server import hub
from fakes.s3_server import READER, s3_server
from fakes.safetensors_files import model_files
from integration.fetch.running import wanted
from llmservice_sidecar.adapters.model_progress import read_progress
from llmservice_sidecar.fetch.__main__ import deliver, parser
from llmservice_sidecar.fetch.errors import Exit, FetchError
from llmservice_sidecar.fetch.progress import Progress

FILES = model_files()


def run(folder: Path, *arguments: str, environ: Mapping[str, str]) -> Path:
    """Deliver into a folder; where the model's link leads."""
    out = folder / "out"
    out.mkdir(parents=True, exist_ok=True)
    words = [f"--cache={folder / 'cache'}", f"--out={out}", *arguments]
    deliver(parser().parse_args(words), progress=Progress(out), environ=environ)
    report = read_progress(str(out / "progress.json"))
    assert report is not None
    assert report.phase == "Ready"
    return out / "model"


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_from_a_hub(tmp_path: Path) -> None:
    repositories = {
        "org/open": Repository.of(FILES),
        "org/gated": Repository.of(FILES, token="granted", gated=True),
        "org/pickles": Repository.of({"model.bin": b"pickle"}),
    }
    with hub(repositories) as served:
        environ = {"HF_ENDPOINT": served.url}
        assert content(run(tmp_path, "--get=model=hf://org/open", environ=environ)) == wanted(FILES)
        granted = environ | {"HF_TOKEN": "granted"}
        assert run(tmp_path / "g", "--get=model=hf://org/gated", environ=granted).exists()
        refused = {
            "hf://org/gated": Exit.NOT_ALLOWED,
            "hf://org/none": Exit.NOT_FOUND,
            "hf://org/pickles": Exit.NO_SAFETENSORS,
            "hf://not..valid/name": Exit.USAGE,
            "git://host/name": Exit.USAGE,
        }
        for uri, status in refused.items():
            with pytest.raises(FetchError) as refusal:
                run(tmp_path / "r", f"--get=model={uri}", environ=environ)
            assert (uri, refusal.value.status) == (uri, status)
        wrong = environ | {"HF_TOKEN": "wrong"}
        with pytest.raises(FetchError, match="refuses the token"):
            run(tmp_path / "r", "--get=model=hf://org/open", environ=wrong)
        with pytest.raises(FetchError, match="no revision 'v9'"):
            run(tmp_path / "r", "--get=model=hf://org/open", "--revision=v9", environ=environ)
        with pytest.raises(FetchError, match="expected NAME=URI"):
            run(tmp_path / "r", "--get=hf://org/open", environ=environ)


def test_from_a_bucket(tmp_path: Path) -> None:
    with s3_server(tmp_path / "s3") as bucket:
        bucket.put("llm/tiny", FILES)
        environ = {
            "AWS_ENDPOINT_URL": bucket.url,
            "LLMSERVICE_S3_CREDENTIALS": f"{READER}region = us-east-1\n",
        }
        get = "--get=model=s3://models/llm/tiny"
        assert content(run(tmp_path, get, environ=environ)) == wanted(FILES)
        refused = {
            "[default]\naws_access_key_id = reader\naws_secret_access_key = no\nregion = us-east-1":
                Exit.NOT_ALLOWED,
            "no file": Exit.USAGE,
        }  # fmt: skip
        for credentials, status in refused.items():
            told = environ | {"LLMSERVICE_S3_CREDENTIALS": credentials}
            with pytest.raises(FetchError) as refusal:
                run(tmp_path / "r", get, environ=told)
            assert refusal.value.status is status
        with pytest.raises(FetchError, match="no objects under this key"):
            run(tmp_path / "r", "--get=model=s3://models/none", environ=environ)
