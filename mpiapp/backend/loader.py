"""CUDA sources: found beside the numba kernels, compiled at run time by NVRTC, errors shown with their source line.

A source names the instances of its templates itself, so that the program and the compile check see the same ones::

    // instances: score_tile<__half>; score_tile<float>
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import threading
from collections.abc import Iterable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from mpiapp.errors import DeviceError

STANDARD = "-std=c++17"
_TEMPLATE = re.compile(
    r"template\s*<[^;{}]*?>\s*__global__\s+void\s+(?:__launch_bounds__\([^)]*\)\s*)?(\w+)\s*\("
)
_PLAIN = re.compile(
    r'^extern "C" __global__ void\s+(?:__launch_bounds__\([^)]*\)\s*)?(\w+)\s*\(', re.MULTILINE
)
_INSTANCES = re.compile(r"^//\s*instances:(.*)$", re.MULTILINE)
# "score.cu(12): error: identifier "x" is undefined", as NVRTC and nvcc write it
_COMPLAINT = re.compile(
    r"^(?P<file>[^\s(]+)\((?P<line>\d+)\): (?:catastrophic )?error: (?P<words>.*)$", re.MULTILINE
)


def kernel_folder() -> Path:
    """Folder of the CUDA sources: of the installed package, or beside it in a source tree.

    Raises
    ------
    DeviceError
        The installation has no kernels.
    """
    try:
        folder = Path(str(resources.files("mpiapp.kernels")))
    except ModuleNotFoundError:
        # a source tree on the path that was not installed
        folder = Path(__file__).resolve().parents[2] / "kernels"
    if not folder.is_dir():
        raise DeviceError(f"no CUDA sources in {folder}: the installation is incomplete, install mpiapp anew")
    return folder


def kernel_files(folder: Path | None = None) -> list[str]:
    """Names of all CUDA sources, sorted."""
    return sorted(path.name for path in (folder or kernel_folder()).glob("*.cu"))


def read_source(name: str, folder: Path | None = None) -> str:
    """Text of a source as the compiler gets it.

    The first line makes the compiler speak of the file by name. The last one changes with every header: CuPy's
    cache on disk knows the text of the source only.

    Raises
    ------
    DeviceError
        There is no such file.
    """
    folder = folder or kernel_folder()
    try:
        text = (folder / name).read_text(encoding="utf-8")
    except OSError as fault:
        raise DeviceError(
            f"{folder / name}: {fault.strerror}; the installation is incomplete, install mpiapp anew"
        ) from fault
    headers = hashlib.sha256()
    for path in sorted(folder.glob("*.cuh")):
        headers.update(path.name.encode() + path.read_bytes())
    return f'#line 1 "{name}"\n{text}\n// headers {headers.hexdigest()}\n'


def instances(text: str) -> tuple[str, ...]:
    """Template instances that a source asks for, as NVRTC's name expressions."""
    found = [item.strip() for line in _INSTANCES.findall(text) for item in line.split(";")]
    return tuple(item for item in found if item)


def kernel_names(text: str) -> list[str]:
    """Every kernel of a source as it is launched: plain ones by name, templates by instance."""
    return [*_PLAIN.findall(text), *instances(text)]


def idle_templates(text: str) -> list[str]:
    """Kernel templates without an instance: nothing of them would be compiled, and no error in them found."""
    named = {item.partition("<")[0].strip() for item in instances(text)}
    return [name for name in _TEMPLATE.findall(text) if name not in named]


def toolkit_folders(major: int) -> list[Path]:
    """Folders with the CUDA headers of a major version: those of pip's wheels, else of the system.

    CuPy finds the headers of the runtime by itself, but not those of the matrix units (``mma.h``), which other
    wheels hold.
    """
    spec = importlib.util.find_spec("nvidia")
    roots = [Path(root) for root in (spec.submodule_search_locations or ())] if spec else []
    pattern = f"cu{major}/include" if major > 12 else "cuda_*/include"
    wheels = [folder for root in roots for folder in sorted(root.glob(pattern))]
    wheels += [folder / "cccl" for folder in wheels if (folder / "cccl").is_dir()]
    if any((folder / "crt" / "mma.h").is_file() for folder in wheels):
        return wheels
    homes = [os.environ.get(name, "") for name in ("CUDA_PATH", "CUDA_HOME")]
    for home in [*filter(None, homes), f"/usr/local/cuda-{major}", "/usr/local/cuda"]:
        folder = Path(home) / "include"
        if _version_of(folder) == major and (folder / "crt" / "mma.h").is_file():
            return [folder, *([folder / "cccl"] if (folder / "cccl").is_dir() else [])]
    return wheels


