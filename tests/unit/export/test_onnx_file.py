"""What ONNX has no operator for: written in another way, or refused."""

import pytest
import torch
from torch import nn

from benchmark.core.errors import UserError
from benchmark.export.graph import traced
from benchmark.export.onnx_file import _adaptive_average, to_onnx


@pytest.mark.parametrize("size", [(7, 11), (3, 6), (1, 1), (12, 24)])
def test_adaptive_pooling_as_products(size):
    x = torch.rand(2, 5, *size, dtype=torch.float64)
    for sides in ((1, 1), (2, 3), (6, 6)):
        wanted = nn.functional.adaptive_avg_pool2d(x, sides)
        torch.testing.assert_close(_adaptive_average(x, sides), wanted)


def test_what_has_no_operator_is_named():
    class Solve(nn.Module):
        def forward(self, x):
            return torch.linalg.solve(torch.eye(2) + x, x)

    program = traced(Solve(), (torch.rand(2, 2),), None)
    with pytest.raises(
        UserError, match=r"ONNX has no operator for aten\._?linalg_solve.*torch-export"
    ):
        to_onnx(program, ["x"], ["y"])


def test_what_cannot_be_traced_is_one_line():
    class Branch(nn.Module):
        def forward(self, x):
            return x if x.sum() > 0 else -x

    with pytest.raises(UserError, match=r"torch\.export cannot trace the network") as error:
        traced(Branch(), (torch.rand(2),), None)
    assert "\n" not in str(error.value)
