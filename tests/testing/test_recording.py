"""Recordings: nothing secret is in them, they replay all the same, and they disturb nobody."""

import io
import json
import logging
import random
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from gatewayproto.actions import Emit, Joined, ResumeToken, SessionOpened
from gatewayproto.config import ClientConfig, GatewayConfig
from gatewayproto.errors import LocalProtocolError
from gatewayproto.frames import Event, Object
from gatewayproto.inputs import (
    Accept,
    ChangeEpoch,
    ClientInput,
    Complete,
    Connect,
    ConnectionOpened,
    Drained,
    FrameReceived,
    GatewayInput,
    Persisted,
    Publish,
    Send,
    SetHealth,
    SetToken,
    SnapshotReady,
    TimerExpired,
    TransportClosed,
    TransportOpened,
)
from gatewayproto.projection import Transcript
from gatewayproto.rates import Rate
from gatewayproto.testing._pseudonyms import Pseudonyms
from gatewayproto.testing._recorded import read_header
from gatewayproto.testing.choices import Choices, Seeded, pick
from gatewayproto.testing.deeds import MAX_CLIENTS, Kind
from gatewayproto.testing.machines import Numbered
from gatewayproto.testing.profiles import Profile, draw
from gatewayproto.testing.recording import Recording
from gatewayproto.testing.simulator import scramble
from gatewayproto.testing.steps import GATEWAY, Step
from gatewayproto.testing.world import World
from tests.testing.recordlab import (
    Ids,
    RecordedMachines,
    holds,
    record_client,
    record_gateway,
    replayed,
    texts,
)

# What JSON writes in one byte, in two, in six, and what UTF-8 writes in one to four.
CHARACTERS = st.one_of(
    st.sampled_from('aZ09-_./+= "\\\n\t\x01é¢漢🐈'),
    st.characters(exclude_categories=["Cs"]),
)
SECRET = (
    st.text(CHARACTERS, min_size=16, max_size=40).map(lambda text: f"K{text}7").filter(str.strip)
)
KEY = bytes(32)


def event(data: Object, number: int = 1, **fields: Any) -> Event:
    return Event(type="note", data=data, event_id=f"e{number}", timestamp=0.0, **fields)


# -- worlds in which secrets are everywhere ---------------------------------------------------


def drawn(choices: Choices, tokens: list[str], name: str = "swarm") -> Profile:
    """A profile of which every machine is one from its beginning to its end."""
    profile = draw(name, choices)
    weights = {**profile.weights, Kind.SWAP: 0, Kind.SAVE: 0, Kind.RESTART: 0}
    size = pick(choices, (1024, 2048, 1024 * 1024))
    clients = tuple(
        evolve(client, token=token, max_payload=size)
        for client, token in zip(profile.clients, tokens, strict=False)
    )
    return evolve(profile, weights=weights, clients=clients, deeds=12)


def leak(world: World, choices: Choices, fresh: str) -> None:
    """Say a secret where an application might: in events, in messages, in the health."""
    peers = list(world.living)
    if not world.sessions or not peers:
        return
    session_id, peer = pick(choices, world.sessions), pick(choices, peers)
    secret = pick(choices, (session_id, peer.config.token or ""))
    number = world.published
    run = f"run{choices.choose(2)}"
    match choices.choose(8):
        case 0:
            events = [event({"text": f"it is {secret}!"}, number)]
        case 1:
            events = [event({secret: 1, "deep": [{"er": secret}]}, number, source=secret)]
        case 2:  # so much of it that it is cut where a snapshot is
            filler = "x" * choices.choose(30)
            events = [event({"text": f"{filler}{secret}" * 30}, number)]
        case 3:  # in pieces that a snapshot joins
            pieces = (secret[:5], secret[5:])
            events = [
                event({"text": piece}, number + n, run_id=run, transient=True)
                for n, piece in enumerate(pieces)
            ]
        case 4:
            events = [event({"text": secret}, number, run_id=run, final=True)]
        case 5:
            events = []
            world.serve(SetHealth(health={"of": secret}))
        case 6:
            events = []
            if peer.token is not None:
                content = pick(choices, (peer.config.token or "", peer.token.session_id))
                world.send(peer, f"my secret is {content}")
        case _:
            events = []
            peer.config = evolve(peer.config, token=f"{fresh}{peer.name}")
            world.give_token(peer)
    for each in events:
        world.publish(session_id, each)


