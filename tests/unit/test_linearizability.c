/*
 * The linearizability checker: known good and known bad histories, its verdict beside that of a checker which tries every order,
 * large histories, and what it does with malformed files.
 */
#include "tests/linearizability/history_file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define HISTORIES "tests/linearizability/histories/"

/* Random histories ----------------------------------------------------------------------------------------------------- */

static uint64_t random_state;

static uint64_t random_below(uint64_t bound)
{
	uint64_t z = (random_state += 0x9e3779b97f4a7c15u);
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return (z ^ (z >> 31)) % bound;
}

/* One operation: values are numbers, 0 is none. */
struct op {
	enum lin_kind kind;
	unsigned client;
	uint64_t key;
	uint64_t writes;
	bool expects_value;
	uint64_t wants; /* value or revision */
	enum lin_outcome outcome;
	uint64_t reads;
	uint64_t revision;
	uint64_t called, returned; /* places in the history; returned UINT64_MAX: never */
};

struct shape {
	unsigned clients, keys, values;
	bool revisions;
	unsigned unknown; /* percent of writes whose answer is lost */
	unsigned unknown_max;
};

struct key_register {
	uint64_t value, revision;
};

/* What the operation does to a correct register, and its outcome. */
static void take_effect(struct op *op, struct key_register *key, uint64_t *revision, bool revisions)
{
	op->revision = LIN_REVISION_NONE;
	op->outcome = LIN_OK;
	switch (op->kind) {
	case LIN_GET:
		op->reads = key->value;
		op->outcome = key->value != 0 ? LIN_OK : LIN_NOT_FOUND;
		if (revisions && key->value != 0)
			op->revision = key->revision;
		return;
	case LIN_DELETE:
		if (key->value == 0) {
			op->outcome = LIN_NOT_FOUND;
			return;
		}
		break;
	case LIN_CAS:
		if (op->expects_value ? key->value != op->wants || key->value == 0
				      : op->wants != (key->value == 0 ? 0 : key->revision)) {
			op->outcome = LIN_MISMATCH;
			if (revisions)
				op->revision = key->value == 0 ? 0 : key->revision;
			return;
		}
		break;
	case LIN_PUT:
		break;
	}
	*revision += 1 + random_below(2);
	*key = (struct key_register){.value = op->kind == LIN_DELETE ? 0 : op->writes, .revision = *revision};
	if (revisions)
		op->revision = *revision;
}

static void draw(struct op *op, const struct shape *shape, const struct key_register *keys, uint64_t unique)
{
	op->key = random_below(shape->keys);
	op->kind = (enum lin_kind)random_below(4);
	if (op->kind == LIN_DELETE && random_below(2) == 0)
		op->kind = LIN_GET;
	op->writes = shape->values == 0 ? unique : 1 + random_below(shape->values);
	op->expects_value = !shape->revisions || random_below(3) == 0;
	const struct key_register *key = &keys[op->key];
	op->wants = op->expects_value ? key->value : key->value == 0 ? 0 : key->revision;
	if (op->expects_value && op->wants == 0)
		op->wants = 1;
	if (random_below(4) == 0)
		op->wants += random_below(2);
}

/*
 * Runs clients against a correct register: each operation is called, takes effect, returns, at random moments in this order.
 * A lost answer may stand for an effect that came, comes after everybody has forgotten it, or never comes.
 */
static void simulate(struct op *ops, size_t n, const struct shape *shape)
{
	enum { IDLE, CALLED, DONE } phases[64] = {IDLE};
	struct op *current[64] = {NULL};
	struct op *late[256];
	size_t n_late = 0;
	unsigned unknown = 0;
	struct key_register keys[16] = {0};
	uint64_t revision = 1;
	uint64_t now = 0;
	size_t begun = 0;
	for (size_t finished = 0; finished < n;) {
		unsigned client = (unsigned)random_below(shape->clients);
		struct op *op = current[client];
		if (n_late > 0 && random_below(8) == 0) {
			n_late--;
			take_effect(late[n_late], &keys[late[n_late]->key], &revision, shape->revisions);
			late[n_late]->outcome = LIN_UNKNOWN;
		}
		if (phases[client] == IDLE && begun < n) {
			op = current[client] = &ops[begun++];
			*op = (struct op){.client = client, .called = now++};
			draw(op, shape, keys, begun);
			phases[client] = CALLED;
			bool is_lost = op->kind != LIN_GET && random_below(100) < shape->unknown;
			if (is_lost && unknown < shape->unknown_max) {
				unknown++;
				op->outcome = LIN_UNKNOWN;
				op->returned = UINT64_MAX;
				if (random_below(3) != 0)
					late[n_late++] = op;
				phases[client] = IDLE;
				finished++;
			}
		} else if (phases[client] == CALLED) {
			take_effect(op, &keys[op->key], &revision, shape->revisions);
			phases[client] = DONE;
		} else if (phases[client] == DONE) {
			op->returned = now++;
			phases[client] = IDLE;
			finished++;
		}
	}
}

