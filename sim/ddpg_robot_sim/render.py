"""Pictures and films of a robot from recorded joint paths. Needs an OpenGL library; says how to get one."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np

from ddpg_robot.errors import MissingExtraError, mismatch

TRAIL = 60  # newest hand positions drawn as a line
SHADOW_SIZE = 2048  # without a graphics card a larger shadow map costs half of each frame


def render_arm(
    positions: np.ndarray,
    targets: np.ndarray,
    size: tuple[int, int] = (640, 480),
    robot: Any = None,
) -> Iterator[np.ndarray]:
    """Draws the arm at each joint position, with its target and the path of its hand.

    Args:
        positions: joint positions ``(frames, n)``, rad, in the model's order.
        targets: target of each frame ``(frames, 3)``, m.
        size: width and height in pixels.
        robot: a `Reach` task whose arm it is; None for the arm of `arm_reach`.

    Yields:
        RGB pictures ``(height, width, 3)``, uint8.

    Raises:
        MissingExtraError: no OpenGL library can be opened.
    """
    mujoco = _import_mujoco()
    from ddpg_robot_sim.base import model_path

    model = mujoco.MjModel.from_xml_path(str(model_path("arm_reach"))) if robot is None else robot.model
    data = mujoco.MjData(model)
    width, height = size
    model.vis.quality.shadowsize = SHADOW_SIZE
    model.vis.global_.offwidth, model.vis.global_.offheight = width, height
    try:
        renderer = mujoco.Renderer(model, height=height, width=width)
    except Exception as error:  # MuJoCo raises whatever the GL binding raises
        raise no_gl(error) from error
    camera = mujoco.MjvCamera()
    camera.lookat[:] = (0.28, 0.0, 0.42)
    camera.distance, camera.azimuth, camera.elevation = 1.9, 145.0, -16.0
    places = ("hand", "target")
    if robot is not None:
        places = robot.places
        camera.lookat[:] = model.stat.center
        camera.distance = 2.0 * model.stat.extent
    hand, mocap = model.site(places[0]).id, model.body(places[1]).mocapid[0]
    trail: list[np.ndarray] = []
    with renderer:
        for position, target in zip(positions, targets):
            data.qpos[: len(position)] = position
            data.mocap_pos[mocap] = target
            mujoco.mj_forward(model, data)
            trail = [*trail[-TRAIL:], data.site_xpos[hand].copy()]
            renderer.update_scene(data, camera)
            for i, (start, end) in enumerate(pairwise(trail)):
                _add_stroke(mujoco, renderer.scene, start, end, i / len(trail))
            yield renderer.render()


def _add_stroke(mujoco: Any, scene: Any, start: np.ndarray, end: np.ndarray, newness: float) -> None:
    if scene.ngeom >= scene.maxgeom:
        return
    stroke = scene.geoms[scene.ngeom]
    colour = np.array([0.95, 0.5, 0.1, 0.15 + 0.7 * newness], np.float32)
    capsule = mujoco.mjtGeom.mjGEOM_CAPSULE
    mujoco.mjv_initGeom(stroke, capsule, np.zeros(3), np.zeros(3), np.eye(3).ravel(), colour)
    mujoco.mjv_connector(stroke, capsule, 0.002 + 0.003 * newness, start, end)
    scene.ngeom += 1


def prefer_offscreen() -> None:
    """Makes MuJoCo draw without a screen where there is none. Call it before MuJoCo is first imported.

    A backend whose libraries are missing is left alone: MuJoCo could not even be imported with it.
    """
    if sys.platform != "linux" or os.environ.get("DISPLAY") or "MUJOCO_GL" in os.environ:
        return
    if _loads("libEGL.so.1") and (_loads("libOpenGL.so.0") or _loads("libGL.so.1")):
        os.environ["MUJOCO_GL"] = "egl"
    elif _loads("libOSMesa.so.8"):
        os.environ["MUJOCO_GL"] = "osmesa"


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def _import_mujoco() -> Any:
    prefer_offscreen()
    try:
        import mujoco

        mujoco.Renderer  # noqa: B018 - opens the OpenGL library
    except (ImportError, AttributeError, OSError, RuntimeError) as error:
        raise no_gl(error) from error
    return mujoco


def no_gl(error: Exception) -> MissingExtraError:
    """What to say where nothing can be drawn."""
    hint = "sudo apt install libegl1 libopengl0 libgl1-mesa-dri"
    return MissingExtraError(mismatch("OpenGL library for pictures", f"none ({error})", "EGL or OSMesa", hint=hint))
