# SPDX-License-Identifier: Apache-2.0
"""What PyTorch and MONAI mean by their losses, optimizers and schedules, on seeded tensors.

    monai_training.py OUT.safetensors

`logits` [2, 3, 4, 5, 6] and `labels` [2, 4, 5, 6], all float32; class 2 is missing in the first sample. `loss.<name>` and
`gradient.<name>` of each loss; `rate.<name>` of 60 steps of each schedule; `first`, `second` and `start`: gradients and
first value of a parameter, `parameter.<name>` after both, twice over, with each optimizer.
"""
import sys

import torch
from monai.losses import DiceCELoss, DiceLoss, FocalLoss, GeneralizedDiceLoss
from monai.optimizers import Novograd
from safetensors.torch import save_file
from torch.optim import lr_scheduler

random = torch.Generator().manual_seed(11)
labels = torch.randint(0, 3, (2, 4, 5, 6), generator=random)
labels[0][labels[0] == 2] = 1
logits = 2 * torch.randn((2, 3, 4, 5, 6), generator=random)
tensors = {"labels": labels.float(), "logits": logits}

losses = {}
for background in (False, True):
    for batch in (False, True):
        name = (".background" if background else "") + (".batch" if batch else "")
        common = {"include_background": background, "batch": batch, "softmax": True, "to_onehot_y": True}
        smooth = {"smooth_nr": 1e-3, "smooth_dr": 1e-3}
        losses["dice" + name] = DiceLoss(**common, **smooth)
        losses["squared" + name] = DiceLoss(squared_pred=True, **common, **smooth)
        losses["generalized" + name] = GeneralizedDiceLoss(**common, **smooth)
        losses["dice_ce" + name] = DiceCELoss(lambda_dice=0.75, lambda_ce=0.5, **common, **smooth)
losses["focal"] = FocalLoss(gamma=1.5, use_softmax=True, to_onehot_y=True)
for name, loss in losses.items():
    x = logits.clone().requires_grad_(True)
    value = loss(x, labels[:, None])
    value.backward()
    tensors[f"loss.{name}"] = value.detach().reshape(1)
    tensors[f"gradient.{name}"] = x.grad.contiguous()


def rates(make):
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=0.1)
    schedule = make(optimizer)
    seen = []
    for _ in range(60):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return torch.tensor(seen, dtype=torch.float32)


tensors["rate.step"] = rates(lambda o: lr_scheduler.StepLR(o, step_size=7, gamma=0.6))
tensors["rate.multistep"] = rates(lambda o: lr_scheduler.MultiStepLR(o, milestones=[5, 20, 21], gamma=0.3))
tensors["rate.exponential"] = rates(lambda o: lr_scheduler.ExponentialLR(o, gamma=0.95))
tensors["rate.poly"] = rates(lambda o: lr_scheduler.PolynomialLR(o, total_iters=60, power=1.7))
tensors["rate.cosine"] = rates(lambda o: lr_scheduler.CosineAnnealingLR(o, T_max=60))

for name in ("start", "first", "second"):
    tensors[name] = torch.randn((4, 5), generator=random)
for name, make in {
    "novograd": lambda p: Novograd([p], lr=0.03, betas=(0.9, 0.97), eps=1e-7, weight_decay=0.02),
    "adam": lambda p: torch.optim.Adam([p], lr=0.03, betas=(0.9, 0.97), eps=1e-7, weight_decay=0.02),
    "adamw": lambda p: torch.optim.AdamW([p], lr=0.03, betas=(0.9, 0.97), eps=1e-7, weight_decay=0.02),
}.items():
    parameter = torch.nn.Parameter(tensors["start"].clone())
    optimizer = make(parameter)
    for gradient in ("first", "second", "first", "second"):
        parameter.grad = tensors[gradient].clone()
        optimizer.step()
    tensors[f"parameter.{name}"] = parameter.detach().clone()
save_file(tensors, sys.argv[1])
