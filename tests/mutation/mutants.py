"""Ways to get the core wrong, one line each. Data only."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mutant:
    """One wrong line: `right` in `file` of the core becomes `wrong`."""

    name: str
    file: str
    right: str
    wrong: str


MUTANTS = (
    Mutant(
        "the boost is dropped",
        "policies/ssjf.py",
        "request.arrived_at - boost_s(decode_s + prefill_s, view.gamma_per_s)",
        "request.arrived_at",
    ),
    Mutant(
        "the told bound on overtaking is too small",
        "policies/ssjf.py",
        "math.log(max(ratio, 1.0)) / view.gamma_per_s",
        "math.log(max(ratio, 1.0)) / view.gamma_per_s / 2",
    ),
    Mutant(
        "a slot leaks when a request leaves",
        "in_flight.py",
        "self.slots -= flight.running.request.slots",
        "self.slots -= flight.running.request.slots - 1",
    ),
    Mutant(
        "a wide request counts as one slot",
        "in_flight.py",
        "self.slots += flight.running.request.slots",
        "self.slots += 1",
    ),
    Mutant(
        "work in flight never decays",
        "in_flight.py",
        "- now * self._decaying_slots",
        "- 0.0 * self._decaying_slots",
    ),
    Mutant(
        "work in flight decays from admission on",
        "in_flight.py",
        "        running.first_token_at = now\n",
        "        running.first_token_at = running.admitted_at\n",
    ),
    Mutant(
        "one slot more than the limit is given",
        "room.py",
        "if self.in_flight.slots + request.slots > self.limit_slots:",
        "if self.in_flight.slots + request.slots > self.limit_slots + 1:",
    ),
    Mutant(
        "the last slot is never given",
        "room.py",
        "if self.in_flight.slots + request.slots > self.limit_slots:",
        "if self.in_flight.slots + request.slots >= self.limit_slots:",
    ),
    Mutant(
        "the next overtakes a head that does not fit",
        "room.py",
        "return Turn(head) if self._fits(head.request) else None",
        "if self._fits(head.request):\n                    return Turn(head)",
    ),
    Mutant(
        "a cap lets one too many run",
        "room.py",
        "return cap is None or self._level_slots[request.priority] + also + request.slots <= cap",
        "return cap is None or self._level_slots[request.priority] < cap",
    ),
    Mutant(
        "slots of a priority are never given back",
        "room.py",
        "self._level_slots[request.priority] -= request.slots",
        "self._level_slots[request.priority] -= 0",
    ),
    Mutant(
        "promotion takes half of the slots",
        "room.py",
        "PROMOTED_SHARE: Final = 0.25",
        "PROMOTED_SHARE: Final = 0.5",
    ),
    Mutant(
        "the promoted share is never given back",
        "room.py",
        "self._promoted_slots -= request.slots",
        "self._promoted_slots -= 0",
    ),
    Mutant(
        "rules are not asked",
        "room.py",
        "return all(rule.admits(request, running) for rule in self._rules)",
        "return True",
    ),
    Mutant(
        "only one request is admitted when several fit",
        "gate.py",
        "            admitted.append(turn.item.request.id)\n",
        "            admitted.append(turn.item.request.id)\n            break\n",
    ),
    Mutant(
        "a newcomer takes another's turn",
        "gate.py",
        "turn if turn is not None and turn.item is item else None",
        "Turn(item) if turn else None",
    ),
    Mutant(
        "a slot is free for whoever fits into it",
        "gate.py",
        "turn if turn is not None and turn.item is item else None",
        "Turn(item) if self._room.admits(item.request) else None",
    ),
    Mutant(
        "the queue takes one too many",
        "gate.py",
        "len(self._lanes) >= self._max_queued",
        "len(self._lanes) > self._max_queued",
    ),
    Mutant(
        "keys are kept when gamma moves",
        "order.py",
        "moved(view.gamma_per_s, self.gamma_at(work_s))",
        "False",
    ),
    Mutant(
        "new keys are made under a new gamma beside old ones",
        "gate.py",
        "        self._lanes.rekey(self._key)\n",
        "        pass\n",
    ),
    Mutant(
        "a settled charge stays as predicted",
        "gate.py",
        "self._lanes.settle(flight.charge, charge_of(running.request, output_tokens=real))",
        "pass",
    ),
    Mutant(
        "ties run in the opposite of arrival order",
        "queue.py",
        "self._order.add((*item.key, item.number, item))",
        "self._order.add((*item.key, -item.number, item))",
    ),
    Mutant(
        "a split block forgets its last entry",
        "sorted_blocks.py",
        "self._lasts.insert(at, block[-1])",
        "self._lasts.insert(at, block[-2])",
    ),
    Mutant(
        "lower priorities go first",
        "lanes.py",
        "dict(sorted(self._levels.items(), reverse=True))",
        "dict(sorted(self._levels.items()))",
    ),
    Mutant(
        "tenants within the slack take turns by account alone",
        "level.py",
        "bound = self.least() + self._shares.slack_tokens",
        "bound = self.least()",
    ),
    Mutant(
        "who was put aside stays there",
        "level.py",
        "while self._aside and self._aside.first()[0] <= bound:",
        "while False:",
    ),
    Mutant(
        "a tenant's place is kept when its account changes",
        "level.py",
        "        if tenant in self.lanes:\n            self._changed.add(tenant)",
        "        pass",
    ),
    Mutant(
        "no tenant is ever held back",
        "level.py",
        "            if account <= bound:",
        "            if account <= bound or account > bound:",
    ),
    Mutant(
        "a full queue displaces the head of the longest lane",
        "lanes.py",
        "return self.remove(longest.last.request.id)",
        "return self.remove(longest.head.request.id)",
    ),
    Mutant(
        "a wait is foreseen in arrival order",
        "lanes.py",
        "yield from takewhile(lambda other: rank(other) < rank(item), ordered)",
        "yield from takewhile(lambda other: other.number < item.number, ordered)",
    ),
    Mutant(
        "nothing is charged",
        "fair_share.py",
        "        self._accounts[tenant] += tokens\n",
        "",
    ),
    Mutant(
        "a charge outlives its contest",
        "fair_share.py",
        "charge.contest == self._contest and charge.tenant in self._accounts",
        "charge.tenant in self._accounts",
    ),
    Mutant(
        "each newcomer is owed more than the one before",
        "fair_share.py",
        "self._floor = max(self._floor, least)",
        "self._floor = least",
    ),
    Mutant(
        "who comes back is owed little",
        "fair_share.py",
        "RETURN_CREDIT: Final = 8.0",
        "RETURN_CREDIT: Final = 2.0",
    ),
    Mutant(
        "a tenant that waits is forgotten",
        "fair_share.py",
        "if not waits(tenant):",
        "if tenant:",
    ),
    Mutant(
        "costs are of real tokens, not of predicted ones",
        "service_rates.py",
        "s_per_token=self._service_s / self._predicted_tokens",
        "s_per_token=self._service_s / self._output_tokens",
    ),
    Mutant(
        "the first completions count for ever",
        "service_rates.py",
        "self._service_s = self._service_s * keep + max(service_s, 0.0)",
        "self._service_s = self._service_s + max(service_s, 0.0)",
    ),
    Mutant(
        "a prompt is delayed by nobody beside it",
        "service_rates.py",
        "s_per_prefill_token=min(max(slope * delayed, 0.0), step_s)",
        "s_per_prefill_token=min(max(slope, 0.0), step_s)",
    ),
    Mutant(
        "service counts from admission",
        "service_rates.py",
        "start = running.admitted_at if running.first_token_at is None else running.first_token_at",
        "start = running.admitted_at",
    ),
    Mutant(
        "keys are kept when rates move",
        "gamma.py",
        "return token > RATE_MOVED * before.s_per_token or prefill",
        "return prefill",
    ),
    Mutant(
        "behind a deep queue the horizon grows on",
        "gamma.py",
        "return math.sqrt(deep_s * horizon_s)",
        "return horizon_s",
    ),
    Mutant(
        "the mean excess is ignored",
        "gamma.py",
        "max(2 * self._excess_s, MIN_HORIZON_S)",
        "MIN_HORIZON_S",
    ),
    Mutant(
        "earlier arrivals overtake, too",
        "overtaking.py",
        "overtook = self._waiting.take(number)",
        "overtook = self._waiting.take(number) and len(self._waiting)",
    ),
    Mutant(
        "who stands before takes the slot that is free last",
        "eta.py",
        "heapq.heapreplace(free_at, free_at[0] + cost_s)",
        "free_at[-1] += cost_s",
    ),
)
