"""The job scripts, run with stand-ins for SLURM's commands: signal, requeue, going on."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

TEMPLATES = sorted((Path(__file__).resolve().parents[3] / "slurm").glob("*.sbatch"))

# stands for srun and mpiapp: keeps its arguments, waits for the signal, ends as asked
SRUN = """#!/bin/bash
printf '%s\\n' "$@" > srun.args
trap 'exit 75' USR1
touch srun.ready
[[ -e wait_for_signal ]] && for i in {1..100}; do sleep 0.1; done
exit ${SRUN_STATUS:-0}
"""
TELL = '#!/bin/bash\necho "$(basename "$0") $*" >> commands\n'


@pytest.fixture
def cluster(tmp_path: Path) -> Path:
    """A folder with stand-ins for srun, scontrol and module."""
    if not shutil.which("bash"):
        pytest.skip("needs bash")
    tools = tmp_path / "tools"
    tools.mkdir()
    for name, text in (("srun", SRUN), ("scontrol", TELL), ("module", TELL)):
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    environment = tmp_path / "mpiapp-env" / "bin"
    environment.mkdir(parents=True)
    (environment / "activate").write_text("")
    return tmp_path


def start(template: Path, cluster: Path, **variables: str) -> subprocess.Popen[str]:
    environment = {
        **os.environ,
        "PATH": f"{cluster / 'tools'}:{os.environ['PATH']}",
        "HOME": str(cluster),
        "USER": "someone",
        "SLURM_JOB_ID": "42",
        "SLURM_CPUS_PER_TASK": "8",
        **variables,
    }
    return subprocess.Popen(
        ["bash", str(template)],
        cwd=cluster,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def arguments(cluster: Path) -> list[str]:
    return (cluster / "srun.args").read_text().splitlines()


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.stem)
class TestTemplates:
    def test_a_new_run_starts_with_all_options(self, template: Path, cluster: Path) -> None:
        job = start(template, cluster)
        output, _ = job.communicate(timeout=30)
        assert job.returncode == 0, output
        words = arguments(cluster)
        assert words[words.index("mpiapp") + 1] == "refine3d"
        assert words[words.index("--i") + 1] == "particles.star"
        assert words[words.index("--j") + 1] == "8"
        assert "--continue" not in words

    def test_the_signal_reaches_the_ranks_and_the_job_is_queued_again(
        self, template: Path, cluster: Path
    ) -> None:
        (cluster / "wait_for_signal").touch()
        job = start(template, cluster)
        for _ in range(200):
            if (cluster / "srun.ready").exists():
                break
            time.sleep(0.05)
        job.send_signal(signal.SIGUSR1)
        output, _ = job.communicate(timeout=30)
        assert job.returncode == 0, output
        assert "scontrol requeue 42" in (cluster / "commands").read_text()

    def test_it_goes_on_from_the_last_iteration(self, template: Path, cluster: Path) -> None:
        folder = cluster / "Refine3D" / "job001"
        folder.mkdir(parents=True)
        for iteration in (9, 10):
            (folder / f"run_it{iteration:03d}_optimiser.star").touch()
        start(template, cluster).communicate(timeout=30)
        words = arguments(cluster)
        assert words[words.index("--continue") + 1] == "Refine3D/job001/run_it010_optimiser.star"
        assert "--i" not in words

    def test_a_finished_run_is_left_alone(self, template: Path, cluster: Path) -> None:
        folder = cluster / "Refine3D" / "job001"
        folder.mkdir(parents=True)
        (folder / "run_optimiser.star").touch()
        job = start(template, cluster)
        output, _ = job.communicate(timeout=30)
        assert job.returncode == 0
        assert "finished" in output
        assert not (cluster / "srun.args").exists()

    def test_a_failure_keeps_its_exit_code_and_is_not_queued_again(
        self, template: Path, cluster: Path
    ) -> None:
        job = start(template, cluster, SRUN_STATUS="2")
        job.communicate(timeout=30)
        assert job.returncode == 2
        assert "requeue" not in (cluster / "commands").read_text()


def test_both_templates_are_here() -> None:
    assert [path.stem for path in TEMPLATES] == ["many_nodes", "one_node"]
