"""A model and its LoRA adapters, from a hub to an answer: real download, real vLLM, the sidecar."""

from __future__ import annotations

from pathlib import Path

import msgspec
import openai
import pytest
from fakes.hub_repositories import Repository
from fakes.hub_server import hub
from fakes.lora_adapter import adapter_files
from fakes.manifests import service
from fakes.otlp_receiver import OtlpReceiver
from integration.fetch.running import Pod
from integration.sidecar.conftest import static_config
from integration.sidecar.running import SidecarProcess
from llmservice_api.sidecar_config import ModelConfig
from llmservice_lab.engine.environment import ensure_engine_python
from llmservice_lab.engine.process import EngineKind, EngineOptions, EngineProcess
from llmservice_lab.engine.tiny_model import ensure_tiny_model
from llmservice_operator.desired.engine import engine_container
from llmservice_operator.desired.model_fetch import fetch_containers

LORA = {
    "adapters": [
        {"name": "tiny-a", "uri": "hf://org/a"},
        {"name": "team/tiny-b", "uri": "hf://org/b"},
    ]
}


@pytest.mark.timeout(400)
def test_adapters_answer_differently_by_the_name_that_is_asked_for(
    otlp: OtlpReceiver, tmp_path: Path
) -> None:
    tiny = ensure_tiny_model(ensure_engine_python(log=print))
    made = service(model={"uri": "hf://org/tiny", "name": "tiny", "lora": LORA})
    repositories = {
        "org/tiny": {path.name: path.read_bytes() for path in tiny.iterdir()},
        "org/a": adapter_files(seed=1),
        "org/b": adapter_files(seed=2),
    }
    pod = Pod(tmp_path)
    (fetch,) = fetch_containers(made, image="sidecar")
    gets = [word for word in fetch["args"] if word.startswith("--get=")]
    with hub({name: Repository.of(files) for name, files in repositories.items()}) as served:
        assert pod.fetch(*gets, environment={"HF_ENDPOINT": served.url})[0] == 0

    words = [
        word.replace("/run/llmservice", str(pod.out))
        for word in engine_container(made, image="engine")["args"]
    ]
    lora = tuple(words[words.index("--enable-lora") :])
    model = ("--model", words[words.index("--model") + 1])
    options = EngineOptions(kind=EngineKind.TINY, arguments=(*model, *lora))
    with EngineProcess(options) as engine:
        config = msgspec.structs.replace(
            static_config(engine, otlp),
            model=ModelConfig(name="tiny", adapters=("team/tiny-b", "tiny-a")),
        )
        with SidecarProcess(config, tmp_path / "sidecar") as sidecar:
            names = ("tiny", "tiny-a", "team/tiny-b")
            answers = {name: answer(sidecar.http, name) for name in names}
            assert answers == {name: answer(sidecar.http, name) for name in names}
            with pytest.raises(openai.NotFoundError, match="tiny-c"):
                answer(sidecar.http, "tiny-c")
    assert len(set(answers.values())) == 3


def answer(base: str, model: str) -> str:
    """The text at temperature 0."""
    with openai.OpenAI(base_url=f"{base}/v1", api_key="none") as client:
        said = client.completions.create(
            model=model,
            prompt="Tell me about rivers.",
            temperature=0,
            max_tokens=24,
            extra_body={"vllm_xargs": {"out_len": 24}},
        )
    return said.choices[0].text
