"""The passes, the optimiser and the averages in C, against torch."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ddpg_robot.errors import ConfigError
from ddpg_robot.learn.adam import Adam
from ddpg_robot.learn.backprop import Backprop, backprop
from ddpg_robot.learn.config import resolve_agent
from ddpg_robot.learn.ddpg import Ddpg
from ddpg_robot.learn.native import NativeBackprop, native, suits
from ddpg_robot.learn.networks import TargetNetwork, flatten_parameters
from ddpg_robot.learn.normalizer import Normalizer

SHAPES = {
    "critic": (23, (256, 256), 1, True, 64),
    "actor": (17, (256, 256), 6, False, 64),
    "odd widths": (348, (96, 130, 33), 17, True, 32),
    "wide output": (5, (300,), 40, False, 32),
    "one layer": (3, (), 2, False, 96),
}


def need_native():
    library = native()
    assert library is not None, "these tests need a C compiler"
    return library


@pytest.fixture
def fresh(monkeypatch, tmp_path):
    """`native` as if called for the first time, with a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    native.cache_clear()
    yield monkeypatch
    native.cache_clear()


def stack(inputs: int, hidden: tuple[int, ...], outputs: int, layer_norm: bool) -> nn.Sequential:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for units in hidden:
        layers += [nn.Linear(inputs, units), *([nn.LayerNorm(units)] if layer_norm else []), nn.ReLU(inplace=True)]
        inputs = units
    made = nn.Sequential(*layers, nn.Linear(inputs, outputs))
    for parameter in made.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
        parameter.grad = torch.full_like(parameter, torch.nan)  # to be overwritten
    return made


def gradients(layers: nn.Sequential) -> list[Tensor]:
    return [parameter.grad.clone() for parameter in layers.parameters()]


def distance(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


@pytest.fixture(params=[1, 2], ids=["1 thread", "2 threads"])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("shape", SHAPES)
@torch.inference_mode()
def test_passes_equal_those_of_torch(shape, threads):
    *sizes, batch = SHAPES[shape]
    layers = stack(*sizes)
    x, gradient = torch.randn(batch, sizes[0]), torch.randn(batch, sizes[2])
    reference = Backprop(layers, batch)
    expected = [reference.forward(x).clone(), reference.backward(gradient.clone()).clone(), *gradients(layers)]
    passes = NativeBackprop(layers, batch, False, need_native())
    found = [passes.forward(x), passes.backward(gradient), *gradients(layers)]
    assert all(distance(*pair) < 1e-5 for pair in zip(found, expected, strict=True))


@pytest.mark.parametrize("shape", ["critic", "actor", "odd widths"])
@torch.inference_mode()
def test_products_in_bfloat16_are_those_in_float32_within_its_rounding(shape, threads):
    if not need_native().has_bfloat16:
        pytest.skip("the processor does not multiply in bfloat16")
    *sizes, batch = SHAPES[shape]
    layers = stack(*sizes)
    x, gradient = torch.randn(batch, sizes[0]), torch.randn(batch, sizes[2])
    results = []
    for bfloat16 in (False, True):
        passes = NativeBackprop(layers, batch, bfloat16, need_native())
        results.append([passes.forward(x), passes.backward(gradient).clone(), *gradients(layers)])
    distances = [distance(found, expected) for expected, found in zip(*results, strict=True)]
    assert 0 < distances[0] < 0.01
    assert max(distances) < 0.15  # a unit whose sign the rounding turns passes its whole gradient on, or nothing


@torch.inference_mode()
def test_inputs_beside_each_other_and_gradients_from_a_column_on():
    layers = stack(7, (40, 33), 3, True)
    x, gradient = torch.randn(32, 7), torch.randn(32, 3)
    passes = backprop(layers, 32)
    assert isinstance(passes, NativeBackprop)
    whole, all_gradients = passes.forward(x).clone(), passes.backward(gradient).clone()
    strided = torch.randn(32, 9)
    strided[:, 3:6] = x[:, 4:]  # a view whose rows lie apart, as those of a replay's batch
    assert torch.equal(passes.forward(x[:, :4], strided[:, 3:6]), whole)
    before = gradients(layers)
    assert torch.equal(passes.backward(gradient, parameters=False, first=4), all_gradients[:, 4:])
    assert passes.backward(gradient, inputs=False) is None
    assert all(torch.equal(*pair) for pair in zip(before, gradients(layers), strict=True))


@pytest.mark.parametrize("layer_norm", [False, True])
@torch.inference_mode()
def test_parameters_are_taken_over_at_each_refresh_and_read_directly_for_a_row(layer_norm):
    layers = stack(4, (100, 100), 2, layer_norm)
    x = torch.randn(32, 4)
    passes = NativeBackprop(layers, 32, False, need_native())
    for parameter in layers.parameters():
        parameter.mul_(1.5)
    expected = layers(x.clone())
    torch.testing.assert_close(torch.from_numpy(passes.row(x[0].numpy()).copy()), expected[0])
    passes.refresh()
    torch.testing.assert_close(passes.forward(x), expected)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@torch.inference_mode()
def test_numbers_that_are_not_finite_come_out_as_such(bad):
    for sizes in (SHAPES["critic"], SHAPES["actor"]):
        layers = stack(*sizes[:4])
        passes = NativeBackprop(layers, 64, need_native().has_bfloat16, need_native())
        x, gradient = torch.randn(64, sizes[0]), torch.randn(64, sizes[2])
        x[5, 2] = bad
        y = passes.forward(x)
        assert not y[5].isfinite().any()
        assert y[6:].isfinite().all()
        passes.forward(torch.randn(64, sizes[0]))
        gradient[7, 0] = bad
        passes.backward(gradient)
        assert not layers[0].weight.grad.isfinite().all()


@torch.inference_mode()
def test_what_it_cannot_compute_is_left_to_torch():
    assert not suits(nn.Sequential(), 32)
    assert not suits(nn.Sequential(nn.Linear(3, 4), nn.Tanh()), 32)
    assert not suits(nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 4)), 32)
    assert not suits(nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4)), 32)
    assert not suits(nn.Sequential(nn.Linear(3, 4), nn.ReLU()), 32)
    assert not suits(nn.Sequential(nn.Linear(3, 4)), 33)
    assert isinstance(backprop(stack(3, (4,), 1, True), 33), Backprop)


