"""The package's own papers agree with one another."""

from __future__ import annotations

import re
import subprocess
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import ddpg_robot

ROOT = Path(__file__).parent.parent
PYTHONS = ("3.10", "3.11", "3.12", "3.13")


def toml_lists(text: str, table: str) -> list[str]:
    """The quoted requirements of a table in pyproject.toml (Python 3.10 has no TOML reader)."""
    body = text.split(f"[{table}]", 1)[1].split("\n[", 1)[0]
    return re.findall(r'^\s*"([^"]+)",?$', body, re.MULTILINE) + [
        found
        for line in re.findall(r"^\w+ = \[(.+)\]$", body, re.MULTILINE)
        for found in re.findall(r'"([^"]+)"', line)
    ]


def pins() -> list[Requirement]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def test_pip_and_ros_name_the_same_version() -> None:
    assert ElementTree.parse(ROOT / "package.xml").findtext("version") == ddpg_robot.__version__
    assert f"## {ddpg_robot.__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_colcon_installs_every_import_package_and_every_node() -> None:
    cmake = (ROOT / "CMakeLists.txt").read_text()
    packages = [path.parent for path in ROOT.glob("*/ddpg_robot*/__init__.py")]
    packages = [ROOT / "ddpg_robot", *(path for path in packages if path.parent.name in ("sim", "export", "ros2_ws"))]
    assert len(packages) == 4
    for package in packages:
        assert f"ament_python_install_package({package.name}" in cmake
    nodes = {path.stem for path in (ROOT / "ros2_ws" / "ddpg_robot_ros").glob("*.py")}
    for node in re.search(r"foreach\(node ([^)]*)\)", cmake)[1].split():
        assert node in nodes


def test_every_dependency_is_pinned_once_for_each_python() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    declared = [Requirement(line) for line in toml_lists(text, "project.optional-dependencies")]
    declared += [
        Requirement(line) for line in toml_lists(text.replace("\ndependencies", "\n[d]\ndependencies"), "d")[:3]
    ]
    for python in PYTHONS:
        machine = {"python_version": python, "sys_platform": "linux", "platform_machine": "x86_64"}
        wanted = [found.name.lower() for found in declared if found.marker is None or found.marker.evaluate(machine)]
        names = {re.sub(r"[-_.]+", "-", name) for name in wanted} - {"ddpg-robot"}
        assert {"numpy", "onnxruntime", "tyro", "torch", "mujoco", "onnx", "ros-rclpy", "pytest"} <= names
        assert ("tomli" in names) == (python == "3.10")
        active = [pin.name for pin in pins() if pin.marker is None or pin.marker.evaluate(machine)]
        assert names <= set(active)
        assert len(active) == len(set(active))


def test_ros_wheels_are_asked_for_only_where_they_exist() -> None:
    for machine in ({"sys_platform": "darwin", "platform_machine": "arm64"}, {"platform_machine": "aarch64"}):
        asked = [
            pin.name
            for pin in pins()
            if pin.marker is None or pin.marker.evaluate({"python_version": "3.12"} | machine)
        ]
        assert not [name for name in asked if name.startswith("ros-")]


def test_plain_make_lists_every_target() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)[1].split()
    shown = subprocess.run(
        ["make", "--no-print-directory"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    for target in targets:
        assert re.search(rf"^  make {target}\s+\w", shown, re.MULTILINE), target


def test_an_unsuitable_python_is_refused_with_what_would_do(tmp_path: Path) -> None:
    command = [ROOT / ".ci" / "install", tmp_path / "venv"]
    done = subprocess.run(
        command, env={"PATH": "/usr/bin:/bin", "PYTHON": "false"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "expected Python 3.10, 3.11, 3.12 or 3.13" in done.stderr
    assert not (tmp_path / "venv").exists()


@pytest.mark.parametrize(
    "path", ["README.md", "CONTRIBUTING.md", *(str(page.relative_to(ROOT)) for page in ROOT.glob("docs/*.md"))]
)
def test_links_between_pages_lead_somewhere(path: str) -> None:
    page = ROOT / path
    for link in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        if "://" not in link:
            assert (page.parent / link).exists(), link


@pytest.mark.parametrize("page", sorted(ROOT.glob("docs/*.md")), ids=lambda page: page.name)
def test_lines_of_code_that_pages_cite_are_where_they_say(page: Path) -> None:
    """A citation is a link to a line, and the line's code: [ddpg.py:94](../ddpg_robot/learn/ddpg.py#L94) `y = ...`."""
    for name, number, path, anchor, code in re.findall(
        r"\[([\w.]+):(\d+)\]\(([^)#]+)#L(\d+)\) `([^`]+)`", page.read_text()
    ):
        lines = (page.parent / path).read_text().splitlines()
        found = [i for i, line in enumerate(lines, 1) if code in line]
        assert (Path(path).name, int(number), int(anchor)) == (name, *found, *found), (
            f"{code} is in line {found} of {path}"
        )


def test_no_function_of_the_house_outgrows_its_page() -> None:
    for path in ROOT.glob("ddpg_robot/**/*.py"):
        assert len(path.read_text().splitlines()) <= 400, path
