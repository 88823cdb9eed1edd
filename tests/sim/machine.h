/*
 * A member's state machine, as the replicator knows it: cluster.c applies and answers, machine_snapshots.c writes and loads
 * snapshots.
 */
#ifndef RAFT_KV_SIM_MACHINE_H
#define RAFT_KV_SIM_MACHINE_H

#include "sim.h"

#include "kv/snapshot_stream.h"

struct machine {
	struct sim *sim;
	unsigned member;
	struct kv_store_loader *loader; /* while a snapshot is being loaded */
	uint64_t restored;		/* the entry that it is of, or the last one was */
};

void *sim_machine_snapshot_take(void *arg);
size_t sim_machine_snapshot_read(void *arg, void *snapshot, uint8_t *buf, size_t capacity);
void sim_machine_snapshot_free(void *arg, void *snapshot);
int sim_machine_restore_begin(void *arg, uint64_t index);
int sim_machine_restore_feed(void *arg, const uint8_t *buf, size_t len);
int sim_machine_restore_end(void *arg, bool success);

#endif
