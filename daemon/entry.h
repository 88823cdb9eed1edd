/*
 * One entry of the replicated log: the only word that raft, storage, transport and the replicator share.
 *
 * The layout on disk and on the wire is the business of daemon/storage and daemon/transport; each
 * describes its own in its README.md.
 */
#ifndef RAFT_KV_ENTRY_H
#define RAFT_KV_ENTRY_H

#include <stdint.h>

/* Bytes of one entry's data: a kv command holds a key (1 KiB), a value (1 MiB) and its own header. */
#define RAFT_ENTRY_SIZE_MAX (1024u * 1024u + 4096u)

/* Members of one cluster, learners included.  Larger Raft clusters only get slower. */
#define RAFT_MEMBERS_MAX 15u

enum raft_entry_type {
	RAFT_ENTRY_NOOP = 1,	/* opens a leader's term (Raft paper, section 8); no data */
	RAFT_ENTRY_COMMAND = 2, /* data belongs to the state machine */
	RAFT_ENTRY_CONFIG = 3,	/* data is a membership; reserved for membership changes */
};

struct raft_entry {
	uint64_t term;	     /* the term of the leader that created the entry; never 0 */
	uint64_t time_ms;    /* the leader's wall clock when it created the entry: milliseconds since 1970 */
	uint8_t type;	     /* enum raft_entry_type */
	uint32_t size;	     /* bytes in data, at most RAFT_ENTRY_SIZE_MAX */
	const uint8_t *data; /* not owned; valid as long as the function that hands the entry out says */
};

#endif
