"""vLLM's own parser on every command line that the operator renders, of one node and of several."""

from __future__ import annotations

import json
import os
import subprocess
from typing import Any, Final

import pytest
import yaml
from engine.rendered import ADDRESSES, Json, engines, line
from fakes.manifests import SETTINGS, service
from golden.update import EQUIPPED, HERE
from llmservice_lab.engine.environment import ensure_engine_python
from llmservice_lab.engine.tiny_model import ensure_tiny_model
from llmservice_operator.desired import desired

# Reads command lines and, of those that are to be understood as a whole, what vLLM makes of them.
_PROGRAM: Final = """
import json, sys
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.entrypoints.launchers.cli_args import make_arg_parser
from vllm.utils.argparse_utils import FlexibleArgumentParser

asked = json.load(sys.stdin)
told = []
for words in asked["lines"]:
    args = make_arg_parser(FlexibleArgumentParser()).parse_args(words)
    args.model = args.model_tag or args.model
    understood = {"headless": args.headless, "max_num_seqs": args.max_num_seqs}
    if asked["understand"]:
        engine = AsyncEngineArgs.from_cli_args(args)
        parallel = engine.create_engine_config(headless=args.headless).parallel_config
        for name in asked["understand"]:
            understood[name] = getattr(parallel, name)
    told.append(understood)
print(json.dumps(told))
"""


def understood(lines: list[list[str]], *fields: str) -> list[Json]:
    """What vLLM says of command lines; fails with its own words when it refuses one."""
    done = subprocess.run(
        [str(ensure_engine_python(log=print)), "-c", _PROGRAM],
        input=json.dumps({"lines": lines, "understand": fields}),
        env=os.environ | {"VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.timeout(300)
def test_every_flag_is_known_to_vllm() -> None:
    paths = sorted((HERE / "manifests").glob("*.yaml"))
    rendered = [one for path in paths for one in yaml.safe_load_all(path.read_text())]
    lines = [line(engine) for engine in engines(rendered)]
    assert len(lines) >= 10
    assert len(understood(lines)) == len(lines)


@pytest.mark.timeout(300)
def test_vllm_spreads_a_replica_as_the_spec_says() -> None:
    model = str(ensure_tiny_model(ensure_engine_python(log=print)))

    def lines_of(**parallelism: int) -> list[list[str]]:
        wanted = service(
            model={"uri": f"file://{model}"}, engine={"maxNumSeqs": 4}, parallelism=parallelism
        )
        return [line(one) for one in engines(list(desired(wanted, SETTINGS, EQUIPPED)))]

    fields = (
        "tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size",
        "data_parallel_size_local", "data_parallel_rank", "node_rank_within_dp",
        "local_world_size", "master_addr",
    )  # fmt: skip
    (one,) = lines_of(tensor=2, data=2)
    stages = lines_of(pipeline=2, tensor=2, nodes=2)
    ranks = lines_of(data=4, nodes=2)
    wide = lines_of(tensor=4, data=2, nodes=4)
    told = understood([one, *stages, *ranks, *wide], *fields)

    def figures(number: int, *fields: str) -> list[Any]:
        return [told[number][field] for field in fields]

    sizes = ("tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size")
    assert figures(0, *sizes, "data_parallel_size_local") == [2, 1, 2, 2]
    assert figures(1, *sizes, "local_world_size", "headless") == [2, 2, 1, 2, False]
    assert figures(2, "node_rank_within_dp", "local_world_size", "headless") == [1, 2, True]
    assert told[2]["master_addr"] == ADDRESSES["$(LWS_LEADER_ADDRESS)"]
    assert figures(3, "data_parallel_size_local", "data_parallel_rank", "headless") == [2, 0, False]
    assert figures(4, "data_parallel_size_local", "data_parallel_rank", "headless") == [2, 2, True]
    assert figures(6, "data_parallel_rank", "node_rank_within_dp", "local_world_size") == [0, 1, 2]
    assert {figure["max_num_seqs"] for figure in told} == {4}