/* Not everybody tells the revision. */
static void conceal_revisions(struct op *ops, size_t n)
{
	for (size_t k = 0; k < n; k++)
		if (random_below(2) == 0)
			ops[k].revision = LIN_REVISION_NONE;
}

/* Makes the history wrong, perhaps. */
static void mutate(struct op *ops, size_t n)
{
	struct op *a = &ops[random_below(n)];
	struct op *b = &ops[random_below(n)];
	uint64_t swapped;
	switch (random_below(5)) {
	case 0: /* two reads or writes see each other's revision */
		swapped = a->revision;
		if (a->outcome == LIN_OK && b->outcome == LIN_OK) {
			a->revision = b->revision;
			b->revision = swapped;
		}
		break;
	case 1: /* a read of something else */
		if (a->kind == LIN_GET && a->outcome == LIN_OK)
			a->reads = b->writes;
		break;
	case 2: /* a write of something else */
		a->writes = b->writes;
		break;
	case 3: /* another outcome */
		if (a->outcome == LIN_OK && a->kind != LIN_PUT) {
			a->outcome = a->kind == LIN_CAS ? LIN_MISMATCH : LIN_NOT_FOUND;
			a->revision = LIN_REVISION_NONE;
		}
		break;
	case 4: /* a read that saw what another one saw */
		if (a->kind == LIN_GET && a->outcome == LIN_OK && b->kind == LIN_GET && b->outcome == LIN_OK) {
			a->reads = b->reads;
			a->revision = b->revision;
		}
		break;
	}
}

/* Feeding -------------------------------------------------------------------------------------------------------------- */

struct event {
	uint64_t time;
	size_t op;
	bool is_call;
};

static int compare_events(const void *a, const void *b)
{
	const struct event *x = a;
	const struct event *y = b;
	return x->time < y->time ? -1 : x->time > y->time;
}

static struct event *events_of(const struct op *ops, size_t n, size_t *ret_count)
{
	struct event *events = calloc(2 * n, sizeof *events);
	assert_non_null(events);
	size_t count = 0;
	for (size_t k = 0; k < n; k++) {
		events[count++] = (struct event){ops[k].called, k, true};
		if (ops[k].returned != UINT64_MAX)
			events[count++] = (struct event){ops[k].returned, k, false};
	}
	qsort(events, count, sizeof *events, compare_events);
	*ret_count = count;
	return events;
}

static uint64_t feed_call(struct lin_checker *checker, const struct op *op)
{
	struct lin_call call = {.time = op->called,
				.client = op->client,
				.kind = op->kind,
				.key = {&op->key, sizeof op->key},
				.value = {&op->writes, sizeof op->writes},
				.expects_value = op->kind == LIN_CAS && op->expects_value,
				.expected = op->expects_value ? 0 : op->wants,
				.wanted = {&op->wants, sizeof op->wants}};
	return lin_invoke(checker, &call);
}

static struct lin_checker *feed(const struct op *ops, size_t n, const struct lin_options *options)
{
	struct lin_checker *checker = lin_new(options);
	uint64_t *ids = calloc(n, sizeof *ids);
	size_t count;
	struct event *events = events_of(ops, n, &count);
	for (size_t k = 0; k < count; k++) {
		const struct op *op = &ops[events[k].op];
		if (events[k].is_call) {
			ids[events[k].op] = feed_call(checker, op);
			if (op->returned == UINT64_MAX && options->window != 0) /* its client says that it gave up */
				lin_return(checker, ids[events[k].op], &(struct lin_return){.outcome = LIN_UNKNOWN});
			continue;
		}
		struct lin_return result = {.time = op->returned,
					    .outcome = op->outcome,
					    .value = {&op->reads, sizeof op->reads},
					    .revision = op->revision};
		lin_return(checker, ids[events[k].op], &result);
	}
	free(events);
	free(ids);
	return checker;
}

