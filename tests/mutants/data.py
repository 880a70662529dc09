"""Batches, windows, splits, stochastic length, attributes, counters, synthetic logs."""

from tests.mutants import Mutant

BATCH, WINDOW = "louder/batch.py", "louder/data/window.py"
LOADER, RETRIEVAL, RANKING = "louder/data/loader.py", "louder/data/retrieval.py", "louder/data/ranking.py"
TABLE, TARGETS = "louder/data/table.py", "louder/data/targets.py"
ATTRIBUTES, COUNTERS = "louder/data/attributes.py", "louder/data/counters.py"
ITEM_COUNTS, OF_ITEM_COUNTS = "louder/data/item_counts.py", "tests/data/test_item_counts.py"
OF_NEXT_BY = "tests/training/test_next_item_by.py -k first_later"
SHORT, NEGATIVES = "louder/data/stochastic_length.py", "louder/data/negatives.py"
SYNTHETIC, SYNTHETIC_RANKING = "louder/data/synthetic.py", "louder/data/synthetic_ranking.py"
TASTES = "louder/data/synthetic_tastes.py"

OF_WINDOW = "tests/data/test_window.py"
OF_RETRIEVAL, OF_RANKING = "tests/data/test_retrieval_loader.py", "tests/data/test_ranking_loader.py"
OF_TABLE, OF_TARGETS = "tests/data/test_table.py", "tests/data/test_targets.py"
OF_ATTRIBUTES, OF_COUNTERS = "tests/data/test_attributes.py", "tests/data/test_counters.py"
OF_SHORT, OF_NEGATIVES = "tests/data/test_stochastic_length.py", "tests/data/test_negatives.py"
OF_SYNTHETIC, OF_SYNTHETIC_RANKING = "tests/data/test_synthetic.py", "tests/data/test_synthetic_ranking.py"

