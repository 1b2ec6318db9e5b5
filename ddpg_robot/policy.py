"""The policy file: opened, checked, and run on buffers that are bound once.

One ``.onnx`` file holds normalisation, actor, squashing and scaling, and a JSON manifest that says what goes in and
what comes out. `read_manifest` needs numpy only; ONNX Runtime is imported when a policy is opened.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ddpg_robot.errors import MissingExtraError, PolicyFileError, SpecError, mismatch
from ddpg_robot.observation import ObservationBuilder
from ddpg_robot.onnx_file import MAX_WIDTH, check_graph, graph_sha256, read_model
from ddpg_robot.spec import SCHEMA, PolicyInterface, PolicyManifest
from ddpg_robot.spec_json import from_dict

__all__ = [
    "MAX_FILE_BYTES",
    "METADATA_KEY",
    "OUTPUTS",
    "OnnxPolicy",
    "Policy",
    "graph_sha256",
    "read_manifest",
    "shipped_policy",
]

METADATA_KEY = "ddpg_robot.manifest"
MAX_FILE_BYTES = 32 * 2**20
"""Largest policy file that is opened, bytes: room for a hundred times the parameters of a 256x256 actor."""
MAX_MANIFEST_BYTES = 2**20
OUTPUTS = {"effort": "effort", "pd": "joint_target"}
"""Control mode -> name of the graph's one output: torque in N·m, or joint targets in rad."""

Float32 = NDArray[np.float32]


class Policy(Protocol):
    """What the controller needs of a policy: bound once to the buffers of an observation builder, then run."""

    @property
    def interface(self) -> PolicyInterface:
        """Robot, control, observation and command that the policy was made for."""
        ...

    def bind(self, builder: ObservationBuilder) -> None:
        """Lets `run` read the builder's buffers."""
        ...

    def run(self) -> Float32:
        """Computes the output ``(n,)`` from what the bound buffers hold; the same buffer at every call."""
        ...


