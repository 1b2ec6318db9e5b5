"""The report is one file that shows everything that was measured."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from ddpg_robot.cli.film import film_of
from ddpg_robot.cli.sources import import_tasks
from ddpg_robot.learn.config import TrainConfig
from ddpg_robot.learn.evaluate import evaluate
from ddpg_robot.learn.trainer import train
from ddpg_robot.report import write_report
from ddpg_robot.report.charts import Chart, Scale, bins

PROGRAM = [sys.executable, "-m", "ddpg_robot.cli"]


class Links(HTMLParser):
    """Collects what a page would fetch, and whether its elements close."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.fetched += [value or "" for name, value in attrs if name in ("src", "href", "srcset")]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def checked(path: Path) -> str:
    """The page's text, after its links and elements were checked."""
    text = path.read_text(encoding="utf-8")
    links = Links()
    links.feed(text)
    assert links.open == []
    assert all(link.startswith("data:") for link in links.fetched)
    assert "url(" not in text
    assert "nan" not in re.sub(r'src="data:[^"]*"', "", text).lower().replace("finance", "")
    return text


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A demo's directory after a very short training: everything but the ROS part."""
    out = tmp_path_factory.mktemp("demo")
    task = import_tasks()["arm_reach"]
    kwargs = {"control_mode": "pd"}
    config = TrainConfig(
        task, kwargs, steps=800, out=out / "train", eval_every=400, eval_episodes=2, final_eval_episodes=2
    )
    train(config)
    from ddpg_robot.cli.sources import actor_of

    act, _, _ = actor_of(str(out / "train"), None)
    (out / "evaluation.json").write_text(json.dumps(evaluate(act, task, kwargs, 4, seed=5)))
    (out / "demo.json").write_text(json.dumps({"train": {"command": ["train"], "seconds": 61.0, "done": True}}))
    subprocess.run([*PROGRAM, "export", out / "train", "--out", out / "policy.onnx"], check=True, capture_output=True)
    return out


def test_without_ros_the_report_shows_training_errors_and_targets(demo: Path) -> None:
    text = checked(write_report(demo))
    for words in ("Learning curve", "Error per target", "Where the targets were", "Time per stage", "1 min 1 s"):
        assert words in text
    assert "Tick lateness" not in text
    assert "<img" not in text


def test_a_film_is_part_of_the_file_or_its_absence_is_explained(demo: Path) -> None:
    pictures = film_of(demo)
    text = checked(write_report(demo, pictures))
    assert "data:image/webp" in text or "apt install" in text


@pytest.mark.ros
def test_with_ros_the_report_shows_timing_paths_and_the_comparison(demo: Path) -> None:
    pytest.importorskip("rclpy")
    words = ["evaluate", demo / "policy.onnx", "--ros", "--episodes", "2", "--hold", "1.5", "--out", demo / "ros.json"]
    subprocess.run([*PROGRAM, *words], check=True, capture_output=True, timeout=120)
    text = checked(write_report(demo))
    (demo / "ros.json").unlink()
    for section in ("Tick lateness", "State to command", "The arm's path", "In process versus ROS", "over ROS 2"):
        assert section.replace("'", "&#x27;") in text, section


def test_a_training_run_alone_has_a_report(demo: Path) -> None:
    assert "Learning curve" in checked(write_report(demo / "train"))


def test_ticks_are_round_and_within_the_axis() -> None:
    assert Scale(0, 100, 0, 1).ticks() == [0, 20, 40, 60, 80, 100]
    assert Scale(0.5, 120, 0, 1, log=True).ticks() == pytest.approx([0.5, 1, 2, 5, 10, 20, 50, 100])
    assert Scale(3, 3, 0, 10)(3) == 5


def test_a_histogram_loses_no_sample() -> None:
    columns = bins([0.0, 1e-9, 2e-3, 5e-3, 9.0], 1e-3, 1e-2, 10)
    assert sum(count for *_, count in columns) == 5
    assert columns[0][2] == 2
    assert columns[-1][2] == 1


def test_words_in_a_chart_are_escaped() -> None:
    chart = Chart((0, 1), (0, 1), "a < b")
    chart.dot((0.5, 0.5), "here", "<script>")
    assert "<script>" not in chart.svg()
