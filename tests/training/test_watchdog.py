"""The watchdog speaks when a step takes much longer than the ones before, and only then."""

from triarch.runtime import multihost, watchdog
from triarch.runtime.watchdog import Watchdog


class Clock:
    """Time that passes when told to."""

    now = 1000.0

    def monotonic(self):
        return self.now


def steps(monkeypatch, seconds, count=10):
    """Returns a watchdog after steps of so many seconds each, its clock and what it has said."""
    clock, said = Clock(), []
    monkeypatch.setattr(watchdog, "time", clock)
    dog = Watchdog(said.append)
    for step in range(1, count + 1):
        clock.now += seconds
        dog.at_step(step)
    return dog, clock, said


def test_it_is_patient_in_proportion(monkeypatch):
    dog, clock, said = steps(monkeypatch, 30.0)
    assert dog.complaint(clock.now + 299) is None
    assert dog.complaint(clock.now + 301) == "no end of step 10 for 5m01s, one usually takes 30s"
    assert dog.complaint(clock.now + 599) is None
    assert dog.complaint(clock.now + 601) == "no end of step 10 for 10m01s, one usually takes 30s"
    clock.now += 700
    dog.at_step(11)
    assert said == ["step 11 began after 11m40s"]
    assert dog.complaint(clock.now + 299) is None


def test_quick_steps_have_two_minutes_and_the_first_ones_half_an_hour(monkeypatch):
    dog, clock, _ = steps(monkeypatch, 0.25)
    assert dog.complaint(clock.now + 119) is None
    assert dog.complaint(clock.now + 121) == "no end of step 10 for 2m01s, one usually takes 0.25s"
    dog, clock, _ = steps(monkeypatch, 0.25, count=1)
    assert dog.complaint(clock.now + 1799) is None
    assert dog.complaint(clock.now + 1801) == "no end of step 1 for 30m01s"


def test_it_names_who_is_behind(monkeypatch):
    dog, clock, _ = steps(monkeypatch, 1.0)
    monkeypatch.setattr(multihost, "behind", lambda: "process 3 (host w3) at step 9, the others at step 10")
    assert dog.complaint(clock.now + 200).endswith("takes 1s; process 3 (host w3) at step 9, the others at step 10")


def test_it_watches_by_itself_and_stops(monkeypatch):
    monkeypatch.setattr(watchdog, "_LOOK_SECONDS", 0.01)
    monkeypatch.setattr(watchdog, "_FIRST_PATIENCE", 0.02)
    said = []
    with Watchdog(said.append) as dog:
        dog._thread.join(0.5)
    dog._thread.join(5)
    assert not dog._thread.is_alive()
    assert said[0].startswith("no end of step 0 for 0s")
    assert len(said) < 10, "each time its patience is twice as long"
