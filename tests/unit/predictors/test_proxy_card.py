from __future__ import annotations

import math
from pathlib import Path

import msgspec
import pytest
from llmservice_sidecar.adapters.predictors.errors import ArtefactError
from llmservice_sidecar.adapters.predictors.proxies.proxy_card import (
    CARD_FILE,
    FORMAT,
    Calibration,
    Card,
    Retrieval,
    read_card,
    write_card,
)

TABLE = Calibration(
    scores=(0.0, 1.0),
    log_tokens=(2.0, 4.0),
    log_mean_ratio=(0.1, 0.1),
    p50=(0.0, 0.0),
    p90=(1.0, 0.5),
)


def card(
    table: Calibration = TABLE,
    *,
    format_version: int = FORMAT,
    max_tokens: int = 64,
    retrieval: Retrieval | None = None,
) -> Card:
    return Card(
        format_version=format_version,
        head="log-t",
        base="somewhere/encoder",
        max_tokens=max_tokens,
        seed=1,
        calibration=table,
        retrieval=retrieval,
    )


def test_a_card_is_read_as_it_was_written(tmp_path: Path) -> None:
    write_card(tmp_path, card())
    assert read_card(tmp_path) == card()


def test_between_knots_a_score_is_on_the_line_and_beyond_them_flat() -> None:
    assert TABLE.log_quantiles(0.5, 1.0) == pytest.approx((3.1, 3.0, 3.75))
    assert TABLE.log_quantiles(-9.0, 1.0) == pytest.approx((2.1, 2.0, 3.0))
    assert TABLE.log_quantiles(9.0, 1.0) == pytest.approx((4.1, 4.0, 4.5))


def test_a_wider_spread_moves_the_quantile_and_not_the_median() -> None:
    _, p50, p90 = TABLE.log_quantiles(0.0, 2.0)
    assert (p50, p90) == pytest.approx((2.0, 4.0))


@pytest.mark.parametrize("score", [math.nan, math.inf])
def test_a_score_that_is_no_number_says_nothing(score: float) -> None:
    assert all(map(math.isnan, TABLE.log_quantiles(score, 1.0)))


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        pytest.param(
            msgspec.structs.replace(TABLE, p50=(0.0,)), "lengths", id="a column is too short"
        ),
        pytest.param(
            msgspec.structs.replace(TABLE, scores=(1.0, 0.0)), "ascending", id="scores descend"
        ),
        pytest.param(
            msgspec.structs.replace(TABLE, log_tokens=(4.0, 2.0)), "ascending", id="tokens descend"
        ),
        pytest.param(
            msgspec.structs.replace(TABLE, p90=(math.inf, 0.0)), "finite", id="a value is infinite"
        ),
    ],
)
def test_a_broken_table_is_refused(broken: Calibration, said: str) -> None:
    with pytest.raises(ArtefactError, match=said):
        broken.check()


@pytest.mark.parametrize(
    ("written", "said"),
    [
        pytest.param(card(format_version=FORMAT + 1), "format_version is 2", id="a later format"),
        pytest.param(card(max_tokens=3), "max_tokens is 3", id="no room for a prompt"),
        pytest.param(
            card(retrieval=Retrieval(neighbours=0, min_similarity=0.5)),
            "retrieval.neighbours is 0; allowed: 1 to 1000",
            id="no neighbours",
        ),
        pytest.param(
            card(retrieval=Retrieval(neighbours=3, min_similarity=1.5)),
            "retrieval.min_similarity is 1.5; allowed: -1 to 1",
            id="likeness that cannot be",
        ),
    ],
)
def test_a_card_that_cannot_be_served_is_refused(tmp_path: Path, written: Card, said: str) -> None:
    write_card(tmp_path, written)
    with pytest.raises(ArtefactError, match=said):
        read_card(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format_version": 1}', '{"surprise": 1}'])
def test_what_is_no_card_is_refused_by_name(tmp_path: Path, text: str) -> None:
    (tmp_path / CARD_FILE).write_text(text)
    with pytest.raises(ArtefactError, match=CARD_FILE):
        read_card(tmp_path)


def test_a_huge_card_is_not_even_read(tmp_path: Path) -> None:
    (tmp_path / CARD_FILE).write_bytes(b" " * 4_000_001)
    with pytest.raises(ArtefactError, match="at most 4000000"):
        read_card(tmp_path)
