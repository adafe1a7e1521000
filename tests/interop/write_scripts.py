# SPDX-License-Identifier: Apache-2.0
"""A network and losses as a user writes them in PyTorch, saved as TorchScript.

    write_scripts.py FOLDER

`unet.ts`: one channel, three classes, sizes divisible by 2, dropout in training. `tuple.ts`: the same, with a second
result. `small.ts`: half the input's size. `dice.ts`: a Dice loss. `vector.ts`: no scalar. `source.ts`: no TorchScript.
"""
import sys
from pathlib import Path
from typing import Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def convolutions(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv3d(inputs, outputs, 3, padding=1), nn.BatchNorm3d(outputs), nn.LeakyReLU(0.01, True))


class MyUnet(nn.Module):
    def __init__(self, channels: int = 1, classes: int = 3, width: int = 6):
        super().__init__()
        self.outer = convolutions(channels, width)
        self.down = nn.Conv3d(width, 2 * width, 2, stride=2)
        self.inner = convolutions(2 * width, 2 * width)
        self.dropout = nn.Dropout3d(0.1)
        self.up = nn.ConvTranspose3d(2 * width, width, 2, stride=2)
        self.merged = convolutions(2 * width, width)
        self.head = nn.Conv3d(width, classes, 1)

    def forward(self, image: Tensor) -> Tensor:
        skip = self.outer(image)
        deep = self.dropout(self.inner(self.down(skip)))
        return self.head(self.merged(torch.cat([self.up(deep), skip], 1)))


class WithDeepResult(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = MyUnet()

    def forward(self, image: Tensor) -> Tuple[Tensor, Tensor]:
        logits = self.net(image)
        return logits, F.avg_pool3d(logits, 2)


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = MyUnet()

    def forward(self, image: Tensor) -> Tensor:
        return F.avg_pool3d(self.net(image), 2)


class MyDiceLoss(nn.Module):
    def __init__(self, smooth: float = 1e-3):
        super().__init__()
        self.smooth = smooth

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        p = logits.softmax(1)
        there = F.one_hot(target.squeeze(1).long(), logits.size(1)).permute(0, 4, 1, 2, 3).to(p.dtype)
        overlap = (p * there).sum([2, 3, 4])
        both = (p + there).sum([2, 3, 4])
        return 1 - ((2 * overlap + self.smooth) / (both + self.smooth)).mean()


class Vector(nn.Module):
    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return logits.mean([1, 2, 3, 4]) - target.mean()


folder = Path(sys.argv[1])
torch.manual_seed(5)
for name, module in {
    "unet": MyUnet(),
    "tuple": WithDeepResult(),
    "small": Small(),
    "dice": MyDiceLoss(),
    "vector": Vector(),
}.items():
    torch.jit.script(module).save(str(folder / f"{name}.ts"))
(folder / "source.ts").write_text("class Network: pass\n")
