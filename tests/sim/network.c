/* Frames between members: lost, doubled, reordered by their delays, cut off by partitions. */
#include "sim.h"

#include "daemon/assert.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define INBOX_MAX 1024u

struct sim_transport {
	struct transport base;
	struct sim *sim;
	unsigned member;
	uint8_t *prepared;
	size_t prepared_len;
	struct transport_event inbox[INBOX_MAX]; /* a ring; frames are owned */
	unsigned head, count;
	uint8_t *current; /* the frame handed out last */
};

static void transport_close(struct transport *base)
{
	struct sim_transport *transport = (struct sim_transport *)base;
	for (unsigned k = 0; k < transport->count; k++)
		free((void *)(uintptr_t)transport->inbox[(transport->head + k) % INBOX_MAX].data);
	free(transport->prepared);
	free(transport->current);
	free(transport);
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

static void transport_put(struct sim_transport *transport, unsigned to)
{
	struct sim *sim = transport->sim;
	const struct sim_plan *plan = &sim->plan;
	uint64_t delay =
		plan->delay_min_us + sim_random_below(&sim->random, plan->delay_max_us - plan->delay_min_us + 1);
	uint8_t *copy = malloc(transport->prepared_len);
	raft_assert(copy != NULL);
	memcpy(copy, transport->prepared, transport->prepared_len);
	sim_schedule(sim, delay,
		     (struct sim_event){.type = SIM_FRAME,
					.member = to,
					.number = transport->member,
					.data = copy,
					.len = transport->prepared_len});
}

static int transport_send(struct transport *base, uint64_t peer)
{
	struct sim_transport *transport = (struct sim_transport *)base;
	struct sim *sim = transport->sim;
	raft_assert(transport->prepared != NULL && peer >= 1 && peer <= sim->plan.n_members);
	unsigned to = (unsigned)peer - 1;
	bool lost = !sim->calm && sim_random_chance(&sim->random, sim->plan.loss);
	if (!lost)
		transport_put(transport, to);
	if (!sim->calm && sim_random_chance(&sim->random, sim->plan.duplication))
		transport_put(transport, to);
	free(transport->prepared);
	transport->prepared = NULL;
	return 0;
}

static int transport_receive(struct transport *base, struct transport_event *ret_event)
{
	struct sim_transport *transport = (struct sim_transport *)base;
	free(transport->current);
	transport->current = NULL;
	if (transport->count == 0)
		return 0;
	*ret_event = transport->inbox[transport->head];
	transport->current = (uint8_t *)(uintptr_t)ret_event->data;
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
	(void)base;
	*ret = (struct transport_peer_stats){.id = peer, .connected = true};
	return true;
}

/* The simulated network connects everybody with everybody. */
static int transport_set_peer(struct transport *base, uint64_t peer, const char *endpoint)
{
	(void)base;
	(void)peer;
	(void)endpoint;
	return 0;
}

static void transport_remove_peer(struct transport *base, uint64_t peer)
{
	(void)base;
	(void)peer;
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

void sim_transport_deliver(struct transport *base, struct sim_event *event)
{
	struct sim_transport *transport = (struct sim_transport *)base;
	if (transport->count == INBOX_MAX) {
		free(event->data);
		return;
	}
	struct transport_event *slot = &transport->inbox[(transport->head + transport->count++) % INBOX_MAX];
	if (event->type == SIM_FRAME)
		*slot = (struct transport_event){.type = TRANSPORT_FRAME, .data = event->data, .len = event->len};
	else
		*slot = (struct transport_event){.type = event->flag ? TRANSPORT_PEER_UP : TRANSPORT_PEER_DOWN,
						 .peer = event->number};
}