static enum lin_verdict verdict_of(const struct op *ops, size_t n, const struct lin_options *options)
{
	struct lin_checker *checker = feed(ops, n, options);
	enum lin_verdict verdict = lin_finish(checker);
	lin_free(checker);
	return verdict;
}

/* Every order ---------------------------------------------------------------------------------------------------------- */

/*
 * Says by trying every order of every choice of unanswered writes whether the history of one key is linearizable. Shares nothing
 * with the checker: revisions are checked at the end of an order, by whether there are numbers that fit.
 */
struct brute {
	const struct op *ops;
	size_t n;
	bool used[8];
	uint64_t value; /* now */
	size_t n_writes;
	uint64_t pins[8 + 1]; /* revision of the k-th write, where somebody said it; 0: nobody */
};

static bool revisions_fit(const struct brute *brute)
{
	uint64_t least = 0;
	for (size_t k = 1; k <= brute->n_writes; k++) {
		least++;
		if (brute->pins[k] == 0)
			continue;
		if (brute->pins[k] < least)
			return false;
		least = brute->pins[k];
	}
	return true;
}

/* Somebody says that the last write has this revision. */
static bool pin(struct brute *brute, uint64_t revision)
{
	uint64_t *known = &brute->pins[brute->n_writes];
	if (revision == LIN_REVISION_NONE)
		return true;
	if (*known != 0 && *known != revision)
		return false;
	*known = revision;
	return true;
}

static bool brute_write(struct brute *brute, uint64_t value, uint64_t revision)
{
	brute->n_writes++;
	brute->value = value;
	brute->pins[brute->n_writes] = 0;
	return pin(brute, revision);
}

static bool brute_mismatch(struct brute *brute, const struct op *op)
{
	bool exists = brute->value != 0;
	if (op->expects_value ? exists && brute->value == op->wants : !exists && op->wants == 0)
		return false;
	if (op->revision == LIN_REVISION_NONE)
		return op->expects_value || !exists || brute->pins[brute->n_writes] != op->wants || op->wants == 0;
	if (op->revision == 0 || !exists)
		return op->revision == 0 && !exists;
	return (op->expects_value || op->revision != op->wants) && pin(brute, op->revision);
}

/* False when the operation cannot come now. */
static bool brute_apply(struct brute *brute, const struct op *op)
{
	bool lost = op->outcome == LIN_UNKNOWN;
	uint64_t revision = lost ? LIN_REVISION_NONE : op->revision;
	bool exists = brute->value != 0;
	switch (op->kind) {
	case LIN_GET:
		if (op->outcome == LIN_NOT_FOUND)
			return !exists;
		return exists && brute->value == op->reads && pin(brute, op->revision);
	case LIN_PUT:
		return brute_write(brute, op->writes, revision);
	case LIN_DELETE:
		if (op->outcome == LIN_NOT_FOUND)
			return !exists;
		return exists && brute_write(brute, 0, revision);
	case LIN_CAS:
		if (op->outcome == LIN_MISMATCH)
			return brute_mismatch(brute, op);
		if (op->expects_value ? !exists || brute->value != op->wants : exists != (op->wants != 0))
			return false;
		if (!op->expects_value && exists && !pin(brute, op->wants))
			return false;
		return brute_write(brute, op->writes, revision);
	}
	return false;
}

/* NOLINTNEXTLINE(misc-no-recursion): eight deep, and the plainest way to write it */
static bool brute_search(struct brute *brute)
{
	bool complete = true;
	for (size_t k = 0; k < brute->n; k++)
		if (!brute->used[k] && brute->ops[k].outcome != LIN_UNKNOWN)
			complete = false;
	if (complete && revisions_fit(brute))
		return true;
	for (size_t k = 0; k < brute->n; k++) {
		bool first = !brute->used[k];
		for (size_t j = 0; j < brute->n && first; j++)
			if (!brute->used[j] && brute->ops[j].returned < brute->ops[k].called)
				first = false;
		if (!first)
			continue;
		struct brute before = *brute;
		brute->used[k] = true;
		if (brute_apply(brute, &brute->ops[k]) && brute_search(brute))
			return true;
		*brute = before;
	}
	return false;
}

/* Tests ---------------------------------------------------------------------------------------------------------------- */

