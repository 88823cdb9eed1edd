/* Drawing, copying, writing and reading plans. Knows nothing of the world in which a plan is carried out. */
#include "plan.h"

#include "daemon/assert.h"
#include "daemon/config/config.h"
#include "sim.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

const struct sim_parameter sim_parameters[SIM_PARAMETER_COUNT] = {
#define SIM_PARAMETER_ROW(name, quiet, low, high, chance) {#name, quiet, low, high, chance},
	SIM_PARAMETERS(SIM_PARAMETER_ROW)
#undef SIM_PARAMETER_ROW
};

static const struct fault_row {
	const char *name;
	uint64_t every_low_us, every_high_us, chance;
} fault_rows[SIM_FAULT_KINDS] = {
#define SIM_FAULT_ROW(kind, every_low_us, every_high_us, chance) {#kind, every_low_us, every_high_us, chance},
	SIM_FAULTS(SIM_FAULT_ROW)
#undef SIM_FAULT_ROW
};

uint64_t *sim_plan_parameter(struct sim_plan *plan, unsigned number)
{
	switch ((enum sim_parameter_number)number) {
#define SIM_PARAMETER_CASE(name, quiet, low, high, chance)                                                             \
	case SIM_PARAMETER_##name:                                                                                     \
		return &plan->name;
		SIM_PARAMETERS(SIM_PARAMETER_CASE)
#undef SIM_PARAMETER_CASE
	case SIM_PARAMETER_COUNT:
		break;
	}
	abort();
}

const char *sim_fault_name(enum sim_fault_kind kind)
{
	raft_assert(kind < SIM_FAULT_KINDS);
	return fault_rows[kind].name;
}

const char *sim_count_name(unsigned number)
{
	static const char *const names[] = {
#define SIM_COUNTER_NAME(name) #name,
		SIM_COUNTERS(SIM_COUNTER_NAME)
#undef SIM_COUNTER_NAME
	};
	const unsigned counters = sizeof names / sizeof *names;
	raft_assert(number < SIM_COUNTS);
	return number < counters ? names[number] : fault_rows[number - counters].name;
}

uint64_t *sim_count(struct sim_counts *counts, unsigned number)
{
	raft_assert(number < SIM_COUNTS);
	return (uint64_t *)counts + number; /* every member is one */
}

static bool plan_reach(struct sim_plan *plan, const char *name, const char *value)
{
	for (unsigned k = 0; k < SIM_COUNTS; k++)
		if (strcmp(name, sim_count_name(k)) == 0) {
			plan->reaching = true;
			return config_parse_u64(value, 1, UINT64_MAX, sim_count(&plan->reach, k));
		}
	return false;
}

bool sim_plan_reach(struct sim_plan *plan, const char *text)
{
	char name[64];
	const char *equals = strchr(text, '=');
	if (equals == NULL || (size_t)(equals - text) >= sizeof name)
		return false;
	memcpy(name, text, (size_t)(equals - text));
	name[equals - text] = '\0';
	return plan_reach(plan, name, equals + 1);
}

static struct sim_random row_random(uint64_t seed, const char *name)
{
	return (struct sim_random){XXH3_64bits_withSeed(name, strlen(name), seed)};
}

static uint64_t draw_between(struct sim_random *random, uint64_t low, uint64_t high)
{
	raft_assert(low <= high);
	return low + sim_random_below(random, high - low + 1);
}

static struct sim_fault *plan_add_fault(struct sim_plan *plan, size_t *capacity)
{
	if (plan->n_faults == *capacity) {
		*capacity = *capacity == 0 ? 64 : *capacity * 2;
		plan->faults = realloc(plan->faults, *capacity * sizeof *plan->faults);
		raft_assert(plan->faults != NULL);
	}
	return &plan->faults[plan->n_faults++];
}

static void draw_faults(struct sim_plan *plan, enum sim_fault_kind kind, size_t *capacity)
{
	const struct fault_row *row = &fault_rows[kind];
	struct sim_random random = row_random(plan->seed, row->name);
	if (!sim_random_chance(&random, row->chance))
		return;
	uint64_t every_us = draw_between(&random, row->every_low_us, row->every_high_us);
	for (uint64_t at = 0;;) {
		at += 1 + sim_random_below(&random, 2 * every_us);
		if (at >= plan->span_us)
			return;
		struct sim_fault *fault = plan_add_fault(plan, capacity);
		*fault = (struct sim_fault){.time_us = at, .kind = kind};
		fault->a = sim_random_u64(&random);
		fault->b = sim_random_u64(&random);
		fault->c = sim_random_u64(&random);
	}
}

