/*
 * What client.c (connections), client_input.c (bytes to requests) and client_output.c (answers to bytes) share. Nobody
 * else includes this.
 */
#ifndef RAFT_KV_BRIDGE_CLIENT_INTERNAL_H
#define RAFT_KV_BRIDGE_CLIENT_INTERNAL_H

#include "bridge/client.h"

#include <event2/event.h>
#include <event2/event_struct.h>
#include <sys/queue.h>

#define CLIENT_REQUESTS_MAX 1024u	  /* unanswered, of one connection */
#define CLIENT_OUTPUT_MAX (1024u * 1024u) /* unread answers of one connection; one more of any size may follow */
#define CLIENT_ANSWERS_EXPECTED (2u * 1024u * 1024u) /* requests unanswered times the size of recent answers */
#define CLIENT_REQUESTS_MIN 4u			     /* allowed whatever size is expected */
#define SHARED_SIZE (64u * 1024u)		     /* of the buffer that connections without a rest read into */
#define SHARED_REST_MAX (16u * 1024u)		     /* a rest up to this size is copied there first */
#define INPUT_BYTES_MAX (256u * 1024u * 1024u)	     /* of all connections' unfinished long lines */
#define OUTPUT_BYTES_MAX (512u * 1024u * 1024u) /* of all connections' unread answers: beyond, each may have little */
#define CLIENT_OUTPUT_MIN (64u * 1024u)

struct buffer {
	uint8_t *bytes; /* from the pool; NULL when empty */
	size_t at;	/* of the first byte that is not consumed */
	size_t len;	/* from there */
	size_t capacity;
};

enum order_group { GROUP_WRITES, GROUP_READS, GROUP_STATUS, GROUP_LOCAL, N_GROUPS };

enum client_list { LIST_NONE, LIST_READY, LIST_STARVED };

struct client {
	TAILQ_ENTRY(client) all;
	TAILQ_ENTRY(client) waiting; /* in clients.ready or .starved, as `list` says */
	TAILQ_ENTRY(client) dirty;   /* if is_dirty */
	struct clients *clients;
	struct event event;
	int fd;
	short watched; /* EV_READ, EV_WRITE */
	uint8_t list;
	bool is_dirty;
	bool eof;      /* nothing more is read */
	bool quitting; /* nothing more is served */
	bool skipping; /* a line that is too long, up to its end */
	bool dead;     /* to be freed at the end of the turn */

	struct request *head; /* unanswered, or answered and waiting for their turn */
	struct request *tail;
	struct request *held; /* made, but must wait for those of the other kind before it */
	uint32_t n_requests;
	uint32_t unanswered[N_GROUPS];
	uint32_t n_parked;
	uint32_t estimate;  /* bytes of an answer, as large ones of late */
	size_t stash_bytes; /* of answers that wait for their turn */

	struct buffer in;
	size_t in_scanned; /* bytes of it without a newline */
	struct buffer out;
};
TAILQ_HEAD(client_queue, client);

struct clients {
	struct clients_options options;
	struct event listener;
	struct event accept_again;
	struct client_queue all;
	struct client_queue ready;
	struct client_queue starved;
	struct client_queue dirty;
	uint32_t n;
	uint64_t accepted;
	bool stopping;
	size_t input_bytes;
	size_t output_bytes;
	uint8_t *shared; /* SHARED_SIZE */
};

/* client.c */
void client_mark_ready(struct client *client);
void client_mark_dirty(struct client *client);
void client_watch(struct client *client, short what);
/* Its connection is broken, or memory for its answers is short. Freed at the end of the turn. */
void client_kill(struct client *client);
bool client_is_finished(const struct client *client);

/* client_input.c */
bool client_is_blocked(const struct client *client);
void client_readable(struct client *client);
/* Goes on with what waits: the held request, parked reads, buffered lines. */
void client_continue(struct client *client, uint64_t now_ms);

/* client_output.c */
void client_append(struct client *client, struct request *request);
/* Answered by the bridge itself, in its turn. */
void client_answer_text(struct client *client, const char *text);
void client_answer_problem(struct client *client, enum line_error error, const char *text);
size_t client_output_max(const struct client *client);
/* Writes as much as the socket takes. */
void client_write(struct client *client);
void buffer_release(struct pool *pool, struct buffer *buffer);
/* Makes room for size more bytes behind the content. False: no memory. */
bool buffer_reserve(struct pool *pool, struct buffer *buffer, size_t size);

static inline enum order_group request_group(const struct request *request)
{
	switch ((enum request_kind)request->kind) {
	case REQUEST_WRITE:
		return GROUP_WRITES;
	case REQUEST_READ:
	case REQUEST_STALE:
		return GROUP_READS;
	case REQUEST_STATUS:
		return GROUP_STATUS;
	case REQUEST_LOCAL:
		break;
	}
	return GROUP_LOCAL;
}

#endif
