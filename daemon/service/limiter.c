/*
 * See limiter.h.
 */
#include "daemon/service/limiter.h"

#include "daemon/assert.h"

#include <stdio.h>
#include <string.h>

/* The monotonic clock of another thread's reading may be a little behind: no wrap-around then. */
static bool is_over(const struct limiter_source *source, uint64_t now_us)
{
	return now_us >= source->since_us && now_us - source->since_us >= LIMITER_WINDOW_US;
}

/* The slot of this source, or the one to be used for it: a free one, else the one that suppressed least and, among those, is
 * oldest. */
static struct limiter_source *find_slot(struct limiter *limiter, const char *format, const char *event)
{
	struct limiter_source *best = &limiter->sources[0];

	for (unsigned i = 0; i < LIMITER_SOURCES_MAX; i++) {
		struct limiter_source *source = &limiter->sources[i];
		if (source->site == format && strncmp(source->event, event, LIMITER_NAME_MAX - 1) == 0)
			return source;
		if (best->site == NULL)
			continue;
		if (source->site == NULL || source->suppressed < best->suppressed ||
		    (source->suppressed == best->suppressed && source->since_us < best->since_us))
			best = source;
	}
	return best;
}

bool limiter_allow(struct limiter *limiter, const char *format, const char *event, uint64_t now_us)
{
	raft_assert(limiter != NULL && format != NULL);
	if (event == NULL)
		event = "";
	struct limiter_source *source = find_slot(limiter, format, event);
	bool same = source->site == format && strncmp(source->event, event, LIMITER_NAME_MAX - 1) == 0;

	/* What was suppressed waits for limiter_take_suppressed even if the window is over. */
	if (!same || (is_over(source, now_us) && source->suppressed == 0)) {
		*source = (struct limiter_source){.site = format, .since_us = now_us};
		(void)snprintf(source->event, sizeof(source->event), "%s", event); /* shortened on purpose */
		(void)snprintf(source->format, sizeof(source->format), "%s", format);
	}
	raft_assert(source->lines <= LIMITER_LINES_MAX);
	if (source->lines == LIMITER_LINES_MAX) {
		if (source->suppressed < UINT32_MAX)
			source->suppressed++;
		return false;
	}
	source->lines++;
	return true;
}

bool limiter_take_suppressed(struct limiter *limiter, uint64_t now_us, struct limiter_source *ret_source)
{
	raft_assert(limiter != NULL && ret_source != NULL);
	for (unsigned i = 0; i < LIMITER_SOURCES_MAX; i++) {
		struct limiter_source *source = &limiter->sources[i];
		if (source->site == NULL || source->suppressed == 0 || !is_over(source, now_us))
			continue;
		raft_assert(source->lines == LIMITER_LINES_MAX);
		*ret_source = *source;
		*source = (struct limiter_source){0};
		return true;
	}
	return false;
}
