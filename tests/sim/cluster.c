/* Members of the simulated cluster: start, crash, turns; and a member's side of the clients' requests. */
#include "sim.h"

#include "daemon/assert.h"

#include "kv/snapshot_stream.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A ticket carries who waits: client and attempt. Never 0. */
#define TICKET(client, attempt) ((((uint64_t)(client) + 1) << 48) | ((attempt)&0xffffffffffffu))
#define TICKET_CLIENT(ticket) ((unsigned)((ticket) >> 48) - 1)
#define TICKET_ATTEMPT(ticket) ((ticket)&0xffffffffffffu)

struct machine {
	struct sim *sim;
	unsigned member;
	struct kv_store_loader *loader;
};

static struct machine *machine_new(struct sim *sim, unsigned member)
{
	struct machine *machine = malloc(sizeof *machine);
	raft_assert(machine != NULL);
	*machine = (struct machine){.sim = sim, .member = member};
	return machine;
}

static void answer(struct sim *sim, uint64_t ticket, struct sim_answer reply)
{
	struct sim_answer *copy = malloc(sizeof *copy);
	raft_assert(copy != NULL);
	reply.attempt = TICKET_ATTEMPT(ticket);
	*copy = reply;
	uint64_t delay = sim->plan.delay_min_us +
			 sim_random_below(&sim->random, sim->plan.delay_max_us - sim->plan.delay_min_us + 1);
	sim_schedule(sim, delay,
		     (struct sim_event){.type = SIM_ANSWER,
					.member = TICKET_CLIENT(ticket),
					.data = (uint8_t *)copy,
					.len = sizeof *copy});
}

static void machine_apply(void *arg, uint64_t index, uint64_t time_ms, const uint8_t *data, uint32_t size,
			  uint64_t ticket)
{
	struct machine *machine = arg;
	struct sim *sim = machine->sim;
	struct sim_member *member = &sim->members[machine->member];
	struct kv_reply reply = kv_store_apply(member->store, index, time_ms, data, size);
	struct raft_entry entry = {.term = raft_term_at(replica_core(member->replica), index),
				   .type = RAFT_ENTRY_COMMAND,
				   .data = data,
				   .size = size};
	sim_check_applied(sim, machine->member, index, &entry);
	if (ticket != 0)
		answer(sim, ticket, (struct sim_answer){.status = reply.status, .revision = reply.revision});
}

static void machine_dropped(void *arg, uint64_t ticket, int why)
{
	struct machine *machine = arg;
	answer(machine->sim, ticket, (struct sim_answer){.result = why});
}

static void machine_readable(void *arg, uint64_t ticket)
{
	struct machine *machine = arg;
	struct sim *sim = machine->sim;
	struct kv_value value;
	uint8_t name[8];
	struct sim_answer reply = {0};
	sim_key_name(sim->clients[TICKET_CLIENT(ticket)].key, name);
	if (kv_store_get(sim->members[machine->member].store, name, sizeof name, &value)) {
		raft_assert(value.size == sizeof reply.value);
		memcpy(&reply.value, value.data, sizeof reply.value);
		reply.revision = value.revision;
	}
	answer(sim, ticket, reply);
}

static void machine_log(void *arg, int level, const char *event, const char *text)
{
	struct machine *machine = arg;
	(void)level;
	sim_note(machine->sim, "%u log %s: %s", machine->member + 1, event, text);
}

struct taken {
	struct kv_snapshot *snapshot;
	struct kv_snapshot_stream *stream;
};

static void *machine_snapshot_take(void *arg)
{
	struct machine *machine = arg;
	struct taken *taken = calloc(1, sizeof *taken);
	raft_assert(taken != NULL);
	taken->snapshot = kv_store_snapshot(machine->sim->members[machine->member].store);
	taken->stream = kv_snapshot_stream_new(taken->snapshot);
	raft_assert(taken->stream != NULL);
	return taken;
}

static size_t machine_snapshot_read(void *arg, void *snapshot, uint8_t *buf, size_t capacity)
{
	struct taken *taken = snapshot;
	(void)arg;
	return kv_snapshot_stream_read(taken->stream, buf, capacity);
}

static void machine_snapshot_free(void *arg, void *snapshot)
{
	struct taken *taken = snapshot;
	(void)arg;
	kv_snapshot_stream_free(taken->stream);
	kv_snapshot_free(taken->snapshot);
	free(taken);
}

static int machine_restore_begin(void *arg)
{
	struct machine *machine = arg;
	machine->loader = kv_store_load_new();
	raft_assert(machine->loader != NULL);
	return 0;
}

static int machine_restore_feed(void *arg, const uint8_t *buf, size_t len)
{
	struct machine *machine = arg;
	return kv_store_load_feed(machine->loader, buf, len) == KV_LOAD_OK ? 0 : -EBADMSG;
}

static int machine_restore_end(void *arg, bool success)
{
	struct machine *machine = arg;
	struct sim_member *member = &machine->sim->members[machine->member];
	struct kv_store *store = NULL;
	int r = 0;
	if (success && kv_store_load_finish(machine->loader, &store) != KV_LOAD_OK)
		r = -EBADMSG;
	machine->loader = kv_store_load_free(machine->loader);
	if (store != NULL) {
		kv_store_free(member->store);
		member->store = store;
	}
	return r;
}

static uint64_t machine_state_hash(void *arg)
{
	struct machine *machine = arg;
	return kv_store_hash(machine->sim->members[machine->member].store);
}

