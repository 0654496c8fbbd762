"""The recurrence of a GRU, one event after the other.

    r, z = sigmoid(drive_rz + W_rz h + b_rz);  n = tanh(drive_n + r * (W_n h + b_n))
    h'   = n + z * (h - n)

as in torch.nn.GRU (Cho et al. 2014, with the reset gate behind the product). Batched matrix kernels
must wait for the slowest run, and sum up in an order that depends on the number of rows. Here each
step is the same instructions on the same shapes: a state has the same bits whatever else is in the
batch, and an event costs the same whether it is one of thousands of one user or of thousands of
users.

exp is Cephes' expf (range reduction by ln 2 in two parts, polynomial of degree 6), as calls into a
mathematical library are not vectorised; it is within 2 ulp of the exact value.
"""

from __future__ import annotations

import numpy as np

from models.kernels.jit import matrix_kernel
from models.steps import F32, I64, STORED

_LOG2E = np.float32(1.44269504088896341)
_LN2_HIGH = np.float32(0.693359375)
_LN2_LOW = np.float32(-2.12194440e-4)
_C0 = np.float32(1.9875691500e-4)
_C1 = np.float32(1.3981999507e-3)
_C2 = np.float32(8.3334519073e-3)
_C3 = np.float32(4.1665795894e-2)
_C4 = np.float32(1.6666665459e-1)
_C5 = np.float32(5.0000001201e-1)
_HALF = np.float32(0.5)
_ONE = np.float32(1)
_TWO = np.float32(2)
_LARGEST = np.float32(87)


@matrix_kernel
def _sigmoid(x_K: F32, bits_K: I64, out_K: F32) -> None:
    """1 / (1 + exp(-x)) of every element; ``bits_K`` is scratch space."""
    power_K = bits_K.view(np.float32)
    for k in range(len(x_K)):
        x = min(max(-x_K[k], -_LARGEST), _LARGEST)
        n = np.floor(x * _LOG2E + _HALF)
        x = x - n * _LN2_HIGH
        x = x - n * _LN2_LOW
        y = _C0 * x + _C1
        y = y * x + _C2
        y = y * x + _C3
        y = y * x + _C4
        y = y * x + _C5
        out_K[k] = y * x * x + x + _ONE
        bits_K[k] = (np.int32(n) + np.int32(127)) << np.int32(23)
    for k in range(len(x_K)):
        out_K[k] = _ONE / (_ONE + out_K[k] * power_K[k])


@matrix_kernel
def gru_states(
    weight_HG: F32, bias_G: F32, begin_NH: F32, drive_MG: F32, before_N: I64, start_N: I64
) -> F32:
    """The states [N,H] of the events of ``Steps``; G = 3 H gates in the order r, z, n.

    Args:
        weight_HG: recurrent weights, transposed.
        bias_G: recurrent biases.
        begin_NH: the stored state that each event's user had before all of them.
        drive_MG: input part of the gates, biases included.
        before_N: as in ``Steps``.
        start_N: as in ``Steps``.
    """
    width, gates = weight_HG.shape
    count, inputs = len(before_N), len(drive_MG)
    states_NH = np.empty((count, width), np.float32)
    h = np.empty(width, np.float32)
    a = np.empty(gates, np.float32)
    gate = np.empty(2 * width, np.float32)
    new = np.empty(width, np.float32)
    bits = np.empty(2 * width, np.int32)
    for e in range(count):
        before = before_N[e]
        if before >= 0:
            h[:] = states_NH[before]
        elif before == STORED:
            h[:] = begin_NH[e]
        else:
            h[:] = 0
        end = start_N[e + 1] if e + 1 < count else inputs
        for m in range(start_N[e], end):
            drive = drive_MG[m]
            a[:] = bias_G
            k = 0
            while k + 4 <= width:
                h0, h1, h2, h3 = h[k], h[k + 1], h[k + 2], h[k + 3]
                w0, w1, w2, w3 = weight_HG[k], weight_HG[k + 1], weight_HG[k + 2], weight_HG[k + 3]
                for g in range(gates):
                    a[g] += h0 * w0[g] + h1 * w1[g] + h2 * w2[g] + h3 * w3[g]
                k += 4
            while k < width:
                h0, w0 = h[k], weight_HG[k]
                for g in range(gates):
                    a[g] += h0 * w0[g]
                k += 1
            for g in range(2 * width):
                a[g] += drive[g]
            _sigmoid(a[: 2 * width], bits, gate)
            for k in range(width):
                a[k] = _TWO * (drive[2 * width + k] + gate[k] * a[2 * width + k])
            _sigmoid(a[:width], bits[:width], new)
            for k in range(width):
                n = _TWO * new[k] - _ONE
                h[k] = n + gate[width + k] * (h[k] - n)
        states_NH[e] = h
    return states_NH
