"""A run that is killed or stopped at any moment goes on as if nothing had happened."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from e2e_jobs import MPIEXEC, REFINE, Ended, command, compare, environment, last_optimiser, run

from mpiapp.errors import StopRequested

pytestmark = pytest.mark.slow
needs_mpi = pytest.mark.skipif(not MPIEXEC.exists(), reason="no mpiexec beside this Python")
ROOT = Path("out/run")

# When the process kills itself with SIGKILL, and the iteration that its user finds.
MOMENTS = {
    "in the first expectation step": ("def at(i, b): (i, b) == (1, 3) and die()", 0),
    "in a later expectation step": ("def at(i, b): (i, b) == (2, 3) and die()", 1),
    "between maps and tables": (
        """
        from mpiapp.engine.refine_writer import RefinementWriter
        tables = RefinementWriter._tables
        RefinementWriter._tables = lambda self, state, n: die() if n == 2 else tables(self, state, n)
        """,
        1,
    ),
    "in the middle of the checkpoint file": (
        """
        import mpiapp.io.checkpoint as checkpoint
        write = checkpoint.write_tree
        def write_tree(path, tree, attributes):
            write(path, tree, attributes)
            if "it002" in path.name:
                os.truncate(path, path.stat().st_size // 2)
                die()
        checkpoint.write_tree = write_tree
        """,
        1,
    ),
    "between checkpoint and optimiser file": (
        """
        from mpiapp.engine.writer import Writer
        optimiser = Writer._optimiser_file
        Writer._optimiser_file = lambda self, state, n: die() if n == 2 else optimiser(self, state, n)
        """,
        1,
    ),
}


def go_on(project: Path, *more: str, ranks: int = 0, hook: str = "") -> Ended:
    """Continue from the last optimiser file there is."""
    return run(project, ["refine3d", "--continue", str(find_last(project)), *more], ranks, hook)


def find_last(project: Path) -> Path:
    return last_optimiser(project / ROOT).relative_to(project)


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_killed_run_goes_on_as_if_it_had_not_been(moment: str, project: Path, undisturbed: Path) -> None:
    hook, last = MOMENTS[moment]
    killed = run(project, [*REFINE, "--o", str(ROOT)], hook=hook)
    assert killed.code == -signal.SIGKILL
    assert find_last(project).name == f"run_it{last:03d}_optimiser.star"
    ended = go_on(project)
    assert (ended.code, ended.err) == (0, "")
    assert compare(undisturbed, project / ROOT).is_rounding()
    assert not list(project.glob("out/.*.tmp"))  # what the killed run was writing is removed


@needs_mpi
def test_a_run_goes_on_with_another_number_of_ranks(half_way: Path, project: Path, undisturbed: Path) -> None:
    assert go_on(project, ranks=4).code == 0
    assert compare(undisturbed, half_way).is_rounding()


def test_a_signal_keeps_the_work_of_the_iteration(project: Path, undisturbed: Path) -> None:
    hook = "def at(i, b): (i, b) == (2, 3) and os.kill(os.getpid(), signal.SIGTERM)"
    stopped = run(project, [*REFINE, "--o", str(ROOT)], hook=hook)
    assert stopped.code == StopRequested.exit_code
    (message,) = stopped.messages
    assert "signal SIGTERM received" in message
    assert message.endswith("go on with --continue out/run_it001_optimiser.star")
    assert (project / "out/run_it002_partial.h5").is_file()
    assert "out/run_it001_optimiser.star" in (project / "out/run.log").read_text()

    ended = go_on(project)
    assert ended.code == 0
    done = next(line for line in ended.out.splitlines() if "were done before the run was stopped" in line)
    assert 0 < int(done.split()[0]) < 80
    assert compare(undisturbed, project / ROOT).is_rounding()
    assert not (project / "out/run_it002_partial.h5").exists()


@needs_mpi
def test_work_kept_by_some_ranks_is_taken_up_by_others(project: Path, undisturbed: Path) -> None:
    """Stopped twice in one iteration, on 3 ranks and on 4, and finished on one."""
    hook = "def at(i, b): (i, b) == (2, 2) and os.kill(os.getpid(), signal.SIGUSR1)"
    first = run(project, [*REFINE, "--o", str(ROOT)], 3, hook)
    second = go_on(project, ranks=4, hook=hook.replace("(i, b) == (2, 2)", "(rank, i, b) == (1, 2, 1)"))
    assert (first.code, second.code) == (StopRequested.exit_code,) * 2
    for stopped in (first, second):
        (message,) = stopped.messages
        assert "signal SIGUSR1 received" in message
    assert go_on(project).code == 0
    assert compare(undisturbed, project / ROOT).is_rounding()


def test_changed_options_start_the_iteration_anew(project: Path) -> None:
    hook = "def at(i, b): (i, b) == (2, 3) and os.kill(os.getpid(), signal.SIGTERM)"
    run(project, [*REFINE, "--o", str(ROOT)], hook=hook)
    ended = go_on(project, "--tau2_fudge", "2", "--o", "other/run")
    assert ended.code == 0
    assert "done again from its start, as options were changed" in ended.out
    assert (project / "other/run_it003_optimiser.star").is_file()
    assert "--tau2_fudge 2" in (project / "other/run_it003_optimiser.star").read_text()


@needs_mpi
def test_a_signal_to_one_rank_reaches_the_others_in_the_middle_of_their_work(project: Path) -> None:
    hook = """
    def at(i, b):
        if i == 2:
            os.kill(os.getpid(), signal.SIGTERM) if rank == 2 else time.sleep(1)
    """
    stopped = run(project, [*REFINE, "--o", str(ROOT), "--j", "1"], 3, hook)
    assert stopped.code == StopRequested.exit_code
    (message,) = stopped.messages
    assert "signal SIGTERM received (rank 2)" in message
    done = stopped.out.split("Stopped in iteration 2 with ")[1]
    assert int(done.split()[0]) < 45, "8 of rank 2, and fewer than the 42 that rank 1 has"


@needs_mpi
def test_a_signal_to_mpiexec_ends_all_ranks(project: Path) -> None:
    """As a batch script passes SLURM's warning on."""
    hook = "def at(i, b): i == 2 and (print('slow', flush=True), time.sleep(0.5))"
    words = command([*REFINE, "--o", str(ROOT)], 3, hook, project)
    pipe = subprocess.PIPE
    job = subprocess.Popen(words, cwd=project, env=environment(), stdout=pipe, stderr=pipe)
    try:
        assert job.stdout is not None
        while b"slow" not in job.stdout.readline():
            assert job.poll() is None
        job.send_signal(signal.SIGUSR1)
        begin = time.monotonic()
        _, err = job.communicate(timeout=60)
        assert job.returncode == StopRequested.exit_code
        assert time.monotonic() - begin < 15
        assert b"go on with --continue out/run_it001_optimiser.star" in err
    finally:
        job.kill()


def test_the_time_limit(project: Path) -> None:
    stopped = run(project, [*REFINE, "--o", str(ROOT), "--max_hours", "1e-7"])
    assert stopped.code == StopRequested.exit_code
    (message,) = stopped.messages
    assert "time limit of 1e-07 hours reached" in message
    assert message.endswith("go on with --continue out/run_it000_optimiser.star")


def test_files_left_out_on_the_way_are_written_at_a_stop(project: Path) -> None:
    hook = "def at(i, b): (i, b) == (3, 2) and os.kill(os.getpid(), signal.SIGTERM)"
    stopped = run(project, [*REFINE, "--o", str(ROOT), "--write_every", "5"], hook=hook)
    assert stopped.code == StopRequested.exit_code
    assert not (project / "out/run_it001_data.star").exists()
    for name in ("data.star", "half1_model.star", "half2_class001.mrc"):
        assert (project / f"out/run_it002_{name}").is_file()


def test_relions_files_are_enough(half_way: Path, project: Path, undisturbed: Path) -> None:
    """Without checkpoints the state comes from STAR files and maps, which hold six digits."""
    for file in (project / "out").glob("*.h5"):
        file.unlink()
    ended = go_on(project)
    assert ended.code == 0
    assert "going on from the STAR files and maps" in ended.out
    assert compare(undisturbed, half_way.with_name("run_ct2")).same_poses > 0.95


def test_force_converge_and_what_can_not_go_on(converged: Path, project: Path, undisturbed: Path) -> None:
    for name in ("class001.mrc", "half1_class001_unfil.mrc", "model.star", "data.star", "fsc.png"):
        assert converged.with_name(f"run_{name}").is_file()
    shutil.copytree(undisturbed.parent, project / "out")
    exhausted = go_on(project)
    assert exhausted.code == 2
    assert "--auto_iter_max 3: the run that is continued has done 3 iterations" in exhausted.err
    over = run(converged.parent.parent, ["refine3d", "--continue", "out/run_optimiser.star"])
    assert over.code == 2
    assert "this run has converged" in over.err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--healpix_order", "2"], ["--healpix_order 2", "had 1"]),
        (["--i", "data/truth.star"], ["--i data/truth.star", "data/particles.star"]),
    ],
)
def test_options_that_can_not_change_on_the_way(
    options: list[str], words: list[str], half_way: Path, project: Path
) -> None:
    ended = go_on(project, *options)
    assert ended.code == 2
    (message,) = ended.messages
    assert all(word in message for word in words)


