"""Processes, played by threads, meet or learn who is missing."""

import re
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.processes import free_port
from triarch.errors import UserError
from triarch.runtime.multihost import meeting
from triarch.runtime.multihost.meeting import meet
from triarch.runtime.multihost.place import ProcessPlace, this_host


def gather(places, timeout=20.0, say=lambda text: None):
    """Returns the Meeting, or the UserError, of each place."""

    def one(place):
        try:
            return meet(place, timeout, say)
        except UserError as error:
            return error

    with ThreadPoolExecutor(len(places)) as pool:
        return list(pool.map(one, places))


def places(count, numbers, coordinator=None):
    coordinator = coordinator or f"localhost:{free_port()}"
    return [ProcessPlace(coordinator, count, number) for number in numbers]


def test_all_come_in_any_order():
    found = gather(places(5, [3, 0, 4, 1, 2]))
    assert [one.hosts for one in found] == [dict.fromkeys(range(5), this_host())] * 5
    first = next(one for one in found if one.place.process_id == 0)
    assert sorted(first.connections) == [1, 2, 3, 4]
    assert all(list(one.connections) == [0] for one in found if one is not first)
    for number, connection in first.connections.items():
        connection.send({"number": number})
    for one in found:
        if one is not first:
            assert one.connections[0].receive() == [{"number": one.place.process_id}]
    # jax's coordinator takes the port over while the connections stay.
    with socket.create_server(("", first.place.address[1])):
        pass


def test_those_who_do_not_come_are_named_everywhere():
    found = gather(places(4, [0, 2]), timeout=1.0)
    for error in found:
        assert str(error).startswith("processes 1 and 3 of 4 did not arrive at localhost:")
        assert "within 1s (--startup_timeout)" in str(error)


def test_the_first_does_not_come(monkeypatch):
    monkeypatch.setattr(meeting, "_MARGIN_SECONDS", 0.0)
    (error,) = gather(places(2, [1]), timeout=0.5)
    assert "process 0 did not answer process 1 at localhost:" in str(error)
    assert "(Connection refused; --startup_timeout)" in str(error)


@pytest.mark.parametrize(
    ("numbers", "changes", "message"),
    [
        ([0, 1, 1], {}, "two processes say they are process 1, on host .* and host .*: give each its own --process_id"),
        ([0, 1], {"num_processes": 5}, r"process 1 \(.*\) has num_processes 5, process 0 3"),
    ],
)
def test_processes_that_were_started_wrongly(numbers, changes, message):
    first, *others = places(3, numbers)
    others = [ProcessPlace(**(vars(other) | changes)) for other in others]
    found = gather([first, *others], timeout=2.0)
    assert any(re.search(message, str(one)) for one in found)


def test_another_program_has_the_port():
    with socket.create_server(("", 0), family=socket.AF_INET6, dualstack_ipv6=True) as server:
        (error,) = gather(places(2, [0], f"localhost:{server.getsockname()[1]}"), timeout=0.3)
    assert str(error).endswith("process 0 cannot listen there: Address already in use")


def test_a_long_wait_is_announced(monkeypatch):
    monkeypatch.setattr(meeting, "_QUIET_SECONDS", 0.3)
    said = []
    gather(places(3, [0, 1]), timeout=1.0, say=said.append)
    assert any(text.startswith("waiting for process 2, for up to ") for text in said)


def test_strangers_and_those_who_give_up_do_no_harm():
    first, second = places(2, [0, 1])

    def intrude():
        for data in (b"GET / HTTP/1.1\r\n\r\n", b"[1]\n", b'{"process": 1}\n', b""):
            for _ in range(100):
                try:
                    with socket.create_connection(first.address) as sock:
                        sock.sendall(data)
                    break
                except OSError:
                    time.sleep(0.05)
        found.extend(gather([second]))

    found = []
    thread = threading.Thread(target=intrude)
    thread.start()
    (one,) = gather([first])
    thread.join()
    assert [one.hosts, found[0].hosts] == [{0: this_host(), 1: this_host()}] * 2
