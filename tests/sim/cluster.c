/*
 * Members of the simulated cluster: start, crash, turns, death in the middle of a turn; and a member's side of the clients'
 * requests. Its snapshots: machine_snapshots.c.
 */
#include "machine.h"

#include "daemon/assert.h"
#include "kv/snapshot_stream.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define APPLY_PAUSE_US 3000u

static struct machine *machine_new(struct sim *sim, unsigned member)
{
	struct machine *machine = malloc(sizeof *machine);
	raft_assert(machine != NULL);
	*machine = (struct machine){.sim = sim, .member = member};
	return machine;
}

/* A member that is dying answers nobody. */
static void answer(struct sim *sim, unsigned member, const struct sim_answer *reply, const struct kv_value *value)
{
	if (!sim->members[member].dying)
		sim_protocol_answer(sim, reply, value);
}

/* A refusal names the leader, as raftd does. */
static void refuse(struct sim *sim, unsigned member, uint64_t ticket, int result)
{
	struct raft_status status;
	raft_get_status(replica_core(sim->members[member].replica), &status);
	answer(sim, member, &(struct sim_answer){.ticket = ticket, .result = result, .leader = (unsigned)status.leader},
	       NULL);
}

static void machine_apply(void *arg, uint64_t index, uint64_t time_ms, const uint8_t *data, uint32_t size,
			  uint64_t ticket)
{
	struct machine *machine = arg;
	struct sim *sim = machine->sim;
	struct sim_member *member = &sim->members[machine->member];
	struct kv_reply reply = kv_store_apply(member->store, index, time_ms, data, size);
	struct raft_entry entry = {.term = raft_term_at(replica_core(member->replica), index),
				   .time_ms = time_ms,
				   .type = RAFT_ENTRY_COMMAND,
				   .data = data,
				   .size = size};
	sim_check_applied(sim, machine->member, index, &entry);
	sim_sessions_applied(sim, machine->member, index, data, size, reply);
	sim_snapshots_applied(sim, machine->member);
	if (ticket == 0)
		return;
	sim_progress_answered(sim, machine->member, ticket);
	answer(sim, machine->member,
	       &(struct sim_answer){.ticket = ticket, .status = reply.status, .revision = reply.revision}, NULL);
}

static void machine_dropped(void *arg, uint64_t ticket, int why)
{
	struct machine *machine = arg;
	sim_progress_answered(machine->sim, machine->member, ticket);
	if (sim_ticket_reads(ticket))
		sim_reads_dropped(machine->sim, machine->member, ticket);
	refuse(machine->sim, machine->member, ticket, why);
}

static void machine_readable(void *arg, uint64_t ticket)
{
	struct machine *machine = arg;
	struct sim *sim = machine->sim;
	struct kv_value value;
	uint8_t name[SIM_KEY_SIZE];
	struct kv_stats stats;
	const struct kv_store *store = sim->members[machine->member].store;
	kv_store_stats(store, &stats);
	struct sim_answer reply = {.ticket = ticket, .place = stats.applied};
	sim_key_name(sim_ticket_key(ticket), name);
	bool found = kv_store_get(store, name, sizeof name, &value);
	if (found)
		reply.revision = value.revision;
	sim_progress_answered(sim, machine->member, ticket);
	sim_reads_answered(sim, machine->member, ticket);
	answer(sim, machine->member, &reply, found ? &value : NULL);
}

static void machine_log(void *arg, const struct replicator_event *event)
{
	struct machine *machine = arg;
	if (strcmp(event->name, "torn-tail") == 0)
		machine->sim->counts.torn_tails++;
	if (strcmp(event->name, "bad-frame") == 0 || strcmp(event->name, "bad-message") == 0)
		sim_progress_refused(machine->sim, machine->member);
	if (strcmp(event->name, "snapshot-refused") == 0)
		sim_offers_refused(machine->sim, machine->member, event->index);
	sim_note(machine->sim, "%u log %s: %s", machine->member + 1, event->name, event->text);
}

