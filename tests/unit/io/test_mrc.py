"""MRC files: headers byte by byte, every mode and byte order, damaged files, RELION as reader."""

from __future__ import annotations

import errno
import gzip
import re
import struct
import subprocess
from pathlib import Path

import mrcfile
import numpy as np
import pytest
from io_builders import MRC_MODES, mrc_bytes

from mpiapp.errors import InputError
from mpiapp.io import mrc
from mpiapp.io.mrc import read_header, read_map, write_map, write_stack


@pytest.fixture
def volume(rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, 100, size=(4, 6, 8)).astype(np.float32)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("mode", sorted(MRC_MODES))
def test_every_mode_and_byte_order(tmp_path: Path, volume: np.ndarray, mode: int, order: str) -> None:
    path = tmp_path / "a.mrc"
    path.write_bytes(mrc_bytes(volume, 1.5, mode=mode, order=order, extended=160))
    header = read_header(path)
    assert (header.shape, header.mode, header.data_offset, header.remarks) == ((4, 6, 8), mode, 1184, ())
    array, pixel = read_map(path)
    assert array.dtype == np.float32
    assert array.dtype.isnative
    assert pixel == 1.5
    assert np.array_equal(array, volume)


@pytest.mark.parametrize(
    ("order", "stamp"), [("<", b"\x11\x11\0\0"), (">", b"\x44\x44\0\0"), (">", bytes(4))]
)
def test_wrong_machine_stamp_is_put_up_with(
    tmp_path: Path, volume: np.ndarray, order: str, stamp: bytes
) -> None:
    path = tmp_path / "a.mrc"
    path.write_bytes(mrc_bytes(volume, order=order, stamp=stamp, mark=b"\0\0\0\0"))
    assert np.array_equal(read_map(path)[0], volume)
    remarks = " ".join(read_header(path).remarks)
    assert "stamp" in remarks
    assert "'MAP '" in remarks


@pytest.mark.parametrize("axes", [(1, 2, 3), (3, 2, 1), (2, 3, 1), (3, 1, 2)])
def test_axes_are_turned_to_zyx(tmp_path: Path, volume: np.ndarray, axes: tuple[int, int, int]) -> None:
    # Stored axes (sections, rows, columns) run along these directions (x=1, y=2, z=3).
    stored = np.transpose(volume, [3 - axes[2], 3 - axes[1], 3 - axes[0]])
    path = tmp_path / "a.mrc"
    path.write_bytes(mrc_bytes(stored, axes=axes))
    assert np.array_equal(read_map(path)[0], volume)


def test_packed_map(tmp_path: Path, volume: np.ndarray) -> None:
    path = tmp_path / "a.mrc.gz"
    path.write_bytes(gzip.compress(mrc_bytes(volume)))
    assert np.array_equal(read_map(path)[0], volume)
    assert read_header(path).compressed


def test_real_maps_agree_with_mrcfile(shared: Path) -> None:
    paths = sorted([*(shared / "data").rglob("*.mrc"), *(shared / "data").rglob("*.map")])
    assert len(paths) >= 8
    for path in paths:
        array, pixel = read_map(path)
        with mrcfile.open(path, permissive=True) as other:
            assert np.array_equal(array.squeeze(), other.data.astype(np.float32).squeeze())
            assert pixel == pytest.approx(float(other.voxel_size.x), abs=1e-6)


def header_words(path: Path) -> tuple[tuple[int, ...], tuple[float, ...]]:
    raw = path.read_bytes()[:1024]
    return struct.unpack("<256i", raw), struct.unpack("<256f", raw)


def test_map_header_word_by_word(tmp_path: Path, rng: np.random.Generator) -> None:
    path = tmp_path / "m.mrc"
    array = rng.normal(size=(6, 6, 6))
    write_map(path, array, 1.25)
    ints, floats = header_words(path)
    assert ints[0:10] == (6, 6, 6, 2, 0, 0, 0, 6, 6, 6)
    assert floats[10:16] == (7.5, 7.5, 7.5, 90, 90, 90)
    assert ints[16:19] == (1, 2, 3)
    assert (ints[22], ints[23]) == (1, 0)
    assert floats[49:52] == (0, 0, 0)
    assert path.read_bytes()[208:214] == b"MAP \x44\x44"
    assert floats[19:22] == pytest.approx((array.min(), array.max(), array.mean()), rel=1e-5)
    assert floats[54] == pytest.approx(array.std(), rel=1e-5)
    assert mrcfile.validate(path)
    assert path.stat().st_size == 1024 + 4 * 6**3
    assert np.array_equal(read_map(path)[0], array.astype(np.float32))


@pytest.mark.parametrize("float16", [False, True])
def test_stack_header_word_by_word(tmp_path: Path, rng: np.random.Generator, float16: bool) -> None:
    path = tmp_path / "s.mrcs"
    images = rng.normal(size=(5, 8, 8)).astype(np.float32)
    write_stack(path, images, 2.0, float16=float16)
    ints, floats = header_words(path)
    assert ints[0:4] == (8, 8, 5, 12 if float16 else 2)
    assert ints[7:9] == (8, 8)
    assert floats[10:12] == (16, 16)
    assert ints[22] == 0
    header = read_header(path)
    assert (header.n_images, header.pixel_size_A, header.n_complete_images) == (5, 2.0, 5)
    expected = images.astype(np.float16).astype(np.float32) if float16 else images
    assert np.array_equal(read_map(path)[0], expected)


def test_float16_is_clipped_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    images = np.full((1, 4, 4), 1e6, np.float32)
    write_stack(tmp_path / "s.mrcs", images, 1.0, float16=True)
    assert np.all(read_map(tmp_path / "s.mrcs")[0] == 65504)
    assert "16 values" in caplog.text


def test_relion_reads_our_files(relion: Path, tmp_path: Path, rng: np.random.Generator) -> None:
    array = rng.normal(size=(16, 16, 16)).astype(np.float32) + 2
    write_map(tmp_path / "m.mrc", array, 1.75)
    write_stack(tmp_path / "s.mrcs", array, 1.75)
    handler = str(relion / "relion_image_handler")
    for name, mean in (("m.mrc", array.mean()), ("16@s.mrcs", array[15].mean())):
        run = [handler, "--i", name, "--stats"]
        out = subprocess.run(run, check=True, capture_output=True, text=True, timeout=60, cwd=tmp_path).stdout
        found = re.search(r"avg= *(\S+).*angpix = (\S+)", out)
        assert found, out
        assert float(found[1]) == pytest.approx(mean, abs=1e-4)
        assert float(found[2]) == pytest.approx(1.75, abs=1e-5)


def test_full_disk_leaves_the_old_map(
    tmp_path: Path, volume: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m.mrc"
    write_map(path, volume, 1.0)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(mrc, "_new_header", full)
    with pytest.raises(InputError, match=r"m\.mrc.*space"):
        write_map(path, volume + 1, 1.0)
    assert np.array_equal(read_map(path)[0], volume)
    assert [p.name for p in tmp_path.iterdir()] == ["m.mrc"]
