"""Everything that can be made to go wrong, as a client sees it and as the truth log tells it."""

from __future__ import annotations

import contextlib
import errno
import http.client
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from local.wise.control import SeededUser, WiseControlError, wait_until
from local.wise.faults import Delivery, Endpoint, Fault, Faults
from local.wise.running import RunningWise
from local.wise.truth import RequestTruth, Verdict
from tests.wise.client import CLIENT, FORM, Reply, WiseClient, basic

HTML = "<html><body>bad gateway</body></html>"


def last_request(wise: RunningWise) -> RequestTruth:
    wait_until(lambda: wise.control.requests() != [], 5, "a request")
    wise.control.wait_until_idle()
    return wise.control.requests()[-1]


def send_refresh(connection: http.client.HTTPSConnection, user: SeededUser) -> None:
    body = f"grant_type=refresh_token&refresh_token={user.refresh_token}"
    connection.request("POST", "/oauth/token", body, {"Content-Type": FORM, "Authorization": basic(*CLIENT)})


def give_up(wise: RunningWise, client: WiseClient, user: SeededUser) -> None:
    """Send a refresh and hang up once it has arrived."""
    known = len(wise.control.requests())
    with contextlib.closing(client.connection()) as connection:
        send_refresh(connection, user)
        wait_until(lambda: len(wise.control.requests()) > known, 5, "the request")


@contextlib.contextmanager
def refreshing(client: WiseClient, token: str, timeout_s: float = 10.0) -> Iterator[Future[Reply]]:
    """A refresh under way in another thread."""
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(client.refresh, token, timeout_s=timeout_s)


def test_next_calls_fail_with_the_given_answer_and_are_not_carried_out(
    wise: RunningWise, client: WiseClient, alice: SeededUser
) -> None:
    fault = wise.control.fail_next(
        2, status=503, headers={"Retry-After": "7", "X-Fixture": "yes"}, body='{"error":"server_error"}'
    )
    for _ in range(2):
        reply = client.refresh(alice.refresh_token)
        assert (reply.status, reply.json) == (503, {"error": "server_error"})
        assert (reply.headers["retry-after"], reply.headers["x-fixture"]) == ("7", "yes")
        assert "x-trace-id" in reply.headers
        told = last_request(wise)
        assert (told.fault, told.carried_out, told.outcome, told.status) == (fault, False, "not_carried_out", 503)
        assert told.delivered
    assert client.me(alice.access_token).status == 200
    assert client.refresh(alice.refresh_token).status == 200


def test_proxy_answers_without_what_wise_adds(wise: RunningWise, client: WiseClient, alice: SeededUser) -> None:
    wise.control.fail_next(status=502, body=HTML, from_edge=True)
    reply = client.refresh(alice.refresh_token, headers={"X-External-Correlation-Id": "fixture"})
    assert (reply.status, reply.body.decode(), reply.headers["content-type"]) == (502, HTML, "text/html")
    assert not {"x-trace-id", "x-external-correlation-id", "cache-control"} & set(reply.headers)


def test_failure_may_hide_that_the_refresh_was_carried_out(
    wise: RunningWise, client: WiseClient, alice: SeededUser
) -> None:
    wise.control.fail_next(status=502, body=HTML, from_edge=True, carry_out=True)
    assert client.refresh(alice.refresh_token).status == 502
    told = last_request(wise)
    assert (told.carried_out, told.outcome, told.status, told.access_ordinal) == (True, "refreshed", 502, 2)
    assert client.me(alice.access_token).status == 401


@pytest.mark.parametrize(("status", "headers"), [(302, {"Location": "https://localhost/x"}), (200, {}), (500, {})])
def test_any_status_can_be_answered(
    wise: RunningWise, client: WiseClient, alice: SeededUser, status: int, headers: dict[str, str]
) -> None:
    wise.control.fail_next(status=status, headers=headers)
    reply = client.refresh(alice.refresh_token)
    assert (reply.status, reply.body) == (status, b"")
    assert reply.headers.get("location") == headers.get("Location")


def test_fault_waits_for_its_user_and_its_endpoint(wise: RunningWise, client: WiseClient, alice: SeededUser) -> None:
    bob = wise.control.seed_user("bob")
    wise.control.fail_next(status=500, user="bob")
    wise.control.fail_next(status=403, user="bob", endpoint=Endpoint.ME, headers={"x-2fa-approval-result": "REJECTED"})
    assert client.refresh(alice.refresh_token).status == 200
    assert client.refresh("fixture-unknown-refresh-token").status == 400
    assert client.me(bob.access_token).headers["x-2fa-approval-result"] == "REJECTED"
    assert client.me(bob.access_token).status == 200
    assert client.refresh(bob.refresh_token).status == 500
    assert client.refresh(bob.refresh_token).status == 200
    wise.control.fail_next(status=500, user="bob", endpoint=Endpoint.ANY)
    assert client.me(bob.access_token).status == 500, "a dead token's owner is known too"


