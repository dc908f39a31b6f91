"""hf:// through the real client library against a server with the hub's API."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest
from fakes.hub_repositories import Repository, commit_of
from fakes.hub_server import Hub, hub
from fakes.safetensors_files import model_files
from integration.fetch.running import Pod, wanted
from llmservice_sidecar.fetch.errors import Exit

FILES = model_files()
OPEN = "--get=model=hf://org/open"


@pytest.fixture
def served() -> Generator[Hub]:
    """Repositories of every kind."""
    repositories = {
        "org/open": Repository.of(FILES),
        "org/adapter": Repository.of(
            {k: v for k, v in model_files(20_000, seed=7).items() if k != "config.json"}
        ),
        "org/private": Repository.of(FILES, token="right"),
        "org/gated": Repository.of(FILES, token="granted", gated=True),
        "org/pickles": Repository.of({"config.json": b"{}", "pytorch_model.bin": b"pickle"}),
    }
    with hub(repositories) as running:
        yield running


@pytest.fixture
def pod(tmp_path: Path) -> Pod:
    return Pod(tmp_path)


def at(served: Hub, **more: str) -> dict[str, str]:
    return {"HF_ENDPOINT": served.url, **more}


def test_model_and_adapter_are_there_and_the_report_says_so(served: Hub, pod: Pod) -> None:
    assert pod.fetch(OPEN, "--get=adapter-0=hf://org/adapter", environment=at(served))[0] == 0
    assert pod.files() == wanted(FILES)
    assert "model.safetensors" in pod.files("adapter-0")
    report = pod.report()
    assert report is not None
    assert report.phase == "Ready"
    assert report.revision == commit_of(FILES)
    both = [*pod.files().values(), *pod.files("adapter-0").values()]
    assert report.bytes == report.total_bytes == sum(map(len, both))


def test_what_is_there_needs_no_hub(served: Hub, pod: Pod) -> None:
    assert pod.fetch(OPEN, environment=at(served))[0] == 0
    served.asked.clear()
    assert pod.fetch(OPEN, environment={"HF_ENDPOINT": "http://127.0.0.1:1"})[0] == 0
    assert not served.asked
    report = pod.report()
    assert report is not None
    assert report.revision == commit_of(FILES)


def test_a_private_model_needs_its_token_which_no_other_host_sees(served: Hub, pod: Pod) -> None:
    private = "--get=model=hf://org/private"
    assert pod.fetch(private, environment=at(served, HF_TOKEN="right"))[0] == 0
    assert pod.files() == wanted(FILES)
    assert served.served["model.safetensors"]
    assert served.leaked == []


@pytest.mark.parametrize(
    ("arguments", "token", "status", "said"),
    [
        pytest.param(["hf://org/none"], "", Exit.NOT_FOUND, "does not exist", id="no such model"),
        pytest.param(["hf://org/private"], "", Exit.NOT_FOUND, "tokenSecretRef", id="no token"),
        pytest.param(
            ["hf://org/private"], "wrong", Exit.NOT_ALLOWED, "refuses the token", id="wrong token"
        ),
        pytest.param(
            ["hf://org/private"], "granted", Exit.NOT_FOUND, "may not read", id="another's token"
        ),
        pytest.param(["hf://org/gated"], "", Exit.NOT_ALLOWED, "is gated", id="gated"),
        pytest.param(["hf://org/gated"], "right", Exit.NOT_ALLOWED, "granted", id="not granted"),
        pytest.param(
            ["hf://org/open", "--revision=v9"], "", Exit.NOT_FOUND, "revision 'v9'", id="revision"
        ),
        pytest.param(
            ["hf://org/open", f"--revision={'0' * 40}"], "", Exit.NOT_FOUND, "0000", id="commit"
        ),
        pytest.param(
            ["hf://org/pickles"], "", Exit.NO_SAFETENSORS, "pytorch_model.bin", id="pickles"
        ),
        pytest.param(["ftp://org/open"], "", Exit.USAGE, "expected hf://", id="scheme"),
    ],
)
def test_what_cannot_be_is_said_at_once(
    served: Hub, pod: Pod, arguments: list[str], token: str, status: Exit, said: str
) -> None:
    environment = at(served, HF_TOKEN=token) if token else at(served)
    uri, *more = arguments
    ended, last = pod.fetch(f"--get=model={uri}", *more, environment=environment)
    assert (ended, said in last) == (status, True), last
    report = pod.report()
    assert report is not None
    assert (report.phase, report.message) == ("Failed", last)
    assert not (pod.out / "model").exists()


def test_a_hub_that_is_busy_for_a_moment_is_asked_again(served: Hub, pod: Pod) -> None:
    served.faults.unavailable = 2
    assert pod.fetch(OPEN, environment=at(served))[0] == 0
    assert pod.files() == wanted(FILES)


def test_a_file_that_is_not_what_the_hub_lists_is_brought_anew_once_and_then_refused(
    served: Hub, pod: Pod
) -> None:
    served.faults.spoilt.add("model.safetensors")
    status, last = pod.fetch(OPEN, environment=at(served))
    assert status == Exit.CORRUPT
    assert "checksum" in last
    assert served.served["model.safetensors"] == 2 * len(FILES["model.safetensors"])
    served.faults.spoilt.clear()
    assert pod.fetch(OPEN, environment=at(served))[0] == 0
    assert pod.files() == wanted(FILES)


def test_a_branch_stays_where_it_led_until_the_pin_changes(
    served: Hub, pod: Pod, tmp_path: Path
) -> None:
    assert pod.fetch(OPEN, "--pin=first", environment=at(served))[0] == 0
    newer = model_files(seed=1)
    repository = served.repositories["org/open"]
    repository.commits[commit_of(newer)] = newer
    repository.branches["main"] = commit_of(newer)
    later = Pod(tmp_path, "pod-1", cache=pod.cache)
    assert later.fetch(OPEN, "--pin=first", environment=at(served))[0] == 0
    assert later.files() == wanted(FILES)
    assert later.fetch(OPEN, "--pin=second", environment=at(served))[0] == 0
    assert later.files() == wanted(newer)
    assert pod.files() == wanted(FILES)
    exact = f"--revision={commit_of(FILES)}"
    assert later.fetch(OPEN, "--pin=third", exact, environment=at(served))[0] == 0
    assert later.files() == wanted(FILES)


def test_a_cache_that_cannot_be_written_is_told(served: Hub, pod: Pod) -> None:
    (pod.cache / "hf").write_text("a file where a directory belongs")
    status, last = pod.fetch(OPEN, environment=at(served))
    assert status != 0
    assert str(pod.cache) in last
