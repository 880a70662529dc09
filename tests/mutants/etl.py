"""Raw logs, vocabularies, folders."""

from tests.mutants import Mutant

ETL, TESTS = "louder/etl", "tests/etl"
CLEAN, FILTERS, NUMBERING = f"{TESTS}/test_clean.py", f"{TESTS}/test_filters.py", f"{TESTS}/test_numbering.py"
TABLES, FILES, BAD = f"{TESTS}/test_tables.py", f"{TESTS}/test_files.py", f"{TESTS}/test_bad_input.py"
ENGINES, FETCH = f"{TESTS}/test_engines.py", f"{TESTS}/test_fetch.py"
IDS, FOLDERS, FINGERPRINT = "tests/test_ids.py", "tests/test_folders.py", "tests/test_fingerprint.py"
FORMS, EVIDENCE = f"{TESTS}/test_forms.py", f"{TESTS}/test_evidence.py"

MERGED = f"{TABLES}::test_series_are_merged_in_their_order_before_the_engagement"
ONE_SECOND = f"{TABLES}::test_events_of_one_second_are_ordered_by_their_microseconds_and_told_as_ties"
REASON = f"{CLEAN}::test_the_first_reason_that_holds_counts"

MUTANTS = [
    # which events stay
    Mutant(f"{ETL}/filters.py", "if left == before:", "if turn == 0 or left == before:", FILTERS),
    Mutant(f"{ETL}/filters.py", "frequent(kept, ITEM, k), ITEM", "frequent(kept, ITEM, k + 1), ITEM", FILTERS),
    Mutant(f"{ETL}/filters.py", "counts.n >= at_least", "counts.n > at_least", FILTERS),
    Mutant(
        f"{ETL}/filters.py", "rest = kept.semi_join(frequent(kept", "rest = kept.semi_join(frequent(events", FILTERS
    ),
    Mutant(f"{ETL}/filters.py", "group_by=columns, order", "group_by=columns[:-1], order", FILTERS),
    Mutant(f"{ETL}/filters.py", "dropped.get(reason, 0) + rows", "rows", FILTERS),
    # ids, times, actions
    Mutant(f"{ETL}/clean.py", "number.cast(column.type()) == column", "number.notnull()", CLEAN),
    Mutant(f"{ETL}/clean.py", "whole = whole.fill_null(False)", "whole = whole.fill_null(True)", CLEAN),
    Mutant(
        f"{ETL}/clean.py", 'number.cast("string") + ".0" == column', 'number.cast("string") + ".00" == column', CLEAN
    ),
    Mutant(f"{ETL}/clean.py", "rule is not None and not rule.operator else", "rule is not None else", EVIDENCE),
    Mutant(f"{ETL}/clean.py", "return column.isnull() | column.isnan()", "return column.isnull()", CLEAN),
    Mutant(f"{ETL}/clean.py", '"ms": 1e3, "us": 1.0', '"ms": 1e3, "us": 1e3', CLEAN),
    Mutant(f"{ETL}/clean.py", "& (number <= latest * 1e6)", "& (number < latest * 1e6)", CLEAN),
    Mutant(f"{ETL}/clean.py", "number.floor()", "number.round()", CLEAN),
    Mutant(f"{ETL}/clean.py", '">": op.gt', '">": op.ge', CLEAN),
    Mutant(f"{ETL}/clean.py", "1 << j, 0)", "1 << (j % 62), 0)", CLEAN),
    Mutant(f"{ETL}/clean.py", "good = good & check.good", "good = check.good", REASON),
    Mutant(f"{ETL}/probe.py", "max(late, odd, early) * 2 <= rows", "max(late, odd) * 2 <= rows", EVIDENCE),
    Mutant(f"{ETL}/probe.py", "if fits not in found[first]", "if not found[first]", EVIDENCE),
    Mutant(f"{ETL}/read.py", "next_kind(kinds[word])", "kinds[word]", NUMBERING),
    Mutant(f"{ETL}/read.py", "reduce(or_, odd)", "reduce(and_, odd)", EVIDENCE),
    Mutant(f"{ETL}/read.py", "total = rows + sum(source.log.rejected.values())", "total = rows", BAD),
    Mutant(
        f"{ETL}/read.py", "ibis.ifelse(clean.is_missing(raw[column]), None, raw", "ibis.ifelse(False, None, raw", TABLES
    ),
    # numbers, parts, series
    Mutant(f"{ETL}/numbering.py", "ibis.asc(distinct[RAW])", "ibis.desc(distinct[RAW])", NUMBERING),
    Mutant(f"{ETL}/numbering.py", "^-?(0|[1-9][0-9]{0,18})", "^-?([0-9]{1,18})", NUMBERING),
    Mutant(f"{ETL}/transform.py", "digest.substr(place, 1)", "digest.substr(7 - place, 1)", NUMBERING),
    Mutant(f"{ETL}/transform.py", "tokens.number.fill_null(-1)", "tokens.number.fill_null(0)", TABLES),
    Mutant(f"{ETL}/transform.py", "max(keep.k_core, keep.min_item_events) <= 1", "True", TABLES),
    Mutant(f"{ETL}/transform.py", "-(-kept // events_per_part)", "kept // events_per_part + 1", TABLES),
    Mutant(f"{ETL}/transform.py", "=not log.source.repeats", "=False", f"{TESTS}/test_kuairand.py"),
    Mutant(
        f"{ETL}/series.py", "order_by=[MICROS_COLUMN, POSITION]", "order_by=[POSITION]", f"{TESTS}/test_reference.py"
    ),
    Mutant(f"{ETL}/series.py", "marked.before.isnull() | ", "", MERGED),
    Mutant(f"{ETL}/series.py", "entries.semi_join(users, entries[USER] == users[RAW])", "entries", TABLES),
    # sequences
    Mutant(f"{ETL}/sequences.py", "events[KIND] == 0, 256", "events[KIND] == 0, -1", MERGED),
    Mutant(f"{ETL}/sequences.py", "tied[:-1] |= same[1:]", "pass", ONE_SECOND),
    Mutant(f"{ETL}/sequences.py", "(per_user == 1)", "(per_user <= 2)", ONE_SECOND),
    Mutant(f"{ETL}/sequences.py", "// 1_000_000", "// 1_000_000 + 1", ONE_SECOND),
    Mutant(
        f"{ETL}/sequences.py",
        "np.cumsum(~same[where])",
        "np.cumsum(same[where])",
        f"{TABLES}::test_a_repeat_is_equal_in_every_column",
    ),
    Mutant(
        f"{ETL}/sequences.py",
        "(min(times), max(times))",
        "(times[0], times[-1])",
        f"{TABLES}::test_first_and_last_time_are_those_of_all_parts",
    ),
    Mutant(f"{ETL}/engines/duckdb.py", "<< 40) + file_row_number", "<< 40) - file_row_number", ENGINES),
    Mutant(f"{ETL}/engines/duckdb.py", ".order_by(order)", "", f"{ENGINES}::test_each_part_is_sorted_and_alone"),
    # files
    Mutant(f"{ETL}/sources/csv.py", "* len(form.delimiter) - len(gaps)", "* len(form.delimiter)", FILES),
    Mutant(f"{ETL}/sources/csv.py", "map(sum, zip(*counts))", "map(max, zip(*counts))", FILES),
    Mutant(
        f"{ETL}/sources/csv_form.py",
        "elif form.header and unique(first) != form.columns",
        "elif form.header and len(first) != len(form.columns)",
        f"{BAD}::test_files_with_other_columns",
    ),
    Mutant(f"{ETL}/sources/csv.py", "if rows >= enough or (inside", "if (inside", FORMS),
    Mutant(f"{ETL}/sources/csv.py", "enough = 1 if number_at else 3", "enough = 9", FORMS),
    Mutant(
        f"{ETL}/sources/csv_form.py", '[delimiter for delimiter in even if delimiter != " "] or even', "even", FORMS
    ),
    Mutant(f"{ETL}/sequences.py", "of, at = user[engaged], time[engaged]", "of, at = user, time", EVIDENCE),
    Mutant(f"{ETL}/sources/jsonl.py", "'VARCHAR'", "'DOUBLE'", ENGINES),
    Mutant(f"{ETL}/files.py", 'key=lambda name: name.count("/")', 'key=lambda name: -name.count("/")', FILES),
    Mutant(f"{ETL}/fetch.py", "int(length) + start", "int(length)", FETCH),
    Mutant(f"{ETL}/fetch.py", '"ab" if start else "wb"', '"ab"', FETCH),
    Mutant(f"{ETL}/spec.py", '{"=": "=="}.get(match', '{"=": "!="}.get(match', f"{BAD}::test_rules"),
    Mutant(f"{ETL}/spec.py", "{**getattr(self, name), **value}", "dict(value)", f"{TESTS}/test_spec.py"),
    # what all stages share
    Mutant("louder/ids.py", "clip(max=len(ordered) - 1)", "clip(max=len(ordered) - 2)", IDS),
    Mutant("louder/ids.py", "np.where(values.is_valid().to_numpy(zero_copy_only=False), found, -1)", "found", IDS),
    Mutant("louder/folders.py", "not is_running(int(process))", "True", FOLDERS),
    Mutant("louder/folders.py", "len(names) > 1 or kind.key in", "True or kind.key in", FOLDERS),
    Mutant("louder/folders.py", "if foreign:", "if len(foreign) > 1:", FOLDERS),
    Mutant("louder/folders.py", "if path.is_symlink():", "if False:", FOLDERS),
    Mutant("louder/fingerprint.py", "len(was) <= len(is_now) and all(kept)", "all(kept)", FINGERPRINT),
    Mutant("louder/fingerprint.py", 'digest.update(b"integers")', 'digest.update(b"texts")', FINGERPRINT),
    Mutant("louder/schema.py", "if column not in found:", "if column in found:", "tests/test_schema.py"),
]
