"""Mistakes in the store of histories and in the service."""

from tests.mutants import Mutant

HISTORIES, SERVING = "louder/histories/", "louder/serving/"
PACKING, ARRIVALS, MERGING = (f"tests/histories/test_{name}.py" for name in ("packing", "arrivals", "merging"))
KEYS, STORE = "tests/histories/test_keys.py", "tests/histories/test_store.py -k files"
STORE_SETTINGS = "tests/histories/test_settings.py"
METRICS, MIDDLEWARE, VIEWS = (f"tests/serving/test_{name}.py" for name in ("metrics", "middleware", "views"))
BATCHING, WIRE, JOBS = (f"tests/serving/test_{name}.py" for name in ("batching", "wire", "jobs"))
CONNECTIONS = "tests/serving/test_connections.py"
CANARIES = " ".join(
    f"tests/serving/test_canaries.py::test_{name}"
    for name in (
        "each_number_has_a_bound",
        "what_two_models_answer_is_compared_user_by_user",
        "correlation_is_that_of_ranks",
        "of_a_history_the_latest_event_is_held_out",
    )
)
MORE = "tests/serving/test_canaries.py -k more_users"
FIRST_LOOK = "tests/serving/test_canaries.py -k first_model"
ACCESS = " ".join(
    f"tests/serving/test_access.py::test_{name}"
    for name in (
        "one_token_may_do_everything_and_lines_give_rights",
        "what_is_not_known_needs_the_highest_right_and_slashes_open_nothing",
        "a_host_that_was_not_named_is_not_answered",
        "clients_are_told_apart_by_address_and_token",
    )
)
RELOAD, EXPLORE = "tests/serving/test_live_models.py", "tests/serving/test_explore.py"
TOLD = "tests/serving/test_told_items.py"
TOLD_STORE = "tests/histories/test_items.py"
BULK = "tests/serving/test_bulk.py"
VARIANTS = " ".join(
    f"tests/serving/test_variants.py::test_{name}"
    for name in (
        "shares_are_those_that_were_asked_for_and_users_stay",
        "another_salt_is_another_draw",
        "when_the_last_share_grows_only_the_control_moves",
    )
)
SEQUENTIAL, AB_LOG = "tests/evaluation/test_sequential.py", "tests/evaluation/test_ab_log.py"
WORLD = "tests/data/test_world.py"

