/*
 * A few whole members in one test: replicas over disks in memory, frames that pass through queues, and one clock that the
 * test moves. Each millisecond every disk does all that it was asked and every member has one turn.
 *
 * The simulator looks for what nobody thought of; here a test says exactly what goes wrong, and when.
 */
#ifndef RAFT_KV_TESTS_REPLICA_CLUSTER_H
#define RAFT_KV_TESTS_REPLICA_CLUSTER_H

#include "daemon/replicator/replica.h"
#include "daemon/transport/wire.h"
#include "tests/unit/memory_disk.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define NODES_MAX 5u
#define NODE_STATE_SIZE 2000u /* bytes of a snapshot, without what fills it up */

struct frame {
	struct frame *next;
	size_t len;
	uint8_t bytes[];
};

struct node {
	struct replica_cluster *cluster;
	unsigned id; /* from 1 */
	struct memory_disk *disk;
	struct replica *replica; /* NULL: down */
	int result;		 /* of its last turn, or of its start */
	char message[REPLICATOR_MESSAGE_MAX];
	char journal[64 * 1024]; /* "event text" lines, since the test began */
	bool cut;		 /* from the network */
	bool deaf;		 /* what is sent to it waits */
	bool background_hangs;	 /* its disk does nothing but the log's jobs */
	unsigned log_step_ms;	 /* and one step of those that seldom; 0: all at once */
	unsigned level_max;	 /* feature levels that its program knows; 0: all */
	unsigned file;		 /* bit k: member k stands in its configuration file; 0: all do */
	unsigned connected;	 /* bit k: it was told where member k is */
	unsigned told_moved;	 /* … and that it is at "moved:k", not "test:k" */
	bool moved;		 /* it is there */
	unsigned places;	 /* others that it can be connected to, 0: all */
	unsigned sent;		 /* frames that have left it, since the test began */

	/* The state machine: what was applied, as a chain of hashes. */
	uint64_t hash;
	uint64_t n_applied;
	uint64_t last_applied; /* index */
	uint64_t last_ticket;
	uint64_t n_dropped;
	uint64_t n_readable;
	struct {
		uint8_t bytes[NODE_STATE_SIZE];
		size_t at;
		bool used;
		uint64_t index;
	} snapshot, restore;
	bool spoils;	   /* what it writes into snapshots is no state: as if a bit of its memory had flipped */
	int restore_error; /* with which it loads no snapshot at all; 0: it does */
	unsigned n_restored;
	unsigned n_loads; /* begun */

	/* Frames on their way to it; the one in use; the one being filled. */
	struct frame *inbox;
	struct frame *current;
	struct frame *outgoing;
};

struct replica_cluster {
	unsigned n;
	uint64_t now_us;
	uint64_t next_ticket;
	uint64_t starts;   /* gives every directory another incarnation */
	size_t filling;	   /* zeros behind the state in a snapshot */
	bool turn_by_turn; /* a member has one turn in a millisecond, whatever is left to do */
	struct replica_options options;
	struct node nodes[NODES_MAX];
};

/* n members with blank disks; the options can still be changed before cluster_start. */
struct replica_cluster *cluster_new(unsigned n);
struct replica_cluster *cluster_free(struct replica_cluster *cluster);
/* Starts member id; its result and message are in the node. */
int cluster_start(struct replica_cluster *cluster, unsigned id);
void cluster_start_all(struct replica_cluster *cluster);
/* Its process dies. */
void cluster_kill(struct replica_cluster *cluster, unsigned id);
void cluster_run_ms(struct replica_cluster *cluster, unsigned ms);
/* Runs until one leads and all others that are up follow it, at most some seconds. Returns its id; 0: none does. */
unsigned cluster_elect(struct replica_cluster *cluster);
unsigned cluster_leader(struct replica_cluster *cluster); /* 0: none, or two */
/* Proposes n commands of so many bytes at member id. Returns replica_propose's result. */
int cluster_propose(struct replica_cluster *cluster, unsigned id, unsigned n, uint32_t size);
/* The same, and runs until all that are up have applied them; fails the test when that takes seconds. */
void cluster_write(struct replica_cluster *cluster, unsigned id, unsigned n, uint32_t size);
/* As a frame that was on its way for long: it is the next that message.to receives after those that wait already. */
void cluster_arrives(struct replica_cluster *cluster, struct wire_message message);
struct replicator_status cluster_status(struct replica_cluster *cluster, unsigned id);
bool cluster_journal_has(struct replica_cluster *cluster, unsigned id, const char *text);
struct node *cluster_node(struct replica_cluster *cluster, unsigned id);

#endif
