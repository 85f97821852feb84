"""A bucket in memory, and one whose answers fail when they are told to."""

import fsspec
import pytest

from triarch.remote import Objects, objects


@pytest.fixture
def bucket(monkeypatch):
    """The objects below memory://bucket/run, of a bucket that is empty."""
    store = fsspec.filesystem("memory")
    store.store.clear()
    store.pseudo_dirs[:] = [""]
    monkeypatch.setattr(objects, "_PAUSES", (0.0, 0.0))
    yield Objects("memory://bucket/run")
    store.store.clear()


@pytest.fixture
def faults(bucket):
    """A function (method, exceptions): the next calls of that method of the store raise these, None for none."""
    store, real = bucket._store, {}

    def put(method, *some):
        waiting = list(some)
        real.setdefault(method, getattr(store, method))

        def call(*args, **kwargs):
            fault = waiting.pop(0) if waiting else None
            if fault is not None:
                raise fault
            return real[method](*args, **kwargs)

        setattr(store, method, call)

    yield put
    for method in real:
        delattr(store, method)
