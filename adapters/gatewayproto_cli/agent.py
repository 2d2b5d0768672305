"""The demo agent: does what a message's text says, so that every kind of event can be had."""

import hmac
import re
import time
import uuid
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Final

import anyio
from anyio.lowlevel import checkpoint
from attrs import field, frozen
from gatewayproto_adapter.application import Application, Rejected, SessionHandle

from gatewayproto import ErrorCode, Event, GatewayConfig, LocalProtocolError, codec
from gatewayproto.actions import AbortRequested, JoinRequested, MessageReceived
from gatewayproto.frames import MAX_DEPTH, Object

MAX_EVENTS: Final = 1_000_000
"""The largest N of `tokens N` and `burst N`."""
MAX_SECONDS: Final = 86_400.0
"""The longest `sleep`, and the longest time between two tokens."""
_SLICE: Final = 10
"""Events published before everybody else gets a turn."""

_NUMBER: Final = r"([0-9]+(?:\.[0-9]+)?)"
_TOKENS: Final = re.compile(rf"tokens\s+([0-9]+)(?:\s+{_NUMBER})?\s*")
_BURST: Final = re.compile(r"burst\s+([0-9]+)\s*")
_SLEEP: Final = re.compile(rf"sleep\s+{_NUMBER}\s(.*)", re.DOTALL)
_ASK: Final = re.compile(r"ask\s(.*)", re.DOTALL)


class TokenBook:
    """Whose token is whose: each is a principal of its own. Without any, everybody may come."""

    def __init__(self, tokens: Sequence[str]) -> None:
        self._tokens = [_bytes(token) for token in tokens]

    def principal(self, token: str | None) -> str | None:
        """The principal that a token stands for, None where there are no tokens.

        Takes as long for one that is nearly right as for any other.

        Raises:
            Rejected: `auth_required` without a token, `auth_unauthorized` for an unknown one.
        """
        if not self._tokens:
            return None
        if not token:
            raise Rejected(ErrorCode.AUTH_REQUIRED, "a token is required")
        presented, found = _bytes(token), None
        for number, each in enumerate(self._tokens, 1):
            if hmac.compare_digest(each, presented):
                found = f"token-{number}"
        if found is None:
            raise Rejected(ErrorCode.AUTH_UNAUTHORIZED, "this token is not known here")
        return found


@frozen
class Task:
    """A message, and where what it asks for is to be published."""

    session: SessionHandle
    message: MessageReceived

    def publish(self, type_: str, data: Object, *, expects_reply: bool = False) -> bool:
        """Publish a durable event that answers the message; False where the session is gone.

        One that is too large is replaced by a `response` that says so.
        """
        event = self.event(type_, data, expects_reply=expects_reply)
        try:
            seq = self.session.publish_event(event)
        except LocalProtocolError:
            self.refuse("what you ask for does not fit into an event")
            return True
        return seq is not None

    def refuse(self, why: str) -> None:
        """Answer that it cannot be done."""
        self.session.publish_event(self.event("response", {"text": why, "refused": True}))

    def event(
        self,
        type_: str,
        data: Object,
        *,
        run_id: str | None = None,
        transient: bool = False,
        final: bool = False,
        expects_reply: bool = False,
    ) -> Event:
        """Make an event that answers the message."""
        return Event(
            type=type_,
            data=data,
            event_id=str(uuid.uuid4()),
            timestamp=time.time(),
            run_id=run_id,
            request_id=self.message.request_id,
            transient=transient or None,
            final=final or None,
            expects_reply=expects_reply or None,
        )


@frozen
class Run:
    """What an `abort` can stop: a `tokens` or a `sleep` that is under way."""

    request_id: str | None
    run_id: str = field(factory=lambda: str(uuid.uuid4()))
    _aborted: anyio.Event = field(factory=anyio.Event)

    def abort(self, abort: AbortRequested) -> None:
        """Stop, if this is the run that is meant."""
        named = abort.run_id in {None, self.run_id}
        if named and abort.request_id in {None, self.request_id}:
            self._aborted.set()

    async def aborted_within(self, seconds: float) -> bool:
        """Wait so long, or until it is to stop; whether that is so."""
        if seconds:
            with anyio.move_on_after(seconds):
                await self._aborted.wait()
        else:
            await checkpoint()
        return self._aborted.is_set()


