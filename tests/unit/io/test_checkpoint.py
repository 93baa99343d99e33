"""Checkpoints: exact round trip, rotation, damaged files, full disk."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import mpiapp
from mpiapp.errors import InputError
from mpiapp.io.checkpoint import load_checkpoint, save_checkpoint
from mpiapp.io.hdf5_tree import _PAGE, _SparseImage
from mpiapp.io.outputs import OutputNames


def make_state(rng: np.random.Generator) -> dict[str, Any]:
    """One of everything that a state may hold, with the values at which a careless format fails."""
    arrays = {
        kind: (100 * rng.random((3, 5))).astype(kind)
        for kind in ("f2", "f4", "f8", ">f4", "c8", "c16", "i1", "u1", "i2", "u4", "i8", "u8", "?")
    }
    arrays["zero_dim"] = np.array(2.5, dtype=np.float32)
    arrays["empty"] = np.empty((0, 7), dtype=np.complex64)
    arrays["fortran"] = np.asfortranarray(rng.random((4, 6)))
    arrays["strided"] = rng.random((9, 9))[::2, ::-3]
    arrays["special"] = np.array([np.nan, np.inf, -np.inf, -0.0, 5e-324])
    arrays["large"] = rng.random(3 * _PAGE // 8 + 11)
    return {
        "arrays": arrays,
        "scalars": {
            "int": 7,
            "negative": -(2**63),
            "huge": 2**127 + 1,
            "float": 0.1,
            "nan": float("nan"),
            "bool": True,
            "str": "Å, ü, 'quoted'",
            "empty_str": "",
            "none": None,
            "numpy_float32": np.float32(0.1),
            "numpy_int8": np.int8(-3),
            "numpy_bool": np.bool_(False),
            "numpy_complex": np.complex64(1 + 2j),
        },
        "names": np.array(["mic1.mrc", "", "Ångström"]),
        "no_names": np.array([], dtype="<U4"),
        "empty": {},
        "deep": {"a": {"b": {"c": np.arange(3)}}},
        "generator": np.random.default_rng(5).bit_generator.state,
    }


def assert_same(found: Any, expected: Any, where: str = "") -> None:
    """Same types, dtypes, shapes and bits, keys in the same order."""
    assert type(found) is type(expected), where
    if isinstance(expected, dict):
        assert list(found) == list(expected), where
        for key in expected:
            assert_same(found[key], expected[key], f"{where}/{key}")
    elif isinstance(expected, np.ndarray | np.generic):
        assert (found.dtype, found.shape) == (expected.dtype, expected.shape), where
        assert found.tobytes() == expected.tobytes(), where
    else:
        assert repr(found) == repr(expected), where


def test_round_trip_is_exact(tmp_path: Path, rng: np.random.Generator) -> None:
    path, state = OutputNames(str(tmp_path / "run")).checkpoint(3), make_state(rng)
    save_checkpoint(path, state, {"command": "--i particles.star", "seed": 5})
    found, provenance = load_checkpoint(path)
    assert_same(found, state)
    assert (provenance["command"], provenance["seed"]) == ("--i particles.star", 5)
    assert provenance["program_version"] == mpiapp.__version__
    assert os.listdir(tmp_path) == ["run_it003_checkpoint.h5"]


def test_other_programs_read_the_file(tmp_path: Path, rng: np.random.Generator) -> None:
    """It is plain HDF5: arrays contiguous and uncompressed, names as in the dict."""
    state = make_state(rng)
    save_checkpoint(tmp_path / "x.h5", state, {})
    with h5py.File(tmp_path / "x.h5") as file:
        array = file["state/arrays/c8"]
        np.testing.assert_array_equal(array[1:, 2], state["arrays"]["c8"][1:, 2])
        assert (array.chunks, array.compression) == (None, None)
        assert file["state/scalars/str"].asstr()[()] == state["scalars"]["str"]
        assert file.attrs["program_version"] == mpiapp.__version__


def test_arrays_are_not_copied(tmp_path: Path) -> None:
    """A state of gigabytes may not need gigabytes more to be saved."""
    import tracemalloc

    state = {"map": np.zeros(4_000_000)}
    save_checkpoint(tmp_path / "first.h5", state, {})
    tracemalloc.start()
    save_checkpoint(tmp_path / "x.h5", state, {})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.1 * state["map"].nbytes
    assert (tmp_path / "x.h5").stat().st_size < state["map"].nbytes + 20_000


def test_last_two_are_kept_and_other_files_left_alone(tmp_path: Path) -> None:
    names, other = OutputNames(str(tmp_path / "run")), OutputNames(str(tmp_path / "run2"))
    save_checkpoint(other.checkpoint(0), {}, {})
    names.partial_checkpoint(0).touch()
    for iteration in range(5):
        save_checkpoint(names.checkpoint(iteration), {"iteration": iteration}, {})
        expected = [i for i in (iteration - 1, iteration) if i >= 0]
        assert [number for number, _ in names.checkpoints()] == expected
    assert other.checkpoint(0).exists()
    assert names.partial_checkpoint(0).exists()
    save_checkpoint(names.checkpoint(1), {}, {})  # started again from an earlier iteration
    assert [number for number, _ in names.checkpoints()] == [1, 3, 4]


def save_two(folder: Path) -> OutputNames:
    names = OutputNames(str(folder / "run"))
    for iteration in (4, 5):
        save_checkpoint(names.checkpoint(iteration), {"map": np.arange(5000.0), "n": 7}, {"seed": 1})
    return names


@pytest.mark.parametrize("fraction", [0.0, 0.001, 0.02, 0.5, 0.99])
def test_truncated_file_names_the_one_before(tmp_path: Path, fraction: float) -> None:
    names = save_two(tmp_path)
    path = names.checkpoint(5)
    os.truncate(path, int(fraction * path.stat().st_size))
    with pytest.raises(InputError) as caught:
        load_checkpoint(path)
    assert str(path) in str(caught.value)
    assert str(names.checkpoint(4)) in str(caught.value)
    assert f"--continue {names.optimiser(4)}" in str(caught.value)


def test_every_flipped_byte_of_the_data_is_noticed(tmp_path: Path) -> None:
    """One byte is changed in each of 60 places: the file is refused, or what comes out is right."""
    path = tmp_path / "x.h5"
    state = {"map": np.arange(400.0), "text": "abc", "n": 7, "group": {"flag": True}}
    save_checkpoint(path, state, {})
    good, refused = path.read_bytes(), 0
    for position in np.linspace(8, len(good) - 1, 60).astype(int):
        bad = bytearray(good)
        bad[position] ^= 0x10
        path.write_bytes(bad)
        try:
            assert_same(load_checkpoint(path)[0], state)
        except InputError:
            refused += 1
    assert refused > 30  # the rest lies in space that the format does not use


def test_wrong_value_is_named(tmp_path: Path) -> None:
    path = save_two(tmp_path).checkpoint(5)
    with h5py.File(path, "r+") as file:
        file["state/map"][17] = 0.5
    with pytest.raises(InputError, match="checksum of /state/map is wrong.*it004_checkpoint"):
        load_checkpoint(path)


def test_missing_and_foreign_files(tmp_path: Path) -> None:
    names = OutputNames(str(tmp_path / "run"))
    with pytest.raises(InputError, match="no such checkpoint.*no earlier checkpoint.*it007_optimiser.star"):
        load_checkpoint(names.checkpoint(7))
    (tmp_path / "text.h5").write_text("not HDF5")
    with pytest.raises(InputError, match="another kind of file"):
        load_checkpoint(tmp_path / "text.h5")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["state"] = 1
    with pytest.raises(InputError, match="not a checkpoint of this program"):
        load_checkpoint(tmp_path / "other.h5")


@pytest.mark.parametrize(
    ("schema", "remedy"), [(99, "Update mpiapp"), (1, "older mpiapp.*Move the file away")]
)
def test_another_schema_is_refused(tmp_path: Path, schema: int, remedy: str) -> None:
    path = save_two(tmp_path).checkpoint(5)
    with h5py.File(path, "r+") as file:
        file.attrs["schema_version"] = schema
    with pytest.raises(InputError, match=f"schema {schema}.*{remedy}"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    ("state", "name"),
    [
        ({"a": {"b": [1, 2]}}, "/state/a/b"),
        ({"a": np.array([object()])}, "/state/a"),
        ({"a/b": 1}, "/state/a/b"),
        ({"a": "x\0y"}, "/state/a"),
        ({"a": np.zeros(3, dtype=np.longdouble)}, "/state/a"),
    ],
)
def test_what_can_not_be_stored_is_named(tmp_path: Path, state: dict[str, Any], name: str) -> None:
    with pytest.raises((TypeError, ValueError), match=name):
        save_checkpoint(tmp_path / "x.h5", state, {})
    assert os.listdir(tmp_path) == []


FILL_THE_DISK = """
import resource, sys, numpy as np
from mpiapp.errors import InputError
from mpiapp.io.checkpoint import save_checkpoint
from mpiapp.io.outputs import OutputNames
names = OutputNames(sys.argv[1])
state = {f"a{i}": np.ones(100) for i in range(2000)} if sys.argv[2] == "small" else {"a": np.ones(10**6)}
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
try:
    save_checkpoint(names.checkpoint(6), state, {})
