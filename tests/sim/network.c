/*
 * Frames between members: lost, doubled, late, corrupted, cut off, held back by a cut link until it opens again, dropped by a
 * full queue, and sent again long after; and what the transports say about connections, late or not at all.
 */
#include "durable.h"
#include "sim.h"

#include "daemon/assert.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define INBOX_MAX 1024u
#define ARCHIVE_MAX 64u
#define GARBAGE_MAX 300u

struct sim_frame {
	unsigned from;
	unsigned to;
	unsigned life; /* of the sender */
	uint8_t *data; /* owned */
	size_t len;
};

struct sim_network {
	unsigned cuts[SIM_MEMBERS_MAX][SIM_MEMBERS_MAX];       /* how many faults cut the link from row to column */
	unsigned queued[SIM_MEMBERS_MAX][SIM_MEMBERS_MAX];     /* frames that were sent and not yet received */
	uint64_t slow_us[SIM_MEMBERS_MAX][SIM_MEMBERS_MAX];    /* added to every delay */
	struct sim_frame archive[ARCHIVE_MAX];		       /* frames of any time, to be sent again */
	uint64_t arrives_us[SIM_MEMBERS_MAX][SIM_MEMBERS_MAX]; /* in the calm: the newest frame from row to column */
};

struct sim_arrival {
	struct transport_event event; /* a frame's data are owned */
	unsigned from;		      /* of a frame */
	bool forged;		      /* … that this member never sent */
};

struct sim_transport {
	struct transport base;
	struct sim *sim;
	unsigned member;
	uint8_t *prepared;
	size_t prepared_len;
	uint64_t dropped[SIM_MEMBERS_MAX];
	unsigned known[SIM_MEMBERS_MAX];     /* 1 + the place at which it is to be reached; 0: nobody said */
	struct sim_arrival inbox[INBOX_MAX]; /* a ring */
	unsigned head, count;
	uint8_t *current; /* the frame handed out last */
	bool closing;	  /* nobody hears what is left */
};

void sim_network_new(struct sim *sim)
{
	sim->network = calloc(1, sizeof *sim->network);
	raft_assert(sim->network != NULL);
}

void sim_network_free(struct sim *sim)
{
	for (unsigned k = 0; k < ARCHIVE_MAX; k++)
		free(sim->network->archive[k].data);
	free(sim->network);
}

/* Links ----------------------------------------------------------------------------------------------- */

static bool is_in(uint64_t links, unsigned from, unsigned to)
{
	return (links & SIM_LINK_BIT(from, to)) != 0;
}

void sim_network_cut(struct sim *sim, uint64_t links, bool cut)
{
	unsigned n = sim_members(sim);
	for (unsigned from = 0; from < n; from++)
		for (unsigned to = 0; to < n; to++) {
			unsigned *cuts = &sim->network->cuts[from][to];
			if (!is_in(links, from, to))
				continue;
			raft_assert(cut || *cuts > 0);
			*cuts = cut ? *cuts + 1 : *cuts - 1;
		}
	sim->counts.cuts += cut;
}

void sim_network_heal(struct sim *sim)
{
	memset(sim->network->cuts, 0, sizeof sim->network->cuts);
	memset(sim->network->slow_us, 0, sizeof sim->network->slow_us);
}

void sim_network_slow(struct sim *sim, uint64_t links, uint64_t more_us)
{
	for (unsigned from = 0; from < sim_members(sim); from++)
		for (unsigned to = 0; to < sim_members(sim); to++)
			if (is_in(links, from, to))
				sim->network->slow_us[from][to] = more_us;
}

/* What transports say about connections ---------------------------------------------------------------- */

void sim_network_peer_event(struct sim *sim, unsigned member, unsigned peer, bool up, uint64_t delay_us)
{
	sim_schedule(sim, delay_us,
		     (struct sim_event){.type = SIM_LINK,
					.member = member,
					.life = sim->members[member].life,
					.number = peer + 1,
					.flag = up});
}

