"""Options of the mini-batch gradient algorithm, of ``mpiapp class2d`` and ``mpiapp class3d``."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields

from mpiapp.config.common import OR_AUTO, CommonConfig
from mpiapp.config.option import option
from mpiapp.errors import ConfigError

GRADIENT = "Gradient algorithm"
SCHEME = re.compile(r"(?P<factor>\d*\.?\d+(?:[eE][-+]?\d+)?)-step")
PLAIN = "plain"


@dataclass(frozen=True, kw_only=True)
class GradientConfig(CommonConfig):
    """Options that act only with ``grad``."""

    grad: bool = option(
        False, "Mini-batch gradient steps (VDAM) instead of expectation-maximization.", GRADIENT, fixed=True
    )
    grad_ini_frac: float = option(
        0.3, "Share of the iterations with the first mini-batch size.", GRADIENT, above=0, maximum=0.99
    )
    grad_fin_frac: float = option(
        0.2, "Share of the iterations with the last mini-batch size.", GRADIENT, above=0, maximum=0.99
    )
    grad_ini_subset: int = option(
        -1,
        "Particles of a first mini-batch; -1: 0.5 % of them (3D: 10 %), at least 200.",
        GRADIENT,
        minimum=1,
        special=(-1,),
    )
    grad_fin_subset: int = option(
        -1,
        "Particles of a last mini-batch; -1: 5 % of them (3D: 10 %), at least 1000.",
        GRADIENT,
        minimum=1,
        special=(-1,),
    )
    grad_stepsize: float = option(-1.0, "Last step size; -1 means 0.3.", GRADIENT, maximum=1, **OR_AUTO)
    grad_stepsize_scheme: str = option(
        "",
        "plain, or X-step: the first step size is X times the last. Default: from 0.9 (3D: plain).",
        GRADIENT,
        metavar="SCHEME",
    )
    tau2_fudge_scheme: str = option(
        "",
        "plain, or X-step: T begins at its X-th part. Default: from 1 (3D: plain).",
        GRADIENT,
        metavar="SCHEME",
    )
    grad_em_iters: int = option(0, "Iterations of expectation-maximization at the end.", GRADIENT, minimum=0)
    mu: float = option(
        0.9,
        "What is kept of noise spectra and priors after a mini-batch.",
        GRADIENT,
        minimum=0,
        maximum=0.999,
    )
    class_inactivity_threshold: float = option(
        0.0,
        "Classes below this share of the mean size are replaced by copies of active ones; 0: none.",
        GRADIENT,
        minimum=0,
        maximum=1,
    )
    grad_write_iter: int = option(
        10, "Write files and checkpoint of each n-th mini-batch.", GRADIENT, minimum=1
    )

    def check_gradient(self) -> None:
        """Check the options of the gradient algorithm; raises ConfigError."""
        for flag in ("grad_stepsize_scheme", "tau2_fudge_scheme"):
            scheme_factor(flag, getattr(self, flag))
        if self.grad_em_iters > self.last_iteration:
            raise ConfigError(
                f"--grad_em_iters {self.grad_em_iters}: more than the {self.last_iteration} iterations of the run "
                "(--iter); make it smaller, or leave out --grad"
            )

    def unused_gradient(self) -> list[str]:
        """A warning about options that have no effect without ``grad``."""
        if self.grad:
            return []
        own = [f.name for f in fields(GradientConfig) if f.name not in {c.name for c in fields(CommonConfig)}]
        named = [f"--{name}" for name in own if name in self.given and name != "grad"]
        return [f"{', '.join(named)}: no effect without --grad"] if named else []


def scheme_factor(flag: str, scheme: str) -> float | None:
    """X of a scheme "X-step", 1 for "plain", None where none is given.

    Raises
    ------
    ConfigError
        It is neither.
    """
    if scheme in ("", PLAIN):
        return 1.0 if scheme else None
    found = SCHEME.fullmatch(scheme)
    if found is None or not 0 < float(found["factor"]) < 1e6:
        raise ConfigError(f"--{flag} {scheme}: expected plain, or a number above 0 and -step, such as 3-step")
    return float(found["factor"])