static const struct replicator_machine machine_table = {
	.snapshot_take = machine_snapshot_take,
	.snapshot_read = machine_snapshot_read,
	.snapshot_free = machine_snapshot_free,
	.restore_begin = machine_restore_begin,
	.restore_feed = machine_restore_feed,
	.restore_end = machine_restore_end,
	.state_hash = machine_state_hash,
	.apply = machine_apply,
	.dropped = machine_dropped,
	.readable = machine_readable,
	.unreadable = machine_dropped,
	.log = machine_log,
};

struct replica_options sim_member_options(const struct sim *sim, unsigned member)
{
	struct replica_options options = {.cluster = 77};
	for (unsigned k = 0; k < sim->plan.n_members; k++)
		options.founders.members[options.founders.n_members++] =
			(struct raft_config_member){.id = k + 1, .role = RAFT_MEMBER_JOINING};
	options.snapshot_log_bytes = 20000;
	options.snapshot_log_percent = 100;
	options.raft = (struct raft_options){.id = member + 1,
					     .heartbeat_us = sim->plan.heartbeat_us,
					     .election_timeout_min_us = sim->plan.election_min_us,
					     .election_timeout_max_us = sim->plan.election_max_us,
					     .batch_bytes_max = 4096,
					     .window_bytes_max = 16384,
					     .uncommitted_bytes_max = 1u << 20};
	options.storage = (struct storage_options){.cluster_id = 77,
						   .member_id = member + 1,
						   .incarnation = 1000 + member,
						   .segment_size = 64 * 1024, /* so that segments roll often */
						   .cache_bytes_max = 8192};
	return options;
}

static void member_schedule(struct sim *sim, unsigned number)
{
	struct sim_member *member = &sim->members[number];
	uint64_t deadline = replica_deadline_us(member->replica);
	if (deadline < sim->now_us)
		deadline = sim->now_us;
	if (deadline == UINT64_MAX || (member->wake_us > sim->now_us && member->wake_us <= deadline))
		return;
	member->wake_us = deadline;
	sim_schedule(sim, deadline - sim->now_us,
		     (struct sim_event){.type = SIM_WAKE, .member = number, .life = member->life, .number = deadline});
}

void sim_member_start(struct sim *sim, unsigned number)
{
	struct sim_member *member = &sim->members[number];
	static const struct replicator_machine *const table = &machine_table;
	char message[REPLICATOR_MESSAGE_MAX];
	raft_assert(!member->up);
	member->life++;
	member->wake_us = 0;
	member->store = kv_store_new();
	member->transport = sim_transport_new(sim, number);
	member->machine = machine_new(sim, number);
	raft_assert(member->store != NULL);
	struct replica_options options = sim_member_options(sim, number);
	options.seed = sim_random_u64(&sim->random);
	int r = replica_open(&options, sim_platter_open(member->disk_files), member->transport, table,
			     machine_new(sim, number), sim->now_us, &member->replica, message);
	if (r != 0)
		sim_fail(sim, "member %u does not start: %d %s", number + 1, r, message);
	member->up = true;
	raft_get_status(replica_core(member->replica), &member->before);
	sim_note(sim, "%u starts", number + 1);
	sim_member_turn(sim, number);
}

void sim_member_crash(struct sim *sim, unsigned number)
{
	struct sim_member *member = &sim->members[number];
	raft_assert(member->up);
	sim_note(sim, "%u crashes", number + 1);
	sim_platter_crash(member->disk_files);
	member->replica = replica_free(member->replica);
	member->store = kv_store_free(member->store);
	member->transport = NULL;
	free(member->machine);
	member->machine = NULL;
	member->up = false;
	member->paused = false;
	sim->n_crashes++;
	for (unsigned k = 0; k < sim->plan.n_members; k++)
		if (k != number && sim_random_below(&sim->random, 2) == 0)
			sim_schedule(sim, 100 + sim_random_below(&sim->random, 5000),
				     (struct sim_event){.type = SIM_LINK,
							.member = k,
							.life = sim->members[k].life,
							.number = number + 1});
}

void sim_member_turn(struct sim *sim, unsigned number)
{
	struct sim_member *member = &sim->members[number];
	if (!member->up || member->paused)
		return;
	int r = replica_process(member->replica, sim->now_us, 1000000 + sim->now_us / 1000);
	if (r < 0)
		sim_fail(sim, "member %u stops: %d", number + 1, r);
	sim_check_member(sim, number);
	member_schedule(sim, number);
}

void sim_member_write(struct sim *sim, unsigned number, unsigned client, const uint8_t *command, uint32_t size)
{
	struct sim_member *member = &sim->members[number];
	uint64_t ticket = TICKET(client, sim->clients[client].attempt);
	if (!member->up || member->paused)
		return;
	struct replicator_command proposal = {command, size};
	int r = replica_propose(member->replica, &proposal, 1, ticket, sim->now_us, 1000000 + sim->now_us / 1000);
	if (r != 0)
		answer(sim, ticket, (struct sim_answer){.result = r});
	sim_member_turn(sim, number);
}

void sim_member_read(struct sim *sim, unsigned number, unsigned client, unsigned key)
{
	struct sim_member *member = &sim->members[number];
	uint64_t ticket = TICKET(client, sim->clients[client].attempt);
	(void)key;
	if (!member->up || member->paused)
		return;
	int r = replica_read(member->replica, ticket, sim->now_us);
	if (r != 0)
		answer(sim, ticket, (struct sim_answer){.result = r});
	sim_member_turn(sim, number);
}