static uint64_t machine_state_hash(void *arg)
{
	struct machine *machine = arg;
	const struct sim_member *member = &machine->sim->members[machine->member];
	return kv_store_hash(member->store) ^ member->wrong_state;
}

static const struct replicator_machine machine_table = {
	.snapshot_take = sim_machine_snapshot_take,
	.snapshot_read = sim_machine_snapshot_read,
	.snapshot_free = sim_machine_snapshot_free,
	.restore_begin = sim_machine_restore_begin,
	.restore_feed = sim_machine_restore_feed,
	.restore_end = sim_machine_restore_end,
	.state_hash = machine_state_hash,
	.apply = machine_apply,
	.dropped = machine_dropped,
	.readable = machine_readable,
	.unreadable = machine_dropped,
	.log = machine_log,
};

unsigned sim_members(const struct sim *sim)
{
	uint64_t n = sim->plan.members + sim->plan.spares;
	return n < SIM_MEMBERS_MAX ? (unsigned)n : SIM_MEMBERS_MAX;
}

static void add_founder(const struct sim *sim, struct raft_config *founders, unsigned member)
{
	struct raft_config_member *founder = &founders->members[founders->n_members++];
	*founder = (struct raft_config_member){.id = member + 1, .role = RAFT_MEMBER_JOINING};
	sim_endpoint_name(sim, member, founder->peer_endpoint);
}

struct raft_options sim_raft_options(const struct sim *sim, unsigned member)
{
	return (struct raft_options){.id = member + 1,
				     .heartbeat_us = sim->plan.heartbeat_us,
				     .election_timeout_min_us = sim->plan.election_min_us,
				     .election_timeout_max_us =
					     sim->plan.election_min_us + sim->plan.election_spread_us,
				     .batch_bytes_max = (uint32_t)sim->plan.batch_bytes,
				     .window_bytes_max = (uint32_t)sim->plan.window_bytes,
				     .uncommitted_bytes_max = sim->plan.uncommitted_bytes};
}

struct storage_options sim_storage_options(const struct sim *sim, unsigned member)
{
	return (struct storage_options){.cluster_id = SIM_CLUSTER,
					.member_id = member + 1,
					.incarnation = 1, /* drawn at each start */
					.segment_size = (uint32_t)sim->plan.segment_pages * 4096,
					.cache_bytes_max = sim->plan.cache_bytes};
}

struct replica_options sim_member_options(const struct sim *sim, unsigned member)
{
	struct replica_options options = {.cluster = SIM_CLUSTER};
	/* Most operators keep the file up to date: later it names the spares, too. Others add the member itself, no more. */
	bool all = sim->founded && sim->plan.old_files == 0;
	for (unsigned k = 0; k < sim_members(sim); k++)
		if (all || k < sim->plan.members || (k == member && sim->founded))
			add_founder(sim, &options.founders, k);
	options.snapshot_log_bytes = sim->plan.snapshot_log_bytes;
	options.snapshot_log_percent = 100;
	options.apply_entries_max = (uint32_t)sim->plan.apply_entries;
	options.checkpoint_entries = sim->plan.checkpoint_entries;
	options.heal = sim->plan.heal != 0;
	options.level_max = sim_level_of_program(sim, member);
	if (options.level_max == RAFT_LEVEL_MAX)
		options.level_max = 0; /* as raftd leaves it */
	options.raft = sim_raft_options(sim, member);
	options.storage = sim_storage_options(sim, member);
	return options;
}

/* Who belongs to the cluster -------------------------------------------------------------------------- */

static void view_fill(struct sim_view *view, const struct raft *core, const struct raft_config *config, uint64_t index)
{
	*view = (struct sim_view){.index = index, .term = raft_term_at(core, index), .level = config->level};
	for (unsigned k = 0; k < config->n_members; k++) {
		const struct raft_config_member *member = &config->members[k];
		raft_assert(member->id >= 1 && member->id <= SIM_MEMBERS_MAX);
		view->members |= 1u << (member->id - 1);
		if (member->role == RAFT_MEMBER_VOTER)
			view->voters |= 1u << (member->id - 1);
		view->incarnations[member->id - 1] = member->incarnation;
	}
}