def _version_of(folder: Path) -> int:
    """Major version of the headers in a folder, 0 when there are none."""
    try:
        text = (folder / "cuda.h").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return 0
    found = re.search(r"#define\s+CUDA_VERSION\s+(\d+)", text)
    return int(found[1]) // 1000 if found else 0


def compiler_options(includes: Iterable[Path], extra: Sequence[str] = ()) -> tuple[str, ...]:
    """Options of every compilation: the language, the folders of headers, and those of the caller."""
    return (STANDARD, *(f"-I{folder}" for folder in includes), *extra)


def explain(log: str, folder: Path | None = None) -> str:
    """The first complaint of a compiler's log: file, line, the source line, the compiler's words."""
    found = _COMPLAINT.search(log)
    if not found:
        return " ".join(log.split()) or "the compiler gives no reason"
    name, number = Path(found["file"]).name, int(found["line"])
    count = len(_COMPLAINT.findall(log))
    more = f" (and {count - 1} more)" if count > 1 else ""
    try:
        line = (
            ((folder or kernel_folder()) / name).read_text(encoding="utf-8").splitlines()[number - 1].strip()
        )
    except (OSError, IndexError):
        line = "source line not available"
    return f"{name}, line {number}: `{line}`: {found['words'].strip()}{more}"


class KernelLoader:
    """Compiles the CUDA sources and keeps what was compiled.

    Parameters
    ----------
    cupy
        The CuPy module.
    folder
        Folder of sources; default is that of the installation.
    """

    def __init__(self, cupy: Any, folder: Path | None = None) -> None:
        self._cupy = cupy
        self._folder = folder or kernel_folder()
        self._modules: dict[tuple[Any, ...], Any] = {}
        self._lock = threading.Lock()

    def module(self, name: str, expressions: Sequence[str] = (), options: Sequence[str] = ()) -> Any:
        """A compiled source for the current device.

        Parameters
        ----------
        name
            File name, e.g. "score.cu".
        expressions
            Template instances besides those that the source names.
        options
            Compiler options besides the usual ones, e.g. "-DTILE=64".

        Returns
        -------
        cupy.RawModule
            ``get_function`` takes names and template instances.

        Raises
        ------
        DeviceError
            The source is missing or does not compile.
        """
        key = (name, tuple(expressions), tuple(options), self._cupy.cuda.Device().id)
        with self._lock:  # threads that begin together shall not each compile the same
            if key not in self._modules:
                self._modules[key] = self._compile(name, tuple(expressions), tuple(options))
            return self._modules[key]

    def _compile(self, name: str, expressions: tuple[str, ...], options: tuple[str, ...]) -> Any:
        text = read_source(name, self._folder)
        wanted = tuple(dict.fromkeys((*instances(text), *expressions)))
        version = self._compiler_version()
        usual = compiler_options([self._folder, *toolkit_folders(version[0])], options)
        module = self._cupy.RawModule(
            code=text, options=usual, backend="nvrtc", name_expressions=wanted or None
        )
        try:
            module.compile()
        except self._cupy.cuda.compiler.CompileException as fault:
            raise DeviceError(
                f"CUDA source does not compile: {explain(fault.get_message(), self._folder)} "
                f"[NVRTC {'.'.join(map(str, version))}, {' '.join(usual)}]"
            ) from fault
        return module

    def _compiler_version(self) -> tuple[int, ...]:
        try:
            return tuple(self._cupy.cuda.nvrtc.getVersion())
        except RuntimeError as fault:
            raise DeviceError(
                f"CUDA's compiler library NVRTC does not load ({fault}): install CuPy with its CUDA libraries, "
                'pip install "mpiapp[cuda13]" (or "mpiapp[cuda12]")'
            ) from fault
