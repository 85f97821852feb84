"""Bad files of every format are read or refused: the same few in every run, and those that failed once."""

import pytest

from tests.bad_input.case import Folder
from tests.bad_input.samples import Samples
from tests.fuzz.fuzzing import Bench, found, settings
from tests.fuzz.known import KNOWN
from tests.fuzz.targets import TARGETS


@pytest.fixture(scope="session")
def samples(tmp_path_factory):
    return Samples(tmp_path_factory.mktemp("samples"))


def marked(target):
    known = [pytest.mark.xfail(reason=KNOWN[target.name], strict=False)] if target.name in KNOWN else []
    return pytest.param(target, id=target.name, marks=known)


@pytest.mark.parametrize("target", map(marked, TARGETS))
def test_a_bad_file_is_read_or_refused(target, samples, tmp_path):
    bench = Bench(target, Folder(tmp_path, samples))
    bench.check(bench.good)
    bench.explore(settings(target.examples, derandomize=True))
    for path in found(target):
        bench.check(path.read_bytes())


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_the_good_file_is_read(target, samples, tmp_path):
    folder = Folder(tmp_path, samples)
    target.prepare(folder)
    target.read(folder.path)