/* Soon, seconds later, twice, or never. */
static void tell(struct sim *sim, unsigned member, unsigned peer, bool up)
{
	struct sim_random *random = &sim->random_network;
	if (member == peer || !sim->members[member].up || sim_random_chance(random, sim->plan.peer_silence))
		return;
	uint64_t delay = 100 + sim_random_below(random, sim_random_below(random, 8) == 0 ? 3000000 : 5000);
	sim_network_peer_event(sim, member, peer, up, delay);
	if (sim_random_below(random, 16) == 0)
		sim_network_peer_event(sim, member, peer, up, delay + sim_random_below(random, 1000000));
}

void sim_network_member_starts(struct sim *sim, unsigned member)
{
	for (unsigned k = 0; k < sim_members(sim); k++) {
		if (!sim->members[k].up)
			continue;
		tell(sim, member, k, true);
		tell(sim, k, member, true);
	}
}

void sim_network_member_ends(struct sim *sim, unsigned member)
{
	for (unsigned k = 0; k < sim_members(sim); k++)
		tell(sim, k, member, false);
}

/* Sending --------------------------------------------------------------------------------------------- */

/* A connection keeps the order of its frames: what overtakes belongs to the faults. */
static uint64_t in_order(struct sim *sim, const struct sim_frame *frame, uint64_t delay_us)
{
	uint64_t *arrives_us = &sim->network->arrives_us[frame->from][frame->to];
	if (*arrives_us < sim->now_us + delay_us)
		*arrives_us = sim->now_us + delay_us;
	return *arrives_us - sim->now_us;
}

static void put(struct sim *sim, const struct sim_frame *frame, uint64_t delay_us)
{
	uint8_t *copy = malloc(frame->len + 1); /* a frame may be empty */
	raft_assert(copy != NULL);
	memcpy(copy, frame->data, frame->len);
	sim->network->queued[frame->from][frame->to]++;
	delay_us += sim->network->slow_us[frame->from][frame->to];
	sim_schedule(sim, sim->calm ? in_order(sim, frame, delay_us) : delay_us,
		     (struct sim_event){.type = SIM_FRAME,
					.member = frame->to,
					.life = frame->life,
					.number = frame->from,
					.data = copy,
					.len = frame->len});
}

void sim_network_put(struct sim *sim, unsigned from, unsigned to, const uint8_t *data, size_t len, uint64_t delay_us)
{
	struct sim_frame frame = {.from = from,
				  .to = to,
				  .life = sim->members[from].life,
				  .data = (uint8_t *)(uintptr_t)data, /* only read */
				  .len = len};
	put(sim, &frame, delay_us);
}

static uint64_t draw_delay(struct sim *sim)
{
	const struct sim_plan *plan = &sim->plan;
	struct sim_random *random = &sim->random_network;
	uint64_t delay = plan->delay_min_us;
	if (!sim->even)
		delay += sim_random_below(random, plan->delay_spread_us + 1);
	if (sim->calm || !sim_random_chance(random, plan->late))
		return delay;
	sim->counts.frames_late++;
	return 200000 + sim_random_below(random, 10000000);
}

static void archive(struct sim *sim, const struct sim_frame *frame)
{
	struct sim_random *random = &sim->random_network;
	if (sim_random_below(random, 32) != 0)
		return;
	struct sim_frame *slot = &sim->network->archive[sim_random_below(random, ARCHIVE_MAX)];
	free(slot->data);
	*slot = *frame;
	slot->data = malloc(frame->len + 1);
	raft_assert(slot->data != NULL);
	memcpy(slot->data, frame->data, frame->len);
}

void sim_network_replay(struct sim *sim, struct sim_random *random)
{
	for (unsigned k = 0; k < 8; k++) {
		const struct sim_frame *frame = &sim->network->archive[sim_random_below(random, ARCHIVE_MAX)];
		if (frame->data == NULL)
			continue;
		sim->counts.frames_replayed++;
		put(sim, frame, sim_random_below(random, 100000));
	}
}

