"""Trials of identification: robots drawn at random, recorded, and identified.

``PYTHONPATH=tests python -m identification_trials docs/benchmarks/identification.json`` writes one row per draw, and goes on
where it was. ``--picture FILE SEED`` draws one of them.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from ddpg_robot import __version__
from ddpg_robot.controller import PolicyController
from ddpg_robot.files import write_json
from ddpg_robot.policy import OnnxPolicy, shipped_policy
from ddpg_robot.recorder import Ring
from ddpg_robot.recording import SCHEMA, Marks, Session, TickLayout
from ddpg_robot.recording_file import RecordingWriter
from ddpg_robot.safety import SafetyLimits
from ddpg_robot.state import Command, RobotState
from ddpg_robot_ros.plant import Plant
from ddpg_robot_sim import TASKS
from ddpg_robot_sim.base import model_path
from ddpg_robot_sim.draw import draw
from ddpg_robot_sim.identification.identify import as_json, identify
from ddpg_robot_sim.randomization import Randomization

SEEDS = range(10)
"""Of the ten draws that count; whatever was tuned was tuned on others (100 and up)."""
POLICY = "arm_reach_pd"
DRAWN = Randomization(
    link_mass=(0.8, 1.2),
    joint_damping=(0.5, 2.0),
    joint_friction=(0.25, 4.0),
    armature=(0.6, 1.5),
    motor_strength=(0.8, 1.15),
    effort_delay_ms=(0.0, 10.0),
    position_noise=(0.0, 0.0005),
    velocity_noise=(0.0, 0.02),
    position_resolution=(0.0, 0.0004),
)
"""What the robots are drawn from, and the prior of their identification: a worn robot with the sensors of a good one."""
SECONDS, EVERY_S, STEP_M = 30.0, 0.6, 0.3
"""How long the robot is recorded, how often it gets another target, and how far from the one before, along each axis."""
HAND = (0.5, 0.0, 0.45)
START_S = 1_800_000_000.0
"""When a recording begins, s since 1970."""


def drawn_robot(seed: int, **fixed: tuple[float, float]) -> dict[str, Any]:
    """A robot drawn from `DRAWN`, with some ranges fixed; what is not drawn is the model's."""
    ranges = dataclasses.replace(DRAWN, **fixed)
    return dict(vars(draw(ranges, np.random.default_rng(seed), 7, 7)))


def record_draw(
    path: Path, robot: dict[str, Any], seed: int, seconds: float, every: float = EVERY_S, stamp_jitter: float = 0.0
) -> int:
    """Records a drawn plant under a shipped policy that is sent a new target again and again, in simulated time."""
    policy = OnnxPolicy.open(shipped_policy(POLICY))
    interface, limits = policy.interface, SafetyLimits()
    controller = PolicyController(policy, limits)
    plant = Plant(model_path("arm_reach"), draw=robot)
    state, command, layout = RobotState(7), Command(3), TickLayout.of(interface)
    session = Session(
        SCHEMA,
        policy.manifest.name,
        policy.manifest.weights_sha256,
        interface.robot.joint_names,
        controller.rate,
        interface.control.period,
        limits,
        False,
        __version__,
    )
    ring = Ring(controller, state, command, Marks(), layout, 1000)
    rng, period = np.random.default_rng(seed), 1 / controller.rate
    command.values[:] = HAND
    controller.rearm()
    trips = 0
    with path.open("wb") as file:
        writer = RecordingWriter(file, session, layout)
        for tick in range(round(seconds * controller.rate)):
            if tick % round(every * controller.rate) == 0:
                step = rng.uniform(-STEP_M, STEP_M, 3)
                command.values[:] = np.clip(command.values + step, interface.command.lower, interface.command.upper)
            now, age = START_S + tick * period, plant.measure()
            if age is not None:
                state.motion[:] = plant.measured.motion
                state.stamp = now - age + stamp_jitter * rng.random()
            verdict = controller.drive(state, command, 0.0, waiting=False)
            if verdict.tripped:
                trips += 1
                controller.rearm()
            plant.command(controller.effort)
            ring.add(now, (0.0, 0.0, 0.0, 0.0), tick, trips, False, verdict)
            plant.advance(period)
            if tick % 500 == 499:
                writer.add(ring.take()[0], [])
        if (rest := ring.take()) is not None:
            writer.add(rest[0], [])
        writer.finish()
    return trips


def truth(robot: dict[str, Any], field: str, index: int) -> float:
    """What a fitted value should be; of the delay what the plant has: whole physics steps of 2 ms."""
    value = robot[field]
    return value[index] if isinstance(value, tuple) else 2.0 * round(value / 2.0)


