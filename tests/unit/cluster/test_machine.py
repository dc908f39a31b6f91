"""The comparison that tells whether a node has left something behind."""

from __future__ import annotations

from cluster import machine


def test_equal_snapshots_are_clean() -> None:
    assert machine.difference(machine.snapshot(), machine.snapshot()) == []


def test_what_came_and_what_went_are_both_told() -> None:
    before = {"mounts": ["/", "/data"], "routes": []}
    after = {"mounts": ["/"], "routes": ["10.0.0.0/8 dev x"]}
    assert machine.difference(before, after) == [
        "mounts: gone: /data",
        "routes: left behind: 10.0.0.0/8 dev x",
    ]


def test_ended_control_groups_of_others_are_no_difference() -> None:
    assert machine.difference({"cgroups": ["/a"]}, {"cgroups": []}) == []
    assert machine.difference({"cgroups": []}, {"cgroups": ["/kubepods"]}) != []