def test_adam_averages_and_normalisation_equal_torch(threads):
    need_native()
    source, reference = nn.Linear(40, 30), nn.Linear(40, 30)
    reference.load_state_dict(source.state_dict())
    flat = flatten_parameters(source)
    optimizer, expected = Adam(*flat, lr=1e-2), torch.optim.Adam(reference.parameters(), 1e-2)
    target = TargetNetwork(source, flat)
    averaged = flat.parameter.clone()
    for _ in range(5):
        for parameter, twin in zip(source.parameters(), reference.parameters(), strict=True):
            twin.grad = torch.randn_like(twin)
            parameter.grad.copy_(twin.grad)
        optimizer.step(), expected.step()
        target.follow(0.3)
        averaged.lerp_(flat.parameter, 0.3)
    torch.testing.assert_close(source.state_dict(), reference.state_dict())
    torch.testing.assert_close(target.flat.parameter, averaged)
    target.follow(1.0)
    assert torch.equal(target.flat.parameter, flat.parameter)

    normalizer = Normalizer(3)
    for _ in range(20):
        normalizer.observe(np.random.default_rng(1).normal(3.0, 2.0, 3))
    rows = torch.randn(32, 8)[:, 2:5] * 50
    torch.testing.assert_close(normalizer.normalize_batch(rows), normalizer(rows))
    rows[3, 1] = torch.nan
    assert normalizer.normalize_batch(rows).isnan().sum() == 1


def compiled(cache: Path) -> list[Path]:
    return sorted(cache.glob("ddpg_robot/*"))


def test_it_is_compiled_once(fresh, tmp_path):
    assert native() is not None
    (library,) = compiled(tmp_path / "cache")
    built = library.stat().st_mtime_ns
    native.cache_clear()
    assert native() is not None
    assert library.stat().st_mtime_ns == built


@pytest.mark.parametrize("compiler", ["no-such-compiler", "false"])
def test_without_a_compiler_torch_computes_and_a_warning_says_so(compiler, fresh, caplog):
    fresh.setenv("CC", compiler)
    with caplog.at_level(logging.WARNING):
        assert native() is None
    assert compiler in caplog.text and "torch" in caplog.text
    agent = Ddpg(4, 1, resolve_agent("ddpg", {"actor_hidden": (8,), "critic_hidden": (8,)}), seed=0)
    assert not agent.bfloat16
    with pytest.raises(ConfigError, match=r"no C compiler.*expected.*float32"):
        Ddpg(4, 1, resolve_agent("ddpg", {"precision": "bfloat16"}), seed=0)


def test_a_home_that_cannot_be_written_to_keeps_no_library(fresh, tmp_path):
    (tmp_path / "cache").write_text("a file where the folder should be")
    assert native() is not None


def test_a_library_that_is_damaged_is_named(fresh, tmp_path, subprocess_environment):
    assert native() is not None
    (library,) = compiled(tmp_path / "cache")
    library.unlink()  # this process has it mapped
    library.write_bytes(b"\x7fELF")
    program = "from ddpg_robot.learn.native import native; assert native() is None"
    environment = {**subprocess_environment, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and library.name in done.stderr


SMALLER = {
    "avx2": "-march=haswell",
    "sse": "-march=x86-64",
    "no tiles": "-mno-amx-bf16",
}


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="instruction sets of x86-64")
@pytest.mark.parametrize("instructions", SMALLER)
def test_builds_for_smaller_processors_compute_the_same(instructions, tmp_path):
    """The code for other processors, as far as this one can run it: a compiler that is told to hold back."""
    flags = Path("/proc/cpuinfo").read_text()
    if instructions == "avx2" and " avx2 " not in flags:
        pytest.skip("needs AVX2")
    compiler = tmp_path / "cc"
    compiler.write_text(f'#!/bin/sh\nexec {shutil.which("cc")} "$@" {SMALLER[instructions]}\n')
    compiler.chmod(0o755)
    names = "test_passes_equal_those_of_torch or rounding or beside"
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", __file__, "-k", names]
    environment = os.environ | {"CC": str(compiler), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:]
    assert compiled(tmp_path / "cache")
