"""The rules of histories once more in plain Python, sharing no code with the product.

Per user it keeps every accepted event in a sorted list and derives all aggregates anew each time.
"""

from __future__ import annotations

import bisect
import struct
from dataclasses import dataclass, field, replace

PURCHASE, REFUND = 6, 7


@dataclass(frozen=True)
class Ev:
    time: int
    id: int
    type: int = 1
    item: int = 0
    category: int = 0
    amount: int = 0
    order: int = 0
    quantity: int = 1
    discount: int = 0
    """Of the whole order of a purchase."""
    loaded: bool = field(default=False, compare=False)
    own: int | None = field(default=None, compare=False)
    """When it happened, where it came late and counts as of when it came."""

    @property
    def key(self) -> tuple[int, bool, int]:
        """Its place in the history: refunds come after all else of their time."""
        return (self.time, self.type == REFUND, self.id)


def same(held: Ev, new: Ev) -> bool:
    """Whether an event is the one that is held, as far as that is kept."""
    paid = [struct.pack("f", e.amount / 10_000) for e in (held, new)]
    return (
        (held.own is not None or held.time == new.time)
        and (held.type, held.item, held.category) == (new.type, new.item, new.category)
        and line_of(held) == line_of(new)
        and (not off(held) or not off(new) or off(held) == off(new))
        and paid[0] == paid[1]
    )


def off(e: Ev) -> int:
    """The discount that is kept of an event."""
    return e.discount if e.type == PURCHASE else 0


def line_of(e: Ev) -> tuple[int, int]:
    """What the ring says of the order: nothing but of purchases and refunds."""
    return (e.order, e.quantity) if e.type in (PURCHASE, REFUND) else (0, 0)


