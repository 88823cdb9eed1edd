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

/* Feature levels. Everything that an older program could misread has the level from which on it is understood. A cluster is
 * at one level, kept in its configuration: that of its oldest member, raised when all have said that they know more.
 * daemon/README.md has what each level brought. A build may say that it knows more than it does, for tests of upgrades. */
#define RAFT_LEVEL_MIN 1u /* raft-kv 0.1 */
#ifndef RAFT_LEVEL_MAX
#define RAFT_LEVEL_MAX 2u /* raft-kv 0.2: the level itself */
#endif
#define RAFT_LEVEL_LIMIT 255u /* it is one byte of a configuration */

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