@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**32),
    tokens=st.lists(SECRET, min_size=3, max_size=3, unique=True),
    strong=st.booleans(),
    name=st.sampled_from(["swarm", "building"]),
)
def test_a_recording_holds_no_secret_and_replays_to_the_same_actions(
    seed: int, tokens: list[str], strong: bool, name: str
) -> None:
    if not strong:  # too short to be told from words: replaced in their places alone
        tokens = [token[:3] for token in tokens]
    choices = Seeded(seed)
    profile = drawn(choices, tokens, name)
    known = [*tokens, *(f"{tokens[2]}c{number}" for number in range(MAX_CLIENTS))]
    machines = RecordedMachines(known, Ids if strong else Numbered)
    secrets: dict[str, set[str]] = {GATEWAY: {*tokens}}

    def observe(step: Step) -> None:
        mine = secrets.setdefault(step.who, set())
        if isinstance(step.input, SetToken) and step.input.token is not None:
            mine.add(step.input.token)
        for action in step.actions:
            if isinstance(action, Emit) and isinstance(action.event, SessionOpened | Joined):
                mine.add(action.event.session_id.partition(".")[0])

    world = World(profile.gateway, observe=observe, machines=machines)
    for config in profile.clients:
        secrets[world.add_client(config).name].add(config.token or "")
    for _ in range(12):
        scramble(world, profile, choices)
        leak(world, choices, tokens[2])
    for who, recorded in machines.all.items():
        result = replayed(recorded.log)
        assert result.difference is None, (who, result.difference)
        assert result.inputs == len(recorded.log.splitlines()) - 1
        for secret in secrets[who] if strong else ():
            assert not holds(recorded.log, secret), (who, secret)


# -- pseudonyms -------------------------------------------------------------------------------


@given(st.text(CHARACTERS, max_size=40) | st.text(CHARACTERS, max_size=40).map(lambda t: t * 50))
def test_a_pseudonym_takes_the_same_room_everywhere(secret: str) -> None:
    pseudonym = Pseudonyms(KEY).of(secret)
    for measure in (len, lambda text: len(text.encode()), lambda text: len(json.dumps(text))):
        assert measure(pseudonym) == measure(secret)
    assert len(pseudonym.strip()) == len(secret.strip())
    assert (pseudonym == "") == (secret == "")


@given(st.lists(st.text(CHARACTERS, max_size=3), unique=True), st.integers(1, 3))
def test_different_secrets_have_different_pseudonyms(secrets: list[str], length: int) -> None:
    of = Pseudonyms(KEY).of
    assert len({of(secret) for secret in secrets}) == len(secrets)
    every = {of(f"{first}{second}"[:length]) for first in "abcdefgh" for second in "abcdefgh"}
    assert len(every) == (8 if length == 1 else 64)


def test_a_pseudonym_tells_nothing_without_the_key() -> None:
    secret = Ids("some")()
    pseudonyms = {Pseudonyms(bytes([number]) * 32).of(secret) for number in range(50)}
    assert len(pseudonyms) == 50
    assert secret not in pseudonyms
    similar = Pseudonyms(KEY).of(f"{secret[:-1]}!")
    assert sum(map(str.__eq__, similar, Pseudonyms(KEY).of(secret))) < 8
    for one, other in ((secret * 40, f"{secret * 40}x"), ("é" * 900, "é" * 899 + "è")):
        pseudonym = Pseudonyms(KEY).of(one)
        assert Pseudonyms(KEY).of(one) == pseudonym
        assert sum(map(str.__eq__, Pseudonyms(KEY).of(other), pseudonym)) < 100
        assert sum(map(str.__eq__, one, pseudonym)) < 100


# -- the places of secrets --------------------------------------------------------------------

CONFIG = GatewayConfig()


def upgrade(token: str, **fields: Any) -> ConnectionOpened:
    headers = {"authorization": f"Bearer  {token} ", "cookie": f"id={token}", "host": "h"}
    return ConnectionOpened(connection=1, query={"token": token}, headers=headers, **fields)


