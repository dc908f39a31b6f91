"""What is taken from a repository, and why a repository is refused."""

from __future__ import annotations

import pytest
from llmservice_sidecar.fetch.errors import Exit, FetchError
from llmservice_sidecar.fetch.sources import RemoteFile, chosen


def files(*paths: str) -> list[RemoteFile]:
    return [RemoteFile(path=path, size=1) for path in paths]


def test_weights_configuration_and_tokenizer_are_taken_and_nothing_that_runs() -> None:
    there = files(
        "config.json", "tokenizer.model", "merges.txt", "chat_template.jinja", "model.safetensors",
        "pytorch_model.bin", "model.pt", "modeling_custom.py", "model.gguf", "training_args.bin",
    )  # fmt: skip
    taken = {file.path for file in chosen(there, uri="hf://o/m")}
    assert taken == {
        "config.json", "tokenizer.model", "merges.txt", "chat_template.jinja", "model.safetensors"
    }  # fmt: skip


def test_the_same_weights_for_other_programs_and_hidden_files_are_left() -> None:
    there = files(
        "model.safetensors", "original/model.safetensors", "onnx/config.json", ".cache/x.json",
        "1_Pooling/config.json",
    )  # fmt: skip
    taken = [file.path for file in chosen(there, uri="hf://o/m")]
    assert taken == ["1_Pooling/config.json", "model.safetensors"]


@pytest.mark.parametrize(
    ("there", "said"),
    [
        pytest.param(["config.json", "pytorch_model.bin"], "pytorch_model.bin", id="pickles only"),
        pytest.param(["config.json"], "no *.safetensors", id="no weights at all"),
        pytest.param([], "there are no files", id="nothing"),
        pytest.param(["original/m.safetensors"], "no *.safetensors", id="weights elsewhere"),
    ],
)
def test_a_repository_without_safetensors_is_refused(there: list[str], said: str) -> None:
    with pytest.raises(FetchError) as refusal:
        chosen(files(*there), uri="hf://o/m")
    assert refusal.value.status is Exit.NO_SAFETENSORS
    assert said in str(refusal.value)
    assert not refusal.value.again


@pytest.mark.parametrize("path", ["../m.safetensors", "/etc/m.safetensors", "a/../../m.json"])
def test_a_path_that_leads_outside_is_refused(path: str) -> None:
    with pytest.raises(FetchError, match="a file is named"):
        chosen(files("model.safetensors", path), uri="s3://b/k")
