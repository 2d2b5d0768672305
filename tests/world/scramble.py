"""Work and faults in an order that a seeded generator chooses."""

from collections.abc import Callable
from typing import Any

from tests.world.simworld import World


def scramble(world: World, steps: int) -> None:
    """Do so many things to a world, chosen by its own generator."""
    for _ in range(steps):
        world.rng.choice(_DEEDS)(world)


def _carry(kind: str, most: int) -> Callable[[World], None]:
    def carry(world: World) -> None:
        for _ in range(world.rng.randint(1, most)):
            links = world.pick(kind)
            if not links:
                return
            link = world.rng.choice(links)
            {"new": world.open, "up": world.deliver_up, "down": world.deliver_down}[kind](link)

    return carry


def _cut(world: World) -> None:
    links = world.pick(world.rng.choice(["any", "new"]))
    sides = world.rng.choice(["both", "client", "gateway", "none", "none", "none"])
    if links and sides != "none":
        link = world.rng.choice(links)
        world.cut(link, client=sides != "gateway", gateway=sides != "client")


def _publish(kind: str) -> Callable[[World], None]:
    def publish(world: World) -> None:
        if not world.gateway.session_ids:
            return
        session_id = world.rng.choice(world.gateway.session_ids)
        run = world.rng.choice("ab")
        for number in range(1 if kind == "final" else world.rng.randint(1, 8)):
            fields: dict[str, Any] = {"data": {"text": f"t{number} "}}
            if kind == "tokens":
                fields |= {"run_id": run, "transient": True}
            elif kind == "final":
                fields |= {"run_id": run, "final": True}
            world.publish(session_id, **fields)

    return publish


def _accept(world: World) -> None:
    if world.joins:
        world.accept(world.rng.randrange(len(world.joins)))


def _send(world: World) -> None:
    world.send(world.rng.choice(world.peers), "hello")


def _take(world: World) -> None:
    world.take(world.rng.choice(world.peers))


def _finish(world: World) -> None:
    if world.unfinished:
        world.finish(world.rng.randrange(len(world.unfinished)))


def _wait(world: World) -> None:
    world.advance(world.rng.choice([0.25, 0.25, 0.25, 2.0, 11.0, 35.0, 130.0]))


def _restart(world: World) -> None:
    kind = world.rng.choice(["unbroken", "recovered", "copy", *["none"] * 12])
    if kind == "copy" and world.saved:
        world.restart_from_copy()
    elif kind in {"unbroken", "recovered"}:
        world.restart(unbroken=kind == "unbroken")


_DEEDS: list[Callable[[World], None]] = [
    *[_carry("new", 1)] * 2,
    *[_carry("up", 4)] * 4,
    *[_carry("down", 6)] * 4,
    *[_accept, _take, _wait] * 2,
    *[_publish("tokens")] * 2,
    _publish("final"),
    _publish("durable"),
    _cut,
    _send,
    _finish,
    _restart,
    World.swap,
    World.save,
]
"""What stands more than once is chosen more often."""