@pytest.mark.parametrize("token", ["t", "tok/en=", "two words", "Aa1-" * 12])
def test_a_token_of_the_upgrade_is_replaced_and_still_presented(token: str) -> None:
    hello = frame({"type": "hello", "agent_id": "a"})
    for opened in (upgrade(token), evolve(upgrade(token), headers={"cookie": token})):
        log = record_gateway(CONFIG, [(0.0, opened), (1.0, hello)])
        (join,) = replayed_events(log, "JoinRequested")
        assert join["token"] != token
        assert len(join["token"]) == len(token)
        assert replayed(log).same
        assert len(token) < 3 or not holds(log, token)


def test_a_token_that_comes_in_band_is_replaced_and_judged_again() -> None:
    hello = frame({"type": "hello", "agent_id": "a", "protocol_min": 2, "protocol_max": 2})
    first, second = "first-Secret", "second-Secret"
    log = record_gateway(
        CONFIG,
        [
            (0.0, ConnectionOpened(connection=1)),
            (0.0, hello),
            (0.0, Accept(connection=1, principal=first, expires_in=8.0)),
            (1.0, frame({"type": "auth", "token": first})),
            (1.0, frame({"type": "auth", "token": second})),
            (1.0, frame({"type": "abort", "run_id": "r"})),
            (2.0, Accept(connection=1, principal=first, expires_in=4.0)),
            (6.0, TimerExpired()),
        ],
    )
    judged = [asked["join"]["token"] for asked in replayed_events(log, "AuthRequested")]
    assert [len(token) for token in judged] == [len(first), len(second)]
    assert replayed(log).same
    assert not holds(log, first)
    assert not holds(log, second)
    assert replayed_events(log, "AbortRequested")
    assert replayed_events(log, "SubscriberLeft")


def test_an_unknown_scheme_and_every_other_header_is_replaced_as_well() -> None:
    secret = "Zm9vOmJhcg"
    for value in (f"Basic {secret}", secret, "Bearer", "Bearer ", ""):
        opened = ConnectionOpened(
            connection=1, headers={"authorization": value, "x": secret}, query={"y": secret}
        )
        log = record_gateway(CONFIG, [(0.0, opened)])
        assert not holds(log, secret)
        assert replayed(log).same


def frame(fields: Object | str | bytes, connection: int = 1) -> FrameReceived:
    match fields:
        case bytes():
            return FrameReceived(connection, fields)
        case str():
            return FrameReceived(connection, fields.encode("utf-8", "surrogateescape"))
        case _:
            return FrameReceived(connection, json.dumps(fields).encode())


def replayed_events(log: bytes, name: str) -> list[Object]:
    """The events of a name in a recording."""
    return [
        action["Emit"][name]
        for line in log.splitlines()[1:]
        for action in json.loads(line)["actions"]
        if name in action.get("Emit", ())
    ]


ESCAPED = st.sampled_from(["", "\\u%04x", "\\u%04X"])


@st.composite
def written(draw: st.DrawFn, text: str) -> str:
    """A JSON string as somebody else might write it."""
    pieces: list[str] = []
    for character in text:
        how = draw(ESCAPED)
        plain = json.dumps(character, ensure_ascii=draw(st.booleans()))[1:-1]
        escape = how and "".join(
            how % int.from_bytes(pair, "big")
            for data in [character.encode("utf-16-be")]
            for pair in (data[:2], data[2:])
            if pair
        )
        pieces.append(escape or plain)
    return '"' + "".join(pieces) + '"'


