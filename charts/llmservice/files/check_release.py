"""What `helm test` runs: is the definition served, and does the operator work?

Standard library only: it is put into a pod as text.
"""

from __future__ import annotations

import argparse
import json
import ssl
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


def fetch(url: str, *, token: str = "", authority: Path | None = None) -> str:
    """The body of an answer 200. Raises OSError for anything else."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 - both URLs are ours
    context = ssl.create_default_context(cafile=str(authority)) if authority else None
    with urllib.request.urlopen(request, timeout=5, context=context) as answer:  # noqa: S310
        return answer.read().decode()


def check_definition(api: str, account: Path) -> str:
    """Is LLMService served with what the operator and `kubectl scale` need?"""
    token = (account / "token").read_text(encoding="utf-8")
    page = fetch(f"{api}/apis/llmservice.dev/v1alpha1", token=token, authority=account / "ca.crt")
    served = {resource["name"] for resource in json.loads(page)["resources"]}
    needed = {"llmservices", "llmservices/status", "llmservices/scale"}
    if missing := needed - served:
        raise OSError(f"not served: {', '.join(sorted(missing))}")
    return "llmservice.dev/v1alpha1 is served"


def check_liveness(url: str) -> str:
    """Does the operator see events? Its liveness says so."""
    fetch(url)
    return "the operator is alive"


def check_leader(url: str) -> str:
    """Does it work? Who does not hold the lease writes nothing."""
    if "\nllmservice_operator_leader 1.0" not in fetch(url):
        raise OSError("the operator that answers does not hold the lease")
    return "the operator holds its lease"


def passes(name: str, check: Callable[[], str], *, within_s: float) -> bool:
    """Try again until it passes or time is over, and print how it ended."""
    deadline = time.monotonic() + within_s
    while True:
        try:
            print(f"ok      {name}: {check()}", flush=True)
        except (OSError, ValueError, KeyError) as error:
            if time.monotonic() > deadline:
                print(f"FAILED  {name}: {error}", flush=True)
                return False
            time.sleep(1)
        else:
            return True


def main() -> int:
    """Run all checks; 1 when one fails."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--healthz", required=True, help="URL of the operator's liveness")
    parser.add_argument("--metrics", required=True, help="URL of its metrics")
    parser.add_argument("--api", default="https://kubernetes.default.svc")
    parser.add_argument("--account", type=Path, default=_ACCOUNT)
    parser.add_argument("--within-s", type=float, default=30.0)
    given = parser.parse_args()
    checks: dict[str, Callable[[], str]] = {
        "definition": lambda: check_definition(given.api, given.account),
        "liveness": lambda: check_liveness(given.healthz),
        "leader": lambda: check_leader(given.metrics),
    }
    results = [passes(name, check, within_s=given.within_s) for name, check in checks.items()]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
