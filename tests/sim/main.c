/* raft-sim: options, the schedule of faults, the verdict. */
#include "sim.h"

#include "daemon/assert.h"
#include "daemon/config/config.h"

#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum fault { FAULT_CRASH, FAULT_PARTITION, FAULT_PAUSE, FAULT_TRANSFER };

#define CALM_US 5000000u /* after the faults: long enough for many elections */

static struct sim_plan plan_from_seed(struct sim_random *random, uint64_t span_us)
{
	static const unsigned sizes[] = {3, 3, 5, 5, 7, 1};
	struct sim_plan plan = {.span_us = span_us};
	plan.n_members = sizes[sim_random_below(random, 6)];
	plan.n_clients = 1 + (unsigned)sim_random_below(random, SIM_CLIENTS_MAX);
	plan.delay_min_us = 50 + sim_random_below(random, 500);
	plan.delay_max_us = plan.delay_min_us + sim_random_below(random, 20000);
	plan.loss = sim_random_below(random, 3) == 0 ? 0 : (uint32_t)sim_random_below(random, 100000);
	plan.duplication = sim_random_below(random, 3) == 0 ? 0 : (uint32_t)sim_random_below(random, 100000);
	plan.sync_min_us = 50 + sim_random_below(random, 200);
	plan.sync_max_us = plan.sync_min_us + sim_random_below(random, 10000);
	plan.stall = sim_random_below(random, 4) == 0 ? (uint32_t)sim_random_below(random, 2000) : 0;
	plan.crash_every_us = sim_random_below(random, 5) == 0 ? 0 : 200000 + sim_random_below(random, 3000000);
	plan.partition_every_us = sim_random_below(random, 4) == 0 ? 0 : 300000 + sim_random_below(random, 3000000);
	plan.pause_every_us = sim_random_below(random, 3) == 0 ? 0 : 500000 + sim_random_below(random, 4000000);
	plan.heartbeat_us = 50000;
	plan.election_min_us = 150000;
	plan.election_max_us = 300000;
	return plan;
}

static void schedule_fault(struct sim *sim, enum fault fault, uint64_t every_us)
{
	if (every_us > 0)
		sim_schedule(sim, 1 + sim_random_below(&sim->random, 2 * every_us),
			     (struct sim_event){.type = SIM_FAULT, .number = fault});
}

static void fault_crash(struct sim *sim)
{
	unsigned member = (unsigned)sim_random_below(&sim->random, sim->plan.n_members);
	bool all = sim_random_below(&sim->random, 10) == 0;
	for (unsigned k = 0; k < sim->plan.n_members; k++) {
		if (!sim->members[k].up || (!all && k != member))
			continue;
		sim_member_crash(sim, k);
		sim_schedule(sim,
			     1000 + sim_random_below(&sim->random,
						     sim_random_below(&sim->random, 4) == 0 ? 5000000 : 300000),
			     (struct sim_event){.type = SIM_RESTART, .member = k});
	}
}

static void fault_partition(struct sim *sim)
{
	sim->n_partitions++;
	sim_note(sim, "partition");
	bool one_way = sim_random_below(&sim->random, 2) == 0;
	uint64_t side = sim_random_u64(&sim->random);
	for (unsigned a = 0; a < sim->plan.n_members; a++)
		for (unsigned b = 0; b < sim->plan.n_members; b++) {
			bool apart = ((side >> a) & 1) != ((side >> b) & 1);
			if (apart && (!one_way || ((side >> a) & 1) != 0))
				sim->cut[a][b] = true;
		}
	sim_schedule(sim, 50000 + sim_random_below(&sim->random, 2000000), (struct sim_event){.type = SIM_HEAL});
}

static void fault_pause(struct sim *sim)
{
	unsigned member = (unsigned)sim_random_below(&sim->random, sim->plan.n_members);
	if (!sim->members[member].up || sim->members[member].paused)
		return;
	sim->n_pauses++;
	sim_note(sim, "%u pauses", member + 1);
	sim->members[member].paused = true;
	sim_schedule(sim, 1000 + sim_random_below(&sim->random, 2000000),
		     (struct sim_event){.type = SIM_RESUME, .member = member, .life = sim->members[member].life});
}

static void fault_transfer(struct sim *sim)
{
	unsigned member = (unsigned)sim_random_below(&sim->random, sim->plan.n_members);
	if (!sim->members[member].up || sim->members[member].paused)
		return;
	uint64_t target = sim_random_below(&sim->random, sim->plan.n_members + 1);
	int r = replica_transfer(sim->members[member].replica, target, sim->now_us);
	sim_note(sim, "%u is asked to hand over: %s", member + 1, replicator_result_name(r));
	sim_member_turn(sim, member);
}