except InputError as error:
    print(error)
"""


@pytest.mark.parametrize("parts", ["one large", "small"])
def test_full_disk_leaves_the_old_ones(tmp_path: Path, parts: str) -> None:
    """A limit on file sizes stands for the full disk; the process has to survive it (HDF5 alone does not)."""
    names = save_two(tmp_path)
    command = [sys.executable, "-c", FILL_THE_DISK, names.root, parts]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert str(names.checkpoint(6)) in done.stdout
    assert "MB are free" in done.stdout
    assert "make space" in done.stdout
    assert sorted(os.listdir(tmp_path)) == ["run_it004_checkpoint.h5", "run_it005_checkpoint.h5"]
    assert load_checkpoint(names.checkpoint(5))[0]["n"] == 7


def test_crash_while_writing_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same name is written again (a continued run) and the machine stops just before the rename."""
    path = save_two(tmp_path).checkpoint(5)

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", stop)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(path, {"n": 8}, {})
    assert load_checkpoint(path)[0]["n"] == 7
    assert len(os.listdir(tmp_path)) == 2


def test_folder_that_can_not_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="can not be written: (Not a directory|File exists)"):
        save_checkpoint(tmp_path / "file/run_it001_checkpoint.h5", {}, {})


def test_sparse_image_is_a_file(rng: np.random.Generator) -> None:
    """Random writes and reads against a plain bytearray."""
    image, plain = _SparseImage(), bytearray(4 * _PAGE)
    for _ in range(60):
        start, length = int(rng.integers(3 * _PAGE)), int(rng.integers(1, _PAGE))
        data = rng.bytes(length)
        image.seek(start)
        image.write(data)
        plain[start : start + length] = data
        start, buffer = int(rng.integers(3 * _PAGE)), bytearray(length)
        image.seek(start)
        assert image.readinto(buffer) == length
        assert buffer == plain[start : start + length]
