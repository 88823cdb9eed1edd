/*
 * Snapshots that cannot be read any more where somebody needs them. A leader whose disk refuses to read the one that it offers offers
 * another one: who lags behind would ask for that one for ever. And who has received one that cannot be read when it is to be
 * installed asks for it once more: it would be refused with every offer.
 *
 * Must not know how the members remember either.
 */
#include "check.h"

#include "daemon/transport/wire.h"

#include <inttypes.h>

#define OFFERS_MAX 3u /* one may be on its way, and one be needed by the member itself */
#define PATIENCE_US 500000u
#define REFUSALS_MAX 3u

void sim_offers_started(struct sim *sim, unsigned number)
{
	struct sim_watch *watch = &sim->checks->members[number];
	watch->offered.unread = watch->offered.refused = 0;
}

void sim_offers_unread(struct sim *sim, unsigned number, uint64_t index)
{
	struct sim_watch *watch = &sim->checks->members[number];
	if (watch->offered.unread == index)
		return;
	watch->offered.unread = index;
	watch->offered.since_us = sim->now_us;
	watch->offered.offers = 0;
}

void sim_offers_written(struct sim *sim, unsigned number, uint64_t index)
{
	struct sim_watch *watch = &sim->checks->members[number];
	if (watch->offered.unread == index)
		watch->offered.unread = 0;
}

void sim_offers_refused(struct sim *sim, unsigned number, uint64_t index)
{
	struct sim_watch *watch = &sim->checks->members[number];
	if (watch->offered.refused != index)
		watch->offered.times = 0;
	watch->offered.refused = index;
	if (++watch->offered.times >= REFUSALS_MAX)
		sim_fail(sim, "member %u has refused its snapshot of entry %" PRIu64 " %u times, and asks for no other",
			 number + 1, index, watch->offered.times);
}

void sim_offers_said(struct sim *sim, unsigned number, const struct wire_message *message)
{
	struct sim_watch *watch = &sim->checks->members[number];
	if (message->type == WIRE_SNAPSHOT_REQUEST)
		watch->offered.refused = 0;
	if (message->type != WIRE_SNAPSHOT_OFFER || watch->offered.unread == 0 ||
	    message->snapshot_offer.index != watch->offered.unread ||
	    sim->now_us < watch->offered.since_us + PATIENCE_US)
		return;
	if (++watch->offered.offers > OFFERS_MAX)
		sim_fail(sim,
			 "member %u goes on offering its snapshot of entry %" PRIu64 ", which its disk refuses to read",
			 number + 1, watch->offered.unread);
}
