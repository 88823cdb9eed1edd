/*
 * The inside of a replica, shared by replica.c (life, loop, status), update.c (carrying out what the core decides) and
 * message.c (core messages to wire messages and back). Nobody else includes it.
 */
#ifndef RAFT_KV_REPLICA_INTERNAL_H
#define RAFT_KV_REPLICA_INTERNAL_H

#include "../transport/wire.h"
#include "pending.h"
#include "replica.h"

/* Entries taken from the log to be applied in one go: bounds the time between two looks at the network. */
#define REPLICA_APPLY_ENTRIES_MAX 1024u
#define REPLICA_APPLY_BYTES_MAX (2u * 1024u * 1024u)
#define REPLICA_APPLY_ROUNDS_MAX 8u
#define REPLICA_FRAMES_MAX 256u /* received in one call of replica_process */

struct replica {
	struct replica_options options;
	struct raft *core;
	struct storage *storage;
	struct transport *transport;
	const struct replicator_machine *machine;
	void *machine_arg;

	uint64_t incarnation;
	uint64_t commit;
	uint64_t applied;
	uint64_t durable_seq; /* last one told to the core */
	uint64_t core_deadline_us;
	uint64_t last_time_ms; /* stamped into entries; never goes back */
	uint64_t next_read_id;
	bool stall_reported;
	bool work_left; /* frames or entries were left over by the last call */
	int failed;	/* the disk's final error; nothing is done any more */
	int unreadable; /* an entry of the log could not be read back: this member must not lead on, and stops */

	struct pending_queue runs;  /* struct pending_run */
	struct pending_queue reads; /* struct pending_read, read ids consecutive */

	struct raft_entry *entries; /* scratch: WIRE_ENTRIES_MAX */
	uint32_t *sizes;	    /* scratch of as many */

	uint64_t peer_incarnations[RAFT_MEMBERS_MAX]; /* as last heard, in the order of the configuration; 0: never */
	uint64_t elections;
	uint64_t proposals;
	uint64_t bad_frames;
};

/* update.c: one step of the core and everything that follows from it. entries: those that the event appends, NULL if none.
 * Returns the core's result, or a negative errno, which is kept in replica->failed when it came from the disk. */
int replica_step(struct replica *replica, const struct raft_event *event, const struct raft_entry *entries,
		 uint64_t wall_ms) __attribute__((warn_unused_result));

/* message.c */
void replica_send(struct replica *replica, const struct raft_message *message);
void replica_send_hello(struct replica *replica, uint64_t peer);
/* Decodes a frame into *ret_message; its entries are replica->entries. False: it was counted as bad, or is not for the core. */
bool replica_decode(struct replica *replica, const uint8_t *frame, size_t len, struct raft_message *ret_message);

void replica_log(const struct replica *replica, int level, const char *event, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

#endif
