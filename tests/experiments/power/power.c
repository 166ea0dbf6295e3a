/* How often rules to swap the active checkpoint by err, and what they find: the tables of
 * docs/experiments.md, "Decisions". The agent's rule is the agent's own code.
 *
 *   power [--trials N] [--seed N] [--outcomes FILE] [--json]
 *
 * It fails where the agent's rule swaps equally accurate ones more often than it may, or where
 * what was drawn is not what was enumerated. */
#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "tests/experiments/power/draw.h"
#include "tests/experiments/power/rules.h"
#include "tests/experiments/power/several.h"

struct options {
	int trials;
	uint64_t seed;
	const char *outcomes;
	bool json;
};

/* ---- tables ---- */

/* Rows as they come: Markdown for people, or an array of objects. */
struct table {
	bool json, begun, later; /* later: of a file with tables before */
	const char *const *columns;
	size_t n_columns, at;
	size_t amiss; /* rows that are not as they should be */
};

static void table_begin(struct table *t, const char *name, const char *const *columns, size_t n)
{
	t->columns = columns;
	t->n_columns = n;
	t->begun = false;
	t->at = 0;
	if (t->json) {
		printf("%s\"%s\":[", t->later ? "," : "{", name);
	} else {
		printf("%s### %s\n\n", t->later ? "\n" : "", name);
		for (size_t i = 0; i < n; i++)
			printf("| %s ", columns[i]);
		printf("|\n");
		for (size_t i = 0; i < n; i++)
			printf("|---");
		printf("|\n");
	}
	t->later = true;
}

static void table_cell(struct table *t, const char *text)
{
	bool first = t->at == 0, last = t->at + 1 == t->n_columns;
	if (t->json)
		printf("%s\"%s\":%s%s", first ? (t->begun ? ",{" : "{") : ",", t->columns[t->at],
		       text, last ? "}" : "");
	else
		printf("| %s%s", text, last ? " |\n" : " ");
	t->begun = true;
	t->at = last ? 0 : t->at + 1;
}

static void table_text(struct table *t, const char *text)
{
	char quoted[64];
	snprintf(quoted, sizeof(quoted), t->json ? "\"%s\"" : "%s", text);
	table_cell(t, quoted);
}

static void table_number(struct table *t, const char *format, double v)
{
	char text[32];
	snprintf(text, sizeof(text), format, v);
	table_cell(t, isnan(v) ? (t->json ? "null" : "-") : text);
}

static void table_percent(struct table *t, double share)
{
	table_number(t, "%.1f", 100 * share);
}

static void table_end(const struct table *t)
{
	if (t->json)
		printf("]");
	fflush(stdout);
}

/* ---- one challenger ---- */

static const char *const losses_names[LOSSES_N] = {"alike", "better calibrated", "overconfident",
						   "trained on"};

static void run_cell(const struct pools *p, const struct cell *cell, int trials, struct rng *rng,
		     double ret_swaps[RULE_N])
{
	static uint16_t a[WORKER_OUTCOMES_MAX], c[WORKER_OUTCOMES_MAX];
	const struct outcomes active = {a, cell->n}, challenger = {c, cell->n};
	int swaps[RULE_N] = {0};
	for (int t = 0; t < trials; t++) {
		bool swap[RULE_N];
		draw(p, cell, rng, a, c);
		rules_apply(&active, &challenger, swap);
		for (int r = 0; r < RULE_N; r++)
			swaps[r] += swap[r];
	}
	for (int r = 0; r < RULE_N; r++)
		ret_swaps[r] = (double)swaps[r] / trials;
}

/* Drawn within five standard errors of enumerated; equally accurate ones swapped no more often
 * than the level says. */
static bool as_expected(const struct cell *cell, double drawn, double enumerated, int trials)
{
	double error = sqrt(enumerated * (1 - enumerated) / trials) + 1.0 / trials;
	return fabs(drawn - enumerated) <= 5 * error &&
	       (cell->better > 0 || enumerated <= LEVEL * 1.003);
}

