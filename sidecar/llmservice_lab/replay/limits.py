"""What a reader of a replay's figures has to know before believing them, in sentences. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from llmservice_lab.analysis.record import Reading
from llmservice_lab.analysis.sampling import WHOLE
from llmservice_lab.replay.fidelity import SelfCheck
from llmservice_lab.replay.fit import Fit
from llmservice_lab.replay.recording import Recording, Stretch, prediction_of

UNSTEADY: Final = 1.25


def limits_of(
    reading: Reading,
    recording: Recording,
    check: SelfCheck,
    fits: Mapping[str, Fit],
    *,
    slots: int | None,
) -> list[str]:
    """In the order of weight."""
    return [
        *_of_traces(reading, check),
        *(f"{count} requests were left out: {why}" for why, count in recording.left_out.items()),
        *_of_engines(fits),
        *_of_limits(recording.stretches, fits, slots),
        *_of_requests(recording.stretches),
    ]


def _of_traces(reading: Reading, check: SelfCheck) -> Iterator[str]:
    told, sampled = reading.told, check["sampled"]
    if sampled is not None and sampled < WHOLE:
        yield (
            f"the traces hold about {sampled:.0%} of the requests that stood in the queue (by the "
            "depths on their spans): they are sampled, and the load that is replayed is too small; "
            "record at 100 %"
        )
    kept = sum(one.kept_at_its_end for one in reading.requests)
    if kept:
        yield f"{kept} traces were kept because the request was slow or failed; the usual are fewer"
    if told.broken_spans or told.incomplete:
        yield f"{told.broken_spans} spans could not be read, {told.incomplete} traces have no door"


def _of_engines(fits: Mapping[str, Fit]) -> Iterator[str]:
    for fit in fits.values():
        if fit["slowest"] > UNSTEADY * fit["fastest"]:
            yield (
                f"the engine of {fit['pod']!r} was not equally fast all the time (steps took "
                f"{fit['fastest']:.2f} to {fit['slowest']:.2f} times the usual); the replay's is"
            )


def _of_limits(
    stretches: Sequence[Stretch], fits: Mapping[str, Fit], slots: int | None
) -> Iterator[str]:
    unsure = sorted({one.pod for one in stretches if not one.slots_are_sure})
    if unsure and slots is None:
        yield (
            f"nobody waited on {', '.join(map(repr, unsure))}: the limit is taken to be the most "
            "that was in flight, and is at least that"
        )
    most = max(fit["max_in_flight"] for fit in fits.values())
    if slots is not None and slots > most:
        yield (
            f"{slots} slots are more than were ever in flight ({most}): what a step costs then is "
            "extrapolated, and the memory for so many answers is not looked at"
        )


def _of_requests(stretches: Sequence[Stretch]) -> Iterator[str]:
    taken = [one for stretch in stretches for one in stretch.taken]
    assumed = sum(not one.counts and not one.traced.admitted for one in taken)
    if assumed:
        yield (
            f"{assumed} requests had no turn: their lengths are assumed, they load the replay and "
            "count in no latency"
        )
    cut = sum(not one.counts and one.traced.admitted for one in taken)
    if cut:
        yield f"{cut} requests left during their answer: they ask for what they got until then"
    wide = sum(one.row.slots > 1 for one in taken)
    if wide:
        yield f"{wide} requests asked for several answers: the engine's part of them is one answer"
    blind = sum(prediction_of(one.traced) is None for one in taken)
    if blind:
        yield f"{blind} of {len(taken)} requests have no recorded prediction"
