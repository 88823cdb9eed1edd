/*
 * One member at work: the event loop and what hangs on it. main.c makes and runs it; requests.c answers clients and is
 * the state machine's side of the replicator; pages.c fills the long answers (status, dump, log).
 */
#ifndef RAFT_KV_SERVER_H
#define RAFT_KV_SERVER_H

#include "clients.h"
#include "daemon/config/config.h"
#include "daemon/replicator/pending.h"
#include "daemon/replicator/replicator.h"
#include "kv/store.h"

#include <event2/event.h>

/* Bounds of one turn of the loop, so that timers and peers are looked at in between. */
#define SERVER_FRAMES_MAX 64u
/* Requests that wait for a commit or a read round; beyond, clients are told KV_ANSWER_BUSY. */
#define SERVER_WAITING_MAX 1000000u

/* A proposal that waits: the k-th in the queue has ticket first_proposal_ticket + k. */
struct server_proposal {
	struct client *client;
	uint64_t id;
};

/* The reads of one frame, which share one read round. */
struct server_read_batch {
	uint64_t ticket;
	struct client *client;
	uint32_t n;
	uint8_t *items; /* owned: n times {id u64, key size u64, key} */
};

struct server {
	const struct config *config;
	const struct config_member *member;
	struct event_base *base;
	struct event *replicator_event;
	struct event *clients_event;
	struct event *terminate_event;
	struct event *interrupt_event;
	struct event *watchdog_event;
	struct event *stop_event; /* bounds the hand-over at a stop */

	struct zmq_context *zmq;
	struct zmq_socket *socket;
	struct clients clients;
	struct replicator *replicator;
	struct replicator_status status; /* refreshed once a turn */
	struct kv_store *store;

	struct pending_queue proposals;	   /* struct server_proposal */
	uint64_t first_proposal_ticket;	   /* of the front; next one: this + count */
	struct pending_queue read_batches; /* struct server_read_batch */
	uint64_t next_read_ticket;
	uint64_t reads_waiting;

	/* Scratch for the commands of one frame. */
	struct replicator_command *commands;
	uint64_t *command_ids;
	uint32_t commands_capacity;

	uint64_t started_ms;
	uint64_t reads_answered;
	uint64_t bad_frames;
	bool stopping;
	int exit_code;
};

/* requests.c */
extern const struct replicator_machine server_machine;
void server_take_frame(struct server *server, const struct zmq_identity *from, const uint8_t *frame, size_t len);
void server_requests_fini(struct server *server);

/* pages.c */
void server_answer_status(struct server *server, struct client *client, uint64_t id);
void server_answer_dump(struct server *server, struct client *client, const struct kv_frame_item *item);
void server_answer_log(struct server *server, struct client *client, const struct kv_frame_item *item);

#endif
