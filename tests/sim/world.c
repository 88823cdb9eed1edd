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

bool sim_random_chance(struct sim_random *random, uint32_t per_million)
{
	return sim_random_below(random, 1000000) < per_million;
}

static bool event_before(const struct sim_event *a, const struct sim_event *b)
{
	return a->time_us != b->time_us ? a->time_us < b->time_us : a->order < b->order;
}

static void heap_swap(struct sim_event *a, struct sim_event *b)
{
	struct sim_event swap = *a;
	*a = *b;
	*b = swap;
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
	size_t k = sim->heap_len++;
	sim->heap[k] = event;
	while (k > 0 && event_before(&sim->heap[k], &sim->heap[(k - 1) / 2])) {
		heap_swap(&sim->heap[k], &sim->heap[(k - 1) / 2]);
		k = (k - 1) / 2;
	}
}

bool sim_next(struct sim *sim, struct sim_event *ret_event)
{
	if (sim->heap_len == 0)
		return false;
	*ret_event = sim->heap[0];
	sim->heap[0] = sim->heap[--sim->heap_len];
	for (size_t k = 0;;) {
		size_t least = k;
		for (size_t child = 2 * k + 1; child <= 2 * k + 2 && child < sim->heap_len; child++)
			if (event_before(&sim->heap[child], &sim->heap[least]))
				least = child;
		if (least == k)
			break;
		heap_swap(&sim->heap[k], &sim->heap[least]);
		k = least;
	}
	raft_assert(ret_event->time_us >= sim->now_us);
	sim->now_us = ret_event->time_us;
	sim->n_events++;
	return true;
}

void sim_note(struct sim *sim, const char *format, ...)
{
	char line[512];
	va_list arguments;
	int n = snprintf(line, sizeof line, "%" PRIu64 " ", sim->now_us);
	va_start(arguments, format);
	(void)vsnprintf(line + n, sizeof line - (size_t)n, format, arguments);
	va_end(arguments);
	(void)XXH3_64bits_update(sim->history, line, strlen(line));
	if (sim->trace)
		printf("%s\n", line);
}

void sim_fail(const struct sim *sim, const char *format, ...)
{
	va_list arguments;
	printf("FAILED at %" PRIu64 " us: ", sim->now_us);
	va_start(arguments, format);
	(void)vprintf(format, arguments);
	va_end(arguments);
	printf("\n");
	(void)fflush(stdout);
	abort();
}