static void run_fault(struct sim *sim, enum fault fault)
{
	if (sim->calm)
		return;
	switch (fault) {
	case FAULT_CRASH:
		fault_crash(sim);
		schedule_fault(sim, fault, sim->plan.crash_every_us);
		break;
	case FAULT_PARTITION:
		fault_partition(sim);
		schedule_fault(sim, fault, sim->plan.partition_every_us);
		break;
	case FAULT_PAUSE:
		fault_pause(sim);
		schedule_fault(sim, fault, sim->plan.pause_every_us);
		break;
	case FAULT_TRANSFER:
		fault_transfer(sim);
		schedule_fault(sim, fault, 2000000);
		break;
	}
}

static void resume(struct sim *sim, unsigned member)
{
	if (!sim->members[member].paused)
		return;
	sim->members[member].paused = false;
	sim_note(sim, "%u resumes", member + 1);
	sim_member_turn(sim, member);
}

static void deliver(struct sim *sim, struct sim_event *event)
{
	struct sim_member *member = &sim->members[event->member];
	bool frame = event->type == SIM_FRAME;
	bool lost = !member->up || (frame && sim->cut[event->number][event->member]) ||
		    (!frame && member->life != event->life);
	if (lost) {
		free(event->data);
		return;
	}
	sim_transport_deliver(member->transport, event);
	sim_member_turn(sim, event->member);
}

static void handle(struct sim *sim, struct sim_event *event)
{
	struct sim_member *member = event->member < SIM_MEMBERS_MAX ? &sim->members[event->member] : NULL;
	switch (event->type) {
	case SIM_FRAME:
	case SIM_LINK:
		deliver(sim, event);
		return;
	case SIM_DISK:
		if (!member->up || member->life != event->life)
			return;
		sim_disk_event(member->disk_files, event->number);
		sim_member_turn(sim, event->member);
		return;
	case SIM_WAKE:
		if (!member->up || member->life != event->life || member->wake_us != event->number)
			return;
		member->wake_us = 0;
		sim_member_turn(sim, event->member);
		return;
	case SIM_CLIENT:
		if (sim->clients[event->member].attempt == event->number)
			sim_client_next(sim, event->member);
		return;
	case SIM_ANSWER:
		sim_client_answer(sim, event->member, (const struct sim_answer *)(const void *)event->data);
		free(event->data);
		return;
	case SIM_FAULT:
		run_fault(sim, (enum fault)event->number);
		return;
	case SIM_RESTART:
		if (!member->up)
			sim_member_start(sim, event->member);
		return;
	case SIM_RESUME:
		if (member->life == event->life)
			resume(sim, event->member);
		return;
	case SIM_HEAL:
		memset(sim->cut, 0, sizeof sim->cut);
		sim_note(sim, "healed");
		return;
	}
}

static void become_calm(struct sim *sim)
{
	sim->calm = true;
	memset(sim->cut, 0, sizeof sim->cut);
	sim_note(sim, "calm");
	for (unsigned k = 0; k < sim->plan.n_members; k++) {
		if (!sim->members[k].up)
			sim_member_start(sim, k);
		resume(sim, k);
	}
}

static void world_start(struct sim *sim)
{
	for (unsigned k = 0; k < sim->plan.n_members; k++) {
		sim->members[k].id = k + 1;
		sim->members[k].disk_files = sim_platter_new(sim, k);
		sim_member_start(sim, k);
	}
	for (unsigned k = 0; k < sim->plan.n_clients; k++) {
		sim->clients[k].id = k;
		sim_schedule(sim, 1 + k, (struct sim_event){.type = SIM_CLIENT, .member = k});
	}
	schedule_fault(sim, FAULT_CRASH, sim->plan.crash_every_us);
	schedule_fault(sim, FAULT_PARTITION, sim->plan.partition_every_us);
	schedule_fault(sim, FAULT_PAUSE, sim->plan.pause_every_us);
	schedule_fault(sim, FAULT_TRANSFER, 2000000);
}

static void world_end(struct sim *sim)
{
	for (unsigned k = 0; k < sim->plan.n_members; k++) {
		replica_free(sim->members[k].replica);
		kv_store_free(sim->members[k].store);
		sim_platter_free(sim->members[k].disk_files);
		free(sim->members[k].machine);
	}
	for (size_t k = 0; k < sim->heap_len; k++)
		free(sim->heap[k].data);
	free(sim->heap);
	free(sim->committed);
	free(sim->leader_of_term);
	(void)XXH3_freeState(sim->history);
}

