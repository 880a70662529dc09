"""Trials of a log, and the rules for one's own."""

from tests.mutants import Mutant

TRIAL, EVALUATION = "louder/trial/", "louder/evaluation/"

MUTANTS = [
    Mutant(
        EVALUATION + "item_knn.py",
        "np.unique(np.stack([users, items]), axis=1)",
        "np.stack([users, items])",
        "tests/evaluation/test_item_knn.py -k sets_of_users",
    ),
    Mutant(
        EVALUATION + "item_knn.py",
        "block.setdiag(0, k=first)",
        "block.setdiag(0)",
        "tests/evaluation/test_item_knn.py -k blocks_do_not_show",
    ),
    Mutant(
        EVALUATION + "bootstrap.py",
        "means[:, 0] - means[:, 1]",
        "means[:, 0] - other",
        "tests/evaluation/test_bootstrap.py",
    ),
    Mutant(TRIAL + "present.py", "times <= moment[at]", "times >= 0", "tests/trial/test_present.py -k latest"),
    Mutant(TRIAL + "present.py", "fits &= times == latest[at]", "pass", "tests/trial/test_present.py -k latest"),
    Mutant(TRIAL + "verdict.py", "gained.low > 0 and (", "gained.mean > 0 and (", "tests/trial/test_verdict.py"),
    Mutant(TRIAL + "split.py", "SHARES = 0.8, 0.9", "SHARES = 0.7, 0.9", "tests/trial/test_trial_split.py"),
    Mutant(
        "louder/training/loop.py",
        "since + self.measuring >=",
        "since + self.measuring - 9 >=",
        "tests/training/test_loop.py -k time_is_up",
    ),
    Mutant(
        "louder/recipes/own_log.py",
        "window >= facts.p90",
        "window > facts.p90",
        "tests/recipes/test_own_log.py -k nine_users",
    ),
    Mutant(
        "louder/recipes/own_log.py",
        "facts.repeats >= REPEATED",
        "facts.repeats > REPEATED",
        "tests/recipes/test_own_log.py -k repeat",
    ),
]
