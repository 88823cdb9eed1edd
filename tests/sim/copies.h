/* Copies of a member's directory that come to harm: copies.c looks at what becomes of them, copies_harm.c does the harm. */
#ifndef RAFT_KV_SIM_COPIES_H
#define RAFT_KV_SIM_COPIES_H

#include "copy_disk.h"

#include "daemon/storage/storage.h"

#define ANYTHING (-1) /* it opens with all that it had, or is refused as damaged */

struct opened;

struct experiment {
	struct sim *sim;
	unsigned member;
	struct sim_random random;
	struct sim_random deaths; /* when it dies while it heals */
	struct copy copy;
	struct storage_options options;
	const struct opened *whole; /* what it was before */
	const char *what;	    /* was done to it */
	bool may_give_up;
	bool begins; /* there is nothing in it */

	int expected;	  /* of opening it */
	bool is_damaged;  /* the check must find that */
	bool is_nonsense; /* whatever comes of it */
	bool may_die;	  /* while it heals: bytes of its own are gone or elsewhere, and none are made up */
};

/* False: there is nothing to do that to. */
bool sim_copy_harm(struct experiment *experiment);

/* The same; each does one thing that chance hardly ever does. */
bool sim_copy_misplace(struct experiment *experiment);
bool sim_copy_lose_newest_header(struct experiment *experiment);
bool sim_copy_leave_rotten_snapshot(struct experiment *experiment);
bool sim_copy_end_before_rotten_snapshot(struct experiment *experiment);
bool sim_copy_leave_snapshots(struct experiment *experiment);

#endif
