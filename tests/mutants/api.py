"""Mistakes in Python's own surface: ids that change, warnings that are lost, folders that go or stay, other words."""

from tests.mutants import Mutant

LOG, RUN, FRAMES = "louder/api/log.py", "louder/api/run.py", "louder/api/frames.py"
FRAMES_TESTS, RUN_TESTS, WORDS_TESTS = (
    "tests/api/test_frames_in.py",
    "tests/api/test_trained_run.py",
    "tests/api/test_words.py",
)
BAR, BAR_TESTS = "louder/progress.py", "tests/test_progress.py"

MUTANTS = [
    # what goes in
    Mutant("louder/etl/sources/arrow.py", "typed=True", "typed=False", FRAMES_TESTS),
    Mutant("louder/etl/probe.py", "or (typed and kind.is_string())", "or typed", FRAMES_TESTS),
    Mutant(LOG, "shutil.rmtree(path, ignore_errors=True)\n    with", "with", FRAMES_TESTS),
    Mutant(LOG, "if not (filtered and is_filter(reason))", "if not filtered", FRAMES_TESTS),
    Mutant(FRAMES, "column in getattr(index", "column not in getattr(index", FRAMES_TESTS),
    # what comes out
    Mutant(FRAMES, "dict.fromkeys(map(plain, values))", "map(plain, values)", RUN_TESTS),
    Mutant(RUN, "if answered < total:", "if answered < 0:", RUN_TESTS),
    Mutant(RUN, "key=lambda x: -x.actions[main]", "key=lambda x: x.actions[main]", RUN_TESTS),
    Mutant(RUN, 'content.get("config", content)["data"]', 'content["data"]', RUN_TESTS),
    Mutant("louder/api/settings.py", "and not (name in found and NoneType in get_args(hint))", "", RUN_TESTS),
    Mutant("louder/api/words.py", "level, frame = level + 1", "level, frame = level", RUN_TESTS),
    # words
    Mutant("louder/api/words.py", "[.:](?! |$))*", "[.:])*", WORDS_TESTS),
    Mutant("louder/api/words.py", "(?!(?:{PROSE})\\b)", "", WORDS_TESTS),
    # bars
    Mutant(BAR, "self.output is None and not self.lines and", "self.output is None and", BAR_TESTS),
    Mutant(BAR, "if now or moment", "if True or moment", BAR_TESTS),
    Mutant(BAR, "else escape(x) for x in words", "else x for x in words", BAR_TESTS),
]