static void run_seed(uint64_t seed, uint64_t span_us, bool trace)
{
	struct sim *sim = calloc(1, sizeof *sim);
	struct sim_event event;
	uint64_t done_before_calm = 0;
	raft_assert(sim != NULL);
	sim->random.state = seed;
	sim->trace = trace;
	sim->now_us = 1000000;
	sim->history = XXH3_createState();
	raft_assert(sim->history != NULL);
	(void)XXH3_64bits_reset(sim->history);
	sim->plan = plan_from_seed(&sim->random, span_us);
	world_start(sim);
	while (sim->now_us < span_us + CALM_US && sim_next(sim, &event)) {
		if (!sim->calm && sim->now_us >= span_us) {
			done_before_calm = sim->n_answers;
			become_calm(sim);
		}
		handle(sim, &event);
	}
	sim_check_calm(sim);
	if (sim->n_answers <= done_before_calm)
		sim_fail(sim, "liveness: no client was answered after the calm");
	printf("seed %" PRIu64 ": ok, %u members, %" PRIu64 " events, %" PRIu64 " answers, %" PRIu64
	       " elections, %" PRIu64 " crashes, %" PRIu64 " partitions, %" PRIu64 " pauses, history %016" PRIx64 "\n",
	       seed, sim->plan.n_members, sim->n_events, sim->n_answers, sim->n_elections, sim->n_crashes,
	       sim->n_partitions, sim->n_pauses, (uint64_t)XXH3_64bits_digest(sim->history));
	world_end(sim);
	free(sim);
}

/* Each seed in a process of its own, so that a broken invariant ends one run and not the others. */
static bool run_apart(uint64_t seed, uint64_t span_us)
{
	int status;
	(void)fflush(stdout);
	pid_t child = fork();
	if (child == 0) {
		run_seed(seed, span_us, false);
		(void)fflush(stdout);
		_exit(0);
	}
	raft_assert(child > 0);
	pid_t ended = waitpid(child, &status, 0);
	raft_assert(ended == child);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return true;
	printf("seed %" PRIu64 ": FAILED; replay with: raft-sim --seed %" PRIu64 " --seconds %" PRIu64 " --trace\n",
	       seed, seed, span_us / 1000000);
	return false;
}

static bool parse_range(const char *text, uint64_t *first, uint64_t *last)
{
	char copy[64];
	if (strlen(text) >= sizeof copy)
		return false;
	strcpy(copy, text);
	char *dash = strchr(copy, '-');
	if (dash == NULL)
		return false;
	*dash = '\0';
	return config_parse_u64(copy, 0, UINT64_MAX, first) && config_parse_u64(dash + 1, *first, UINT64_MAX, last);
}

static int usage(void)
{
	fputs("usage: raft-sim --seed N [--trace] | --seeds A-B  [--seconds SIMULATED]\n", stderr);
	return 64;
}

int main(int argc, char **argv)
{
	static const struct option longs[] = {{"seed", required_argument, NULL, 's'},
					      {"seeds", required_argument, NULL, 'S'},
					      {"seconds", required_argument, NULL, 't'},
					      {"trace", no_argument, NULL, 'T'},
					      {NULL, 0, NULL, 0}};
	uint64_t first = 1, last = 0, seconds = 60;
	bool trace = false, single = false;
	uint64_t failed = 0;
	int option;
	while ((option = getopt_long(argc, argv, "", longs, NULL)) != -1) {
		bool good = true;
		switch (option) {
		case 's':
			good = single = config_parse_u64(optarg, 0, UINT64_MAX, &first);
			break;
		case 'S':
			good = parse_range(optarg, &first, &last);
			break;
		case 't':
			good = config_parse_u64(optarg, 1, 1000000, &seconds);
			break;
		case 'T':
			trace = true;
			break;
		default:
			good = false;
		}
		if (!good)
			return usage();
	}
	if (optind < argc || (!single && last < first))
		return usage();
	if (single) {
		run_seed(first, seconds * 1000000, trace);
		return 0;
	}
	for (uint64_t seed = first; seed <= last; seed++)
		failed += !run_apart(seed, seconds * 1000000);
	printf("%" PRIu64 " passed, %" PRIu64 " failed\n", last - first + 1 - failed, failed);
	return failed > 0;
}
