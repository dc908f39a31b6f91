"""Cost models by name and from files."""

from __future__ import annotations

from pathlib import Path

import pytest
from llmservice_lab.cost_model import COST_MODELS, CostModel, CostModelError, load_cost_model


def test_known_models_load_by_name() -> None:
    assert {"tiny-cpu", "h100-7b"} <= set(COST_MODELS)
    assert load_cost_model("h100-7b").step_s == pytest.approx(7.05e-3)


def test_a_file_gives_its_own(tmp_path: Path) -> None:
    file = tmp_path / "costs.json"
    file.write_text('{"step_s": 0.5, "per_decode_s": 0, "per_prefill_token_s": 1e-3}')
    expected = CostModel(step_s=0.5, per_decode_s=0.0, per_prefill_token_s=1e-3)
    assert load_cost_model(str(file)) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("[]", "expected an object"),
        ('{"step_s": 1, "per_decode_s": 0}', "per_prefill_token_s is None"),
        ('{"step_s": -1, "per_decode_s": 0, "per_prefill_token_s": 0}', "step_s is -1"),
        ('{"step_s": true, "per_decode_s": 0, "per_prefill_token_s": 0}', "step_s is True"),
        ('{"step_s": 0, "per_decode_s": 0, "per_prefill_token_s": 0}', "no time passes"),
        ('{"steps": 1}', "unknown \\['steps'\\]"),
    ],
)
def test_a_bad_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "costs.json"
    file.write_text(text)
    with pytest.raises(CostModelError, match=message):
        load_cost_model(str(file))


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(CostModelError, match="neither known \\(tiny-cpu, h100-7b\\) nor a file"):
        load_cost_model("a100")
