/*
 * What the bridge measures about itself, for Prometheus, and whether it is ready, where [bridge] metrics_listen says. What this
 * must not know: HTTP, requests.
 */
#ifndef RAFT_KV_BRIDGE_MONITOR_H
#define RAFT_KV_BRIDGE_MONITOR_H

#include "bridge/client.h"
#include "bridge/members.h"
#include "bridge/pool.h"
#include "bridge/session.h"

struct event_base;
struct monitor;

/* Not owned; they outlive the monitor. */
struct monitor_sources {
	struct event_base *base;
	const struct config *config;
	const struct clients *clients;
	const struct session *session;
	const struct members *members;
	const struct pool *pool;
};

/* 0 and *ret_monitor, which is NULL when nothing is to be served; or negative errno, and the journal says why. */
int monitor_new(const struct monitor_sources *sources, struct monitor **ret_monitor)
	__attribute__((warn_unused_result));
struct monitor *monitor_free(struct monitor *monitor); /* NULL is fine; returns NULL */

/* Around each turn of the loop; they do nothing without a monitor. */
uint64_t monitor_begin_turn(const struct monitor *monitor);
void monitor_end_turn(struct monitor *monitor, uint64_t begin);
/* It stops, and is not ready any more. */
void monitor_note_stopping(struct monitor *monitor);

#endif
