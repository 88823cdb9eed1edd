/*
 * What the parts of raftctl share: the options of one run, the exit codes, the commands.
 *
 * raftctl.c reads the command line against a table; raftctl_link.c speaks to the members; raftctl_call.c asks one of
 * them, or whoever leads, until a deadline; one file a command does the rest. None of it knows the loop, the bridge or
 * libevent: raftctl asks, prints and ends.
 */
#ifndef RAFTCTL_H
#define RAFTCTL_H

#include "daemon/config/config.h"
#include "kv/admin.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Documented in the manual page and by `raftctl help`. */
enum ctl_exit {
	CTL_OK = 0,
	CTL_NEGATIVE = 1,    /* not found; status, verify: no leader, or copies that differ; health: not well; check:
			      * damage; restart: the cluster is not well */
	CTL_USAGE = 2,	     /* the command line or the configuration is wrong */
	CTL_UNREACHABLE = 3, /* no member that was asked can be reached */
	CTL_FAILED = 4,	     /* refused by a member, or an error on this host */
	CTL_TIMEOUT = 5,     /* no answer in time; of a write: it may or may not take effect */
};

struct ctl_options {
	const char *config_path;
	uint32_t timeout_ms;
	bool timeout_given;
	uint64_t id;	  /* 0: not given */
	const char *data; /* NULL: not given */
	const char *name; /* NULL: not given */
	uint64_t from;	  /* 0: not given */
	uint64_t to;	  /* 0: not given */
	bool json;
	bool revisions;
	bool stale;
	bool values;
	bool learner;
	bool force;
	bool yes;
	bool rolling;
	bool bridge;
	bool dry_run;
	uint64_t count; /* 0: not given */
	bool live;
	bool ready;
};

struct ctl {
	struct ctl_options options;
	struct config config;		 /* its members are the cluster's, if one could be asked */
	struct kv_membership membership; /* count 0: nobody could be asked */
	int n_arguments;		 /* those after the command and its options */
	char **arguments;
};

/* One line on stderr, after the program's name. Returns code, so that a caller can say and return in one. */
int ctl_fail(enum ctl_exit code, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The commands. Each prints its result on stdout, what went wrong on stderr, and returns an exit code. */
int ctl_status(struct ctl *ctl);
int ctl_health(struct ctl *ctl);
int ctl_watch(struct ctl *ctl);
int ctl_get(struct ctl *ctl);
int ctl_put(struct ctl *ctl);
int ctl_delete(struct ctl *ctl);
int ctl_transfer(struct ctl *ctl);
int ctl_dump(struct ctl *ctl);
int ctl_log(struct ctl *ctl);
int ctl_member(struct ctl *ctl);
int ctl_bootstrap(struct ctl *ctl);
int ctl_snapshot(struct ctl *ctl);
int ctl_reload(struct ctl *ctl);
int ctl_backup(struct ctl *ctl);
int ctl_restore(struct ctl *ctl);
int ctl_verify(struct ctl *ctl);
int ctl_check(struct ctl *ctl);
int ctl_recover(struct ctl *ctl);
int ctl_restart(struct ctl *ctl);
int ctl_init(struct ctl *ctl);

/* Asks the members of the file for those of the cluster, and makes these the configuration's. */
void ctl_discover(struct ctl *ctl);

#endif