static enum lin_verdict verdict_of_file(const char *path, const struct lin_options *options, bool explain)
{
	char message[LIN_MESSAGE_SIZE] = "";
	FILE *file = fopen(path, "re");
	assert_non_null(file);
	struct lin_checker *checker = lin_new(options);
	if (lin_read(file, checker, message) != 0)
		fail_msg("%s: %s", path, message);
	enum lin_verdict verdict = lin_finish(checker);
	if (explain && verdict == LIN_VIOLATION) {
		char *text = NULL;
		size_t size;
		FILE *memory = open_memstream(&text, &size);
		lin_explain(checker, memory);
		assert_int_equal(fclose(memory), 0);
		assert_non_null(strstr(text, "the last return is that of"));
		assert_non_null(strstr(text, "returned first of these and must come before that; "));
		free(text);
	}
	lin_free(checker);
	assert_int_equal(fclose(file), 0);
	return verdict;
}

static void check_folder(const char *folder, enum lin_verdict wanted)
{
	DIR *directory = opendir(folder);
	struct dirent *entry;
	unsigned count = 0;
	if (directory == NULL)
		fail_msg("%s cannot be opened: unit tests run from the top folder", folder);
	while ((entry = readdir(directory)) != NULL) {
		char path[400];
		if (strstr(entry->d_name, ".txt") == NULL)
			continue;
		assert_true((size_t)snprintf(path, sizeof path, "%s%s", folder, entry->d_name) < sizeof path);
		/* All at once, and whenever the key is quiescent. */
		for (size_t window = 0; window < 3; window++)
			if (verdict_of_file(path, &(struct lin_options){.window = window}, window == 0) != wanted)
				fail_msg("%s: wrong verdict with a window of %zu", path, window);
		count++;
	}
	assert_int_equal(closedir(directory), 0);
	assert_true(count >= 10);
}

static void good_histories_are_linearizable(void **state)
{
	(void)state;
	check_folder(HISTORIES "good/", LIN_LINEARIZABLE);
}

static void bad_histories_are_not(void **state)
{
	(void)state;
	check_folder(HISTORIES "bad/", LIN_VIOLATION);
}

static void print_ops(const struct op *ops, size_t n)
{
	for (size_t k = 0; k < n; k++)
		printf("kind %d writes %" PRIu64 " wants %s %" PRIu64 " outcome %d reads %" PRIu64 " revision %" PRId64
		       " from %" PRIu64 " to %" PRId64 "\n",
		       (int)ops[k].kind, ops[k].writes, ops[k].expects_value ? "value" : "revision", ops[k].wants,
		       (int)ops[k].outcome, ops[k].reads, (int64_t)ops[k].revision, ops[k].called,
		       (int64_t)ops[k].returned);
}

/* Whole and in windows, the verdict is that of trying every order. */
static enum lin_verdict compare_with_brute(const struct op *ops, size_t n, uint64_t seed)
{
	struct brute brute = {.ops = ops, .n = n};
	enum lin_verdict wanted = brute_search(&brute) ? LIN_LINEARIZABLE : LIN_VIOLATION;
	for (size_t window = 0; window < 4; window++) {
		if (verdict_of(ops, n, &(struct lin_options){.window = window}) == wanted)
			continue;
		print_ops(ops, n);
		fail_msg("seed %" PRIu64 ", window %zu: every order says %d", seed, window, (int)wanted);
	}
	/* When writes may happen again there are more orders, never fewer. */
	struct lin_options reuse = {.window = 1 + seed % 3, .reuse_unknown = true};
	if (wanted == LIN_LINEARIZABLE && verdict_of(ops, n, &reuse) != LIN_LINEARIZABLE) {
		print_ops(ops, n);
		fail_msg("seed %" PRIu64 ": a false alarm with reuse", seed);
	}
	return wanted;
}

static void small_histories_are_judged_as_by_trying_every_order(void **state)
{
	(void)state;
	unsigned violations = 0;
	for (uint64_t seed = 1; seed <= 15000; seed++) {
		struct op ops[8];
		random_state = seed;
		size_t n = 2 + random_below(7);
		struct shape shape = {.clients = 1 + (unsigned)random_below(4),
				      .keys = 1,
				      .values = (unsigned)random_below(4),
				      .revisions = random_below(2) == 0,
				      .unknown = (unsigned)random_below(60),
				      .unknown_max = 4};
		simulate(ops, n, &shape);
		if (random_below(3) == 0)
			conceal_revisions(ops, n);
		assert_int_equal(compare_with_brute(ops, n, seed), LIN_LINEARIZABLE);
		for (unsigned k = 0; k < 3; k++) {
			mutate(ops, n);
			violations += compare_with_brute(ops, n, seed) == LIN_VIOLATION;
		}
	}
	assert_in_range(violations, 3000, 40000); /* both verdicts were compared often */
}