static void put_corrupted(struct sim *sim, const struct sim_frame *frame)
{
	struct sim_random *random = &sim->random_network;
	uint64_t flips = 1 + sim_random_below(random, 4);
	for (uint64_t k = 0; k < flips; k++) {
		uint64_t at = sim_random_below(random, frame->len);
		frame->data[at] ^= (uint8_t)(1u << sim_random_below(random, 8));
	}
	sim->counts.frames_corrupted++;
	put(sim, frame, draw_delay(sim));
}

/* Random bytes, or the beginning of a frame, or one with a tail of random bytes. */
static void put_garbage(struct sim *sim, const struct sim_frame *frame)
{
	struct sim_random *random = &sim->random_network;
	uint8_t bytes[2 * GARBAGE_MAX];
	struct sim_frame garbage = *frame;
	size_t kept = 0;
	garbage.data = bytes;
	garbage.len = sim_random_below(random, GARBAGE_MAX);
	if (sim_random_below(random, 3) != 0) {
		kept = frame->len < GARBAGE_MAX ? frame->len : GARBAGE_MAX;
		memcpy(bytes, frame->data, kept);
		garbage.len = sim_random_below(random, 2) == 0 ? sim_random_below(random, kept) : kept + garbage.len;
	}
	for (size_t k = kept; k < garbage.len; k++)
		bytes[k] = (uint8_t)sim_random_u64(random);
	sim->counts.frames_garbage++;
	put(sim, &garbage, draw_delay(sim));
}

/* Everything that may happen to a frame on its way. */
static void transmit(struct sim *sim, const struct sim_frame *frame)
{
	const struct sim_plan *plan = &sim->plan;
	struct sim_random *random = &sim->random_network;
	if (sim->calm) {
		put(sim, frame, draw_delay(sim));
		return;
	}
	archive(sim, frame);
	if (plan->stale_answers > 0)
		sim_stale_sent(sim, frame->from, frame->to, frame->data, frame->len);
	if (sim_random_chance(random, plan->duplication)) {
		sim->counts.frames_doubled++;
		put(sim, frame, draw_delay(sim));
	}
	if (sim_random_chance(random, plan->garbage))
		put_garbage(sim, frame);
	if (sim_random_chance(random, plan->loss))
		sim->counts.frames_lost++;
	else if (sim_random_chance(random, plan->corruption))
		put_corrupted(sim, frame);
	else
		put(sim, frame, draw_delay(sim));
}

static uint8_t *transport_prepare(struct transport *base, size_t len)
{
	struct sim_transport *transport = (struct sim_transport *)base;
	free(transport->prepared);
	transport->prepared = malloc(len);
	transport->prepared_len = len;
	raft_assert(transport->prepared != NULL);
	return transport->prepared;
}

static bool is_right(const struct sim *sim, unsigned member, unsigned known)
{
	return known > sim->members[member].places_first && known <= sim->members[member].places_last + 1;
}

static int transport_send(struct transport *base, uint64_t peer)
{
	struct sim_transport *transport = (struct sim_transport *)base;
	struct sim *sim = transport->sim;
	raft_assert(transport->prepared != NULL && peer >= 1);
	if (peer > sim_members(sim))
		return -ENOTCONN; /* nobody ever told where that one is */
	unsigned to = (unsigned)peer - 1;
	struct sim_frame frame = {.from = transport->member,
				  .to = to,
				  .life = sim->members[transport->member].life,
				  .data = transport->prepared,
				  .len = transport->prepared_len};
	uint64_t room = sim->calm ? INBOX_MAX : sim->plan.queue_frames;
	if (!sim_member_operation(sim, transport->member))
		return 0; /* nobody will see it */
	sim_check_frame(sim, frame.from, to, frame.data, frame.len);
	const struct sim_disk_faults *faults = &sim->members[frame.from].disk_faults;
	if (faults->rot_offered || faults->refuse_offered)
		sim_fault_sent(sim, frame.from, frame.data, frame.len);
	bool full = sim->network->queued[frame.from][to] >= room;
	if (!is_right(sim, to, transport->known[to])) {
		transport->dropped[to]++;
		full = true;
	} else if (full) {
		transport->dropped[to]++;
		sim->counts.queue_overflows++;
	} else {
		transmit(sim, &frame);
	}
	free(transport->prepared);
	transport->prepared = NULL;
	return full ? -EAGAIN : 0;
}