def test_answer_can_be_patched(wise: RunningWise, client: WiseClient, alice: SeededUser) -> None:
    wise.control.patch_next({"expires_in": "43199", "access_token": None, "novelty": {"a": [1]}})
    fields = client.refresh(alice.refresh_token).json
    assert (fields["expires_in"], fields["novelty"]) == ("43199", {"a": [1]})
    assert "access_token" not in fields
    assert last_request(wise).carried_out


def test_second_factor_is_asked_for_with_a_403_and_the_token_stays_good(
    wise: RunningWise, client: WiseClient, alice: SeededUser
) -> None:
    # docs.wise.com/guides/developer/auth-and-security/sca-over-api
    for endpoint, path in ((Endpoint.ME, "/v1/me"), (Endpoint.PROFILES, "/v2/profiles")):
        wise.control.demand_strong_authentication(endpoint=endpoint)
        reply = client.me(alice.access_token, path=path)
        assert (reply.status, reply.headers["x-2fa-approval-result"]) == (403, "REJECTED")
        assert len(reply.headers["x-2fa-approval"]) == 36
        assert client.me(alice.access_token, path=path).status == 200
    assert {use.verdict for use in wise.control.uses()} == {Verdict.LIVES}
    wise.control.demand_strong_authentication(2)
    asked = [client.me(alice.access_token).status for _ in range(3)]
    assert (asked, client.refresh(alice.refresh_token).status) == ([403, 403, 200], 200)


@pytest.mark.parametrize("body", ["{}", ""])
@pytest.mark.parametrize("retry_after_s", [5, None])
def test_throttling_answers_429_everywhere_and_carries_nothing_out(
    wise: RunningWise, client: WiseClient, alice: SeededUser, body: str, retry_after_s: int | None
) -> None:
    # docs.wise.com/guides/developer/errors
    wise.control.throttle(2, retry_after_s=retry_after_s, body=body)
    for reply in (client.refresh(alice.refresh_token), client.me(alice.access_token)):
        assert (reply.status, reply.body.decode()) == (429, body)
        assert reply.headers["x-rate-limited-by"] == "wise-public-api"
        assert reply.headers.get("retry-after") == (None if retry_after_s is None else "5")
    assert client.me(alice.access_token).status == 200


def test_throttling_ends_after_its_time() -> None:
    now = [100.0]
    faults = Faults(lambda: now[0])
    faults.add(Fault(times=None, for_s=30, status=429, endpoint=Endpoint.ANY))
    assert [faults.take(Endpoint.ME, None) is None for _ in range(3)] == [False] * 3
    now[0] += 30
    assert faults.take(Endpoint.ME, None) is None
    assert faults.waiting() == []


def test_unlimited_fault_lasts_until_it_is_cleared(wise: RunningWise, client: WiseClient, alice: SeededUser) -> None:
    first = wise.control.fail_next(None, status=500)
    second = wise.control.fail_next(3, status=503)
    assert [client.refresh(alice.refresh_token).status for _ in range(3)] == [500, 500, 500]
    assert wise.control.clear_faults(first) == 1
    assert client.refresh(alice.refresh_token).status == 503
    assert [(fault.id, fault.times) for fault in wise.control.faults()] == [(second, 2)]
    assert wise.control.clear_faults() == 1
    assert client.refresh(alice.refresh_token).status == 200


def test_slow_answer_comes_after_both_pauses(wise: RunningWise, client: WiseClient, alice: SeededUser) -> None:
    wise.control.answer_slowly(before_s=0.15, after_s=0.15)
    began = time.monotonic()
    assert client.refresh(alice.refresh_token).status == 200
    assert time.monotonic() - began >= 0.3
    told = last_request(wise)
    assert told.settled_ms is not None
    assert told.end_ms is not None
    assert told.settled_ms - told.begin_ms >= 149
    assert told.end_ms - told.settled_ms >= 149


def test_client_that_gives_up_before_the_answer_missed_a_refresh(
    wise: RunningWise, client: WiseClient, alice: SeededUser
) -> None:
    wise.control.answer_slowly(after_s=0.5)
    give_up(wise, client, alice)
    told = last_request(wise)
    assert (told.carried_out, told.delivered, told.status) == (True, False, None)
    assert told.client_gone_ms is not None


