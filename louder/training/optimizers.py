"""What moves the weights: the optimizers of a model, their rates, a step, and their state in a checkpoint."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from louder.models import AnyModel
from louder.training.average import Average
from louder.training.config import TrainingConfig
from louder.training.rowwise import RowwiseAdagrad, RowwiseAdamW

Optimizers = list[torch.optim.Optimizer]


def make_optimizers(model: AnyModel, training: TrainingConfig) -> Optimizers:
    """AdamW of everything; or of what is not an embedding table, and of the tables a group with a rate of its own or a
    row-wise optimizer, for which gradients become sparse. Each group knows its highest rate as "initial_lr"."""
    rate, betas, decay = training.learning_rate, training.betas, training.weight_decay
    row_rate = rate if training.embedding_learning_rate is None else training.embedding_learning_rate
    weights: list[Tensor] = []
    if training.embedding_optimizer != "adamw" or training.embedding_learning_rate is not None:
        for table in model.tables():
            table.sparse_gradients = training.embedding_optimizer != "adamw"
            weights += table.parameters()
    tables = set(weights)
    rest = [parameter for parameter in model.parameters() if parameter not in tables]
    dense: list[dict[str, Any]] = [{"params": rest}]
    if weights and training.embedding_optimizer == "adamw":
        dense.append({"params": weights, "lr": row_rate})
    optimizers: Optimizers = [torch.optim.AdamW(dense, lr=rate, betas=betas, weight_decay=decay, fused=True)]
    if training.embedding_optimizer == "rowwise_adamw":
        optimizers.append(RowwiseAdamW(weights, lr=row_rate, betas=betas, weight_decay=decay))
    elif training.embedding_optimizer == "rowwise_adagrad":
        optimizers.append(RowwiseAdagrad(weights, lr=row_rate, weight_decay=decay))
    for group in groups(optimizers):
        group["initial_lr"] = group["lr"]
    return optimizers


def groups(optimizers: Optimizers) -> list[dict[str, Any]]:
    return [group for optimizer in optimizers for group in optimizer.param_groups]


def update(model: nn.Module, optimizers: Optimizers, loss: Tensor, clip_norm: float | None) -> None:
    """One step against the gradient of the loss."""
    model.zero_grad(set_to_none=True)
    loss.backward()
    if clip_norm is not None:
        clip_gradient(model, clip_norm)
    for optimizer in optimizers:
        optimizer.step()


def take_step(
    model: nn.Module,
    optimizers: Optimizers,
    loss_of: Callable[[], Tensor],
    training: TrainingConfig,
    number: int,
    steps: int,
    average: Average | None,
) -> float:
    """Step `number` (from 0) of `steps`, whose negatives and dropout are a function of it and the seed; returns the loss."""
    torch.manual_seed(training.seed * 1_000_003 + number + 1)
    for group in groups(optimizers):
        group["lr"] = learning_rate(training, number, steps, group["initial_lr"])
    device = next(model.parameters()).device
    with torch.autocast(device.type, torch.bfloat16, enabled=training.precision == "bfloat16"):
        loss = loss_of()
    update(model, optimizers, loss, training.clip_norm)
    if average is not None:
        average.update(number + 1)
    return loss.item()


def moments(optimizers: Optimizers, model: nn.Module) -> dict[str, Tensor]:
    """What optimizers keep, by WEIGHT.KEY."""
    names: dict[Tensor, str] = {parameter: name for name, parameter in model.named_parameters()}
    return {
        f"{names[parameter]}.{key}": value
        for optimizer in optimizers
        for parameter, state in optimizer.state.items()
        for key, value in state.items()
    }


def restore_moments(optimizers: Optimizers, model: nn.Module, tensors: dict[str, Tensor]) -> None:
    names: dict[Tensor, str] = {parameter: name for name, parameter in model.named_parameters()}
    states: dict[str, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        weight, _, kept = key.rpartition(".")
        states.setdefault(weight, {})[kept] = value
    for optimizer in optimizers:
        for parameter in (parameter for group in optimizer.param_groups for parameter in group["params"]):
            if own := states.get(names[parameter]):
                optimizer.state[parameter] = {key: value.to(parameter.device) for key, value in own.items()}


def clip_gradient(model: nn.Module, largest: float) -> None:
    """nn.utils.clip_grad_norm_, for sparse gradients as well: their norm is that of the rows once added up."""
    gradients = []
    for parameter in model.parameters():
        if parameter.grad is not None and parameter.grad.is_sparse:
            parameter.grad = parameter.grad.coalesce()
            gradients.append(parameter.grad.values())
        elif parameter.grad is not None:
            gradients.append(parameter.grad)
    factor = (largest / (nn.utils.get_total_norm(gradients) + 1e-6)).clamp(max=1)
    for gradient in gradients:
        gradient.mul_(factor)


def learning_rate(training: TrainingConfig, step: int, steps: int, highest: float | None = None) -> float:
    """Rate at `step` (from 0) of `steps`: linear warm-up to `highest` (training.learning_rate), then the schedule."""
    highest = training.learning_rate if highest is None else highest
    if step < training.warmup_steps:
        return highest * (step + 1) / training.warmup_steps
    done = (step - training.warmup_steps) / max(1, steps - training.warmup_steps)
    factors = {"constant": 1.0, "linear": 1 - done, "cosine": (1 + math.cos(math.pi * done)) / 2}
    return highest * factors[training.schedule]