@settings(max_examples=100)
@given(data=st.data(), secret=SECRET, blanks=st.sampled_from(["", " ", "\n\t "]))
def test_a_frame_is_edited_as_it_was_written(data: st.DataObject, secret: str, blanks: str) -> None:
    token, name, again = (data.draw(written(each)) for each in (secret, "token", secret))
    text = (
        f'{{{blanks}"type":{blanks}"hello","agent_id":"a",{name}{blanks}:{token},'
        f'"session_id":{token},"x":[{{"y":{again}}}]{blanks}}}'
    )
    whole = text
    if data.draw(st.booleans()):
        cut = data.draw(st.integers(0, len(text)))
        text = text[:cut] + data.draw(st.sampled_from(["", "\udcff", "[[[", '"', "\\", "}"]))
    log = record_gateway(CONFIG, [(0.0, ConnectionOpened(connection=1)), (1.0, frame(text))])
    result = replayed(log)
    assert result.same
    (line,) = [json.loads(line) for line in log.splitlines()[2:]]
    kept = line["input"]["FrameReceived"]["data"]
    assert len(kept.encode("utf-8", "surrogateescape")) == len(
        text.encode("utf-8", "surrogateescape")
    )
    if text == whole:
        assert [join["agent_id"] for join in replayed_events(log, "JoinRequested")] == ["a"]
    # With the operator's word that it is one, it is found in other places too.
    log = record_gateway(
        CONFIG,
        [(0.0, ConnectionOpened(connection=1)), (1.0, frame(text))],
        secrets=[secret],
    )
    assert replayed(log).same
    if text == whole:
        assert not holds(log, secret)


@given(st.binary(max_size=200) | st.text(max_size=100).map(lambda text: text.encode("utf-16")))
def test_any_bytes_of_a_peer_are_kept_and_replayed(data: bytes) -> None:
    steps: list[tuple[float, GatewayInput]] = [
        (0.0, ConnectionOpened(connection=1)),
        (1.0, frame(data)),
    ]
    log = record_gateway(CONFIG, steps)
    kept = json.loads(log.splitlines()[-1])["input"]["FrameReceived"]["data"]
    assert replayed(log).same
    assert len(kept.encode("utf-8", "surrogateescape")) == len(data)


def test_a_deep_or_endless_frame_is_no_burden() -> None:
    for text in ("[" * 40_000, '{"a":' * 20_000, '["a",' * 20_000, '"' * 40_001, "\\" * 40_001):
        log = record_gateway(CONFIG, [(0.0, ConnectionOpened(connection=1)), (1.0, frame(text))])
        assert replayed(log).same


def test_a_word_that_is_a_token_as_well_is_replaced_in_its_place_alone() -> None:
    hello = {"type": "hello", "agent_id": "hello", "token": "hello"}
    log = record_gateway(
        CONFIG, [(0.0, ConnectionOpened(connection=1)), (1.0, frame(hello))], secrets=["hello"]
    )
    (join,) = replayed_events(log, "JoinRequested")
    assert (join["agent_id"], join["token"] == "hello") == ("hello", False)
    assert replayed(log).same


@pytest.mark.parametrize(
    "session_id", ["x" * 5000, "spaces are no ids 1", "a long one, of course", "1" * 20]
)
def test_whatever_a_server_names_a_session_it_replays(session_id: str) -> None:
    said = {"type": "note", "data": {"text": session_id}, "event_id": "e", "timestamp": 1}
    steps: list[tuple[float, ClientInput]] = [
        (0.0, Connect()),
        (0.0, TransportOpened(1)),
        (1.0, frame(welcome(session_id))),
        (1.0, frame({"type": "event", "seq": 1, "event": said})),
    ]
    log = record_client(ClientConfig(agent_id="a"), steps)
    (joined,) = replayed_events(log, "Joined")
    assert joined["session_id"] != session_id
    assert len(replayed_events(log, "EventReceived")) == 1
    assert replayed(log).same


def test_a_server_that_names_sessions_without_end_ends_the_recording_not_the_client() -> None:
    sink = Full(10**9, OSError)
    recording = Recording(sink)
    client = recording.client(ClientConfig(agent_id="a"), rng=random.Random(1))
    client.handle(Connect(), now=0.0)
    for number in range(1, 12):
        now = 100.0 * number
        client.handle(TransportOpened(number), now=now)
        client.handle(frame(welcome("Ab" * 10 + "c" * number), number), now=now)
        client.handle(TransportClosed(connection=number), now=now)
        client.handle(TimerExpired(), now=now + 99.0)
    assert recording.failure == "TooManySecretsError: session ids of more than 8 lengths"
    assert client.state == "connecting"
    result = replayed(sink.data)
    assert result.same
    assert result.inputs == recording.inputs == 1 + 8 * 4 + 1


