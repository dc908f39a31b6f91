"""A real Prometheus that scrapes what a test tells it to, every second."""

from __future__ import annotations

import json
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import yaml
from cluster.processes import Processes, free_ports
from cluster.tools import ensure

Json = dict[str, Any]

_START_S: Final = 60.0
_DIRECT: Final = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Prometheus:
    """Runs while its `with` block lasts. `rules`: a rule file; targets may come and go."""

    def __init__(self, directory: Path, rules: Path) -> None:
        self._directory = directory
        self._processes = Processes(directory)
        self._targets: dict[str, Json] = {}
        self._lock = threading.Lock()
        self.url = f"http://127.0.0.1:{free_ports(1)[0]}"
        scrape = {
            "job_name": "test",
            "file_sd_configs": [{"files": ["targets.json"], "refresh_interval": "1s"}],
            # As the activator's PodMonitor has it: its series are about other namespaces.
            "honor_labels": True,
        }
        config = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(rules)],
            "scrape_configs": [scrape],
        }
        (directory / "prometheus.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
        self._write_targets()

    def __enter__(self) -> Self:
        program = ensure(["prometheus"])["prometheus"]
        command = [
            str(program),
            f"--config.file={self._directory / 'prometheus.yaml'}",
            f"--storage.tsdb.path={self._directory / 'data'}",
            f"--web.listen-address={self.url.removeprefix('http://')}",
            "--enable-feature=exemplar-storage",
        ]
        self._processes.up(
            "prometheus", command, lambda: read(f"{self.url}/-/ready"), within_s=_START_S
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._processes.stop()

    def scrape(self, pod: str, address: str, **labels: str) -> None:
        """Scrape `address` (HOST:PORT) from now on, with the labels of a monitor."""
        with self._lock:
            self._targets[pod] = {"targets": [address], "labels": {"pod": pod, **labels}}
            self._write_targets()

    def query(self, expression: str) -> list[Json]:
        """The samples of an instant query, now."""
        return self._ask("query", query=expression)["result"]

    def values(self, expression: str, *, since: float) -> list[float]:
        """All values but NaN of a range query from `since` (epoch) until now, a second apart."""
        found = self._ask(
            "query_range", query=expression, start=str(since), end=str(time.time()), step="1"
        )["result"]
        numbers = [float(value) for series in found for _, value in series["values"]]
        return [number for number in numbers if number == number]  # noqa: PLR0124 - not NaN

    def exemplars(self, expression: str, *, since: float) -> set[str]:
        """The trace ids that Grafana would show as dots."""
        found = self._ask(
            "query_exemplars", query=expression, start=str(since), end=str(time.time())
        )
        return {one["labels"]["trace_id"] for series in found for one in series["exemplars"]}

    def firing(self) -> set[str]:
        """The names of the alerts that fire now."""
        alerts: list[Json] = self._ask("alerts")["alerts"]
        return {one["labels"]["alertname"] for one in alerts if one["state"] == "firing"}

    def _ask(self, what: str, **parameters: str) -> Any:
        query = urllib.parse.urlencode(parameters)
        return json.loads(read(f"{self.url}/api/v1/{what}?{query}"))["data"]

    def _write_targets(self) -> None:
        fresh = self._directory / "targets.json.new"
        fresh.write_text(json.dumps(list(self._targets.values())), encoding="utf-8")
        fresh.rename(self._directory / "targets.json")


def read(url: str) -> bytes:
    """A page, past any proxy; OSError when it cannot be had."""
    with _DIRECT.open(url, timeout=60) as answer:
        return answer.read()


def address_of(url: str) -> str:
    """HOST:PORT of an `http://` address."""
    return url.removeprefix("http://")


def shortened(rules: Mapping[str, Any], *, wait: str, window: str) -> Json:
    """The same rules for a test's patience: every `for` is `wait`, every range is `window`."""
    text = json.dumps(rules)
    made: Json = json.loads(text)
    for group in made["groups"]:
        for alert in group["rules"]:
            alert["for"] = wait
            for minutes in ("5m", "10m", "1h"):
                alert["expr"] = alert["expr"].replace(f"[{minutes}]", f"[{window}]")
    return made
