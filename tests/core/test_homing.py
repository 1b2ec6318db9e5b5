"""The reset procedure: home, slowly, whatever the distance."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest

from ddpg_robot.errors import ConfigError
from ddpg_robot.homing import Homing
from ddpg_robot.safety import SafetyFilter, SafetyLimits
from ddpg_robot.spec import PolicyInterface
from ddpg_robot.state import RobotState

pytest.importorskip("gymnasium")
from ddpg_robot_sim.arm_reach import ArmReach
from ddpg_robot_sim.base import model_path

SPEED = 0.2


@pytest.fixture(scope="module")
def interface() -> PolicyInterface:
    return ArmReach("pd").interface


def test_the_arm_comes_home_no_faster_than_it_may(interface: PolicyInterface) -> None:
    model = mujoco.MjModel.from_xml_path(str(model_path("arm_reach")))
    data, home = mujoco.MjData(model), ArmReach("pd").home
    data.qpos[:] = home + np.array([1.5, 0.8, -1.5, -0.6, 1.0, -1.0, 1.5])
    homing, state = Homing(interface.robot, home, SPEED), RobotState(7)
    safety = SafetyFilter(interface.robot, SafetyLimits(), 0.004)
    fastest = np.zeros(7)
    for _ in range(4000):  # 16 s
        state.position[:], state.velocity[:] = data.qpos, data.qvel
        if homing.is_home(state):
            break
        assert not safety.step(homing.effort(state), state, 0.0).tripped
        data.ctrl[:] = safety.effort
        mujoco.mj_step(model, data, 2)
        fastest = np.maximum(fastest, np.abs(data.qvel))
    assert homing.is_home(state)
    limits = np.array([joint.velocity_limit for joint in interface.robot.joints])
    assert (fastest <= 1.3 * SPEED * limits).all()
    assert (fastest >= 0.5 * SPEED * limits).any()


@pytest.mark.parametrize("home", [[0.0] * 6, [0.0, 0.0, 0.0, 0.5, 0.0, 0.0, 0.0]])
def test_a_home_that_the_arm_does_not_have_is_refused(interface: PolicyInterface, home: list[float]) -> None:
    with pytest.raises(ConfigError, match="home"):
        Homing(interface.robot, home)
