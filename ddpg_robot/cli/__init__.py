"""The command line `ddpg-robot`, the only part of the core package that may import every room."""

from __future__ import annotations

import errno
import os
import platform
import signal
import sys
from typing import Any, NoReturn

import tyro

from ddpg_robot import __version__
from ddpg_robot.cli.commands import Command
from ddpg_robot.errors import DdpgRobotError

PROGRAM = "ddpg-robot"
DESCRIPTION = """\
Train DDPG on a torque-controlled robot in MuJoCo, export the actor to one ONNX file, drive the robot over ROS 2.

A session from nothing to a moving (simulated) arm:
  ddpg-robot train arm_reach --out runs/arm      train; Ctrl-C keeps a checkpoint, --resume goes on
  ddpg-robot evaluate runs/arm                   success and error on targets that training never saw
  ddpg-robot export runs/arm --out arm.onnx      the actor alone, checked against torch
  ddpg-robot deploy arm.onnx                     simulated arm, effort guard and policy node over ROS 2

Everything at once, with a report: ddpg-robot demo

Help on one of them: ddpg-robot train --help
"""


def main(argv: list[str] | None = None) -> None:
    """Entry point: runs one sub-command and exits with its code; 2 and one line on any error a user can mend."""
    args = sys.argv[1:] if argv is None else argv
    if args in (["--version"], ["-V"]):
        print(f"{PROGRAM} {__version__} (Python {platform.python_version()}, {platform.system()} {platform.machine()})")
        sys.exit(0)
    if not args:
        args = ["--help"]
    command: Any = tyro.cli(Command, prog=PROGRAM, description=DESCRIPTION, args=args)
    try:
        code = command()
    except DdpgRobotError as error:
        fail(str(error))
    except KeyboardInterrupt:
        code = 128 + signal.SIGINT
    except BrokenPipeError:  # the reader went away: `ddpg-robot inspect ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 128 + signal.SIGPIPE
    except OSError as error:
        if error.errno not in MENDABLE:
            raise
        where = f"{error.filename}: " if error.filename else ""
        fail(f"{where}{error.strerror}")
    sys.exit(code)


MENDABLE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EISDIR}
"""Errors of the file system that the user can mend; anything else is a bug and shows its traceback."""


def fail(message: str) -> NoReturn:
    """Prints one line and exits with code 2."""
    print("error: " + " ".join(message.split()), file=sys.stderr)
    sys.exit(2)