/* What the member's log says, and what it knows of it to be committed. */
static void view_update(struct sim *sim, unsigned number)
{
	const struct raft *core = replica_core(sim->members[number].replica);
	struct sim_view *view = &sim->members[number].view;
	struct raft_status status;
	uint64_t index = 0;
	raft_get_own_status(core, &status);
	const struct raft_config *config = raft_config_at(core, status.last_index, &index);
	if (config != NULL)
		sim_level_seen(sim, number, config, index);
	if (config != NULL && (index != view->index || raft_term_at(core, index) != view->term)) {
		view_fill(view, core, config, index);
		sim->members[number].follows_anew = true;
	}
	config = raft_config_at(core, status.commit, &index);
	if (config == NULL || index <= sim->committed.index)
		return;
	view_fill(&sim->committed, core, config, index);
	sim->ever |= sim->committed.members;
	uint32_t founders = (1u << sim->plan.members) - 1;
	if (!sim->founded && (sim->committed.voters & founders) == founders) {
		sim->founded = true;
		sim_note(sim, "all founders are voters");
	}
}

bool sim_member_belongs(const struct sim *sim, unsigned number)
{
	return ((sim->committed.members >> number) & 1) != 0 && !sim->members[number].lost;
}

/* It votes, and has all that it voted and wrote. */
static bool is_whole(const struct sim *sim, unsigned number)
{
	const struct sim_member *member = &sim->members[number];
	return ((sim->committed.voters >> number) & 1) != 0 && !member->lost && !member->expendable &&
	       sim->committed.incarnations[number] == member->incarnation;
}

bool sim_member_is_warned(const struct sim *sim, unsigned number)
{
	if (sim->plan.old_files == 0 || number >= sim->plan.members)
		return true;
	for (unsigned k = 0; k < sim->plan.members; k++)
		if (k != number && is_whole(sim, k))
			return true;
	return false;
}

/* Turns ----------------------------------------------------------------------------------------------- */

static void schedule_wake(struct sim *sim, unsigned number)
{
	struct sim_member *member = &sim->members[number];
	uint64_t now_us = sim_clock_us(sim, number);
	uint64_t deadline = replica_deadline_us(member->replica);
	/* One that applies a few entries at a time does other things in between. */
	uint64_t soonest_us = now_us + (sim->plan.apply_entries > 0 ? APPLY_PAUSE_US : 0);
	if (deadline < soonest_us)
		deadline = soonest_us;
	if (deadline == UINT64_MAX || (member->wake_us > now_us && member->wake_us <= deadline))
		return;
	member->wake_us = deadline;
	sim_schedule(sim, sim_clock_until(sim, number, deadline),
		     (struct sim_event){.type = SIM_WAKE, .member = number, .life = member->life, .number = deadline});
}

/* Clocks drift, so twice as long as their turns are apart. */
uint64_t sim_members_apply_us(const struct sim *sim)
{
	uint64_t most = 0, at_once = sim->plan.apply_entries;
	for (unsigned k = 0; k < sim_members(sim) && at_once > 0; k++) {
		struct replicator_status status;
		if (!sim->members[k].up || !sim_member_belongs(sim, k))
			continue;
		replica_get_status(sim->members[k].replica, &status);
		if (status.commit > status.applied && status.commit - status.applied > most)
			most = status.commit - status.applied;
	}
	return at_once > 0 ? 2 * APPLY_PAUSE_US * ((most + at_once - 1) / at_once) : 0;
}

/* Each of its turns costs a slow member time; what happens meanwhile waits for the next. */
static bool is_busy(struct sim *sim, unsigned number)
{
	struct sim_member *member = &sim->members[number];
	uint64_t mark = ~member->busy_until_us; /* no deadline is that late */
	if (sim->now_us >= member->busy_until_us) {
		if (sim->now_us < member->slow_until_us)
			member->busy_until_us = sim->now_us + member->slow_us;
		return false;
	}
	if (member->wake_us != mark)
		sim_schedule(
			sim, member->busy_until_us - sim->now_us,
			(struct sim_event){.type = SIM_WAKE, .member = number, .life = member->life, .number = mark});
	member->wake_us = mark;
	return true;
}

