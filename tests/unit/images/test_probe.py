"""What the look into a new image finds."""

from __future__ import annotations

from typing import Any

from tools.probe import findings


def sbom(*components: tuple[str, str], of: str = "llmservice-sidecar") -> dict[str, Any]:
    return {
        "metadata": {"component": {"name": of}},
        "components": [{"name": name, "version": version} for name, version in components],
    }


def test_image_that_holds_what_it_lists_has_no_findings_however_names_are_written() -> None:
    listed = sbom(("prometheus-client", "0.26.0"), ("PyYAML", "6.0.3"))
    installed = [("prometheus_client", "0.26.0"), ("pyyaml", "6.0.3")]
    assert findings(listed, installed=installed, modules=[]) == []


def test_what_is_missing_on_either_side_is_named() -> None:
    found = findings(sbom(("one", "1.0")), installed=[("one", "1.1")], modules=[])
    assert found == [
        "installed but not in the bill of materials: ('one', '1.1')",
        "in the bill of materials but not there: ('one', '1.0')",
    ]


def test_installers_and_torch_do_not_belong_into_a_sidecar() -> None:
    found = findings(sbom(), installed=[], modules=["pip", "torch"])
    assert found == ["can install software: pip", "holds torch, which belongs into engines"]


def test_engine_may_hold_torch() -> None:
    assert findings(sbom(of="llmservice-engine-cpu"), installed=[], modules=["torch"]) == []
