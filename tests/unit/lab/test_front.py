from __future__ import annotations

import re
from pathlib import Path

from llmservice_lab.front import LOADS, PREDICTORS, SLOTS, ratio_rows
from llmservice_lab.workload import load_workload

WORKLOAD = Path(__file__).parents[3] / "examples" / "workloads" / "demo-test.jsonl"


def test_every_setting_has_a_row_and_nothing_is_gained_where_nothing_waits() -> None:
    rows = list(ratio_rows(load_workload(WORKLOAD), requests=200, seeds=(1,)))

    assert len(rows) == len(LOADS) * len(SLOTS) * len(PREDICTORS)
    calm = next(row for row in rows if row.startswith("| 0.7 | 32 | oracle |"))
    means = re.findall(r"(\d\.\d\d) \[", calm)
    assert means == ["1.00"] * 4