static void row_of_cell(struct table *t, const struct pools *p, const struct cell *cell,
			const struct options *o, struct rng *rng)
{
	double swaps[RULE_N];
	struct enumerated e = {NAN, NAN};
	for (int r = 0; r < RULE_N; r++)
		swaps[r] = NAN;
	/* Nobody is better by more than they disagree on. */
	if (cell->better <= cell->disagree) {
		run_cell(p, cell, o->trials, rng, swaps);
		e = rules_enumerate(cell->n, cell->disagree, cell->better);
		t->amiss += !as_expected(cell, swaps[RULE_VERDICT], e.verdict, o->trials);
	}
	table_number(t, "%.0f", (double)cell->n);
	table_number(t, "%.0f", 100 * cell->disagree);
	table_percent(t, swaps[RULE_BEST]);
	table_percent(t, swaps[RULE_EXACT]);
	table_percent(t, swaps[RULE_VERDICT]);
	table_number(t, "%.2f", 100 * e.verdict);
	table_percent(t, e.bound);
	for (int r = RULE_BROKEN; r < RULE_N; r++)
		table_percent(t, swaps[r]);
}

static void table_of_cells(struct table *t, const char *name, const struct pools *p, double better,
			   enum losses losses, const struct options *o, struct rng *rng)
{
	static const char *const columns[] = {
		"images", "disagree",     "best",      "exact",  "verdict",   "verdict, enumerated",
		"bound",  "steps broken", "p(true) t", "loss t", "loss ranks"};
	static const size_t sizes[] = {30, 100, 500};
	static const double disagree[] = {0.05, 0.1, 0.3};
	char title[128], by[32] = "equally accurate";
	if (better > 0)
		snprintf(by, sizeof(by), "better by %.0f points", 100 * better);
	snprintf(title, sizeof(title), "%s, %s, losses %s", name, by, losses_names[losses]);
	table_begin(t, title, columns, ARRAY_LEN(columns));
	for (size_t n = 0; n < ARRAY_LEN(sizes); n++) {
		for (size_t d = 0; d < ARRAY_LEN(disagree); d++) {
			struct cell cell = {sizes[n], disagree[d], better, losses};
			row_of_cell(t, p, &cell, o, rng);
		}
	}
	table_end(t);
}

static void one_challenger(struct table *t, const char *kind, const struct pools *p,
			   const struct options *o, struct rng *rng)
{
	static const enum losses equal[] = {LOSSES_ALIKE, LOSSES_COOLED, LOSSES_SHARP};
	static const enum losses better[] = {LOSSES_ALIKE, LOSSES_LATER, LOSSES_SHARP};
	for (size_t i = 0; i < ARRAY_LEN(equal); i++)
		table_of_cells(t, kind, p, 0, equal[i], o, rng);
	for (int points = 3; points <= 6; points += 3)
		for (size_t i = 0; i < ARRAY_LEN(better); i++)
			table_of_cells(t, kind, p, points / 100.0, better[i], o, rng);
}

/* ---- the others ---- */

static void several(struct table *t, const struct options *o, struct rng *rng)
{
	static const char *const columns[] = {"images", "challengers", "kin",     "better by",
					      "best",   "uncorrected", "verdict", "halves"};
	static const size_t sizes[] = {30, 100, 500}, challengers[] = {1, 4, 8};
	table_begin(t, "several challengers, each disagreeing on 20 %", columns,
		    ARRAY_LEN(columns));
	for (size_t i = 0; i < ARRAY_LEN(sizes) * ARRAY_LEN(challengers) * 4; i++) {
		struct several s = {.n = sizes[i / 4 / ARRAY_LEN(challengers)],
				    .challengers = challengers[i / 4 % ARRAY_LEN(challengers)],
				    .disagree = 0.2,
				    .better = i % 2 ? 0.06 : 0,
				    .kin = i / 2 % 2 ? 0.8 : 0};
		double swaps[SEVERAL_N];
		if (s.challengers == 1 && s.kin > 0)
			continue;
		several_run(&s, o->trials, rng, swaps);
		table_number(t, "%.0f", (double)s.n);
		table_number(t, "%.0f", (double)s.challengers);
		table_number(t, "%.0f", 100 * s.kin);
		table_number(t, "%.0f", 100 * s.better);
		for (int r = 0; r < SEVERAL_N; r++)
			table_percent(t, swaps[r]);
	}
	table_end(t);
}

