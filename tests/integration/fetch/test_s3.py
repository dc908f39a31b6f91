"""s3:// against a real server that checks signatures."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest
from fakes.s3_server import READER, S3, s3_server
from fakes.safetensors_files import model_files
from integration.fetch.running import Pod, wanted
from llmservice_sidecar.fetch.errors import Exit

FILES = model_files(45_000_000)
GET = "--get=model=s3://models/llm/tiny"


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Generator[S3]:
    with s3_server(tmp_path_factory.mktemp("s3")) as running:
        running.put("llm/tiny", FILES)
        running.put("llm/tiny-other", model_files(seed=3))
        yield running


@pytest.fixture
def pod(tmp_path: Path) -> Pod:
    return Pod(tmp_path)


def reading(bucket: S3, credentials: str = READER, **more: str) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL": bucket.url,
        "AWS_REGION": "us-east-1",
        "LLMSERVICE_S3_CREDENTIALS": credentials,
        **more,
    }


def test_all_under_the_key_is_there_and_nothing_of_its_neighbours(bucket: S3, pod: Pod) -> None:
    assert pod.fetch(GET, environment=reading(bucket))[0] == 0
    assert pod.files() == wanted(FILES)
    report = pod.report()
    assert report is not None
    assert (report.phase, report.bytes) == ("Ready", sum(map(len, wanted(FILES).values())))
    assert len(report.revision) == 40


def test_the_endpoint_may_be_in_the_credentials_file(bucket: S3, pod: Pod) -> None:
    told = f"{READER}endpoint_url = {bucket.url}\nregion = us-east-1\n"
    assert pod.fetch(GET, environment={"LLMSERVICE_S3_CREDENTIALS": told})[0] == 0


def test_the_pods_own_environment_will_do(bucket: S3, pod: Pod) -> None:
    keys = {"AWS_ACCESS_KEY_ID": "reader", "AWS_SECRET_ACCESS_KEY": "reader-secret"}
    assert pod.fetch(GET, environment=reading(bucket, "", **keys))[0] == 0


def test_an_object_in_part_is_taken_up_where_it_ended(bucket: S3, pod: Pod) -> None:
    assert pod.fetch(GET, environment=reading(bucket))[0] == 0
    whole = next(pod.cache.rglob("model.safetensors"))
    # A part with a mark among its tensors: what is there is not asked for again, so it stays.
    content = bytearray(FILES["model.safetensors"])
    content[500_000:500_006] = b"MARKED"
    whole.with_name("model.safetensors.part").write_bytes(content[:30_000_000])
    whole.unlink()
    status, last = pod.fetch(GET, environment=reading(bucket))
    assert status == 0, last
    assert pod.files() == wanted(FILES) | {"model.safetensors": bytes(content)}


def test_objects_that_were_written_over_are_another_state(bucket: S3, pod: Pod) -> None:
    bucket.put("llm/changes", model_files(seed=1))
    get = "--get=model=s3://models/llm/changes"
    assert pod.fetch(get, "--pin=a", environment=reading(bucket))[0] == 0
    bucket.put("llm/changes", model_files(seed=2))
    assert pod.fetch(get, "--pin=a", environment=reading(bucket))[0] == 0
    assert pod.files() == wanted(model_files(seed=1))
    assert pod.fetch(get, "--pin=b", environment=reading(bucket))[0] == 0
    assert pod.files() == wanted(model_files(seed=2))


@pytest.mark.parametrize(
    ("uri", "credentials", "status", "said"),
    [
        pytest.param(
            "s3://models/llm/tiny",
            READER.replace("reader-secret", "wrong"),
            Exit.NOT_ALLOWED,
            "SignatureDoesNotMatch",
            id="wrong key",
        ),
        pytest.param(
            "s3://elsewhere/llm", READER, Exit.NOT_ALLOWED, "AccessDenied", id="another's bucket"
        ),
        pytest.param("s3://models/none", READER, Exit.NOT_FOUND, "no objects", id="no such key"),
        pytest.param(
            "s3://models/llm/tiny", "key:secret", Exit.USAGE, "credentials file", id="no file"
        ),
    ],
)
def test_what_cannot_be_is_said_at_once(
    bucket: S3, pod: Pod, uri: str, credentials: str, status: Exit, said: str
) -> None:
    ended, last = pod.fetch(f"--get=model={uri}", environment=reading(bucket, credentials))
    assert (ended, said in last) == (status, True), last
    assert "secret" not in last.replace("aws_secret_access_key", "").replace("Secret", "")