bool sim_member_listens(const struct sim *sim, unsigned number)
{
	const struct sim_member *member = &sim->members[number];
	return member->up && !member->paused && sim->now_us >= member->busy_until_us;
}

bool sim_member_operation(struct sim *sim, unsigned number)
{
	struct sim_member *member = &sim->members[number];
	if (member->dying)
		return false;
	if (!member->doom.armed)
		return true;
	if (member->doom.operations_left > 0) {
		member->doom.operations_left--;
		return true;
	}
	member->dying = true;
	return false;
}

/* Down time is drawn by whoever armed the death. */
static void die(struct sim *sim, unsigned number)
{
	struct sim_doom doom = sim->members[number].doom;
	sim_member_crash(sim, number, doom.how);
	sim_fault_restart(sim, number, doom.down_us);
}

/* The replica refuses to go on: only a failing disk is a reason. As its service manager would, we start it again. */
static void stop(struct sim *sim, unsigned number, int why)
{
	struct sim_member *member = &sim->members[number];
	sim_note(sim, "%u stops: %d", number + 1, why);
	bool excused = why == REPLICATOR_E_DAMAGED ? sim_platter_damaged(member->disk_files)
		       : why == REPLICATOR_E_LEVEL
			       ? sim_level_refused(sim, number)
			       : why < 0 && why != -ENOSPC && sim_platter_excused(member->disk_files);
	if (!excused)
		sim_fail(sim, "member %u stops with %d, and its disk did nothing wrong", number + 1, why);
	sim->counts.stops++;
	sim_member_crash(sim, number, SIM_KILL);
	sim_fault_restart(sim, number, 100000 + sim_random_below(&sim->random_member, 1000000));
}

/* It was removed, knows it and stops. Some operators start it again all the same; all do who have made it a member since, before it
 * could hear of that. */
static void leave(struct sim *sim, unsigned number)
{
	struct sim_member *member = &sim->members[number];
	bool again = ((sim->committed.members >> number) & 1) != 0;
	sim_note(sim, "%u was removed and stops", number + 1);
	if (again && !sim_check_left_out(sim, number))
		sim_fail(sim, "member %u says that it was removed, and it was not", number + 1);
	member->removed = true;
	sim->counts.departures++;
	sim_member_crash(sim, number, SIM_KILL);
	if (again)
		sim_fault_restart(sim, number, 100000 + sim_random_below(&sim->random_member, 1000000));
	else if (!sim->calm && sim_random_below(&sim->random_member, 2) == 0)
		sim_fault_restart(sim, number, 100000 + sim_random_below(&sim->random_member, 20000000));
}

/* How long a wrong hash may be on its way, or in somebody's memory, after the member that had it is gone: a leader that sleeps, up to
 * a minute, finds it in its socket when it wakes, or remembers it, and judges before it looks whether it still leads. */
#define WRONG_HASH_US 90000000u

/* Its state differs from the others', or nobody can say whose is right. As its directory is good, it starts again. */
static void diverge(struct sim *sim, unsigned number)
{
	bool somebody = sim->now_us < sim->wrong_until_us;
	for (unsigned k = 0; k < sim_members(sim); k++)
		somebody |= sim->members[k].wrong_state;
	sim_note(sim, "%u stops: its state differs from the others'", number + 1);
	if (!somebody)
		sim_fail(sim, "member %u says that its state differs, and all are equal", number + 1);
	sim->counts.divergences++;
	sim->diverged_us = sim->now_us;
	sim_member_crash(sim, number, SIM_KILL);
	sim_fault_restart(sim, number, 100000 + sim_random_below(&sim->random_member, 1000000));
}

