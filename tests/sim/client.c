/*
 * Simulated clients: each has one session, one request at a time, and repeats it at other members until it is answered.
 *
 * What a client may see is checked on the spot. The log gives every write its place (its revision), so a history is
 * linearizable exactly when each answer's place fits the times of the request: a write's revision must be above everything
 * about its key that was known before it was invoked, and a read's revision not below it.
 */
#include "sim.h"

#include "daemon/assert.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define RETRY_US 30000u
#define COMMAND_SIZE (KV_COMMAND_HEADER_SIZE + 8 + 8)

void sim_key_name(unsigned key, uint8_t name[8])
{
	memset(name, 'k', 8);
	name[7] = (uint8_t)('0' + key);
}

static void client_send(struct sim *sim, unsigned number)
{
	struct sim_client *client = &sim->clients[number];
	uint8_t buf[COMMAND_SIZE];
	uint8_t name[8];
	uint8_t value[8];
	client->attempt++;
	sim_schedule(sim, RETRY_US + sim_random_below(&sim->random, RETRY_US),
		     (struct sim_event){.type = SIM_CLIENT, .member = number, .number = client->attempt});
	if (client->is_read && client->session != 0) {
		sim_member_read(sim, client->target, number, client->key);
		return;
	}
	sim_key_name(client->key, name);
	memcpy(value, &client->value, sizeof value);
	struct kv_command command = {.operation = KV_PUT,
				     .session = client->session,
				     .sequence = client->sequence,
				     .acknowledged = client->sequence,
				     .key = name,
				     .key_size = sizeof name,
				     .value = value,
				     .value_size = sizeof value};
	if (client->session == 0)
		command = (struct kv_command){.operation = KV_REGISTER, .expected = number + 1};
	raft_assert(kv_command_size(&command) <= sizeof buf);
	kv_command_encode(&command, buf);
	sim_member_write(sim, client->target, number, buf, (uint32_t)kv_command_size(&command));
}

static void client_begin(struct sim *sim, unsigned number)
{
	struct sim_client *client = &sim->clients[number];
	client->busy = true;
	client->is_read = sim_random_below(&sim->random, 2) == 0;
	client->key = (unsigned)sim_random_below(&sim->random, SIM_KEYS);
	client->invoked_us = sim->now_us;
	client->floor = sim->acknowledged[client->key];
	if (!client->is_read || client->session == 0) {
		client->value = ++sim->next_value;
		if (client->session != 0)
			client->sequence++;
	}
	client_send(sim, number);
}

void sim_client_next(struct sim *sim, unsigned number)
{
	struct sim_client *client = &sim->clients[number];
	if (!client->busy) {
		client_begin(sim, number);
		return;
	}
	client->target = (unsigned)sim_random_below(&sim->random, sim->plan.n_members);
	client_send(sim, number);
}

static void client_done(struct sim *sim, unsigned number)
{
	struct sim_client *client = &sim->clients[number];
	client->busy = false;
	client->done++;
	client->attempt++;
	sim->n_answers++;
	sim_schedule(sim, 1 + sim_random_below(&sim->random, 20000),
		     (struct sim_event){.type = SIM_CLIENT, .member = number, .number = client->attempt});
}

static void client_check_answer(struct sim *sim, unsigned number, const struct sim_answer *answer)
{
	struct sim_client *client = &sim->clients[number];
	uint64_t *known = &sim->acknowledged[client->key];
	sim_note(sim, "client %u %s key %u: revision %" PRIu64, number, client->is_read ? "read" : "wrote", client->key,
		 answer->revision);
	if (client->is_read ? answer->revision < client->floor : answer->revision <= client->floor)
		sim_fail(sim,
			 "client %u: %s of key %u got revision %" PRIu64 ", but %" PRIu64 " was known before it began",
			 number, client->is_read ? "read" : "write", client->key, answer->revision, client->floor);
	if (answer->revision > *known)
		*known = answer->revision;
}

void sim_client_answer(struct sim *sim, unsigned number, const struct sim_answer *answer)
{
	struct sim_client *client = &sim->clients[number];
	if (!client->busy || answer->attempt != client->attempt)
		return; /* of an earlier attempt */
	if (answer->result != 0)
		return; /* the retry is scheduled */
	if (client->session == 0) {
		raft_assert(answer->status == KV_OK && answer->revision > 0);
		client->session = answer->revision;
		client->sequence = 0;
		client_done(sim, number);
		return;
	}
	if (!client->is_read && answer->status != KV_OK)
		sim_fail(sim, "client %u: write answered with status %u", number, answer->status);
	client_check_answer(sim, number, answer);
	client_done(sim, number);
}