MUTANTS = [
    # batch: what does not fit together, and what a batch knows of itself
    Mutant(
        BATCH,
        "if end < first:",
        "if end < first - 1:",
        "tests/test_batch.py",
    ),
    Mutant(
        BATCH,
        "if self.context is not None and len(self.context) != self.users:",
        "if self.context is not None and len(self.context) < self.users:",
        "tests/test_batch.py",
    ),
    Mutant(
        BATCH, "torch.where(self.lengths > 0, self.offsets[1:] - 1, -1)", "self.offsets[1:] - 1", "tests/test_batch.py"
    ),
    Mutant(
        BATCH,
        "return self.index() if self.prefix_lengths is None else self.prefix_lengths",
        "return self.index()",
        "tests/test_batch.py",
    ),
    Mutant(
        BATCH,
        "moved = {name: x.to(device) for name, x in vars(self).items() if x is not None}",
        "moved = {name: x.to(device) for name, x in vars(self).items() if x is not None and name != 'sequences'}",
        "tests/test_batch.py",
    ),
    # window
    Mutant(
        WINDOW,
        'int(np.searchsorted(history.times, at, side="right"))',
        'int(np.searchsorted(history.times, at, side="left"))',
        OF_WINDOW,
    ),
    Mutant(WINDOW, "end - len(rows), self.first", "len(history.times) - len(rows), self.first", OF_WINDOW),
    Mutant(WINDOW, "if len(rows) >= self.max_len", "if len(rows) > self.max_len", OF_WINDOW),
    Mutant(WINDOW, "np.array(dropped + latest_without_room", "np.array(latest_without_room", OF_WINDOW),
    Mutant(WINDOW, "np.searchsorted(rows, start - dropped)", "np.searchsorted(rows, start)", OF_WINDOW),
    Mutant(WINDOW, "table.of_user(user, tokens=tokens).engagements()", "own.engagements()", OF_WINDOW),
    Mutant(WINDOW, "seen[seen >= 0]", "seen[seen > 0]", OF_WINDOW),
    Mutant(WINDOW, 'if at is not None and self.query_time == "request":', "if at is not None:", OF_WINDOW),
    Mutant(WINDOW, "        times = columns.times[heads]\n", "", OF_WINDOW),
    Mutant(WINDOW, "(heads - np.repeat(firsts, lengths)).clip(min=0)", "heads - np.repeat(firsts, lengths)", OF_WINDOW),
    Mutant(
        WINDOW,
        "np.where(beyond < 0, 0, (beyond // hop + 1) * hop)",
        "np.where(beyond <= 0, 0, (beyond // hop + 1) * hop)",
        OF_RANKING,
    ),
    Mutant(WINDOW, "np.where(beyond < 0, 0, (beyond // hop + 1) * hop)", "np.maximum(beyond + 1, 0)", OF_RANKING),
    Mutant(WINDOW, "np.log1p(values.clip(min=0))", "np.log1p(values)", OF_WINDOW),
    Mutant(WINDOW, "if name in self.log_values else x", "if self.log_values else x", OF_WINDOW),
    Mutant(WINDOW, "(bits >> have.index(name) & 1) << bit", "(bits >> bit & 1) << have.index(name)", OF_WINDOW),
    Mutant(WINDOW, "out |= (bits", "out = (bits", OF_WINDOW),
    Mutant(WINDOW, "for name in set(names))", "for name in names)", OF_WINDOW),
    Mutant(
        WINDOW,
        "return self.ids if self.kinds is None else self.ids[self.kinds == ENGAGEMENT]",
        "return self.ids",
        OF_WINDOW,
    ),
    Mutant(
        WINDOW,
        "torch.stack(found, dim=1) if found else torch.zeros(len(rows), 0)",
        "torch.stack(found[::-1], dim=1) if found else torch.zeros(len(rows), 0)",
        OF_WINDOW,
    ),
    # loaders
    Mutant(
        LOADER, "total // self.world if self.train else", "-(-total // self.world) if self.train else", OF_RETRIEVAL
    ),
    Mutant(
        LOADER,
        "yield self.batch(plan[mine[step]], epoch, mine[step])",
        "yield self.batch(plan[mine[step]], epoch, step)",
        OF_SHORT,
    ),
    Mutant(LOADER, "if self.train and self.config.shuffle:", "if self.config.shuffle:", OF_RETRIEVAL),
    Mutant(
        LOADER,
        'np.searchsorted(ends, done + budget, side="right")',
        "np.searchsorted(ends, done + budget)",
        OF_RETRIEVAL,
    ),
    Mutant(
        RETRIEVAL,
        "np.where(wanted, self.columns.ids[following], IGNORE_INDEX)",
        "self.columns.ids[following].copy()",
        OF_RETRIEVAL,
    ),
    Mutant(RETRIEVAL, "            targets[:] = IGNORE_INDEX\n", "", OF_RETRIEVAL),
    Mutant(RETRIEVAL, "some = starts < lasts ", "some = starts <= lasts ", OF_RETRIEVAL),
    Mutant(RETRIEVAL, "rows=torch.from_numpy(self.spans.lasts[chosen])", "rows=torch.from_numpy(lasts)", OF_RETRIEVAL),
    Mutant(RETRIEVAL, "default_rng([self.seed, epoch, number])", "default_rng([self.seed, epoch])", OF_SHORT),
    Mutant(RANKING, "rows + ~self.ends_user[rows]", "np.minimum(rows + 1, len(self.rows) - 1)", OF_RANKING),
    Mutant(RANKING, "self.predicted[rows] & (rows >= np.repeat(targets, lengths))", "self.predicted[rows]", OF_RANKING),
    Mutant(RANKING, "np.maximum.accumulate(self.heads)[targets]", "self.heads[targets]", OF_RANKING),
    Mutant(RANKING, "np.maximum(self.heads[targets], firsts), targets", "targets, targets", OF_RANKING),
    Mutant(RANKING, "self.positive[rows[following]] & ", "", OF_RANKING),
    Mutant(RANKING, "self.config.max_gap if self.train else None", "self.config.max_gap", OF_RANKING),
    Mutant(RANKING, "(self.heads[rows[target]] > rows[asked])", "True", OF_NEXT_BY),
    Mutant(RANKING, "np.searchsorted(found, following)", "np.searchsorted(found, now)", OF_NEXT_BY),
    Mutant(RANKING, "np.flatnonzero(predicted & happened[rows])", "np.flatnonzero(happened[rows])", OF_NEXT_BY),
    Mutant(TARGETS, "<= max_gap", "< max_gap", OF_RETRIEVAL),
    Mutant(RANKING, "(owner[now] == owner[following]) & ", "", OF_RANKING),
    Mutant(
        RANKING,
        "torch.from_numpy(self.counters[table_rows])",
        "torch.from_numpy(self.counters[target_rows])",
        OF_RANKING,
    ),
    # table, splits
    Mutant(
        TABLE,
        "first[1:] = (user[1:] != user[:-1]) | (request[1:] != request[:-1])",
        "first[1:] = request[1:] != request[:-1]",
        OF_RANKING,
    ),
    Mutant(
        TABLE,
        'int(np.searchsorted(self.times[start:end], at, side="right"))',
        'int(np.searchsorted(self.times[start:end], at, side="left"))',
        OF_WINDOW,
    ),
    Mutant(TABLE, "values if rows_in_order is None else values[rows_in_order]", "values", OF_TABLE),
    Mutant(
        TARGETS, "rows &= (table.actions & positive) != 0", "rows &= (table.actions & positive) == positive", OF_TARGETS
    ),
    Mutant(TARGETS, "return times < (config", "return times <= (config", OF_TARGETS),
    Mutant(TARGETS, "user, rows = user[::-1], rows[::-1]", "pass", OF_TARGETS),
    Mutant(
        TARGETS,
        '{"test": 1, "validation": 2, "train": held_out + 1}[part]',
        '{"test": 1, "validation": 2, "train": held_out}[part]',
        OF_TARGETS,
    ),
    Mutant(TARGETS, "in_time(table.times[heads], ", "in_time(table.times, ", OF_RANKING),
    # stochastic length, negatives
    Mutant(SHORT, "max_len**alpha / n**2", "max_len**alpha / (n * max_len)", OF_SHORT),
    Mutant(
        SHORT,
        "weight = 1.0 - age / age.sum() if age.sum() > 0 else np.ones(n)",
        "weight = age / age.sum() if age.sum() > 0 else np.ones(n)",
        OF_SHORT,
    ),
    Mutant(SHORT, "random.choice(n, length, replace=False)", "random.choice(n, length)", OF_SHORT),
    Mutant(NEGATIVES, "generator=generator, device=targets.device)]", "device=targets.device)]", OF_NEGATIVES),
    Mutant(
        NEGATIVES, "torch.searchsorted(cumulative, drawn)", "torch.searchsorted(cumulative, drawn) - 1", OF_NEGATIVES
    ),
    # attributes, counters
    Mutant(
        ATTRIBUTES, "np.bincount(np.repeat(np.arange(rows), lengths)[there], minlength=rows)", "lengths", OF_ATTRIBUTES
    ),
    Mutant(ATTRIBUTES, 'return pc.if_else(pc.equal(texts, ""), None, texts)', "return texts", OF_ATTRIBUTES),
    Mutant(ATTRIBUTES, "matrix[there] = found", "matrix[: len(found)] = found", OF_ATTRIBUTES),
    Mutant(ATTRIBUTES, "len(distinct) > MANY_NUMBERS", "len(distinct) >= MANY_NUMBERS", OF_ATTRIBUTES),
    Mutant(ATTRIBUTES, "torch.where(lengths > 0, padded[", "torch.where(lengths > 1, padded[", OF_RANKING),
    Mutant(
        COUNTERS,
        "user = earlier(users, rows, happened, begins)",
        "user = earlier(users, rows, happened, rows)",
        OF_COUNTERS,
    ),
    Mutant(COUNTERS, "of_items.at(items, now)", "of_items.at(items, table.times[rows])", OF_COUNTERS),
    Mutant(COUNTERS, "smoothed(*item, expected)", "smoothed(*item, rate)", OF_COUNTERS),
    # counts of items: the very second, what is folded, who is not known, everybody
    Mutant(
        ITEM_COUNTS,
        "np.searchsorted(events.moments, times)",
        'np.searchsorted(events.moments, times, "right")',
        OF_ITEM_COUNTS,
    ),
    Mutant(ITEM_COUNTS, "old = events.times < before", "old = events.times <= before", OF_ITEM_COUNTS),
    Mutant(
        ITEM_COUNTS, "(folded.shown[item] + end - first) * known", "folded.shown[item] + end - first", OF_ITEM_COUNTS
    ),
    Mutant(ITEM_COUNTS, "shown = folded.shown.sum() + at_moment", "shown = at_moment", OF_ITEM_COUNTS),
    Mutant(ITEM_COUNTS, "np.add.at(actions, events.items[old], events.happened[old])", "pass", OF_ITEM_COUNTS),
    Mutant(ITEM_COUNTS, "table.times[table.request_rows()[rows]]", "table.times[rows]", OF_ITEM_COUNTS),
    # synthetic logs
    Mutant(
        SYNTHETIC,
        "fresh = np.where(x < alpha, fresh, out[earlier, row])",
        "fresh = np.where(x < alpha, fresh, out[n - 1, row])",
        OF_SYNTHETIC,
    ),
    Mutant(SYNTHETIC, "drift = (step / length[:n])[:, None]", "drift = 0.0", OF_SYNTHETIC),
    Mutant(
        TASTES,
        "before, items[step], category[step] = group, item, kind",
        "items[step], category[step] = item, kind",
        "tests/data/test_synthetic_tastes.py",
    ),
    Mutant(TASTES, "state = decay * state", "state = state", "tests/data/test_synthetic_tastes.py"),
    Mutant(
        SYNTHETIC_RANKING, "before = likes[user, category[item]]", "before = likes.sum(1)[user]", OF_SYNTHETIC_RANKING
    ),
    Mutant(
        SYNTHETIC_RANKING,
        "(np.arange(MOST) < size[:, None]) & ~again",
        "np.arange(MOST) < size[:, None]",
        OF_SYNTHETIC_RANKING,
    ),
]
