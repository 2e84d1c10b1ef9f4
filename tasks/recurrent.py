"""A recurrent layer that trains in packs: `nn.GRU` and `nn.GRUCell` have no rule for `torch.vmap`."""

import torch
from torch import Tensor, nn


class GRU(nn.Module):
    """One layer of gated recurrent units, with the equations and the initialisation of `nn.GRU` (Cho et al. 2014).

    Every gate has matrices of its own, which suits rules that orthogonalize a whole matrix:

        r = sigmoid(W_r x + U_r h),  z = sigmoid(W_z x + U_z h),  n = tanh(W_n x + r * (U_n h)),  h' = (1 - z) n + z h

    with a bias in every product.

    Args:
        input_size: features of an element of the sequence.
        hidden_size: units.
    """

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.inputs = nn.ModuleDict({gate: nn.Linear(input_size, hidden_size) for gate in "rzn"})
        self.hidden = nn.ModuleDict({gate: nn.Linear(hidden_size, hidden_size) for gate in "rzn"})
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -(hidden_size**-0.5), hidden_size**-0.5)

    def forward(self, sequence: Tensor) -> Tensor:
        """The hidden states [B, T, hidden_size] along a sequence [B, T, input_size], from a state of zeros."""
        reset, update, new = (self.inputs[gate](sequence).unbind(1) for gate in "rzn")
        hidden = torch.zeros_like(new[0])
        states = []
        for step in range(sequence.shape[1]):
            r = torch.sigmoid(reset[step] + self.hidden["r"](hidden))
            z = torch.sigmoid(update[step] + self.hidden["z"](hidden))
            n = torch.tanh(new[step] + r * self.hidden["n"](hidden))
            hidden = n + z * (hidden - n)
            states.append(hidden)
        return torch.stack(states, 1)