def test_where_a_client_starts_from_is_a_secret() -> None:
    session_id, epoch = Ids("a")(), "of-the-old"
    for held in (session_id, f"{session_id}.{epoch}"):
        resume = ResumeToken(session_id=held, epoch=None, cursor=7)
        steps: list[tuple[float, ClientInput]] = [
            (0.0, Connect()),
            (0.5, TransportOpened(1)),
            (1.0, Send(content=f"it is {held}")),
        ]
        log = record_client(ClientConfig(agent_id="a"), steps, resume=resume)
        assert not holds(log, session_id)
        assert holds(log, epoch) == (held != session_id)
        assert replayed(log).same


def test_a_session_that_is_gone_is_a_secret_still() -> None:
    for command in (
        Publish(session_id="gone", event=event({})),
        Complete(session_id="gone", message_id=1),
        ChangeEpoch(session_id="gone"),
        SnapshotReady(session_id="gone", epoch="e", cursor=0, state={}),
    ):
        log = record_gateway(CONFIG, [(0.0, command)])
        assert not holds(log, "gone")
        assert replayed(log).same


HELLO = {"type": "hello", "agent_id": "a", "protocol_min": 1, "protocol_max": 2}
OPEN: list[tuple[float, GatewayInput]] = [
    (0.0, ConnectionOpened(connection=1)),
    (0.0, frame(HELLO)),
    (0.0, Accept(connection=1)),
]


def test_what_is_to_be_stored_is_recorded_by_its_kind_alone() -> None:
    """Its content was given and sent; a replay gives the records of what stands for it."""
    message = {"type": "message", "content": "said in confidence", "request_id": "r"}
    slot = RecordedMachines().gateway(evolve(CONFIG, write_ahead=True, checkpoint_every=2))
    for now, input_ in OPEN[:2]:
        slot.handle(input_, now)
    slot.handle(Accept(connection=1, principal="of-the-operator"), 0.0)
    session_id = slot.machine.session_ids[0]  # type: ignore[union-attr] # it is a gateway
    slot.handle(Persisted(session_id=session_id, number=1), 0.0)
    slot.handle(frame(message), 0.0)
    slot.handle(Persisted(session_id=session_id, number=2), 0.0)
    log = slot.log
    assert not holds(log, "of-the-operator")
    assert not holds(log, session_id)
    kinds = [
        action["Persist"]["record"]
        for line in log.splitlines()[1:]
        for action in json.loads(line)["actions"]
        if "Persist" in action
    ]
    assert kinds == [{"kind": "opened"}, {"kind": "message"}, {"kind": "session"}]
    assert replayed(log).same


# -- snapshots --------------------------------------------------------------------------------

AWKWARD = 'Aa1-\x1f"\\/é漢🐈-of-the-operator'
STRAIGHT = "Aa1-of-the-operator-0"


@pytest.mark.parametrize("secret", [AWKWARD, STRAIGHT, None])
def test_a_snapshot_that_is_cut_anywhere_holds_no_secret(secret: str | None) -> None:
    for shift in range(60):
        slot = RecordedMachines([secret] if secret else []).gateway(evolve(CONFIG, retain=0))
        hello = {**HELLO, "protocol_min": 2, "max_payload": 1024, "since": 0}
        for now, input_ in (OPEN[0], (0.0, frame(hello)), OPEN[2]):
            slot.handle(input_, now)
        session_id = slot.machine.session_ids[0]  # type: ignore[union-attr] # it is a gateway
        said = secret or session_id
        for number in range(3):
            data = {"text": "." * (shift + 400 * number) + f"{said} {said}"}
            slot.handle(Publish(session_id=session_id, event=event(data, number)), 1.0)
        for piece in (said[:7], said[7:]):
            token = event({"text": piece}, run_id="r", transient=True)
            slot.handle(Publish(session_id=session_id, event=token), 1.0)
        slot.handle(frame({"type": "resync"}), 2.0)
        assert slot.log.splitlines()[-1].count(b"parts") > 1
        assert replayed(slot.log).same
        assert not holds(slot.log, said)