def test_other_particles_under_the_same_name(half_way: Path, project: Path) -> None:
    star = project / "data/particles.star"
    star.write_text(star.read_text().replace("000003@", "000099@").replace("000004@", "000003@"))
    star.write_text(star.read_text().replace("000099@", "000004@"))
    ended = go_on(project)
    assert ended.code == 2
    assert "not the particles of the run that is continued" in ended.err


@pytest.mark.relion
@pytest.mark.skipif(not shutil.which("mpirun"), reason="no mpirun for RELION")
def test_a_run_of_relion_goes_on(project: Path, relion: Path) -> None:
    words = f"""mpirun --oversubscribe -n 3 {relion}/relion_refine_mpi --i data/particles.star --o rel/run
        --ref data/reference_class001.mrc --ini_high 40 --particle_diameter 144 --healpix_order 1
        --offset_range 3 --offset_step 1 --oversampling 1 --auto_refine --split_random_halves --ctf --norm
        --scale --zero_mask --flatten_solvent --low_resol_join_halves 40 --random_seed 1 --pad 2
        --auto_iter_max 1 --dont_combine_weights_via_disc"""
    (project / "rel").mkdir()
    allowed = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    subprocess.run(
        words.split(), cwd=project, env=environment() | allowed, check=True, capture_output=True, timeout=120
    )
    arguments = ["refine3d", "--continue", "rel/run_it001_optimiser.star", "--auto_iter_max", "2"]
    ended = run(project, arguments)
    assert ended.code == 0, ended
    assert "Going on after iteration 1 with global searches at HEALPix order 1" in ended.out
    assert (project / "rel/run_ct1_it002_optimiser.star").is_file()
    pmax = float(ended.out.split("average Pmax=")[1].split()[0])
    assert 0.1 < pmax <= 1.0
