"""The file between the download program and the sidecar."""

from __future__ import annotations

from pathlib import Path

import pytest
from llmservice_api.status_report import ModelReport
from llmservice_sidecar.adapters.model_progress import read_progress
from llmservice_sidecar.fetch.progress import Progress


def test_what_is_told_is_read(tmp_path: Path) -> None:
    told = ModelReport(phase="Ready", bytes=3, total_bytes=3, revision="c", message="m")
    Progress(tmp_path).tell(told)
    assert read_progress(str(tmp_path / "progress.json")) == told
    assert [path.name for path in tmp_path.iterdir()] == ["progress.json"]


def test_without_a_download_nothing_is_reported() -> None:
    assert read_progress(None) is None


@pytest.mark.parametrize("content", [None, b"{", b'{"phase": 1}'])
def test_a_file_that_is_not_there_or_not_whole_is_no_failure(
    tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "progress.json"
    if content is not None:
        path.write_bytes(content)
    report = read_progress(str(path))
    assert report is not None
    assert report.phase == "Downloading"
    assert report.total_bytes == 0


def test_a_volume_that_cannot_be_written_does_not_end_the_download(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    Progress(tmp_path / "file").tell(ModelReport(phase="Downloading"))
    assert "cannot be told" in caplog.text


def test_the_first_look_is_told_at_once(tmp_path: Path) -> None:
    progress = Progress(tmp_path)
    with progress.following(lambda: ModelReport(phase="Downloading", bytes=1), every_s=0.01):
        pass
    report = read_progress(str(tmp_path / "progress.json"))
    assert report is not None
    assert report.bytes == 1