/* Receiving ------------------------------------------------------------------------------------------- */

static int transport_receive(struct transport *base, struct transport_event *ret_event)
{
	struct sim_transport *transport = (struct sim_transport *)base;
	free(transport->current);
	transport->current = NULL;
	if (transport->count == 0)
		return 0;
	const struct sim_arrival *arrival = &transport->inbox[transport->head];
	*ret_event = arrival->event;
	if (arrival->event.type == TRANSPORT_FRAME) {
		transport->current = (uint8_t *)(uintptr_t)arrival->event.data;
		transport->sim->network->queued[arrival->from][transport->member]--;
		if (!transport->closing)
			sim_progress_heard(transport->sim, transport->member, arrival->event.data, arrival->event.len,
					   arrival->forged);
	}
	transport->head = (transport->head + 1) % INBOX_MAX;
	transport->count--;
	return 1;
}

static int transport_fd(struct transport *base)
{
	(void)base;
	return -1;
}

static bool transport_pending(struct transport *base)
{
	return ((const struct sim_transport *)base)->count > 0;
}

static bool transport_peer_stats(struct transport *base, uint64_t peer, struct transport_peer_stats *ret)
{
	const struct sim_transport *transport = (const struct sim_transport *)base;
	if (peer > sim_members(transport->sim))
		return false;
	*ret = (struct transport_peer_stats){
		.id = peer, .connected = true, .dropped_frames = transport->dropped[peer - 1]};
	return true;
}

static void transport_close(struct transport *base)
{
	struct sim_transport *transport = (struct sim_transport *)base;
	struct transport_event event;
	transport->closing = true;
	while (transport_receive(base, &event) != 0)
		;
	free(transport->prepared);
	free(transport);
}

/* Frames leave only for members whose right endpoint this one was told. */
static void place_name(unsigned member, unsigned place, char ret_name[SIM_ENDPOINT_SIZE])
{
	if (place == 0)
		(void)snprintf(ret_name, SIM_ENDPOINT_SIZE, "member-%u", member + 1);
	else
		(void)snprintf(ret_name, SIM_ENDPOINT_SIZE, "member-%u-%u", member + 1, place);
}

void sim_endpoint_name(const struct sim *sim, unsigned member, char ret_name[SIM_ENDPOINT_SIZE])
{
	place_name(member, sim->members[member].places_last, ret_name);
}

/* 1 + the place; 0: it never was one of the member's. */
static unsigned place_of(const struct sim *sim, unsigned member, const char *endpoint)
{
	char name[SIM_ENDPOINT_SIZE];
	for (unsigned place = sim->members[member].places_last + 1; place > 0; place--) {
		place_name(member, place - 1, name);
		if (strcmp(name, endpoint) == 0)
			return place;
	}
	return 0;
}

bool sim_endpoint_is_of(const struct sim *sim, unsigned member, const char *name)
{
	return place_of(sim, member, name) > 0;
}

bool sim_network_knows(const struct sim *sim, unsigned number, unsigned other, const char *endpoint)
{
	const struct sim_transport *transport = (const struct sim_transport *)sim->members[number].transport;
	return transport->known[other] > 0 && transport->known[other] >= place_of(sim, other, endpoint);
}

static int transport_set_peer(struct transport *base, uint64_t peer, const char *endpoint)
{
	struct sim_transport *transport = (struct sim_transport *)base;
	struct sim *sim = transport->sim;
	struct sim_member *member = &sim->members[transport->member];
	raft_assert(peer >= 1 && peer <= sim_members(sim));
	unsigned place = place_of(sim, (unsigned)peer - 1, endpoint);
	if (place == 0)
		sim_fail(sim, "member %u connects to member %u at %s", transport->member + 1, (unsigned)peer, endpoint);
	if (sim->now_us < member->no_connections_until_us && transport->known[peer - 1] != place) {
		member->unconnected_us = sim_clock_us(sim, transport->member);
		sim->counts.connections_refused++;
		return -EMFILE;
	}
	transport->known[peer - 1] = place;
	return 0;
}

