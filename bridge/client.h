/*
 * The clients' connections: bytes in, requests to the session, answers out in the order of the requests.
 *
 * A connection that waits costs some hundred bytes: buffers exist only while something is in them. Nothing that one
 * connection does makes another wait, but for the room that all share in the session. What this must not know: members,
 * leaders, sequence numbers.
 */
#ifndef RAFT_KV_BRIDGE_CLIENT_H
#define RAFT_KV_BRIDGE_CLIENT_H

#include "bridge/request.h"
#include "bridge/session.h"

#include <stdbool.h>
#include <stdint.h>

struct event_base;
struct clients;

struct clients_options {
	struct event_base *base;
	struct pool *pool;
	struct session *session;
	int listen_fd; /* non-blocking; not closed by clients_free */
	uint32_t connections_max;
};

int clients_new(const struct clients_options *options, struct clients **ret_clients)
	__attribute__((warn_unused_result));
struct clients *clients_free(struct clients *clients); /* closes all; NULL is fine; returns NULL */
uint32_t clients_count(const struct clients *clients);
struct clients_stats {
	uint64_t connections, connections_max;
	uint64_t accepted;			 /* since the start */
	uint64_t input_bytes, input_bytes_max;	 /* unfinished long lines */
	uint64_t output_bytes, output_bytes_max; /* answers that were not read yet */
};
struct clients_stats clients_get_stats(const struct clients *clients);

/* For session_options; arg is a pointer to the struct clients pointer, since the session is made first. */
bool clients_answered(void *arg, struct request *request, const uint8_t *data, uint32_t size);

/* Connections that had to wait go on. Before the session's turn ends. */
void clients_resume(struct clients *clients, uint64_t now_ms);
/* Writes what has piled up for each connection, and closes those that are through. At the end of a turn. */
void clients_flush(struct clients *clients);
/* True when clients_resume or clients_flush has something to do at once. */
bool clients_pending(const struct clients *clients);

/* No more connections, and nothing more can be sent on those that there are; what was sent is served, and each connection
 * closed when its answers are out. */
void clients_stop(struct clients *clients);

#endif
