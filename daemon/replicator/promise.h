/*
 * What a restart must not make a voter forget: for how long at most it may have promised to help nobody to become leader
 * (../raft/lease.c). A small file in the data directory, written before the first such promise; the log has nothing to do
 * with it. When the promises were given is not kept: the whole time is waited for after each start.
 *
 * What this must not know: Raft, when anything was promised.
 */
#ifndef RAFT_KV_PROMISE_H
#define RAFT_KV_PROMISE_H

#include "../storage/disk.h"

#include <stdint.h>

#define PROMISE_FILE "promise"

/* From now on promises of up to promise_us (0: none) are given. *ret_promised_us: the longest that may have been given before.
 * When it returns 0 the directory durably says the greater of both. -EBADMSG: the file is none of ours, or damaged; other
 * negative errno: it could not be read, or written. */
int promise_begin(struct disk *disk, uint64_t promise_us, uint64_t *ret_promised_us) __attribute__((warn_unused_result));

/* All promises longer than promise_us are over. 0, or a negative errno: then the directory says more than is true, which only
 * makes the next start wait longer. */
int promise_end(struct disk *disk, uint64_t promise_us);

#endif