MUTANTS = [
    # lengths and spans at powers of two; what a column keeps
    Mutant(HISTORIES + "packing.py", "if span < 1 << (8 * width))", "if span <= 1 << (8 * width))", PACKING),
    Mutant(HISTORIES + "packing.py", "width = 0 if not span", "width = 0 if span < 2", PACKING),
    Mutant(
        HISTORIES + "packing.py",
        "np.fromiter(map(len, history.items)",
        "np.fromiter(map(len, history.items[::-1])",
        PACKING,
    ),
    Mutant(HISTORIES + "packing.py", "HEAD = 16", "HEAD = 8", PACKING),
    Mutant(HISTORIES + "packing.py", "names, version, total, older)", "Names(), version, total, older)", STORE),
    Mutant(HISTORIES + "packing.py", "at += count * values * 4", "at += count * values * 2", PACKING),
    # an action named twice, columns of values, ids
    Mutant(
        HISTORIES + "arrivals.py",
        "sum(1 << names.actions.index(name) for name in set(actions))",
        "sum(1 << names.actions.index(name) for name in actions)",
        ARRIVALS,
    ),
    Mutant(
        HISTORIES + "arrivals.py", "values[row, names.values.index(name)] = value", "values[row, 0] = value", ARRIVALS
    ),
    Mutant("louder/ids.py", 'digest(text), "little", signed=True', 'digest(text)[:4], "little"', ARRIVALS),
    Mutant(HISTORIES + "arrivals.py", '(digest(request), "little") >> 1', '(digest(request), "little") >> 2', ARRIVALS),
    Mutant(HISTORIES + "arrivals.py", "if abs(value) > LARGEST", "if value > LARGEST", ARRIVALS),
    Mutant(HISTORIES + "arrivals.py", "if event.time < -(1 << 63)", "if event.time <= -(1 << 63)", ARRIVALS),
    Mutant(HISTORIES + "times.py", "if time <= now + MARGIN_S", "if time < now + MARGIN_S - 1", ARRIVALS),
    Mutant(HISTORIES + "times.py", "if LONG_AGO <= time // count", "if 0 <= time // count", ARRIVALS),
    Mutant(HISTORIES + "times.py", 'now + MARGIN_S, side="right"', 'now, side="right"', ARRIVALS),
    # merging, idempotence, order
    Mutant(HISTORIES + "merging.py", "history.select(order[-keep:])", "history.select(order[:keep])", MERGING),
    Mutant(HISTORIES + "merging.py", 'np.argsort(both.times, kind="stable")', "np.argsort(-both.times)[::-1]", MERGING),
    Mutant(HISTORIES + "merging.py", "history.items[order[:-keep]]", "history.items[order[:keep]]", MERGING),
    Mutant(HISTORIES + "merging.py", "[-MOST_OLDER:]", "[:MOST_OLDER]", MERGING),
    Mutant(HISTORIES + "merging.py", "np.sort(len(items) - 1 - first)", "np.sort(first)", MERGING),
    Mutant(HISTORIES + "merging.py", "            known.add(id)\n", "", MERGING),
    Mutant(
        HISTORIES + "merging.py", "arrived.times[row] <= record.since", "arrived.times[row] < record.since", MERGING
    ),
    Mutant(HISTORIES + "merging.py", "duplicates + (id not in gone)", "duplicates + 1", MERGING),
    Mutant(HISTORIES + "record.py", "ids=every[beyond:]", "ids=every[:REMEMBERED]", MERGING),
    Mutant(HISTORIES + "record.py", "np.maximum(self.places - beyond, -1)", "self.places", MERGING),
    Mutant(HISTORIES + "merging.py", "record.appended + len(fresh)", "record.appended + len(ids)", MERGING),
    Mutant(HISTORIES + "merging.py", "version=old.version + new.total", "version=old.version", MERGING),
    Mutant(HISTORIES + "merging.py", "(has_first and len(record.ids))", "has_first", MERGING),
    Mutant(HISTORIES + "merging.py", "record.since is not None or (has_first", "(has_first", MERGING),
    Mutant(HISTORIES + "merging.py", "np.array(fresh)), total=len(fresh)", "np.array(fresh)), total=len(ids)", MERGING),
    Mutant(HISTORIES + "merging.py", "total=history.total - gone", "total=history.total", MERGING),
    Mutant(HISTORIES + "merging.py", "version=history.version + 1", "version=history.version", MERGING),
    Mutant(HISTORIES + "merging.py", "since=request_time(record.history.times, now)", "since=now", MERGING),
    Mutant(HISTORIES + "identity.py", "SAME = 0.5", "SAME = 0.9", "tests/histories/test_identity.py -k files"),
    Mutant(HISTORIES + "identity.py", "size <= len(ids) and", "False and", "tests/histories/test_identity.py -k files"),
    Mutant(
        HISTORIES + "identity.py",
        "if not adopt and not all",
        "if not adopt and not any",
        "tests/histories/test_identity.py -k files",
    ),
    # keys, bounds, pages
    Mutant(HISTORIES + "keys.py", '(user - LOWEST).to_bytes(8, "big")', '(user - LOWEST).to_bytes(8, "little")', KEYS),
    Mutant(HISTORIES + "keys.py", "10**digits - 1) for digits", "10**digits) for digits", KEYS),
    Mutant(HISTORIES + "keys.py", "reversed(spans)", "spans", KEYS),
    Mutant(HISTORIES + "keys.py", "if not 0 < len(key) <= LONGEST", "if not 0 < len(key) < LONGEST", KEYS),
    Mutant(HISTORIES + "store.py", 'low = keys[-1] + b"\\0"', 'low = keys[0] + b"\\0"', STORE),
    Mutant(HISTORIES + "store.py", "                changes = {}\n", "", STORE),
    Mutant(HISTORIES + "store.py", "limit - len(found))", "limit)", STORE),
    Mutant(HISTORIES + "store.py", "max(events.total, len(events))", "len(events)", STORE),
    Mutant(HISTORIES + "settings.py", "if len(names.actions) > 63", "if len(names.actions) > 64", STORE_SETTINGS),
    Mutant(
        HISTORIES + "settings.py",
        "len(names.actions) > both else old",
        "len(names.actions) >= both else old",
        STORE_SETTINGS,
    ),
    Mutant(HISTORIES + "settings.py", "users=settings.users or kind_of(user)", "users=kind_of(user)", STORE_SETTINGS),
    Mutant(
        HISTORIES + "files.py",
        "while there and len(found) < limit and",
        "while there and len(found) <= limit and",
        STORE,
    ),
    Mutant(
        HISTORIES + "redis.py", "start=0, num=limit", "start=1, num=limit", "tests/histories/test_store.py -k redis"
    ),
    # metrics and middleware
    Mutant(SERVING + "metrics.py", ' and route != "/v1/stats"', "", METRICS),
    Mutant(
        SERVING + "metrics.py",
        "max(self.newest + 1, now - SECONDS + 1)",
        "max(self.newest, now - SECONDS + 1)",
        METRICS,
    ),
    Mutant(SERVING + "metrics.py", "quantile_ms(0.99)", "quantile_ms(0.9)", METRICS),
    Mutant(SERVING + "metrics.py", "self.newest = max(self.newest, now)", "self.newest = now", METRICS),
    Mutant(
        SERVING + "access.py",
        "hmac.compare_digest(given.strip(), token.text.encode())",
        "given.startswith(token.text.encode())",
        MIDDLEWARE,
    ),
    Mutant(SERVING + "middleware.py", "            self.metrics.in_flight.dec()\n", "", MIDDLEWARE),
    Mutant(SERVING + "middleware.py", 'status = message["status"]', "status = 200", MIDDLEWARE),
    # batching
    Mutant(
        SERVING + "batching.py", "for x in ahead) + self.busy) * self.row_s", "for x in ahead)) * self.row_s", BATCHING
    ),
    Mutant(SERVING + "batching.py", "if x.turn <= turn and", "if", BATCHING),
    Mutant(
        SERVING + "batching.py", "if wait > self.max_queue_delay_s or", "if wait >= self.max_queue_delay_s or", BATCHING
    ),
    Mutant(SERVING + "batching.py", "wait + rows * self.row_s > within_s", "wait > within_s", BATCHING),
    Mutant(SERVING + "batching.py", "if yields else 1 + own)", "if yields else 1)", BATCHING),
    Mutant(SERVING + "batching.py", "len(alike) + own) if", "len(alike)) if", BATCHING),
    Mutant(SERVING + "batching.py", "(1 + len(alike) + own) if", "(1 + own + own) if", BATCHING),
    Mutant(SERVING + "batching.py", "for x in self.queue if x.yields == yields]", "for x in self.queue]", BATCHING),
    Mutant(SERVING + "batching.py", "slower = 1 + YIELDING if", "slower = 1 if", BATCHING),
    Mutant(SERVING + "batching.py", "overdue = math.inf if yields else", "overdue =", BATCHING),
    Mutant(SERVING + "batching.py", "count = others[-1] + 1", "pass", BATCHING),
    Mutant(SERVING + "batching.py", "return self.quiet_at - time.monotonic()", "return 0.0", BATCHING),
    Mutant(SERVING + "batching.py", "if not all(x.yields for x in batch):", "if True:", BATCHING),
    Mutant(SERVING + "jobs.py", "len(message.items) > SLICE", "len(message.items) >= SLICE", JOBS),
    Mutant(SERVING + "access.py", 'else f"{token.name} at {address}"', "else token.name", ACCESS),
    Mutant(SERVING + "batching.py", "sum(x.client == client for", "sum(True for", BATCHING),
    Mutant(SERVING + "batching.py", "(x.overdue > now, x.turn)", "x.turn", BATCHING),
    Mutant(SERVING + "batching.py", "rows <= self.max_rows for rows", "rows < self.max_rows for rows", BATCHING),
    Mutant(SERVING + "batching.py", "[x for x in self.queue if not x.future.done()]", "list(self.queue)", BATCHING),
    Mutant(SERVING + "batching.py", "(until if self.expected > 0 else back)", "until", BATCHING),
    Mutant(SERVING + "batching.py", "(until if self.expected > 0 else back)", "back", BATCHING),
    Mutant(SERVING + "batching.py", "0.0 if len(self.queue) >= self.answered else", "", BATCHING),
    Mutant(
        SERVING + "batching.py", "not self.gathers or len(self.queue) >= self.answered", "not self.gathers", BATCHING
    ),
    Mutant(
        SERVING + "batching.py",
        "self.answered_at = 0, len(batch)",
        "self.answered_at = self.busy, len(batch)",
        BATCHING,
    ),
    Mutant(SERVING + "batching.py", "return [error] if len(jobs) == 1 else", "return [error] * len(jobs) or", BATCHING),
    Mutant(SERVING + "batching.py", "< 2 else 1, None)", "< 3 else 1, None)", BATCHING),
    Mutant(SERVING + "batching.py", "fewest if second == latest + 1 else rows", "rows", BATCHING),
    # connections
    Mutant(SERVING + "connections.py", "if connections <= self.most", "if connections < self.most", CONNECTIONS),
    Mutant(SERVING + "connections.py", "if until < now]", "if until <= now]", CONNECTIONS),
    Mutant(SERVING + "connections.py", "            self.task.cancel(GONE)\n", "            pass\n", CONNECTIONS),
    Mutant(
        SERVING + "connections.py",
        "in self.gate.computed else None",
        "in self.gate.computed or True else None",
        CONNECTIONS,
    ),
    Mutant(SERVING + "connections.py", "len(data) - end - 4 if end >= 0 else", "0 if end >= 0 else", CONNECTIONS),
    Mutant(
        SERVING + "connections.py", "self.received = before + len(data)\n", "self.received = len(data)\n", CONNECTIONS
    ),
    Mutant(
        SERVING + "connections.py", "        self.last = self.turned_away", "        self.last = False", CONNECTIONS
    ),
    Mutant(SERVING + "connections.py", "            self.turned_away = False\n", "", CONNECTIONS),
    Mutant(SERVING + "connections.py", "            self.flow.resume_reading()\n", "", CONNECTIONS),
    Mutant(SERVING + "connections.py", "        self.probe()\n", "", CONNECTIONS),
    Mutant(
        SERVING + "connections.py",
        "        if not self.in_message and self.cycle.response_complete:\n            self.wait(IDLE_S)\n",
        "",
        CONNECTIONS,
    ),
    Mutant(SERVING + "connections.py", "files_allowed() - OTHER_FILES", "files_allowed()", CONNECTIONS),
    Mutant(SERVING + "wire.py", "if not unpacking.eof or", "if", WIRE),
    Mutant(SERVING + "wire.py", "if len(plain) > MOST_BYTES", "if len(plain) >= MOST_BYTES", WIRE),
    Mutant(SERVING + "wire.py", "if len(body) > MOST_BYTES", "if len(part) > MOST_BYTES", WIRE),
    # messages, jobs, models
    Mutant(SERVING + "views.py", "slice(-limit, None)", "slice(0, limit)", VIEWS),
    Mutant(SERVING + "views.py", "max(history.total, len(history))", "history.total", VIEWS),
    Mutant(SERVING + "views.py", 'fields["retrieve"] = 0', "pass", VIEWS),
    Mutant(SERVING + "views.py", "if place < len(reasons)", "if place == 0 and reasons", f"{VIEWS} {JOBS}"),
    Mutant(SERVING + "service.py", "return self.store.at_hand and", "return", JOBS),
    Mutant(SERVING + "service.py", "self.store.at_hand and self.reading_s < QUICK_S", "self.store.at_hand", JOBS),
    Mutant(SERVING + "service.py", "result.items[:EXPLAINED]", "result.items", JOBS),
    Mutant(SERVING + "service.py", "time.monotonic() + RETRY_S", "time.monotonic()", JOBS),
    Mutant(
        SERVING + "service.py",
        'previous, since = message.model == "previous"',
        "previous, since = False",
        "tests/serving/test_reload.py -k rollback",
    ),
    Mutant(SERVING + "jobs.py", 'if len({part["model"] for part in good}) == 1', "if True", JOBS),
    Mutant(SERVING + "jobs.py", "[*before, *value]", "value", JOBS),
    Mutant(SERVING + "jobs.py", "min(SLICE, len(message.items))", "len(message.items)", JOBS),
    Mutant(SERVING + "jobs.py", "k=len(x))", "k=SLICE)", JOBS),
    Mutant(SERVING + "service.py", "if job.previous == previous", "if job.previous <= previous", JOBS),
    Mutant(SERVING + "reload.py", "self.refusals += reason != self.refused", "self.refusals += 1", RELOAD),
    Mutant(SERVING + "reload.py", "self.both = new, self.live", "self.both = new, self.previous", RELOAD),
    Mutant(SERVING + "reload.py", "(version, marks) == self.refused_as", "version == self.refused_as[0]", RELOAD),
    # which new model goes live
    Mutant(SERVING + "canaries.py", "SLOWER * old.seconds + 1", "SLOWER * old.seconds", RELOAD),
    Mutant(SERVING + "canaries.py", "k=listed, retrieve=0, seen", "k=listed, seen", RELOAD),
    Mutant(SERVING + "canaries.py", "retrieve=len(items), seen=True)", "retrieve=len(items))", RELOAD),
    Mutant(SERVING + "canaries.py", "history.select(slice(-1))", "history", RELOAD),
    Mutant(SERVING + "canaries.py", "total=max(history.total - 1, 0)", "total=history.total", CANARIES),
    Mutant(SERVING + "canaries.py", "if count > 1] or [trial]", "if count > 0] or [trial]", RELOAD),
    Mutant(SERVING + "canaries.py", "x.overlap < x.chance + OVERLAP", "x.overlap < OVERLAP", CANARIES),
    Mutant(SERVING + "canaries.py", "lost - gained > errors *", "lost > errors *", CANARIES),
    Mutant(SERVING + "canaries.py", "live.worse_by(BETTER) or ", "", CANARIES),
    Mutant(SERVING + "canaries.py", " or x.live_distinct < DISTINCT * x.distinct", "", CANARIES),
    Mutant(SERVING + "canaries.py", "old + asked(live, more, 0), own + asked(new, more, 0)", "old, own", MORE),
    Mutant(SERVING + "canaries.py", "own, 0.0).worse_by(DOUBT)", "own, 0.0).worse_by(WORSE)", MORE),
    Mutant(SERVING + "canaries.py", "if not found.worse_by(WORSE):", "if not found.worse_by(DOUBT):", FIRST_LOOK),
    Mutant(SERVING + "canaries.py", "top[~np.isin(top, seen)][:listed]", "top[:listed]", FIRST_LOOK),
    Mutant(SERVING + "canaries.py", "len(np.unique(row)) == 1", "len(np.unique(row)) == 0", FIRST_LOOK),
    Mutant(SERVING + "canaries.py", "counts.cumsum() - (counts - 1) / 2", "counts.cumsum()", CANARIES),
    # who may ask for what
    Mutant(SERVING + "access.py", "right in self.rights or ADMIN in self.rights", "right in self.rights", ACCESS),
    Mutant(SERVING + "access.py", 'scope.get("raw_path", path.encode())', "path.encode()", ACCESS),
    Mutant(SERVING + "access.py", 'name.lower().rstrip(".")', "name.lower()", ACCESS),
    Mutant(SERVING + "access.py", "if path not in self.probed and", "if", ACCESS),
    Mutant(SERVING + "access.py", "WRITE if path in TOLD else ADMIN", "WRITE", ACCESS),
    # what a stranger is shown, and what if
    Mutant(SERVING + "explore.py", "if total >= FEW", "if total > FEW", EXPLORE),
    Mutant(SERVING + "explore.py", "draw.sample(found, min(SAMPLE, len(found)))", "found", EXPLORE),
    Mutant(SERVING + "explore.py", "            had[favourite] += 1\n", "", EXPLORE),
    Mutant(SERVING + "explore.py", "np.argsort(-self.times[rows]", "np.argsort(self.times[rows]", EXPLORE),
    Mutant(SERVING + "explore.py", "    counts[:, 0] = 0  # of what has no value\n", "", EXPLORE),
    Mutant(SERVING + "explore.py", "np.where(common > 0, common, 1)", "1", EXPLORE),
    Mutant(SERVING + "explore.py", "(-counts, ~begins", "(counts, ~begins", EXPLORE),
    Mutant(
        SERVING + "explore.py",
        "match_substring(titles, text, ignore_case=True)",
        "match_substring(titles, text)",
        EXPLORE,
    ),
    Mutant(SERVING + "explore.py", "~np.isin(trained, told.items)", "trained >= 0", EXPLORE),
    Mutant("louder/inference/updates.py", "            self.own_titles = None\n", "", EXPLORE),
    Mutant(SERVING + "explore.py", "                self.read_at = time.monotonic()\n", "", EXPLORE),
    Mutant(
        SERVING + "views.py", "return merged(history, replace(new, total=len(new))", "return merged(history, new", VIEWS
    ),
    Mutant(SERVING + "page.py", "if images else POLICY", "if not images else POLICY", "tests/serving/test_page.py"),
    Mutant(SERVING + "page.py", "content + policy.encode()", "content", "tests/serving/test_page.py"),
    # items and batches
    Mutant("louder/histories/items.py", "WHERE version > ?", "WHERE version >= ?", TOLD_STORE),
    Mutant("louder/histories/items.py", "self._newest() + 1", "1", TOLD_STORE),
    Mutant("louder/histories/items.py", "if value is not None}", "}", TOLD_STORE),
    Mutant("louder/histories/items.py", 'self._file.execute("BEGIN IMMEDIATE")', "pass", TOLD_STORE),
    Mutant("louder/histories/redis_items.py", "newest(pipe) + 1", "1", TOLD_STORE),
    Mutant(SERVING + "item_book.py", "                    updates.take(changed)", "                    pass", TOLD),
    Mutant(SERVING + "item_book.py", "            updates.take(self.facts)", "            pass", TOLD),
    Mutant(SERVING + "reload.py", "self.prepare(new)", "pass", TOLD),
    Mutant(SERVING + "bulk.py", "async with places:", "if True:", BULK),
    Mutant(SERVING + "bulk.py", "range(TRIES - 1)", "range(TRIES)", BULK),
    Mutant(SERVING + "bulk.py", 'f"{CLIENT.get()} in batches"', "CLIENT.get()", BULK),
    # variants
    Mutant(SERVING + "variants.py", "        place -= variant.share\n", "", VARIANTS),
    Mutant(SERVING + "variants.py", 'salt.encode() + b"\\0" + key_of(user)', "key_of(user)", VARIANTS),
    Mutant(SERVING + "service.py", " if job.variant == name]", "]", "tests/serving/test_variants.py -k answered_by"),
    Mutant("louder/evaluation/sequential.py", "2 * math.log(1 / alpha)", "math.log(1 / alpha)", SEQUENTIAL),
    Mutant("louder/evaluation/sequential.py", "rewards - mean * requests", "rewards - mean", SEQUENTIAL),
    Mutant("louder/evaluation/ab_log.py", "            self.variant[user] = -1\n", "            pass\n", AB_LOG),
    Mutant("louder/evaluation/ab_log.py", "        if again in self.answered:\n            return\n", "", AB_LOG),
    Mutant("louder/evaluation/ab.py", "mismatch.p < MISMATCH or", "", AB_LOG),
    Mutant("louder/data/world.py", "        self.had[user - 1].add(item)\n", "        pass\n", WORLD),
    Mutant("louder/data/world.py", "np.sqrt(1 - keep**2) * ", "", WORLD),
    Mutant("louder/data/world.py", "looked >= looks[position] or ", "", WORLD),
]