def coded(e: Ev) -> tuple[int, int]:
    """The same, as it is kept: an order that came late with its own time, or marked."""
    order, quantity = line_of(e)
    if e.own is not None:
        order = 2**31 + (2**30 + order if order else e.own // 4000)
    return order, quantity


def orders_of(events: list[Ev], gap: int) -> tuple[set[int], int, int]:
    """Which events begin an order, how many stand in the end, and the discounts of all."""
    begun: set[int] = set()
    standing = last = discounts = 0
    recent: list[dict] = []  # the last line's order at the end, those of late lines before it
    owed: list[dict] = []  # the last one at the end
    for i, e in enumerate(events):
        money = struct.unpack("f", struct.pack("f", e.amount / 10_000))[0]
        if e.type == PURCHASE:
            order = order_of(recent, e, last, gap)
            if order is None:
                begun.add(i)
                order = {"id": 0, "own": None, "units": 0, "money": 0.0, "items": set(), "off": 0}
                if e.own is not None and not e.order:
                    order["own"] = e.own // 4000
            recent = placed(recent, order, behind=e.own is not None and last > 0)
            stood = order["units"] > 0
            order["id"] = e.order or order["id"]
            order["units"] += e.quantity
            order["money"] += money
            discounts += max(e.discount - order["off"], 0)
            order["off"] = max(e.discount, order["off"])
            order["items"] |= {e.item % 64} if e.item else set()
            if e.order:
                settle(order, owed)
            standing += (order["units"] > 0) - stood
            last = e.time if e.own is None else last
        elif e.type == REFUND:
            order = refunded(recent, e, money)
            if order and order["units"]:
                give(order, money, e.quantity)
                standing -= order["units"] == 0
            elif e.order and not order:
                owe(owed, e, money)
    return begun, standing, discounts


def order_of(recent: list[dict], e: Ev, last: int, gap: int) -> dict | None:
    """The order that a purchase is a line of, None if it begins one."""
    for order in recent:
        if e.order and order["id"] == e.order:
            return order
    if e.own is None:
        near = last and e.time - last <= gap
        return recent[-1] if near and not (e.order and recent[-1]["id"]) else None
    if e.order:
        return None
    own = e.own // 4000
    if last and abs(last // 4000 - own) * 4000 <= gap:
        return recent[-1]
    for order in reversed(recent):
        if order["own"] is not None and abs(order["own"] - own) * 4000 <= gap:
            return order
    return None


def placed(recent: list[dict], order: dict, *, behind: bool) -> list[dict]:
    """The orders once one has a new line; ``behind``: a late one, which leaves the newest last."""
    others = [o for o in recent if o is not order]
    if behind and order is not recent[-1]:
        return [*others[:-1], order, others[-1]][-8:]
    return [*others, order][-8:]


def owe(owed: list[dict], e: Ev, money: float) -> None:
    """Keep a refund of an order that has not come."""
    debt = next((d for d in owed if d["id"] == e.order), None)
    if debt is None:
        debt = {"id": e.order, "units": 0, "money": 0.0}
        owed.append(debt)
        del owed[:-4]
    debt["units"] += e.quantity
    debt["money"] += money


def settle(order: dict, owed: list[dict]) -> None:
    """Take back from an order what was refunded before its line came."""
    for debt in [d for d in owed if d["id"] == order["id"]]:
        units, worth, due = order["units"], order["money"], debt["money"]
        give(order, due, debt["units"])
        done = debt["units"] <= units
        if worth and due:
            debt["money"] -= worth
            done = debt["money"] <= due / 1000 + 0.005
        debt["units"] = max(debt["units"] - units, 1)
        if done or order["units"]:
            owed.remove(debt)


def give(order: dict, money: float, units: int) -> None:
    """Give back so much of an order that has units left."""
    whole = units >= order["units"]
    worth = order["money"]
    part = worth * min(units, order["units"]) / order["units"]
    rest = worth - (money or part)
    if worth:
        whole = rest <= money / 1000 + 0.005 or (whole and 2 * money > worth)
    order["units"] = 0 if whole else max(order["units"] - units, 1)
    order["money"] = rest if worth and not whole else 0.0


def refunded(recent: list[dict], e: Ev, money: float) -> dict | None:
    for order in recent:
        if e.order and order["id"] == e.order:
            return order
    best, rank = None, 0
    for order in reversed(recent):
        worth = order["money"]
        if not order["units"] or (e.order and order["id"]):
            continue
        if e.item and e.item % 64 not in order["items"]:
            continue
        good = 1 if e.item else 0
        good = 2 if not worth or money <= worth + 0.005 else good
        good = 3 if worth and abs(worth - money) <= 0.005 else good
        if good > rank:
            best, rank = order, good
    return best


@dataclass
class UserHistory:
    ring: int = 64
    gap: int = 1_800_000
    longest: int = 86_400_000
    grace: int = 600_000
    ttl: int | None = None
    correction: int = 0
    accepted: list[Ev] = field(default_factory=list)

    def offer(self, event: Ev, *, loaded: bool = False, on_time: bool = False) -> str:
        """Judge an event and take it in: 'accepted', 'duplicate', 'reused' or 'late'.

        ``loaded``: as history, which live events do not make late; ``on_time``: by all others.
        """
        newest = self.accepted[-1].time if self.accepted else event.time
        if self.ttl is not None and event.time - newest > self.ttl:
            self.accepted.clear()
        for e in self.held():
            if e.id == event.id:
                return "duplicate" if same(e, event) else "reused"
        if self.accepted and event.time < self.accepted[-1].time - self.grace:
            kept, last = self.accepted[-self.ring :], self.accepted[-1].time
            known = len(kept) < self.ring or event.key > kept[0].key
            in_time = event.time >= last - self.correction
            history = [e.time for e in kept if e.loaded]
            in_order = not history or event.time >= history[-1] - self.grace
            if known and in_time and event.type in (PURCHASE, REFUND) and not on_time:
                event, loaded = replace(event, time=last, own=event.time), False
            elif not known or not (on_time or (loaded and in_order)):
                return "late"
        event = replace(event, loaded=loaded)
        bisect.insort(self.accepted, event, key=lambda e: e.key)
        return "accepted"

    def held(self) -> list[Ev]:
        """The last events, as many as the ring has slots, and all that are within the grace.

        Of those before, the newest is held too where the whole ring is within the grace.
        """
        kept = self.accepted[-self.ring :]
        older = self.accepted[: -self.ring]
        since = self.accepted[-1].time - self.grace if self.accepted else 0
        if not older or kept[0].time < since:
            return kept
        settled = sum(e.time < since for e in older)
        return older[max(settled - 1, 0) :] + kept

    def aggregates(self) -> dict[str, object]:
        """Everything that the header and the ring of the record must say."""
        events = self.accepted
        ages, flags = [], []
        sessions = spend = 0
        begun, orders, discount = orders_of(events, self.gap)
        start = last_buy = first_buy = 0
        counts = [0] * 8
        for i, e in enumerate(events):
            fresh = i == 0 or e.time - events[i - 1].time > self.gap
            fresh = fresh or e.time - start > self.longest
            flag = 0
            if fresh:
                start, sessions, flag = e.time, sessions + 1, 1
            if e.type == PURCHASE:
                if i in begun:
                    flag |= 2
                last_buy = e.time
                first_buy = first_buy or e.time
                spend += e.amount
            if e.type == REFUND:
                spend -= e.amount
            if e.type in (PURCHASE, REFUND):
                flag |= 4
            if off(e):
                flag |= 64
            if e.own is not None:
                flag |= 8
            counts[e.type] += 1
            ages.append(e.time - start)
            flags.append(flag)
        gone = events[: -self.ring] if len(events) > self.ring else []
        return {
            "n": len(events),
            "first_time": events[0].time,
            "last_time": events[-1].time,
            "last_id": events[-1].id,
            "session_start": start,
            "first_purchase": first_buy,
            "last_purchase": last_buy,
            "evicted_time": gone[-1].time if gone else 0,
            "evicted_purchase": max(
                (e.time for e in gone if e.type == PURCHASE and e.own is None), default=0
            ),
            "spend": spend,
            "discount": discount,
            "counts": counts,
            "overflow": len(self.held()) - min(len(events), self.ring),
            "orders": orders,
            "last_order": max((events[i].time for i in begun), default=0),
            "sessions": sessions,
            "ring": [
                (e.time, e.id, e.item, age, e.category, e.type, flag, *coded(e), off(e))
                for e, age, flag in zip(events, ages, flags, strict=True)
            ][-self.ring :],
        }