def snapshots(state: Object, cut: int) -> list[Object]:
    """A snapshot whole, and in two parts that are cut there."""
    fields = {"type": "snapshot", "cursor": 5, "epoch": "e", "reason": "requested", "nonce": "n"}
    text = json.dumps(state, ensure_ascii=False, separators=(",", ":"))
    parts = [text[:cut], text[cut:]]
    return [
        {**fields, "state": state},
        *({**fields, "part": n, "parts": 2, "chunk": each} for n, each in enumerate(parts, 1)),
    ]


def welcome(session_id: str) -> Object:
    return {
        "type": "hello_ok",
        "session_id": session_id,
        "protocol_version": 2,
        "resumed": False,
        "epoch": "e",
        "cursor": 0,
        "sequence": 0,
    }


@pytest.mark.parametrize("token", [AWKWARD, STRAIGHT])
def test_a_snapshot_that_a_client_gets_in_parts_is_what_its_parts_say(token: str) -> None:
    session_id = Ids("one")()
    text = f"{token} of {session_id}"
    size = len(json.dumps({"session_id": session_id, "text": text, token: 1}, ensure_ascii=False))
    for cut in range(size - 5):
        state = {"session_id": session_id if cut % 2 else "s", "text": text, token: 1}
        whole, first, second = snapshots(state, cut)
        frames = [welcome(session_id), first, {"type": "ping"}, second, whole, first, whole]
        steps: list[tuple[float, ClientInput]] = [
            (0.0, Connect()),
            (0.0, TransportOpened(1)),
            *((1.0, frame(each)) for each in frames),
        ]
        log = record_client(ClientConfig(agent_id="a", token=token), steps)
        assert len(replayed_events(log, "SnapshotReceived")) == 3
        assert replayed(log).difference is None
        assert not holds(log, token)
        assert not holds(log, session_id)


def test_parts_of_a_connection_that_was_given_up_are_no_part_of_it() -> None:
    state = {"text": f"{STRAIGHT} of {STRAIGHT}"}
    _, first, second = snapshots(state, 20)
    _, stale, _ = snapshots({"text": f"other {STRAIGHT}"}, 20)
    back = {**welcome("s"), "resumed": True, "sequence": 5, "cursor": 5}
    steps: list[tuple[float, ClientInput]] = [
        (0.0, Connect()),
        (0.0, TransportOpened(1)),
        *((1.0, frame(each)) for each in (welcome("s"), first, second, first)),
        (2.0, TransportClosed(connection=1)),
        (9.0, TimerExpired()),
        (9.0, TransportOpened(2)),
        *(
            (9.0, each)
            for each in (frame(back, 2), frame(first, 2), frame(stale), frame(second, 2))
        ),
    ]
    log = record_client(ClientConfig(agent_id="a", token=STRAIGHT), steps)
    assert len(replayed_events(log, "SnapshotReceived")) == 2
    assert replayed(log).difference is None
    assert not holds(log, STRAIGHT)


def test_random_numbers_are_replayed_not_drawn_again() -> None:
    log = record_client(
        ClientConfig(agent_id="a"), [(0.0, Connect()), (1.0, TransportClosed(connection=1))]
    )
    (retry,) = replayed_events(log, "RetryScheduled")
    assert json.loads(log.splitlines()[-1])["random"] == [random.Random("client").random()]
    assert 0.5 <= retry["delay"] <= 1.0
    assert replayed(log).same


# -- what the caller may do -------------------------------------------------------------------


class Odd:
    """No JSON."""


def deep() -> Object:
    data: Object = {}
    for _ in range(100_000):
        data = {"d": data}
    return data


@pytest.mark.parametrize(
    "data",
    [{"x": Odd()}, {1: 2}, {"x": float("nan")}, {"x": 10**5000}, deep(), None, {"x": "\udc80"}],
    ids=["object", "key", "nan", "digits", "deep", "none", "surrogate"],
)
def test_a_mistake_of_the_caller_is_raised_as_ever_and_the_recording_goes_on(data: Any) -> None:
    machines = RecordedMachines()
    slot = machines.gateway(CONFIG)
    for now, input_ in OPEN:
        slot.handle(input_, now)
    session_id = slot.machine.session_ids[0]  # type: ignore[union-attr] # it is a gateway
    outcome = slot.handle(Publish(session_id=session_id, event=event(data)), 1.0)
    assert isinstance(outcome.raised, LocalProtocolError)
    assert slot.handle(Publish(session_id=session_id, event=event({})), 2.0).raised is None
    result = replayed(slot.log)
    assert result.same
    assert (result.inputs + result.left_out, result.breach) == (5, None)