/* No two faults compare equal, unless they are: the order does not depend on the library's qsort. */
static int fault_compare(const void *left, const void *right)
{
	const struct sim_fault *x = left;
	const struct sim_fault *y = right;
	if (x->time_us != y->time_us)
		return x->time_us < y->time_us ? -1 : 1;
	if (x->kind != y->kind)
		return x->kind < y->kind ? -1 : 1;
	return x->a == y->a ? 0 : x->a < y->a ? -1 : 1;
}

/* A leader whose disk writes no new file of the log: so much must wait for that as it takes, before the log has its share. */
static void make_queue_fill(struct sim_plan *plan)
{
	plan->uncommitted_bytes = 32768;
	plan->segment_pages = 16;
	plan->snapshot_log_bytes = 300000;
}

void sim_plan_draw(struct sim_plan *ret_plan, uint64_t seed, uint64_t span_us)
{
	static const unsigned sizes[] = {3, 3, 5, 5, 7, 1, 3, 5, 2, 4, 6};
	struct sim_plan plan = {.seed = seed, .span_us = span_us};
	size_t capacity = 0;
	struct sim_random random = row_random(seed, "members");
	plan.members = sizes[sim_random_below(&random, sizeof sizes / sizeof *sizes)];
	for (unsigned k = 0; k < SIM_PARAMETER_COUNT; k++) {
		const struct sim_parameter *row = &sim_parameters[k];
		random = row_random(seed, row->name);
		bool drawn = sim_random_chance(&random, row->chance);
		*sim_plan_parameter(&plan, k) = drawn ? draw_between(&random, row->low, row->high) : row->quiet;
	}
	if (plan.trial == SIM_TRIAL_HANGING && plan.trial_background == SIM_BACKGROUND_QUEUE)
		make_queue_fill(&plan);
	for (unsigned kind = 0; kind < SIM_FAULT_KINDS; kind++)
		draw_faults(&plan, (enum sim_fault_kind)kind, &capacity);
	if (plan.n_faults > 0)
		qsort(plan.faults, plan.n_faults, sizeof *plan.faults, fault_compare);
	*ret_plan = plan;
}

void sim_plan_copy(struct sim_plan *ret_copy, const struct sim_plan *plan)
{
	struct sim_plan copy = *plan;
	copy.faults = NULL;
	if (plan->n_faults > 0) {
		copy.faults = malloc(plan->n_faults * sizeof *copy.faults);
		raft_assert(copy.faults != NULL);
		memcpy(copy.faults, plan->faults, plan->n_faults * sizeof *copy.faults);
	}
	*ret_copy = copy;
}

void sim_plan_fini(struct sim_plan *plan)
{
	free(plan->faults);
	plan->faults = NULL;
	plan->n_faults = 0;
}

void sim_plan_write(const struct sim_plan *plan, FILE *file)
{
	struct sim_plan copy = *plan; /* only for reading its parameters by number */
	(void)fprintf(file, "seed %" PRIu64 "\nspan_us %" PRIu64 "\nmembers %" PRIu64 "\n", plan->seed, plan->span_us,
		      plan->members);
	for (unsigned k = 0; k < SIM_PARAMETER_COUNT; k++)
		(void)fprintf(file, "%s %" PRIu64 "\n", sim_parameters[k].name, *sim_plan_parameter(&copy, k));
	for (unsigned k = 0; k < SIM_COUNTS; k++)
		if (*sim_count(&copy.reach, k) > 0)
			(void)fprintf(file, "reach %s %" PRIu64 "\n", sim_count_name(k), *sim_count(&copy.reach, k));
	for (size_t k = 0; k < plan->n_faults; k++) {
		const struct sim_fault *fault = &plan->faults[k];
		(void)fprintf(file, "fault %" PRIu64 " %s %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", fault->time_us,
			      sim_fault_name(fault->kind), fault->a, fault->b, fault->c);
	}
}

/* Reading ---------------------------------------------------------------------------------------------- */

enum { FIELD_SEED, FIELD_SPAN, FIELD_MEMBERS, FIELD_PARAMETERS, FIELDS = FIELD_PARAMETERS + SIM_PARAMETER_COUNT };

#define WORDS_MAX 6u

struct reader {
	struct sim_plan plan;
	size_t capacity;
	bool seen[FIELDS];
};

static unsigned split(char *line, const char *words[WORDS_MAX + 1])
{
	unsigned n = 0;
	char *rest = NULL;
	for (char *word = strtok_r(line, " \t\n", &rest); word != NULL && n <= WORDS_MAX;
	     word = strtok_r(NULL, " \t\n", &rest))
		words[n++] = word;
	return n;
}