/* What a turn decided was decided even if the member does not outlive it: some of its frames have left. */
static void end_turn(struct sim *sim, unsigned number, int r)
{
	sim_check_turn(sim, number);
	sim_leases_turn(sim, number);
	if (sim->members[number].follows_anew || sim->members[number].unconnected_us != 0)
		sim_places_turn(sim, number);
	view_update(sim, number);
	if (sim->members[number].dying) {
		sim->counts.deaths_within++;
		die(sim, number);
		return;
	}
	if (r != 0)
		sim_check_stopped(sim, number, r);
	if (r == REPLICATOR_E_REMOVED) {
		leave(sim, number);
		return;
	}
	if (r == REPLICATOR_E_DIVERGED) {
		diverge(sim, number);
		return;
	}
	if (r != 0) {
		stop(sim, number, r);
		return;
	}
	schedule_wake(sim, number);
}

/* False: not now. */
static bool take_turn(struct sim *sim, unsigned number)
{
	struct sim_member *member = &sim->members[number];
	if (!member->up || member->paused || is_busy(sim, number))
		return false;
	uint64_t now_us = sim_clock_us(sim, number);
	uint64_t read_us = member->stopped_us != 0 ? member->stopped_us : now_us;
	int r = replica_process(member->replica, read_us, sim_clock_wall_ms(sim, number));
	replica_settle(member->replica, now_us);
	member->goes_on = r == 0;
	end_turn(sim, number, r);
	member->goes_on = false;
	return true;
}

void sim_member_turn(struct sim *sim, unsigned number)
{
	(void)take_turn(sim, number); /* else the wake-up that is due comes back to it */
}

/* Starting and dying ---------------------------------------------------------------------------------- */

static void release(struct sim_member *member)
{
	member->replica = replica_free(member->replica);
	kv_pins_fini(&member->pins);
	member->store = kv_store_free(member->store);
	member->transport = NULL;
	if (member->machine != NULL)
		kv_store_load_free(((struct machine *)member->machine)->loader);
	free(member->machine);
	member->machine = NULL;
	member->up = false;
	member->paused = false;
	member->stopped_us = 0;
	member->n_held_reads = 0;
	member->dying = false;
	member->follows_anew = false;
	member->unconnected_us = 0;
	member->wrong_state = false;
	member->spoilt = false;
	member->doom.armed = false;
}

static void excuse_start(struct sim *sim, unsigned number, int why, const char *message)
{
	const struct disk *files = sim->members[number].disk_files;
	if (why == REPLICATOR_E_DAMAGED ? !sim_platter_damaged(files) : !sim_platter_excused(files))
		sim_fail(sim, "member %u does not start: %d %s", number + 1, why, message);
}

static void refuse_start(struct sim *sim, unsigned number, int why, const char *message)
{
	struct sim_member *member = &sim->members[number];
	sim_note(sim, "%u does not start: %d %s", number + 1, why, message);
	bool waits = sim_promises_refused(sim, number, why);
	if (!waits && (why != REPLICATOR_E_LEVEL || !sim_level_refused(sim, number)))
		excuse_start(sim, number, why, message);
	sim_platter_crash(member->disk_files, SIM_KILL);
	release(member);
	if (why == REPLICATOR_E_DAMAGED) {
		member->lost = true;
		sim->counts.lost_members++;
		return;
	}
	sim->counts.refused_starts++;
	if (waits)
		sim_fault_restart(sim, number, member->promises_over_us - sim->now_us);
	else
		sim_fault_restart(sim, number, 100000 + sim_random_below(&sim->random_member, 1000000));
}

static int open_replica(struct sim *sim, unsigned number, char *message)
{
	struct sim_member *member = &sim->members[number];
	static const struct replicator_machine *const table = &machine_table;
	struct replica_options options = sim_member_options(sim, number);
	options.seed = sim_random_u64(&sim->random_member);
	options.storage.incarnation = sim_random_u64(&sim->random_member) | 1;
	sim_promises_choose(sim, number, &options.raft);
	member->snapshot_log_bytes = options.snapshot_log_bytes;
	kv_pins_init(&member->pins);
	member->store = kv_store_new();
	member->transport = sim_transport_new(sim, number);
	member->machine = machine_new(sim, number);
	raft_assert(member->store != NULL);
	struct disk *disk = sim_platter_open(member->disk_files);
	if (is_whole(sim, number) || sim_member_is_warned(sim, number))
		sim_platter_tidy_up(disk);
	return replica_open(&options, disk, member->transport, table, member->machine, sim_clock_us(sim, number),
			    &member->replica, message);
}

