"""When people hear of our certificate's end: by a table of instants, and over many processes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import pytest

from tests.fakes.alerts import InMemoryAlerts
from tests.fakes.certificate import InMemoryCertificate
from tests.fakes.rotator import World
from tests.fakes.world import FakeClock, RecordingJournal
from token_rotator.domain.certificate import AHEAD, CertificateInUse, CertificateWatch
from token_rotator.domain.grant import AlertKind
from token_rotator.domain.policy import ALERT_CLAIM
from token_rotator.service.journal import AlertTold, Trouble
from token_rotator.service.watch_certificate import WATCH_EVERY, WatchCertificate

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)


@dataclass
class Scene:
    """Some processes that show a certificate, one store, one topic."""

    clock: FakeClock = field(default_factory=FakeClock)
    store: InMemoryCertificate = field(default_factory=InMemoryCertificate)
    alerts: InMemoryAlerts = field(default_factory=InMemoryAlerts)
    journal: RecordingJournal = field(default_factory=RecordingJournal)
    in_use: CertificateInUse | None = None

    def show(self, days: float, *, accepted: bool = True) -> CertificateInUse:
        self.in_use = CertificateInUse(self.clock() + timedelta(days=days), accepted)
        return self.in_use

    def process(self, in_use: Callable[[], CertificateInUse | None] | None = None) -> WatchCertificate:
        return WatchCertificate(self.store, self.alerts, self.journal, self.clock, in_use or (lambda: self.in_use))

    def told(self) -> list[tuple[str, str]]:
        return [(alert.kind.value, alert.reason) for alert in self.alerts.published]


@pytest.fixture
def scene() -> Scene:
    return Scene()


def live(scene: Scene, watch: WatchCertificate, until: datetime, step: timedelta = HOUR) -> list[tuple[float, str]]:
    """Tend until an instant, and give when what was told, in days from the start."""
    began, told = scene.clock(), []
    while scene.clock() < until:
        before = len(scene.alerts.published)
        watch.tend()
        told += [(round((scene.clock() - began) / DAY, 3), alert.reason) for alert in scene.alerts.published[before:]]
        scene.clock.now += step
    return told


def test_it_is_announced_six_times_and_each_once(scene: Scene) -> None:
    scene.show(days=30)
    told = live(scene, scene.process(), scene.clock() + 40 * DAY)
    assert told == [(2, "28-days"), (16, "14-days"), (23, "7-days"), (27, "3-days"), (29, "1-day"), (30, "0-days")]
    assert {alert.kind for alert in scene.alerts.published} == {AlertKind.CERTIFICATE_EXPIRING}
    ids = [alert.incident_id for alert in scene.alerts.published]
    assert len(set(ids)) == len(AHEAD)
    assert [alert.ends for alert in scene.alerts.published] == [(), *((one,) for one in ids[:-1])]


def test_a_warning_is_due_from_its_instant_on(scene: Scene) -> None:
    for ahead in AHEAD:
        watch = CertificateWatch(not_after=scene.clock() + ahead, told=scene.clock() - timedelta(milliseconds=1))
        assert watch.looked_at(None, scene.clock()).alert is not None
        assert watch.looked_at(None, scene.clock() - timedelta(milliseconds=1)).alert is None
        assert replace(watch, told=scene.clock()).looked_at(None, scene.clock()).alert is None


def test_who_comes_late_hears_the_latest_warning_only(scene: Scene) -> None:
    scene.show(days=5)
    scene.process().tend()
    assert scene.told() == [("certificate_expiring", "7-days")]


def test_nothing_is_known_where_nothing_is_shown(scene: Scene) -> None:
    watch = scene.process()
    watch.tend()
    assert watch.days_left() is None
    assert (scene.store.reads, scene.store.writes) == (1, 0)


def test_a_process_without_a_certificate_goes_by_what_is_stored(scene: Scene) -> None:
    """The certificate has ended, so that it is not in use any more: that is when the last warning is due."""
    scene.show(days=30)
    scene.process().tend()
    scene.in_use = None
    scene.clock.now += 31 * DAY
    watch = scene.process()
    watch.tend()
    assert scene.told() == [("certificate_expiring", "0-days")]
    assert watch.days_left() == -1


def test_a_certificate_with_a_later_end_ends_the_incident(scene: Scene) -> None:
    scene.show(days=10)
    watch = scene.process()
    watch.tend()
    scene.clock.now += HOUR
    scene.show(days=365)
    watch.tend()
    assert scene.told() == [("certificate_expiring", "14-days"), ("recovered", "14-days")]
    first, second = scene.alerts.published
    assert first.incident_id == second.incident_id
    assert live(scene, watch, scene.clock() + 336 * DAY) == []
    assert live(scene, watch, scene.clock() + 2 * DAY) == [(1.0, "28-days")]


def test_one_that_ends_soon_too_is_announced_in_the_place_of_the_one_before(scene: Scene) -> None:
    scene.show(days=2)
    watch = scene.process()
    watch.tend()
    scene.clock.now += HOUR
    scene.show(days=6)
    watch.tend()
    assert scene.told() == [("certificate_expiring", "3-days"), ("certificate_expiring", "7-days")]
    assert scene.alerts.published[1].ends == (scene.alerts.published[0].incident_id,)


def test_a_later_end_that_wise_has_not_answered_to_proves_nothing(scene: Scene) -> None:
    scene.show(days=10)
    watch = scene.process()
    watch.tend()
    scene.clock.now += HOUR
    scene.show(days=365, accepted=False)
    watch.tend()
    assert scene.told() == [("certificate_expiring", "14-days")]
    left = watch.days_left()
    assert left is not None
    assert left < 10
    scene.clock.now += HOUR
    scene.show(days=365)
    watch.tend()
    assert scene.told()[-1] == ("recovered", "14-days")


def test_the_first_one_is_watched_before_wise_has_answered(scene: Scene) -> None:
    scene.show(days=5, accepted=False)
    scene.process().tend()
    assert scene.told() == [("certificate_expiring", "7-days")]


def test_when_the_old_one_is_used_again_its_next_warning_comes(scene: Scene) -> None:
    old = scene.show(days=10)
    watch = scene.process()
    watch.tend()
    scene.clock.now += HOUR
    scene.show(days=365)
    watch.tend()
    scene.in_use = old
    live(scene, watch, old.not_after)
    assert [reason for _, reason in scene.told()] == ["14-days", "14-days", "7-days", "3-days", "1-day"]


def test_processes_that_show_different_ones_tell_each_warning_once(scene: Scene) -> None:
    """While one process still shows the old certificate and another the new one."""
    old = scene.show(days=30)
    new = CertificateInUse(scene.clock() + 395 * DAY, accepted=True)
    one, other = scene.process(lambda: old), scene.process(lambda: new)
    for _ in range(31 * 24):
        one.tend()
        other.tend()
        scene.clock.now += HOUR
    warnings = [reason for kind, reason in scene.told() if kind == "certificate_expiring"]
    assert warnings == ["28-days", "14-days", "7-days", "3-days", "1-day", "0-days"]
    assert [kind for kind, _ in scene.told()] == ["certificate_expiring", "recovered"] * 6


def test_many_processes_tell_it_once(scene: Scene) -> None:
    scene.show(days=30)
    processes = [scene.process() for _ in range(5)]
    for _ in range(31 * 24):
        for watch in processes:
            watch.tend()
        scene.clock.now += HOUR
    assert len(scene.told()) == len(AHEAD)


def test_it_costs_one_read_a_minute(scene: Scene) -> None:
    scene.show(days=300)
    watch = scene.process()
    for _ in range(120):
        watch.tend()
        scene.clock.now += timedelta(seconds=1)
    assert (scene.store.reads, scene.store.writes) == (2, 1)
    assert timedelta(minutes=1) == WATCH_EVERY


# --- what may go wrong on the way


def test_an_alert_that_was_refused_is_told_again(scene: Scene) -> None:
    scene.show(days=5)
    scene.alerts.script = ["refuse", "refuse"]
    live(scene, scene.process(), scene.clock() + DAY, step=timedelta(minutes=1))
    assert scene.told() == [("certificate_expiring", "7-days")]
    told = [event.code for event in scene.journal.events if isinstance(event, AlertTold)]
    assert told == ["publish-refused", "publish-refused", None]
    assert scene.store.watch.alert is not None
    assert scene.store.watch.alert.failures == 2


@pytest.mark.parametrize(("lost", "copies"), [("lose", 2), ("drop", 1)])
def test_a_second_copy_exists_only_where_nobody_knows_of_the_first(scene: Scene, lost: str, copies: int) -> None:
    scene.show(days=5)
    scene.alerts.script = [lost]
    live(scene, scene.process(), scene.clock() + DAY, step=timedelta(minutes=1))
    assert len(scene.told()) == copies
    assert len({alert.incident_id for alert in scene.alerts.published}) == 1


@pytest.mark.parametrize("failures", [["before"], ["ok", "before"], ["ok", "after"], ["ok", "ok", "after"]], ids=str)
def test_a_table_that_fails_loses_no_warning(scene: Scene, failures: list[str]) -> None:
    scene.show(days=5)
    scene.store.failures = failures
    live(scene, scene.process(), scene.clock() + HOUR, step=timedelta(minutes=1))
    assert scene.told() == [("certificate_expiring", "7-days")]
    (trouble,) = [event for event in scene.journal.events if isinstance(event, Trouble)]
    assert (trouble.code, trouble.detail) == ("store-unavailable", "watching the certificate")


def test_who_dies_between_claim_and_publish_is_relieved(scene: Scene) -> None:
    scene.show(days=5)
    claimed = CertificateWatch().looked_at(scene.in_use, scene.clock())
    assert claimed.alert is not None
    scene.store.watch = replace(
        claimed, revision=1, alert=replace(claimed.alert, claimed_until=scene.clock() + ALERT_CLAIM)
    )
    scene.clock.now += timedelta(seconds=1)
    watch = scene.process()
    watch.tend()
    assert scene.told() == []
    scene.clock.now += max(ALERT_CLAIM, WATCH_EVERY)
    watch.tend()
    assert scene.told() == [("certificate_expiring", "7-days")]


def test_the_end_of_what_another_is_telling_waits_for_it(scene: Scene) -> None:
    scene.show(days=5)
    claimed = CertificateWatch().looked_at(scene.in_use, scene.clock())
    assert claimed.alert is not None
    until = scene.clock() + timedelta(minutes=5)
    scene.store.watch = replace(claimed, revision=1, alert=replace(claimed.alert, claimed_until=until))
    scene.clock.now += timedelta(minutes=1)
    scene.show(days=365)
    watch = scene.process()
    watch.tend()
    assert scene.told() == []
    scene.clock.now = until
    watch.tend()
    assert scene.told() == [("recovered", "7-days")]


def test_who_was_slower_tells_nothing(scene: Scene) -> None:
    scene.show(days=5)
    quick, slow = scene.process(), scene.process()

    def overtake() -> None:
        scene.store.before_write = lambda: None
        quick.tend()

    scene.store.before_write = overtake
    slow.tend()
    assert len(scene.told()) == 1


def test_what_was_told_is_marked_over_what_others_wrote_meanwhile(scene: Scene) -> None:
    scene.show(days=5)
    watch = scene.process()

    def while_publishing() -> None:
        if scene.store.writes == 1:
            scene.store.watch = replace(scene.store.watch, revision=scene.store.watch.revision + 1)

    scene.store.before_write = while_publishing
    watch.tend()
    assert scene.store.watch.alert is not None
    assert scene.store.watch.alert.published_at == scene.clock()


def test_what_took_the_alerts_place_meanwhile_stays(scene: Scene) -> None:
    scene.show(days=5)
    watch = scene.process()
    newer = CertificateWatch(revision=9, not_after=scene.clock() + 365 * DAY)

    def while_publishing() -> None:
        if scene.store.writes == 1:
            scene.store.watch = newer

    scene.store.before_write = while_publishing
    watch.tend()
    assert scene.store.watch == newer


def test_a_mark_is_given_up_when_others_are_always_quicker(scene: Scene) -> None:
    scene.show(days=5)
    watch = scene.process()

    def always() -> None:
        if scene.store.writes:
            scene.store.watch = replace(scene.store.watch, revision=scene.store.watch.revision + 1)

    scene.store.before_write = always
    watch.tend()
    assert len(scene.told()) == 1
    assert scene.store.writes == 4


# --- who looks


def test_the_sweep_looks_while_it_is_on_duty_and_also_while_wise_may_not_be_called(scene: Scene) -> None:
    world = World()
    scene.clock = world.clock
    scene.show(days=5)
    due = replace(world.refresh_due, certificate=scene.process())
    world.suspensions.suspend(None, world.order())
    due(range(16), world.clock() + timedelta(seconds=55))
    assert scene.told() == [("certificate_expiring", "7-days")]
    due(range(16), world.clock() + timedelta(minutes=3))
    assert len(scene.told()) == 1
    assert scene.store.reads == 4
