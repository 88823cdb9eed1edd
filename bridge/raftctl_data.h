/*
 * Data directories of members that do not run: whose they are, opening them, and making a new one that holds a state.
 *
 * What this must not know: where the state comes from.
 */
#ifndef RAFTCTL_DATA_H
#define RAFTCTL_DATA_H

#include "daemon/storage/storage.h"
#include "kv/store.h"
#include "raftctl.h"

/* Whose directory --data is: --id, or the member whose `data` leads to the same place. 0: nobody's, and it was said. */
uint64_t ctl_data_owner(const struct ctl *ctl);

/* Says so, and returns true, when a running member has the directory. */
bool ctl_data_is_in_use(const char *directory);

/* Opens the directory of a stopped member for reading. Says what is wrong. CTL_OK: *ret_storage is to be freed. */
int ctl_data_open(const struct ctl *ctl, const char *directory, uint64_t id, struct storage **ret_storage,
		  struct storage_state *ret_state) __attribute__((warn_unused_result));

/* raftctl_neighbours.c: CTL_OK, unless another member of the configuration file runs and has a history; --force: without a
 * look. */
int ctl_data_check_neighbours(const struct ctl *ctl, uint64_t id) __attribute__((warn_unused_result));

struct ctl_new_data {
	uint64_t id;
	uint64_t index;	     /* of the last entry in the state; never 0 */
	uint64_t entry_term; /* of that entry */
	uint64_t term;	     /* that the member knows of; its next one is higher */
	uint64_t time_ms;    /* not before that of any entry */
	unsigned level;	     /* feature level of the state; 0: of any */
	bool others_join; /* the other members of the configuration file join with blank directories; false: it is alone */
};

/* Makes the empty directory one whose member, the only voter, goes on from this state, under a new incarnation. Says what
 * is wrong. */
int ctl_data_create(const struct ctl *ctl, const char *directory, const struct ctl_new_data *data,
		    struct kv_store *store) __attribute__((warn_unused_result));

/* Makes names in the directory durable. 0 or negative errno. */
int ctl_sync_directory(const char *directory) __attribute__((warn_unused_result));

#endif
