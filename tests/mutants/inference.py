"""Mistakes in answering: caches, candidates, filters, re-ranking, what a request means."""

from tests.mutants import Mutant

ENGINE = "tests/inference/test_engine.py"
MFALCON = "tests/inference/test_mfalcon.py"
CACHE = "tests/inference/test_history_cache.py"
RERANKING = "tests/inference/test_reranking.py"
NEW_ITEMS = "tests/inference/test_new_items.py"
CHOSEN = "tests/inference/test_chosen.py"
CATALOGUE = "tests/inference/test_catalogue.py"
FACADE = "tests/inference/test_facade.py"
SHARES = "tests/inference/test_explain.py"
SEEN = "tests/serving/test_seen_by_default.py"

MUTANTS = [
    # what a cross head reads of candidates
    Mutant(
        "louder/inference/mfalcon.py",
        "user.expand(size, -1) for user, size in zip(users, sizes)",
        "user.expand(size, -1) for user, size in zip(users[::-1], sizes)",
        "tests/inference/test_mfalcon.py -k share_their_passes",
    ),
    Mutant(
        "louder/inference/engine.py",
        "counted.features(own, np.full(len(own), now))",
        "counted.features(own, np.full(len(own), now + 1))",
        "tests/inference/test_ranker.py -k others_did",
    ),
    # M-FALCON: wrong cached scores when the items of a request arrive in parts
    Mutant(
        "louder/inference/mfalcon.py",
        "first = int(history.prefix_lengths[first:].min())",
        "first = int(history.prefix_lengths[first])",
        MFALCON,
    ),
    Mutant("louder/inference/mfalcon.py", "first = known - 1  #", "first = known  #", MFALCON),
    Mutant("louder/inference/runner.py", "x.state, x.seen = state, x.seen + 1", "x.state = state", MFALCON),
    Mutant(
        "louder/inference/mfalcon.py",
        "prefix_lengths[start:end] + before",
        "prefix_lengths[start:end]",
        MFALCON,
    ),
    Mutant("louder/inference/mfalcon.py", "own + self.last_action(x.history)", "own", MFALCON),
    Mutant("louder/inference/mfalcon.py", "int(self.model.engaged(history)[:first].sum())", "first", MFALCON),
    Mutant("louder/inference/retriever.py", "max(known - 1, 0) for", "known for", "tests/inference/test_retriever.py"),
    Mutant(
        "louder/inference/runner.py",
        "last._replace(query_time=int(history.query_timestamps[-1]))",
        "last",
        "tests/inference/test_retriever.py",
    ),
    # caches
    Mutant(
        "louder/inference/kv_cache.py",
        "if held is None or not is_prefix(held.events, history):",
        "if held is None:",
        MFALCON,
    ),
    Mutant("louder/inference/kv_cache.py", '"actions", "kinds", "values":', '"actions", "kinds":', CACHE),
    Mutant("louder/inference/kv_cache.py", "not same(held.context, history.context)", "False", CACHE),
    Mutant(
        "louder/inference/kv_cache.py", "while self.bytes > self.capacity", "while self.bytes >= self.capacity", CACHE
    ),
    Mutant(
        "louder/inference/kv_cache.py",
        "self.bytes -= self.sizes.pop(key)",
        "self.bytes -= self.sizes.pop(key) * 0",
        CACHE,
    ),
    Mutant("louder/models/kv_cache.py", ".clamp(max=history)", "", MFALCON),
    Mutant("louder/models/kv_cache.py", "if 4 * room <= seen", "if 4 * room >= seen", MFALCON),
    Mutant(
        "louder/models/kv_cache.py",
        "all_keys[layer, self.length : end] = keys",
        "all_keys[layer, : len(keys)] = keys",
        MFALCON,
    ),
    Mutant("louder/models/kv_cache.py", "room.narrow(dim, 0, held.shape[dim]).copy_(held)", "room.zero_()", MFALCON),
    # re-ranking: weights ignored, diversity that remembers the last pick only
    Mutant(
        "louder/inference/reranking.py",
        "weights[actions.index(name)] = weight",
        "weights[actions.index(name)] = 1",
        RERANKING,
    ),
    Mutant(
        "louder/inference/reranking.py",
        "nearest = np.maximum(nearest, directions @ directions[best])",
        "nearest = directions @ directions[best]",
        RERANKING,
    ),
    Mutant(
        "louder/inference/reranking.py",
        'np.argsort(-result.scores, kind="stable")',
        'np.argsort(result.scores, kind="stable")[::-1]',
        RERANKING,
    ),
    Mutant("louder/inference/reranking.py", "share / len(left) +", "share +", RERANKING),
    Mutant("louder/inference/reranking.py", "draw.random() < share", "draw.random() > share", RERANKING),
    Mutant("louder/inference/reranking.py", "min(len(result.items), pool(request))", "len(result.items)", RERANKING),
    Mutant("louder/inference/reranking.py", "F.normalize(vectors, dim=1)", "vectors", RERANKING),
    # filters: the last of several values alone
    Mutant(
        "louder/inference/catalogue.py",
        "label in values for label",
        "label in sorted(values)[-1:] for label",
        CATALOGUE,
    ),
    Mutant("louder/inference/catalogue.py", "mask &= self.matching", "mask = self.matching", CATALOGUE),
    Mutant("louder/inference/catalogue.py", "mask[self.known(request.deny)] = False", "pass", CATALOGUE),
    Mutant(
        "louder/inference/catalogue.py",
        "counted(table, table.kinds == ENGAGEMENT)",
        "counted(table, table.ids >= 0)",
        CATALOGUE,
    ),
    # the engine
    Mutant(
        "louder/inference/engine.py",
        "max(least, request.retrieve) if self.ranks",
        "request.retrieve if self.ranks",
        ENGINE,
    ),
    Mutant("louder/inference/engine.py", "w.items[:0] if x.request.seen else w.items", "w.items", ENGINE),
    Mutant("louder/inference/engine.py", "//= 1 + (ranker is not None) + len(beside)", "//= 1 + len(beside)", ENGINE),
    Mutant("louder/inference/engine.py", "probabilities @ x.weights", "probabilities[:, 0]", ENGINE),
    Mutant("louder/inference/engine.py", "allowed = some[0].allowed", "allowed = active[0].allowed", ENGINE),
    Mutant("louder/inference/engine.py", "rows[encoded.first :]", "rows[: len(encoded.rows) - encoded.first]", ENGINE),
    Mutant("louder/inference/engine.py", "if runner not in x.prefilled]\n        for", "]\n        for", ENGINE),
    Mutant("louder/inference/engine.py", "request.at if request.at is not None else int(", "int(", ENGINE),
    Mutant(
        "louder/inference/search.py",
        "torch.where(excluded < 0, scores.shape[1], excluded)",
        "excluded.clamp(min=0)",
        ENGINE,
    ),
    Mutant("louder/inference/search.py", "-1 if user is None else next(found)", "-1", ENGINE),
    Mutant("louder/inference/search.py", "scores.masked_fill(~allowed, -torch.inf)", "scores", ENGINE),
    Mutant(
        "louder/inference/run.py",
        "if context is None and user is not None:",
        "if not context and user is not None:",
        ENGINE,
    ),
    Mutant("louder/inference/run.py", "self.user_codes[number][None]", "self.user_codes[:1]", ENGINE),
    # explanation
    Mutant("louder/inference/explain.py", "key=lambda row: change[row][n]", "key=lambda row: -change[row][n]", ENGINE),
    Mutant("louder/models/hstu.py", "batch.query_timestamps[row] - batch", "batch.timestamps[row] - batch", SHARES),
    Mutant("louder/models/sequential.py", ".abs().sum(0)", ".sum(0)", SHARES),
    # requests, facade, commands
    Mutant("louder/inference/request.py", "    numbers[None] = -1\n", "", "tests/inference/test_request.py"),
    Mutant(
        "louder/inference/recommender.py",
        "            popular=self.engine.ranker is not None,",
        "            popular=True,",
        "tests/inference/test_recommender.py",
    ),
    Mutant(
        "louder/inference/catalogue.py",
        "if item >= 0 else (raw",
        "if item > 0 else (raw",
        "tests/inference/test_rank_command.py tests/inference/test_ranker.py",
    ),
    Mutant("louder/cli/show.py", "    if skipped:", "    if not skipped:", FACADE),
    Mutant("louder/cli/recommend.py", "known[-8:]", "known[:8]", FACADE),
    Mutant(
        "louder/cli/rank.py", "-answer.actions[sort]", "answer.actions[sort]", "tests/inference/test_rank_command.py"
    ),
    # indices and smaller weights
    Mutant(
        "louder/inference/index.py",
        "torch.where(scores.isneginf(), -1, ids), scores",
        "ids, scores",
        "tests/inference/test_index.py",
    ),
    Mutant("louder/inference/mol_topk.py", "least - 1e-5 /", "least + 1e-1 /", "tests/inference/test_mol_topk.py"),
    Mutant(
        "louder/inference/precision.py",
        "x.abs().amax(1, keepdim=True)",
        "x.abs().amax()",
        "tests/inference/test_precision.py",
    ),
    Mutant(
        "louder/inference/new_items.py",
        "[encoded_by_text[str(raw)] for raw, number in zip(raws, own) if number < 0]",
        "list(encoded_by_text.values())[: (own < 0).sum()]",
        "tests/inference/test_new_items.py",
    ),
    # what a run knows, and tells
    Mutant(
        "louder/inference/run.py",
        '"items": True,',
        '"items": False,',
        "tests/inference/test_recommender.py",
    ),
    Mutant(
        "louder/inference/run.py",
        '"values": ranking,',
        '"values": False,',
        "tests/inference/test_ranker.py -k another_kind",
    ),
    Mutant("louder/inference/engine.py", "None if ranker is None else Path(ranker), *beside", "None, *beside", ENGINE),
    Mutant("louder/inference/run.py", "self.ranking.main or self.actions[0]", "self.actions[-1]", ENGINE),
    Mutant("louder/inference/run.py", "if name in logged else name", "if name not in logged else name", FACADE),
    Mutant("louder/inference/run.py", "self.actions if self.vocabulary.actions else ()", "()", ENGINE),
    Mutant(
        "louder/inference/run.py", "return self.ranking is None or self.ranking.next_item > 0", "return True", ENGINE
    ),
    Mutant(
        "louder/inference/run.py",
        "stray := [name for name in context or {} if name not in names]",
        "stray := []",
        ENGINE,
    ),
    Mutant("louder/inference/engine.py", "scores[number] = -torch.inf", "pass", ENGINE),
    Mutant("louder/inference/engine.py", "twin.retriever = twin.ranker", "pass", ENGINE),
    Mutant(
        "louder/inference/engine.py",
        "Result(ids, worth.numpy(), read, window.skipped,",
        "Result(ids, worth.numpy(), read, 0,",
        ENGINE,
    ),
    Mutant("louder/inference/engine.py", "self.step([x])", "pass", ENGINE),
    Mutant(
        "louder/inference/engine.py",
        "min(int((own_ids >= 0).sum()), self.wanted(active[n].request))",
        "self.wanted(active[n].request)",
        ENGINE,
    ),
    Mutant(
        "louder/inference/engine.py",
        "if self.retriever is None or not len(window.sequence.ids)",
        "if not len(window.sequence.ids)",
        ENGINE,
    ),
    Mutant("louder/inference/engine.py", "scores[torch.from_numpy(~mask)] = -torch.inf", "pass", ENGINE),
    Mutant("louder/models/kv_cache.py", "room[1][:, : values.shape[1]] = values", "pass", MFALCON),
    Mutant(
        "louder/inference/runner.py",
        "rows.x.shape[0] - self.pending(x.history)",
        "rows.x.shape[0]",
        MFALCON,
    ),
    Mutant(
        "louder/inference/runner.py",
        "offsets=history.offsets - history.offsets.new_tensor([0, first])",
        "offsets=history.offsets",
        MFALCON,
    ),
    Mutant("louder/inference/explain.py", "np.delete(window.rows, row)", "np.delete(window.rows, 0)", ENGINE),
    Mutant("louder/inference/explain.py", "of_events / of_events.sum()", "of_events / of_events.max()", SHARES),
    Mutant("louder/inference/explain.py", "most(shares[0], max(count, LEFT_OUT))", "most(shares[0], count)", ENGINE),
    # whether seen items are recommended
    Mutant("louder/inference/run.py", '.get("seen") == "none"', '.get("seen") is None', SEEN),
    Mutant("louder/inference/engine.py", "self.run.shows_seen if seen is None else seen", "bool(seen)", SEEN),
    Mutant(
        "louder/inference/request.py",
        "key=lambda event: event.time",
        "key=lambda event: -event.time",
        "tests/inference/test_request.py",
    ),
    Mutant(
        "louder/inference/recommender.py", "abs(event.time) >= 1 << 62", "False", "tests/inference/test_recommender.py"
    ),
    Mutant(
        "louder/inference/retrieval.py",
        "table.kinds == ENGAGEMENT",
        "table.kinds >= 0",
        "tests/inference/test_stored_index.py",
    ),
    Mutant(
        "louder/inference/retrieval.py", 'side="right") - 1', 'side="left") - 1', "tests/inference/test_stored_index.py"
    ),
    Mutant(
        "louder/inference/search.py", 'if (run / "index").is_dir()', "if False", "tests/inference/test_stored_index.py"
    ),
    Mutant(
        "louder/inference/stored_index.py",
        'facts.get("sha256") != sha256(file)',
        "False",
        "tests/inference/test_stored_index.py",
    ),
    Mutant("louder/inference/reranking.py", "(1 - diversity) * relevance", "relevance", RERANKING),
    Mutant("louder/inference/reranking.py", "left[best] = False", "pass", RERANKING),
    # a boost of a negative score, and of a logit
    Mutant(
        "louder/inference/reranking.py",
        "np.where(scores < 0, scores / factors, scores * factors)",
        "scores * factors",
        RERANKING,
    ),
    Mutant(
        "louder/inference/reranking.py", "scores + temperature * np.log(factors)", "scores + np.log(factors)", RERANKING
    ),
    Mutant("louder/inference/reranking.py", "factors[named] *= one.factor", "factors[named] = one.factor", RERANKING),
    # caps: pinned items first, and each name by itself
    Mutant(
        "louder/inference/reranking.py", 'np.argsort(~pinned, kind="stable").tolist()', "range(len(pinned))", RERANKING
    ),
    Mutant("louder/inference/reranking.py", "if pinned[row] or all(", "if all(", RERANKING),
    Mutant(
        "louder/inference/reranking.py",
        "order.insert(at[item] - 1, rows[item])",
        "order.insert(at[item], rows[item])",
        RERANKING,
    ),
    Mutant(
        "louder/inference/reranking.py",
        "sorted(at.keys() & rows.keys(), key=at.__getitem__)",
        "at.keys() & rows.keys()",
        RERANKING,
    ),
    Mutant(
        "louder/inference/reranking.py",
        "rows = np.flatnonzero(~pinned)[: pool(request)]",
        "rows = np.flatnonzero(~pinned)[:200]",
        RERANKING,
    ),
    Mutant(
        "louder/inference/engine.py",
        "if self.ranks(request) or least > request.k else least",
        "if self.ranks(request) else request.k",
        CHOSEN,
    ),
    Mutant("louder/inference/engine.py", "[*found.items, *self.catalogue.known(request.deny)]", "found.items", CHOSEN),
    Mutant("louder/inference/short.py", "0 if request.seen else", "", CHOSEN),
    Mutant("louder/inference/short.py", "known = np.unique(seen)", "known = seen", CHOSEN),
    Mutant(
        "louder/inference/catalogue.py",
        "if attribute.size <= MOST_VALUES",
        "if attribute.size < MOST_VALUES",
        CATALOGUE,
    ),
    # what was told of items
    Mutant("louder/inference/updates.py", "None if available.all() else available", "available", CATALOGUE),
    Mutant("louder/inference/updates.py", "if key[0] not in touched", "if True", CATALOGUE),
    Mutant("louder/inference/updates.py", "mask = trained.copy()", "mask = trained", CATALOGUE),
    Mutant("louder/inference/updates.py", "self.told.get(name, {}).pop(number, None)", "pass", CATALOGUE),
    Mutant("louder/inference/updates.py", "next(known) if number >= 0 else given", "given", CATALOGUE),
    Mutant("louder/inference/catalogue.py", "else mask & self.updates.available", "else mask", CATALOGUE),
    Mutant(
        "louder/inference/engine.py", "missing if available is None else missing[available[missing]]", "missing", CHOSEN
    ),
    Mutant("louder/inference/index.py", "banned = ~allowed", "banned = allowed", "tests/inference/test_index.py"),
    Mutant(
        "louder/inference/new_items.py", "            with suppress(InputError):", "            if True:", NEW_ITEMS
    ),
]
