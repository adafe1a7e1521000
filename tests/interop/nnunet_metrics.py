# SPDX-License-Identifier: Apache-2.0
"""nnU-Net's own evaluation of folders that the test wrote.

    nnunet_metrics.py JOBS.json

Each job: {"reference": folder, "prediction": folder, "labels": [1, [1, 2], ...], "ignore": label or null,
"out": JSON to write}. Writes nnU-Net's summary. Exit code 77 where nnU-Net is not installed.
"""
import json
import os
import pathlib
import sys


def main():
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        os.environ.setdefault(name, "/nonexistent")
    try:
        from nnunetv2.evaluation.evaluate_predictions import compute_metrics_on_folder
        from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
    except ImportError:
        sys.exit(77)
    for job in json.loads(pathlib.Path(sys.argv[1]).read_text()):
        labels = [tuple(one) if isinstance(one, list) else one for one in job["labels"]]
        compute_metrics_on_folder(job["reference"], job["prediction"], job["out"], SimpleITKIO(), ".nii.gz",
                                  labels, job["ignore"], num_processes=1)


if __name__ == "__main__":
    main()