static void transport_remove_peer(struct transport *base, uint64_t peer)
{
	struct sim_transport *transport = (struct sim_transport *)base;
	raft_assert(peer >= 1 && peer <= sim_members(transport->sim));
	transport->known[peer - 1] = 0;
}

static const struct transport_ops sim_transport_ops = {
	.close = transport_close,
	.prepare = transport_prepare,
	.send = transport_send,
	.receive = transport_receive,
	.fd = transport_fd,
	.pending = transport_pending,
	.peer_stats = transport_peer_stats,
	.set_peer = transport_set_peer,
	.remove_peer = transport_remove_peer,
};

struct transport *sim_transport_new(struct sim *sim, unsigned member)
{
	struct sim_transport *transport = calloc(1, sizeof *transport);
	raft_assert(transport != NULL);
	transport->base.ops = &sim_transport_ops;
	transport->sim = sim;
	transport->member = member;
	return &transport->base;
}

/* False: the frame is gone, or waits for the link to open again. */
static bool link_passes(struct sim *sim, const struct sim_event *event)
{
	struct sim_random *random = &sim->random_network;
	unsigned from = (unsigned)event->number;
	if (sim->network->cuts[from][event->member] == 0 && sim->members[event->member].up)
		return true;
	if (sim->members[event->member].up && sim_random_chance(random, sim->plan.hold)) {
		sim->counts.frames_held++;
		sim_schedule(sim, 1000 + sim_random_below(random, 200000), *event);
		return false;
	}
	sim->counts.frames_cut++;
	sim->network->queued[from][event->member]--;
	free(event->data);
	return false;
}

static void deliver(struct sim *sim, const struct sim_arrival *arrival, unsigned member)
{
	struct sim_transport *transport = (struct sim_transport *)sim->members[member].transport;
	if (transport->count < INBOX_MAX) {
		transport->inbox[(transport->head + transport->count++) % INBOX_MAX] = *arrival;
		return;
	}
	if (arrival->event.type == TRANSPORT_FRAME) {
		sim->counts.queue_overflows++;
		sim->network->queued[arrival->from][member]--;
		free((void *)(uintptr_t)arrival->event.data);
	}
}

bool sim_network_deliver(struct sim *sim, unsigned from, unsigned to, const uint8_t *data, size_t len)
{
	const struct sim_transport *transport = (const struct sim_transport *)sim->members[to].transport;
	unsigned life = sim->members[to].life;
	uint8_t *copy = malloc(len);
	raft_assert(copy != NULL);
	memcpy(copy, data, len);
	struct sim_arrival arrival = {
		.from = from, .forged = true, .event = {.type = TRANSPORT_FRAME, .data = copy, .len = len}};
	bool room = transport->count < INBOX_MAX;
	sim->network->queued[from][to]++;
	deliver(sim, &arrival, to);
	sim_member_turn(sim, to);
	return room && sim->members[to].up && sim->members[to].life == life && transport->count == 0;
}

void sim_network_event(struct sim *sim, const struct sim_event *event)
{
	const struct sim_member *member = &sim->members[event->member];
	struct sim_arrival arrival = {.from = (unsigned)event->number};
	if (event->type == SIM_FRAME) {
		if (!link_passes(sim, event))
			return;
		if (event->life != sim->members[arrival.from].life)
			sim->counts.frames_of_earlier_lives++;
		arrival.event =
			(struct transport_event){.type = TRANSPORT_FRAME, .data = event->data, .len = event->len};
	} else {
		if (!member->up || member->life != event->life)
			return;
		if (event->flag)
			sim->counts.peers_up++;
		else
			sim->counts.peers_down++;
		arrival.event = (struct transport_event){.type = event->flag ? TRANSPORT_PEER_UP : TRANSPORT_PEER_DOWN,
							 .peer = event->number};
	}
	deliver(sim, &arrival, event->member);
	sim_member_turn(sim, event->member);
}
