"""``mpiapp report``: the page of a job, rebuilt from its files."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from mpiapp.cli.console import is_leader, say
from mpiapp.cli.simulate import Parser

SUMMARY = """\
Write report.html into the folder of a refinement or post-processing job, from the files there: one page with all
plots, without scripts or anything from the network. RELION's own folders are taken as well."""


def run(argv: Sequence[str]) -> int:
    """Parse and build; returns the exit code."""
    parser = Parser(
        prog="mpiapp report",
        usage="mpiapp report FOLDER [FOLDER ...]",
        description=SUMMARY,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("folder", nargs="+", metavar="FOLDER", help="folder of a job, e.g. Refine3D/job001")
    options = parser.parse(argv)
    if is_leader():
        from mpiapp.report.build import build_report

        for folder in options.folder:
            say(f"{build_report(folder)}")
    return 0
