"""The size of the KV cache on vLLM's metrics page."""

from __future__ import annotations

import pytest
from llmservice_sidecar.adapters.engine_metrics import kv_cache_tokens

_OTHERS = """# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="m"} 3.0
# HELP vllm:cache_config_info Information of the LLMEngine CacheConfig
# TYPE vllm:cache_config_info gauge
"""


def page(*labels: str) -> str:
    lines = [f"vllm:cache_config_info{{{given}}} 1.0" for given in labels]
    return _OTHERS + "\n".join(lines) + "\nprocess_open_fds 9.0\n"


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        pytest.param(
            page('block_size="16",engine="0",kv_cache_size_tokens="4096",num_gpu_blocks="300"'),
            4096,
            id="the engine's own figure counts first",
        ),
        pytest.param(
            page('block_size="16",engine="0",kv_cache_size_tokens="None",num_gpu_blocks="300"'),
            4800,
            id="blocks of tokens stand in for it",
        ),
        pytest.param(
            page('engine="0",kv_cache_size_tokens="4096"', 'engine="1",kv_cache_size_tokens="96"'),
            4192,
            id="every replica has a cache",
        ),
        pytest.param(
            page(
                'block_size="16",engine="0",num_gpu_blocks="300"',
                'block_size="16",engine="1",num_gpu_blocks="300"',
            ),
            4800,
            id="the number of blocks is of all replicas together",
        ),
        pytest.param(page('block_size="16",num_gpu_blocks="None"'), None, id="not told"),
        pytest.param(page('block_size="-16",num_gpu_blocks="1e9"'), None, id="not a number"),
        pytest.param(page(), None, id="no such line"),
        pytest.param("", None, id="an empty page"),
    ],
)
def test_the_capacity_is_read(text: str, tokens: int | None) -> None:
    assert kv_cache_tokens(text) == tokens
