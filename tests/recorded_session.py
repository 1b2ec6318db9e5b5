"""A recorded session without ROS: a controller on a made-up motion, with the events that a deployment knows.

As a program, ``python -m recorded_session DIRECTORY``, it ticks in real time until it is killed.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np

from ddpg_robot.controller import PolicyController
from ddpg_robot.policy import OnnxPolicy, shipped_policy
from ddpg_robot.recorder import Recorder
from ddpg_robot.safety import SafetyLimits, TripReason
from ddpg_robot.state import Command, RobotState

HOME = np.array([0.0, -0.785398, 0.0, -2.356194, 0.0, 1.570796, 0.785398])
LIMITS = SafetyLimits()
TARGET_AT, ESTOP_AT, REARM_AT, STALE_AT, REARM_AGAIN_AT, BEYOND_AT = 10, 60, 90, 150, 170, 290


class RecordedSession:
    """One controller, one recorder; `complaints` keeps what the recorder says."""

    def __init__(self, directory: Path, policy: str = "arm_reach") -> None:
        opened = OnnxPolicy.open(shipped_policy(policy))
        self.controller = PolicyController(opened, LIMITS)
        self.state, self.command = RobotState(7), Command(3)
        self.complaints: list[str] = []
        self.recorder = Recorder(
            directory, opened.manifest, self.controller, LIMITS, self.state, self.command, self.complaints.append
        )
        self.rearms = 0
        self.efforts: list[np.ndarray] = []
        self.controller.rearm()

    def rearm(self) -> None:
        self.controller.rearm()
        self.rearms += 1

    def tick(self, k: int) -> None:
        """Tick `k`: a slow swing; a target, an emergency stop, a state that is too old, and one beyond a limit."""
        state, age = self.state, 0.001
        state.position[:] = HOME + 0.1 * np.sin(k / 50 + np.arange(7))
        state.velocity[:] = 0.1 * np.cos(k / 50 + np.arange(7))
        state.stamp = k * 0.02
        if k == TARGET_AT:
            self.command.values[:] = (0.5, 0.1, 0.4)
            self.rearm()
        elif k == ESTOP_AT:
            self.controller.safety.trip(TripReason.ESTOP, "asked for by ~/estop")
        elif k in (REARM_AT, REARM_AGAIN_AT):
            self.rearm()
        elif k == STALE_AT:
            age = 1.0
        elif k == BEYOND_AT:
            state.position[3] = 0.5
        waiting = k < TARGET_AT
        verdict = self.controller.drive(state, self.command, age, waiting)
        self.efforts.append(self.controller.effort.copy())
        self.recorder.add(time.time(), (1e-4, 2e-4, age, 3e-4), k, self.rearms, waiting, verdict)


def record(directory: Path, policy: str = "arm_reach", ticks: int = 300, dropped: range = range(0)) -> Path:
    """Records a session, but for the ticks `dropped`; returns the file."""
    session = RecordedSession(directory, policy)
    session.recorder.start()
    add = session.recorder.add
    for k in range(ticks):
        session.recorder.add = (lambda *tick: None) if k in dropped else add
        session.tick(k)
    session.recorder.close()
    assert not session.complaints, session.complaints
    assert session.recorder.written == ticks - len(dropped)
    return session.recorder.path


def main() -> None:
    session = RecordedSession(Path(sys.argv[1]))
    session.recorder.start()
    k = 0
    while True:
        session.tick(k)
        k += 1
        if session.complaints:
            print(session.complaints.pop(), flush=True)
        if k % 100 == 0:
            print(k, flush=True)
        time.sleep(0.002)


if __name__ == "__main__":
    main()