@pytest.mark.parametrize("delivery", [Delivery.DRIP_HEADERS, Delivery.DRIP_BODY])
def test_dripping_answer_arrives_whole_in_the_end(
    wise: RunningWise, client: WiseClient, alice: SeededUser, delivery: Delivery
) -> None:
    wise.control.deliver_next(delivery, drip_s=0)
    fields = client.refresh(alice.refresh_token).json
    assert client.me(fields["access_token"]).status == 200
    assert last_request(wise).delivered


@pytest.mark.parametrize("delivery", [Delivery.DRIP_HEADERS, Delivery.DRIP_BODY, Delivery.ENDLESS_BODY])
def test_dripping_and_endless_answers_outlive_a_timeout_per_read(
    wise: RunningWise, client: WiseClient, alice: SeededUser, delivery: Delivery
) -> None:
    wise.control.deliver_next(delivery, drip_s=0.02)
    with contextlib.closing(client.connection()) as connection:
        send_refresh(connection, alice)
        assert connection.sock is not None
        connection.sock.settimeout(1)
        seen = b""
        until = time.monotonic() + 0.3
        while time.monotonic() < until:
            seen += connection.sock.recv(4096)
        assert seen.startswith(b"HTTP/1.1")
    told = last_request(wise)
    assert (told.carried_out, told.delivered) == (True, False)


def test_truncated_answer_is_shorter_than_announced(wise: RunningWise, client: WiseClient, alice: SeededUser) -> None:
    wise.control.deliver_next(Delivery.TRUNCATED_BODY)
    with pytest.raises(http.client.IncompleteRead):
        client.refresh(alice.refresh_token)
    told = last_request(wise)
    assert (told.carried_out, told.delivered, told.status) == (True, False, 200)


@pytest.mark.parametrize("reset", [True, False])
@pytest.mark.parametrize("carried_out", [True, False])
def test_connection_is_lost_without_an_answer(
    wise: RunningWise,
    client: WiseClient,
    alice: SeededUser,
    reset: bool,  # noqa: FBT001  (a column)
    carried_out: bool,  # noqa: FBT001
) -> None:
    drop = wise.control.drop_after_carrying_out if carried_out else wise.control.drop_without_carrying_out
    drop(reset=reset)
    with contextlib.closing(client.connection()) as connection:
        send_refresh(connection, alice)
        told = last_request(wise)
        assert connection.sock is not None
        error = connection.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        assert error == (errno.ECONNRESET if reset else 0)
        with pytest.raises((ConnectionResetError, http.client.RemoteDisconnected)):
            connection.getresponse()
    assert (told.carried_out, told.delivered, told.status) == (carried_out, False, None)
    assert client.me(alice.access_token).status == (401 if carried_out else 200)


@pytest.mark.parametrize("reset", [True, False])
def test_refresh_is_carried_out_after_the_connection_was_lost(
    wise: RunningWise,
    client: WiseClient,
    alice: SeededUser,
    reset: bool,  # noqa: FBT001
) -> None:
    wise.control.carry_out_late(0.6, hang_up_first=True, reset=reset)
    with pytest.raises((ConnectionResetError, http.client.RemoteDisconnected)):
        client.refresh(alice.refresh_token)
    assert client.me(alice.access_token).status == 200, "not carried out yet"
    told = wise.control.requests()[-1]
    assert (told.settled_seq, told.end_seq, told.carried_out) == (None, None, False)
    told = last_request(wise)
    assert (told.carried_out, told.delivered) == (True, False)
    assert client.me(alice.access_token).status == 401


def test_refresh_is_carried_out_after_the_client_gave_up(
    wise: RunningWise, client: WiseClient, alice: SeededUser
) -> None:
    wise.control.carry_out_late(0.6)
    give_up(wise, client, alice)
    assert client.me(alice.access_token).status == 200
    told = last_request(wise)
    assert (told.carried_out, told.delivered) == (True, False)
    assert client.me(alice.access_token).status == 401


def test_late_refresh_kills_the_token_of_the_retry_that_came_before_it(
    wise: RunningWise, client: WiseClient, alice: SeededUser
) -> None:
    wise.control.carry_out_late(0.8, hang_up_first=True)
    with pytest.raises(http.client.RemoteDisconnected):
        client.refresh(alice.refresh_token)
    retried = client.refresh(alice.refresh_token).json["access_token"]
    assert client.me(retried).status == 200
    wise.control.wait_until_idle()
    assert client.me(retried).status == 401
    use = wise.control.uses()[-1]
    assert (use.verdict, use.ordinal, use.newest_ordinal) == (Verdict.DEAD, 2, 3)
    [overlap] = wise.control.overlaps()
    assert (overlap.user, overlap.first, overlap.second, overlap.both_unsettled) == ("alice", 1, 2, True)


