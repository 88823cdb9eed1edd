/*
 * The clients' requests, from the simulator's numbers to the checker's bytes. It must not know members, faults, or how a
 * history is checked.
 */
#include "history.h"

#include "daemon/assert.h"
#include "sim.h"
#include "tests/linearizability/history_file.h"

#include <stdlib.h>
#include <string.h>

/* Finished operations of a key that are checked together: many enough to pay for the check, few enough to fail early. */
#define WINDOW 64u
/* A key with more combinations than this means that clients left too much open. */
#define STATES_MAX 2000000u

/* An operation by its id, which is used again once it has returned. */
struct request {
	unsigned client;
	enum lin_kind operation;
};

struct sim_history {
	struct lin_checker *checker;
	FILE *file; /* NULL: not written */
	struct request *requests;
	size_t capacity;
};

/* An option of the program, not of a run: two runs of equal plans are equal whether somebody writes them down or not. */
static const char *write_path;

void sim_history_write_to(const char *path)
{
	write_path = path;
}

static struct sim_history *history_get(struct sim *sim)
{
	if (sim->requests != NULL)
		return sim->requests;
	struct sim_history *history = calloc(1, sizeof *history);
	raft_assert(history != NULL);
	history->checker = lin_new(&(struct lin_options){.window = WINDOW, .states_max = STATES_MAX});
	if (write_path != NULL && (history->file = fopen(write_path, "we")) == NULL)
		sim_fail(sim, "history: %s cannot be written: %m", write_path);
	sim->requests = history;
	return history;
}

static void history_remember(struct sim_history *history, uint64_t id, unsigned client, enum lin_kind operation)
{
	if (id >= history->capacity) {
		history->capacity = 2 * (size_t)id + 16;
		history->requests = reallocarray(history->requests, history->capacity, sizeof *history->requests);
		raft_assert(history->requests != NULL);
	}
	history->requests[id] = (struct request){.client = client, .operation = operation};
}

/* In the file a client has one open request: one with several is several. */
static uint64_t file_client(unsigned client, uint64_t id)
{
	return client * (uint64_t)100000 + id;
}

uint64_t sim_history_invoke(struct sim *sim, unsigned client, enum lin_kind operation, unsigned key, uint64_t value,
			    uint64_t expected)
{
	struct sim_history *history = history_get(sim);
	uint8_t name[8];
	char text[24];
	sim_key_name(key, name);
	int length = snprintf(text, sizeof text, "%llu", (unsigned long long)value);
	raft_assert(length > 0 && (size_t)length < sizeof text);
	struct lin_call call = {.time = sim->now_us,
				.client = client,
				.kind = operation,
				.key = {.data = name, .size = sizeof name},
				.value = {.data = text, .size = (size_t)length},
				.expected = expected};
	uint64_t id = lin_invoke(history->checker, &call);
	history_remember(history, id, client, operation);
	if (history->file != NULL) {
		call.client = file_client(client, id);
		lin_write_call(&call, history->file);
	}
	return id;
}

static void history_fail(struct sim *sim)
{
	struct sim_history *history = sim->requests;
	char *text = NULL;
	size_t size = 0;
	FILE *file = open_memstream(&text, &size);
	raft_assert(file != NULL);
	lin_explain(history->checker, file);
	(void)fclose(file); /* to memory */
	if (history->file != NULL)
		(void)fflush(history->file);
	if (sim->trace)
		fputs(text, stdout);
	text[strcspn(text, "\n")] = '\0';
	sim_fail(sim, "linearizability: %s; the replay with --trace explains it", text);
}

void sim_history_return(struct sim *sim, uint64_t id, enum lin_outcome outcome, uint64_t value, uint64_t revision)
{
	struct sim_history *history = sim->requests;
	raft_assert(history != NULL && id < history->capacity);
	struct request request = history->requests[id];
	char text[24];
	int length = snprintf(text, sizeof text, "%llu", (unsigned long long)value);
	raft_assert(length > 0 && (size_t)length < sizeof text);
	struct lin_return result = {.time = sim->now_us,
				    .outcome = outcome,
				    .value = {.data = text, .size = (size_t)length},
				    .revision = revision};
	if (history->file != NULL)
		lin_write_return(file_client(request.client, id), &result, request.operation, history->file);
	lin_return(history->checker, id, &result);
	if (lin_verdict(history->checker) != LIN_LINEARIZABLE)
		history_fail(sim);
}

void sim_history_check(struct sim *sim)
{
	if (sim->requests == NULL)
		return;
	if (sim->requests->file != NULL)
		(void)fflush(sim->requests->file);
	if (lin_finish(sim->requests->checker) != LIN_LINEARIZABLE)
		history_fail(sim);
}

void sim_history_free(struct sim *sim)
{
	struct sim_history *history = sim->requests;
	if (history == NULL)
		return;
	lin_free(history->checker);
	if (history->file != NULL && fclose(history->file) != 0)
		perror("raft-sim: history");
	free(history->requests);
	free(history);
	sim->requests = NULL;
}
