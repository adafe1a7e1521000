# SPDX-License-Identifier: Apache-2.0
"""nnU-Net's losses and their gradients on seeded tensors.

    nnunet_losses.py OUT.safetensors

`logits.K` [2, K, 4, 5, 6] and `labels` [2, 4, 5, 6] with values 0 to 3, 3 being the ignored label in names that say
"ignore" (elsewhere it is label 2). `loss.<name>`, `gradient.<name>` for <name> =
{classes,regions}[.ignore][.batch]; the regions are (1, 2) and (2,).
"""
import os
import sys

for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
    os.environ.setdefault(name, "/nonexistent")

import torch
from batchgeneratorsv2.transforms.utils.seg_to_regions import ConvertSegmentationToRegionsTransform
from nnunetv2.training.loss.compound_losses import DC_and_BCE_loss, DC_and_CE_loss
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss
from safetensors.torch import save_file

random = torch.Generator().manual_seed(7)
labels = torch.randint(0, 4, (2, 4, 5, 6), generator=random)
tensors = {"labels": labels.to(torch.int16)}
for channels in (2, 3):
    tensors[f"logits.{channels}"] = 2 * torch.randn((2, channels, 4, 5, 6), generator=random)

for ignore in (False, True):
    here = labels if ignore else labels.clamp(max=2)
    convert = ConvertSegmentationToRegionsTransform([(1, 2), (2,)] + ([3] if ignore else []), channel_in_seg=0)
    regions = torch.stack([convert(**{"segmentation": one[None]})["segmentation"] for one in here])
    for batch in (False, True):
        name = (".ignore" if ignore else "") + (".batch" if batch else "")
        dice = {"batch_dice": batch, "smooth": 1e-5, "ddp": False}
        cases = {
            "classes": (DC_and_CE_loss({**dice, "do_bg": False}, {}, ignore_label=3 if ignore else None,
                                       dice_class=MemoryEfficientSoftDiceLoss), 3, here[:, None]),
            "regions": (DC_and_BCE_loss({}, {**dice, "do_bg": True}, use_ignore_label=ignore,
                                        dice_class=MemoryEfficientSoftDiceLoss), 2, regions),
        }
        for kind, (loss, channels, target) in cases.items():
            logits = tensors[f"logits.{channels}"].clone().requires_grad_(True)
            value = loss(logits, target)
            value.backward()
            tensors[f"loss.{kind}{name}"] = value.detach().reshape(1)
            tensors[f"gradient.{kind}{name}"] = logits.grad.contiguous()
save_file(tensors, sys.argv[1])