void sim_member_start(struct sim *sim, unsigned number)
{
	struct sim_member *member = &sim->members[number];
	char message[REPLICATOR_MESSAGE_MAX];
	raft_assert(!member->up && !member->lost);
	sim_promises_await(sim, number);
	member->absent = false;
	member->life++;
	member->wake_us = 0;
	member->busy_until_us = 0;
	if (member->doom.in_recovery)
		member->doom.armed = true;
	member->doom.in_recovery = false;
	int r = open_replica(sim, number, message);
	if (member->dying) {
		sim->counts.deaths_in_recovery++;
		die(sim, number);
		return;
	}
	if (r != 0) {
		refuse_start(sim, number, r, message);
		return;
	}
	struct replicator_status status;
	if (sim_platter_set_aside(member->disk_files)) {
		sim->counts.set_aside++;
		sim_durable_restart(sim, number);
	}
	replica_get_status(member->replica, &status);
	member->incarnation = status.incarnation;
	member->up = true;
	member->went_on_us = sim->now_us;
	member->view = (struct sim_view){0}; /* what its last life knew may never have reached the disk */
	view_update(sim, number);
	member->started_us = sim_clock_us(sim, number);
	sim_check_started(sim, number);
	sim_level_started(sim, number); /* by now the checks know which snapshot it has begun with */
	sim_promises_started(sim, number);
	sim_progress_started(sim, number);
	sim_reads_started(sim, number);
	sim_leases_started(sim, number);
	sim_note(sim, "%u starts", number + 1);
	sim_network_member_starts(sim, number);
	sim_member_turn(sim, number);
}

void sim_member_crash(struct sim *sim, unsigned number, enum sim_crash how)
{
	struct sim_member *member = &sim->members[number];
	sim_note(sim, "%u %s", number + 1, how == SIM_KILL ? "is killed" : "loses power");
	if (member->up)
		sim_check_proved(sim, number);
	sim_platter_crash(member->disk_files, how);
	if (member->wrong_state)
		sim->wrong_until_us = sim->now_us + WRONG_HASH_US;
	release(member);
	member->older_level = 0; /* it was for this life */
	sim_snapshots_release(sim, number);
	if (how == SIM_POWER_CUT)
		sim_clock_reset(sim, number);
	sim->counts.crashes++;
	if (how == SIM_KILL)
		sim->counts.kills++;
	else
		sim->counts.power_cuts++;
	sim_network_member_ends(sim, number);
}

void sim_members_new(struct sim *sim)
{
	for (unsigned k = 0; k < sim_members(sim); k++) {
		sim->members[k].id = k + 1;
		sim->members[k].absent = true;
		sim->members[k].level = sim_level_at_first(&sim->plan, k);
		sim->members[k].disk_files = sim_platter_new(sim, k);
	}
	for (unsigned k = 0; k < sim->plan.members; k++)
		sim_member_start(sim, k);
}

void sim_members_free(struct sim *sim)
{
	for (unsigned k = 0; k < sim_members(sim); k++) {
		release(&sim->members[k]);
		sim_platter_free(sim->members[k].disk_files);
	}
}

/* Requests -------------------------------------------------------------------------------------------- */

/* What the call left to do is done at once, as the daemon's loop does. A slow member has no time for it yet; what the call did
 * to its log is done. */
static void go_on(struct sim *sim, unsigned number, int r)
{
	if (sim->members[number].dying || r < 0)
		end_turn(sim, number, r);
	else if (!take_turn(sim, number))
		end_turn(sim, number, 0);
}

void sim_member_transfer(struct sim *sim, unsigned number, uint64_t target)
{
	int r = replica_transfer(sim->members[number].replica, target, sim_clock_us(sim, number));
	sim_note(sim, "%u is asked to hand over: %s", number + 1, replicator_result_name(r));
	go_on(sim, number, r);
}

