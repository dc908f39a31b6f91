"""What watches have told is what is read by name; pods, which come and go, are not kept."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from llmservice_operator.cluster import ObjectRef, ServiceKey, ref_to
from llmservice_operator.inventory import Inventory
from llmservice_operator.kinds import DEPLOYMENT, POD, SERVICE, Kind

KEYS = [ServiceKey("ns", "a"), ServiceKey("ns", "b"), ServiceKey("other", "a")]


def ref(kind: Kind, key: ServiceKey) -> ObjectRef:
    return ref_to(kind, key.namespace, key.name)


@given(
    st.lists(
        st.tuples(st.sampled_from(KEYS), st.sampled_from([SERVICE, DEPLOYMENT]), st.booleans())
    )
)
def test_it_is_what_the_last_event_of_each_object_says(
    events: list[tuple[ServiceKey, Kind, bool]],
) -> None:
    inventory, last = Inventory(), dict[tuple[ServiceKey, ObjectRef], bool]()
    for key, kind, gone in events:
        inventory.told(key, ref(kind, key), gone=gone)
        last[key, ref(kind, key)] = not gone
    for key in KEYS:
        there = {found for (owner, found), exists in last.items() if owner == key and exists}
        assert inventory.of(key) == there


def test_pods_are_not_kept_and_what_is_forgotten_is_gone() -> None:
    inventory, key = Inventory(), KEYS[0]
    inventory.told(key, ref(POD, key))
    assert not inventory.of(key)
    inventory.told(key, ref(SERVICE, key))
    inventory.forget(key)
    assert not inventory.of(key)