def test_a_mistake_that_is_data_is_made_again() -> None:
    log = record_gateway(CONFIG, [*OPEN, (1.0, Drained(1, 10**6)), (2.0, Drained(5, 1))])
    result = replayed(log)
    assert (result.same, result.inputs, result.left_out) == (True, 5, 0)


class Broken(Transcript):
    """A projection that fails."""

    def apply(self, _: int, __: Event, /) -> None:
        raise ZeroDivisionError


def test_a_crash_is_recorded_and_happens_again() -> None:
    slot = RecordedMachines().gateway(GatewayConfig(projection=Broken))
    for now, input_ in OPEN:
        slot.handle(input_, now)
    session_id = slot.machine.session_ids[0]  # type: ignore[union-attr] # it is a gateway
    outcome = slot.handle(Publish(session_id=session_id, event=event({})), 1.0)
    assert isinstance(outcome.raised, ZeroDivisionError)
    assert json.loads(slot.log.splitlines()[-1])["raised"] == "ZeroDivisionError"
    assert replayed(slot.log, projection=Broken).same
    result = replayed(slot.log.replace(b"ZeroDivisionError", b"KeyError"), projection=Broken)
    assert result.difference is not None
    assert (result.difference.aspect, result.difference.got) == ("raised", "ZeroDivisionError")


# -- files ------------------------------------------------------------------------------------


def test_a_file_is_its_owners_alone_and_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with Recording.create(path) as recording:
        recording.gateway(CONFIG)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    written_ = path.read_bytes()
    with pytest.raises(FileExistsError):
        Recording.create(path)
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileExistsError):
        Recording.create(link)
    assert path.read_bytes() == written_