class DemoAgent(Application):
    """The agent of `gatewayproto serve`.

    - `tokens N [MS]`: a run of N transient `token` events, MS milliseconds apart, and its final.
    - `burst N`: N durable `note` events.
    - `sleep S TEXT`: TEXT after S seconds.
    - `ask TEXT`: a `question` that expects a reply; the reply is echoed.
    - Anything else is echoed, these words with other arguments too.

    An abort ends a run of tokens with what there is of the text, a sleep with an empty one: a final
    with `data.aborted` true, which is all that is said of it.

    A number that is too large is answered with a `response` that says so, `data.refused` true: an N
    above `MAX_EVENTS`, a time above `MAX_SECONDS`, a run whose final would not fit into an event.
    """

    def __init__(
        self, *, agent_ids: Sequence[str], tokens: Sequence[str], config: GatewayConfig
    ) -> None:
        self._agent_ids = frozenset(agent_ids)
        self._tokens = TokenBook(tokens)
        self._max_event = config.max_event
        self._runs: dict[str, Run] = {}  # by session, in which one message is worked on at a time

    async def authenticate(self, join: JoinRequested) -> str | None:
        """Who may come; which agents there are is told only to those who may."""
        principal = self._tokens.principal(join.token)
        if join.agent_id not in self._agent_ids:
            raise Rejected(ErrorCode.AGENT_NOT_FOUND, "there is no such agent here")
        return principal

    async def on_message(self, session: SessionHandle, message: MessageReceived) -> None:
        """Do what the message says."""
        task, text = Task(session, message), text_of(message.content)
        if message.reply_to is not None:
            task.publish("response", {"text": text, "reply_to": message.reply_to})
        elif found := _TOKENS.fullmatch(text):
            await self._tokens_run(task, float(found[1]), float(found[2] or 0) / 1000)
        elif found := _BURST.fullmatch(text):
            await self._burst(task, float(found[1]))
        elif found := _SLEEP.fullmatch(text):
            await self._sleep(task, float(found[1]), found[2])
        elif found := _ASK.fullmatch(text):
            task.publish("question", {"text": found[1]}, expects_reply=True)
        else:
            task.publish("response", {"text": text})

    def on_abort(self, session: SessionHandle, abort: AbortRequested) -> None:
        """Stop what runs in this session, if that is meant; too late is no failure."""
        run = self._runs.get(session.session_id)
        if run is not None:
            run.abort(abort)

    @contextmanager
    def _run(self, task: Task) -> Generator[Run, None, None]:
        """What can be aborted during the block."""
        run = self._runs[task.session.session_id] = Run(task.message.request_id)
        try:
            yield run
        finally:
            del self._runs[task.session.session_id]

    async def _tokens_run(self, task: Task, count: float, pause: float) -> None:
        with self._run(task) as run:
            if count > MAX_EVENTS or pause > MAX_SECONDS:
                task.refuse(f"at most {MAX_EVENTS} tokens, at most {MAX_SECONDS:.0f} s apart")
            elif _size(_final(task, run, "", aborted=True)) + _text_size(int(count)) > (
                self._max_event
            ):
                task.refuse("the whole text would not fit into an event")
            else:
                words = [f"t{number} " for number in range(int(count))]
                said = await _stream(task, run, words, pause)
                if said is not None:
                    text = "".join(words[:said])
                    task.session.publish_event(_final(task, run, text, aborted=said < len(words)))

    async def _burst(self, task: Task, count: float) -> None:
        if count > MAX_EVENTS:
            task.refuse(f"at most {MAX_EVENTS} notes")
            return
        for number in range(1, int(count) + 1):
            if not task.publish("note", {"n": number}):
                return
            if number % _SLICE == 0:
                await checkpoint()

    async def _sleep(self, task: Task, seconds: float, text: str) -> None:
        if seconds > MAX_SECONDS:
            task.refuse(f"at most {MAX_SECONDS:.0f} s")
            return
        with self._run(task) as run:
            if await run.aborted_within(seconds):
                task.session.publish_event(_final(task, run, "", aborted=True))
                return
        task.publish("response", {"text": text})


async def _stream(task: Task, run: Run, words: list[str], pause: float) -> int | None:
    """Publish a run's transient events; how many there were, None where the session is gone."""
    for number, word in enumerate(words):
        if number and (pause or number % _SLICE == 0) and await run.aborted_within(pause):
            return number
        event = task.event("token", {"text": word}, run_id=run.run_id, transient=True)
        if task.session.publish_event(event) is None:
            return None
    return len(words)


def _final(task: Task, run: Run, text: str, *, aborted: bool) -> Event:
    data: Object = {"text": text, "aborted": True} if aborted else {"text": text}
    return task.event("response", data, run_id=run.run_id, final=True)


def text_of(content: str | Object) -> str:
    """A message's text: its content, or the content's `text`; empty where neither is one."""
    text = content if isinstance(content, str) else content.get("text")
    return text if isinstance(text, str) else ""


def _text_size(count: int) -> int:
    """The length of `t0 t1 … ` with so many tokens, without building it."""
    size, digits, first = 0, 1, 0
    while first < count:
        last = min(count, 10**digits)
        size += (last - first) * (digits + 2)
        first, digits = last, digits + 1
    return size


def _size(event: Event) -> int:
    return len(codec.encode_event(event, max_depth=MAX_DEPTH))


def _bytes(token: str) -> bytes:
    # A token from the command line may hold bytes that are no text.
    return token.encode("utf-8", "surrogatepass")
