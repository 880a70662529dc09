"""Mistakes in versions of a model, and in a service that follows them."""

from tests.mutants import Mutant

PUBLISHING = "louder/publishing/"
CHAIN, GATE = "tests/publishing/test_chain.py", "tests/publishing/test_gate.py"
FOLLOWING = "tests/serving/test_following_versions.py"
DELTA = FOLLOWING + " -k after_a_delta"
OLD_WEIGHTS = FOLLOWING + " -k old_weights"

MUTANTS = [
    Mutant(PUBLISHING + "changes.py", "rows.view(torch.int64)", "rows", CHAIN),
    Mutant(PUBLISHING + "changes.py", "return len(numbers) - 1 - from_the_end", "return from_the_end", CHAIN),
    Mutant(PUBLISHING + "changes.py", "different[len(old) :] = True", "pass", CHAIN),
    Mutant(PUBLISHING + "chain.py", 'if found != file["sha256"]:', "if False:", CHAIN),
    Mutant(PUBLISHING + "chain.py", "if found.hash != hashed:", "if False:", CHAIN),
    Mutant(PUBLISHING + "publish.py", "before.hash == since else None", "True else None", CHAIN),
    Mutant(PUBLISHING + "publish.py", "if len(deltas) >= keeping.longest", "if len(deltas) > keeping.longest", CHAIN),
    Mutant(PUBLISHING + "gate.py", "if lost > bound * abs(before):", "if lost >= 0:", GATE),
    Mutant(PUBLISHING + "gate.py", "value - before if name in LOWER", "before - value if name in LOWER", GATE),
    Mutant(PUBLISHING + "gate.py", "if new.events < bounds.fewest_events:", "if False:", GATE),
    Mutant("louder/inference/kv_cache.py", "held.version != self.version or ", "", OLD_WEIGHTS),
    Mutant(
        "louder/inference/runner.py", "self.branch = self.backbone.ready()\n        self.cache", "self.cache", DELTA
    ),
]
