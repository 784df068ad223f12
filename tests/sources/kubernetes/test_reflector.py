"""Following a Kubernetes API over real HTTP: pages, watches, what breaks and what is forgotten."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from controlplane.config import KubernetesApi
from controlplane.sources.kubernetes import api_answers
from controlplane.sources.kubernetes import client as client_module
from controlplane.sources.kubernetes import reflector as reflector_module
from controlplane.sources.kubernetes.access import AccessError, place_of
from controlplane.sources.kubernetes.api_answers import ApiError, Failure
from controlplane.sources.kubernetes.client import ApiClient, new_session
from controlplane.sources.kubernetes.objects import INFERENCE_POOLS, PODS, Pod
from controlplane.sources.kubernetes.reflector import Reflector
from controlplane.sources.kubernetes.watches import Watch
from testbed.background import running_task
from testbed.fakes.certificates import Authority
from testbed.fakes.kubernetes_api import KubernetesApiServer, serving_kubernetes
from testbed.fakes.kubernetes_objects import make_pod
from testbed.fakes.web_servers import serving_routes

PATIENCE = 60.0


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try again soon."""
    monkeypatch.setattr(reflector_module, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(reflector_module, "LEAST_WATCH", 0.01)


class Followed:
    """A follower that runs, and what it called back."""

    def __init__(self, follower: Reflector, changed: asyncio.Event, counts: list[str]) -> None:
        self.follower = follower
        self.counts = counts
        self.changes = 0
        self._changed = changed

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until *condition* holds."""
        async with asyncio.timeout(PATIENCE):
            while not condition():
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._changed.wait(), 0.02)
                self._changed.clear()

    async def until_there(self, *names: str) -> None:
        """Wait until exactly the pods of these names are known."""
        await self.until(lambda: {name for _, name in self.follower.objects} == set(names))


@contextlib.asynccontextmanager
async def following(
    url: str,
    *,
    wanted: Watch | None = None,
    watch_seconds: float = 60.0,
    relist_seconds: float = 600.0,
    **api: Any,
) -> AsyncIterator[Followed]:
    """Follow pods of the namespace ``default`` for the duration of the block."""
    changed = asyncio.Event()
    counts: list[str] = []
    async with new_session() as session:
        follower = Reflector(
            wanted or Watch(PODS, "default"),
            ApiClient(KubernetesApi(server=url, **api), session),
            on_change=changed.set,
            count=lambda verb, outcome: counts.append(f"{verb} {outcome}"),
            watch_seconds=watch_seconds,
            relist_seconds=relist_seconds,
        )
        async with running_task(follower.run()):
            yield Followed(follower, changed, counts)


async def test_changes_follow_the_list_without_another_list() -> None:
    """Added, changed, deleted; of its namespace and its selector only."""
    server = KubernetesApiServer()
    async with serving_kubernetes(server):
        app = {"app": "x"}
        server.put("pods", make_pod("a", "10.0.0.1", labels=app))
        server.put("pods", make_pod("other", "10.0.0.9"))
        server.put("pods", make_pod("away", "10.0.0.9", labels=app, namespace="elsewhere"))
        wanted = Watch(PODS, "default", "app in (x, y),!old")
        async with following(server.url, wanted=wanted) as followed:
            await followed.until_there("a")
            server.put("pods", make_pod("b", "10.0.0.2", labels=app))
            await followed.until_there("a", "b")
            server.put("pods", make_pod("a", "10.0.0.3", labels=app))
            await followed.until(lambda: ip_of(followed, "a") == "10.0.0.3")
            server.delete("pods", "a")
            await followed.until_there("b")
            server.put("pods", make_pod("b", "10.0.0.2", labels={"app": "x", "old": ""}))
            await followed.until_there()

    assert 1 == full_lists(server)
    assert followed.follower.failure is None


def full_lists(server: KubernetesApiServer) -> int:
    """Return how many lists were asked for; a look at the version alone asks for one object."""
    return sum(verb == "list" and query["limit"] != "1" for verb, _, query in server.asked)


def ip_of(followed: Followed, name: str) -> str:
    """Return a pod's address as it is known."""
    pod = followed.follower.objects["default", name]
    assert isinstance(pod, Pod)
    return pod.ip


async def test_a_long_list_comes_in_pages_and_is_seen_as_a_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No Envoy is given of a part of it."""
    monkeypatch.setattr(reflector_module, "PAGE_LIMIT", 10)
    server = KubernetesApiServer()
    sizes: list[int] = []
    async with serving_kubernetes(server):
        for number in range(35):
            server.put("pods", make_pod(f"p{number}", f"10.0.0.{number + 1}"))
        async with following(server.url) as followed:
            follower = followed.follower
            follower._on_change = lambda: sizes.append(len(follower.objects))
            await followed.until(lambda: follower.listed)

    assert [35] == sizes
    assert 4 == sum(verb == "list" for verb, *_ in server.asked)


async def test_a_broken_connection_goes_on_where_it_was() -> None:
    """From the version of the last bookmark, without a list, and without a change missed."""
    server = KubernetesApiServer()
    async with serving_kubernetes(server):
        server.put("pods", make_pod("a", "10.0.0.1"))
        async with following(server.url) as followed:
            await followed.until_there("a")
            # Other kinds move the version on; only bookmarks say of it.
            for number in range(50):
                server.put("nodes", {"metadata": {"name": f"n{number}"}})
            moved_on = server._version
            await followed.until(lambda: followed.follower._version == str(moved_on))
            server.break_connections()
            server.put("pods", make_pod("b", "10.0.0.2"))
            await followed.until_there("a", "b")

    watched = [int(query["resourceVersion"]) for verb, _, query in server.asked if verb == "watch"]
    assert 1 == full_lists(server)
    assert moved_on == watched[-1]


async def test_a_watch_that_ends_is_asked_for_again() -> None:
    """In good order, as often as it takes."""
    server = KubernetesApiServer()
    async with serving_kubernetes(server), following(server.url, watch_seconds=1.0) as followed:
        await followed.until(lambda: followed.counts.count("watch ok") >= 2)
        server.put("pods", make_pod("a", "10.0.0.1"))
        await followed.until_there("a")

    assert ["list ok"] == [each for each in followed.counts if each.startswith("list")]


async def test_a_forgotten_version_is_listed_anew() -> None:
    """410 Gone in a watch: what went meanwhile goes, what came comes, at once."""
    server = KubernetesApiServer()
    async with serving_kubernetes(server):
        server.put("pods", make_pod("a", "10.0.0.1"))
        async with following(server.url) as followed:
            await followed.until_there("a")
            server.forget()
            server.break_connections()
            server.delete("pods", "a")
            server.put("pods", make_pod("b", "10.0.0.2"))
            server.forget()
            await followed.until_there("b")
            server.put("pods", make_pod("c", "10.0.0.3"))
            await followed.until_there("b", "c")

    assert "watch expired" in followed.counts
    assert 2 == followed.counts.count("list ok")


async def test_versions_that_went_back_are_listed_again() -> None:
    """After a restore of etcd a watch from the old version would stay silent for hours."""
    server = KubernetesApiServer()
    async with serving_kubernetes(server):
        server.put("pods", make_pod("a", "10.0.0.1"))
        backup = server.backup()
        async with following(server.url) as followed:
            for number in range(20):
                server.put("pods", make_pod("b", f"10.0.0.{number}"))
            await followed.until_there("a", "b")
            await followed.until(lambda: server.watches("pods") == 1)
            server.restore(backup)
            server.put("pods", make_pod("c", "10.0.0.3"))
            server.break_connections()
            await followed.until_there("a", "c")
            server.put("pods", make_pod("d", "10.0.0.4"))
            await followed.until_there("a", "c", "d")

    assert 2 == full_lists(server)
    assert followed.follower.failure is None


async def test_an_open_watch_notices_at_its_end_that_versions_went_back() -> None:
    """Without a broken connection, and without an event."""
    server = KubernetesApiServer()
    async with serving_kubernetes(server):
        backup = server.backup()
        async with following(server.url, watch_seconds=1.0) as followed:
            for number in range(20):
                server.put("pods", make_pod("a", f"10.0.0.{number}"))
            await followed.until_there("a")
            await followed.until(lambda: server.watches("pods") == 1)
            server.restore(backup)
            await followed.until_there()


async def test_versions_that_went_back_and_passed_ours_end_with_the_next_relist() -> None:
    """What was deleted by the restore is in no event."""
    server = KubernetesApiServer()
    async with serving_kubernetes(server):
        backup = server.backup()
        async with following(server.url, watch_seconds=1.0, relist_seconds=1.0) as followed:
            server.put("pods", make_pod("a", "10.0.0.1"))
            await followed.until_there("a")
            server.restore(backup)
            for number in range(20):
                server.put("nodes", {"metadata": {"name": f"n{number}"}})
            await followed.until_there()


async def test_a_server_that_restarts_costs_a_list_and_no_failure() -> None:
    """Its watches break, and 410 answers the versions that clients hold."""
    server = KubernetesApiServer()
    async with serving_kubernetes(server):
        server.put("pods", make_pod("a", "10.0.0.1"))
        async with following(server.url) as followed:
            await followed.until_there("a")
            server.put("pods", make_pod("b", "10.0.0.2"))
            server.restart()
            await followed.until_there("a", "b")
            await followed.until(lambda: followed.counts.count("list ok") == 2)

    assert followed.follower.failure is None


async def test_a_throttling_server_is_waited_for() -> None:
    """429 with Retry-After is answered with patience."""
    server = KubernetesApiServer(throttled=1, retry_after=1)
    async with serving_kubernetes(server):
        server.put("pods", make_pod("a", "10.0.0.1"))
        async with following(server.url) as followed:
            began_at = asyncio.get_running_loop().time()
            await followed.until_there("a")
            waited = asyncio.get_running_loop().time() - began_at

    assert "list busy" == followed.counts[0]
    assert waited >= 1.0


async def test_roles_that_arrive_late_are_waited_for() -> None:
    """An overlay is applied object by object: 403 until its RoleBinding is there."""
    server = KubernetesApiServer(denied={"pods"})
    async with serving_kubernetes(server):
        server.put("pods", make_pod("a", "10.0.0.1"))
        async with following(server.url) as followed:
            await followed.until(lambda: followed.counts.count("list denied") >= 2)
            denied = followed.follower.failure
            server.denied.clear()
            await followed.until_there("a")
            await followed.until(lambda: followed.follower.failure is None)

    assert denied is not None
    assert Failure.DENIED is denied.failure


async def test_a_forgotten_page_begins_the_list_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """410 Gone between two pages."""
    monkeypatch.setattr(reflector_module, "PAGE_LIMIT", 10)
    server = KubernetesApiServer()
    lists = 0
    listed = server._list

    def forgetful(*arguments: Any) -> web.Response:
        nonlocal lists
        lists += 1
        if lists == 2:
            server.forget()
        return listed(*arguments)

    monkeypatch.setattr(server, "_list", forgetful)
    async with serving_kubernetes(server):
        for number in range(15):
            server.put("pods", make_pod(f"p{number}", f"10.0.0.{number + 1}"))
        async with following(server.url) as followed:
            await followed.until(lambda: len(followed.follower.objects) == 15)

    assert ["list expired", "list ok"] == followed.counts[:2]


async def test_the_same_list_again_is_no_change() -> None:
    """No one is asked to decide again because the API has a short memory."""
    server = KubernetesApiServer()
    async with serving_kubernetes(server):
        server.put("pods", make_pod("a", "10.0.0.1"))
        async with following(server.url) as followed:
            await followed.until_there("a")
            changes: list[int] = []
            followed.follower._on_change = lambda: changes.append(1)
            server.forget()
            server.break_connections()
            await followed.until(lambda: followed.counts.count("list ok") == 2)

    assert [] == changes


@pytest.mark.parametrize(
    ("change", "failure", "remedy"),
    [
        pytest.param(
            {"denied": {"pods"}},
            Failure.DENIED,
            "grant the service account get, list and watch on pods in namespace default",
            id="403",
        ),
        pytest.param(
            {"tokens": {"other"}},
            Failure.DENIED,
            "the token is rejected; check who issues it",
            id="401",
        ),
        pytest.param(
            {"absent": {"pods"}},
            Failure.UNKNOWN,
            "is pods in namespace default installed in the cluster?",
            id="404",
        ),
        pytest.param({"busy": True}, Failure.BUSY, "check the API server", id="503"),
    ],
)
async def test_a_refusal_is_reported_with_its_remedy_and_what_is_known_stays(
    change: dict[str, Any], failure: Failure, remedy: str
) -> None:
    """Until it is fixed, which is noticed."""
    server = KubernetesApiServer()
    before = {key: getattr(server, key) for key in change}
    async with serving_kubernetes(server):
        server.put("pods", make_pod("a", "10.0.0.1"))
        async with following(server.url) as followed:
            follower = followed.follower
            await followed.until_there("a")
            for key, value in change.items():
                setattr(server, key, value)
            server.break_connections()
            await followed.until(lambda: follower.failure is not None)
            reported = follower.failure
            known = len(follower.objects)
            for key, value in before.items():
                setattr(server, key, value)
            server.put("pods", make_pod("b", "10.0.0.2"))
            await followed.until_there("a", "b")
            await followed.until(lambda: follower.failure is None)

    assert reported is not None
    assert (failure, remedy, 1) == (reported.failure, reported.remedy, known)


async def test_one_broken_watch_is_no_failure() -> None:
    """An API server that restarts breaks every watch; no one is woken for it."""
    server = KubernetesApiServer()
    failures: list[ApiError] = []
    async with serving_kubernetes(server), following(server.url) as followed:
        await followed.until(lambda: server.watches("pods") == 1)
        followed.follower._on_change = lambda: failures.extend(
            filter(None, [followed.follower.failure])
        )
        server.break_connections()
        await followed.until(lambda: [verb for verb, *_ in server.asked].count("watch") == 2)

    assert ["watch unreachable"] == [each for each in followed.counts if "unreachable" in each]
    assert [] == failures


async def test_a_rotated_token_and_a_renewed_authority_are_taken(tmp_path: Path) -> None:
    """Both are files that someone else replaces."""
    authority = Authority(tmp_path)
    pair = authority.issue("127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.cert, pair.key)
    token = tmp_path / "token"
    token.write_text("first\n")
    server = KubernetesApiServer(tokens={"first"})
    async with (
        serving_kubernetes(server, tls=context),
        following(server.url, ca=str(authority.ca), token_file=str(token)) as followed,
    ):
        await followed.until(lambda: followed.follower.listed)
        token.write_text("second")
        renewed = Authority(tmp_path, name="renewed")
        again = renewed.issue("127.0.0.1", over=pair)
        context.load_cert_chain(again.cert, again.key)
        authority.ca.write_bytes(renewed.ca.read_bytes())
        server.tokens = {"second"}
        server.break_connections()
        server.put("pods", make_pod("a", "10.0.0.1"))
        await followed.until_there("a")

    assert 1 == full_lists(server)


async def test_an_authority_that_did_not_sign_is_not_believed(tmp_path: Path) -> None:
    """And the token is not sent to anyone who answers."""
    authority, other = Authority(tmp_path), Authority(tmp_path, name="other")
    pair = authority.issue("127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.cert, pair.key)
    token = tmp_path / "token"
    token.write_text("secret-token")
    server = KubernetesApiServer(tokens={"secret-token"})
    async with (
        serving_kubernetes(server, tls=context),
        following(server.url, ca=str(other.ca), token_file=str(token)) as followed,
    ):
        await followed.until(lambda: followed.follower.failure is not None)
        failure = followed.follower.failure

    assert failure is not None
    assert Failure.UNREACHABLE is failure.failure
    assert "secret-token" not in str(failure)
    assert [] == server.asked


async def test_more_objects_than_are_kept_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was known stays."""
    monkeypatch.setattr(reflector_module, "MAX_OBJECTS", 3)
    server = KubernetesApiServer()
    async with serving_kubernetes(server):
        for number in range(3):
            server.put("pods", make_pod(f"p{number}", f"10.0.0.{number + 1}"))
        async with following(server.url) as followed:
            follower = followed.follower
            await followed.until_there("p0", "p1", "p2")
            server.put("pods", make_pod("p3", "10.0.0.9"))
            await followed.until(lambda: follower.failure is not None)
            failure = follower.failure
            await followed.until_there("p0", "p1", "p2")
            server.delete("pods", "p0")
            await followed.until_there("p1", "p2", "p3")

    assert failure is not None
    assert ("more than 3 pods", "narrow the rule's selector") == (str(failure), failure.remedy)


async def test_an_object_that_cannot_be_read_is_left_out() -> None:
    """It is counted, and the others are known."""
    server = KubernetesApiServer()
    async with serving_kubernetes(server):
        server.put("pods", make_pod("a", "10.0.0.1"))
        listed = server._objects["pods", "default", "a"]
        server._objects["pods", "default", "?"] = {"metadata": {"labels": listed}}
        async with following(server.url) as followed:
            await followed.until_there("a")

    assert "read malformed" in followed.counts


class Answers:
    """An HTTP server that answers what it is reported, one answer a request; the last one stays."""

    def __init__(self, *answers: Callable[[web.Request], Any]) -> None:
        self.answers = list(answers)
        self.url = ""
        self.requests = 0

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer."""
        self.requests += 1
        chosen = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        result: web.StreamResponse = await chosen(request)
        return result


@contextlib.asynccontextmanager
async def answering(*answers: Callable[[web.Request], Any]) -> AsyncIterator[Answers]:
    """Serve *answers*."""
    served = Answers(*answers)
    async with serving_routes(web.get("/{path:.*}", served.answer)) as port:
        served.url = f"http://127.0.0.1:{port}"
        yield served


def text(body: str, *, status: int = 200, **headers: str) -> Callable[[web.Request], Any]:
    """Answer with *body*."""

    async def answer(_request: web.Request) -> web.Response:
        return web.Response(
            text=body,
            status=status,
            headers={key.replace("_", "-"): value for key, value in headers.items()},
        )

    return answer


EMPTY = '{"metadata": {"resourceVersion": "1"}, "items": []}'


@pytest.mark.parametrize(
    ("body", "failure"),
    [
        pytest.param("[]", Failure.MALFORMED, id="no object"),
        pytest.param("{", Failure.MALFORMED, id="no JSON"),
        pytest.param("[" * 100_000, Failure.MALFORMED, id="too deep"),
        pytest.param('{"items": 7, "metadata": {}}', Failure.MALFORMED, id="no list"),
        pytest.param('{"items": [], "metadata": {}}', Failure.MALFORMED, id="no version"),
        pytest.param(" " * 2000, Failure.TOO_LARGE, id="too long"),
    ],
)
async def test_an_answer_that_is_no_list_is_refused(
    body: str, failure: Failure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Anyone who answers in the API's place cannot make us fall."""
    monkeypatch.setattr(client_module, "MAX_PAGE", 1000 if body.isspace() else 1_000_000)
    async with answering(text(body)) as served, new_session() as session:
        with pytest.raises(ApiError) as caught:
            await ApiClient(KubernetesApi(server=served.url), session).list_page(PODS, "default")

    assert failure is caught.value.failure


async def test_pages_of_large_objects_hold_fewer_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until they fit into what a page may be; one object always has to."""
    monkeypatch.setattr(client_module, "MAX_PAGE", 12_000)
    server = KubernetesApiServer()
    async with serving_kubernetes(server):
        for number in range(60):
            server.put("pods", make_pod(f"p{number}", "10.0.0.1", labels={"x": "y" * 1000}))
        async with following(server.url) as followed:
            await followed.until(lambda: len(followed.follower.objects) == 60)
    limits = [int(query["limit"]) for verb, _, query in server.asked if verb == "list"]

    assert [250, 125, 62, 31, 15, 7] == list(dict.fromkeys(limits))
    assert followed.follower.failure is None


async def test_a_list_without_end_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is it asked for again and again without a pause."""
    monkeypatch.setattr(reflector_module, "MAX_PAGES", 10)
    page = '{"metadata": {"resourceVersion": "1", "continue": "on"}, "items": []}'
    async with answering(text(page)) as served, following(served.url) as followed:
        await followed.until(lambda: followed.follower.failure is not None)
        failure = followed.follower.failure

    assert failure is not None
    assert "a list of more than 10 pages" == str(failure)


async def test_a_wait_that_the_server_asks_for_is_kept_within_bounds() -> None:
    """And a refusal's words are printable and short."""
    calm = json.dumps({"message": "calm\a " + "x" * 999})
    async with (
        answering(text(calm, status=429, Retry_After="99999")) as served,
        new_session() as session,
    ):
        with pytest.raises(ApiError) as caught:
            await ApiClient(KubernetesApi(server=served.url), session).list_page(PODS, "default")

    assert (Failure.BUSY, 60.0) == (caught.value.failure, caught.value.retry_after)
    assert str(caught.value).startswith("status 429: calm  xxx")
    assert len(str(caught.value)) < 400


async def test_a_redirect_is_not_followed() -> None:
    """The token would go with it."""
    async with (
        answering(text("", status=302, Location="http://127.0.0.1:1/")) as served,
        new_session() as session,
    ):
        with pytest.raises(ApiError) as caught:
            await ApiClient(KubernetesApi(server=served.url), session).list_page(PODS, "default")

    assert Failure.REFUSED is caught.value.failure


async def test_a_change_without_end_breaks_the_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that is sent is kept without a bound."""
    monkeypatch.setattr(api_answers, "MAX_CHANGE", 10_000)

    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        with contextlib.suppress(ConnectionResetError, aiohttp.ClientError):
            while True:
                await response.write(b"x" * 1000)
        return response

    async with answering(text(EMPTY), endless) as served, following(served.url) as followed:
        await followed.until(lambda: "watch malformed" in followed.counts)


async def test_a_watch_that_stands_silent_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that is gone without a word costs one watch, not all time."""
    monkeypatch.setattr(client_module, "WATCH_GRACE", 0.2)
    ends = asyncio.Event()

    async def silent(request: web.Request) -> web.StreamResponse:
        if "watch" not in request.query:
            listed: web.Response = await text(EMPTY)(request)
            return listed
        response = web.StreamResponse()
        await response.prepare(request)
        await ends.wait()
        return response

    async with (
        answering(text(EMPTY), silent) as served,
        following(served.url, watch_seconds=0.1) as followed,
    ):
        await followed.until(lambda: followed.counts.count("watch unreachable") > 1)
        failure = followed.follower.failure
        ends.set()

    assert failure is not None
    assert "no answer in time" == str(failure)


def test_a_pod_learns_where_the_api_is() -> None:
    """Without that, and without a server in the configuration, there is no one to ask."""
    place = place_of(
        KubernetesApi(), {"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "443"}
    )

    assert "https://[fd00::1]:443" == place.url
    assert str(place.token_file).endswith("/serviceaccount/token")
    with pytest.raises(AccessError, match="not a pod of a cluster"):
        place_of(KubernetesApi(), {})


async def test_a_kind_that_is_not_installed_is_named() -> None:
    """InferencePools are an extension."""
    server = KubernetesApiServer(absent={"inferencepools"})
    async with serving_kubernetes(server), new_session() as session:
        with pytest.raises(ApiError) as caught:
            await ApiClient(KubernetesApi(server=server.url), session).list_page(
                INFERENCE_POOLS, "default"
            )

    assert (
        "is inferencepools.inference.networking.k8s.io in namespace default installed in the"
        " cluster?" == caught.value.remedy
    )
