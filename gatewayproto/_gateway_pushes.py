"""Presence and health, pushed to who is connected: coalesced, and behind everything else.

A push goes to a subscriber that has had every event and has room for it. Whoever has not is told
the latest state once that is so; all that is kept for it meanwhile is the version that it knows.

Spec: Presence; Health.
"""

from gatewayproto._gateway_context import Context
from gatewayproto.delivery import Delivery
from gatewayproto.presence import Told
from gatewayproto.subscribers import Subscribers


def push_presence(context: Context, session_id: str, now: float) -> None:
    """Tell a session's subscribers who came and left since the last push."""
    subscribers, interval = context.subscribers[session_id], context.config.push_interval
    changes = subscribers.changes
    if interval is None or not (changes.joined or changes.left):
        return
    frames = subscribers.presence_frames(context.config.presence_max)
    taken: dict[bytes, list[int]] = {}
    for number, told in subscribers.told.items():
        delivery = subscribers.ready.get(number)
        if delivery is None or told.presence == frames.version:
            continue
        if told.listed and told.presence == changes.since:
            frame, listed = frames.change(changes, delivery.max_payload)
        else:
            frame, listed = frames.whole(delivery.max_payload)
        if _charge(delivery, frame, now):
            told.presence, told.listed = frames.version, listed
            taken.setdefault(frame, []).append(number)
    changes.begin_anew(frames.version)
    changes.not_before = now + interval
    _send(context, taken)


def push_health(context: Context, now: float) -> None:
    """Tell every subscriber the health, whatever its session."""
    interval = context.config.push_interval
    if interval is None:
        return
    context.health_pushed = context.health_version
    context.health_not_before = now + interval
    taken: dict[bytes, list[int]] = {}
    for subscribers in context.subscribers.values():
        for number, told in subscribers.told.items():
            delivery = subscribers.ready.get(number)
            if delivery is not None and _take_health(context, delivery, told, now):
                taken.setdefault(context.health_frame(), []).append(number)
    _send(context, taken)


def catch_up(context: Context, subscribers: Subscribers, delivery: Delivery, now: float) -> None:
    """Tell a subscriber that is ready what was pushed when it was not."""
    number = delivery.connection
    told = subscribers.told.get(number)
    if told is None:
        return
    if told.presence < subscribers.changes.since:
        frames = subscribers.presence_frames(context.config.presence_max)
        frame, listed = frames.whole(delivery.max_payload)
        if _charge(delivery, frame, now):
            told.presence, told.listed = frames.version, listed
            _send(context, {frame: [number]})
    if _take_health(context, delivery, told, now):
        _send(context, {context.health_frame(): [number]})


def _take_health(context: Context, delivery: Delivery, told: Told, now: float) -> bool:
    """Tell whether the health goes to this subscriber now; it is charged then."""
    if told.health >= context.health_pushed:
        return False
    frame = context.health_frame()
    if len(frame) > delivery.max_payload:
        told.health = context.health_version  # there is no smaller form
        return False
    if not _charge(delivery, frame, now):
        return False
    told.health = context.health_version
    return True


def _charge(delivery: Delivery, frame: bytes, now: float) -> bool:
    if not delivery.credit.room_for(len(frame)):
        return False
    delivery.credit.charge(len(frame), now)
    return True


def _send(context: Context, taken: dict[bytes, list[int]]) -> None:
    for frame, numbers in taken.items():
        context.effects.send(tuple(numbers), [frame])
