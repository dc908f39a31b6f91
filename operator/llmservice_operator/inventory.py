"""Which objects may be a service's: those that watches have told with its label.

To find them by label, the API server looks at every object of the namespace, for every kind and
at every look: with thousands of services that is a third of its work. By name it finds one at
once, and the watches, which list everything at their start, have told all names already.
"""

from __future__ import annotations

from collections import defaultdict

from llmservice_operator.cluster import ObjectRef, ServiceKey
from llmservice_operator.kinds import POD


class Inventory:
    """Names only, never what an object says: that is read when it is needed.

    Something that is missing here has an event to come, which asks for another look; something
    that is here and gone is not found when it is read.
    """

    def __init__(self) -> None:
        self._refs = defaultdict[ServiceKey, set[ObjectRef]](set)

    def told(self, key: ServiceKey, ref: ObjectRef, *, gone: bool = False) -> None:
        """An event about an object with the service's label. Pods are none of its own."""
        if ref.kind == POD.kind:
            return
        if not gone:
            self._refs[key].add(ref)
            return
        self._refs[key].discard(ref)
        if not self._refs[key]:
            del self._refs[key]

    def of(self, key: ServiceKey) -> frozenset[ObjectRef]:
        """What may be the service's, whether it still exists or not."""
        return frozenset(self._refs.get(key, ()))

    def forget(self, key: ServiceKey) -> None:
        """The service is gone, and all that it owned follows."""
        self._refs.pop(key, None)