int sim_member_change(struct sim *sim, unsigned number, const struct replicator_change *change)
{
	static const char *const names[] = {"", "add", "remove", "promote", "move"};
	uint64_t index = 0;
	int r = replica_change(sim->members[number].replica, change, sim_clock_us(sim, number),
			       sim_clock_wall_ms(sim, number), &index);
	sim_note(sim, "%u is asked to %s member %llu: %s, entry %llu", number + 1, names[change->type],
		 (unsigned long long)change->id, replicator_result_name(r), (unsigned long long)index);
	if (r == 0)
		sim->counts.changes++;
	go_on(sim, number, r);
	return r;
}

int sim_member_bootstrap(struct sim *sim, unsigned number)
{
	int r = replica_bootstrap(sim->members[number].replica, sim_clock_us(sim, number),
				  sim_clock_wall_ms(sim, number));
	sim_note(sim, "%u is told to found the cluster: %s", number + 1, replicator_result_name(r));
	go_on(sim, number, r);
	return r;
}

void sim_member_snapshot(struct sim *sim, unsigned number)
{
	int r = replica_snapshot(sim->members[number].replica);
	sim_note(sim, "%u is asked for a snapshot: %s", number + 1, replicator_result_name(r));
	go_on(sim, number, r);
}

void sim_member_write(struct sim *sim, unsigned number, uint64_t first_ticket,
		      const struct replicator_command *commands, uint32_t n)
{
	struct sim_member *member = &sim->members[number];
	if (!sim_member_listens(sim, number))
		return;
	int r = replica_propose(member->replica, commands, n, first_ticket, sim_clock_us(sim, number),
				sim_clock_wall_ms(sim, number));
	if (r == 0) {
		sim_check_write_taken(sim, number);
		sim_progress_asked(sim, number, first_ticket, n);
	}
	for (uint32_t k = 0; r > 0 && k < n; k++)
		refuse(sim, number, first_ticket + k, r);
	go_on(sim, number, r);
}

void sim_member_read(struct sim *sim, unsigned number, uint64_t ticket)
{
	struct sim_member *member = &sim->members[number];
	if (member->up && member->paused && member->n_held_reads < SIM_HELD_READS)
		member->held_reads[member->n_held_reads++] = ticket;
	if (!sim_member_listens(sim, number))
		return;
	int r = replica_read(member->replica, ticket, sim_clock_us(sim, number));
	if (r == 0) {
		sim_progress_asked(sim, number, ticket, 1);
		sim_reads_asked(sim, number, ticket);
	}
	if (r > 0)
		refuse(sim, number, ticket, r);
	go_on(sim, number, r);
}

/* Stopped and going on -------------------------------------------------------------------------------- */

/* By SIGSTOP, or because its machine sleeps. within_turn: it had read its clock, and takes the turn up from there. */
void sim_member_pause(struct sim *sim, unsigned number, bool within_turn)
{
	struct sim_member *member = &sim->members[number];
	raft_assert(member->up && !member->paused);
	sim_note(sim, "%u pauses%s", number + 1, within_turn ? " within a turn" : "");
	member->paused = true;
	member->stopped_us = within_turn ? sim_clock_us(sim, number) : 0;
}

/* What clients asked meanwhile is taken first, as the daemon's loop does, unless it was in the middle of a turn. */
void sim_member_resume(struct sim *sim, unsigned number)
{
	struct sim_member *member = &sim->members[number];
	uint64_t reads[SIM_HELD_READS];
	unsigned n = member->n_held_reads, life = member->life;
	raft_assert(member->up && member->paused);
	memcpy(reads, member->held_reads, sizeof reads);
	member->n_held_reads = 0;
	member->paused = false;
	member->went_on_us = sim->now_us;
	sim_note(sim, "%u resumes", number + 1);
	if (member->stopped_us != 0)
		sim_member_turn(sim, number);
	member->stopped_us = 0;
	for (unsigned k = 0; k < n && member->up && member->life == life; k++)
		sim_member_read(sim, number, reads[k]);
	if (member->up && member->life == life)
		sim_member_turn(sim, number);
}
