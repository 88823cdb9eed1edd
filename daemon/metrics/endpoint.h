/*
 * Serves /metrics, /healthz and /readyz over HTTP, with libevent's evhttp, on a Unix socket or one address.
 *
 * Nobody's loop may suffer from it. Connections are few and each lives a few seconds at most, whatever its client does;
 * headers are small, bodies refused, and only GET is answered; a connection answers one request. What is rendered is
 * bounded, and rendered again only after METRICS_CACHE_MS: a flood of requests costs copies, not renderings.
 * Nothing runs and nothing is allocated while nobody asks.
 *
 * Its events run at the priority of the owner's work, not below it: libevent serves a lower priority only in turns with
 * nothing else to do, so that the metrics of a busy process would be silent just when they are wanted.
 *
 * What this must not know: what is measured, Raft, configuration files.
 */
#ifndef RAFT_KV_METRICS_ENDPOINT_H
#define RAFT_KV_METRICS_ENDPOINT_H

#include "daemon/metrics/text.h"

#include <event2/event.h>

#define METRICS_CONNECTIONS_MAX 8u   /* at the same time; more wait to be accepted */
#define METRICS_CONNECTION_SECONDS 3 /* from being accepted to being closed */
#define METRICS_HEADERS_MAX 4096
#define METRICS_TEXT_MAX (256u * 1024u) /* of one answer */
#define METRICS_CACHE_MS 100u
#define METRICS_MESSAGE_MAX 256u

struct metrics_endpoint_options {
	struct event_base *base;
	const char *path; /* of a Unix socket, or empty */
	unsigned mode;	  /* of that socket */
	const char *host; /* numeric; used without path */
	uint16_t port;
	int priority; /* of its events */
	void (*render)(void *arg, struct metrics_text *text);
	/* ready: asked for /readyz, not /healthz. Writes a line for each check. False: one has failed. */
	bool (*check)(void *arg, bool ready, struct metrics_text *text);
	void *arg;
};

struct metrics_endpoint;

/* A stale socket at the path is replaced. message: METRICS_MESSAGE_MAX bytes; on failure what is wrong. 0 or negative errno. */
int metrics_endpoint_open(const struct metrics_endpoint_options *options, struct metrics_endpoint **ret, char *message)
	__attribute__((warn_unused_result));

/* Closes all connections, removes the socket. NULL is fine. Returns NULL. */
struct metrics_endpoint *metrics_endpoint_free(struct metrics_endpoint *endpoint);

struct metrics_endpoint_stats {
	unsigned connections;	/* now */
	uint64_t requests;	/* answered, whatever the answer */
	uint64_t cut;		/* connections that were closed because they lasted too long */
	uint64_t render_us_max; /* longest rendering */
};
void metrics_endpoint_get_stats(const struct metrics_endpoint *endpoint, struct metrics_endpoint_stats *ret_stats);

#endif
