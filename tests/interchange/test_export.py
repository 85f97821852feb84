"""What is exported comes back bit for bit, whatever wrote it."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import logging

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

import triarch
from tests.interchange import exports
from tests.models import tiny
from tests.training.tiny import python
from triarch.errors import UserError
from triarch.interchange import orbax_folder, read_export, read_manifest, write_export
from triarch.models import Execution
from triarch.models.network import flatten, parameters_of

FAMILIES = pytest.mark.parametrize(
    "config", [tiny.REDLLM, tiny.DECLLM, tiny.ETTIN_ENCODER], ids=["redllm", "decllm", "ettin"]
)

EXPORT_ON_MESH = """
import sys
from pathlib import Path
import jax
import numpy as np
from tests.interchange import exports
from tests.models import tiny
from triarch.interchange import Placement, write_export
from triarch.models.network import Network, flatten, parameters_of, unflatten
from triarch.sharding import MeshConfig, make_mesh

assert jax.device_count() == 8
placement = Placement(make_mesh(MeshConfig(data=2, fsdp=2, tensor=2)))
network = Network(tiny.REDLLM, tiny.FLOAT32, placement.constrain)
shardings = placement.parameters(network.specs)
tensors = {
    name: jax.device_put(np.asarray(value), shardings[name])
    for name, value in flatten(parameters_of(exports.network(tiny.REDLLM))).items()
}
assert any(not value.is_fully_replicated for value in tensors.values())
model = network.merge(unflatten(tensors))
print(write_export(Path(sys.argv[1]), model, exports.ORIGIN).fingerprint)
"""


@FAMILIES
def test_round_trip_is_bit_identical(config, tmp_path):
    loaded = triarch.load(exports.export(tmp_path, config), execution=tiny.FLOAT32)
    written = flatten(parameters_of(exports.network(config)))
    for name, value in flatten(loaded.params).items():
        assert value.dtype == jnp.float32
        np.testing.assert_array_equal(value, written[name], err_msg=name)
    batch = exports.batch(config)
    logits = loaded.logits(batch)
    assert logits.dtype == np.float32 and logits.shape[-1] == config.vocab_size
    np.testing.assert_array_equal(logits, exports.logits(config, batch))
    assert loaded.config == config
    assert dataclasses.asdict(loaded.origin) == dataclasses.asdict(exports.ORIGIN)


@FAMILIES
def test_scanned_and_unrolled_share_one_export(config, tmp_path):
    unrolled = dataclasses.replace(tiny.FLOAT32, scan_layers=False)
    manifest = write_export(tmp_path / "unrolled", exports.network(config, unrolled), exports.ORIGIN)
    path = exports.export(tmp_path, config)
    assert (path / "manifest.json").read_text() == manifest.to_json()


def test_scanned_export_runs_unrolled(tmp_path):
    path, batch = exports.export(tmp_path), exports.batch(tiny.REDLLM)
    unrolled = read_export(path, dataclasses.replace(tiny.FLOAT32, scan_layers=False)).logits(batch)
    np.testing.assert_allclose(unrolled, exports.logits(tiny.REDLLM, batch), rtol=2e-5, atol=2e-5)


@pytest.mark.slow
def test_written_on_eight_devices_and_loaded_on_one(tmp_path):
    process = python(EXPORT_ON_MESH, tmp_path / "sharded", devices=8, optimise=False)
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert jax.device_count() == 1
    single = read_manifest(exports.export(tmp_path))
    assert output.strip() == single.fingerprint == read_manifest(tmp_path / "sharded").fingerprint
    batch = exports.batch(tiny.REDLLM)
    logits = triarch.load(tmp_path / "sharded", execution=tiny.FLOAT32).logits(batch)
    np.testing.assert_array_equal(logits, exports.logits(tiny.REDLLM, batch))


@pytest.fixture(scope="module")
def float16():
    """Skips where XLA compiles no rounding to float16: on processors without F16C, as those limited to SSE4.2."""
    try:
        jax.block_until_ready(jnp.ones(3).astype(jnp.float16))
    except jax.errors.JaxRuntimeError as error:
        assert "materialize symbols" in str(error)
        pytest.skip("XLA rounds nothing to float16 on this processor")


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_narrow_types_store_the_rounded_parameters(dtype, tmp_path, request):
    if dtype == "float16":
        request.getfixturevalue("float16")
    loaded = read_export(exports.export(tmp_path, dtype=dtype), tiny.FLOAT32)
    for name, value in flatten(parameters_of(exports.network(tiny.REDLLM))).items():
        rounded = np.asarray(value).astype(jnp.dtype(dtype)).astype(np.float32)
        np.testing.assert_array_equal(flatten(loaded.params)[name], rounded)
    assert {tensor.dtype for tensor in read_manifest(tmp_path / "export").tensors.values()} == {dtype}


def test_float16_refuses_what_it_cannot_hold(float16, tmp_path):
    model = exports.network(tiny.REDLLM)
    model.embedding.table[...] = model.embedding.table[...].at[0, 0].set(1e6)
    with pytest.raises(UserError, match="embedding/table"):
        write_export(tmp_path / "export", model, exports.ORIGIN, dtype="float16")
    with pytest.raises(UserError, match="did you mean 'float32'"):
        write_export(tmp_path / "export", model, exports.ORIGIN, dtype="float3")
    assert list(tmp_path.iterdir()) == []


def test_manifest_describes_what_orbax_alone_reads(tmp_path):
    path = exports.export(tmp_path)
    manifest = json.loads((path / "manifest.json").read_text())
    assert manifest["format"] == "triarch.export"
    assert manifest["config"] == json.loads(json.dumps(dataclasses.asdict(tiny.REDLLM)))
    assert manifest["scan"] == {"axis": 0, "under": "scanned"}
    assert manifest["step"] == 7 and manifest["vocabulary"] == exports.VOCABULARY
    tree = ocp.StandardCheckpointer().restore(path / "parameters")
    lines, count = [], 0
    for name, tensor in sorted(manifest["tensors"].items()):
        value = tree
        for key in name.split("/"):
            value = value[key]
        value = np.asarray(value)
        digest = hashlib.sha256(value.astype("<f4").tobytes()).hexdigest()
        assert (list(value.shape), digest) == (tensor["shape"], tensor["sha256"])
        assert (tensor["axes"][:1] == ["layers"]) == ("/scanned/" in name)
        lines.append(f"{name} {tensor['shape']} float32 {digest}\n")
        count += value.size
    assert manifest["fingerprint"] == hashlib.sha256("".join(lines).encode()).hexdigest()
    assert manifest["num_params"] == count


def test_vocabulary_files_are_carried_along(tmp_path):
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "sentencepiece.model").write_bytes(b"pieces")
    loaded = read_export(exports.export(tmp_path, vocabulary_files=tmp_path / "files"))
    assert (loaded.vocabulary_files / "sentencepiece.model").read_bytes() == b"pieces"


def test_existing_output_stays_unless_it_is_an_export_and_may_go(tmp_path):
    path = exports.export(tmp_path)
    with pytest.raises(UserError, match="exists already"):
        write_export(path, exports.network(tiny.DECLLM), exports.ORIGIN)
    assert read_manifest(path).config == tiny.REDLLM
    write_export(path, exports.network(tiny.DECLLM), exports.ORIGIN, overwrite=True)
    assert read_manifest(path).config == tiny.DECLLM
    (tmp_path / "precious").mkdir()
    with pytest.raises(UserError, match="is not an export"):
        write_export(tmp_path / "precious", exports.network(tiny.DECLLM), exports.ORIGIN, overwrite=True)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["export", "precious"]


def test_failed_write_leaves_the_old_export_and_nothing_else(tmp_path, monkeypatch):
    path = exports.export(tmp_path)

    def fill(folder, tensors):
        folder.mkdir()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(orbax_folder, "save", fill)
    with pytest.raises(UserError, match=r"the disk is full \(.* left\); nothing was kept"):
        write_export(path, exports.network(tiny.DECLLM), exports.ORIGIN, overwrite=True)
    assert [entry.name for entry in tmp_path.iterdir()] == ["export"]
    assert read_export(path).config == tiny.REDLLM


def test_killed_writers_leave_nothing_for_long(tmp_path):
    code = "import os, sys; from pathlib import Path; from triarch.interchange.folders import whole_folder\n"
    code += "with whole_folder(Path(sys.argv[1]), False, bool) as f: (f / 'part').write_text('x'); os._exit(9)"
    process = python(code, tmp_path / "export")
    process.communicate(timeout=60)
    assert process.returncode == 9
    assert [entry.name.endswith(".tmp.export") for entry in tmp_path.iterdir()] == [True]
    exports.export(tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["export"]


def test_compute_type_is_the_callers_choice(tmp_path):
    path, batch = exports.export(tmp_path, tiny.DECLLM), exports.batch(tiny.DECLLM)
    coarse = read_export(path, Execution(compute_dtype="bfloat16")).logits(batch)
    fine = exports.logits(tiny.DECLLM, batch)
    assert coarse.dtype == np.float32
    assert 0 < np.abs(coarse - fine).max() < 0.1 * np.abs(fine).max()


def test_orbax_says_nothing_of_a_failed_save(tmp_path, monkeypatch):
    """Its account takes hundreds of lines, beside the one that says what failed."""

    def full(*args, **options):
        raise ValueError("No space left on device")

    monkeypatch.setattr(orbax_folder.ts, "open", full)
    said = []
    logger = logging.getLogger("absl")
    monkeypatch.setattr(logger, "callHandlers", said.append)
    with pytest.raises(Exception, match="No space left"):
        orbax_folder.save(tmp_path / "parameters", {"a/b": jnp.zeros((4, 2))})
    assert said == []