def test_every_line_is_in_the_file_when_handle_returns(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with Recording.create(path) as recording:
        gateway = recording.gateway(CONFIG)
        for number, (now, input_) in enumerate(OPEN, 1):
            gateway.handle(input_, now=now)
            assert path.read_bytes().count(b"\n") == number + 1 == recording.inputs + 1
            assert replayed(path.read_bytes()).inputs == number
    gateway.handle(Drained(1, 1), now=1.0)
    assert (recording.inputs, recording.failure) == (len(OPEN), None)
    assert replayed(path.read_bytes()).inputs == len(OPEN)


def test_a_recording_is_of_one_machine() -> None:
    recording = Recording(io.BytesIO())
    recording.gateway(CONFIG)
    with pytest.raises(RuntimeError, match="one machine"):
        recording.gateway(CONFIG)
    with pytest.raises(RuntimeError, match="one machine"):
        recording.client(ClientConfig(agent_id="a"), rng=random.Random(1))
    closed = Recording(io.BytesIO())
    closed.close()
    with pytest.raises(RuntimeError):
        closed.gateway(CONFIG)


class Full:
    """A disk with room for so many bytes, of which it takes a few at a time."""

    def __init__(self, room: int, error: Callable[[], Exception]) -> None:
        self.data = b""
        self.closed = 0
        self._room = room
        self._error = error

    def write(self, data: bytes | memoryview, /) -> int:
        if len(self.data) == self._room:
            raise self._error()
        taken = bytes(data[: min(7, self._room - len(self.data))])
        self.data += taken
        return len(taken)

    def close(self) -> None:
        self.closed += 1


class Kept(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@settings(max_examples=30)
@given(room=st.integers(0, 1500))
def test_a_full_disk_ends_the_recording_and_nothing_else(room: int) -> None:
    sink = Full(room, lambda: OSError(28, "x"))
    recording = Recording(sink)
    logger = logging.getLogger("gatewayproto.recording")
    handler = Kept()
    logger.addHandler(handler)
    try:
        gateway = recording.gateway(CONFIG, ids=Ids("x"))
        actions = [gateway.handle(input_, now=now) for now, input_ in OPEN]
    finally:
        logger.removeHandler(handler)
    plain = Recording(io.BytesIO()).gateway(CONFIG, ids=Ids("x"))
    assert actions == [plain.handle(input_, now=now) for now, input_ in OPEN]
    assert recording.failure == "No space left on device"
    assert [record.levelname for record in handler.records] == ["ERROR"]
    assert "No space left on device" in handler.records[0].getMessage()
    assert (sink.closed, len(sink.data)) == (1, room)
    if sink.data.count(b"\n"):
        result = replayed(sink.data)
        assert result.same
        assert result.inputs == recording.inputs == sink.data.count(b"\n") - 1
        assert result.cut_off == (not sink.data.endswith(b"\n"))


def test_whatever_else_goes_wrong_with_writing_is_contained() -> None:
    recording = Recording(Full(300, lambda: RuntimeError("on fire")))
    gateway = recording.gateway(CONFIG)
    for now, input_ in OPEN:
        gateway.handle(input_, now=now)
    assert recording.failure == "RuntimeError: on fire"
    assert len(gateway.session_ids) == 1


def test_a_sink_that_takes_nothing_is_not_asked_for_ever() -> None:
    for answer in (0, None):
        recording = Recording(Lazy(answer))
        recording.gateway(CONFIG).handle(OPEN[0][1], now=0.0)
        assert recording.failure == "Resource temporarily unavailable"


class Lazy(io.BytesIO):
    """Takes nothing."""

    def __init__(self, answer: int | None) -> None:
        super().__init__()
        self._answer = answer

    def write(self, _: Any, /) -> Any:
        return self._answer


def test_the_projection_is_named_and_never_imported() -> None:
    log = record_gateway(GatewayConfig(projection=Broken), OPEN[:1])
    header = json.loads(log.splitlines()[0])
    assert header["projection"] == f"{__name__}:Broken"
    assert "projection" not in header["config"]
    assert "projection" not in json.loads(record_gateway(CONFIG, OPEN[:1]).splitlines()[0])
    assert any("Broken" in text for text in texts(log))


# -- rates, and states that the application builds --------------------------------------------


@pytest.mark.parametrize("rate", [Rate(0.25, 3), Rate(1e6, 1), None])
def test_rates_and_what_an_application_builds_come_back_as_they_were(rate: Rate | None) -> None:
    config = GatewayConfig(
        frame_rate=rate, recovery_rate=rate, connection_rate=rate, handshake_rate=rate,
        session_rate=rate, application_snapshots=True, snapshot_timeout=0.5, max_snapshot_tries=2,
    )  # fmt: skip
    log = record_gateway(config, [])
    assert read_header(log.splitlines()[0]).config == config


def test_a_state_that_an_application_built_is_recorded_without_secrets_and_given_again() -> None:
    token = "K0-the-token-of-somebody-7"
    config = GatewayConfig(application_snapshots=True)
    hello: Object = {
        "type": "hello", "agent_id": "agent", "protocol_min": 2, "protocol_max": 2, "token": token,
        "start": "snapshot",
    }  # fmt: skip
    state = {"of": [token], token: "x" * 40}
    inputs: list[GatewayInput] = [
        ConnectionOpened(connection=1),
        frame(hello),
        Accept(connection=1, principal=token),
    ]
    session_id = Ids("gateway")()
    inputs += [
        ConnectionOpened(connection=2),
        frame({**hello, "session_id": session_id}, connection=2),
        Accept(connection=2, principal=token),
    ]
    slot = RecordedMachines([token]).gateway(config)
    for each in inputs:
        slot.handle(each, 0.0)
    info = slot.machine.session(session_id)  # type: ignore[union-attr] # it is a gateway
    assert info is not None
    slot.handle(SnapshotReady(session_id=session_id, epoch=info.epoch, cursor=0, state=state), 1.0)
    result = replayed(slot.log)
    assert result.difference is None
    assert len(replayed_events(slot.log, "SnapshotNeeded")) == 1
    assert b'\\"type\\":\\"snapshot\\"' in slot.log.splitlines()[-1]
    assert not holds(slot.log, token)