class OnnxPolicy:
    """A checked policy file in ONNX Runtime: one thread, no spinning, no allocation and no copy in `run`.

    Attributes:
        manifest: all that the file says of itself.
        source: where it came from, for messages.
    """

    def __init__(self, data: bytes, source: str) -> None:
        with _blame(source):
            self.source = source
            self.manifest = _checked_manifest(data)
            check_graph(read_model(data).graph)
            self._output_name = OUTPUTS[self.manifest.control.mode]
            self._session = _open_session(data)
            _check_signature(self._session, self.manifest, self._output_name)
            self._probe()
        n = self.manifest.robot.n_joints
        self._output: Float32 = np.zeros((1, n), np.float32)
        self._view: Float32 = self._output[0]
        self._binding: Any = None
        self._run = self._session.run_with_iobinding

    @classmethod
    def open(cls, path: str | Path) -> OnnxPolicy:
        """Opens a policy file and checks everything that can be checked without the robot.

        Raises:
            PolicyFileError: the file is missing, larger than `MAX_FILE_BYTES`, truncated, not ONNX, without manifest,
                of another schema; weights changed, not finite or outside the file; inputs, outputs, sizes or types are
                not those of the manifest; operators are unknown; outputs are not finite.
            MissingExtraError: ONNX Runtime is not installed.
        """
        return cls(_read_bytes(path), str(path))

    @property
    def interface(self) -> PolicyInterface:
        """Robot, control, observation and command that the policy was made for."""
        return self.manifest.interface

    def bind(self, builder: ObservationBuilder) -> None:
        """Lets `run` read the builder's term buffers in place. Binding again moves the policy to another builder.

        Raises:
            PolicyFileError: the builder's terms are not those of the policy.
        """
        binding = self._session.io_binding()
        expected = {term.name: (1, term.size) for term in self.manifest.observation.terms}
        found = {name: term.shape for name, term in builder.terms.items()}
        if found != expected:
            raise PolicyFileError(mismatch(f"{self.source}: observation terms to bind", found, expected))
        for name, term in builder.terms.items():
            assert term.dtype == np.float32, name  # both are the builder's own promise
            assert term.flags.c_contiguous, name
            binding.bind_input(name, "cpu", 0, np.float32, term.shape, term.ctypes.data)
        output = self._output
        binding.bind_output(self._output_name, "cpu", 0, np.float32, output.shape, output.ctypes.data)
        self._builder = builder  # keeps the bound memory alive
        self._binding = binding

    def run(self) -> Float32:
        """Computes the output from the terms that the bound builder built last.

        Returns:
            Torque in N·m (mode ``effort``) or joint targets in rad (mode ``pd``), float32 ``(n,)``; a view that the
            next run overwrites.

        Raises:
            RuntimeError: nothing is bound.
        """
        if self._binding is None:
            raise RuntimeError("OnnxPolicy.run before bind: bind it to an ObservationBuilder, or use infer")
        self._run(self._binding)
        return self._view

    def infer(self, terms: Mapping[str, Float32]) -> Float32:
        """Computes outputs ``(batch, n)`` for a batch of terms, each float32 ``(batch, size)``; off the hot path."""
        result: Float32 = self._session.run([self._output_name], dict(terms))[0]
        return result

    def _probe(self) -> None:
        """Runs the network on zeros and on growing random terms: the outputs must have the right shape, finite."""
        rng = np.random.default_rng(0)
        scales = np.array([0.0, 1.0, 1.0, 10.0, 100.0, 1000.0])[:, None]
        terms = {
            term.name: (rng.standard_normal((len(scales), term.size)) * scales).astype(np.float32)
            for term in self.manifest.observation.terms
        }
        for batch in (1, len(scales)):
            try:
                output = self.infer({name: term[:batch] for name, term in terms.items()})
            except Exception as error:  # ONNX Runtime's exceptions share no base of their own
                raise PolicyFileError(mismatch("probe run", _one_line(error), "a graph that runs")) from None
            expected = (batch, self.manifest.robot.n_joints)
            if output.shape != expected or output.dtype != np.float32:
                found = f"{output.dtype} {output.shape}"
                raise PolicyFileError(mismatch(f"output '{self._output_name}'", found, f"float32 {expected}"))
            if not np.isfinite(output).all():
                raise PolicyFileError(mismatch("output of a probe run", "NaN or infinity", "finite numbers"))


def read_manifest(path: str | Path) -> PolicyManifest:
    """Reads the manifest of a policy file and checks that the weights are those it was written for.

    Needs neither onnx nor onnxruntime, and does not run the graph.

    Raises:
        PolicyFileError: the file is missing, too large, truncated, not ONNX, without manifest, of another schema, or
            its weights have changed.
    """
    data = _read_bytes(path)
    with _blame(str(path)):
        return _checked_manifest(data)


def shipped_policy(name: str) -> Path:
    """The file of a policy that comes with the package, for example ``arm_reach``.

    Raises:
        PolicyFileError: no such policy; lists those there are.
    """
    files = {path.stem: path for path in (Path(__file__).parent / "policies").glob("*.onnx")}
    if name not in files:
        raise PolicyFileError(mismatch("shipped policy", repr(name), "a shipped policy", files))
    return files[name]


@contextmanager
def _blame(source: str) -> Iterator[None]:
    """Puts the file's name before any complaint about its content, which is printed as one harmless line."""
    try:
        yield
    except (PolicyFileError, SpecError) as error:
        text = "".join(char if char.isprintable() else "?" for char in str(error)[:1000])
        raise PolicyFileError(f"{source}: {text}") from None


def _read_bytes(path: str | Path) -> bytes:
    path = Path(path)
    if not path.is_file():
        found = "something that is no regular file" if path.exists() else "nothing"
        raise PolicyFileError(mismatch(str(path), found, "a policy file (.onnx)"))
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise PolicyFileError(mismatch(str(path), error.strerror, "a readable file")) from None
    if len(data) > MAX_FILE_BYTES:
        raise PolicyFileError(mismatch(f"{path}: size", f"{path.stat().st_size} bytes", f"at most {MAX_FILE_BYTES}"))
    return data


