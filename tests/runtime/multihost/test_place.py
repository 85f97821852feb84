"""Who a process is: from flags, from variables, from the cluster; and one line for what makes no sense."""

import pytest

from triarch.errors import UserError
from triarch.runtime.multihost import ProcessPlace, find_place, place

JAX = {"JAX_COORDINATOR_ADDRESS": "c:1", "JAX_NUM_PROCESSES": "4", "JAX_PROCESS_ID": "3"}


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch):
    for name in (*JAX, "SLURM_JOB_ID", "OMPI_MCA_orte_hnp_uri", "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(name, raising=False)


def test_a_single_machine_has_no_place():
    assert find_place(environ={}) is None
    assert find_place(num_processes=1, environ=JAX | {"JAX_PROCESS_ID": ""}) is None
    assert find_place(num_processes=1, process_id=0, environ={}) is None


def test_flags_go_before_variables():
    assert find_place(environ=JAX) == ProcessPlace("c:1", 4, 3)
    assert find_place("h:2", environ=JAX) == ProcessPlace("h:2", 4, 3)
    assert find_place("[::1]:2", 8, 0, environ=JAX).address == ("::1", 2)


@pytest.mark.parametrize(
    ("given", "environ", "message"),
    [
        (("h:2", None, None), {}, r"--coordinator=h:2 is not enough .* --num_processes \(or JAX_NUM_PROCESSES\)"),
        ((None, 2, None), {}, r"--num_processes=2 is not enough .* --coordinator .* --process_id"),
        ((None, None, 1), {}, r"--process_id=1 is not enough"),
        (("h:2", 2, 2), {}, r"--process_id=2: with --num_processes=2 expected a number from 0 to 1"),
        (("h:2", 2, -1), {}, r"--process_id=-1"),
        (("h:2", 0, 0), {}, r"--num_processes=0: expected at least 1"),
        (("h", 2, 0), {}, r"--coordinator=h: expected HOST:PORT"),
        ((":2", 2, 0), {}, r"--coordinator=:2: expected HOST:PORT"),
        (("h:70000", 2, 0), {}, r"--coordinator=h:70000: expected HOST:PORT"),
        ((None, None, None), JAX | {"JAX_PROCESS_ID": "x"}, r"JAX_PROCESS_ID=x: expected a whole number"),
        ((None, 1, 3), JAX, r"--process_id=3: with --num_processes=1"),
    ],
)
def test_what_makes_no_sense_is_one_line(given, environ, message):
    with pytest.raises(UserError, match=message):
        find_place(*given, environ=environ)


def test_slurm(monkeypatch):
    slurm = {"JOB_ID": "7", "STEP_NODELIST": "node[3-4]", "NTASKS": "2", "PROCID": "1", "LOCALID": "0"}
    for name, value in slurm.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    found = find_place()
    assert (found.num_processes, found.process_id, found.local_device_ids) == (2, 1, (0,))
    assert found.address == ("node3", 7 + 65535 - 2**12 + 1)
    monkeypatch.setenv("SLURM_NTASKS", "1")
    monkeypatch.setenv("SLURM_PROCID", "0")
    assert find_place() is None


def test_two_slices_on_gke(monkeypatch):
    """The variables that GKE and JobSet set on the second worker of the second slice."""
    from jax._src.clusters import cloud_tpu_cluster

    for module in ("clusters.cloud_tpu_cluster", "clusters.cluster"):
        monkeypatch.setattr(f"jax._src.{module}.running_in_cloud_tpu_vm", True)
    monkeypatch.setattr(cloud_tpu_cluster.GceTpuCluster, "is_env_present", classmethod(lambda cls: False))
    monkeypatch.setenv("TPU_WORKER_HOSTNAMES", "localhost,w1")
    monkeypatch.setenv("TPU_WORKER_ID", "1")
    monkeypatch.setenv("MEGASCALE_COORDINATOR_ADDRESS", "localhost:8080")
    monkeypatch.setenv("MEGASCALE_NUM_SLICES", "2")
    monkeypatch.setenv("MEGASCALE_SLICE_ID", "1")
    assert find_place() == ProcessPlace("localhost:8482", 4, 3)
    monkeypatch.setenv("MEGASCALE_NUM_SLICES", "1")
    monkeypatch.setenv("MEGASCALE_SLICE_ID", "0")
    assert find_place() == ProcessPlace("localhost:8482", 2, 1, None, ("localhost", "w1"))


def test_a_cluster_that_does_not_answer(monkeypatch):
    from jax._src.clusters import ClusterEnv

    def fail(*arguments):
        raise RuntimeError("Getting metadata failed\nfor 6 tries")

    monkeypatch.setattr(ClusterEnv, "auto_detect_unset_distributed_params", fail)
    with pytest.raises(UserError, match=r"\(Getting metadata failed for 6 tries\): give --coordinator, .*=1$"):
        find_place(environ={})


def test_names():
    here = ProcessPlace("h:1", 4, 0, None, ("a", "b", "c", "d"))
    assert here.describe([1], {}) == "process 1 (host b)"
    assert here.describe([1, 2, 3], {2: "z"}) == "processes 1 (host b), 2 (host z) and 3 (host d)"
    assert ProcessPlace("h:1", 4, 0).describe([1, 3], {}) == "processes 1 and 3"
    assert place.this_host()
