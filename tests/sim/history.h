/*
 * What the clients of a run asked and were told, checked for linearizability by tests/linearizability while the run goes on:
 * finished operations are forgotten as soon as they are checked, so a run of any length needs little memory.
 *
 * Only clients call sim_history_invoke() and sim_history_return(). Stale reads do not belong here.
 */
#ifndef RAFT_KV_SIM_HISTORY_H
#define RAFT_KV_SIM_HISTORY_H

#include "tests/linearizability/linearizability.h"

#include <stdint.h>

struct sim;
struct sim_history;

/*
 * The client's request begins now. value: what a put or cas writes (0 otherwise); expected: the revision that a cas wants, 0
 * when the key must not exist (0 otherwise). A request that is sent again is still the same operation. Returns its id.
 */
uint64_t sim_history_invoke(struct sim *sim, unsigned client, enum lin_kind operation, unsigned key, uint64_t value,
			    uint64_t expected);

/*
 * The request ends now. value: what a get read. revision: of the write, of what was read, or what a cas found instead (0: no
 * such key); LIN_REVISION_NONE when the client was not told. A write that a client gives up ends when the log
 * has decided it (client_fate.c); a read that was not answered, with LIN_FAILED. The run fails at once when what
 * is known by then is not linearizable.
 */
void sim_history_return(struct sim *sim, uint64_t id, enum lin_outcome outcome, uint64_t value, uint64_t revision);

/* The end of a run: whatever is open is of unknown fate. Fails the run when its history is not linearizable. */
void sim_history_check(struct sim *sim);
/* Also when nothing was ever invoked, and after a run that failed. Closes the file. */
void sim_history_free(struct sim *sim);

/* Every event of the runs of this process goes to the file as well, in the format of tests/linearizability/README.md. Call it
 * before a run; the path must live on. */
void sim_history_write_to(const char *path);

#endif
