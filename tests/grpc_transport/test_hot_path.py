"""The hot path beside h2 against h2 alone, and the whole connection against noise.

``make fuzz`` runs the same properties for longer, guided towards long conversations.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import hypothesis
from h2.connection import H2Connection
from h2.windows import WindowManager
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.grpc_transport.connection import Connection, Kind
from controlplane.grpc_transport.limits import Limits, Pool
from controlplane.grpc_transport.served import ServerConnection
from controlplane.grpc_transport.status import StatusCode
from controlplane.grpc_transport.stream import Stream
from testbed import http2

EXAMPLES = int(os.environ.get("CATS_FUZZ_EXAMPLES", "150"))
LIMITS = Limits(window=70_000, connection_window=100_000, max_message=200_000, max_held=150_000)

Step = tuple[str, int]


class Conversation:
    """A server that echoes every message, and a client that sends what it is given."""

    def __init__(self, limits: Limits = LIMITS) -> None:
        self.pool = Pool()
        self.connection = ServerConnection(limits, now=0.0, peer="ipv4:192.0.2.1:1", pool=self.pool)
        self.connection.wake = lambda: None
        self.sent: list[bytes] = []
        self.messages: list[tuple[int, bytes]] = []
        self.calls: list[Stream] = []
        self.feed(http2.PREFACE + http2.settings())

    def feed(self, chunk: bytes) -> None:
        """Let the server take bytes."""
        if not self.connection.closing:
            self.connection.receive(chunk, now=0.0)
        while self.connection.step(now=0.0):
            self.handle()
        self.handle()

    def handle(self) -> None:
        """Serve what happened."""
        connection = self.connection
        while connection.events:
            event = connection.events.popleft()
            stream = event.stream
            if stream is None or stream.is_over:
                continue
            if event.kind is Kind.OPENED:
                self.calls.append(stream)
            elif event.kind is Kind.MESSAGE:
                self.messages.append((stream.stream_id, event.message))
                stream.send(event.message[:1], event.message[1:])
            elif event.kind is Kind.HALF_CLOSED:
                stream.finish(StatusCode.OK)
        self.sent += connection.output
        connection.output.clear()

    def windows(self) -> list[int]:
        """Return h2's accounts: what each side may still send."""
        owner: Any = self.connection.h2
        return [
            owner.outbound_flow_control_window,
            owner.inbound_flow_control_window,
            *(each.h2.outbound_flow_control_window for each in self.calls),
            *(each.h2.inbound_flow_control_window for each in self.calls),
        ]


def write_through_h2(self: Stream, head: bytes, body: bytes, frame_size: int) -> None:
    """Write a message as h2 does, frame by frame."""
    owner, content = self.connection.h2, head + body
    # The caller has taken the windows already.
    self.h2.outbound_flow_control_window += len(content)
    owner.outbound_flow_control_window += len(content)
    for start in range(0, len(content), frame_size):
        owner.send_data(self.stream_id, content[start : start + frame_size])
    self.connection.collect()


def talk(script: list[Step], split: list[int]) -> Conversation:
    """Run a script of messages, window updates and settings on two calls."""
    conversation = Conversation()
    for stream in (1, 3):
        conversation.feed(http2.headers(stream, flags=http2.END_HEADERS))
    waiting = {1: b"", 3: b""}
    for number, (what, size) in enumerate(script):
        stream = 1 + 2 * (number % 2)
        if what == "message":
            waiting[stream] += http2.message(bytes([number % 256]) * size)
        elif what == "window":
            conversation.feed(http2.window(size + 1) + http2.window(size + 1, stream))
        else:
            conversation.feed(http2.settings((http2.INITIAL_WINDOW, size)))
        call = conversation.connection.streams.get(stream)
        cuts = [split[number % len(split)]] * 12
        while call is not None and waiting[stream]:
            owner = conversation.connection.h2
            cut = cuts.pop() if cuts else 16_384
            room = min(
                cut, call.h2.inbound_flow_control_window, owner.inbound_flow_control_window, 16_384
            )
            if room <= 0:
                break
            chunk, waiting[stream] = waiting[stream][:room], waiting[stream][room:]
            conversation.feed(http2.data(stream, chunk))
    return conversation


SCRIPTS = st.lists(
    st.one_of(
        st.tuples(st.just("message"), st.integers(0, 60_000)),
        st.tuples(st.just("window"), st.integers(0, 100_000)),
        st.tuples(st.just("settings"), st.integers(0, 100_000)),
    ),
    max_size=10,
)
SPLITS = st.lists(st.integers(1, 16_384), min_size=1, max_size=4)


@settings(max_examples=EXAMPLES, deadline=None)
@given(SCRIPTS, SPLITS)
def test_the_hot_path_answers_as_h2_alone_does(script: list[Step], split: list[int]) -> None:
    """The same bytes leave, the same messages arrive, and h2's windows are the same after."""
    ours = talk(script, split)
    never: Callable[..., bool] = lambda *_: False  # noqa: E731 -- h2 sees every frame
    with (
        patch.object(Connection, "_take_data", never),
        patch.object(Stream, "_write", write_through_h2),
    ):
        theirs = talk(script, split)

    hypothesis.target(float(len(ours.messages)))
    assert b"".join(theirs.sent) == b"".join(ours.sent)
    assert theirs.messages == ours.messages
    assert theirs.windows() == ours.windows()


def test_h2_still_has_what_the_hot_path_keeps_true() -> None:
    """An h2 that keeps its accounts elsewhere must fail here, not in production."""
    owner = H2Connection()
    assert isinstance(owner._inbound_flow_control_window_manager, WindowManager)
    assert isinstance(owner.outbound_flow_control_window, int)
    assert owner.max_outbound_frame_size == 16_384
    stream = owner._begin_new_stream(1, allowed_ids=1)  # type: ignore[arg-type]
    assert isinstance(stream._inbound_window_manager, WindowManager)
    assert stream._expected_content_length is None
    assert stream._actual_content_length == 0


FRAMES = st.one_of(
    st.tuples(
        st.integers(0, 12),
        st.sampled_from([0, 0, 1, 4, 5, 8, 0x20, 0xFF]),
        st.sampled_from([0, 1, 1, 1, 2, 3, 5, 2**31 - 1]),
        st.one_of(st.binary(max_size=40), st.just(http2.block()), st.just(http2.message(b"m" * 9))),
    ).map(lambda parts: http2.frame(*parts)),
    st.integers(0, 6).map(lambda number: http2.headers(2 * number + 1, flags=http2.END_HEADERS)),
    st.integers(0, 6).map(lambda number: http2.data(2 * number + 1, http2.message(b"abc"))),
    st.integers(0, 6).map(lambda number: http2.reset(2 * number + 1)),
    st.integers(0, 1 << 17).map(http2.window),
    st.binary(max_size=30),
)


@settings(max_examples=2 * EXAMPLES, deadline=None)
@given(st.lists(FRAMES, max_size=25))
def test_noise_ends_a_connection_or_is_served_and_holds_nothing_after(chunks: list[bytes]) -> None:
    """Whatever comes in whatever order, nothing raises, and every account is settled at the end."""
    conversation = Conversation()
    for chunk in chunks:
        conversation.feed(chunk)
    connection = conversation.connection
    hypothesis.target(float(len(conversation.messages)))
    connection.check(now=1.0, delivered=0, waiting=False)
    connection.lost("end")

    assert 0 == conversation.pool.held
    assert all(call.is_over for call in conversation.calls)
    assert not connection.streams
