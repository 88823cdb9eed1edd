/*
 * Reading raft.conf again while the bridge runs. What this must not know: clients, members.
 */
#ifndef RAFT_KV_BRIDGE_RELOAD_H
#define RAFT_KV_BRIDGE_RELOAD_H

#include "daemon/config/config.h"

/* Takes over what a running bridge can, which is the log level, names every other key of its that differs, and tells the
 * service manager. With mistakes in the file *config stays as it is. */
void bridge_reload(const char *path, struct config *config);

#endif