#define LARGE 100000u

/* 100,000 operations on five keys, a hundred of unknown fate. */
static struct op *large_history(unsigned clients, bool revisions, unsigned values)
{
	struct op *ops = calloc(LARGE, sizeof *ops);
	struct shape shape = {.clients = clients,
			      .keys = 5,
			      .values = values,
			      .revisions = revisions,
			      .unknown = 1,
			      .unknown_max = 100};
	assert_non_null(ops);
	random_state = 7;
	simulate(ops, LARGE, &shape);
	return ops;
}

static void large_histories_are_linearizable(void **state)
{
	(void)state;
	for (unsigned k = 0; k < 4; k++) {
		struct op *ops = large_history(40, k % 2 == 0, k < 2 ? 0 : 5);
		struct lin_checker *checker = feed(ops, LARGE, &(struct lin_options){0});
		assert_int_equal(lin_finish(checker), LIN_LINEARIZABLE);
		assert_int_equal(lin_statistics(checker).operations, LARGE);
		assert_int_equal(lin_statistics(checker).unknown, 100);
		lin_free(checker);
		free(ops);
	}
}

static size_t next_value_read(const struct op *ops, size_t k, uint64_t key)
{
	while (ops[k].kind != LIN_GET || ops[k].outcome != LIN_OK || ops[k].key != key)
		k++;
	return k;
}

static void one_stale_read_in_a_large_history_is_found(void **state)
{
	(void)state;
	for (unsigned revisions = 0; revisions < 2; revisions++) {
		struct op *ops = large_history(8, revisions == 1, 0);
		struct op *late = &ops[next_value_read(ops, LARGE - LARGE / 20, 3)];
		struct op *early = &ops[next_value_read(ops, LARGE / 20, 3)];
		late->reads = early->reads;
		late->revision = early->revision;
		assert_int_equal(verdict_of(ops, LARGE, &(struct lin_options){0}), LIN_VIOLATION);
		free(ops);
	}
}

/* A run that never ends: what was checked is forgotten. */
static void windows_bound_the_memory(void **state)
{
	(void)state;
	size_t n = 100000;
	struct op *ops = calloc(n, sizeof *ops);
	struct shape shape = {.clients = 8, .keys = 5, .values = 0, .revisions = true, .unknown = 1, .unknown_max = 50};
	random_state = 11;
	simulate(ops, n, &shape);
	struct lin_checker *checker = feed(ops, n, &(struct lin_options){.window = 64, .reuse_unknown = true});
	assert_int_equal(lin_finish(checker), LIN_LINEARIZABLE);
	assert_in_range(lin_statistics(checker).operations_max, 64, 5000);
	lin_free(checker);
	free(ops);
}

/* Concurrent writes of different values that nobody saw, then a read of what nobody wrote: every order is tried. */
static void too_many_states_are_neither_good_nor_bad(void **state)
{
	(void)state;
	struct op ops[32];
	size_t n = 0;
	for (; n < 30; n++)
		ops[n] = (struct op){.kind = LIN_PUT,
				     .client = (unsigned)n,
				     .writes = n + 1,
				     .revision = LIN_REVISION_NONE,
				     .called = n,
				     .returned = 100 + n};
	ops[n++] = (struct op){.kind = LIN_GET,
			       .client = 50,
			       .reads = 99,
			       .revision = LIN_REVISION_NONE,
			       .called = 98,
			       .returned = 200};
	assert_int_equal(verdict_of(ops, n, &(struct lin_options){.states_max = 10000}), LIN_GAVE_UP);
	assert_int_equal(verdict_of(ops, n, &(struct lin_options){.states_max = 10000, .window = 8}), LIN_GAVE_UP);
	/* A violation elsewhere is certain all the same. */
	ops[n++] = (struct op){.kind = LIN_GET,
			       .client = 51,
			       .key = 1,
			       .reads = 99,
			       .revision = LIN_REVISION_NONE,
			       .called = 97,
			       .returned = 201};
	assert_int_equal(verdict_of(ops, n, &(struct lin_options){.states_max = 10000}), LIN_VIOLATION);
}

