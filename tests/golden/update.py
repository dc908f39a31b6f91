"""The golden manifests: `make golden` writes them, a unit test compares. Review the diff."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import yaml
from llmservice_operator.capabilities import Capabilities
from llmservice_operator.desired import desired
from llmservice_operator.kinds import OWNED
from llmservice_operator.service import Images, parse_service
from llmservice_operator.settings import OperatorSettings

HERE = Path(__file__).parent
EXAMPLES = HERE.parents[1] / "examples"
# Fixed names: a release must not change every golden file.
SETTINGS = OperatorSettings(
    images=Images(sidecar="sidecar:golden", engine="engine:golden", engine_cpu="cpu:golden"),
    backlog_url="http://llmservice.system.svc:8081/backlog",
)
# A cluster in which everything is installed that can be made use of.
EQUIPPED = Capabilities(frozenset((kind.api_version, kind.kind) for kind in OWNED if kind.optional))


def inputs() -> Mapping[str, Path]:
    """Golden file name to the manifest it is rendered from."""
    sources = [*sorted(EXAMPLES.glob("*.yaml")), *sorted((HERE / "cases").glob("*.yaml"))]
    return {source.name: source for source in sources}


def rendered(source: Path) -> str:
    """Every object of the service, as YAML documents in the order of applying."""
    service = parse_service(yaml.safe_load(source.read_text()))
    return yaml.safe_dump_all(desired(service, SETTINGS, EQUIPPED), sort_keys=False, width=100)


def main() -> None:
    """Rewrite all golden files and remove those without a source."""
    wanted = {HERE / "manifests" / name: rendered(source) for name, source in inputs().items()}
    (HERE / "manifests").mkdir(exist_ok=True)
    for stale in set((HERE / "manifests").glob("*.yaml")) - set(wanted):
        stale.unlink()
    for path, text in wanted.items():
        path.write_text(text)


if __name__ == "__main__":
    main()
