"""Training, evaluation, configs and the models that are not attention."""

from tests.mutants import Mutant

TRAINING, MODELS, EVALUATION = "louder/training/", "louder/models/", "louder/evaluation/"

MUTANTS = [
    # a step, an epoch, a run
    Mutant(
        TRAINING + "optimizers.py",
        "training.seed * 1_000_003 + number + 1",
        "training.seed * 1_000_003 + 1",
        "tests/training/test_steps.py -k every_step_draws_negatives",
    ),
    Mutant(
        TRAINING + "optimizers.py",
        "training.seed * 1_000_003 + number + 1",
        "training.seed + number + 1",
        "tests/training/test_steps.py -k follow",
    ),
    Mutant(
        TRAINING + "optimizers.py",
        "model.zero_grad(set_to_none=True)\n    loss",
        "loss",
        "tests/training/test_steps.py -k forgets",
    ),
    Mutant(
        TRAINING + "optimizers.py",
        "betas=betas, weight_decay=decay, fused=True",
        "betas=betas, weight_decay=0.0, fused=True",
        "tests/training/test_steps.py -k optimizers_get",
    ),
    Mutant(
        TRAINING + "loop.py",
        "            progress.evaluations_without_gain = 0\n",
        "",
        "tests/training/test_steps.py -k patience_back",
    ),
    Mutant(
        TRAINING + "loop.py",
        "score.selected > progress.best:",
        "score.selected >= progress.best:",
        "tests/training/test_steps.py -k first_of_equals",
    ),
    Mutant(
        TRAINING + "optimizers.py",
        "done = (step - training.warmup_steps) /",
        "done = step /",
        "tests/training/test_loop.py -k warm_up",
    ),
    Mutant(
        TRAINING + "optimizers.py",
        "return highest * (step + 1) /",
        "return highest * step /",
        "tests/training/test_loop.py -k warm_up",
    ),
    Mutant(
        TRAINING + "loop.py",
        "sum(self.loader.steps(epoch) for",
        "max(self.loader.steps(epoch) for",
        "tests/training/test_steps.py -k rate_falls",
    ),
    Mutant(
        TRAINING + "loop.py",
        "keep = {self.progress.step, self.progress.best_step}",
        "keep = {self.progress.best_step}",
        "tests/training/test_steps.py -k keeps_the_best",
    ),
    Mutant(
        TRAINING + "loop.py",
        "progress.step_in_epoch, progress.loss_sum = epoch + 1, 0, 0.0",
        "progress.step_in_epoch = epoch + 1, 0",
        "tests/training/test_steps.py -k loss_of_an_epoch",
    ),
    Mutant(
        TRAINING + "loop.py",
        "self.save()\n                began, tokens = time.perf_counter(), 0",
        "self.save()",
        "tests/training/test_steps.py -k clock",
    ),
    Mutant(
        TRAINING + "optimizers.py",
        "            parameter.grad = parameter.grad.coalesce()\n",
        "",
        "tests/training/test_loop.py -k clip",
    ),
    Mutant(
        TRAINING + "optimizers.py",
        'table.sparse_gradients = training.embedding_optimizer != "adamw"',
        "pass",
        "tests/training/test_loop.py -k leaves_the_rows",
    ),
    Mutant(
        TRAINING + "task.py", "    model.eval()\n    yield", "    yield", "tests/evaluation/test_ranks.py -k measuring"
    ),
    # tables, and what optimizers keep of their rows
    Mutant(
        TRAINING + "tables.py",
        "                moments[rows] = 0",
        "                pass",
        "tests/training/test_growing_tables.py -k reset",
    ),
    Mutant(
        TRAINING + "tables.py",
        "state = optimizer.state.pop(old)",
        "state = {}",
        "tests/training/test_growing_tables.py -k growing",
    ),
    Mutant(
        TRAINING + "tables.py",
        "new if weight is old else weight for",
        "weight for",
        "tests/training/test_growing_tables.py -k growing",
    ),
    Mutant(
        MODELS + "embeddings.py",
        "return nn.init.zeros_(vectors) if at_zero else vectors",
        "return vectors",
        "tests/models/test_impressions.py -k never_trained",
    ),
    Mutant(
        MODELS + "embeddings.py",
        "self.weight[rows] = self.new_vectors",
        "self.weight[: len(rows)] = self.new_vectors",
        "tests/training/test_growing_tables.py -k reset",
    ),
    Mutant(
        MODELS + "embeddings.py",
        "torch.where(batch.kinds == kind)[0] for",
        "torch.where(batch.kinds <= kind)[0] for",
        "tests/training/test_retrieval.py -k gradients_name",
    ),
    Mutant(
        TRAINING + "rowwise.py",
        '"step"][rows] + 1',
        '"step"].max() + 1 + 0 * state["step"][rows]',
        "tests/training/test_rowwise.py -k equations",
    ),
    Mutant(
        TRAINING + "rowwise.py",
        "grad.square().mean(1), 1 - beta2",
        "grad.square().sum(1), 1 - beta2",
        "tests/training/test_rowwise.py -k equations",
    ),
    # losses
    Mutant(
        TRAINING + "losses.py",
        "(popularity + 1) / (popularity + 1)",
        "popularity / popularity",
        "tests/training/test_ranking.py -k as_popular",
    ),
    Mutant(
        TRAINING + "losses.py",
        "positive - log_weights[targets], negative",
        "positive, negative",
        "tests/training/test_losses.py -k negatives_are_those",
    ),
    Mutant(
        TRAINING + "losses.py",
        "against = F.softplus(negative).masked_fill(hit, 0.0)",
        "against = F.softplus(negative)",
        "tests/training/test_losses.py -k written_out",
    ),
    Mutant(
        TRAINING + "losses.py",
        "return sampled * (t * (1 - 1 / sampled) + 1 / sampled)",
        "return sampled * t",
        "tests/training/test_losses.py -k papers_power",
    ),
    Mutant(
        TRAINING + "losses.py",
        "config.user_weight * mol.of_users(states, users).square()",
        "mol.of_users(states, users).square()",
        "tests/training/test_mol_training.py -k loss_is_that",
    ),
    Mutant(
        TRAINING + "ranking.py",
        "ranking.value_weight * error",
        "error",
        "tests/training/test_ranking.py -k loss_is_the_sum",
    ),
    Mutant(
        TRAINING + "ranking.py",
        "loss + ranking.next_item * next_item_loss(",
        "loss + next_item_loss(",
        "tests/training/test_ranking.py -k loss_is_the_sum",
    ),
    Mutant(
        TRAINING + "ranking.py",
        "-selected if down else selected",
        "selected",
        "tests/training/test_ranking.py -k result_hold_what",
    ),
    # models
    Mutant(
        MODELS + "features.py",
        "self.weekdays(times // DAY_S % 7)",
        "self.weekdays((times // DAY_S + 1) % 7)",
        "tests/models/test_impressions.py -k weekday",
    ),
    Mutant(
        MODELS + "features.py",
        "later < self.config.history",
        "later <= self.config.history",
        "tests/models/test_impressions.py -k latest_events",
    ),
    Mutant(
        MODELS + "features.py",
        "(1 - fraction) * shift.square()",
        "shift.square()",
        "tests/models/test_impressions.py -k counters",
    ),
    Mutant(
        MODELS + "ranking.py",
        "values * self.value_scale + self.value_mean",
        "values * self.value_scale",
        "tests/models/test_ranking_model.py -k own_scale",
    ),
    Mutant(
        MODELS + "ranking.py",
        "query_times[acted] = batch.query_timestamps",
        "query_times[acted] = batch.timestamps",
        "tests/models/test_ranking_model.py -k take_turns",
    ),
    Mutant(
        MODELS + "embeddings.py",
        "self.item_matrix[ids.clamp(min=0)] * (ids >= 0)[:, None]",
        "self.item_matrix[ids.clamp(min=0)]",
        "tests/models/test_ranking_model.py -k unit_length",
    ),
    Mutant(MODELS + "dlrm.py", "torch.addcmul(x, x0,", "torch.addcmul(x0, x0,", "tests/models/test_dlrm.py"),
    Mutant(MODELS + "wukong.py", " + self.residual(x))", ")", "tests/models/test_wukong.py"),
    Mutant(
        MODELS + "mol.py",
        "users % self.config.user_rows + 1, 0",
        "users % self.config.user_rows, 0",
        "tests/models/test_mol.py",
    ),
    # evaluation
    Mutant(
        EVALUATION + "retrieval.py",
        "ranks = 1 + higher + ties.clamp(min=0) / 2",
        "ranks = 1 + higher",
        "tests/evaluation/test_ranks.py -k ties",
    ),
    Mutant(
        EVALUATION + "retrieval.py",
        "(~(scores <= target_scores)).sum(1)",
        "(scores > target_scores).sum(1)",
        "tests/evaluation/test_ranks.py -k no_numbers",
    ),
    Mutant(
        EVALUATION + "ranking.py",
        "lengths = rows.numpy() + 1 - starts",
        "lengths = rows.numpy() - starts",
        "tests/training/test_ranking.py -k next_item_is_ranked",
    ),
    Mutant(
        EVALUATION + "ranking_metrics.py",
        "(2 * below + negatives)",
        "(2 * below + 2 * negatives)",
        "tests/evaluation/test_ranking_metrics.py -k written_out",
    ),
    Mutant(
        EVALUATION + "retrieval_metrics.py",
        "chosen = (lengths > below)",
        "chosen = (lengths >= below)",
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
        TRAINING + "config.py", "len(self.ranking.context) + 1\n", "len(self.ranking.context)\n", "tests/test_config.py"
    ),
    Mutant(
        "louder/checkpoint.py",
        "return folders[-1] if folders",
        "return folders[0] if folders",
        "tests/test_checkpoint.py",
    ),
    # features of items and exposures
    Mutant(
        MODELS + "ranking.py",
        "x_LD + dropout(part, rate, self.training)",
        "x_LD + part",
        "tests/models/test_ranking_model.py -k each_part",
    ),
    Mutant(
        MODELS + "features.py",
        "sequences.ids[last], 0)) * some[:, None]",
        "sequences.ids[last], 0))",
        "tests/models/test_impressions.py -k without_an_entry",
    ),
]
