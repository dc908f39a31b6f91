"""Replicas that tell each other what they learned: for long, after a change, in bad company."""

from __future__ import annotations

import random
import secrets
from dataclasses import replace

import numpy as np
import pytest
from llmservice_sidecar.adapters.predictors.cache import CachedDescriptions
from llmservice_sidecar.adapters.predictors.learned import sharing, snapshot
from llmservice_sidecar.adapters.predictors.learned.head import Head
from llmservice_sidecar.adapters.predictors.learned.lesson import HORIZON
from llmservice_sidecar.adapters.predictors.learned.online import (
    MAX_PEERS,
    OnlinePredictor,
    head_key,
)
from llmservice_sidecar.adapters.predictors.learned.packing import (
    DETAILS,
    Detail,
    cut,
    pack,
    unpack,
)
from llmservice_sidecar.adapters.predictors.learned.sharing import MAX_HEADS
from llmservice_sidecar.adapters.predictors.learned.turns import step
from llmservice_sidecar.adapters.predictors.shipped.base import default_base
from llmservice_sidecar.runtime.ports import PredictionQuery
from safetensors.numpy import load as parse
from safetensors.numpy import save as serialise

BASE = CachedDescriptions(default_base(), entries=20_000)
KEY = head_key("tiny")


def ask(text: str, model: str = "tiny") -> PredictionQuery:
    return PredictionQuery(text=text, prompt_tokens=9, endpoint="chat", model=model)


def teach(
    predictor: OnlinePredictor, outcomes: int, *, model: str = "tiny", tokens: int = 30
) -> OnlinePredictor:
    for number in range(outcomes):
        query = ask(f"Tell me of {number % 7} rivers", model)
        predictor.observe(query, output_tokens=tokens + number % 5, censored=False)
    return predictor


def as_another(payload: bytes) -> bytes:
    """The same lesson as another replica would tell it."""
    tensors = parse(payload)
    tensors["replica"] = sharing.identity_tensor([secrets.token_hex(8)])
    return serialise(tensors)


def template_texts(templates: int) -> list[str]:
    rng = random.Random(templates)
    words = ["".join(rng.choices("abcdefghij", k=6)) for _ in range(400)]
    return [" ".join(rng.sample(words, 30)) for _ in range(templates)]


def of_templates(templates: int, *, outcomes: int) -> OnlinePredictor:
    """As if so many outcomes on a few templates, with a number that varies, had been learned."""
    rng, texts, few = random.Random(templates), template_texts(templates), Head()
    for _ in range(600):
        kind = rng.randrange(templates)
        few.learn(
            BASE.describe(ask(f"{texts[kind]} {rng.randrange(1000)}")),
            log_tokens=rng.gauss(5.0 + 0.5 * kind, 0.3),
            censored=False,
        )
    predictor = OnlinePredictor(BASE)
    predictor.heads[KEY] = Head()
    predictor.heads[KEY].restore(few.lesson().times(outcomes / few.since_restart))
    return predictor


def test_after_25_000_outcomes_on_three_templates_16_replicas_and_a_restart_agree() -> None:
    taught = of_templates(3, outcomes=25_000)
    queries = [ask(f"{text} 500") for text in template_texts(3)]
    expected = [taught.predict(query).output_tokens for query in queries]
    restarted = snapshot.load(snapshot.save(taught), base=BASE)
    assert restarted.samples == 25_000
    learner = OnlinePredictor(BASE)
    for _ in range(MAX_PEERS):
        learner.merge(as_another(taught.own_statistics()))
    assert learner.heads[KEY].told.outcomes == MAX_PEERS * 25_000
    for predictor, within in ((restarted, 0.01), (learner, 0.1)):
        said = [predictor.predict(query).output_tokens for query in queries]
        assert said == pytest.approx(expected, rel=within)


@pytest.mark.parametrize("detail", DETAILS)
def test_packed_evidence_is_never_negative_and_leads_to_the_same_belief(detail: Detail) -> None:
    exact = of_templates(8, outcomes=25_000).heads[KEY].lesson()
    packed = cut(pack(exact), detail)
    found = unpack(packed)
    assert packed.nbytes <= detail.size(pack(exact))
    for part, original in ((found.dense, exact.dense), (found.mix, exact.mix)):
        largest = np.diag(original.precision).max()
        assert np.linalg.eigvalsh(part.precision).min() >= -1e-9 * largest
        assert np.diag(part.precision) == pytest.approx(np.diag(original.precision), rel=0.03)
    head, other = Head(), Head()
    other.restore(exact)
    head.restore(found)
    assert head.dense.weights == pytest.approx(other.dense.weights, abs=1e-3)


def test_after_a_change_a_replica_is_believed_again_once_it_has_begun_anew() -> None:
    one, other = teach(OnlinePredictor(BASE), 40), teach(OnlinePredictor(BASE), 100)
    one.merge(other.own_statistics())
    one.heads[KEY].restart()
    one.merge(other.own_statistics())
    assert other.replica not in one.heads[KEY].told
    other.heads[KEY].restart()
    teach(other, 3)
    one.merge(other.own_statistics())
    assert other.replica in one.heads[KEY].told


def test_after_a_change_a_replica_is_believed_again_once_most_of_what_it_tells_is_new() -> None:
    one, other = teach(OnlinePredictor(BASE), 40), teach(OnlinePredictor(BASE), 30)
    one.merge(other.own_statistics())
    one.heads[KEY].restart()
    for more, believed in ((20, False), (20, True)):
        one.merge(teach(other, more).own_statistics())
        assert (other.replica in one.heads[KEY].told) is believed


