/* Virtual time, randomness, the queue of events, and the history's hash. */
#include "sim.h"

#include "daemon/assert.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

uint64_t sim_random_u64(struct sim_random *random)
{
	random->state += 0x9e3779b97f4a7c15u;
	uint64_t z = random->state;
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

uint64_t sim_random_below(struct sim_random *random, uint64_t bound)
{
	raft_assert(bound > 0);
	return sim_random_u64(random) % bound;
}

bool sim_random_chance(struct sim_random *random, uint64_t per_million)
{
	return sim_random_below(random, 1000000) < per_million;
}

static bool event_before(const struct sim_event *a, const struct sim_event *b)
{
	return a->time_us != b->time_us ? a->time_us < b->time_us : a->order < b->order;
}

void sim_schedule(struct sim *sim, uint64_t delay_us, struct sim_event event)
{
	if (sim->heap_len == sim->heap_capacity) {
		sim->heap_capacity = sim->heap_capacity == 0 ? 1024 : sim->heap_capacity * 2;
		sim->heap = realloc(sim->heap, sim->heap_capacity * sizeof *sim->heap);
		raft_assert(sim->heap != NULL);
	}
	event.time_us = sim->now_us + delay_us;
	event.order = sim->next_order++;
	size_t hole = sim->heap_len++;
	while (hole > 0 && event_before(&event, &sim->heap[(hole - 1) / 2])) {
		sim->heap[hole] = sim->heap[(hole - 1) / 2];
		hole = (hole - 1) / 2;
	}
	sim->heap[hole] = event;
}

uint64_t sim_next_us(const struct sim *sim)
{
	return sim->heap_len == 0 ? UINT64_MAX : sim->heap[0].time_us;
}

void sim_next(struct sim *sim, struct sim_event *ret_event)
{
	raft_assert(sim->heap_len > 0 && sim->heap[0].time_us >= sim->now_us);
	*ret_event = sim->heap[0];
	sim->now_us = ret_event->time_us;
	if (--sim->heap_len == 0)
		return;
	const struct sim_event last = sim->heap[sim->heap_len];
	size_t hole = 0;
	for (size_t child = 1; child < sim->heap_len; child = 2 * hole + 1) {
		if (child + 1 < sim->heap_len && event_before(&sim->heap[child + 1], &sim->heap[child]))
			child++;
		if (event_before(&last, &sim->heap[child]))
			break;
		sim->heap[hole] = sim->heap[child];
		hole = child;
	}
	sim->heap[hole] = last;
}

void sim_note(struct sim *sim, const char *format, ...)
{
	char line[512];
	va_list arguments;
	va_start(arguments, format);
	int n = vsnprintf(line, sizeof line, format, arguments);
	va_end(arguments);
	raft_assert(n >= 0);
	(void)XXH3_64bits_update(sim->history, &sim->now_us, sizeof sim->now_us);
	(void)XXH3_64bits_update(sim->history, line, (size_t)n < sizeof line ? (size_t)n : sizeof line - 1);
	if (sim->trace)
		printf("%" PRIu64 " %s\n", sim->now_us, line);
}

void sim_fail(const struct sim *sim, const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	(void)vsnprintf(sim->result->failure, SIM_FAILURE_MAX, format, arguments);
	va_end(arguments);
	sim->result->counts = sim->counts;
	printf("seed %" PRIu64 ": FAILED at %" PRIu64 " us: %s\n", sim->plan.seed, sim->now_us, sim->result->failure);
	(void)fflush(stdout);
	abort();
}