static void rounds(struct table *t, const struct options *o, struct rng *rng)
{
	static const char *const columns[] = {
		"images", "challengers' accuracy", "rule", "swaps of 50", "optimism", "gain"};
	static const char *const rules[ROUNDS_N] = {"best", "80 %", "95 %", "95 %, shared out"};
	static const struct {
		const char *name;
		double worst, best;
	} worlds[] = {{"equal", 0, 0}, {"worse by 3", -0.03, -0.03}, {"-3 to +3", -0.03, 0.03}};
	static const size_t sizes[] = {30, 100, 500};
	table_begin(t, "50 rounds on the same images", columns, ARRAY_LEN(columns));
	for (size_t i = 0; i < ARRAY_LEN(worlds) * ARRAY_LEN(sizes); i++) {
		size_t w = i % ARRAY_LEN(worlds);
		struct rounds r = {.n = sizes[i / ARRAY_LEN(worlds)],
				   .rounds = 50,
				   .worst = worlds[w].worst,
				   .best = worlds[w].best};
		struct rounds_result of[ROUNDS_N];
		rounds_run(&r, o->trials / 10 ? o->trials / 10 : 1, rng, of);
		for (int rule = 0; rule < ROUNDS_N; rule++) {
			table_number(t, "%.0f", (double)r.n);
			table_text(t, worlds[w].name);
			table_text(t, rules[rule]);
			table_number(t, "%.2f", of[rule].swaps);
			table_percent(t, of[rule].optimism);
			table_percent(t, of[rule].gain);
		}
	}
	table_end(t);
}

static void floors(struct table *t, const struct options *o, struct rng *rng)
{
	static const char *const columns[] = {"images of the class", "true loss", "seen", "proven"};
	static const size_t sizes[] = {3, 5, 10, 30, 100};
	static const double losses[] = {0, 0.05, 0.15, 0.3, 0.8};
	table_begin(t, "forbidden by a floor of 5 points", columns, ARRAY_LEN(columns));
	for (size_t i = 0; i < ARRAY_LEN(sizes) * ARRAY_LEN(losses); i++) {
		size_t n = sizes[i / ARRAY_LEN(losses)];
		double lost = losses[i % ARRAY_LEN(losses)];
		struct floor_result f = floor_run(n, lost, 5, o->trials, rng);
		table_number(t, "%.0f", (double)n);
		table_number(t, "%.0f", 100 * lost);
		table_percent(t, f.seen);
		table_percent(t, f.proven);
	}
	table_end(t);
}

/* ---- the program ---- */

static int run(const struct options *o, struct err *err)
{
	static const char *const kinds[] = {"faces", "digits"};
	struct table t = {.json = o->json};
	struct rng rng;
	rng_init(&rng, o->seed);
	for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
		struct pools p;
		int r = pools_read(o->outcomes, kinds[i], &p, err);
		if (r < 0)
			return r;
		one_challenger(&t, kinds[i], &p, o, &rng);
		pools_done(&p);
	}
	several(&t, o, &rng);
	rounds(&t, o, &rng);
	floors(&t, o, &rng);
	if (o->json)
		printf("}\n");
	if (t.amiss)
		return err_set(err, -EDOM, "%zu rows are not what theory says", t.amiss);
	return 0;
}

static bool whole_number(const char *text, long most, long *ret)
{
	char *end;
	*ret = strtol(text, &end, 10);
	return *text && !*end && *ret >= 1 && *ret <= most;
}

static int parse_options(int argc, char **argv, struct options *o)
{
	static const struct option known[] = {{"trials", required_argument, NULL, 't'},
					      {"seed", required_argument, NULL, 's'},
					      {"outcomes", required_argument, NULL, 'o'},
					      {"json", no_argument, NULL, 'j'},
					      {0}};
	long number;
	for (int c; (c = getopt_long(argc, argv, "", known, NULL)) != -1;) {
		if (c == 't' && whole_number(optarg, 10000000, &number))
			o->trials = (int)number;
		else if (c == 's' && whole_number(optarg, INT32_MAX, &number))
			o->seed = (uint64_t)number;
		else if (c == 'o')
			o->outcomes = optarg;
		else if (c == 'j')
			o->json = true;
		else
			return -1;
	}
	return optind == argc ? 0 : -1;
}

int main(int argc, char **argv)
{
	struct options o = {.trials = 20000, .seed = 1, .outcomes = OUTCOMES};
	struct err err = {0};
	if (parse_options(argc, argv, &o) < 0) {
		fprintf(stderr,
			"usage: power [--trials N] [--seed N] [--outcomes FILE] [--json]\n");
		return 2;
	}
	if (run(&o, &err) < 0) {
		fprintf(stderr, "power: %s\n", err.text);
		return 1;
	}
	return 0;
}
