# SPDX-License-Identifier: Apache-2.0
"""check_exports.py FOLDER: holds exported networks against their foreign readers.

Each sub-folder is one network: model.onnx, model.ts, pytorch/ (network.py, weights.pt) and io.safetensors with
image.<i> (input) and pred.<i> (output of VoxNAS). Prints one line a network; exit code 1 if a reader disagrees.
"""
import importlib.util
import pathlib
import sys

import numpy
import onnx
import onnxruntime
import torch
from safetensors.numpy import load_file

torch.set_num_threads(1)


def difference(found, expected):
    """Largest absolute difference, relative to the largest value if that exceeds 1."""
    if found.shape != expected.shape:
        return float("inf")
    return float(numpy.abs(found - expected).max() / max(1.0, numpy.abs(expected).max()))


def onnx_reader(folder):
    onnx.checker.check_model(str(folder / "model.onnx"), full_check=True)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), options, ["CPUExecutionProvider"])
    return lambda image: session.run(["pred"], {"image": image})[0]


def script_reader(folder):
    extra = {"preprocessing.json": ""}
    module = torch.jit.load(str(folder / "model.ts"), _extra_files=extra)
    assert b"voxnas.preprocessing" in extra["preprocessing.json"]
    assert not module.training
    return lambda image: module(torch.from_numpy(image)).numpy()


def python_reader(folder):
    spec = importlib.util.spec_from_file_location("network", folder / "pytorch" / "network.py")
    source = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(source)
    network = source.Network()
    weights = torch.load(folder / "pytorch" / "weights.pt", weights_only=True)
    own = {name: tuple(value.shape) for name, value in network.state_dict().items()
           if not name.endswith("num_batches_tracked")}
    assert own == {name: tuple(value.shape) for name, value in weights.items()}, "state-dict names or shapes differ"
    network.load_state_dict(weights)
    network.eval()
    return lambda image: network(torch.from_numpy(image)).numpy()


READERS = {"onnx": (onnx_reader, 1e-4), "torchscript": (script_reader, 1e-5), "pytorch": (python_reader, 1e-5)}


def main():
    failed = 0
    folders = sorted(path for path in pathlib.Path(sys.argv[1]).iterdir() if path.is_dir())
    assert folders, "no exported network"
    for folder in folders:
        data = load_file(folder / "io.safetensors")
        line = []
        for name, (make, tolerance) in READERS.items():
            try:
                with torch.no_grad():
                    read = make(folder)
                    worst = max(difference(read(data[key]), data[key.replace("image", "pred")])
                                for key in data if key.startswith("image."))
                good = worst <= tolerance
                line.append(f"{name} {worst:.1e}{'' if good else ' DIFFERS'}")
            except Exception as problem:  # every network is reported, whatever happens to one
                good = False
                line.append(f"{name} FAILED: {problem}")
            failed += not good
        print(f"{folder.name}: {', '.join(line)}", flush=True)
    sys.exit(1 if failed else 0)


main()
