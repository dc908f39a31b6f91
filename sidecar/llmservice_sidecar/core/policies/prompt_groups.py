"""Groups of prompt lengths: k-means, then split at wide gaps, then merge what is alike."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Final

GROUPS: Final = 4
ROUNDS: Final = 8
SPLIT_RATIO: Final = 2.0  # a gap this wide inside a group parts it
MERGE_RATIO: Final = 1.5  # neighbours whose means are nearer than this are one


def group_bounds(lengths: Iterable[int]) -> list[int]:
    """The least length of each group but the first, ascending; empty when all are one group."""
    ordered = sorted(lengths)
    if not ordered:
        return []
    parts = [piece for group in _k_means(ordered) for piece in _split(group)]
    return [group[0] for group in _merge(parts)[1:]]


def _k_means(ordered: Sequence[int]) -> list[list[int]]:
    """Lloyd's rounds on a line: groups are runs of the sorted lengths."""
    step = len(ordered) / GROUPS
    centres = [float(ordered[int((index + 0.5) * step)]) for index in range(GROUPS)]
    groups: list[list[int]] = []
    for _ in range(ROUNDS):
        cuts = [bisect_left(ordered, (low + high) / 2) for low, high in pairwise(centres)]
        edges = [0, *cuts, len(ordered)]
        groups = [list(ordered[low:high]) for low, high in pairwise(edges) if low < high]
        centres = [_mean(group) for group in groups]
    return groups


def _split(group: list[int]) -> list[list[int]]:
    ratios = [(high + 1) / (low + 1) for low, high in pairwise(group)]
    if not ratios or max(ratios) <= SPLIT_RATIO:
        return [group]
    cut = ratios.index(max(ratios)) + 1
    return [group[:cut], group[cut:]]


def _merge(groups: list[list[int]]) -> list[list[int]]:
    merged = [groups[0]]
    for group in groups[1:]:
        if _mean(group) + 1 < MERGE_RATIO * (_mean(merged[-1]) + 1):
            merged[-1] = [*merged[-1], *group]
        else:
            merged.append(group)
    return merged


def _mean(group: Sequence[int]) -> float:
    return sum(group) / len(group)
