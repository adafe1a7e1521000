# SPDX-License-Identifier: Apache-2.0
"""Runs nnU-Net 2 on folders that the test wrote.

    nnunet_jobs.py JOBS.json

Each job: {"folder": results folder, "images": folder of CASE_0000.nii.gz, "out": folder to write, "mirror": bool}.
With "retrain": another results folder to be made first: nnU-Net's own network takes the weights, makes one SGD step on
the first image, and is saved as its trainer saves checkpoints.
"""
import json
import os
import pathlib
import shutil
import sys

for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
    os.environ.setdefault(name, "/nonexistent")
os.environ["nnUNet_compile"] = "f"

import numpy as np
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

torch.set_num_threads(2)


def predictor(folder, mirror):
    result = nnUNetPredictor(use_mirroring=mirror, device=torch.device("cpu"), allow_tqdm=False)
    result.initialize_from_trained_model_folder(str(folder), use_folds=(0,))
    return result


def retrain(source, target, image):
    """A checkpoint as nnU-Net's trainer writes it, with the optimiser and everything else in it."""
    target.mkdir(parents=True)
    for name in ("plans.json", "dataset.json"):
        shutil.copy(source / name, target / name)
    made = predictor(source, False)
    network = made.network
    network.decoder.deep_supervision = True
    optimizer = torch.optim.SGD(network.parameters(), 1e-2, momentum=0.99, nesterov=True, weight_decay=3e-5)
    data, _ = made.plans_manager.image_reader_writer_class().read_images([str(image)])
    patch = made.configuration_manager.patch_size
    x = torch.from_numpy(np.asarray(data, np.float32))[None]
    x = torch.nn.functional.interpolate((x - x.mean()) / x.std(), size=[int(p) for p in patch])
    sum((y ** 2).mean() for y in network(x)).backward()
    optimizer.step()
    (target / "fold_0").mkdir()
    torch.save({
        "network_weights": network.state_dict(),
        "optimizer_state": optimizer.state_dict(),
        "grad_scaler_state": None,
        "logging": {"ema_fg_dice": [np.float64(0.5)], "train_losses": [np.float32(1.25)], "lrs": [0.01]},
        "_best_ema": np.float64(0.5),
        "current_epoch": 1,
        "init_args": {"plans": json.loads((target / "plans.json").read_text()), "configuration": "3d_fullres",
                      "fold": 0, "dataset_json": json.loads((target / "dataset.json").read_text()),
                      "device": torch.device("cpu")},
        "trainer_name": "nnUNetTrainer",
        "inference_allowed_mirroring_axes": (0, 1, 2),
    }, target / "fold_0" / "checkpoint_final.pth")


for job in json.loads(pathlib.Path(sys.argv[1]).read_text()):
    folder, images, out = (pathlib.Path(job[key]) for key in ("folder", "images", "out"))
    if "retrain" in job:
        retrain(folder, pathlib.Path(job["retrain"]), sorted(images.glob("*_0000.nii.gz"))[0])
        folder = pathlib.Path(job["retrain"])
    out.mkdir(parents=True, exist_ok=True)
    predictor(folder, job["mirror"]).predict_from_files_sequential(str(images), str(out), save_probabilities=False)