def _checked_manifest(data: bytes) -> PolicyManifest:
    """The manifest of a serialized model, and the weights are those it speaks of."""
    metadata = read_model(data).metadata
    text = metadata.get(METADATA_KEY)
    if text is None:
        hint = "An ONNX file of another exporter? `ddpg-robot export` writes policy files."
        raise PolicyFileError(mismatch("manifest", "none", f"metadata key '{METADATA_KEY}'", hint=hint))
    if len(metadata) > 1:  # ONNX Runtime may take its own settings from some of them
        raise PolicyFileError(mismatch("metadata keys", ", ".join(sorted(metadata))[:200], f"'{METADATA_KEY}' alone"))
    manifest = _parse_manifest(text)
    if manifest.observation.size > MAX_WIDTH:
        raise PolicyFileError(mismatch("observation size", manifest.observation.size, f"at most {MAX_WIDTH}"))
    found = graph_sha256(data)
    if found != manifest.weights_sha256:
        hint = "The weights are not those that were exported."
        raise PolicyFileError(mismatch("weights_sha256", found, manifest.weights_sha256[:64], hint=hint))
    return manifest


def _parse_manifest(text: bytes) -> PolicyManifest:
    if len(text) > MAX_MANIFEST_BYTES:
        raise PolicyFileError(mismatch("manifest size", f"{len(text)} bytes", f"at most {MAX_MANIFEST_BYTES}"))
    try:
        data = json.loads(str(text, "utf-8"), object_pairs_hook=_each_key_once)
        schema = data.get("schema") if isinstance(data, dict) else None
        if schema != SCHEMA:  # before all else: another schema may have other keys
            raise PolicyFileError(mismatch("policy schema", repr(schema)[:80], repr(SCHEMA)))
        manifest = from_dict(PolicyManifest, data)
    except (ValueError, RecursionError) as error:  # no JSON, no UTF-8, a number with too many digits, nested too deep
        raise PolicyFileError(mismatch("manifest", _one_line(error), "JSON")) from None
    manifest.interface  # noqa: B018 - raises SpecError when its parts contradict each other
    return manifest


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuses what other readers of the same JSON would read differently."""
    result = dict(pairs)
    if len(result) < len(pairs):
        raise ValueError("a key twice in one object")
    return result


def _open_session(data: bytes) -> Any:
    # From 1.29 on the published packages send telemetry, from threads of their own, unless told not to before the import.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        import onnxruntime
    except ImportError:
        raise MissingExtraError(mismatch("module", "no onnxruntime", "it", hint="pip install onnxruntime")) from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    # Not what the bytes look like: a file could be taken for ORT's own format, whose graph nobody has checked.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    options.log_severity_level = 4  # errors arrive as exceptions
    try:
        return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions share no base of their own
        raise PolicyFileError(mismatch("graph", _one_line(error), "one that ONNX Runtime loads")) from None


def _check_signature(session: Any, manifest: PolicyManifest, output_name: str) -> None:
    """Inputs are the manifest's terms, the output is its control mode's, all float32 with a free batch axis."""
    expected_in = {term.name: term.size for term in manifest.observation.terms}
    expected_out = {output_name: manifest.robot.n_joints}
    for what, nodes, expected in (
        ("graph inputs", session.get_inputs(), expected_in),
        ("graph outputs", session.get_outputs(), expected_out),
    ):
        names = [node.name for node in nodes]
        if sorted(names) != sorted(expected):
            raise PolicyFileError(mismatch(what, ", ".join(names)[:500], ", ".join(expected)))
        for node in nodes:
            batch, *sizes = node.shape or [0]
            if node.type != "tensor(float)" or isinstance(batch, int) or sizes != [expected[node.name]]:
                found = f"{node.type} {node.shape}"
                wanted = f"tensor(float) ['batch', {expected[node.name]}]"
                raise PolicyFileError(mismatch(f"{what[:-1]} '{node.name}'", found, wanted))


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
