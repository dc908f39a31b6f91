"""What an endpoint picker of the Gateway API's inference extension reads of a replica."""

from __future__ import annotations

import aiohttp
from integration.sidecar.clients import occupied
from integration.sidecar.conftest import SLOTS
from integration.sidecar.running import SidecarProcess
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

# The model server protocol's names for vLLM; vllm:lora_requests_info is there with adapters only.
GAUGES = ("vllm:num_requests_waiting", "vllm:num_requests_running", "vllm:kv_cache_usage_perc")


async def scraped(sidecar: SidecarProcess) -> dict[str, Metric]:
    """The page of the data port, read as a Prometheus client reads it; no family comes twice."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{sidecar.http}/metrics") as response,
    ):
        assert response.headers["content-type"].startswith("text/plain")
        families = list(text_string_to_metric_families(await response.text()))
    by_name = {family.name: family for family in families}
    assert len(by_name) == len(families)
    return by_name


async def test_the_names_are_the_protocols_and_the_sidecars_queue_is_in_them(
    sidecar: SidecarProcess,
) -> None:
    async with occupied(sidecar, running=SLOTS, queued=3):
        page = await scraped(sidecar)
        waiting = sum(sample.value for sample in page[GAUGES[0]].samples)
        inside = sum(sample.value for sample in page["llmservice_engine_requests_waiting"].samples)
    for name in GAUGES:
        assert page[name].type == "gauge"
        assert all(sample.labels["model_name"] == "tiny" for sample in page[name].samples)
    assert waiting == inside + 3
    assert all(0 <= sample.value <= 1 for sample in page["vllm:kv_cache_usage_perc"].samples)
    labels = page["vllm:cache_config_info"].samples[0].labels
    assert {"block_size", "num_gpu_blocks"} <= labels.keys()
