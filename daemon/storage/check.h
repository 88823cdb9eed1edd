/*
 * Verifying a whole data directory without changing it: what `raftctl check` shows.
 *
 * Opening stops at the first thing that is wrong; this goes on and reports everything.
 */
#ifndef RAFT_KV_STORAGE_CHECK_H
#define RAFT_KV_STORAGE_CHECK_H

#include "storage.h"

enum storage_finding {
	STORAGE_FINDING_NOTE,	/* left behind by a crash or a transfer under way: the next start deals with it */
	STORAGE_FINDING_DAMAGE, /* bytes are not what was written */
};

struct storage_check {
	void (*report)(void *arg, enum storage_finding finding, const char *file, uint64_t offset, const char *what);
	void *arg;

	/* Set by the check. */
	uint64_t segments;
	uint64_t records;
	uint64_t entries;   /* the next start finds them if it can read all this: base_index + 1 … last_index */
	uint64_t snapshots; /* good ones */
	uint64_t bytes;	    /* read and verified */
	uint64_t damages;
	uint64_t base_index;
	uint64_t last_index;
};

/* Reads everything in the disk's directory. Returns 0 when nothing is damaged, STORAGE_E_CORRUPT when something is, or
 * negative errno when it could not be read. */
int storage_check(struct disk *disk, struct storage_check *check) __attribute__((warn_unused_result));

#endif
