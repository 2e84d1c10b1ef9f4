"""What torch offers around an optimizer in one's own loop: states of torch's Adam, tensor lr, shards, replicas."""

import copy
import socket

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from optimizers.adam import Adam, AdamW
from optimizers.ademamix import AdEMAMix
from optimizers.adopt import ADOPT
from optimizers.lamb import LAMB
from optimizers.laprop import LaProp
from optimizers.lion import Lion
from optimizers.madam import MAdam
from optimizers.mars import MARS
from optimizers.muon import Muon
from optimizers.prodigy import Prodigy
from optimizers.qhadamw import QHAdamW
from optimizers.signum import Signum

NUM_STEPS = 4


def make_params():
    generator = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(shape, generator=generator)) for shape in ((4, 3), (5,), ())]


def train(optimizer, params, steps):
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        for param in params:
            param.grad = torch.randn(param.shape, generator=generator)
        optimizer.step()


@pytest.mark.parametrize(
    ("ours", "theirs"), [(Adam, torch.optim.Adam), (AdamW, torch.optim.AdamW), (AdamW, torch.optim.Adam)]
)
def test_training_goes_on_from_a_state_of_torchs_own_adam(ours, theirs):
    """Decay included: it is that of the class which saved it."""
    params = make_params()
    optimizer = theirs(params, lr=0.01, betas=(0.8, 0.9), weight_decay=0.1)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
    train(optimizer, params, range(NUM_STEPS))
    scheduler.step()
    own_params = copy.deepcopy(params)
    resumed = ours(own_params)
    resumed.load_state_dict(optimizer.state_dict())
    assert resumed.param_groups[0]["initial_lr"] == 0.01
    train(optimizer, params, range(NUM_STEPS, 2 * NUM_STEPS))
    train(resumed, own_params, range(NUM_STEPS, 2 * NUM_STEPS))
    torch.testing.assert_close(own_params, params, rtol=1e-5, atol=1e-6)
    assert resumed.state[own_params[0]]["step"] == 2 * NUM_STEPS
    again = ours(own_params)
    again.load_state_dict(resumed.state_dict())
    assert again.param_groups == resumed.param_groups


@pytest.mark.parametrize("switch", ["amsgrad", "maximize"])
def test_a_form_of_adam_that_ours_lacks_is_refused(switch):
    params = make_params()
    optimizer = torch.optim.Adam(params, **{switch: True})
    train(optimizer, params, range(1))
    with pytest.raises(ValueError, match=f"{switch}=True"):
        Adam(params).load_state_dict(optimizer.state_dict())


def test_a_state_of_other_groups_is_refused_as_by_torch():
    params = make_params()
    state = torch.optim.Adam([{"params": params[:1]}, {"params": params[1:]}]).state_dict()
    with pytest.raises(ValueError, match="different number of parameter groups"):
        Adam(params).load_state_dict(state)


@pytest.mark.parametrize("optimizer_class", [AdamW, Lion, LAMB, Prodigy, Muon])
@pytest.mark.parametrize("shape", [(), (1,)], ids=str)
def test_a_tensor_lr_is_the_number_and_follows_a_scheduler(optimizer_class, shape):
    groups = [make_params()[:1] if optimizer_class is Muon else make_params() for _ in range(2)]
    lrs = torch.full(shape, 0.01), 0.01
    for params, lr in zip(groups, lrs, strict=True):
        optimizer = optimizer_class(params, lr=lr, weight_decay=0.1)
        scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
        for step in range(NUM_STEPS):
            train(optimizer, params, [step])
            scheduler.step()
    assert lrs[0].item() == pytest.approx(0.01 * 0.5**NUM_STEPS)
    torch.testing.assert_close(groups[0], groups[1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("lr", [torch.tensor(-1.0), torch.tensor([0.1, 0.2]), torch.tensor(float("nan"))])
def test_a_tensor_lr_out_of_its_range_is_refused(lr):
    with pytest.raises(ValueError, match="lr="):
        AdamW(make_params(), lr=lr)


SHARDED = {
    Adam: {},
    AdamW: {},
    MAdam: {},
    AdEMAMix: {},
    LaProp: {},
    Lion: {"lr": 1e-3},
    Signum: {"lr": 1e-3},
    QHAdamW: {},
    ADOPT: {},
    LAMB: {},
    MARS: {},
}


def make_model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 3))


def fit(model, make_optimizer, inputs):
    """Train on this process's part of every batch."""
    optimizer = make_optimizer(model)
    for batch in inputs:
        optimizer.zero_grad()
        model(batch).square().mean().backward()
        optimizer.step()
    return optimizer


def matrices_of(model):
    return [param for param in model.parameters() if param.ndim == 2]


def compare(rank, port):
    """Run in two processes: every optimizer sharded and replicated against itself alone on the whole batches."""
    dist.init_process_group("gloo", init_method=f"tcp://localhost:{port}", rank=rank, world_size=2)
    mesh = init_device_mesh("cpu", (2,))
    inputs = torch.randn(NUM_STEPS, 4, 6, generator=torch.Generator().manual_seed(1))
    mine = inputs[:, 2 * rank : 2 * rank + 2]
    factories = [
        lambda model, c=c, o=o: c(model.parameters(), **{"lr": 1e-2, "weight_decay": 0.1, **o})
        for c, o in SHARDED.items()
    ]
    factories.append(lambda model: Muon(matrices_of(model), lr=1e-2, fp32_matmul_prec="highest"))
    for factory in factories:
        alone, sharded, replicated = make_model(), make_model(), DistributedDataParallel(make_model())
        fit(alone, factory, inputs)
        for layer in sharded:
            fully_shard(layer, mesh=mesh) if isinstance(layer, nn.Linear) else None
        fully_shard(sharded, mesh=mesh)
        optimizer = fit(sharded, factory, mine)
        fit(replicated, factory, mine)
        for expected, shard, replica in zip(
            alone.parameters(), sharded.parameters(), replicated.parameters(), strict=True
        ):
            torch.testing.assert_close(shard.full_tensor(), expected, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(replica, expected, rtol=1e-4, atol=1e-5)
        resumed = factory(sharded)
        resumed.load_state_dict(optimizer.state_dict())
    with pytest.raises(ValueError, match="sharded"):
        fit(sharded, lambda model: Prodigy(model.parameters()), mine)
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_with_shards_or_replicas_equal_one():
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.start_processes(compare, (port,), nprocs=2, start_method="forkserver")
