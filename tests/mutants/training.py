"""Training, evaluation, configs and the models that are not attention."""

from tests.mutants import Mutant

LOOP, OPTIMIZERS, ROWWISE, LOSSES = (
    "louder/training/loop.py",
    "louder/training/optimizers.py",
    "louder/training/rowwise.py",
    "louder/training/losses.py",
)
STEPS, TABLES, TASK = "tests/training/test_steps.py", "tests/training/test_tables.py", "louder/training/task.py"
EMBEDDINGS, FEATURES, RANKING = (f"louder/models/{name}.py" for name in ("embeddings", "features", "ranking"))
IMPRESSIONS, RANKER = "tests/models/test_impressions.py", "tests/models/test_ranking_model.py"
RANKS = "tests/evaluation/test_ranks.py"

MUTANTS = [
    # a step, an epoch, a run
    Mutant(LOOP, "training.seed * 1_000_003 + number + 1", "training.seed * 1_000_003 + 1", STEPS),
    Mutant(LOOP, "training.seed * 1_000_003 + number + 1", "training.seed + number + 1", STEPS),
    Mutant(OPTIMIZERS, "model.zero_grad(set_to_none=True)\n    loss", "loss", STEPS),
    Mutant(
        OPTIMIZERS, "betas=betas, weight_decay=decay, fused=True", "betas=betas, weight_decay=0.0, fused=True", STEPS
    ),
    Mutant(LOOP, "            progress.evaluations_without_gain = 0\n", "", STEPS),
    Mutant(LOOP, "score.selected > progress.best:", "score.selected >= progress.best:", STEPS),
    Mutant(
        OPTIMIZERS, "done = (step - training.warmup_steps) /", "done = step /", "tests/training/test_loop.py -k warm_up"
    ),
    Mutant(
        OPTIMIZERS, "return highest * (step + 1) /", "return highest * step /", "tests/training/test_loop.py -k warm_up"
    ),
    Mutant(LOOP, "sum(self.loader.steps(epoch) for", "max(self.loader.steps(epoch) for", STEPS),
    Mutant(LOOP, "keep = {self.progress.step, self.progress.best_step}", "keep = {self.progress.best_step}", STEPS),
    Mutant(
        LOOP,
        "progress.step_in_epoch, progress.loss_sum = epoch + 1, 0, 0.0",
        "progress.step_in_epoch = epoch + 1, 0",
        STEPS,
    ),
    Mutant(LOOP, "self.save()\n                began, tokens = time.perf_counter(), 0", "self.save()", STEPS),
    Mutant(
        OPTIMIZERS,
        "            parameter.grad = parameter.grad.coalesce()\n",
        "",
        "tests/training/test_loop.py -k clip",
    ),
    Mutant(OPTIMIZERS, "table.sparse_gradients = True", "pass", TABLES),
    Mutant(TASK, "    model.eval()\n    yield", "    yield", RANKS),
    # tables, and what optimizers keep of their rows
    Mutant("louder/training/tables.py", "                moments[rows] = 0", "                pass", TABLES),
    Mutant("louder/training/tables.py", "state = optimizer.state.pop(old)", "state = {}", TABLES),
    Mutant("louder/training/tables.py", "new if weight is old else weight for", "weight for", TABLES),
    Mutant(EMBEDDINGS, "return nn.init.zeros_(vectors) if at_zero else vectors", "return vectors", IMPRESSIONS),
    Mutant(EMBEDDINGS, "self.weight[rows] = self.new_vectors", "self.weight[: len(rows)] = self.new_vectors", TABLES),
    Mutant(
        EMBEDDINGS,
        "torch.where(batch.kinds == kind)[0] for",
        "torch.where(batch.kinds <= kind)[0] for",
        "tests/models/test_models.py",
    ),
    Mutant(
        ROWWISE, '"step"][rows] + 1', '"step"].max() + 1 + 0 * state["step"][rows]', "tests/training/test_rowwise.py"
    ),
    Mutant(
        ROWWISE, "grad.square().mean(1), 1 - beta2", "grad.square().sum(1), 1 - beta2", "tests/training/test_rowwise.py"
    ),
    # losses
    Mutant(
        LOSSES,
        "(popularity + 1) / (popularity + 1)",
        "popularity / popularity",
        "tests/training/test_ranking.py -k as_popular",
    ),
    Mutant(LOSSES, "positive - log_weights[targets], negative", "positive, negative", "tests/training/test_losses.py"),
    Mutant(
        LOSSES,
        "against = F.softplus(negative).masked_fill(hit, 0.0)",
        "against = F.softplus(negative)",
        "tests/training/test_losses.py",
    ),
    Mutant(
        LOSSES,
        "return sampled * (t * (1 - 1 / sampled) + 1 / sampled)",
        "return sampled * t",
        "tests/training/test_losses.py",
    ),
    Mutant(
        "louder/training/mol.py",
        "config.user_weight * mol.of_users(states, users).square()",
        "mol.of_users(states, users).square()",
        "tests/training/test_mol_training.py",
    ),
    Mutant(
        "louder/training/ranking.py",
        "self.ranking.value_weight * error",
        "error",
        "tests/training/test_ranking.py -k loss_is_the_sum",
    ),
    Mutant(
        "louder/training/ranking.py",
        "loss + self.ranking.next_item * next_item",
        "loss + next_item",
        "tests/training/test_ranking.py -k loss_is_the_sum",
    ),
    Mutant(
        "louder/training/ranking.py",
        "-selected if down else selected",
        "selected",
        "tests/training/test_ranking.py -k result_hold_what",
    ),
    # models
    Mutant(FEATURES, "self.weekdays(times // DAY_S % 7)", "self.weekdays((times // DAY_S + 1) % 7)", IMPRESSIONS),
    Mutant(FEATURES, "later < self.config.history", "later <= self.config.history", IMPRESSIONS),
    Mutant(FEATURES, "(1 - fraction) * shift.square()", "shift.square()", IMPRESSIONS),
    Mutant(RANKING, "values * self.value_scale + self.value_mean", "values * self.value_scale", RANKER),
    Mutant(RANKING, "query_times[acted] = batch.query_timestamps", "query_times[acted] = batch.timestamps", RANKER),
    Mutant(
        "louder/models/item_features.py",
        "self.item_matrix[ids.clamp(min=0)] * (ids >= 0)[:, None]",
        "self.item_matrix[ids.clamp(min=0)]",
        RANKER,
    ),
    Mutant("louder/models/dlrm.py", "torch.addcmul(x, x0,", "torch.addcmul(x0, x0,", "tests/models/test_dlrm.py"),
    Mutant("louder/models/wukong.py", " + self.residual(x))", ")", "tests/models/test_wukong.py"),
    Mutant(
        "louder/models/mol.py",
        "users % self.config.user_rows + 1, 0",
        "users % self.config.user_rows, 0",
        "tests/models/test_mol.py",
    ),
    # evaluation
    Mutant("louder/evaluation/retrieval.py", "ranks = 1 + higher + ties.clamp(min=0) / 2", "ranks = 1 + higher", RANKS),
    Mutant(
        "louder/evaluation/retrieval.py",
        "(~(scores <= target_scores)).sum(1)",
        "(scores > target_scores).sum(1)",
        RANKS,
    ),
    Mutant(
        "louder/evaluation/ranking.py",
        "lengths = rows.numpy() + 1 - starts",
        "lengths = rows.numpy() - starts",
        "tests/training/test_ranking.py -k next_item_is_ranked",
    ),
    Mutant(
        "louder/evaluation/ranking_metrics.py",
        "(2 * below + negatives)",
        "(2 * below + 2 * negatives)",
        "tests/evaluation/test_ranking_metrics.py",
    ),
    Mutant(
        "louder/evaluation/retrieval_metrics.py",
        "low = high + 1 if high else low",
        "low = high if high else low",
        "tests/evaluation/test_retrieval_metrics.py",
    ),
    # configs and checkpoints
    Mutant(
        "louder/config.py",
        "        return new\n    if name",
        "        return name\n    if name",
        "tests/test_config.py",
    ),
    Mutant("louder/config.py", "lambda value: 0 <= value < 1", "lambda value: 0 <= value <= 1", "tests/test_config.py"),
    Mutant(
        "louder/training/config.py",
        "len(self.ranking.context) + 1\n",
        "len(self.ranking.context)\n",
        "tests/test_config.py",
    ),
    Mutant(
        "louder/checkpoint.py",
        "return folders[-1] if folders",
        "return folders[0] if folders",
        "tests/test_checkpoint.py tests/training/test_steps.py",
    ),
]