def test_who_noticed_the_same_change_a_little_earlier_is_believed_at_once() -> None:
    one, other = teach(OnlinePredictor(BASE), 40), teach(OnlinePredictor(BASE), 30)
    one.merge(other.own_statistics())
    other.heads[KEY].restart()
    one.merge(teach(other, 5).own_statistics())
    one.heads[KEY].restart()
    one.merge(teach(other, 5).own_statistics())
    assert other.replica in one.heads[KEY].told


def test_one_replica_under_many_addresses_counts_once_and_ones_own_word_not_at_all() -> None:
    one, other = teach(OnlinePredictor(BASE), 40), teach(OnlinePredictor(BASE), 100)
    for _ in range(2):
        one.merge(other.own_statistics())
    assert one.merge(one.own_statistics()) == one.replica
    assert one.heads[KEY].told.outcomes == 100


def test_what_is_inherited_counts_once_while_its_origin_answers_and_stays_when_that_left() -> None:
    origin = teach(OnlinePredictor(BASE), 200)
    heir = snapshot.load(snapshot.save(origin), base=BASE, inherit=True)
    told = heir.heads[KEY].told
    assert told.outcomes == 200
    heir.merge(teach(origin, 100).own_statistics())
    assert told.outcomes == 300
    heir.forget(origin.replica)
    assert told.outcomes == 200


def test_a_container_that_restarts_is_still_the_same_replica() -> None:
    one, other = teach(OnlinePredictor(BASE), 40), OnlinePredictor(BASE)
    other.merge(one.own_statistics())
    other.merge(teach(snapshot.load(snapshot.save(one), base=BASE), 10).own_statistics())
    assert other.heads[KEY].told.outcomes == 50


def test_replicas_are_bounded_and_may_be_forgotten() -> None:
    payload = teach(OnlinePredictor(BASE), 20).own_statistics()
    learner = OnlinePredictor(BASE)
    tellers = [learner.merge(as_another(payload)) for _ in range(MAX_PEERS + 1)]
    told = learner.heads[KEY].told
    assert tellers[0] not in told
    assert tellers[1] in told
    learner.forget(tellers[1])
    assert tellers[1] not in told
    for teller in tellers:
        learner.forget(teller)
    assert not learner.heads, "nobody knows that model any more"


def test_models_that_only_others_know_never_displace_ones_own() -> None:
    one, other = OnlinePredictor(BASE), OnlinePredictor(BASE)
    for number in range(MAX_HEADS - 2):
        teach(one, 2, model=f"own-{number}")
    for number in range(MAX_HEADS):
        teach(other, 2, model=f"theirs-{number}")
    own = set(one.heads)
    one.merge(other.own_statistics())
    assert own <= set(one.heads)
    assert len(one.heads) == MAX_HEADS
    for number in range(2):  # own ones take the room of theirs
        teach(one, 2, model=f"late-{number}")
    assert own <= set(one.heads)
    assert all(head.samples for head in one.heads.values())


def test_16_models_fit_into_what_is_told_and_into_a_snapshot() -> None:
    predictor = teach(OnlinePredictor(BASE), 300)
    rng = random.Random(1)
    words = ["".join(rng.choices("abcdefghij", k=6)) for _ in range(3000)]
    for number in range(MAX_HEADS):
        for _ in range(60):
            text = " ".join(rng.choices(words, k=60))
            tokens = rng.randint(20, 900)
            predictor.observe(ask(text, f"model-{number}"), output_tokens=tokens, censored=False)
    told = predictor.own_statistics()
    assert len(told) <= sharing.MAX_BYTES
    learner = OnlinePredictor(BASE)
    learner.merge(told)
    assert len(learner.heads) == MAX_HEADS
    kept = snapshot.save(predictor)
    assert len(kept) <= snapshot.MAX_BYTES
    assert len(snapshot.load(kept, base=BASE).heads) == MAX_HEADS


def test_nobody_tells_of_more_models_than_anyone_keeps() -> None:
    tensors = parse(teach(OnlinePredictor(BASE), 3).own_statistics())
    for number in range(MAX_HEADS):
        named = {n: a for n, a in tensors.items() if n.startswith(KEY)}
        tensors |= {name.replace(KEY, f"{number:016x}"): array for name, array in named.items()}
    with pytest.raises(sharing.PayloadError, match="17 heads; at most 16"):
        OnlinePredictor(BASE).merge(serialise(tensors))


def test_what_does_not_fit_is_the_least_experienced_and_is_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sharing, "MAX_BYTES", 30_000)
    predictor = OnlinePredictor(BASE)
    for number in range(8):
        teach(predictor, 3 + number, model=f"model-{number}")
    work = predictor.telling()
    while (ended := step(work)) is None:
        pass
    told = parse(ended[0].payload)
    kept = {name.partition(".")[0] for name in told} - {"version", "base", "replica"}
    assert 0 < len(kept) == 8 - ended[0].left_out < 8
    assert head_key("model-7") in kept
    assert head_key("model-0") not in kept


def test_nobody_tells_of_more_than_is_not_forgotten() -> None:
    lesson = of_templates(3, outcomes=25_000).heads[KEY].lesson()
    with pytest.raises(ValueError, match="precision that 100 outcomes cannot give"):
        unpack(pack(replace(lesson, samples=100)))
    head = Head()
    head.absorb({"another": pack(replace(lesson, samples=10**9))})
    assert head.told.outcomes == HORIZON


def test_outcomes_between_two_steps_of_a_merge_are_kept() -> None:
    one, other = teach(OnlinePredictor(BASE), 40), teach(OnlinePredictor(BASE), 100)
    work = one.merging({other.replica: {KEY: other.heads[KEY].packed()}})
    assert step(work) is None
    teach(one, 10)
    one.heads[KEY].restart()
    teach(one, 5)
    while step(work) is None:
        pass
    assert one.heads[KEY].lesson().samples == 5
    assert other.replica in one.heads[KEY].told
