"""Run a policy file with numpy and ONNX Runtime alone. Usage: edge_inference.py POLICY.onnx ['{"term": [numbers]}']."""

import json
import os
import sys

import numpy as np

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # before the import, or ONNX Runtime sends some
import onnxruntime

if len(sys.argv) < 2:
    sys.exit(__doc__)
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1  # a small network: threads and spinning only burn the core
options.add_session_config_entry("session.intra_op.allow_spinning", "0")
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
manifest = json.loads(session.get_modelmeta().custom_metadata_map["ddpg_robot.manifest"])
joints, control = manifest["robot"]["joints"], manifest["control"]

# What the robot measures, raw, in the units of the manifest; here from the command line, zero where nothing is given.
given = json.loads(sys.argv[2]) if len(sys.argv) > 2 else {}
terms = {}
for term in manifest["observation"]["terms"]:
    print(f"in  {term['name']}: {term['size']} x {term['unit']}")
    terms[term["name"]] = np.asarray(given.get(term["name"], np.zeros(term["size"])), np.float32)[None]

output = session.run(None, terms)[0][0]  # every control["period"] seconds
if control["mode"] == "pd":  # the output is a joint target; this line runs at every tick, with the newest state
    position, velocity = terms["joint_position"][0], terms["joint_velocity"][0]
    output = np.array(control["kp"]) * (output - position) - np.array(control["kd"]) * velocity
limit = np.array([joint["effort_limit"] for joint in joints])
for joint, torque in zip(joints, np.clip(output, -limit, limit)):
    print(f"out {joint['name']}: {torque:.4f} N*m")