def trial(seed: int, stamp_jitter: float = 0.0) -> dict[str, Any]:
    """Draws, records and identifies one robot."""
    robot = drawn_robot(seed)
    with tempfile.TemporaryDirectory() as folder:
        trips = record_draw(path := Path(folder) / "plant.mcap", robot, seed, SECONDS, stamp_jitter=stamp_jitter)
        found = as_json(identify(path, TASKS["arm_reach"], prior=DRAWN))
    rows, index = [], {}
    for row in found.pop("parameters"):
        at = index[row["field"]] = index.get(row["field"], -1) + 1
        true = truth(robot, row["field"], at)
        off = row["value"] - true
        error = off if row["unit"] == "ms" else 100 * off / true
        inside = row["interval95"][0] <= true <= row["interval95"][1]
        within = abs(error) <= (1.0 if row["unit"] == "ms" else 10.0)
        rows.append({**row, "true": true, "error": error, "within": within, "inside": inside})
    told = [row for row in rows if row["told_by_data"]]
    del found["prior"]
    return {
        "seed": seed,
        "trips": trips,
        "all_told_within": all(row["within"] for row in told),
        "untold": [f"{row['field']} {row['of']}" for row in rows if not row["told_by_data"]],
        "all_within": all(row["within"] for row in rows),
        "worst_told_percent": max(abs(row["error"]) for row in told if row["unit"] != "ms"),
        "delay_error_ms": next(row["error"] for row in rows if row["unit"] == "ms"),
        **found,
        "parameters": rows,
    }


def picture(path: Path, seed: int) -> None:
    """Draws position of the second and the fourth joint: recorded, and simulated with the model before and after."""
    from PIL import Image, ImageDraw, ImageFont

    with tempfile.TemporaryDirectory() as folder:
        record_draw(bag := Path(folder) / "plant.mcap", drawn_robot(seed), seed, SECONDS)
        gap = identify(bag, TASKS["arm_reach"], prior=DRAWN).gap
    wide, high, left, top, scale = 1000, 300, 70, 46, 2
    image = Image.new("RGB", (scale * wide, scale * 2 * high), "white")
    pen, words = ImageDraw.Draw(image), ImageFont.load_default(scale * 15)
    shown = (("recorded", gap.recorded, "#b4bac3", 7), ("model as it was", gap.simulated[0], "#e2553d", 2),
             ("model as fitted", gap.simulated[1], "#1a73bf", 2))  # fmt: skip
    time = gap.time - gap.time[0]
    for row, joint in enumerate((1, 3)):
        values = np.concatenate([one[:, joint] for _, one, _, _ in shown])
        low, span = values.min(), np.ptp(values)
        bottom = row * high + high - 40

        def at(t: float, value: float, low=low, span=span, bottom=bottom, row=row) -> tuple[float, float]:
            return (scale * (left + (wide - left - 20) * t / time[-1]),
                    scale * (bottom - (bottom - row * high - top) * (value - low) / span))  # fmt: skip

        for value in np.arange(np.ceil(low / 0.2) * 0.2, low + span, 0.2):
            pen.line([at(0, value), at(time[-1], value)], "#e3e7ed", scale)
            pen.text((scale * 14, at(0, value)[1] - scale * 9), f"{value:+.1f}", "#5b6675", words)
        for second in range(int(time[-1]) + 1):
            pen.text((at(second, low)[0] - 8, scale * (bottom + 8)), f"{second} s", "#5b6675", words)
        for _, one, colour, width in shown:
            for k in np.unique(gap.segment):
                of = gap.segment == k
                pen.line([at(t, v) for t, v in zip(time[of], one[of, joint])], colour, scale * width, "curve")
        pen.text((scale * left, scale * (row * high + 8)), f"joint{joint + 1}, rad", "#1c2430", words)
        for i, (name, _, colour, _) in enumerate(shown):
            x, y = scale * (left + 300 + 190 * i), scale * (row * high + 17)
            pen.line([(x, y), (x + scale * 26, y)], colour, scale * 5)
            pen.text((x + scale * 34, y - scale * 9), name, "#1c2430", words)
    image.resize((wide, 2 * high), Image.Resampling.LANCZOS).save(path, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("seeds", type=int, nargs="*", default=[*SEEDS])
    parser.add_argument("--picture", action="store_true", help="draw the first seed into the file")
    parser.add_argument("--stamp-jitter", type=float, default=0.0, help="stamps of states are late by up to this, s")
    given = parser.parse_args()
    if given.picture:
        picture(given.out, given.seeds[0])
        return
    done = json.loads(given.out.read_text()) if given.out.exists() else []
    for seed in given.seeds:
        if any(row["seed"] == seed for row in done):
            continue
        done.append(row := trial(seed, stamp_jitter=given.stamp_jitter))
        write_json(given.out, sorted(done, key=lambda one: one["seed"]))
        gap = [row["gap"][when]["position_rad"] for when in ("before", "after")]
        print(f"draw {seed}: worst {row['worst_told_percent']:.2f} %, delay {row['delay_error_ms']:+.3f} ms, untold "
              f"{row['untold']}, gap {gap[0]:.4f} -> {gap[1]:.4f} rad, {row['fit_s']:.0f} s", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
