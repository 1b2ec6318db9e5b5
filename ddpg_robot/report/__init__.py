"""One self-contained HTML page about a demo or a training run: what was measured, drawn; nothing is fetched."""

from __future__ import annotations

import json
import platform
from pathlib import Path
from typing import Any

from ddpg_robot import __version__
from ddpg_robot.errors import RunDirectoryError, mismatch
from ddpg_robot.files import write_whole
from ddpg_robot.policy import read_manifest
from ddpg_robot.report import sections
from ddpg_robot.report.page import card, hero, notice, page, table, tile, tiles
from ddpg_robot.report.pictures import Pictures
from ddpg_robot.spec import PolicyManifest

Result = dict[str, Any]
FILE = "report.html"


def write_report(run: Path, pictures: Pictures | None = None) -> Path:
    """Writes `report.html` into a directory, from whatever measurements lie there.

    Args:
        run: directory of a demo (`evaluation.json`, `ros.json`, `demo.json`, `policy.onnx`, `train/`) or of a training
            run (`metrics.jsonl`, `evaluation.json`).
        pictures: of the arm, rendered by the simulator; None leaves the drawings alone.

    Returns:
        The path of the file.

    Raises:
        RunDirectoryError: the directory does not exist or holds no measurement.
    """
    found = Findings(run)
    path = run / FILE
    write_whole(path, page(found.title, found.parts(pictures or Pictures())))
    return path


class Findings:
    """What lies in the directory, each part None or empty where it was not measured."""

    def __init__(self, run: Path) -> None:
        self.run = run
        self.evaluation: Result | None = read(run / "evaluation.json")
        both = read(run / "ros.json") or {}
        self.rehearsal: Result | None = both.get("in_process")
        self.ros: Result | None = both.get("ros")
        self.stages: Result = read(run / "demo.json") or {}
        train = run / "train" if "train" in self.stages else run
        metrics = train / "metrics.jsonl"
        lines = metrics.read_text().splitlines() if metrics.exists() else []
        self.metrics: list[Result] = [json.loads(line) for line in lines if line.endswith("}")]
        self.manifest = self._manifest()
        if not (self.evaluation or self.metrics or self.ros):
            expected = "a demo's or a training run's directory, with evaluation.json or metrics.jsonl"
            raise RunDirectoryError(mismatch(str(run), "no measurement", expected))

    def _manifest(self) -> PolicyManifest | None:
        policy = Path(self.stages["ros"]["command"][1]) if "ros" in self.stages else self.run / "policy.onnx"
        return read_manifest(policy) if policy.exists() else None

    @property
    def title(self) -> str:
        """The result in one sentence."""
        result = self.ros or self.evaluation
        if result is None or result.get("success_rate") is None:
            return f"Training run {self.run.name}"
        reached = round(result["success_rate"] * result["episodes"])
        place = " over ROS 2" if self.ros else ""
        if result.get("final_error_median_m") is None:
            return f"{reached} of {result['episodes']} episodes succeeded{place}"
        return f"The arm reached {reached} of {result['episodes']} targets{place}"

    def parts(self, pictures: Pictures) -> list[str]:
        """The page's parts from top to bottom."""
        blocks = [hero("ddpg_robot report", self.title, self._lead(), pictures.film, pictures.caption)]
        blocks += [notice(pictures.remark)] if pictures.remark else []
        blocks.append(tiles(self._tiles()))
        cards = [sections.learning(self.metrics), *self._accuracy(), *self._timing()]
        cards += [self._facts(), sections.times(self.stages)]
        return [*blocks, f'<div class="cards">{"".join(cards)}</div>', self._footer()]

    def _lead(self) -> str:
        if self.manifest is None:
            return "What this run measured."
        training, control = self.manifest.training, self.manifest.control
        way = (
            "joint targets that a PD law turns into torque"
            if control.mode == "pd"
            else "torque, straight from the network"
        )
        words = (
            f"DDPG learned {training.task.split('/')[-1]} in {training.steps:,} simulated steps. "
            f"The exported actor gives {way}, {1 / control.period:g} times a second, "
            f"for {self.manifest.robot.n_joints} joints."
        )
        if "ros" in self.stages and "train" not in self.stages:
            words += " This demo used the policy that comes with the package."
        return words

    def _tiles(self) -> list[str]:
        found = []
        if self.evaluation and self.evaluation.get("success_rate") is not None:
            rate, count = 100 * self.evaluation["success_rate"], self.evaluation["episodes"]
            found.append(tile(f"{rate:.3g}", "%", f"success in process, {count} episodes"))
        if self.ros:
            rate, count = 100 * self.ros["success_rate"], self.ros["episodes"]
            found.append(tile(f"{rate:.3g}", "%", f"success over ROS 2, {count} targets"))
            found.append(tile(f"{1000 * self.ros['final_error_median_m']:.1f}", "mm", "median final error over ROS 2"))
            for name, words in (("lateness", "tick lateness, p99"), ("state_to_command", "state to command, p50")):
                values = sorted(self.ros["samples"][name])
                if values:
                    value = values[int(len(values) * (0.99 if "p99" in words else 0.5))]
                    found.append(tile(f"{1000 * value:.2f}", "ms", words))
        return found

    def _accuracy(self) -> list[str]:
        results = {"here": self.evaluation, "ros": self.ros}
        measured = {
            style: result
            for style, result in results.items()
            if result and result.get("final_error_median_m") is not None
        }
        if not measured:
            return []
        blocks = [sections.errors(measured)]
        if self.manifest is not None:
            command, chain = self.manifest.command, self.manifest.robot.chain
            if self.ros and chain is not None:
                blocks.append(sections.paths(self.ros, chain, command.lower, command.upper))
            blocks.append(sections.workspace(measured, command.lower, command.upper))
        if self.ros and self.rehearsal:
            blocks.append(sections.comparison({"here": self.rehearsal, "ros": self.ros}))
        return blocks

    def _timing(self) -> list[str]:
        if not self.ros:
            return []
        samples, lost = self.ros["samples"], f"{self.ros['lost']:.0f} of {self.ros['ticks']:,.0f} ticks were lost."
        late = f"How long after its deadline each tick of the {self.ros['rate']:g} Hz loop woke up. {lost}"
        whole = "From the stamp of the joint state that a tick used to the torque it published."
        return [
            sections.histogram("Tick lateness", late, samples["lateness"], 1e-5, 2e-3),
            sections.histogram("State to command", whole, samples["state_to_command"], 5e-5, 1e-2),
        ]

    def _facts(self) -> str:
        rows: list[list[str]] = []
        if self.manifest is not None:
            m = self.manifest
            rates = f"policy {1 / m.control.period:g} Hz, loop {1 / m.control.loop_period:g} Hz"
            rows = [
                ["policy", f"{m.name}, {m.created}"],
                [
                    "control",
                    f"mode {m.control.mode}, {rates}",
                ],
                ["training", f"{m.training.algorithm}, preset {m.training.preset}, seed {m.training.seed}"],
                ["parity with torch", f"{m.parity.max_abs_error:.1e} of the range, {m.parity.samples:,} samples"],
                ["weights", f"sha256 {m.weights_sha256[:16]}…"],
            ]
        return card("What was run", "As the policy file says of itself.", table((), rows, "facts")) if rows else ""

    def _footer(self) -> str:
        machine = f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"
        return f"<footer>ddpg_robot {__version__} on {machine}. This page is one file and fetches nothing.</footer>"


def read(path: Path) -> Any:
    """Content of a JSON file; None where there is none."""
    return json.loads(path.read_text()) if path.exists() else None