/* These return NULL, or what is wrong. */
static const char *read_fault(struct reader *reader, const char *const *words, unsigned n_words)
{
	struct sim_fault fault = {0};
	unsigned kind = 0;
	if (n_words != 6)
		return "a fault is `fault time kind a b c`";
	while (kind < SIM_FAULT_KINDS && strcmp(words[2], fault_rows[kind].name) != 0)
		kind++;
	if (kind == SIM_FAULT_KINDS)
		return "no such kind of fault";
	fault.kind = (enum sim_fault_kind)kind;
	if (!config_parse_u64(words[1], 0, UINT64_MAX / 2, &fault.time_us) ||
	    !config_parse_u64(words[3], 0, UINT64_MAX, &fault.a) ||
	    !config_parse_u64(words[4], 0, UINT64_MAX, &fault.b) ||
	    !config_parse_u64(words[5], 0, UINT64_MAX, &fault.c))
		return "not a number";
	if (reader->plan.n_faults > 0 && reader->plan.faults[reader->plan.n_faults - 1].time_us > fault.time_us)
		return "faults are ordered by time";
	*plan_add_fault(&reader->plan, &reader->capacity) = fault;
	return NULL;
}

static const char *read_field(struct reader *reader, const char *name, const char *value)
{
	struct sim_plan *plan = &reader->plan;
	unsigned field = FIELD_PARAMETERS;
	uint64_t low = 0, high = UINT64_MAX;
	uint64_t *target;
	if (strcmp(name, "seed") == 0) {
		field = FIELD_SEED;
		target = &plan->seed;
	} else if (strcmp(name, "span_us") == 0) {
		field = FIELD_SPAN;
		target = &plan->span_us;
		high = UINT64_MAX / 2;
	} else if (strcmp(name, "members") == 0) {
		field = FIELD_MEMBERS;
		target = &plan->members;
		low = 1;
		high = SIM_MEMBERS_MAX;
	} else {
		unsigned k = 0;
		while (k < SIM_PARAMETER_COUNT && strcmp(name, sim_parameters[k].name) != 0)
			k++;
		if (k == SIM_PARAMETER_COUNT)
			return "no such parameter";
		const struct sim_parameter *row = &sim_parameters[k];
		field += k;
		target = sim_plan_parameter(plan, k);
		low = row->quiet < row->low ? row->quiet : row->low;
		high = row->quiet > row->high ? row->quiet : row->high;
	}
	if (reader->seen[field])
		return "named twice";
	if (!config_parse_u64(value, low, high, target))
		return "not a number, or out of range";
	reader->seen[field] = true;
	return NULL;
}

static const char *read_line(struct reader *reader, char *line)
{
	const char *words[WORDS_MAX + 1];
	char *comment = strchr(line, '#');
	if (comment != NULL)
		*comment = '\0';
	unsigned n = split(line, words);
	if (n == 0)
		return NULL;
	if (strcmp(words[0], "fault") == 0)
		return read_fault(reader, words, n);
	if (strcmp(words[0], "reach") == 0)
		return n == 3 && plan_reach(&reader->plan, words[1], words[2]) ? NULL : "a goal is `reach count value`";
	if (n != 2)
		return "a parameter is `name value`";
	return read_field(reader, words[0], words[1]);
}

static const char *read_end(const struct reader *reader)
{
	if (!reader->seen[FIELD_SEED] || !reader->seen[FIELD_SPAN] || !reader->seen[FIELD_MEMBERS])
		return "seed, span_us and members must be named";
	return NULL;
}

int sim_plan_read(struct sim_plan *ret_plan, const char *path, char message[SIM_PLAN_MESSAGE_MAX])
{
	struct reader reader = {0};
	char *line = NULL;
	size_t capacity = 0, number = 0;
	const char *wrong = NULL;
	FILE *file = fopen(path, "re");
	if (file == NULL) {
		(void)snprintf(message, SIM_PLAN_MESSAGE_MAX, "%s: cannot be opened", path);
		return -1;
	}
	for (unsigned k = 0; k < SIM_PARAMETER_COUNT; k++)
		*sim_plan_parameter(&reader.plan, k) = sim_parameters[k].quiet;
	while (wrong == NULL && getline(&line, &capacity, file) >= 0) {
		number++;
		wrong = read_line(&reader, line);
	}
	if (wrong == NULL)
		wrong = read_end(&reader);
	free(line);
	(void)fclose(file);
	if (wrong != NULL) {
		(void)snprintf(message, SIM_PLAN_MESSAGE_MAX, "%s:%zu: %s", path, number, wrong);
		sim_plan_fini(&reader.plan);
		return -1;
	}
	*ret_plan = reader.plan;
	return 0;
}