def test_withheld_answer_arrives_when_it_is_released(wise: RunningWise, client: WiseClient, alice: SeededUser) -> None:
    wise.control.seed_user("bob")
    wise.control.withhold("alice")
    with refreshing(client, alice.refresh_token) as answer:
        wise.control.wait_until_withheld("alice")
        assert (wise.control.withheld(), wise.control.withheld("bob")) == (1, 0)
        assert client.me(alice.access_token).status == 401, "it is carried out"
        assert wise.control.release("bob") == 0
        assert not answer.done()
        assert wise.control.release("alice") == 1
        assert client.me(answer.result().json["access_token"]).status == 200
    assert wise.control.withheld() == 0
    assert last_request(wise).delivered


def test_next_refresh_is_not_withheld_with_the_first(wise: RunningWise, client: WiseClient, alice: SeededUser) -> None:
    wise.control.withhold("alice")
    with refreshing(client, alice.refresh_token) as first:
        wise.control.wait_until_withheld("alice")
        second = client.refresh(alice.refresh_token).json["access_token"]
        assert wise.control.release() == 1
        assert client.me(first.result().json["access_token"]).status == 401
    assert client.me(second).status == 200
    wise.control.wait_until_idle()
    [overlap] = wise.control.overlaps()
    assert (overlap.first, overlap.second, overlap.both_unsettled) == (1, 2, False)


def test_withheld_answer_can_be_thrown_away(wise: RunningWise, client: WiseClient, alice: SeededUser) -> None:
    wise.control.withhold()
    with refreshing(client, alice.refresh_token) as answer:
        wise.control.wait_until_withheld()
        assert wise.control.release(deliver=False) == 1
        with pytest.raises(http.client.RemoteDisconnected):
            answer.result()
    assert last_request(wise).delivered is False


def test_withheld_answer_ends_with_its_client(wise: RunningWise, client: WiseClient, alice: SeededUser) -> None:
    wise.control.withhold("alice")
    give_up(wise, client, alice)
    told = last_request(wise)
    assert wise.control.withheld() == 0
    assert (told.carried_out, told.delivered) == (True, False)
    assert told.client_gone_ms is not None


def test_emulator_stops_while_answers_are_outstanding(client: WiseClient, wise: RunningWise) -> None:
    # The fixture stops it right after this; a stop that waited would be seen in the suite's time.
    wise.control.seed_users(3)
    tokens = [t.value for t in wise.control.tokens(values=True) if t.kind == "refresh"]
    wise.control.withhold("user-1")
    wise.control.carry_out_late(30, user="user-2")
    wise.control.deliver_next(Delivery.ENDLESS_BODY, user="user-3")

    def give_up(token: str | None) -> None:
        with contextlib.suppress(OSError, http.client.HTTPException):
            client.refresh(str(token), timeout_s=5)

    for token in tokens:
        threading.Thread(target=give_up, args=(token,), daemon=True).start()
    wait_until(lambda: len(wise.control.requests()) == 3, 5, "three requests")


def test_stalled_handshake_keeps_nobody_waiting(wise: RunningWise, client: WiseClient, alice: SeededUser) -> None:
    port = int(wise.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port)):
        assert client.me(alice.access_token).status == 200


@pytest.mark.parametrize(
    ("fault", "named"),
    [
        ({"carry_out": False}, "status"),
        ({"status": 99}, "status"),
        ({"times": 0}, "times"),
        ({"times": True}, "times"),
        ({"for_s": 0}, "for_s"),
        ({"before_s": -1}, "before_s"),
        ({"drip_s": "1"}, "drip_s"),
        ({"endpoint": "everywhere"}, "endpoint"),
        ({"delivery": 1}, "delivery"),
        ({"headers": {"X": "a\r\nY: b"}, "status": 500}, "headers"),
        ({"headers": {"X": 1}, "status": 500}, "headers"),
        ({"headers": {"X": "☃"}, "status": 500}, "headers"),
        ({"patch": [], "status": 500}, "patch"),
        ({"hang_up_first": 1}, "hang_up_first"),
        ({"body": 1}, "body"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_impossible_fault_is_refused_by_the_name_of_its_field(
    wise: RunningWise, fault: dict[str, object], named: str
) -> None:
    with pytest.raises(WiseControlError, match=rf"^400: {named}: "):
        wise.control._call("POST", "/faults", fault)  # type: ignore[arg-type]
    assert wise.control.faults() == []


def test_id_of_a_fault_is_taken_once(wise: RunningWise) -> None:
    fault = Fault(id="mine", status=500)
    assert wise.control.add_fault(fault) == "mine"
    with pytest.raises(WiseControlError, match="id: is in use"):
        wise.control.add_fault(fault)
