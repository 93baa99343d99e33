"""CUDA sources are found and compiled once, and a compile error is shown with its source line."""

from __future__ import annotations

import importlib.util
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mpiapp.backend.loader import (
    KernelLoader,
    explain,
    idle_templates,
    instances,
    kernel_files,
    kernel_folder,
    read_source,
    toolkit_folders,
)
from mpiapp.errors import DeviceError

SOURCE = """\
#include "common.cuh"
// instances: scale<float>; scale<double, 4>
template <class T, int N = 1> __global__ void scale(T *a) { a[threadIdx.x] *= N; }
extern "C" __global__ void twice(float *a) { a[threadIdx.x] = doubled(a[threadIdx.x]); }
"""
HEADER = "#pragma once\n__device__ inline float doubled(float x) { return 2 * x; }\n"


class CompileException(Exception):
    def get_message(self) -> str:
        return str(self.args[0])


class FakeCupy:
    """As much of CuPy as the loader touches; compiles whatever has no "syntax error" in it."""

    def __init__(self) -> None:
        self.made: list[Any] = []
        self.device = 0
        self.cuda = SimpleNamespace(
            Device=lambda: SimpleNamespace(id=self.device),
            nvrtc=SimpleNamespace(getVersion=lambda: (13, 0)),
            compiler=SimpleNamespace(CompileException=CompileException),
        )

    def RawModule(self, **arguments: Any) -> Any:
        def compile() -> None:
            if "syntax error" in arguments["code"]:
                raise CompileException('bad.cu(2): error: identifier "syntax" is undefined\n1 error detected')

        self.made.append(SimpleNamespace(**arguments, compile=compile))
        return self.made[-1]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "scale.cu").write_text(SOURCE)
    (tmp_path / "common.cuh").write_text(HEADER)
    (tmp_path / "bad.cu").write_text("// nothing\n  syntax error here\n")
    return tmp_path


def test_the_folder_of_kernels_is_that_of_the_package() -> None:
    assert (kernel_folder() / "__init__.py").is_file()
    assert kernel_files() == sorted(path.name for path in kernel_folder().glob("*.cu"))


def test_a_header_changes_the_text_that_is_compiled(folder: Path) -> None:
    before = read_source("scale.cu", folder)
    assert before.splitlines()[1] == SOURCE.splitlines()[0]  # line 1 of the file, by the #line above it
    (folder / "common.cuh").write_text(HEADER + "// more\n")
    assert read_source("scale.cu", folder) != before


def test_instances_are_read_from_the_source() -> None:
    assert instances(SOURCE) == ("scale<float>", "scale<double, 4>")
    assert instances("extern ...") == ()


def test_a_template_that_nothing_instantiates_is_named() -> None:
    bounded = "template <typename T>\n__global__ void __launch_bounds__(kThreads)\n    turn(T *a) {}\n"
    helper = "template <typename T> __device__ T half_of(T a) { return a / 2; }\n"
    assert idle_templates(SOURCE + helper) == []
    assert idle_templates(SOURCE + helper + bounded) == ["turn"]
    assert idle_templates(SOURCE.replace("instances:", "")) == ["scale"]


def test_every_template_of_the_kernels_is_compiled() -> None:
    assert {name: idle for name in kernel_files() if (idle := idle_templates(read_source(name)))} == {}


def test_a_module_is_compiled_once_for_each_device_and_set_of_options(folder: Path) -> None:
    cupy = FakeCupy()
    loader = KernelLoader(cupy, folder)
    first = loader.module("scale.cu")
    assert loader.module("scale.cu") is first
    assert first.name_expressions == ("scale<float>", "scale<double, 4>")
    assert "-std=c++17" in first.options
    assert f"-I{folder}" in first.options
    assert not any("fast" in option for option in first.options)
    other = loader.module("scale.cu", expressions=("scale<int>",), options=("-DTILE=8",))
    assert other.name_expressions[-1] == "scale<int>"
    assert other.options[-1] == "-DTILE=8"
    cupy.device = 1
    assert loader.module("scale.cu") is not first
    assert len(cupy.made) == 3


def test_a_compile_error_shows_file_line_source_and_reason(folder: Path) -> None:
    with pytest.raises(DeviceError) as caught:
        KernelLoader(FakeCupy(), folder).module("bad.cu")
    text = str(caught.value)
    assert caught.value.exit_code == 3
    assert 'bad.cu, line 2: `syntax error here`: identifier "syntax" is undefined' in text
    assert "NVRTC 13.0" in text


def test_a_missing_compiler_is_named(folder: Path) -> None:
    def missing() -> tuple[int, int]:
        raise RuntimeError("no libnvrtc.so.13")

    cupy = FakeCupy()
    cupy.cuda.nvrtc.getVersion = missing
    with pytest.raises(DeviceError, match=r"NVRTC does not load \(no libnvrtc"):
        KernelLoader(cupy, folder).module("scale.cu")


def test_a_missing_source_is_named(folder: Path) -> None:
    with pytest.raises(DeviceError, match=r"none\.cu: No such file"):
        KernelLoader(FakeCupy(), folder).module("none.cu")


def test_a_log_without_a_line_is_shown_whole() -> None:
    assert explain("nvrtc: error: invalid value for --gpu-architecture") == (
        "nvrtc: error: invalid value for --gpu-architecture"
    )


@pytest.fixture(scope="module")
def compiler() -> Any:
    """NVRTC as the compile check uses it."""
    script = Path(__file__).resolve().parents[3] / ".ci" / "compile_cuda"
    loader = SourceFileLoader("compile_cuda", str(script))
    spec = importlib.util.spec_from_loader("compile_cuda", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    try:
        return module.Nvrtc()
    except (SystemExit, OSError, StopIteration) as missing:
        pytest.skip(f"NVRTC is not here: {missing}")


def test_nvrtc_compiles_headers_templates_and_matrix_units(folder: Path, compiler: Any) -> None:
    (folder / "scale.cu").write_text("#include <cuda_fp16.h>\n#include <mma.h>\n" + SOURCE)
    options = (f"-I{folder}", "-std=c++17", "-arch=sm_80")
    options += tuple(f"-I{path}" for path in toolkit_folders(compiler.version[0]))
    done, log, size = compiler.compile("scale.cu", read_source("scale.cu", folder), options)
    assert (done, log) == (True, "")
    assert size > 1000


def test_nvrtc_errors_in_source_and_header_are_explained(folder: Path, compiler: Any) -> None:
    options = (f"-I{folder}", "-std=c++17", "-arch=sm_80")
    (folder / "scale.cu").write_text(SOURCE.replace("= doubled", "= dubbed"))
    done, log, _ = compiler.compile("scale.cu", read_source("scale.cu", folder), options)
    assert not done
    told = explain(log, folder)
    assert told.startswith("scale.cu, line 4: `extern")
    assert told.endswith('identifier "dubbed" is undefined')
    (folder / "scale.cu").write_text(SOURCE)
    (folder / "common.cuh").write_text(HEADER.replace("2 * x", "2 * y"))
    done, log, _ = compiler.compile("scale.cu", read_source("scale.cu", folder), options)
    assert not done
    told = explain(log, folder)
    assert told == "common.cuh, line 2: `" + HEADER.splitlines()[1].replace("2 * x", "2 * y") + (
        '`: identifier "y" is undefined'
    )