static int read_text(const char *text, char message[LIN_MESSAGE_SIZE])
{
	FILE *file = fmemopen((void *)text, strlen(text), "r");
	struct lin_checker *checker = lin_new(&(struct lin_options){0});
	message[0] = '\0';
	int result = lin_read(file, checker, message);
	lin_free(checker);
	assert_int_equal(fclose(file), 0);
	return result;
}

static void malformed_lines_are_named(void **state)
{
	(void)state;
	static const char *const lines[] = {
		"x",
		"1",
		"1 2",
		"-1 2 call get k",
		"18446744073709551616 2 call get k",
		"1 2 ask get k",
		"1 2 call",
		"1 2 call get",
		"1 2 call get \"\"",
		"1 2 call get k k",
		"1 2 call fetch k",
		"1 2 call put k",
		"1 2 call cas k 5 v",
		"1 2 call cas k revision v v",
		"1 2 call cas k revision 18446744073709551615 v",
		"1 2 call cas k value a",
		"1 2 call get \"k",
		"1 2 call get \"k\"x",
		"1 2 call get \"\\q\"",
		"1 2 call get \"\\x1\"",
		"1 2 call get k\tk",
		"1 2 call get a\"b",
		"1 2 return ok",
		"1 1 call get k",
		"0 3 call get k",
		"1 1 return ok",
		"1 1 return value",
		"1 1 return value v x",
		"1 1 return value v 0",
		"1 1 return value v 3 3",
		"1 1 return mismatch",
		"1 1 return not_found 3",
		"1 1 return unknown 3",
		"1 1 return nothing",
		"1 1 return",
		"1 2 call a b c d e f g h i j",
	};
	for (size_t k = 0; k < sizeof lines / sizeof lines[0]; k++) {
		char text[200];
		char message[LIN_MESSAGE_SIZE];
		(void)snprintf(text, sizeof text, "# a comment\n\n1 1 call get k\n%s\n1 1 return not_found\n",
			       lines[k]);
		if (read_text(text, message) != -1)
			fail_msg("accepted: %s", lines[k]);
		if (strncmp(message, "line 4: ", 8) != 0)
			fail_msg("%s: %s", lines[k], message);
	}
	char message[LIN_MESSAGE_SIZE];
	assert_int_equal(read_text("1 1 call get k\r\n1 1 return value \"\\x00\\\"\\n\" 3", message), 0);
}

static void what_is_written_can_be_read(void **state)
{
	(void)state;
	char *text = NULL;
	size_t size;
	FILE *file = open_memstream(&text, &size);
	struct lin_call call = {.time = 1,
				.client = 2,
				.kind = LIN_CAS,
				.key = {"a \"key\"\n", 8},
				.value = {"\0\\", 2},
				.expects_value = true,
				.wanted = {"", 0}};
	lin_write_call(&call, file);
	lin_write_return(2, &(struct lin_return){.time = 3, .outcome = LIN_MISMATCH, .revision = 0}, LIN_CAS, file);
	call.kind = LIN_GET;
	lin_write_call(&(struct lin_call){.time = 4, .client = 2, .kind = LIN_GET, .key = call.key}, file);
	lin_write_return(2, &(struct lin_return){.time = 4, .value = {"v", 1}, .revision = 9}, LIN_GET, file);
	assert_int_equal(fclose(file), 0);
	assert_string_equal(text,
			    "1 2 call cas \"a \\\"key\\\"\\x0a\" value \"\" \"\\x00\\\\\"\n3 2 return mismatch 0\n"
			    "4 2 call get \"a \\\"key\\\"\\x0a\"\n4 2 return value \"v\" 9\n");
	char message[LIN_MESSAGE_SIZE];
	assert_int_equal(read_text(text, message), 0);
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(good_histories_are_linearizable),
		cmocka_unit_test(bad_histories_are_not),
		cmocka_unit_test(small_histories_are_judged_as_by_trying_every_order),
		cmocka_unit_test(large_histories_are_linearizable),
		cmocka_unit_test(one_stale_read_in_a_large_history_is_found),
		cmocka_unit_test(windows_bound_the_memory),
		cmocka_unit_test(too_many_states_are_neither_good_nor_bad),
		cmocka_unit_test(malformed_lines_are_named),
		cmocka_unit_test(what_is_written_can_be_read),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
